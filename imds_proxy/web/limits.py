"""How much one caller may take: open connections and requests per second. IPv6 callers count by /64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from imds_proxy.clock import Clock
    from imds_proxy.model import IPAddress

_MOST_ALLOWANCES = 65_536
_IPV6_SHIFT = 128 - 64


class Allowance:
    """What one caller has left: a bucket that fills at the rate and holds one second's worth."""

    __slots__ = ("connections", "filled_at", "requests")

    def __init__(self, requests: float, now: float) -> None:
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
        self._allowances: LRUCache[tuple[int, int], Allowance] = LRUCache(_MOST_ALLOWANCES)

    @property
    def size(self) -> int:
        """How many callers are counted."""
        return len(self._allowances)

    def allowance_of(self, address: IPAddress) -> Allowance:
        """Return the caller's allowance. It outlives a connection: a new one is no new bucket."""
        shift = 0 if address.version == 4 else _IPV6_SHIFT
        key = address.version, int(address) >> shift
        allowance = self._allowances.get(key)
        if allowance is None:
            allowance = self._allowances[key] = Allowance(self.requests_per_second, self._clock.monotonic())
        return allowance

    def allow_connection(self, allowance: Allowance) -> bool:
        """Count a new connection; False: it is one too many, for its caller or for us."""
        allowance.connections += 1
        self.open_connections += 1
        return allowance.connections <= self.connections and self.open_connections <= self._most_connections

    def end_connection(self, allowance: Allowance) -> None:
        """Count a connection that has ended."""
        allowance.connections -= 1
        self.open_connections -= 1

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
