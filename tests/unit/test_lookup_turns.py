"""lookup_queue within one network: addresses take turns; which lookup is dropped when the queue is full."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from imds_proxy.errors import OverloadError
from imds_proxy.lookup_queue import LookupQueue
from imds_proxy.model import canonical_address
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imds_proxy.model import IPAddress

PLACES = 4
PLACES_OF_AN_ADDRESS = 2
QUEUE_OF_A_NETWORK = 256
WAITING = QUEUE_OF_A_NETWORK - PLACES
NETWORK = int(canonical_address("2001:db8::"))


class Lookup:
    """One lookup: it keeps its place until `end` is set."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.end = asyncio.Event()
        self.state = "waiting"
        self.task: asyncio.Task[None]

    async def run(self, queue: LookupQueue, record: Callable[[Lookup], None]) -> None:
        """Take part in the queue and note what happened."""
        try:
            async with queue.place(canonical_address(hex_address(self.number)), is_known=False):
                self.state = "placed"
                record(self)
                await self.end.wait()
            self.state = "ended"
        except OverloadError:
            self.state = "dropped"

    def note_cancellation(self, task: asyncio.Task[None]) -> None:
        """Note that it was cancelled, perhaps before it could begin."""
        if task.cancelled():
            self.state = "cancelled"


class Network:
    """Lookups of addresses of one /64, each address a number."""

    def __init__(self, choose: Callable[[Sequence[IPAddress]], IPAddress] | None = None) -> None:
        self.queue = LookupQueue() if choose is None else LookupQueue(choose=choose)
        self.lookups: list[Lookup] = []
        self.turns: list[Lookup] = []
        """In the order in which they got a place."""

    def add(self, number: int) -> Lookup:
        """Let an address ask once more. It has joined after the next `settle`."""
        lookup = Lookup(number)
        lookup.task = asyncio.create_task(lookup.run(self.queue, self.turns.append))
        lookup.task.add_done_callback(lookup.note_cancellation)
        self.lookups.append(lookup)
        return lookup

    async def join(self, *numbers: int) -> list[Lookup]:
        """Let addresses ask, in this order."""
        lookups = [self.add(number) for number in numbers]
        await self.settle()
        return lookups

    async def end(self, *lookups: Lookup) -> None:
        """Let lookups end, one after the other, and others have their places."""
        for lookup in lookups:
            lookup.end.set()
            await self.settle()

    async def end_oldest(self) -> None:
        """Let the lookup end that has had its place for longest."""
        await self.end(next(lookup for lookup in self.turns if lookup.state == "placed"))

    def those(self, state: str) -> list[Lookup]:
        """Return the lookups in a state."""
        return [lookup for lookup in self.lookups if lookup.state == state]

    @staticmethod
    async def settle() -> None:
        """Let all come as far as they can."""
        await asyncio.sleep(0.001)

    async def close(self) -> None:
        """Let all end. Afterwards every place of the network is free again."""
        for lookup in self.lookups:
            lookup.end.set()
        await asyncio.gather(*(lookup.task for lookup in self.lookups), return_exceptions=True)
        assert self.queue.length == 0
        last = await self.join(*range(10_000, 10_000 + PLACES))
        assert [lookup.state for lookup in last] == ["placed"] * PLACES
        await self.end(*last)
        assert self.queue.length == 0


def hex_address(number: int) -> str:
    return f"2001:db8::{number:x}"


def number_of(address: IPAddress) -> int:
    return int(address) - NETWORK


@in_virtual_time
async def test_an_address_has_half_of_its_network_s_places() -> None:
    """Whatever one address asks, two places are left, and a neighbour gets one at once."""
    network = Network()
    await network.join(*[1] * 50)
    assert len(network.turns) == PLACES_OF_AN_ADDRESS
    neighbour, *_ = await network.join(2)
    assert neighbour.state == "placed"
    await network.close()


@in_virtual_time
async def test_addresses_take_turns() -> None:
    """Places go round by address, not by request; within an address the oldest lookup comes first."""
    network = Network()
    holders = await network.join(91, 92, 93, 94)
    first = await network.join(1, 1, 1, 2, 3, 3)
    await network.end(*holders)
    assert network.turns[PLACES:] == [first[0], first[3], first[4], first[1]]
    await network.end(first[0], first[3])
    assert network.turns[2 * PLACES :] == [first[5], first[2]]
    await network.close()


@in_virtual_time
async def test_the_address_with_the_most_loses_its_newest() -> None:
    """When the queue of the network is full, the neighbour joins and the one who fills it pays."""
    network = Network()
    await network.join(91, 92, 93, 94)
    flood = await network.join(*[1] * WAITING)
    assert network.those("dropped") == []
    neighbours = await network.join(2, 3)
    assert network.those("dropped") == [flood[-2], flood[-1]]
    assert [lookup.state for lookup in neighbours] == ["waiting", "waiting"]
    await network.end_oldest()
    await network.end_oldest()
    assert network.turns[-1] is neighbours[0]
    await network.close()


@in_virtual_time
async def test_an_address_with_the_most_is_rejected_itself() -> None:
    """It gains nothing by asking more."""
    network = Network()
    await network.join(91, 92, 93, 94)
    await network.join(2, *[1] * (WAITING - 1))
    more = await network.join(1, 1)
    assert network.those("dropped") == more
    await network.close()


