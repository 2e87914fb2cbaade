"""lookup_queue: who gets a place before the name servers, who waits, who is sent away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.errors import OverloadError
from imds_proxy.lookup_queue import LookupQueue
from imds_proxy.model import canonical_address
from imds_proxy.turn_queue import caller_network
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imds_proxy.model import IPAddress

ALL_PLACES = 48
RESERVED = 16
PLACES_OF_A_NETWORK = 4
LINE_OF_A_NETWORK = 256


class Line:
    """Callers in a queue. Each keeps its place until `leave` lets it go."""

    def __init__(self) -> None:
        self.queue = LookupQueue()
        self.placed: list[IPAddress] = []
        self.refused: list[IPAddress] = []
        self._leaving: dict[IPAddress, asyncio.Event] = {}
        self._tasks: dict[IPAddress, asyncio.Task[None]] = {}

    async def join(self, *addresses: str, is_known: bool = False) -> None:
        """Let callers join in this order and come as far as they can."""
        for text in addresses:
            address = canonical_address(text)
            self._leaving[address] = asyncio.Event()
            self._tasks[address] = asyncio.create_task(self._stand(address, is_known=is_known))
        await self.settle()

    async def _stand(self, address: IPAddress, *, is_known: bool) -> None:
        try:
            async with self.queue.place(address, is_known=is_known):
                self.placed.append(address)
                await self._leaving[address].wait()
        except OverloadError:
            self.refused.append(address)

    async def leave(self, *addresses: str) -> None:
        """Let callers give their places back, and others come after them."""
        for address in addresses:
            self._leaving[canonical_address(address)].set()
        await self.settle()

    async def give_up(self, *addresses: str) -> None:
        """Cancel callers, in their place or in the line."""
        for address in addresses:
            self._tasks[canonical_address(address)].cancel()
        await self.settle()

    async def end(self) -> None:
        """Let all go. Afterwards nothing is held and nobody waits."""
        for leaving in self._leaving.values():
            leaving.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        assert self.queue.length == 0

    @staticmethod
    async def settle() -> None:
        """Let all come as far as they can."""
        await asyncio.sleep(0.001)


def of_one_network(count: int) -> Iterable[str]:
    """Return addresses of one /64."""
    return [f"2001:db8::{number:x}" for number in range(1, count + 1)]


def of_many_networks(count: int, *, first: int = 0) -> list[str]:
    """Return addresses of which no two are in one /28."""
    return [f"10.{first}.{number // 16}.{number % 16 * 16}" for number in range(count)]


@given(st.ip_addresses(), st.ip_addresses())
def test_networks(first: object, second: object) -> None:
    """Two callers share a network if they are in one /28, with IPv6 in one /64; IPv4 and IPv6 share none."""
    a, b = canonical_address(str(first)), canonical_address(str(second))
    bits = 4 if a.version == 4 else 64
    same = a.version == b.version and int(a) >> bits == int(b) >> bits
    assert (caller_network(a) == caller_network(b)) is same


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("10.0.0.0", "10.0.0.15", True),
        ("10.0.0.15", "10.0.0.16", False),
        ("fd00::1", "fd00::ffff:ffff:ffff:ffff", True),
        ("fd00::1", "fd00:0:0:1::1", False),
        ("0.0.0.1", "::1", False),
    ],
)
def test_edges_of_networks(first: str, second: str, same: bool) -> None:
    """/28 and /64 are where neighbours end."""
    networks = [caller_network(canonical_address(text)) for text in (first, second)]
    assert (networks[0] == networks[1]) is same


@in_virtual_time
async def test_a_network_that_hogs_its_places() -> None:
    """A network's fifth caller waits for one of its own to leave; another network gets a place at once."""
    line = Line()
    hogs = list(of_one_network(20))
    await line.join(*hogs)
    assert line.placed == [canonical_address(hog) for hog in hogs[:PLACES_OF_A_NETWORK]]
    await line.join("10.0.0.5")
    assert canonical_address("10.0.0.5") in line.placed
    assert line.refused == []
    await line.leave(hogs[2])
    assert line.placed[-1] == canonical_address(hogs[PLACES_OF_A_NETWORK])
    await line.end()


@in_virtual_time
async def test_who_waits_comes_in_order() -> None:
    """Within a network places are given in the order in which its callers came."""
    line = Line()
    callers = list(of_one_network(12))
    await line.join(*callers)
    for caller in callers:
        await line.leave(caller)
    assert line.placed == [canonical_address(caller) for caller in callers]
    await line.end()


