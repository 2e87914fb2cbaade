"""The polite caller: asks for its role on a fixed schedule and notes what it feels of its neighbours."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import report
from bench.client import Connection, connect

if TYPE_CHECKING:
    from bench.processes import ServerProcess

RATE = 100.0
"""Requests per second."""
_PATIENCE = 5.0
_GRACE = 2.0
"""Seconds after the end of the schedule in which late answers still count."""


@dataclass(slots=True)
class Felt:
    """What a polite caller has felt. A request that was never answered counts until the caller gave it up."""

    took: list[float] = field(default_factory=list)
    """Seconds from when each request was due to its answer or failure."""
    failed: int = 0
    delays: list[float] = field(default_factory=list)
    """Seconds by which its own process was late for requests on new connections."""
    server_busy: float = 0.0
    """The share of its core that the server used meanwhile, 0 to 1."""

    @property
    def p99(self) -> float:
        """The 99th percentile of `took`."""
        return report.percentile(self.took, 99)

    def cells(self, quiet_p99: float) -> list[str]:
        """Return what stands under `COLUMNS`; `quiet_p99` is that of the row without neighbours."""
        p50, most = (report.percentile(self.took, percent) for percent in (50, 100))
        return [
            str(len(self.took)),
            str(self.failed),
            *(report.milliseconds(figure) for figure in (p50, self.p99, most)),
            f"{self.p99 / quiet_p99:.2f}",
            f"{self.server_busy:.0%}",
        ]


COLUMNS = ("requests", "failed", "p50 ms", "p99 ms", "most ms", "p99 / quiet", "server busy")


class _PoliteCaller:
    def __init__(self, port: int, request: bytes, schedule: list[float]) -> None:
        self._port = port
        self._request = request
        self._pending = set(schedule)
        self._felt = Felt()

    async def ask_on_one(self, schedule: list[float]) -> None:
        """Ask on one connection at the times of `schedule`; after a failure on a new one."""
        connection: Connection | None = None
        for due in schedule:
            connection = await self._ask(connection, due)
        if connection is not None:
            connection.close()

    async def ask_on_new(self, due: float) -> None:
        """Ask once on a connection of its own, and note how late this process is."""
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._felt.delays.append(time.monotonic() - due)
        connection = await self._ask(None, due)
        if connection is not None:
            connection.close()

    def give_up(self) -> Felt:
        """Count what was not answered as failed, and return everything."""
        now = time.monotonic()
        for due in sorted(self._pending):
            self._note(due, now, is_ok=False)
        return self._felt

    async def _ask(self, connection: Connection | None, due: float) -> Connection | None:
        """Ask on a connection, None for a new one, and return it unless it is of no more use."""
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = connection or await connect(self._port)
                answer = await connection.ask(self._request)
        except (OSError, TimeoutError):
            self._note(due, time.monotonic(), is_ok=False)
            if connection is not None:
                connection.close()
            return None
        self._note(due, time.monotonic(), is_ok=answer.status == 200)
        return connection

    def _note(self, due: float, now: float, *, is_ok: bool) -> None:
        self._pending.discard(due)
        self._felt.took.append(now - due)
        self._felt.failed += not is_ok


async def ask_politely(
    server: ServerProcess, request: bytes, *, seconds: float, new_every: int | None = None
) -> Felt:
    """Ask for `seconds` at `RATE`, each `new_every`th request on a new connection, the others on one.

    Returns at most 2 s later; what is not answered by then has failed.
    """
    cpu, began = server.cpu_seconds(), time.monotonic()
    schedule = [began + number / RATE for number in range(round(seconds * RATE))]
    on_new = set(schedule[::new_every]) if new_every else set()
    caller = _PoliteCaller(server.port, request, schedule)
    tasks = [asyncio.create_task(caller.ask_on_new(due)) for due in on_new]
    tasks.append(asyncio.create_task(caller.ask_on_one([due for due in schedule if due not in on_new])))
    _, late = await asyncio.wait(tasks, timeout=seconds + _GRACE)
    felt = caller.give_up()
    felt.server_busy = (server.cpu_seconds() - cpu) / (time.monotonic() - began)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return felt
