"""Queue for name lookups: a limit for all, shares for networks and addresses, a reserve for known callers.

Thousands of lookups at once make each other time out; and a host with many addresses and a reverse
zone of its own that never answers could keep every place busy. So a network of callers gets a
few places, and addresses that were confirmed before have some that strangers cannot take.

Within a network the addresses take turns, each with one lookup per round. When the queue of the network
is full, the address with the most waiting lookups loses its newest one. A host that asks from many addresses
has one lookup waiting for each, as any neighbour has. No rule can tell them apart by address, so chance
decides who loses. The other rules can be aimed:

- If the newcomer lost, the host would shut everybody out by keeping the queue full. Where a lookup takes
  two seconds, it would need two new addresses a second.
- If the oldest lost, one burst would empty the whole queue.
- If addresses without a recent turn came first, a neighbour whose first lookup failed would starve.

By chance, a newcomer gets its turn as often as any other: lookups that end, divided by lookups that come.
To lower that, the host must add addresses faster than lookups end, and all the time. What it has
queued before only makes the wait longer, by one turn per address.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Semaphore
from collections import Counter, OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from imds_proxy.errors import OverloadError
from imds_proxy.model import IPAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    Choose = Callable[[Sequence[IPAddress]], IPAddress]

_IPV4_SHIFT = 32 - 28
_IPV6_SHIFT = 128 - 64

_GENERAL_PLACES = 48
_RESERVED_PLACES = 16
_PLACES_PER_NETWORK = 4
_PLACES_PER_ADDRESS = 2
_LONGEST_LINE = 12_288
_LONGEST_LINE_PER_NETWORK = 256


def caller_network(address: IPAddress) -> tuple[int, int]:
    """Return a key for the /28 (IPv6: /64) that the address is in, what one neighbour plausibly holds."""
    shift = _IPV4_SHIFT if address.version == 4 else _IPV6_SHIFT
    return address.version, int(address) >> shift


class _Share:
    """Places of one network, and the queue of its addresses in front of them."""

    __slots__ = ("_choose", "_free", "_held", "_waiting")

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._free = _PLACES_PER_NETWORK
        self._held: Counter[IPAddress] = Counter()
        # The first address has the next turn. A future's result tells whether its lookup got a place.
        self._waiting: OrderedDict[IPAddress, deque[asyncio.Future[bool]]] = OrderedDict()

    @property
    def is_unused(self) -> bool:
        """Tell whether no lookup holds a place or waits for one."""
        return self._free == _PLACES_PER_NETWORK and not self._waiting

    @asynccontextmanager
    async def place(self, address: IPAddress) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises OverloadError."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(turn)
        self._give_turns()
        if self._count() > _LONGEST_LINE_PER_NETWORK:
            self._drop_one()
        try:
            has_place = await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(address, turn)
            elif turn.result():  # the place came just before the cancellation
                self._leave(address)
            raise
        if not has_place:
            raise OverloadError("too many callers wait for a lookup of their names")
        try:
            yield
        finally:
            self._leave(address)

    def _count(self) -> int:
        waiting = sum(len(turns) for turns in self._waiting.values())
        return _PLACES_PER_NETWORK - self._free + waiting

    def _leave(self, address: IPAddress) -> None:
        self._free += 1
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]
        self._give_turns()

    def _give_turns(self) -> None:
        """Give free places to waiting lookups, one for each address in turn."""
        while self._free and (address := self._next_address()) is not None:
            turn = self._waiting[address][0]
            self._remove(address, turn)
            if turn.cancelled():
                continue
            if address in self._waiting:
                self._waiting.move_to_end(address)
            self._free -= 1
            self._held[address] += 1
            turn.set_result(True)

    def _next_address(self) -> IPAddress | None:
        return next((one for one in self._waiting if self._held[one] < _PLACES_PER_ADDRESS), None)

    def _drop_one(self) -> None:
        """Reject the newest lookup of the address that has most waiting. Between equals chance decides."""
        most = max(len(turns) for turns in self._waiting.values())
        address = self._choose([one for one, turns in self._waiting.items() if len(turns) == most])
        turn = self._waiting[address][-1]
        self._remove(address, turn)
        if not turn.cancelled():
            turn.set_result(False)

    def _remove(self, address: IPAddress, turn: asyncio.Future[bool]) -> None:
        """Remove a lookup from the queue, where it is still there: a cancelled one may be gone already."""
        turns = self._waiting.get(address)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del self._waiting[address]


class LookupQueue:
    """Queue in front of the name servers."""

    def __init__(self, *, choose: Choose = secrets.choice) -> None:
        """`choose` picks which of several addresses loses a lookup."""
        self._general = Semaphore(_GENERAL_PLACES)
        self._reserved = Semaphore(_RESERVED_PLACES)
        self._choose = choose
        self._shares: dict[tuple[tuple[int, int], bool], _Share] = {}
        self.length = 0
        """How many hold a place or wait for one."""

    @asynccontextmanager
    async def place(self, address: IPAddress, *, is_known: bool) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises OverloadError, at once or later, when the queue is full."""
        if self.length >= _LONGEST_LINE:
            raise OverloadError("too many callers wait for a lookup of their names")
        key = caller_network(address), is_known
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _Share(self._choose)
        self.length += 1
        try:
            async with share.place(address), self._pool(is_known=is_known):
                yield
        finally:
            self.length -= 1
            # A lookup that was dropped may come back when its share is gone and the network has another one.
            if share.is_unused and self._shares.get(key) is share:
                del self._shares[key]

    def _pool(self, *, is_known: bool) -> Semaphore:
        return self._reserved if is_known and self._general.locked() else self._general
