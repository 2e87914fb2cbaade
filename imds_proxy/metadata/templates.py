"""Values with placeholders: read once, filled in for each caller. What is put in is never looked at again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACEHOLDERS = (
    "name",
    "host",
    "domain",
    "address",
    "region",
    "role",
    "account",
    "account_id",
    "instance_id",
)
"""What may stand in braces: the confirmed name and its two parts, the address, and what was decided."""

_PART = re.compile(r"\{([^{}]*)\}|([{}])")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders, taken apart."""

    text: str
    """As it was written."""
    parts: tuple[tuple[str, str], ...]
    """Pairs of a literal and the placeholder behind it, "" where there is none."""

    @property
    def placeholders(self) -> frozenset[str]:
        """The placeholders in it."""
        return frozenset(name for _, name in self.parts if name)

    def fill(self, known: Mapping[str, str]) -> str | None:
        """Return the text with all placeholders filled in, None where one of them is not known.

        It is made in one pass, so braces in a value are text like any other.
        """
        filled: list[str] = []
        for literal, name in self.parts:
            filled.append(literal)
            if name:
                value = known.get(name)
                if value is None:
                    return None
                filled.append(value)
        return "".join(filled)

    def __str__(self) -> str:
        return self.text


def parse_template(text: str) -> Template:
    """Return the template that `text` is. Raises ValueError for an unknown placeholder or a stray brace."""
    parts: list[tuple[str, str]] = []
    end = 0
    for match in _PART.finditer(text):
        name, brace = match.groups()
        if brace:
            raise ValueError(f"a {brace} that belongs to no placeholder; braces can't be written otherwise")
        if name not in PLACEHOLDERS:
            listed = " ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise ValueError(f"unknown placeholder {match[0]!r}; known: {listed}")
        parts.append((text[end : match.start()], name))
        end = match.end()
    if end < len(text):
        parts.append((text[end:], ""))
    return Template(text, tuple(parts))


def literal(text: str) -> Template:
    """Return `text` as a template without placeholders, whatever is in it."""
    return Template(text, ((text, ""),) if text else ())
