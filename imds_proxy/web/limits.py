"""How much one caller may take, and all together: connections, requests. IPv6 callers count by /64."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.clock import Clock
    from imds_proxy.model import IPAddress

    Key = tuple[int | str, int]
    """The version of an address and its bits, or `_USER` and a uid."""

_MOST_ALLOWANCES = 65_536
_IPV6_SHIFT = 128 - 64
_USER = "uid"

DROP_REASONS = ("endless", "excess", "idle", "silent", "unread")

DENIAL_PAUSE = 0.002
"""Seconds between two answers to a caller beyond its limit of requests.

Each costs us as much as any other answer, and asking again costs its caller nothing: answered at once, one
caller takes all our time with what it is not given.
"""


class Counted(Protocol):
    """What the limits know of a connection."""

    allowance: Allowance | None
    is_excess: bool
    """Whether it is one too many for its caller."""
    pause: float
    """Seconds until the answer to its request may be sent."""

    @property
    def hang_up(self) -> Callable[[], object]:
        """What ends it at once."""


class Allowance:
    """What one caller has left: a bucket that fills at the rate and holds one second's worth."""

    __slots__ = ("connections", "denied_until", "filled_at", "key", "requests")

    def __init__(self, key: Key, requests: float, now: float) -> None:
        self.key = key
        self.connections = 0
        self.requests = requests
        self.filled_at = now
        self.denied_until = now


class CallerLimits:
    """The allowances of all callers, on all listeners."""

    def __init__(
        self, *, connections: int, requests_per_second: int, clock: Clock, most_connections: int
    ) -> None:
        """`most_connections` are those of all callers together."""
        self.connections = connections
        self.requests_per_second = requests_per_second
        self.open_connections = 0
        """Of all callers, on all listeners."""
        self.dropped = Counter(dict.fromkeys(DROP_REASONS, 0))
        """Connections that we ended, by why."""
        self.denied_requests = 0
        self._idle: dict[Counted, None] = {}
        self._ending: set[Counted] = set()
        self.most_connections = most_connections
        self._clock = clock
        self._absent: LRUCache[Key, Allowance] = LRUCache(_MOST_ALLOWANCES)
        # Apart, so that nobody who has many addresses makes us forget who has how many connections.
        self._connected: dict[Key, Allowance] = {}

    @property
    def size(self) -> int:
        """How many callers are counted."""
        return len(self._absent) + len(self._connected)

    def allowance_of(self, address: IPAddress) -> Allowance:
        """Return the caller's allowance. It outlives a connection: a new one is no new bucket."""
        shift = 0 if address.version == 4 else _IPV6_SHIFT
        return self._allowance((address.version, int(address) >> shift))

    def allowance_of_user(self, uid: int) -> Allowance:
        """Return the allowance of a user of this host, who comes over a unix socket."""
        return self._allowance((_USER, uid))

    def _allowance(self, key: Key) -> Allowance:
        allowance = self._connected.get(key) or self._absent.get(key)
        if allowance is None:
            allowance = self._absent[key] = Allowance(key, self.requests_per_second, self._clock.monotonic())
        return allowance

    def allow_connection(self, allowance: Allowance) -> bool:
        """Count a new connection; False: it is one too many for its caller."""
        self._absent.pop(allowance.key, None)
        self._connected[allowance.key] = allowance
        allowance.connections += 1
        self.open_connections += 1
        return allowance.connections <= self.connections

    def make_room(self) -> bool:
        """End the connection that has been idle for longest if there are too many; False: none is idle."""
        if self.open_connections - len(self._ending) <= self.most_connections:
            return True
        connection = next(iter(self._idle), None)
        if connection is None:
            return False
        del self._idle[connection]
        self._ending.add(connection)
        self.dropped["idle"] += 1
        connection.hang_up()
        return True

    def note_idle(self, connection: Counted) -> None:
        """Note that nobody asks on a connection from now on."""
        self._idle[connection] = None

    def note_busy(self, connection: Counted) -> None:
        """Note that a connection waits for an answer of ours, or has ended."""
        self._idle.pop(connection, None)

    def end_connection(self, connection: Counted, allowance: Allowance) -> None:
        """Count a connection that has ended."""
        self._idle.pop(connection, None)
        self._ending.discard(connection)
        allowance.connections -= 1
        self.open_connections -= 1
        if allowance.connections == 0:
            del self._connected[allowance.key]
            self._absent[allowance.key] = allowance

    def admit(self, connection: Counted) -> bool:
        """Tell whether a request on a connection is within the limits; if not, say when it may hear so."""
        if not connection.is_excess and self.allow_request(connection.allowance):
            return True
        self.denied_requests += 1
        connection.pause = self._pause_before_denial(connection.allowance)
        return False

    def allow_request(self, allowance: Allowance | None) -> bool:
        """Take one request out of the caller's bucket; False: it is empty."""
        if allowance is None:
            return True
        now, rate = self._clock.monotonic(), self.requests_per_second
        left = min(rate, allowance.requests + (now - allowance.filled_at) * rate)
        allowance.filled_at = now
        if left < 1:
            allowance.requests = left
            return False
        allowance.requests = left - 1
        return True

    def _pause_before_denial(self, allowance: Allowance | None) -> float:
        if allowance is None:
            return 0.0
        now = self._clock.monotonic()
        allowance.denied_until = max(now, allowance.denied_until) + DENIAL_PAUSE
        return allowance.denied_until - now
