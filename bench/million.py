"""Item `million`: memory while callers never seen before keep coming, with role sessions and without."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from bench import report
from bench.callers import CALLER_COUNT, caller_address
from bench.daemon import BY_IP, Session, daemon, stand_ins
from bench.machine import Scale
from bench.rounds import first_round, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AT_ONCE = 48
_LEGS = 10
_WHOLE_ROUNDS = 5
"""Every so manieth caller asks for LIST and ROLE as well: TOKEN alone already makes the daemon find out who
asks and keep what it found; the others make a million callers a matter of minutes."""

_SIMPLE: Mapping[str, object] = {
    "type": "simple",
    "grants": [{"callers": ["127.0.0.0/9"], "account": "main", "role": "bench-r000"}],
}
"""The lower half of the callers gets a role, the upper half a refusal."""


_COUNTS = {Scale.FULL: 1_000_000, Scale.QUICK: 10_000}
_WANTED = 350
"""MiB."""

_WIDTHS = (14, 7, 7, 9, 11, 50)


async def run(scale: Scale, *, count: int | None = None) -> None:
    """Send `count` callers, ten legs per provider, and print what the daemon holds after each."""
    count = count or _COUNTS[scale]
    report.write_heading(
        "million: memory over callers never seen before",
        f"Each has an address and a connection of its own and asks for a TOKEN, every {_WHOLE_ROUNDS}th for "
        "LIST and ROLE as well. by_ip: each has a name of its own, looked up and confirmed, and a role "
        "session of its own. Provider simple: half of them get a role, half are refused; they share one "
        f"session. Wanted: flat, and {_WANTED} MiB RSS at most.",
    )
    await _watch("by_ip", BY_IP, count, session="per-caller")
    await _watch("simple", _SIMPLE, count, session="shared")


async def _watch(name: str, provider: Mapping[str, object], count: int, *, session: Session) -> None:
    table = report.Table(("callers", "RSS MiB", "PSS MiB", "callers/s", "AssumeRoles", "outcomes"))
    async with stand_ins() as behind, daemon(behind, session=session, provider=provider) as server:
        await serve(server.port, "127.0.0.1")
        callers = _interleaved(count)
        for leg in range(_LEGS + 1):
            outcomes: Counter[str] = Counter()
            began = time.perf_counter()
            size = count // _LEGS if leg else 0
            await _send(server.port, callers, size, outcomes)
            memory = server.memory()
            rate = size / (time.perf_counter() - began)
            listed = ", ".join(f"{number} {what}" for what, number in outcomes.most_common(4))
            table.add(
                f"{name} {leg * count // _LEGS}",
                f"{memory.resident:.1f}",
                f"{memory.proportional:.1f}",
                f"{rate:.0f}" if leg else "-",
                behind.sts.call_count,
                listed or "-",
            )
            table.write_newest(_WIDTHS)
    report.write()


def _interleaved(count: int) -> Iterator[str]:
    """Return `count` addresses, from the lower and the upper half of the callers in turn."""
    upper = CALLER_COUNT // 2
    for index in range(count):
        half, position = index % 2, index // 2
        yield caller_address(half * upper + position)


async def _send(port: int, callers: Iterator[str], count: int, outcomes: Counter[str]) -> None:
    tickets = iter(range(count))

    async def send_some() -> None:
        for ticket in tickets:
            source = next(callers)
            if ticket % _WHOLE_ROUNDS:
                outcome = await first_round(port, source, steps=1)
                outcomes[outcome.failure or "TOKEN"] += 1
            else:
                outcome = await first_round(port, source)
                outcomes[outcome.failure or "served"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(send_some())
