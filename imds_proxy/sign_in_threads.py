"""Threads for the console's sign-in endpoint: machines never wait for it, nor people for one of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.turn_queue import Bounds, Lane, TurnQueue

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 16
THREADS_PER_PERSON = 2
LONGEST_QUEUE = 1024
LONGEST_QUEUE_PER_PERSON = 64

Result = TypeVar("Result")

_PEOPLE = "people"
_BOUNDS = Bounds(
    lanes={
        _PEOPLE: Lane(places=THREADS, per_network=THREADS_PER_PERSON, per_caller=THREADS_PER_PERSON),
    },
    places=THREADS,
    longest=LONGEST_QUEUE,
    longest_per_network=LONGEST_QUEUE_PER_PERSON,
    complaint="too many console URLs are asked for",
)


class SignInThreads:
    """Threads for calls that block, shared out among people."""

    def __init__(self) -> None:
        self._queue = TurnQueue(_BOUNDS)
        self._pool = DaemonThreads("sign-in", most=THREADS, longest_line=THREADS)
        self._calls: set[asyncio.Task[object]] = set()

    @property
    def line(self) -> int:
        """How many calls are in progress or wait for their turn."""
        return self._queue.length

    async def run(self, person: str, call: Callable[[], Result]) -> Result:
        """Return what `call` returns on a thread, when it is this person's turn.

        If the caller stops waiting, a call that has begun keeps its place until it ends: nothing can
        interrupt a thread. Raises OverloadError when too many wait.
        """
        begun = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._run(person, call, begun))
        self._calls.add(task)
        task.add_done_callback(self._note_end)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun.is_set():
                task.cancel()
            raise

    async def _run(self, person: str, call: Callable[[], Result], begun: asyncio.Event) -> Result:
        async with self._queue.place(self._queue.enter(person, _PEOPLE)):
            begun.set()
            return await self._pool.run(call)

    def _note_end(self, task: asyncio.Task[object]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may no longer wait for it
