"""The samples in a provider's page of the manual: the settings shown, and what they are said to give.

A sample is a ```yaml block, perhaps with a ```python block (a site's own module) after it, and a
```text block whose lines read `WHO -> ROLE` or `WHO -> refused`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

PAGES = Path(__file__).parents[2] / "docs" / "providers"

REFUSED = "refused"

_BLOCK = re.compile(r"^```(yaml|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMISE = re.compile(r"(\S+) +-> (\S+)")


@dataclass(frozen=True)
class Sample:
    """One sample of a page."""

    page: str
    number: int
    settings: dict[str, object]
    """The whole YAML block; all scalars are text, as the program reads them."""
    module: str
    """The text of the site's own module, or nothing."""
    promises: tuple[tuple[str, str], ...]
    """(a host name or an address, the role or `refused`)."""

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"

    def providers(self) -> list[dict[str, object]]:
        """Return the settings of each provider in the sample."""
        if "provider" in self.settings:
            return [_mapping(self.settings["provider"])]
        return [_mapping(one) for one in _mapping(self.settings["providers"]).values()]

    def accounts(self) -> dict[str, object]:
        """Return what the sample has under accounts."""
        return _mapping(self.settings["accounts"])


def samples(page: str) -> list[Sample]:
    """Return the samples of docs/providers/PAGE.md in their order."""
    found: list[dict[str, str]] = []
    for kind, text in _BLOCK.findall((PAGES / f"{page}.md").read_text()):
        if kind == "yaml":
            found.append({})
        found[-1][kind] = text
    return [
        Sample(
            page=page,
            number=number,
            settings=_mapping(yaml.load(blocks["yaml"], Loader=yaml.BaseLoader)),
            module=blocks.get("python", ""),
            promises=_promises(blocks.get("text", "")),
        )
        for number, blocks in enumerate(found)
    ]


def _promises(text: str) -> tuple[tuple[str, str], ...]:
    found = []
    for line in text.splitlines():
        promise = _PROMISE.fullmatch(line.strip())
        assert promise is not None, f"not WHO -> ROLE: {line!r}"
        found.append((promise[1], promise[2]))
    return tuple(found)


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, dict), value
    return value
