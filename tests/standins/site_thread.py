"""The daemon's inside on a thread of this process: a real site behind real listeners on loopback.

Everything is built as `server` builds it; what is left out is the process around it: signals, log, status.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imds_proxy import registry
from imds_proxy.audit import Audit
from imds_proxy.cache import CredentialCache
from imds_proxy.clock import Clock
from imds_proxy.listeners import bind, listener_of, open_server
from imds_proxy.metrics import Metrics
from imds_proxy.sign_in_threads import SignInThreads
from imds_proxy.site import Site, Workshop, build_site
from imds_proxy.sts import StsThreads
from imds_proxy.web.documents import CredentialPages
from imds_proxy.web.edge.limits import CallerLimits, Rates
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import OpenConnections
from imds_proxy.web.sign_on import SignOnState
from tests.standins.daemon import write_settings
from tests.standins.wire import WireCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from imds_proxy.config import ListenSettings, PeopleListenSettings, Settings
    from imds_proxy.model import RoleSession
    from imds_proxy.web.edge.tls_server import TLSServer
    from imds_proxy.web.sign_on import SignOn

TOKEN_KEYS = (b"k" * 32,)
WORKLOAD_TOKEN_KEYS = (b"w" * 32,)
_START_TIME = 30
_END_TIME = 30
_FINISH_TIME = 1.0


class ShiftedClock:
    """The real clocks plus what a test adds; `freeze` stops the monotonic one, `freeze_wall` the other."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds by which both clocks are ahead."""
        self._frozen_at: float | None = None
        self._wall_frozen_at: float | None = None

    def freeze_wall(self, at: float) -> None:
        """Let the wall clock stand still but for `ahead`."""
        self._wall_frozen_at = at

    def freeze(self) -> None:
        """Let the monotonic clock stand still but for `ahead`."""
        self._frozen_at = time.monotonic()

    def read_wall(self) -> float:
        """Return seconds UTC since 1970."""
        return (time.time() if self._wall_frozen_at is None else self._wall_frozen_at) + self.ahead

    def read_monotonic(self) -> float:
        """Return seconds since whenever."""
        return (time.monotonic() if self._frozen_at is None else self._frozen_at) + self.ahead


