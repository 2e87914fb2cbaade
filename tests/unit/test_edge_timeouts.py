"""Timeouts of connections, in virtual time: one timer for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web.edge.timeouts import SWEEP_SECONDS, Timeouts
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.web.edge.connection import Connection

TOLERANCE = 1e-6


class Timed:
    """Connection as the timeouts see it; it notes when its time was over."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.queue: dict[Connection, float] | None = None
        self.ended_at: list[float] = []

    def time_out(self) -> None:
        """Note it."""
        self.ended_at.append(asyncio.get_running_loop().time())

    @property
    def itself(self) -> Connection:
        """The same, as a connection."""
        return cast("Connection", self)


class CountedTimers:
    """The timers of a loop, counted; the loop is the test's own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.started = 0

    @property
    def pending(self) -> int:
        """How many timers the loop holds that were not cancelled."""
        handles: list[asyncio.TimerHandle] = self._loop._scheduled  # type: ignore[attr-defined]
        return sum(not handle.cancelled() for handle in handles)


async def ends_in(*starts: tuple[float, float]) -> list[float]:
    """Return how long each connection stayed of those begun after a pause (seconds) with so many seconds."""
    timeouts, begun = Timeouts(), []
    loop = asyncio.get_running_loop()
    for pause, seconds in starts:
        await asyncio.sleep(pause)
        begun.append((Timed(), loop.time()))
        timeouts.start(begun[-1][0].itself, seconds)
    await asyncio.sleep(sum(seconds for _, seconds in starts) + 1)
    return [connection.ended_at[0] - start for connection, start in begun if len(connection.ended_at) == 1]


@in_virtual_time
async def test_each_has_its_time() -> None:
    """A connection ends when its time is over, and once."""
    assert await ends_in((0, 10)) == pytest.approx([10])
    assert await ends_in((0, 10), (1, 10), (1, 10)) == pytest.approx([10, 10, 10])


@in_virtual_time
async def test_an_earlier_end_that_is_added_later() -> None:
    """The timer is set to the earliest end, also when that is added last."""
    assert await ends_in((0, 75), (1, 10), (1, 2)) == pytest.approx([75, 10, 2])


@in_virtual_time
async def test_started_again_and_stopped() -> None:
    """The last word counts: a connection that is started again has its time anew, a stopped one stays."""
    timeouts, again, stopped = Timeouts(), Timed(), Timed()
    start = asyncio.get_running_loop().time()
    for _ in range(5):
        timeouts.start(again.itself, 10)
        timeouts.start(stopped.itself, 10)
        await asyncio.sleep(9)
    timeouts.start(again.itself, 2)
    timeouts.stop(stopped.itself)
    timeouts.stop(stopped.itself)
    await asyncio.sleep(1000)
    assert [at - start for at in again.ended_at] == pytest.approx([47])
    assert stopped.ended_at == []
    assert stopped.queue is None


@in_virtual_time
async def test_in_their_order() -> None:
    """Those with equally long end in the order in which they were started."""
    timeouts, order = Timeouts(), list[str]()

    class Named(Timed):
        def time_out(self) -> None:
            order.append(self.name)

    connections = {name: Named(name) for name in "abcdef"}
    for name in "abcdef":
        timeouts.start(connections[name].itself, 10)
        await asyncio.sleep(0.01)
    timeouts.start(connections["b"].itself, 10)
    first = timeouts.first(10)
    assert first is not None
    assert cast("Timed", first[0]).name == "a"
    assert first[1] == pytest.approx(0.06)
    await asyncio.sleep(100)
    assert order == list("acdefb")
    assert timeouts.first(10) is None
    assert timeouts.first(3) is None


@in_virtual_time
async def test_one_timer_for_all() -> None:
    """However many connections there are, the loop has one timer, and few turns are taken for them."""
    timeouts, timers = Timeouts(), CountedTimers()
    connections = [Timed() for _ in range(5000)]
    for number, connection in enumerate(connections):
        timeouts.start(connection.itself, (2.0, 10.0, 75.0)[number % 3])
    assert timers.pending == 1
    for connection in connections[::2]:
        timeouts.start(connection.itself, 75.0)
    assert timers.pending == 1
    for connection in connections:
        timeouts.stop(connection.itself)
    await asyncio.sleep(200)
    assert timers.pending == 0
    assert not any(connection.ended_at for connection in connections)


@in_virtual_time
async def test_few_looks() -> None:
    """Ends that lie close together are taken in one look, so no end is later than that by more."""
    timeouts, loop = Timeouts(), asyncio.get_running_loop()
    connections = []
    for _ in range(1000):
        connections.append((Timed(), loop.time() + 10))
        timeouts.start(connections[-1][0].itself, 10)
        await asyncio.sleep(0.001)
    await asyncio.sleep(20)
    moments = {at for connection, _ in connections for at in connection.ended_at}
    assert len(moments) <= 1 + round(1 / SWEEP_SECONDS) + 1
    late = [connection.ended_at[0] - due for connection, due in connections]
    assert min(late) >= -TOLERANCE
    assert max(late) <= SWEEP_SECONDS + TOLERANCE


@in_virtual_time
async def test_a_connection_that_starts_another() -> None:
    """The end of one connection may start and stop the times of others."""
    timeouts, other = Timeouts(), Timed()
    start = asyncio.get_running_loop().time()

    class Starter(Timed):
        def time_out(self) -> None:
            super().time_out()
            timeouts.start(other.itself, 2)
            timeouts.stop(third.itself)

    first, third = Starter(), Timed()
    timeouts.start(first.itself, 2)
    timeouts.start(third.itself, 75)
    await asyncio.sleep(100)
    assert [at - start for at in other.ended_at] == pytest.approx([4])
    assert third.ended_at == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "stop", "wait"]),
        st.integers(0, 5),
        st.sampled_from([2.0, 10.0, 75.0]),
    ),
    max_size=40,
)


@given(steps=steps)
def test_any_order(steps: list[tuple[str, int, float]]) -> None:
    """Each connection ends once for its last start, in time, and never after a stop."""

    def note_end(due: dict[int, float], number: int) -> Callable[[], None]:
        def end() -> None:
            late = asyncio.get_running_loop().time() - due.pop(number)
            assert -TOLERANCE <= late <= SWEEP_SECONDS + TOLERANCE

        return end

    @in_virtual_time
    async def run() -> None:
        timeouts, due, loop = Timeouts(), dict[int, float](), asyncio.get_running_loop()
        connections = [Timed() for _ in range(6)]
        for number, connection in enumerate(connections):
            connection.time_out = note_end(due, number)  # type: ignore[method-assign]
        for step, number, seconds in steps:
            if step == "start":
                timeouts.start(connections[number].itself, seconds)
                due[number] = loop.time() + seconds
            elif step == "stop":
                timeouts.stop(connections[number].itself)
                due.pop(number, None)
            else:
                await asyncio.sleep(seconds / 3)
        await asyncio.sleep(100)
        assert due == {}

    run()
