"""Queue in front of a bounded number of places: shares for networks and callers, a reserve for known callers.

A host with many addresses could keep every place busy, and every place of the queue. So a network of callers
gets a few places, and calls of callers that are known have some that strangers cannot take.

Within a network the callers take turns, each with one call per round. When the queue of the network
is full, the caller with the most waiting calls loses its newest one. When the queue of all is full, the
network with the most waiting calls loses one. A host that asks from many addresses has one call waiting
for each, as any neighbour has. No rule can tell them apart by address, so chance decides who loses. The
other rules can be aimed:

- If the newcomer lost, the host would shut everybody out by keeping the queue full. Where a call takes
  two seconds, it would need two new addresses a second.
- If the oldest lost, one burst would empty the whole queue.
- If addresses without a recent turn came first, a neighbour whose first call failed would starve.

By chance, a newcomer gets its turn as often as any other: calls that end, divided by calls that come.
To lower that, the host must add addresses faster than calls end, and all the time. What it has
queued before only makes the wait longer, by one turn per address.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Semaphore
from collections import Counter, OrderedDict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imds_proxy.errors import OverloadError
from imds_proxy.model import IPAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence

    Choose = Callable[[Sequence[Any]], Any]

Caller = IPAddress | str
"""A machine's address, or a person's login."""

_IPV4_SHIFT = 32 - 28
_IPV6_SHIFT = 128 - 64
_IPV6_MARK = 1 << 64

FULL_NETWORK = "network"
FULL_QUEUE = "all"


def caller_network(caller: Caller) -> int | str:
    """Return a key for the /28 (IPv6: /64) of an address, what one neighbour plausibly holds.

    A person is a network, from wherever they ask: all spellings of a login that providers may fold.
    """
    if isinstance(caller, str):
        return caller.casefold()
    if caller.version == 4:
        return int(caller) >> _IPV4_SHIFT
    return int(caller) >> _IPV6_SHIFT | _IPV6_MARK


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Kind of calls: how many may have a place at a time."""

    places: int
    per_network: int
    per_caller: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many calls may have a place, and how many may wait."""

    lanes: Mapping[str, Lane]
    places: int
    """Of all lanes together."""
    longest: int
    longest_per_network: int
    """Per lane; those that have a place count, too."""
    complaint: str
    """What a caller whose call is dropped hears."""


class Turn:
    """Wait of one call for a place. It may stand in queues of several networks, and has the first place."""

    __slots__ = ("lane", "outcome", "stands")

    def __init__(self, lane: str) -> None:
        self.lane = lane
        self.outcome: asyncio.Future[tuple[_Share, Caller] | None] = (
            asyncio.get_running_loop().create_future()
        )
        """Which share gave it a place; None: it was dropped."""
        self.stands: dict[_Share, Caller] = {}

    def leave(self) -> None:
        """Leave all queues."""
        for share, caller in list(self.stands.items()):
            share.remove(self, caller)


class _Share:
    """Places of one network, and the queue of its callers in front of them."""

    __slots__ = ("_free", "_held", "_key", "_queue", "_waiting", "lane", "length")

    def __init__(self, queue: TurnQueue, key: Hashable, lane: str) -> None:
        self.lane = lane
        self.length = 0
        """How many calls wait."""
        self._queue = queue
        self._key = key
        self._free = self._limits.per_network
        self._held: Counter[Caller] = Counter()
        # The first caller has the next turn.
        self._waiting: OrderedDict[Caller, deque[Turn]] = OrderedDict()

    @property
    def _limits(self) -> Lane:
        return self._queue.bounds.lanes[self.lane]

    def add(self, turn: Turn, caller: Caller) -> None:
        """Let a call wait for a place here."""
        turn.stands[self] = caller
        self._waiting.setdefault(caller, deque()).append(turn)
        self._count_waiting(1)
        self._give_turns()
        if self._limits.per_network - self._free + self.length > self._queue.bounds.longest_per_network:
            self.drop_one(FULL_NETWORK)

    def remove(self, turn: Turn, caller: Caller) -> None:
        """Remove a call from the queue."""
        del turn.stands[self]
        turns = self._waiting[caller]
        turns.remove(turn)
        if not turns:
            del self._waiting[caller]
        self._count_waiting(-1)

    def free(self, caller: Caller) -> None:
        """Take a place back."""
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._give_turns()
        self._end_if_unused()

    def drop_one(self, reason: str) -> None:
        """Drop the newest call of the caller that has most waiting. Between equals chance decides."""
        most = max(len(turns) for turns in self._waiting.values())
        caller = self._queue.choose([one for one, turns in self._waiting.items() if len(turns) == most])
        turn = self._waiting[caller][-1]
        self.remove(turn, caller)
        if not turn.stands:
            self._queue.drop(turn, reason)

    def _count_waiting(self, change: int) -> None:
        self.length += change
        if self.length:
            self._queue.crowded[self] = None
        else:
            self._queue.crowded.pop(self, None)
            self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self.length and not self._held:
            self._queue.shares.pop(self._key, None)

    def _give_turns(self) -> None:
        """Give free places to waiting calls, one for each caller in turn."""
        while self._free and (caller := self._next_caller()) is not None:
            turn = self._waiting[caller][0]
            if turn.outcome.done():  # cancelled a moment ago
                turn.leave()
                continue
            self._free -= 1
            self._held[caller] += 1
            turn.leave()
            if caller in self._waiting:
                self._waiting.move_to_end(caller)
            turn.outcome.set_result((self, caller))

    def _next_caller(self) -> Caller | None:
        most = self._limits.per_caller
        return next((one for one in self._waiting if self._held[one] < most), None)


class TurnQueue:
    """Queue of calls that need a place, each in one of a few lanes."""

    def __init__(self, bounds: Bounds, *, choose: Choose = secrets.choice) -> None:
        """`choose` picks which of several callers, or networks, loses a call."""
        self.bounds = bounds
        self.choose = choose
        self.shares: dict[Hashable, _Share] = {}
        self.crowded: dict[_Share, None] = {}
        """The shares in which calls wait."""
        self.waiting = dict.fromkeys(bounds.lanes, 0)
        """How many calls wait, by the lane in which they came."""
        self.dropped = {FULL_NETWORK: 0, FULL_QUEUE: 0}
        """How many were dropped since the start, by which queue was full."""
        self._gates = {name: Semaphore(lane.places) for name, lane in bounds.lanes.items()}
        self._places = Semaphore(bounds.places)
        self._turns: set[Turn] = set()

    @property
    def length(self) -> int:
        """How many calls hold a place or wait for one."""
        return len(self._turns)

    def enter(self, caller: Caller, lane: str) -> Turn:
        """Return the wait of a new call. `place` is to be entered with it before it is forgotten."""
        turn = Turn(lane)
        is_full = len(self._turns) >= self.bounds.longest
        self._turns.add(turn)
        if is_full and not self.crowded:  # all that wait have had their networks' turn
            self.drop(turn, FULL_QUEUE)
            return turn
        self._share(caller, lane).add(turn, caller)
        while self.crowded and len(self._turns) > self.bounds.longest:
            most = max(share.length for share in self.crowded)
            self.choose([share for share in self.crowded if share.length == most]).drop_one(FULL_QUEUE)
        return turn

    def join(self, turn: Turn, caller: Caller, lane: str) -> None:
        """Let a call wait in the queue of another caller as well, who needs what it brings.

        It gets the first place that one of them has, so that no caller waits for another network's turn.
        """
        if turn.outcome.done() or turn.outcome.cancelled():
            return
        key = (caller_network(caller), lane)
        if key not in self.shares and len(self.shares) >= self.bounds.longest:
            return
        share = self._share(caller, lane)
        if share not in turn.stands:
            share.add(turn, caller)

    @asynccontextmanager
    async def place(self, turn: Turn) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises OverloadError, at once or later, when the queue is full."""
        self.waiting[turn.lane] += 1
        is_waiting = True
        given: tuple[_Share, Caller] | None = None
        try:
            try:
                given = await turn.outcome
            except asyncio.CancelledError:
                if turn.outcome.cancelled():
                    turn.leave()
                else:  # the place came just before the cancellation
                    given = turn.outcome.result()
                raise
            if given is None:
                raise OverloadError(self.bounds.complaint)
            async with self._gates[given[0].lane], self._places:
                self.waiting[turn.lane] -= 1
                is_waiting = False
                yield
        finally:
            self._turns.discard(turn)
            self.waiting[turn.lane] -= is_waiting
            if given is not None:
                share, caller = given
                share.free(caller)

    def drop(self, turn: Turn, reason: str) -> None:
        """Let a call go without a place."""
        self._turns.discard(turn)
        self.dropped[reason] += 1
        if not turn.outcome.done():
            turn.outcome.set_result(None)

    def _share(self, caller: Caller, lane: str) -> _Share:
        key = (caller_network(caller), lane)
        share = self.shares.get(key)
        if share is None:
            share = self.shares[key] = _Share(self, key, lane)
        return share
