"""SIGHUP: the configuration is read again, all of it or, if it is faulty, nothing."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING

from imds_proxy import registry
from imds_proxy.audit import check_file
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.errors import ConfigurationError, FederationError, Trouble
from imds_proxy.log import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from imds_proxy.errors import Fault
    from imds_proxy.metrics import Metrics
    from imds_proxy.supervisor import Supervisor

RELOAD_PAUSE = 1.0
"""Seconds between two reloads: each costs the event loop some time, and signals can come in any number."""

RELOAD_PATIENCE = 30.0
"""Seconds for reading files and importing providers."""

_log = logging.getLogger(__name__)


class Reloads:
    """Reads the configuration when it is wanted and hands it on when it is good."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        apply: Callable[[registry.Loaded], None],
        metrics: Metrics,
        *,
        supervisor: Supervisor,
        on_end: Callable[[], None],
    ) -> None:
        """`apply` puts a configuration into force, or raises FederationError and changes nothing.

        `supervisor` is told when one is asked for; `on_end` is called when none is asked for any more.
        """
        self._path = path
        self._environ = environ
        self._apply = apply
        self._metrics = metrics
        self._supervisor = supervisor
        self._on_end = on_end
        self._wanted = asyncio.Event()
        self.outcome: str | None = None
        """How the last one went, in a few words."""

    def want(self) -> None:
        """Ask for a reload. Several that come while one is under way are one."""
        self._wanted.set()
        self._supervisor.reloading()  # before `kill` has ended, or `systemctl reload` waits for nothing

    async def run(self) -> None:
        """Reload whenever it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._reload()
            if not self._wanted.is_set():
                self._on_end()
            await asyncio.sleep(RELOAD_PAUSE)

    async def _reload(self) -> None:
        try:
            loaded = await self._load()
            _show(loaded.faults)
            if loaded.configuration is None:
                self._keep(loaded.faults)
                return
            self._apply(loaded)
        except ConfigurationError as error:
            _show(error.faults)
            self._keep(error.faults)
        except FederationError as error:
            _log.error("configuration kept: %s", error, extra=PLAIN)
            self._note("faulty", f"configuration kept: {error}")
        else:
            _log.info("configuration reloaded")
            self._note("done", f"reloaded at {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")

    def _keep(self, faults: Iterable[Fault]) -> None:
        errors = sum(not fault.is_warning for fault in faults)
        text = f"configuration kept: {errors} fault{'s' * (errors != 1)}"
        _log.error("%s", text, extra=PLAIN)
        self._note("faulty", text)

    def _note(self, result: str, outcome: str) -> None:
        self._metrics.note_reload(result, SYSTEM_CLOCK.wall())
        self.outcome = outcome

    async def _load(self) -> registry.Loaded:
        """Read files and import providers on a thread, while callers are served. Raises FederationError.

        The thread belongs to nobody: one that hangs in a dead file system must not keep the process alive.
        """
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[registry.Loaded] = loop.create_future()

        def settle(outcome: registry.Loaded | FederationError) -> None:
            if arrival.done():
                return
            if isinstance(outcome, FederationError):
                arrival.set_exception(outcome)
            else:
                arrival.set_result(outcome)

        def load() -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, self._read())

        Thread(target=load, name="reload", daemon=True).start()
        try:
            async with asyncio.timeout(RELOAD_PATIENCE):
                return await arrival
        except TimeoutError as error:
            raise Trouble(f"reading it took more than {RELOAD_PATIENCE:.0f} s") from error

    def _read(self) -> registry.Loaded | FederationError:
        try:
            loaded = registry.load(self._path, self._environ)
            if loaded.configuration is not None:
                check_file(loaded.configuration.settings.audit.file)
        except FederationError as error:
            return error
        return loaded


def _show(faults: Iterable[Fault]) -> None:
    for fault in faults:
        _log.log(logging.WARNING if fault.is_warning else logging.ERROR, "%s", fault, extra=PLAIN)
