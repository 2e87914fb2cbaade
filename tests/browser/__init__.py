"""The page for people in a real browser: Debian's Chromium, driven over its DevTools protocol."""