class RunningSite:
    """What serves, and a way into its loop."""

    def __init__(self, folder: Path) -> None:
        self.clock = ShiftedClock()
        self.metrics = Metrics()
        self.listeners: list[Listener] = []
        self.ports: list[int] = []
        """Of the listeners, those for machines first; 0 for a unix socket."""
        self.site: Site
        self.workshop: Workshop
        self._settings: Settings
        self.loop: asyncio.AbstractEventLoop
        self._folder = folder
        self._audit_file = folder / "audit.jsonl"
        self._servers: list[asyncio.Server | TLSServer] = []
        self._loads = 0

    def caller(
        self, source: str = "127.0.0.1", *, listener: int = 0, server: str | None = None
    ) -> WireCaller:
        """Return a caller of one of the listeners. `server`: the address to connect to, if not loopback's."""
        to = server or ("::1" if ":" in source else "127.0.0.1")
        return WireCaller((to, self.ports[listener]), source)

    def do(self, action: Callable[[], Any]) -> Any:
        """Return what `action` returns on the loop's thread."""

        async def act() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self.loop).result(_END_TIME)

    def replace(self, settings: Mapping[str, object]) -> None:
        """Put a site with other settings behind the open sockets, in their order, as a reload does."""

        def swap() -> None:
            old, (self.site, listens) = self.site, self._build(settings)
            for listener, listen in zip(self.listeners, listens, strict=True):
                listener.service = self.site.service_for(listen)
            old.retire()

        self.do(swap)

    def use_sign_on(self, sign_on: SignOn) -> None:
        """Know people by another way than the settings'; there is no listener for machines then."""
        assert self.site.people is not None
        people = replace(self.site.people, sign_on=sign_on)
        site = replace(self.site, people=people)

        def swap() -> None:
            for listener, listen in zip(self.listeners, people.settings.listen, strict=True):
                listener.service = site.service_for(listen)

        self.do(swap)

    def audit_records(self) -> list[dict[str, Any]]:
        """Return the records so far, once the audit's own thread has written them."""
        end = time.monotonic() + _END_TIME
        while self.workshop.audit.waiting and time.monotonic() < end:
            time.sleep(0.005)
        text = self._audit_file.read_text() if self._audit_file.exists() else ""
        return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]

    async def open(self, settings: Mapping[str, object]) -> None:
        """Build everything and listen."""
        self.loop = asyncio.get_running_loop()
        clock = Clock(wall=self.clock.read_wall, monotonic=self.clock.read_monotonic)
        limits = settings.get("limits", {})
        assert isinstance(limits, dict)
        self.workshop = Workshop(
            cache=CredentialCache(clock, on_renewal_refused=_ignore_refusal),
            sts_threads=StsThreads(threads=8),
            sign_in_threads=SignInThreads(),
            audit=Audit(str(self._audit_file), clock=clock, on_error=_fail),
            metrics=self.metrics,
            connections=OpenConnections(
                CallerLimits(
                    Rates(
                        connections=limits.get("connections", 256),
                        requests_per_second=limits.get("requests_per_second", 1_000_000),
                        new_connections_per_second=limits.get("new_connections_per_second", 1_000_000),
                        tls_handshakes_per_second=limits.get("tls_handshakes_per_second", 1_000_000),
                    ),
                    clock=clock,
                ),
                max_connections=limits.get("all_connections", 10_000),
            ),
            pages=CredentialPages(),
            sign_on_state=SignOnState(clock),
            clock=clock,
        )
        self.site, _ = self._build(settings)
        await self.site.decisions.sts.load()
        for bound in bind(self._settings):
            listener = listener_of(bound, self.site.service_for(bound.listen), self.workshop.connections)
            self.ports.append(0 if bound.sock.family == socket.AF_UNIX else bound.sock.getsockname()[1])
            self._servers.append(await open_server(listener, bound))
            self.listeners.append(listener)

    def _build(
        self, settings: Mapping[str, object]
    ) -> tuple[Site, list[ListenSettings | PeopleListenSettings]]:
        self._loads += 1
        file = write_settings(settings, self._folder / f"site-{self._loads}.yaml")
        loaded = registry.load(file, {})
        assert loaded.configuration is not None, [str(fault) for fault in loaded.faults]
        site = build_site(
            loaded.configuration,
            loaded.providers,
            token_keys=TOKEN_KEYS,
            workload_token_keys=WORKLOAD_TOKEN_KEYS,
            workshop=self.workshop,
            warn=_fail,
        )
        self._settings = loaded.configuration.settings
        people = self._settings.people
        return site, [*self._settings.listen, *(people.listen if people else ())]

    async def close(self) -> None:
        """End everything that runs."""
        for server in self._servers:
            server.close()
        await asyncio.gather(*(listener.shutdown(_FINISH_TIME) for listener in self.listeners))
        await self.site.close()
        await self.workshop.cache.close()
        self.workshop.sts_threads.close()
        self.workshop.audit.close(_FINISH_TIME)


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(self.format(record))


def _ignore_refusal(_session: RoleSession, _refusal: Exception) -> None:
    """The log line about it is the process's."""


def _fail(text: str) -> None:
    raise AssertionError(text)


@contextmanager
def running_site(settings: Mapping[str, object], folder: Path) -> Iterator[RunningSite]:
    """Serve with these settings for the length of the block; files go into `folder`.

    An error in the log, or anything that the loop reports as unhandled, is a failure at the end.
    """
    running = RunningSite(folder)
    unhandled: list[str] = []
    errors = _Errors()
    logging.getLogger("imds_proxy").addHandler(errors)
    opened, stopping = threading.Event(), asyncio.Event()
    failures: list[BaseException] = []

    async def live() -> None:
        running_loop = asyncio.get_running_loop()
        running_loop.set_exception_handler(lambda _, context: unhandled.append(str(context)))
        try:
            await running.open(settings)
        finally:
            opened.set()
        await stopping.wait()
        await running.close()

    def run(work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001  handed to the thread of the test
            failures.append(error)

    thread = threading.Thread(target=run, args=(live(),), name="site", daemon=True)
    thread.start()
    assert opened.wait(_START_TIME)
    try:
        if failures:
            raise failures[0]
        yield running
    finally:
        if not failures:
            running.loop.call_soon_threadsafe(stopping.set)
        thread.join(_END_TIME)
        logging.getLogger("imds_proxy").removeHandler(errors)
    assert not failures, failures
    assert not unhandled, unhandled
    assert not errors.lines, errors.lines
