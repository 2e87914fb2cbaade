"""turn_queue: whose call is dropped when all is full, and calls that several callers wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imds_proxy.errors import OverloadError
from imds_proxy.model import canonical_address
from imds_proxy.turn_queue import Bounds, Lane, TurnQueue, caller_network
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from imds_proxy.turn_queue import Caller, Turn

LANE = Lane(places=4, per_network=2, per_caller=1)
BOUNDS = Bounds(
    lanes={"new": LANE, "known": Lane(places=6, per_network=2, per_caller=1)},
    places=6,
    longest=20,
    longest_per_network=15,
    complaint="full",
)


class Call:
    """One call: it keeps its place until `end` is set."""

    def __init__(self, queue: TurnQueue, caller: Caller, lane: str) -> None:
        self.state = "waiting"
        self.end = asyncio.Event()
        self.turn: Turn = queue.enter(caller, lane)
        self.task = asyncio.create_task(self._run(queue))

    async def _run(self, queue: TurnQueue) -> None:
        try:
            async with queue.place(self.turn):
                self.state = "placed"
                await self.end.wait()
            self.state = "ended"
        except OverloadError:
            self.state = "dropped"


class Queue:
    """A queue with small bounds, and the calls in it."""

    def __init__(self) -> None:
        self.queue = TurnQueue(BOUNDS)
        self.calls: list[Call] = []

    async def enter(self, *callers: str, lane: str = "new") -> list[Call]:
        """Let calls come in this order and go as far as they can."""
        calls = [Call(self.queue, _caller(text), lane) for text in callers]
        self.calls += calls
        await settle()
        return calls

    def join(self, call: Call, caller: str, lane: str = "new") -> None:
        """Let a caller wait for another's call."""
        self.queue.join(call.turn, _caller(caller), lane)

    async def close(self) -> None:
        """Let all end. Afterwards nothing is held and nobody waits."""
        for call in self.calls:
            call.end.set()
        await asyncio.gather(*(call.task for call in self.calls), return_exceptions=True)
        assert (self.queue.length, self.queue.shares, self.queue.crowded) == (0, {}, {})
        assert set(self.queue.waiting.values()) == {0}


def _caller(text: str) -> Caller:
    try:
        return canonical_address(text)
    except ValueError:
        return text


async def settle() -> None:
    await asyncio.sleep(0.001)


def host(network: int, number: int) -> str:
    return f"2001:db8:0:{network:x}::{number:x}"


@in_virtual_time
async def test_the_network_with_the_most_loses_when_all_is_full() -> None:
    """Calls of other networks get in whatever two networks have queued, and lose nothing."""
    queue = Queue()
    attackers = await queue.enter(*(host(1, number) for number in range(12)))
    attackers += await queue.enter(*(host(2, number) for number in range(8)))
    assert queue.queue.length == BOUNDS.longest
    others = await queue.enter(*(host(3, number) for number in range(4)), "10.0.0.1", "alice")
    assert [call.state for call in others].count("dropped") == 0
    assert [call.state for call in attackers].count("dropped") == len(others)
    assert queue.queue.dropped == {"network": 0, "all": len(others)}
    assert queue.queue.length == BOUNDS.longest
    await queue.close()


@in_virtual_time
async def test_a_network_s_queue_is_bounded() -> None:
    """It drops its own, and is counted as that."""
    queue = Queue()
    calls = await queue.enter(*(host(1, number) for number in range(18)))
    assert [call.state for call in calls].count("dropped") == 3
    assert queue.queue.dropped == {"network": 3, "all": 0}
    await queue.close()


@in_virtual_time
async def test_a_person_is_a_network() -> None:
    """However many calls one person has queued, and however the login is spelled."""
    queue = Queue()
    calls = await queue.enter("alice", "ALICE", "Alice", "bob")
    assert [call.state for call in calls] == ["placed", "placed", "waiting", "placed"]
    assert caller_network("alice") != caller_network(canonical_address("10.0.0.1"))
    await queue.close()


