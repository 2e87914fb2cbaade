"""Item `cold`: the arrival rate of new callers at which 99 % of first rounds come through."""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report
from bench.callers import ROLE_COUNT, caller_address
from bench.daemon import daemon, stand_ins
from bench.machine import Scale
from bench.processes import python_module, running
from bench.rounds import STEPS, Round, first_round, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from bench.daemon import Session

_WANTED = 0.99
_LONGEST_TAIL = 30.0  # the last round needs 3 s at most; more is a load that can't keep up
_CEILING_ROUNDS = 4_000
_CEILING_CALLERS = 64


@dataclass(frozen=True, slots=True)
class _Plan:
    seconds: float
    first_rate: int
    lowest_rate: int
    highest_rate: int
    resolution: float
    """The search ends when the rates that pass and fail are this close."""


_PLANS = {
    Scale.FULL: _Plan(seconds=5.0, first_rate=200, lowest_rate=50, highest_rate=6400, resolution=1.1),
    Scale.QUICK: _Plan(seconds=2.0, first_rate=400, lowest_rate=100, highest_rate=3200, resolution=1.3),
}


@dataclass(frozen=True, slots=True)
class _Step:
    """What became of the callers that arrived at one rate."""

    rate: int
    rounds: list[Round]
    lateness: float
    """Seconds by which 99 % of the callers at most were behind the schedule: the load's own lag."""
    server_busy: float
    load_busy: float
    assumed: int

    @property
    def success(self) -> float:
        return sum(each.is_success for each in self.rounds) / len(self.rounds)


async def run(scale: Scale) -> None:
    """Search and print, for shared and for per-caller sessions."""
    plan = _PLANS[scale]
    report.write_heading(
        "cold: first rounds of new callers, arriving on a fixed schedule",
        f"TOKEN, LIST, ROLE on one connection, 1 s each, no retry; {ROLE_COUNT} roles, STS takes 40 ms; "
        f"{plan.seconds:g} s a rate, each on a daemon of its own that has served one caller.",
    )
    await _report_ceiling()
    sessions: tuple[Session, ...] = ("shared", "per-caller")
    for session in sessions:
        report.write(f"session: {session}")
        table = _table()
        steps = await _search(plan, partial(_arrive_at_daemon, plan, session))
        for step in sorted(steps, key=lambda step: step.rate):
            _add_row(table, step)
        table.write()
        passed = [step.rate for step in steps if step.success >= _WANTED]
        report.write(f"99 % of first rounds succeed up to {max(passed, default=0)} callers/s\n")


async def _search(plan: _Plan, measure: Callable[[int], Coroutine[None, None, _Step]]) -> list[_Step]:
    steps: list[_Step] = []
    rate: int | None = plan.first_rate
    while rate is not None:
        steps.append(await measure(rate))
        passed = max((step.rate for step in steps if step.success >= _WANTED), default=None)
        failed = min((step.rate for step in steps if step.success < _WANTED), default=None)
        rate = _next_rate(plan, passed, failed)
    return steps


def _next_rate(plan: _Plan, passed: int | None, failed: int | None) -> int | None:
    """Return the rate to try next, None when the highest that passes and the lowest that fails are close.

    Doubles until one fails, then halves the gap on a logarithmic scale. A machine in a mood may pass at
    a rate above one that failed: the search then ends there too.
    """
    if passed is None:
        assert failed is not None
        return failed // 2 if failed >= plan.lowest_rate * 2 else None
    if failed is None:
        return passed * 2 if passed * 2 <= plan.highest_rate else None
    return round(math.sqrt(passed * failed)) if failed > passed * plan.resolution else None


async def _arrive_at_daemon(plan: _Plan, session: Session, rate: int) -> _Step:
    async with stand_ins() as behind, daemon(behind, session=session) as server:
        # The very first caller waits for boto3 to be imported: that is `footprint`'s to tell.
        await serve(server.port, "127.0.0.1")
        calls = behind.sts.call_count
        cpu, own_cpu, began = server.cpu_seconds(), time.process_time(), time.perf_counter()
        rounds, late = await _arrive(server.port, rate, plan.seconds)
        elapsed = time.perf_counter() - began
        return _Step(
            rate,
            rounds,
            report.percentile(late, 99),
            (server.cpu_seconds() - cpu) / elapsed,
            (time.process_time() - own_cpu) / elapsed,
            behind.sts.call_count - calls,
        )


async def _arrive(port: int, rate: int, seconds: float) -> tuple[list[Round], list[float]]:
    """Start a round every 1/rate seconds whatever becomes of the earlier ones; return all, and the lags."""
    tasks: list[asyncio.Task[Round]] = []
    late: list[float] = []
    began = time.perf_counter()
    for index in range(round(rate * seconds)):
        due = began + index / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - due))
        tasks.append(asyncio.create_task(first_round(port, caller_address(index))))
    async with asyncio.timeout(_LONGEST_TAIL):
        return list(await asyncio.gather(*tasks)), late


async def _report_ceiling() -> None:
    """Print how many rounds per second the load makes when the server does next to nothing."""
    with tempfile.TemporaryDirectory(prefix="imds-proxy-bench-") as folder:
        command = python_module("bench.canned_server")
        async with running("canned", command, log=Path(folder) / "log") as server:
            indices = iter(range(_CEILING_ROUNDS))
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(_CEILING_CALLERS):
                    group.create_task(_ask_one_by_one(server.port, indices))
            rate = _CEILING_ROUNDS / (time.perf_counter() - began)
    report.write(f"the load's own ceiling, against a server of fixed bytes: {rate:.0f} rounds/s\n")


async def _ask_one_by_one(port: int, indices: Iterator[int]) -> None:
    for index in indices:
        await first_round(port, caller_address(index))


def _table() -> report.Table:
    columns = ["callers/s", "success", *(f"{step} p50/p99 ms" for step in STEPS)]
    return report.Table((*columns, "AssumeRoles", "server busy", "load busy", "load late p99 ms", "failures"))


def _add_row(table: report.Table, step: _Step) -> None:
    latencies = []
    for position, _ in enumerate(STEPS):
        took = [each.took[position] for each in step.rounds if len(each.took) > position]
        latencies.append("/".join(report.milliseconds(report.percentile(took, p)) for p in (50, 99)))
    failures = Counter(each.failure for each in step.rounds if not each.is_success)
    table.add(
        step.rate,
        f"{step.success:.2%}",
        *latencies,
        step.assumed,
        f"{step.server_busy:.0%}",
        f"{step.load_busy:.0%}",
        report.milliseconds(step.lateness),
        ", ".join(f"{count} {failure}" for failure, count in failures.most_common(3)) or "-",
    )
