"""How much one caller may take: connections, requests, new connections and TLS handshakes per second.

A caller is an IPv4 address, an IPv6 address or a user of this host. An IPv6 host has a whole /64 to choose
addresses from, and on a LAN that /64 is everybody's: so an address has the limits of a caller, and the /64 a
multiple of them. Addresses that were granted a role before share a part of the /64 that no other can take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.clock import Clock
    from imds_proxy.model import IPAddress

    Key = tuple[int | str, int]
    """The version of an address and its bits, or `_USER` and a uid, or the name of a group."""

MAX_CALLERS = 65_536
"""Callers that are remembered; as many that were granted a role before, and as many /64s."""

NETWORK_MULTIPLE = 4
"""How many times the limits of one IPv6 address its /64 has."""

SAVED_SECONDS = 1.0
"""How long a caller may save up what it does not take."""

PACE_MULTIPLE = 2
"""Requests that were saved up are served at this multiple of the rate, so that they don't fill one turn."""

PACE_BURST = 8
"""Requests of one caller, or one /64, that are served without such a pause in between."""

HANDSHAKE_BURST = 2
"""TLS handshakes of one caller, or one /64, that may begin at once: each takes about a millisecond."""

_IPV6_SHIFT = 128 - 64
_USER = "uid"
_ROUNDING = 1e-9
"""Seconds: sums of fractions are not exact."""