@in_virtual_time
async def test_a_call_takes_the_best_place_of_all_who_wait_for_it() -> None:
    """A caller of a free network that joins a call in a crowded network's queue brings it to a place."""
    queue = Queue()
    *_, last = await queue.enter(*(host(1, number) for number in range(10)))
    assert last.state == "waiting"
    queue.join(last, host(1, 99))
    await settle()
    assert last.state == "waiting"
    queue.join(last, host(2, 1))
    await settle()
    assert last.state == "placed"
    # The place is the joiner's: its network has one left.
    neighbours = await queue.enter(host(2, 2), host(2, 3))
    assert [call.state for call in neighbours] == ["placed", "waiting"]
    await queue.close()


@in_virtual_time
async def test_a_call_is_dropped_only_when_all_queues_have_dropped_it() -> None:
    """A full network does not drop what callers of another network wait for."""
    queue = Queue()
    await queue.enter(host(2, 1), host(2, 2))
    calls = await queue.enter(*(host(1, number) for number in range(6)))
    for call in calls:
        queue.join(call, host(2, 3))
    await queue.enter(*(host(1, number) for number in range(100, 200)))
    assert [call.state for call in calls].count("dropped") == 0
    await queue.close()


@in_virtual_time
async def test_a_known_caller_joins() -> None:
    """It brings the place that strangers can't take."""
    queue = Queue()
    await queue.enter(*(host(network, 1) for network in range(1, 5)))
    (stranger,) = await queue.enter("10.0.0.1")
    (other,) = await queue.enter("10.0.0.1")
    assert (stranger.state, other.state) == ("waiting", "waiting")
    queue.join(other, "10.0.0.2", "known")
    await settle()
    assert other.state == "placed"
    await queue.close()


@in_virtual_time
async def test_joining_makes_no_more_shares_than_calls() -> None:
    """A flood of networks that join one call takes no memory without bound."""
    queue = Queue()
    await queue.enter(host(1, 1), host(1, 2))
    (call,) = await queue.enter(host(1, 3))
    for network in range(2, 100):
        await queue.enter(host(network, 1), host(network, 2))
        queue.join(call, host(network, 3))
        assert len(queue.queue.shares) <= 2 * BOUNDS.longest
    await queue.close()


steps = st.lists(
    st.tuples(
        st.sampled_from(["enter", "end", "cancel", "join"]),
        st.integers(0, 5),
        st.integers(0, 40),
        st.sampled_from(["new", "known"]),
    ),
    max_size=80,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_bounds_hold_whatever_happens(plan: list[tuple[str, int, int, str]]) -> None:
    """No lane, network or caller has more places than it may, and everything is given back."""

    @in_virtual_time
    async def play() -> None:
        queue = Queue()
        for action, network, number, lane in plan:
            if action == "enter":
                await queue.enter(host(network, number), lane=lane)
            elif queue.calls:
                call = queue.calls[number % len(queue.calls)]
                if action == "end":
                    call.end.set()
                elif action == "cancel":
                    call.task.cancel()
                else:
                    queue.join(call, host(network, number), lane)
                await settle()
            placed = [call for call in queue.calls if call.state == "placed" and not call.task.done()]
            assert len(placed) <= BOUNDS.places
            assert queue.queue.length <= BOUNDS.longest + 1
            shares = queue.queue.shares.values()
            assert all(share.length <= BOUNDS.longest_per_network for share in shares)
        await queue.close()

    play()


async def test_a_queue_of_networks_in_their_turn() -> None:
    """Where every call has had its network's turn and waits for a place, the next one is sent away."""
    queue = Queue()
    await queue.enter(*(f"10.0.{number}.1" for number in range(BOUNDS.longest)))
    (late,) = await queue.enter("192.0.2.1")
    assert late.state == "dropped"
    with pytest.raises(OverloadError, match="full"):
        async with queue.queue.place(queue.queue.enter(canonical_address("192.0.2.2"), "new")):
            pass
    await queue.close()
