"""Several servers for one question: tried in turn, those that were dead a moment ago last."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.directory.connection import BindRefused, Patience, Unreachable
from imds_proxy.directory.wire import open_connection
from imds_proxy.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_proxy.clock import Clock
    from imds_proxy.directory.connection import Connection, Dial
    from imds_proxy.directory.server import Server
    from imds_proxy.directory.settings import DirectorySettings

DEAD_FOR = 30.0
"""Seconds for which a server that was of no use is asked only when no other is left."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class DeadServers:
    """Which servers were of no use lately. One for the whole process: questions come and go."""

    def __init__(self) -> None:
        self._dead_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def bury(self, server: Server, now: float) -> None:
        """Note that `server` is dead. `now`, here as below, are monotonic seconds."""
        with self._lock:
            self._dead_until = {uri: until for uri, until in self._dead_until.items() if until > now}
            self._dead_until[server.uri] = now + DEAD_FOR

    def revive(self, server: Server) -> None:
        """Note that `server` has answered."""
        with self._lock:
            self._dead_until.pop(server.uri, None)

    def is_dead(self, server: Server, now: float) -> bool:
        """Tell whether `server` is to be left alone for now."""
        with self._lock:
            return self._dead_until.get(server.uri, now) > now


_DEAD_SERVERS = DeadServers()


@dataclass(frozen=True, slots=True)
class Means:
    """What a question is asked with. Tests bring their own."""

    dial: Dial = open_connection
    clock: Clock = SYSTEM_CLOCK
    dead: DeadServers = _DEAD_SERVERS


DEFAULT_MEANS = Means()


@dataclass(frozen=True, slots=True)
class Desk:
    """One server that answers, for one question."""

    connection: Connection
    """Bound as `bind_dn`, or as nobody where the settings have none."""
    reconnect: Callable[[], Connection]
    """Opens another connection to the same server, bound as nobody. Raises Unreachable."""


def ask(settings: DirectorySettings, question: Callable[[Desk], T], means: Means = DEFAULT_MEANS) -> T:
    """Return the answer to `question` of the first server that gives one.

    Takes `settings.timeout` seconds at most, but for the look-up of the servers' names. Raises what
    `question` raises, and ProviderError when no server answers or one does not let `bind_dn` in.
    """
    by = means.clock.monotonic() + settings.timeout
    failures = []
    for server, share in _turns(settings, means):
        now = means.clock.monotonic()
        if now >= by:
            break
        patience = Patience(means.clock, first_answer_by=now + (by - now) / share, by=by)
        try:
            answer = _ask_one(server, settings, question, patience, means)
        except Unreachable as error:
            _log.warning("LDAP server %s: %s", server, error)
            failures.append(f"{server}: {error}")
            means.dead.bury(server, means.clock.monotonic())
        else:
            means.dead.revive(server)
            return answer
    raise ProviderError(f"LDAP: no server answers: {'; '.join(failures)}")


def _turns(settings: DirectorySettings, means: Means) -> Iterator[tuple[Server, int]]:
    """Yield the servers in the order of their turns, each with how many share the time that is left."""
    now = means.clock.monotonic()
    servers = settings.addresses()
    alive = [server for server in servers if not means.dead.is_dead(server, now)]
    dead = [server for server in servers if server not in alive]
    for group in (alive, dead):
        for number, server in enumerate(group):
            yield server, len(group) - number


def _ask_one(
    server: Server,
    settings: DirectorySettings,
    question: Callable[[Desk], T],
    patience: Patience,
    means: Means,
) -> T:
    def connect() -> Connection:
        return means.dial(server, settings, patience)

    with closing(connect()) as connection:
        if settings.bind_dn is not None:
            try:
                connection.bind(settings.bind_dn, settings.bind_password())
            except BindRefused as error:
                raise ProviderError(f"LDAP: {server} does not let bind_dn in: {error}") from error
            except ValueError as error:
                raise ProviderError(f"LDAP: bind_password_file: {error}") from error
        return question(Desk(connection, connect))