class Allowance:
    """What one caller, or one /64, has taken. A `_at` is when it has paid for all of a kind, in seconds."""

    __slots__ = (
        "connected",
        "connections",
        "connections_at",
        "handshakes_at",
        "is_known",
        "key",
        "network",
        "paced_at",
        "requests_at",
    )

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.network: Allowance | None = None
        """The /64 that an IPv6 address is counted in as well."""
        self.is_known = False
        """Whether the caller was granted a role before."""
        self.connections = 0
        self.connected: dict[Allowance, None] = {}
        """The addresses of a /64 that have connections."""
        self.requests_at = self.paced_at = self.connections_at = self.handshakes_at = now - SAVED_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one caller may take. Of a second, it may save up what it does not take."""

    connections: int
    """Open at a time."""
    requests_per_second: int
    new_connections_per_second: int
    tls_handshakes_per_second: int


class CallerLimits:
    """The allowances of all callers, on all listeners."""

    def __init__(self, rates: Rates, *, clock: Clock, max_callers: int = MAX_CALLERS) -> None:
        self.rates = rates
        """May be replaced: the new ones hold for what comes."""
        self.denied_requests = 0
        self._clock = clock
        self.strangers = Allowance(("strangers", 0), clock.monotonic())
        """What all that may not talk to us have left, together."""
        # Apart, so that a host with many addresses does not make us forget who was granted a role before.
        self._strange: Recent[Key, Allowance] = Recent(max_callers, on_drop=self._keep_if_connected)
        self._known: Recent[Key, Allowance] = Recent(max_callers, on_drop=self._keep_if_connected)
        self._connected: dict[Key, Allowance] = {}
        """Those that would be forgotten if they had no connections."""
        self._networks: Recent[tuple[int, bool], Allowance] = Recent(
            max_callers, on_drop=self._keep_network_if_connected
        )
        self._connected_networks: dict[tuple[int, bool], Allowance] = {}

    @property
    def size(self) -> int:
        """How many callers are counted."""
        return len(self._strange) + len(self._known) + len(self._connected)

    def allowance_of(self, address: IPAddress) -> Allowance:
        """Return the caller's allowance. It outlives a connection: a new one is no new bucket."""
        return self._allowance((address.version, int(address)))

    def allowance_of_user(self, uid: int) -> Allowance:
        """Return the allowance of a user of this host, who comes over a unix socket."""
        return self._allowance((_USER, uid))

    def _allowance(self, key: Key) -> Allowance:
        allowance = self._known.get(key) or self._strange.get(key) or self._connected.get(key)
        if allowance is None:
            allowance = self._strange[key] = Allowance(key, self._clock.monotonic())
        return allowance

    def _keep_if_connected(self, allowance: Allowance) -> None:
        if allowance.connections:
            self._connected[allowance.key] = allowance

    def _keep_network_if_connected(self, network: Allowance) -> None:
        if network.connected:
            self._connected_networks[network.key[1] >> _IPV6_SHIFT, network.is_known] = network

    # --- connections -------------------------------------------------------------------------------

    def begin_connection(self, allowance: Allowance) -> None:
        """Count a connection that has begun."""
        if allowance.connections == 0:
            self._join(allowance)
        allowance.connections += 1
        if allowance.network is not None:
            allowance.network.connections += 1

    def end_connection(self, allowance: Allowance) -> None:
        """Count a connection that has ended."""
        allowance.connections -= 1
        network = allowance.network
        if network is not None:
            network.connections -= 1
        if allowance.connections == 0:
            if network is not None:
                self._leave(allowance, network)
            if self._connected and self._connected.pop(allowance.key, None) is not None:
                (self._known if allowance.is_known else self._strange)[allowance.key] = allowance

    def has_too_many(self, allowance: Allowance) -> bool:
        """Tell whether a caller has more connections than one may have."""
        return allowance.connections > self.rates.connections

    def is_network_full(self, allowance: Allowance) -> bool:
        """Tell whether the caller's /64 has more connections than one may have."""
        network = allowance.network
        return network is not None and network.connections > self.rates.connections * NETWORK_MULTIPLE

    def greediest(self, allowance: Allowance) -> Iterator[Allowance]:
        """Yield the addresses of the caller's /64 if all have too many connections, those with most first."""
        network = allowance.network
        if network is None or not self.is_network_full(allowance):
            return
        # Mostly the first will do, and to find that one is quicker than to sort all.
        yield max(network.connected, key=_number_of_connections)
        yield from sorted(network.connected, key=_number_of_connections, reverse=True)

    def delay_connection(
        self, allowance: Allowance, *, is_encrypted: bool = False, patience: float
    ) -> float | None:
        """Count a new connection and its TLS handshake; return how many seconds it must wait.

        None: for longer than `patience` (seconds). Then it is not counted, and must be closed.
        """
        now = self._clock.monotonic()
        earliest = now - SAVED_SECONDS
        gap = 1 / self.rates.new_connections_per_second
        shake = 1 / self.rates.tls_handshakes_per_second if is_encrypted else 0.0
        connected = max(allowance.connections_at, earliest) + gap
        shaken = max(allowance.handshakes_at, earliest, now - shake * HANDSHAKE_BURST) + shake
        delay = (max(connected, shaken) if is_encrypted else connected) - now
        network = allowance.network
        connected_all = shaken_all = 0.0
        if network is not None:
            connected_all = max(network.connections_at, earliest) + gap / NETWORK_MULTIPLE
            shake /= NETWORK_MULTIPLE
            shaken_all = max(network.handshakes_at, earliest, now - shake * HANDSHAKE_BURST) + shake
            delay = max(delay, connected_all - now, shaken_all - now if is_encrypted else delay)
        if delay > patience + _ROUNDING:
            return None
        allowance.connections_at, allowance.handshakes_at = connected, shaken
        if network is not None:
            network.connections_at, network.handshakes_at = connected_all, shaken_all
        return delay if delay > _ROUNDING else 0.0

    # --- requests ----------------------------------------------------------------------------------

    def delay_request(self, allowance: Allowance | None) -> float:
        """Return how many seconds a request must wait, so that others get their turn in between."""
        if allowance is None:
            return 0.0
        now = self._clock.monotonic()
        gap = 1 / (self.rates.requests_per_second * PACE_MULTIPLE)
        earliest = now - gap * PACE_BURST
        at = allowance.paced_at
        at = allowance.paced_at = (at if at > earliest else earliest) + gap
        network = allowance.network
        if network is not None:
            network.paced_at = max(network.paced_at, earliest) + gap
            at = max(at, network.paced_at)
        return at - now if at - now > _ROUNDING else 0.0

    def has_request(self, allowance: Allowance | None) -> bool:
        """Tell whether `allow_request` would say yes, changing nothing."""
        if allowance is None:
            return True
        now = self._clock.monotonic() + _ROUNDING
        # `requests_at` lies at most SAVED_SECONDS back: what was not taken in longer is not saved up.
        earliest, gap = now - SAVED_SECONDS, 1 / self.rates.requests_per_second
        at = allowance.requests_at
        if (at if at > earliest else earliest) + gap > now:
            return False
        network = allowance.network
        return network is None or max(network.requests_at, earliest) + gap / NETWORK_MULTIPLE <= now

    def take_request(self, allowance: Allowance | None) -> None:
        """Take one request out of what the caller has saved up."""
        if allowance is None:
            return
        earliest = self._clock.monotonic() - SAVED_SECONDS
        gap = 1 / self.rates.requests_per_second
        at = allowance.requests_at
        allowance.requests_at = (at if at > earliest else earliest) + gap
        network = allowance.network
        if network is not None:
            network.requests_at = max(network.requests_at, earliest) + gap / NETWORK_MULTIPLE

    def allow_request(self, allowance: Allowance | None) -> bool:
        """Take one request; False: there is none left, which is counted."""
        if self.has_request(allowance):
            self.take_request(allowance)
            return True
        self.denied_requests += 1
        return False

    # --- who was granted a role ----------------------------------------------------------------------

    def note_granted(self, allowance: Allowance) -> None:
        """Note that a caller was granted a role: strangers of its /64 take nothing from it from now on."""
        if allowance.is_known:
            return
        network = allowance.network
        if network is not None:
            self._leave(allowance, network)
            network.connections -= allowance.connections
        allowance.is_known = True
        if self._strange.pop(allowance.key) is not None:
            self._known[allowance.key] = allowance
        if network is not None:
            self._join(allowance)
            network = allowance.network
            assert network is not None
            network.connections += allowance.connections

    def _join(self, allowance: Allowance) -> None:
        version, bits = allowance.key
        if version != 6:
            return
        key = bits >> _IPV6_SHIFT, allowance.is_known
        network = self._networks.get(key) or self._connected_networks.get(key)
        if network is None:
            network = self._networks[key] = Allowance(allowance.key, self._clock.monotonic())
            network.is_known = allowance.is_known
        network.connected[allowance] = None
        allowance.network = network

    def _leave(self, allowance: Allowance, network: Allowance) -> None:
        del network.connected[allowance]
        allowance.network = None
        if not network.connected and self._connected_networks:
            key = allowance.key[1] >> _IPV6_SHIFT, network.is_known
            if self._connected_networks.pop(key, None) is not None:
                self._networks[key] = network


def _number_of_connections(allowance: Allowance) -> int:
    return allowance.connections