@in_virtual_time
async def test_no_more_at_once_than_there_are_places() -> None:
    """Look-ups of strangers are bounded in all, however many networks they come from."""
    line = Line()
    callers = of_many_networks(ALL_PLACES + 10)
    await line.join(*callers)
    assert len(line.placed) == ALL_PLACES
    assert line.queue.length == ALL_PLACES + 10
    await line.leave(*callers[:10])
    assert len(line.placed) == ALL_PLACES + 10
    await line.end()


@in_virtual_time
async def test_the_reserve() -> None:
    """When strangers have all places, addresses that were confirmed before still get one, strangers none."""
    line = Line()
    await line.join(*of_many_networks(ALL_PLACES))
    known = of_many_networks(RESERVED + 1, first=1)
    await line.join(*known, is_known=True)
    await line.join("192.0.2.1")
    assert line.placed[ALL_PLACES:] == [canonical_address(caller) for caller in known[:RESERVED]]
    await line.leave(known[0])
    assert line.placed[-1] == canonical_address(known[RESERVED])
    await line.end()


@in_virtual_time
async def test_known_callers_use_the_general_places_first() -> None:
    """The reserve is for when nothing else is free: known callers alone may use all of both."""
    line = Line()
    await line.join(*of_many_networks(ALL_PLACES + RESERVED + 1), is_known=True)
    assert len(line.placed) == ALL_PLACES + RESERVED
    await line.end()


@in_virtual_time
async def test_a_known_caller_in_a_network_of_strangers() -> None:
    """Strangers who have their network's places don't keep a neighbour out who was confirmed before."""
    line = Line()
    await line.join(*list(of_one_network(20)))
    await line.join("2001:db8::ffff", is_known=True)
    assert line.placed[-1] == canonical_address("2001:db8::ffff")
    await line.end()


@in_virtual_time
async def test_a_network_s_line_is_bounded() -> None:
    """A network whose line is full is sent away with it, and only that network."""
    line = Line()
    await line.join(*of_one_network(LINE_OF_A_NETWORK + 3))
    assert len(line.refused) == 3
    await line.join("2001:db8:0:1::1", "10.0.0.5")
    assert len(line.refused) == 3
    assert len(line.placed) == PLACES_OF_A_NETWORK + 2
    await line.end()


@in_virtual_time
async def test_the_whole_line_is_bounded() -> None:
    """When very many wait, the next one is sent away; once somebody leaves, one may join again."""
    line = Line()
    addresses = [canonical_address(f"10.{n >> 12}.{n >> 4 & 255}.{n % 16 * 16}") for n in range(12_288)]
    async with AsyncExitStack() as stack:
        tasks = [asyncio.create_task(stand_for_good(line.queue, address)) for address in addresses]
        await line.settle()
        assert line.queue.length == 12_288
        with pytest.raises(OverloadError, match="too many callers wait"):
            await stack.enter_async_context(line.queue.place(canonical_address("192.0.2.1"), is_known=False))
        tasks[-1].cancel()
        await line.settle()
        await line.join("192.0.2.1")
        assert line.refused == []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await line.end()


async def stand_for_good(queue: LookupQueue, address: IPAddress) -> None:
    async with queue.place(address, is_known=False):
        await asyncio.Event().wait()


@in_virtual_time
async def test_who_gives_up() -> None:
    """A caller who gives up, in its place or in the line, gives its place back and takes none later."""
    line = Line()
    callers = list(of_one_network(PLACES_OF_A_NETWORK + 2))
    await line.join(*callers)
    await line.give_up(callers[0], callers[PLACES_OF_A_NETWORK])
    assert line.placed[-1] == canonical_address(callers[PLACES_OF_A_NETWORK + 1])
    assert canonical_address(callers[PLACES_OF_A_NETWORK]) not in line.placed
    assert line.queue.length == PLACES_OF_A_NETWORK
    await line.end()


@in_virtual_time
async def test_networks_that_fill_the_whole_line() -> None:
    """As many /64s as fill it, each with all it may have, lose a lookup for each that others begin."""
    line = Line()
    flood = [f"2001:db8:0:{net:x}::{host:x}" for net in range(48) for host in range(LINE_OF_A_NETWORK)]
    await line.join(*flood)
    assert (line.queue.length, line.refused) == (12_288, [])
    others = [canonical_address(text) for text in of_many_networks(100)]
    await line.join(*map(str, others))
    assert len(line.refused) == len(others)
    assert not set(others) & set(line.refused)
    await line.end()
