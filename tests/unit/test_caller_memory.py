"""caller: how long names count, what stands in when DNS fails, and that one look-up serves all who ask."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from itertools import count

import pytest

from imds_proxy.caller import MOST_IDENTITIES
from imds_proxy.errors import Refusal, ResolutionError
from tests.standins.identity_desk import ADDRESS, NAME, OTHER_NAME, STALE, Desk
from tests.standins.virtual_time import in_virtual_time


async def time_until_asked_again(desk: Desk) -> float:
    """Return after how many quarters of a second an identity is looked up again, in seconds."""
    await desk.identify()
    began, known = desk.clock.monotonic(), len(desk.dns.questions)
    for _ in count():
        await desk.identify()
        if len(desk.dns.questions) > known:
            return desk.clock.monotonic() - began
        await asyncio.sleep(0.25)
    raise AssertionError("unreachable: it counts on for ever")


@pytest.mark.parametrize(
    ("pointer_ttl", "address_ttl", "memory"),
    [(30, 30, 30), (30, 20, 20), (10, 20, 10), (86400, 3600, 60), (0, 0, 1), (60, 0, 1)],
)
@in_virtual_time
async def test_memory_by_ttl(pointer_ttl: float, address_ttl: float, memory: float) -> None:
    """Names are remembered for the shortest TTL of what they rest on, within 1 s and 60 s."""
    desk = Desk()
    desk.dns.set_pointers(ADDRESS, NAME, ttl=pointer_ttl)
    desk.dns.set_addresses(NAME, ADDRESS, ttl=address_ttl)
    assert await time_until_asked_again(desk) == memory


@in_virtual_time
async def test_a_refusal_is_remembered() -> None:
    """A refusal is remembered for 5 s, also where a younger look-up is asked for."""
    desk = Desk()
    assert await time_until_asked_again(desk) == 5
    questions = len(desk.dns.questions)
    await desk.look_again()
    assert len(desk.dns.questions) == questions


@in_virtual_time
async def test_a_failure_is_remembered() -> None:
    """A failure is remembered for 2 s."""
    desk = Desk()
    desk.dns.fail()
    assert await time_until_asked_again(desk) == 2


@in_virtual_time
async def test_a_slow_answer_counts_when_it_comes() -> None:
    """An answer whose TTL ran out on its way counts for a second all the same: it is the newest there is."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME, ttl=0)
    desk.dns.delay(0.9)
    identity = await desk.identify()
    assert identity.names == (NAME,)
    assert identity.valid_until >= desk.clock.monotonic() + 1


@in_virtual_time
async def test_a_look_up_that_is_not_older() -> None:
    """Names that were looked up before the moment asked for are looked up again, younger ones are not."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    first = await desk.identify()
    await asyncio.sleep(3)
    assert await desk.identify(not_before=first.asked_at) is first
    second = await desk.identify(not_before=first.asked_at + 1)
    assert second.asked_at == first.asked_at + 3


@in_virtual_time
async def test_a_name_that_changes() -> None:
    """A look-up after a change sees the new name, however long the TTL of the old one was."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME, ttl=86400)
    assert (await desk.identify()).names == (NAME,)
    desk.dns.add_host(ADDRESS, OTHER_NAME)
    await asyncio.sleep(1)
    assert (await desk.look_again()).names == (OTHER_NAME,)


@in_virtual_time
async def test_strangers_are_forgotten_first() -> None:
    """However many addresses without a name ask, only so many are remembered, and none that has one goes."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    await desk.identify()
    for number in range(MOST_IDENTITIES + 10):
        await desk.identify(str(IPv4Address(0x0B000000 + number)))
    assert desk.identities.size == MOST_IDENTITIES + 1
    desk.dns.fail()
    await asyncio.sleep(60)
    assert (await desk.identify()).names == (NAME,)


@pytest.mark.parametrize("question", ["*", ADDRESS, NAME])
@in_virtual_time
async def test_a_failure_without_an_earlier_answer(question: str) -> None:
    """When DNS fails and nothing is known, that is trouble, never a refusal and never a name."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    desk.dns.fail(question)
    with pytest.raises(ResolutionError, match="SERVFAIL"):
        await desk.names()


@in_virtual_time
async def test_one_name_confirmed_and_another_unknown() -> None:
    """One name confirmed and another's look-up failed is a failure: the other might mean another role."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME, OTHER_NAME)
    desk.dns.fail(OTHER_NAME)
    with pytest.raises(ResolutionError, match=OTHER_NAME):
        await desk.names()


@in_virtual_time
async def test_a_look_up_without_end() -> None:
    """A look-up that passes its deadline is a failure that says so."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    desk.dns.silence(NAME)
    with pytest.raises(ResolutionError, match="no answer in time"):
        await desk.names()


@in_virtual_time
async def test_stale_names() -> None:
    """When DNS fails the last confirmed names count on, marked as stale, for `stale`; then it is trouble."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    await desk.identify()
    desk.dns.fail()
    await asyncio.sleep(STALE - 3)
    identity = await desk.identify()
    assert (identity.names, identity.is_stale) == ((NAME,), True)
    assert await desk.names() == (NAME,)
    await asyncio.sleep(2)
    assert await desk.names() == (NAME,)
    await asyncio.sleep(1.5)
    with pytest.raises(ResolutionError):
        await desk.names()


@in_virtual_time
async def test_stale_is_counted_from_the_last_confirmation() -> None:
    """Failures in between don't prolong it, a confirmation does."""
    desk = Desk(stale=100)
    desk.dns.add_host(ADDRESS, NAME, ttl=1)
    await desk.identify()
    desk.dns.fail()
    for _ in range(9):
        await asyncio.sleep(10)
        assert (await desk.identify()).names == (NAME,)
    desk.dns.heal()
    await asyncio.sleep(5)
    assert not (await desk.identify()).is_stale
    desk.dns.fail()
    await asyncio.sleep(90)
    assert (await desk.identify()).is_stale
    await asyncio.sleep(15)
    assert (await desk.identify()).names == ()


