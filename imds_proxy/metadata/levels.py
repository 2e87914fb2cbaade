"""What the settings, and a grant's tags, say of one caller: levels, and which of them wins.

All callers, domains from the widest to the narrowest, the grant's tags, the host by its name, by its address:
what comes later replaces what came before, key by key; tags and public keys are put together.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from imds_proxy import naming
from imds_proxy.metadata.entries import rule_of
from imds_proxy.metadata.templates import literal
from imds_proxy.names import split_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imds_proxy.metadata.templates import Template
    from imds_proxy.model import IPAddress

_KNOWN_BY_ADDRESS = frozenset({"region", "address"})
"""Placeholders that can be filled in before anybody is asked who the caller is."""

DERIVED = ("instance_id", "reservation_id")
"""Keys that are made of the caller's name where no level has them."""


@dataclass(frozen=True, slots=True)
class Level:
    """What one level says; a key that it does not have is for another level to say."""

    texts: Mapping[str, Template] = field(default_factory=dict)
    security_groups: tuple[Template, ...] | None = None
    public_keys: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Template] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the values are about. None: not known, or there is none."""

    address: IPAddress
    name: str | None = None
    role: str | None = None
    account: str | None = None
    account_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    """What the provider knows."""


@dataclass(frozen=True, slots=True)
class Values:
    """What is said of one caller."""

    texts: Mapping[str, str]
    security_groups: tuple[str, ...]
    public_keys: Mapping[str, str]
    tags: Mapping[str, str]

    def get(self, key: str) -> str | None:
        """Return the value of a key, None where nothing is said."""
        return self.texts.get(key)


@dataclass(frozen=True, slots=True)
class Levels:
    """All that the settings say."""

    defaults: Level
    domains: Mapping[str, Level]
    """By domain, or `*.` and a domain."""
    hosts: Mapping[IPAddress | str, Level]

    @property
    def has_cards(self) -> bool:
        """Whether the network card of any host is known."""
        return any("mac" in level.texts for level in self.hosts.values())

    def values_of(self, subject: Subject) -> Values:
        """Return what is said of a caller. What needs something that is not known is left out."""
        before, after = self._levels_of(subject)
        levels = [*before, *after]
        texts = ChainMap(*(dict(level.texts) for level in reversed(levels)))
        known = _placeholders_of(subject)
        known["region"] = texts["region"].text
        _put_id(texts, known, subject)
        filled = {key: text for key, template in texts.items() if (text := _fill(key, template, known))}
        if "reservation_id" not in texts:
            filled["reservation_id"] = naming.reservation_id(subject.name or str(subject.address))
        filled |= {"instance_id": known["instance_id"]} if "instance_id" in known else {}
        groups = next(level.security_groups for level in reversed(levels) if level.security_groups)
        granted = {key: literal(value) for key, value in subject.tags}
        lines = (_fill("security_groups", template, known) for template in groups)
        return Values(
            texts=filled,
            security_groups=tuple(line for line in lines if line),
            public_keys={name: key for level in levels for name, key in level.public_keys.items()},
            tags=_tags([*(level.tags for level in before), granted, *(level.tags for level in after)], known),
        )

    def _levels_of(self, subject: Subject) -> tuple[list[Level], list[Level]]:
        """Return the levels before and after the grant's tags, the last one counts most."""
        before = [self.defaults]
        keys: tuple[IPAddress | str | None, ...] = (subject.name, subject.address)
        after = [self.hosts[key] for key in keys if key is not None and key in self.hosts]
        if subject.name is not None:
            before += [self.domains[key] for key in _domains_of(subject.name) if key in self.domains]
        return before, after

    def needs_name(self, key: str) -> bool:
        """Tell whether a key's value depends on more than the caller's address."""
        if key in DERIVED and key not in self.defaults.texts:
            return True
        of_names = [level for host, level in self.hosts.items() if isinstance(host, str)]
        if any(_says(level, key) for level in (*self.domains.values(), *of_names)):
            return True
        of_addresses = [level for host, level in self.hosts.items() if not isinstance(host, str)]
        used = {name for level in (self.defaults, *of_addresses) for name in _used_by(level, key)}
        return not used <= _KNOWN_BY_ADDRESS or ("region" in used and self.needs_name("region"))


class RememberedValues:
    """`Levels.values_of`, remembered for the subjects that were asked about last.

    Filling in templates would be a quarter of a request's work, and callers ask again and again.
    """

    def __init__(self, levels: Levels) -> None:
        self._values_of = lru_cache(maxsize=1024)(levels.values_of)

    def of(self, subject: Subject) -> Values:
        """Return what is said of a caller."""
        return self._values_of(subject)

    @property
    def size(self) -> int:
        """How many are remembered."""
        return self._values_of.cache_info().currsize


def _says(level: Level, key: str) -> bool:
    if key == "security_groups":
        return level.security_groups is not None
    return bool(level.public_keys) if key == "public_keys" else key in level.texts


def _used_by(level: Level, key: str) -> frozenset[str]:
    templates = level.security_groups or () if key == "security_groups" else ()
    if key in level.texts:
        templates = (level.texts[key],)
    return frozenset().union(*(template.placeholders for template in templates))


def _domains_of(name: str) -> list[str]:
    """Return the keys of all domains that a name is in, the widest first, as `allowed_domains` means them."""
    _, domain = split_host(name)
    labels = domain.split(".")
    above = [".".join(labels[start:]) for start in range(len(labels) - 1, 0, -1)]
    return [*(f"*.{suffix}" for suffix in above), domain]


def _placeholders_of(subject: Subject) -> dict[str, str]:
    host, domain = split_host(subject.name or "")
    known = {
        "name": subject.name,
        "host": host,
        "domain": domain,
        "address": str(subject.address),
        "role": subject.role,
        "account": subject.account,
        "account_id": subject.account_id,
    }
    return {name: value for name, value in known.items() if value}


def _put_id(texts: Mapping[str, Template], known: dict[str, str], subject: Subject) -> None:
    """Add the instance id to what is known: other values may have it in them."""
    template = texts.get("instance_id")
    if template is None:
        known["instance_id"] = naming.instance_id(subject.name or str(subject.address))
    elif (text := _fill("instance_id", template, known)) is not None:
        known["instance_id"] = text


def _fill(key: str, template: Template, known: Mapping[str, str]) -> str | None:
    """Return a value; None where it can't be filled in, or what came of it is not fit to be served."""
    is_fit, _ = rule_of(key)
    text = template.fill(known)
    return text if text is not None and is_fit(text) else None


def _tags(levels: list[Mapping[str, Template]], known: Mapping[str, str]) -> dict[str, str]:
    tags = {}
    for key, template in ChainMap(*(dict(level) for level in reversed(levels))).items():
        text = template.fill(known)
        if text is not None and naming.is_instance_tag_key(key) and naming.is_instance_tag_value(text):
            tags[key] = text
    return tags
