"""Item `renewal`: sessions that all fall due together, and what a warm caller feels of it."""

from __future__ import annotations

import asyncio
import json
import time
from calendar import timegm
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from math import floor
from typing import TYPE_CHECKING

from bench import report
from bench.client import connect
from bench.daemon import daemon, stand_ins
from bench.machine import Scale
from bench.rounds import Served, serve, serve_fleet
from bench.sts_stand_in import an_hour_from_now
from bench.wire import LIST_PATH, Answer, get_request

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROMISED = 25 * 60
"""Seconds to live that every hand-out should have while STS answers."""
_SPREAD = _PROMISED // 10
"""Sessions of less than an hour are renewed 25 minutes before their end, or up to 10 % earlier."""
_SPANS = 10


@dataclass(frozen=True, slots=True)
class _Plan:
    sessions: int
    filling: float
    """Seconds for all first rounds; what they don't need is added to the quiet time."""
    quiet: float
    """Seconds between the first rounds and the first renewal."""
    watched: float
    """Seconds of renewals watched; all of them take _SPREAD and a little."""
    polite_rate: float
    """Requests per second of the warm caller whose latency is reported."""
    asked_every: float
    """Seconds between two ROLEs of each session: only what is asked for is renewed."""


_PLANS = {
    Scale.FULL: _Plan(
        2_000, filling=15.0, quiet=25.0, watched=_SPREAD + 5.0, polite_rate=100.0, asked_every=30.0
    ),
    Scale.QUICK: _Plan(300, filling=4.0, quiet=6.0, watched=20.0, polite_rate=100.0, asked_every=8.0),
}


@dataclass(slots=True)
class _Watch:
    """What the callers saw."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    """(when on time.monotonic, seconds until the answer) of the polite caller."""
    least_life: float = float("inf")
    """Seconds to live of the shortest-lived credentials that anybody was handed."""
    answers: int = 0
    failures: int = 0

    def note_document(self, answer: Answer) -> None:
        """Judge an answer to ROLE."""
        self.answers += 1
        if answer.status != 200:
            self.failures += 1
            return
        ends = timegm(time.strptime(json.loads(answer.body)["Expiration"], "%Y-%m-%dT%H:%M:%SZ"))
        self.least_life = min(self.least_life, ends - time.time())

    def between(self, start: float, end: float) -> list[float]:
        """Return the polite caller's latencies in a span of time."""
        return [took for when, took in self.latencies if start <= when < end]


async def run(scale: Scale) -> None:
    """Serve all sessions with one common end, wait for it to come near, and print."""
    plan = _PLANS[scale]
    report.write_heading(
        f"renewal: {plan.sessions} sessions that end at the same second",
        f"STS gives them {(_PROMISED + _SPREAD) / 60:g} minutes and a little, so that renewals (25 minutes "
        f"before the end, up to 10 % earlier) fall into {_SPREAD} s, of which {min(plan.watched, _SPREAD):g} "
        f"are watched; each session is asked for every {plan.asked_every:g} s; one polite warm caller at "
        f"{plan.polite_rate:g} requests/s.",
    )
    async with stand_ins() as behind, daemon(behind, session="per-caller") as server:
        polite = await serve(server.port, "127.0.0.1")
        # STS tells ends in whole seconds.
        common_end = round(time.time() + plan.filling + plan.quiet + _SPREAD + _PROMISED)
        first_due = time.monotonic() + (common_end - _SPREAD - _PROMISED - time.time())
        behind.sts.expiry_of = lambda: common_end
        fleet = await serve_fleet(server.port, plan.sessions)
        behind.sts.expiry_of = an_hour_from_now
        filled = time.monotonic()
        watch = _Watch()
        end = first_due + plan.watched
        async with asyncio.TaskGroup() as group:
            group.create_task(_ask_politely(server.port, polite, watch, 1 / plan.polite_rate, end))
            group.create_task(_ask_for_fleet(server.port, fleet, watch, plan.asked_every, end))
    renewals = [called - first_due for called in behind.sts.call_times if called >= filled]
    _write_results(watch, renewals, quiet=(filled, first_due), due=(first_due, end))


async def _ask_politely(port: int, served: Served, watch: _Watch, pause: float, end: float) -> None:
    """Ask on a fixed schedule; an answer that comes late counts from when its request was due."""
    connection = await connect(port)
    request = get_request(port, LIST_PATH + served.role, served.token)
    due = time.monotonic()
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        answer = await connection.ask(request)
        watch.latencies.append((due, time.monotonic() - due))
        watch.note_document(answer)
        due += pause
    connection.close()


async def _ask_for_fleet(
    port: int, fleet: Sequence[tuple[str, Served]], watch: _Watch, every: float, end: float
) -> None:
    """Ask for one session after the other, all of them once in `every` seconds, as unhurried SDKs do."""
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for source, served in cycle(fleet):
            if due >= end:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(_ask_once(port, source, served, watch))
            due += every / len(fleet)


async def _ask_once(port: int, source: str, served: Served, watch: _Watch) -> None:
    connection = await connect(port, source)
    watch.note_document(await connection.ask(get_request(port, LIST_PATH + served.role, served.token)))
    connection.close()


def _write_results(
    watch: _Watch,
    renewals: Sequence[float],
    quiet: tuple[float, float],
    due: tuple[float, float],
) -> None:
    span = _SPREAD / _SPANS
    table = report.Table(("seconds after the first may begin", "renewals"))
    spans = Counter(floor(when / span) for when in renewals)
    for number in range(min(spans, default=0), max(spans, default=0) + 1):
        table.add(f"{number * span:4.0f} .. {(number + 1) * span:4.0f}", spans[number])
    table.write()
    busiest = max(Counter(floor(when) for when in renewals).values(), default=0)
    report.write(f"{len(renewals)} renewals, {busiest} in the busiest second\n")

    table = report.Table(("polite warm caller", "seconds", "requests", "p50 ms", "p99 ms", "most ms"))
    for name, (start, end) in (("quiet", quiet), ("renewals", due)):
        took = watch.between(start, end)
        figures = (report.milliseconds(report.percentile(took, percent)) for percent in (50, 99, 100))
        table.add(name, f"{end - start:.0f}", len(took), *figures)
    table.write()
    p99 = [report.percentile(watch.between(*span), 99) for span in (due, quiet)]
    report.write(f"p99 meanwhile / quiet: {p99[0] / p99[1]:.2f}")
    report.write(
        f"{watch.answers} hand-outs, {watch.failures} failed; the least life handed out: "
        f"{watch.least_life / 60:.2f} minutes"
    )
