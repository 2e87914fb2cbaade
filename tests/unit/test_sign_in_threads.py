"""sign_in_threads: what one person asks for takes nothing from others, and ends when its thread does."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from imds_proxy.errors import AWSError, OverloadError
from imds_proxy.sign_in_threads import SignInThreads
from tests.standins.waiting import wait_until

PER_PERSON = 2
QUEUE_OF_A_PERSON = 64


class Endpoint:
    """An endpoint that answers when it is told to. `asked` has who asks now."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def answer(self, user: str) -> str:
        """Return an answer, on a thread."""
        self.asked.append(user)
        assert self.go.wait(20)
        return user


async def test_one_person_has_two_threads() -> None:
    """64 console URLs of one person: two are asked for at a time, and everybody else's at once."""
    threads, endpoint = SignInThreads(), Endpoint()
    tries = [asyncio.create_task(threads.run("alice", partial(endpoint.answer, "alice"))) for _ in range(64)]
    await wait_until(lambda: len(endpoint.asked) == PER_PERSON, "alice has her threads")
    others = [f"person{number}" for number in range(14)]
    tries += [asyncio.create_task(threads.run(one, partial(endpoint.answer, one))) for one in others]
    await wait_until(lambda: set(others) <= set(endpoint.asked), "the others have theirs")
    assert endpoint.asked.count("alice") == PER_PERSON
    assert threads.line == 64 + 14
    endpoint.go.set()
    assert len(await asyncio.gather(*tries)) == 64 + 14
    assert threads.line == 0


async def test_who_stops_waiting() -> None:
    """A call on a thread keeps its person's place until it ends; one that waits leaves and is never made."""
    threads, endpoint = SignInThreads(), Endpoint()
    tries = [asyncio.create_task(threads.run("alice", partial(endpoint.answer, "alice"))) for _ in range(4)]
    await wait_until(lambda: len(endpoint.asked) == PER_PERSON, "alice has her threads")
    for one in tries:
        one.cancel()
    await asyncio.gather(*tries, return_exceptions=True)
    assert threads.line == PER_PERSON
    late = asyncio.create_task(threads.run("alice", partial(endpoint.answer, "alice")))
    (other,) = [asyncio.create_task(threads.run("bob", partial(endpoint.answer, "bob")))]
    await wait_until(lambda: "bob" in endpoint.asked, "bob has a thread")
    assert endpoint.asked.count("alice") == PER_PERSON
    endpoint.go.set()
    assert set(await asyncio.gather(late, other)) == {"alice", "bob"}
    await wait_until(lambda: threads.line == 0, "all places are free")
    assert endpoint.asked.count("alice") == PER_PERSON + 1


@pytest.mark.parametrize("turns", range(4))
async def test_who_stops_waiting_at_once(turns: int) -> None:
    """However far it has come by then, nothing is left of it in the end."""
    threads, endpoint = SignInThreads(), Endpoint()
    one = asyncio.create_task(threads.run("alice", partial(endpoint.answer, "alice")))
    for _ in range(turns):
        await asyncio.sleep(0)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    endpoint.go.set()
    await wait_until(lambda: threads.line == 0, "all places are free")
    assert await threads.run("alice", partial(endpoint.answer, "alice")) == "alice"


async def test_a_person_s_queue_is_full() -> None:
    """Further calls of this person are refused, with nothing asked; nobody else's are."""
    threads, endpoint = SignInThreads(), Endpoint()
    tries = [
        asyncio.create_task(threads.run("alice", partial(endpoint.answer, "alice")))
        for _ in range(QUEUE_OF_A_PERSON + 3)
    ]
    await wait_until(lambda: sum(one.done() for one in tries) == 3, "three are refused")
    refused = [one.exception() for one in tries if one.done()]
    assert all(isinstance(error, OverloadError) for error in refused)
    endpoint.go.set()
    assert await threads.run("bob", partial(endpoint.answer, "bob")) == "bob"
    await asyncio.gather(*tries, return_exceptions=True)
    assert endpoint.asked.count("alice") == QUEUE_OF_A_PERSON


async def test_an_error_comes_back() -> None:
    """As it was raised, and the place is free again."""
    threads = SignInThreads()

    def fail() -> None:
        raise AWSError("no", code="No")

    for _ in range(3):
        with pytest.raises(AWSError):
            await threads.run("alice", fail)
    assert threads.line == 0
