"""Who may look up names now: a limit for all, a share per caller network, a reserve for known callers.

Thousands of look-ups at once make each other time out; and a host with many addresses and a reverse
zone of its own that never answers could keep every place busy. So a network of callers gets a
few places, and addresses that were confirmed before have some that nobody else can take.
"""

from __future__ import annotations

from asyncio import Semaphore
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from imds_proxy.errors import OverloadError
from imds_proxy.model import IPAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_IPV4_SHIFT = 32 - 28
_IPV6_SHIFT = 128 - 64

_GENERAL_PLACES = 48
_RESERVED_PLACES = 16
_PLACES_PER_NETWORK = 4
_LONGEST_LINE = 16_384
_LONGEST_LINE_PER_NETWORK = 256


def caller_network(address: IPAddress) -> tuple[int, int]:
    """Return a key for the /28 (IPv6: /64) that the address is in, what one neighbour plausibly holds."""
    shift = _IPV4_SHIFT if address.version == 4 else _IPV6_SHIFT
    return address.version, int(address) >> shift


class _Share:
    __slots__ = ("places", "users")

    def __init__(self) -> None:
        self.places = Semaphore(_PLACES_PER_NETWORK)
        self.users = 0


class LookupQueue:
    """The line in front of the name servers."""

    def __init__(self) -> None:
        self._general = Semaphore(_GENERAL_PLACES)
        self._reserved = Semaphore(_RESERVED_PLACES)
        self._shares: dict[tuple[tuple[int, int], bool], _Share] = {}
        self.length = 0
        """How many hold a place or wait for one."""

    @asynccontextmanager
    async def place(self, address: IPAddress, *, is_known: bool) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises OverloadError when the line is too long to join."""
        key = caller_network(address), is_known
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _Share()
        if self.length >= _LONGEST_LINE or share.users >= _LONGEST_LINE_PER_NETWORK:
            self._drop_unused(key)
            raise OverloadError("too many callers wait for a look-up of their names")
        share.users += 1
        self.length += 1
        try:
            async with share.places, self._pool(is_known=is_known):
                yield
        finally:
            share.users -= 1
            self.length -= 1
            self._drop_unused(key)

    def _pool(self, *, is_known: bool) -> Semaphore:
        return self._reserved if is_known and self._general.locked() else self._general

    def _drop_unused(self, key: tuple[tuple[int, int], bool]) -> None:
        if self._shares[key].users == 0:
            del self._shares[key]
