"""daemon_threads: so many calls at a time, a line that ends, and a process that ends all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import OverloadError
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Gate:
    """Calls that wait until they are let go."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self.inside = 0
        self.most_inside = 0

    def call(self, result: str) -> Callable[[], str]:
        """Return a call that gives `result` once the gate is open."""

        def wait() -> str:
            with self._lock:
                self.inside += 1
                self.most_inside = max(self.most_inside, self.inside)
            self._opened.wait(30)
            with self._lock:
                self.inside -= 1
            return result

        return wait

    def open(self) -> None:
        """Let all go, now and from now on."""
        self._opened.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def _threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


async def test_a_call_gives_its_result_or_raises() -> None:
    """As if it had been made here."""
    threads = DaemonThreads("t", most=1, longest_line=0)
    assert await threads.run(lambda: 7) == 7
    with pytest.raises(ValueError, match="x"):
        await threads.run(lambda: int("x"))


async def test_threads_end_when_there_is_nothing_to_do() -> None:
    """A provider that a reload has replaced leaves nothing behind."""
    threads = DaemonThreads("ending", most=4, longest_line=9)
    assert await asyncio.gather(*(threads.run(lambda: 1) for _ in range(8))) == [1] * 8
    await wait_until(lambda: _threads("ending") == 0, "no thread is left")


async def test_no_more_at_a_time_than_said(gate: Gate) -> None:
    """The rest waits in line and gets its turn."""
    threads = DaemonThreads("t", most=3, longest_line=9)
    calls = [asyncio.create_task(threads.run(gate.call(str(number)))) for number in range(9)]
    await wait_until(lambda: gate.inside == 3, "three are inside")
    gate.open()
    assert await asyncio.gather(*calls) == [str(number) for number in range(9)]
    assert gate.most_inside == 3


async def test_a_line_that_is_full(gate: Gate) -> None:
    """Who finds it so is told at once."""
    threads = DaemonThreads("full", most=1, longest_line=1)
    inside, waiting = (asyncio.create_task(threads.run(gate.call(who))) for who in ("a", "b"))
    await wait_until(lambda: gate.inside == 1, "the first is inside")
    with pytest.raises(OverloadError, match="full: 1 calls under way and 1 waiting"):
        await threads.run(gate.call("c"))
    gate.open()
    assert list(await asyncio.gather(inside, waiting)) == ["a", "b"]


async def test_who_gives_up_leaves_the_line(gate: Gate) -> None:
    """Their place is free, and their call is never made."""
    made: list[str] = []
    threads = DaemonThreads("t", most=1, longest_line=1)
    inside = asyncio.create_task(threads.run(gate.call("a")))
    await wait_until(lambda: gate.inside == 1, "the first is inside")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.run(lambda: made.append("b")), 0.01)
    third = asyncio.create_task(threads.run(lambda: made.append("c")))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(inside, third)
    assert made == ["c"]


async def test_calls_that_hang_count_until_they_come_back(gate: Gate) -> None:
    """When all hang nobody waits for them in vain; when one is back, all goes on."""
    threads = DaemonThreads("hung", most=2, longest_line=9)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(threads.run(gate.call("late")), 0.05)
    with pytest.raises(OverloadError, match="hung: 2 earlier calls hang"):
        await threads.run(gate.call("next"))
    gate.open()
    await wait_until(lambda: _threads("hung") == 0, "both are back")
    assert await threads.run(gate.call("next")) == "next"


async def test_one_that_hangs_does_not_block_others(gate: Gate) -> None:
    """There is a second thread."""
    threads = DaemonThreads("t", most=2, longest_line=9)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.run(gate.call("late")), 0.05)
    assert [await threads.run(lambda: "on") for _ in range(3)] == ["on"] * 3


def test_any_event_loop() -> None:
    """One object serves loops that come and go, as the library's callers have them."""
    threads = DaemonThreads("t", most=1, longest_line=1)
    assert [asyncio.run(threads.run(lambda: "here")) for _ in range(3)] == ["here"] * 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later
def test_a_forked_process_has_threads_of_its_own(gate: Gate) -> None:
    """What hangs in the parent does not count in the child, which has none of its threads."""
    threads = DaemonThreads("t", most=1, longest_line=0)
    future = threads.submit(gate.call("parent"))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if threads.submit(lambda: "child").result(10) == "child" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.open()
    assert future.result(30) == "parent"


PROGRAM = """
import asyncio, threading
from imds_proxy.daemon_threads import DaemonThreads

async def main():
    threads = DaemonThreads("t", most=1, longest_line=0)
    try:
        await asyncio.wait_for(threads.run(threading.Event().wait), 0.05)
    except TimeoutError:
        print("given up", flush=True)

asyncio.run(main())
"""


def test_a_call_that_hangs_keeps_no_process() -> None:
    """The process ends with its program; the call would have gone on for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "given up\n", "")