@in_virtual_time
async def test_without_stale_a_failure_is_a_failure() -> None:
    """With `stale: 0` the last names never stand in."""
    desk = Desk(stale=0)
    desk.dns.add_host(ADDRESS, NAME)
    await desk.identify()
    desk.dns.fail()
    await asyncio.sleep(1)
    assert (await desk.look_again()).names == ()


@pytest.mark.parametrize("change", ["no PTR", "no way back", "too many", "another domain"])
@in_virtual_time
async def test_never_stale_after_a_negative_answer(change: str) -> None:
    """A negative answer ends an identity at once, and a failure after it brings nothing back."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME, ttl=1)
    await desk.identify()
    await asyncio.sleep(2)
    if change == "no PTR":
        desk.dns.set_pointers(ADDRESS)
    elif change == "no way back":
        desk.dns.set_addresses(NAME)
    elif change == "too many":
        desk.dns.add_host(ADDRESS, *(f"tuvfoo{number}.valid.example" for number in range(9)))
    else:
        desk.dns.add_host(ADDRESS, "tuvfoo42.other.example")
    with pytest.raises(Refusal):
        await desk.names()
    desk.dns.fail()
    await asyncio.sleep(6)
    with pytest.raises(ResolutionError):
        await desk.names()


@in_virtual_time
async def test_outcomes_are_counted() -> None:
    """Every look-up is counted by how it ended; remembered answers are not."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    await desk.identify()
    await desk.identify()
    await desk.identify("10.0.0.6")
    desk.dns.fail()
    await asyncio.sleep(60)
    await desk.identify()
    await desk.identify("10.0.0.7")
    assert desk.outcomes == {"confirmed": 1, "refused": 1, "stale": 1, "failed": 1}
    assert desk.identities.size == 3


@in_virtual_time
async def test_one_look_up_for_all() -> None:
    """A hundred who ask about one address at the same time share one look-up."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    desk.dns.delay(0.2)
    found = await asyncio.gather(*(desk.names() for _ in range(100)))
    assert set(found) == {(NAME,)}
    assert desk.dns.questions == [ADDRESS, NAME]
    assert desk.identities.flights == 0


@pytest.mark.parametrize("impatient", [0, 1], ids=["who began it", "who joined"])
@in_virtual_time
async def test_who_gives_up_cancels_nothing(impatient: int) -> None:
    """Whoever asked may give up: the look-up goes on, for others and for the memory."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    desk.dns.delay(0.2)
    asking = [asyncio.create_task(desk.names()) for _ in range(3)]
    await asyncio.sleep(0.1)
    asking.pop(impatient).cancel()
    assert await asyncio.gather(*asking) == [(NAME,), (NAME,)]
    assert desk.dns.questions == [ADDRESS, NAME]


@in_virtual_time
async def test_a_look_up_that_began_too_early() -> None:
    """Who needs a younger answer than the look-up under way can give waits for another, one for all."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    desk.dns.delay(0.5)
    early = asyncio.create_task(desk.identify())
    await asyncio.sleep(0.7)
    desk.dns.add_host(ADDRESS, OTHER_NAME)
    late = [asyncio.create_task(desk.look_again()) for _ in range(10)]
    assert (await early).names != (OTHER_NAME,)
    assert {(await task).names for task in late} == {(OTHER_NAME,)}
    assert desk.dns.questions == [ADDRESS, NAME, ADDRESS, OTHER_NAME]


@in_virtual_time
async def test_a_full_line_is_trouble() -> None:
    """Where a network has too many lookups waiting, one is in trouble, not refused; others are served."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    callers = [f"fd00::{number:x}" for number in range(1, 258)]
    for caller in callers:
        desk.dns.silence(caller)
    waiting = [asyncio.create_task(desk.identify(caller)) for caller in callers]
    await asyncio.sleep(0.001)
    ((dropped, task),) = [pair for pair in zip(callers, waiting, strict=True) if pair[1].done()]
    assert (await task).refusal is None
    with pytest.raises(ResolutionError, match="too many callers wait"):
        await desk.names(dropped)
    assert await desk.names() == (NAME,)
    assert desk.identities.flights == 256
    desk.dns.heal()
    await asyncio.gather(*waiting)


@in_virtual_time
async def test_a_slow_zone_keeps_no_known_machine_out() -> None:
    """While strangers' zones keep all places busy, machines that were confirmed before are looked up."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    await desk.identify()
    strangers = [f"10.9.{number // 16}.{number % 16 * 16}" for number in range(48)]
    for stranger in strangers:
        desk.dns.silence(stranger)
    waiting = [asyncio.create_task(desk.identify(stranger)) for stranger in strangers]
    await asyncio.sleep(0.1)
    again = await desk.look_again()
    assert again.names == (NAME,)
    assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
