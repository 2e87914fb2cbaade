"""What is asked of a connection to an LDAP server, and how it fails. `wire` has the real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imds_proxy.clock import Clock
    from imds_proxy.directory.server import Server
    from imds_proxy.directory.settings import DirectorySettings


class Unreachable(Exception):
    """This server is of no use now, another may be: nobody there, no answer in time, a wrong certificate."""


class BindRefused(Exception):
    """The server answered and does not let this name in with this password."""

    def __init__(self, text: str, *, is_locked: bool = False) -> None:
        super().__init__(text)
        self.is_locked = is_locked
        """Whether the server's message says that the account is locked."""


class SizeLimitExceeded(Exception):
    """There is more than was asked for, or more than the server gives anybody."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a search found."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]
    """By name in lower case."""

    def texts(self, attribute: str) -> tuple[str, ...]:
        """Return those values of an attribute that are texts in UTF-8."""
        found = []
        for value in self.attributes.get(attribute.lower(), ()):
            try:
                found.append(value.decode("utf-8"))
            except UnicodeDecodeError:
                continue
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a search found."""

    entries: tuple[Entry, ...]
    cookie: bytes = b""
    """What asks for the next part; empty: this is the last."""


class Connection(Protocol):
    """One connection to one server. All methods raise Unreachable; ProviderError where settings don't fit."""

    def bind(self, dn: str, password: str) -> None:
        """Become `dn`. Neither may be empty. Raises BindRefused."""

    def search(self, base: str, filter_: str, attribute: str, *, most: int) -> tuple[Entry, ...]:
        """Return the entries below `base` with one attribute. Raises SizeLimitExceeded beyond `most`."""

    def search_page(self, base: str, filter_: str, attribute: str, *, size: int, cookie: bytes) -> Page:
        """Return the part after `cookie`, `size` entries or fewer (RFC 2696). Raises SizeLimitExceeded."""

    def close(self) -> None:
        """Leave."""


class Patience:
    """How long one server may take: a part of the time for its first answer, all of it once it has answered.

    So a server that is silent leaves time for the next one, and one that is slow has what there is.
    """

    def __init__(self, clock: Clock, *, first_answer_by: float, by: float) -> None:
        self._clock = clock
        self._by = by
        self._now_by = min(first_answer_by, by)

    def has_answered(self) -> None:
        """Note that the server is alive."""
        self._now_by = self._by

    def left(self) -> float:
        """Return the seconds that are left. Raises Unreachable when there are none."""
        left = self._now_by - self._clock.monotonic()
        if left <= 0:
            raise Unreachable("no answer in time")
        return left


Dial = Callable[["Server", "DirectorySettings", Patience], Connection]
"""Opens a connection to a server, TLS included. Raises Unreachable."""