@in_virtual_time
async def test_chance_decides_between_equals() -> None:
    """Among addresses with a lookup each, the newcomer's included, the choice falls on any one of them."""
    asked: list[set[int]] = []

    def choose(addresses: Sequence[IPAddress]) -> IPAddress:
        asked.append({number_of(address) for address in addresses})
        return addresses[len(asked)]

    network = Network(choose)
    await network.join(91, 92, 93, 94)
    await network.join(*range(1000, 1000 + WAITING))
    (newcomer,) = await network.join(2)
    assert asked == [{2, *range(1000, 1000 + WAITING)}]
    assert newcomer.state == "waiting"
    assert [lookup.number for lookup in network.those("dropped")] == [1001]
    await network.close()


@in_virtual_time
async def test_a_burst_does_not_empty_the_queue() -> None:
    """As many new addresses at once as the queue has room for push out some of those who wait, not all."""
    network = Network(random.Random(1).choice)
    await network.join(91, 92, 93, 94)
    neighbours = await network.join(*range(1, 101))
    await network.join(*range(1000, 1000 + WAITING - len(neighbours)))
    await network.join(*range(2000, 2000 + WAITING))
    kept = [lookup for lookup in neighbours if lookup.state == "waiting"]
    assert 20 < len(kept) < 60  # 37 of 100 on average: (1 - 1/253) ** 252
    await network.close()


@in_virtual_time
async def test_a_newcomer_among_many_addresses_has_a_fair_chance() -> None:
    """While two new addresses of somebody else come for each lookup that ends, about half get a turn."""
    network = Network(random.Random(2).choice)
    await network.join(*range(1000, 1000 + QUEUE_OF_A_NETWORK))
    fresh = iter(range(5000, 1_000_000))
    served = 0
    for number in range(1, 21):
        (newcomer,) = await network.join(number)
        while newcomer.state == "waiting":
            await network.end_oldest()
            await network.join(next(fresh), next(fresh))
        served += newcomer.state == "placed"
    assert 5 <= served <= 15
    await network.close()


@in_virtual_time
async def test_who_gives_up_leaves_room() -> None:
    """Cancelled lookups take up nothing of the queue: as many others wait in their stead."""
    network = Network()
    await network.join(91, 92, 93, 94)
    for lookup in await network.join(*range(1000, 1000 + WAITING)):
        lookup.task.cancel()
    await network.settle()
    await network.join(*range(2000, 2000 + WAITING))
    assert network.those("dropped") == []
    await network.close()


@in_virtual_time
async def test_a_place_that_comes_with_the_cancellation_goes_on() -> None:
    """A lookup that is cancelled at the moment in which it gets a place passes the place on."""
    network = Network()
    holders = await network.join(91, 92, 93, 94)
    cancelled, last = await network.join(1, 2)
    for holder in holders:
        holder.end.set()
    await asyncio.sleep(0)  # they leave, and the two that wait have their places but do not know it yet
    cancelled.task.cancel()
    await network.settle()
    assert (cancelled.state, last.state) == ("cancelled", "placed")
    await network.close()


@settings(max_examples=30)
@given(
    others=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    added=st.lists(st.integers(0, 12), min_size=1, max_size=10),
)
@in_virtual_time
async def test_a_neighbour_s_turn_comes_within_one_round(others: list[int], added: list[int]) -> None:
    """Whatever other addresses ask before and after it: each of them has one turn before it, not more."""
    network = Network(random.Random(3).choice)
    await network.join(*(number for number, count in enumerate(others, 1) for _ in range(count)))
    (neighbour,) = await network.join(900)
    before = len(network.turns)
    more = list(added)
    for _ in range(len(others) + 1):
        if neighbour.state == "placed":
            break
        await network.end_oldest()
        count = more.pop(0) if more else 3
        await network.join(*(number for number in range(1, len(others) + 1) for _ in range(count)))
    assert neighbour.state == "placed"
    turns = Counter(lookup.number for lookup in network.turns[before:])
    assert all(count == 1 for count in turns.values())
    await network.close()


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["join", "end", "cancel", "tick", "settle"]), st.integers(0, 400)), max_size=120
)


@given(waiting=st.integers(0, QUEUE_OF_A_NETWORK + 5), actions=ACTIONS)
@settings(max_examples=60)
@in_virtual_time
async def test_no_place_is_lost_and_none_is_given_twice(waiting: int, actions: list[tuple[str, int]]) -> None:
    """In whatever order lookups come, end and are cancelled, also several within one turn of the loop."""
    network = Network(random.Random(4).choice)
    await network.join(*(number % 60 for number in range(waiting)))
    for action, number in [*actions, ("settle", 0)]:
        alive = [lookup for lookup in network.lookups if lookup.state in {"waiting", "placed"}]
        if action == "join":
            network.add(number % 7)
        elif action == "tick":
            await asyncio.sleep(0)
        elif action == "settle":
            await network.settle()
            assert_places(network)
        elif alive and action == "end":
            alive[number % len(alive)].end.set()
        elif alive:
            alive[number % len(alive)].task.cancel()
    await network.close()


def assert_places(network: Network) -> None:
    placed = Counter(lookup.number for lookup in network.those("placed"))
    waiting = Counter(lookup.number for lookup in network.those("waiting"))
    assert placed.total() <= PLACES
    assert all(count <= PLACES_OF_AN_ADDRESS for count in placed.values())
    assert network.queue.length == placed.total() + waiting.total() <= QUEUE_OF_A_NETWORK
    if placed.total() < PLACES:
        assert all(placed[number] == PLACES_OF_AN_ADDRESS for number in waiting)
