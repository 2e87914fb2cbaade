"""Threads for what blocks and may hang: bounded, and none of them keeps the process from ending.

`concurrent.futures.ThreadPoolExecutor` waits for its threads when the interpreter ends, so one call that
hangs would keep a process alive.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from imds_proxy.errors import OverloadError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Shift:
    """The threads of one process, and those who wait for one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.running = 0
        self.line: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.abandoned: set[Future[Any]] = set()
        """Calls that run on though nobody waits for them any more."""


class DaemonThreads:
    """At most `most` threads, made when they are needed; they end when there is nothing to do.

    A call that hangs keeps its thread, and counts, until it comes back. Works on any event loop, from any
    thread, and in a forked process, which has none of its parent's threads.
    """

    def __init__(self, name: str, *, most: int, longest_line: int) -> None:
        self._name = name
        self._most = most
        self._longest_line = longest_line
        self._shift = _Shift()

    async def run(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, or raise what it raises, which can't be a StopIteration.

        Whoever stops waiting leaves the line; a call that runs by then runs on.
        Raises OverloadError when all threads hang or the line is full.
        """
        import asyncio  # here: `check` builds providers and asks none

        future = self.submit(function)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self.abandon(future)
            raise

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Return the future of a call, which runs now or when a thread is free. Raises OverloadError."""
        shift = self._current_shift()
        future: Future[T] = Future()
        with shift.lock:
            if shift.running >= self._most:
                self._wait_in_line(shift, function, future)
                return future
            shift.running += 1
        thread = threading.Thread(target=_work, args=(shift, function, future), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            with shift.lock:
                shift.running -= 1
            raise OverloadError(f"{self._name}: {error}") from error
        return future

    def abandon(self, future: Future[T]) -> None:
        """Give a call up: it leaves the line, or counts as one that hangs until it comes back."""
        shift = self._shift
        if future.cancel():
            return
        with shift.lock:
            if not future.done():
                shift.abandoned.add(future)

    def _current_shift(self) -> _Shift:
        if self._shift.pid != os.getpid():
            self._shift = _Shift()
        return self._shift

    def _wait_in_line(self, shift: _Shift, function: Callable[[], T], future: Future[T]) -> None:
        if len(shift.abandoned) >= self._most:
            raise OverloadError(f"{self._name}: {self._most} earlier calls hang")
        if len(shift.line) >= self._longest_line:
            waiting = [(other, its_future) for other, its_future in shift.line if not its_future.cancelled()]
            shift.line = deque(waiting)
        if len(shift.line) >= self._longest_line:
            raise OverloadError(f"{self._name}: {self._most} calls under way and {len(shift.line)} waiting")
        shift.line.append((function, future))


def _work(shift: _Shift, function: Callable[[], T], future: Future[T]) -> None:
    """Make the call, then those that wait in line; the thread ends with the line."""
    while True:
        if future.set_running_or_notify_cancel():
            _call(function, future)
        with shift.lock:
            shift.abandoned.discard(future)
            if not shift.line:
                shift.running -= 1
                return
            function, future = shift.line.popleft()


def _call(function: Callable[[], T], future: Future[T]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001  whoever waits gets it, and the thread goes on
        future.set_exception(error)
    else:
        future.set_result(result)
