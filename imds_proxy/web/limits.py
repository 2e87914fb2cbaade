"""How much one caller may take: open connections and requests per second. IPv6 callers count by /64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from imds_proxy.clock import Clock
    from imds_proxy.model import IPAddress

    Key = tuple[int | str, int]
    """The version of an address and its bits, or `_USER` and a uid."""

_MOST_ALLOWANCES = 65_536
_IPV6_SHIFT = 128 - 64
_USER = "uid"


class Allowance:
    """What one caller has left: a bucket that fills at the rate and holds one second's worth."""

    __slots__ = ("connections", "filled_at", "key", "requests")

    def __init__(self, key: Key, requests: float, now: float) -> None:
        self.key = key
        self.connections = 0
        self.requests = requests
        self.filled_at = now


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
        self._most_connections = most_connections
        self._clock = clock
        self._idle: LRUCache[Key, Allowance] = LRUCache(_MOST_ALLOWANCES)
        # Apart, so that nobody who has many addresses makes us forget who has how many connections.
        self._connected: dict[Key, Allowance] = {}

    @property
    def size(self) -> int:
        """How many callers are counted."""
        return len(self._idle) + len(self._connected)

    def allowance_of(self, address: IPAddress) -> Allowance:
        """Return the caller's allowance. It outlives a connection: a new one is no new bucket."""
        shift = 0 if address.version == 4 else _IPV6_SHIFT
        return self._allowance((address.version, int(address) >> shift))

    def allowance_of_user(self, uid: int) -> Allowance:
        """Return the allowance of a user of this host, who comes over a unix socket."""
        return self._allowance((_USER, uid))

    def _allowance(self, key: Key) -> Allowance:
        allowance = self._connected.get(key) or self._idle.get(key)
        if allowance is None:
            allowance = self._idle[key] = Allowance(key, self.requests_per_second, self._clock.monotonic())
        return allowance

    def allow_connection(self, allowance: Allowance) -> bool:
        """Count a new connection; False: it is one too many, for its caller or for us."""
        self._idle.pop(allowance.key, None)
        self._connected[allowance.key] = allowance
        allowance.connections += 1
        self.open_connections += 1
        return allowance.connections <= self.connections and self.open_connections <= self._most_connections

    def end_connection(self, allowance: Allowance) -> None:
        """Count a connection that has ended."""
        allowance.connections -= 1
        self.open_connections -= 1
        if allowance.connections == 0:
            del self._connected[allowance.key]
            self._idle[allowance.key] = allowance

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
