"""Characters that no name of a person, an account or a role has."""

from __future__ import annotations

import unicodedata

# Controls, lone surrogates (aiohttp's way to hand on bytes that are no UTF-8), separators of lines.
_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def has_controls(text: str) -> bool:
    """Tell whether a text has characters that could end a line or mean something to a terminal."""
    return any(unicodedata.category(character) in _CATEGORIES for character in text)
