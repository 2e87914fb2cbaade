"""Queue for name lookups: a limit for all, shares for networks and addresses, a reserve for known callers.

Thousands of lookups at once make each other time out; and a host with many addresses and a reverse
zone of its own that never answers could keep every place busy. `turn_queue` has the rules.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from imds_proxy.turn_queue import Bounds, Lane, TurnQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Any

    from imds_proxy.model import IPAddress

_GENERAL_PLACES = 48
_RESERVED_PLACES = 16
_PLACES_PER_NETWORK = 4
_PLACES_PER_ADDRESS = 2
_LONGEST_LINE = 12_288
_LONGEST_LINE_PER_NETWORK = 256

_STRANGERS, _KNOWN = "strangers", "known"
_BOUNDS = Bounds(
    lanes={
        name: Lane(places=places, per_network=_PLACES_PER_NETWORK, per_caller=_PLACES_PER_ADDRESS)
        for name, places in ((_STRANGERS, _GENERAL_PLACES), (_KNOWN, _GENERAL_PLACES + _RESERVED_PLACES))
    },
    places=_GENERAL_PLACES + _RESERVED_PLACES,
    longest=_LONGEST_LINE,
    longest_per_network=_LONGEST_LINE_PER_NETWORK,
    complaint="too many callers wait for a lookup of their names",
)


class LookupQueue:
    """Queue in front of the name servers."""

    def __init__(self, *, choose: Callable[[Sequence[Any]], Any] = secrets.choice) -> None:
        """`choose` picks which of several addresses, or networks, loses a lookup."""
        self._queue = TurnQueue(_BOUNDS, choose=choose)

    @property
    def length(self) -> int:
        """How many hold a place or wait for one."""
        return self._queue.length

    @asynccontextmanager
    async def place(self, address: IPAddress, *, is_known: bool) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises OverloadError, at once or later, when the queue is full."""
        turn = self._queue.enter(address, _KNOWN if is_known else _STRANGERS)
        async with self._queue.place(turn):
            yield
