"""Item `crowd`: thousands of new callers that start at the same moment, as after a power cut."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report
from bench.callers import ROLE_COUNT, caller_address
from bench.daemon import daemon, stand_ins
from bench.machine import Scale, raise_file_limit
from bench.processes import python_module, running
from bench.rounds import PatientCaller, serve

if TYPE_CHECKING:
    from bench.daemon import Session

_CALLERS = {Scale.FULL: 10_000, Scale.QUICK: 2_000}
_LIMIT = 60.0
_SPARE_FILES = 500


async def run(scale: Scale) -> None:
    """Let them start, and print when they were served, for shared and for per-caller sessions."""
    count = min(_CALLERS[scale], raise_file_limit() - _SPARE_FILES)
    report.write_heading(
        f"crowd: {count} new callers at the same moment",
        f"TOKEN, LIST, ROLE; 1 s for each answer, after a 503 or a time-out again 1 s later; "
        f"{ROLE_COUNT} roles, STS takes 40 ms; given up after {_LIMIT:.0f} s.",
    )
    table = report.Table(
        ("", "served", "half by s", "99 % by s", "all by s", "server CPU s", "AssumeRoles", "questions")
    )
    again = (
        await _meet_fixed_bytes(table, count),
        await _meet_daemon(table, count, "shared"),
        await _meet_daemon(table, count, "per-caller"),
    )
    table.write()
    report.write("\n".join(again))


async def _meet_fixed_bytes(table: report.Table, count: int) -> str:
    """Measure the load alone: no crowd of this program's gets through faster than that."""
    with tempfile.TemporaryDirectory(prefix="imds-proxy-bench-") as folder:
        command = python_module("bench.canned_server")
        async with running("canned", command, log=Path(folder) / "log") as server:
            crowd = _Crowd(server.port, count)
            await crowd.start()
            return crowd.add_row(table, "fixed bytes", f"{server.cpu_seconds():.1f}", "-", "-")


async def _meet_daemon(table: report.Table, count: int, session: Session) -> str:
    async with stand_ins() as behind, daemon(behind, session=session) as server:
        await serve(server.port, "127.0.0.1")
        cpu, calls, questions = server.cpu_seconds(), behind.sts.call_count, behind.names.question_count
        crowd = _Crowd(server.port, count)
        await crowd.start()
        return crowd.add_row(
            table,
            session,
            f"{server.cpu_seconds() - cpu:.1f}",
            str(behind.sts.call_count - calls),
            str(behind.names.question_count - questions),
        )


class _Crowd:
    """The callers, and how many seconds after the start each was served."""

    def __init__(self, port: int, count: int) -> None:
        self._callers = [PatientCaller(port, caller_address(index)) for index in range(count)]
        self.served_after: list[float] = []

    async def start(self) -> None:
        """Let all start at once and wait until all are served or the time is up."""
        began = time.perf_counter()
        tasks = [asyncio.create_task(self._serve(caller, began)) for caller in self._callers]
        _, late = await asyncio.wait(tasks, timeout=_LIMIT)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add_row(self, table: report.Table, name: str, *counts: str) -> str:
        """Add what became of the crowd; return in words what made callers ask again."""
        times, count = self.served_after, len(self._callers)
        by = [f"{report.percentile(times, percent):.2f}" for percent in (50, 99)]
        table.add(
            name, f"{len(times)}/{count}", *by, f"{max(times):.2f}" if len(times) == count else "-", *counts
        )
        failures = Counter(failure for caller in self._callers for failure in caller.failures)
        listed = ", ".join(f"{number} {what}" for what, number in failures.most_common(6))
        return f"asked again ({name}): {listed or 'nobody'}"

    async def _serve(self, caller: PatientCaller, began: float) -> None:
        await caller.serve()
        self.served_after.append(time.perf_counter() - began)
