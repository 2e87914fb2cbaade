"""Who asks STS: the daemon, whose key is in its unit alone; without one, the configuration here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from imds_proxy import explain_client
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.doctor import daemon
from imds_proxy.doctor.programs import UnavailableError
from imds_proxy.errors import Trouble
from imds_proxy.explain import explain
from imds_proxy.metrics import Metrics
from imds_proxy.site import build_decisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_proxy.config import Configuration
    from imds_proxy.daemon_threads import DaemonThreads
    from imds_proxy.explain import Explanation
    from imds_proxy.model import IPAddress, OwnKey
    from imds_proxy.registry import Loaded
    from imds_proxy.site import Decisions

MOST_TRIES = 3
"""Callers of the configuration that are tried for one that has a role."""

T = TypeVar("T")


class _Threads:
    """Threads for boto3 that never keep the program from ending."""

    threads = 1

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns on a thread. Raises OverloadError."""
        return await self._threads.run(call)


class Authority:
    """Answers what takes our own key: whose it is, and whether a caller's role can be assumed."""

    def __init__(
        self, loaded: Loaded, configuration: Configuration, socket: Path | None, threads: DaemonThreads
    ) -> None:
        """`socket` is None where no daemon answers."""
        self._loaded = loaded
        self._configuration = configuration
        self._socket = socket
        self._threads = threads
        self._decisions: Decisions | None = None

    @property
    def is_daemons(self) -> bool:
        """Whether the running daemon answers, with its key."""
        return self._socket is not None

    async def own_key(self) -> OwnKey:
        """Return what STS says of our own key. Raises UnavailableError or FederationError."""
        socket = self._socket
        if socket is not None:
            return await self._threads.run(lambda: daemon.read_own_key(socket))
        return await self._own_decisions().sts.own_key()

    async def explain(self, address: IPAddress, *, assumes: bool = True) -> Explanation:
        """Return how a caller's role is decided, and what STS says to it. Raises UnavailableError."""
        try:
            if self._socket is not None:
                socket = self._socket
                return await self._threads.run(
                    lambda: explain_client.ask_daemon(address, socket, assumes=assumes)
                )
            decisions = self._own_decisions()
            sts = decisions.sts if assumes else None
            return await explain(address, decisions.doors, sts=sts, clock=SYSTEM_CLOCK)
        except Trouble as trouble:
            raise UnavailableError(str(trouble)) from trouble

    async def try_somebody(self) -> Explanation | None:
        """Return how it goes for a caller to whom the configuration alone gives a role; None without one.

        The first that is granted one is it, else the first that was tried.
        """
        first = None
        for address in self._known_callers():
            explanation = await self.explain(address, assumes=False)
            if explanation.outcome == "granted":
                return await self.explain(address)
            first = first or explanation
        return first

    def _known_callers(self) -> Iterator[IPAddress]:
        """Return callers for whom no DNS is asked: those under `hosts`, then one of each `simple`."""
        settings = self._configuration.settings
        doors = [one for one in settings.listen if one.container is None and one.credentials]
        found: dict[IPAddress, None] = {}
        for address in settings.hosts:
            networks = [network for one in doors for network in one.callers]
            if any(address in network for network in networks if network.version == address.version):
                found[address] = None
        for one in doors:
            if self._configuration.providers[one.provider].type == "simple":
                found.update(dict.fromkeys(next(network.hosts(), network[0]) for network in one.callers))
        yield from list(found)[:MOST_TRIES]

    def _own_decisions(self) -> Decisions:
        if self._decisions is None:
            self._decisions = build_decisions(
                self._configuration,
                self._loaded.providers,
                sts_threads=_Threads(self._threads),
                metrics=Metrics(),
                clock=SYSTEM_CLOCK,
                warn=lambda _: None,
            )
        return self._decisions
