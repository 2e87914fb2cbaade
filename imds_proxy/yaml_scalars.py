"""What a text without quotes means to YAML, for classes that were written for a loader with types.

As PyYAML reads YAML 1.1, without what surprises: numbers to base 8, 2 and 60 and dates stay text.
"""

from __future__ import annotations

import re

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)", re.ASCII)
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F_]*[0-9a-fA-F][0-9a-fA-F_]*", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?", re.ASCII)
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)", re.ASCII)
_NOT_A_NUMBER = frozenset({".nan", ".NaN", ".NAN"})
_SWITCHES = {
    text: value
    for value, words in ((True, ("yes", "true", "on")), (False, ("no", "false", "off")))
    for word in words
    for text in (word, word.capitalize(), word.upper())
}
_MOST_DIGITS = 4000
"""Python refuses to read longer numbers (sys.set_int_max_str_digits)."""


def read_scalar(text: str) -> str | int | float | bool:
    """Return the number or the truth value that `text` is, else `text` itself.

    `null` and nothing are not here: they are nothing whatever reads them.
    """
    if text in _SWITCHES:
        return _SWITCHES[text]
    if len(text) > _MOST_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _HEXADECIMAL.fullmatch(text):
        return int(text.replace("_", ""), 16)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if infinite := _INFINITE.fullmatch(text):
        return float(f"{infinite[1]}inf")
    return float("nan") if text in _NOT_A_NUMBER else text
