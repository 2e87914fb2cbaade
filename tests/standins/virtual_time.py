"""An event loop whose time is made up: when all wait, it jumps to the next timer. Nobody waits for real.

    @in_virtual_time
    async def test_a_renewal() -> None:
        clock = VirtualClock()
        await asyncio.sleep(1800)  # half an hour, at once

Timers that the code under test starts go off at their time and in their order, so what a test asserts is
which answer comes, and never how long a machine took for it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

from imds_proxy.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FIRST_WALL = 1_800_000_000.0
"""2027-01-15T08:00:00Z: the wall clock when a loop begins."""

_FIRST_MONOTONIC = 50_000.0
_LONGEST_REAL_WAIT = 10.0
_GLANCE = 0.01

Arguments = ParamSpec("Arguments")


class _JumpingSelector(selectors.SelectSelector):
    """Instead of sleeping until the next timer, says that the time has passed."""

    now = _FIRST_MONOTONIC
    has_real_work: Callable[[], bool] = staticmethod(lambda: False)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(_LONGEST_REAL_WAIT if timeout is None else 0)
        end = time.monotonic() + _LONGEST_REAL_WAIT
        while timeout and not events and self.has_real_work() and time.monotonic() < end:
            events = super().select(_GLANCE)
        if timeout is None and not events:
            raise AssertionError("all wait, and for nothing that could ever happen")
        if timeout is not None and not events:
            self.now += max(timeout, 0)
        return events


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class VirtualClock:
    """The clocks of the virtual loop it is made in. `wall_error` sets the wall clock wrong, in seconds."""

    def __init__(self) -> None:
        self.wall_error = 0.0
        self._loop = asyncio.get_running_loop()

    def stand_still_while(self, has_real_work: Callable[[], bool]) -> None:
        """Let no timer go off while a thread is at work for the loop: it takes no virtual time."""
        assert isinstance(self._loop, _VirtualLoop)
        self._loop.jumping.has_real_work = has_real_work

    def monotonic(self) -> float:
        """Return the loop's own seconds, which its timers go by."""
        return self._loop.time()

    def wall(self) -> float:
        """Return the seconds UTC since 1970."""
        return FIRST_WALL + self.monotonic() - _FIRST_MONOTONIC + self.wall_error

    def clock(self) -> Clock:
        """Return both as the program takes them."""
        return Clock(wall=self.wall, monotonic=self.monotonic)


def virtual_runner() -> asyncio.Runner:
    """Return a runner of coroutines whose time is virtual and goes on from one run to the next."""
    return asyncio.Runner(loop_factory=_VirtualLoop)


def in_virtual_time(test: Callable[Arguments, Coroutine[None, None, None]]) -> Callable[Arguments, None]:
    """Let a test run on a loop of its own whose time is virtual."""

    @wraps(test)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> None:
        with virtual_runner() as runner:
            runner.run(test(*arguments, **named))

    return run
