"""A directory in memory at the edge of the LDAP client: entries, filters, pages, binds, dead servers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imds_proxy.directory.connection import BindRefused, Entry, Page, SizeLimitExceeded, Unreachable
from imds_proxy.directory.servers import DeadServers, Means
from imds_proxy.directory.settings import DirectorySettings
from tests.standins.clocks import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from imds_proxy.directory.connection import Patience
    from imds_proxy.directory.server import Server

PEOPLE = "ou=people,dc=valid,dc=example"
GROUPS = "ou=groups,dc=valid,dc=example"

IN_CHAIN = "1.2.840.113556.1.4.1941"
BIT_AND = "1.2.840.113556.1.4.803"

Attributes = dict[str, list[str]]

_ITEM = re.compile(r"\(([A-Za-z0-9-]+)(?::([0-9.]+):)?=([^()]*)\)")
_ESCAPE = re.compile(r"\\([0-9a-f]{2})")


def settings(*servers: str, **more: object) -> DirectorySettings:
    """Return the settings of the directory, asked at `servers`; `more` replaces and adds."""
    base = {
        "servers": servers or ("ldaps://one.valid.example",),
        "user_base": PEOPLE,
        "group_base": GROUPS,
        "group_filter": "(objectClass=groupOfNames)",
    }
    return DirectorySettings.model_validate(base | more)


def person_dn(uid: str) -> str:
    """Return the DN of somebody whom `add_person` adds."""
    return f"cn={uid},{PEOPLE}"


def group_dn(cn: str) -> str:
    """Return the DN of a group that `add_group` adds."""
    return f"cn={cn},{GROUPS}"


@dataclass
class Directory:
    """What all its servers know, and how they are."""

    entries: dict[str, Attributes] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    down: dict[str, str] = field(default_factory=dict)
    """By URI: `closed` (refuses), `silent` (accepts and never answers), `slow` (a second for an answer)."""
    size_limit: int | None = None
    """Entries that a server gives in all."""
    has_paging: bool = True
    hand_clock: HandClock = field(default_factory=HandClock)
    dials: list[str] = field(default_factory=list)
    """The URIs of all connections that were opened or tried."""
    binds: list[tuple[str, str]] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    page_sizes: list[int] = field(default_factory=list)
    """How many entries each page had."""
    open_connections: int = 0
    dead: DeadServers = field(default_factory=DeadServers)

    def means(self) -> Means:
        """Return what a question is asked with to reach this directory."""
        return Means(dial=self.dial, clock=self.hand_clock.clock(), dead=self.dead)

    def add_person(self, uid: str, password: str | None = None, /, **more: Sequence[str]) -> str:
        """Add somebody and return the DN."""
        dn = person_dn(uid)
        self.entries[dn] = {"objectclass": ["inetOrgPerson"], "uid": [uid]}
        self.entries[dn] |= {name.lower(): list(values) for name, values in more.items()}
        if password is not None:
            self.passwords[dn] = password
        return dn

    def add_group(self, cn: str, members: Sequence[str], /, **more: Sequence[str]) -> str:
        """Add a group of DNs and return its own DN."""
        dn = group_dn(cn)
        self.entries[dn] = {"objectclass": ["groupOfNames"], "cn": [cn], "member": list(members)}
        self.entries[dn] |= {name.lower(): list(values) for name, values in more.items()}
        return dn

    def dial(self, server: Server, _settings: DirectorySettings, patience: Patience) -> _Connection:
        """Open a connection, as far as the server is up."""
        self.dials.append(server.uri)
        state = self.down.get(server.uri, "up")
        if state == "closed":
            raise Unreachable("Connection refused")
        self.open_connections += 1
        return _Connection(self, state, patience)


class _Connection:
    def __init__(self, directory: Directory, state: str, patience: Patience) -> None:
        self._directory = directory
        self._state = state
        self._patience = patience

    def bind(self, dn: str, password: str) -> None:
        assert dn
        assert password
        self._wait()
        self._directory.binds.append((dn, password))
        if self._directory.passwords.get(dn) != password:
            raise BindRefused("Invalid credentials")

    def search(self, base: str, filter_: str, attribute: str, *, most: int) -> tuple[Entry, ...]:
        found = self._find(base, filter_, attribute)
        if len(found) > most:
            raise SizeLimitExceeded("Size limit exceeded")
        return tuple(found)

    def search_page(self, base: str, filter_: str, attribute: str, *, size: int, cookie: bytes) -> Page:
        directory = self._directory
        found = self._find(base, filter_, attribute)
        start = int(cookie or b"0")
        end = start + size if directory.has_paging else len(found)
        if directory.size_limit is not None and min(end, len(found)) > directory.size_limit:
            raise SizeLimitExceeded("Size limit exceeded")
        page = tuple(found[start:end])
        directory.page_sizes.append(len(page))
        return Page(page, str(end).encode() if end < len(found) else b"")

    def close(self) -> None:
        self._directory.open_connections -= 1

    def _find(self, base: str, filter_: str, attribute: str) -> list[Entry]:
        self._wait()
        directory = self._directory
        directory.filters.append(filter_)
        matches = _Filter(filter_, directory.entries).parse()
        return [
            Entry(dn, {attribute.lower(): _encode(values.get(attribute.lower(), ()))})
            for dn, values in directory.entries.items()
            if dn.endswith(base) and matches(dn, values)
        ]

    def _wait(self) -> None:
        if self._state == "silent":
            self._directory.hand_clock.advance(self._patience.left())
            raise Unreachable("Timed out")
        if self._state == "slow":
            self._directory.hand_clock.advance(1)
        self._patience.left()
        self._patience.has_answered()


def _encode(values: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(value.encode("utf-8", "surrogateescape") for value in values)


class _Filter:
    """RFC 4515, as far as the client makes use of it. Whatever else is in a filter fails the test."""

    def __init__(self, text: str, entries: Mapping[str, Attributes]) -> None:
        self._text = text
        self._at = 0
        self._entries = entries

    def parse(self) -> Callable[[str, Attributes], bool]:
        matches = self._filter()
        assert self._at == len(self._text), f"more than a filter: {self._text}"
        return matches

    def _filter(self) -> Callable[[str, Attributes], bool]:
        operator = self._text[self._at + 1 : self._at + 2]
        if operator not in {"&", "|", "!"}:
            return self._item()
        self._at += 2
        parts = []
        while self._text[self._at] == "(":
            parts.append(self._filter())
        assert self._text[self._at] == ")", self._text
        self._at += 1
        if operator == "!":
            (part,) = parts
            return lambda dn, values: not part(dn, values)
        combine = all if operator == "&" else any
        return lambda dn, values: combine(part(dn, values) for part in parts)

    def _item(self) -> Callable[[str, Attributes], bool]:
        match = _ITEM.match(self._text, self._at)
        assert match is not None, f"no filter: {self._text[self._at :]}"
        self._at = match.end()
        attribute, rule = match[1].lower(), match[2]
        if rule is None and match[3] == "*":
            return lambda _, values: attribute in values
        assert "*" not in match[3], f"part of a value: {match[0]}"
        wanted = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), match[3]).casefold()
        if rule == IN_CHAIN:
            return lambda dn, _: self._is_in_chain(dn, attribute, wanted, set())
        if rule == BIT_AND:
            return lambda _, values: any(int(each) & int(wanted) for each in values.get(attribute, ()))
        assert rule is None, rule
        return lambda _, values: wanted in _folded(values.get(attribute, ()))

    def _is_in_chain(self, dn: str, attribute: str, wanted: str, seen: set[str]) -> bool:
        members = _folded(self._entries.get(dn, {}).get(attribute, ()))
        if wanted in members:
            return True
        seen.add(dn)
        below = [each for each in self._entries if each.casefold() in members and each not in seen]
        return any(self._is_in_chain(each, attribute, wanted, seen) for each in below)


def _folded(values: Sequence[str]) -> list[str]:
    return [value.casefold() for value in values]
