"""Texts that somebody else chose: how they are compared, and how they are shown."""

from __future__ import annotations

import unicodedata


def fold_login(user: str) -> str:
    """Return what is the same for all spellings of a login name that a directory may take for one name."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", user).casefold())
    return " ".join(text.split())


def visible(text: str) -> str:
    r"""Return a text of one line as it may be shown: `\u202e` and the like stand for what can't be seen."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def visible_lines(text: str) -> str:
    """Return a text of several lines as it may be shown, each as `visible` shows it."""
    return "\n".join(map(visible, text.split("\n")))
