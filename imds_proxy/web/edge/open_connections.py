"""All open connections, on all listeners, and what they share: limits, timeouts, budgets, counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from imds_proxy.web.edge.budgets import MAX_HELD_HEADS, MAX_UNSENT, ByteBudget
from imds_proxy.web.edge.timeouts import FIRST_REQUEST_SECONDS, KEEP_ALIVE_SECONDS, Timeouts

if TYPE_CHECKING:
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.limits import Allowance, CallerLimits

MAX_TURNED_AWAY = 256
"""Connections of strangers, all together; and as many beyond the limit of their callers."""

MAX_ENCRYPTED = 4_000
"""Connections with TLS, all together: each takes twenty times as much memory as another."""

_MIN_SILENCE = 1.0
"""Seconds for which a new connection may say nothing before it goes ahead of idle ones."""

DROP_REASONS = (
    "body",
    "crowded_out",
    "endless",
    "excess",
    "heads",
    "idle",
    "rate",
    "silent",
    "stranger",
    "unread",
    "unsent",
)
"""Why we end connections; docs/metrics.md has a sentence for each."""


class OpenConnections:
    """The open connections of all listeners that share their limits."""

    def __init__(
        self, limits: CallerLimits, *, max_connections: int, dropped: Counter[str] | None = None
    ) -> None:
        """`max_connections` are those of all callers together; `dropped` is a count that others share."""
        self.limits = limits
        self.max_connections = max_connections
        self.timeouts = Timeouts()
        self.heads: ByteBudget[Connection] = ByteBudget(MAX_HELD_HEADS)
        self.unsent: ByteBudget[Connection] = ByteBudget(MAX_UNSENT)
        self.dropped = dropped or Counter(dict.fromkeys(DROP_REASONS, 0))
        """Connections that we ended, by reason."""
        self._encrypted: dict[Connection, None] = {}
        """Connections with TLS, those in their handshake included, the oldest first."""
        self.count = 0
        """Connections of callers."""
        self._by_address: dict[Allowance, dict[Connection, None]] = {}
        """The connections of IPv6 addresses, which share a /64 with others."""
        self._turned_away = {"stranger": 0, "excess": 0}

    # --- who may stay ------------------------------------------------------------------------------

    def admit(self, connection: Connection, allowance: Allowance) -> bool:
        """Count a connection of a caller; False: it is one too many."""
        self.limits.begin_connection(allowance)
        self.count += 1
        if self.limits.has_too_many(allowance) or not self._make_room(allowance):
            self._give_back(allowance)
            return False
        connection.allowance = allowance
        if allowance.network is not None:
            self._by_address.setdefault(allowance, {})[connection] = None
        return True

    def admit_turned_away(self, connection: Connection, reason: str) -> bool:
        """Count a connection that only stays to hear 403 or 503; False: there are enough of them."""
        if self._turned_away[reason] >= MAX_TURNED_AWAY:
            self.dropped[reason] += 1
            return False
        self._turned_away[reason] += 1
        connection.turned_away = reason
        return True

    def admit_encrypted(self, connection: Connection) -> bool:
        """Count a connection with TLS, ending the oldest idle one if there are too many; False: none is."""
        if len(self._encrypted) >= MAX_ENCRYPTED:
            victim = next((one for one in self._encrypted if one.is_idle), None)
            if victim is None:
                self.dropped["excess"] += 1
                return False
            self._crowd_out(victim, "idle")
        self._encrypted[connection] = None
        connection.is_encrypted = True
        return True

    def note_end(self, connection: Connection) -> None:
        """Count a connection that has ended."""
        self.timeouts.stop(connection)
        if connection.is_holding:
            self.heads.set(connection, 0)
        if connection.is_unread:
            self.unsent.set(connection, 0)
        if connection.turned_away is not None:
            self._turned_away[connection.turned_away] -= 1
        self._uncount(connection)

    def _uncount(self, connection: Connection) -> None:
        if connection.is_encrypted:
            del self._encrypted[connection]
            connection.is_encrypted = False
        allowance = connection.allowance
        if allowance is None:
            return
        connection.allowance = None
        if allowance.network is not None:
            connections = self._by_address[allowance]
            connections.pop(connection, None)
            if not connections:
                del self._by_address[allowance]
        self._give_back(allowance)

    def _give_back(self, allowance: Allowance) -> None:
        self.limits.end_connection(allowance)
        self.count -= 1

    def _make_room(self, allowance: Allowance) -> bool:
        """End an idle connection where there is one too many; False: none is idle."""
        for greediest in self.limits.greediest(allowance):
            idle = next((one for one in self._by_address.get(greediest, ()) if one.is_idle), None)
            if idle is not None:
                self._crowd_out(idle, "crowded_out")
                break
        else:
            if self.limits.is_network_full(allowance):
                return False
        if self.count <= self.max_connections:
            return True
        victim = self._longest_idle()
        if victim is None:
            return False
        self._crowd_out(victim, "idle")
        return True

    def _longest_idle(self) -> Connection | None:
        """Return a connection that has asked nothing for a while, else the one that is idle for longest."""
        silent = self.timeouts.first(FIRST_REQUEST_SECONDS)
        idle = self.timeouts.first(KEEP_ALIVE_SECONDS)
        if silent is not None and (idle is None or silent[1] >= _MIN_SILENCE):
            return silent[0]
        return None if idle is None else idle[0]

    def _crowd_out(self, connection: Connection, reason: str) -> None:
        """End a connection, which counts for its caller no longer: others may come in the same turn."""
        self.drop(connection, reason)
        self._uncount(connection)

    # --- how many bytes they may hold -----------------------------------------------------------------

    def hold_head(self, connection: Connection, size: int) -> None:
        """Note how many bytes of a head a connection holds; the largest goes when all hold too much."""
        self.heads.set(connection, size)
        if self.heads.is_exceeded:
            self._drop_largest(self.heads, "heads")

    def hold_unsent(self, connection: Connection, size: int) -> None:
        """Note how many bytes of an answer are not sent yet; the largest goes when all are too many."""
        self.unsent.set(connection, size)
        if self.unsent.is_exceeded:
            self._drop_largest(self.unsent, "unsent")

    def _drop_largest(self, budget: ByteBudget[Connection], reason: str) -> None:
        largest = budget.largest()
        budget.set(largest, 0)
        self.drop(largest, reason)

    def drop(self, connection: Connection, reason: str) -> None:
        """End a connection at once and count it."""
        self.dropped[reason] += 1
        self.timeouts.stop(connection)
        connection.is_dropped = True
        connection.hang_up()
