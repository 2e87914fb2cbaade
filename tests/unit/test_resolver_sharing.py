"""resolver: equal questions are asked once at a time, and shared only where that is sound. Loopback only."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import dns.message
import dns.rdatatype
import pytest

from imds_proxy.caller import Identities
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.names import AllowedDomains
from imds_proxy.resolver import AddressAnswer, DNSResolver
from tests.standins.scripted_dns import ScriptedServer, answer_to, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imds_proxy.model import IPAddress

HOST = "tuvfoo42.valid.example"
OLD, NEW = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")
PATIENCE = 10.0
CALLERS = [IPv4Address("10.0.0.0") + 16 * number for number in range(48)]
"""Each in a network of its own: the queue lets all of them ask at the same time."""


def silent(_: bytes) -> Iterable[bytes]:
    """Say nothing: the test answers later."""
    return ()


def resolver_at(*servers: ScriptedServer) -> DNSResolver:
    return DNSResolver([server.where for server in servers], attempt_timeout=PATIENCE, deadline=PATIENCE)


def look_up(resolver: DNSResolver, name: str = HOST) -> asyncio.Task[AddressAnswer]:
    return asyncio.create_task(resolver.addresses_of(name, version=4))


async def settle() -> None:
    """Let every task go on until it waits for a packet."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_look_ups_that_begin_together_share_one_question() -> None:
    """48 of them, one question, all get its answer."""
    async with scripted_server(silent) as server:
        resolver = resolver_at(server)
        tasks = [look_up(resolver) for _ in range(48)]
        await server.await_questions(1)
        await settle()
        assert len(server.datagrams) == 1
        server.send(0, answer_to(server.datagrams[0], str(OLD)))
        answers = await asyncio.gather(*tasks)
    assert {answer.addresses for answer in answers} == {frozenset({OLD})}
    assert len(server.datagrams) == 1


async def test_an_answer_that_was_asked_for_earlier_does_not_count() -> None:
    """Who comes while a question is open waits for its end, and all of these share the next question: its
    answer can't be older than a change that they have to see.
    """
    async with scripted_server(silent) as server:
        resolver = resolver_at(server)
        first = look_up(resolver)
        await server.await_questions(1)
        later = [look_up(resolver) for _ in range(47)]
        await settle()
        assert len(server.datagrams) == 1  # the number open never rises above one
        server.send(0, answer_to(server.datagrams[0], str(OLD)))
        assert (await first).addresses == {OLD}
        await server.await_questions(2)
        server.send(1, answer_to(server.datagrams[1], str(NEW)))
        answers = await asyncio.gather(*later)
    assert {answer.addresses for answer in answers} == {frozenset({NEW})}
    assert len(server.datagrams) == 2


async def test_a_long_answer_that_was_asked_for_earlier_does_not_count() -> None:
    """It is an answer: a refusal follows from it."""
    many = [f"many{number}.valid.example." for number in range(80)]

    def over_tcp(query: bytes) -> bytes:
        return answer_to(query, *many)

    async with scripted_server(silent, over_tcp) as server:
        resolver = resolver_at(server)
        first = asyncio.create_task(resolver.names_of(OLD))
        await server.await_questions(1)
        later = asyncio.create_task(resolver.names_of(OLD))
        await settle()
        server.send(0, answer_to(server.datagrams[0], flags=0x0200))
        assert (await first).is_long
        await server.await_questions(2)
        server.send(1, answer_to(server.datagrams[1], f"{HOST}."))
        assert len((await later).names) == 1


async def test_a_failure_counts_for_all() -> None:
    """It proves nothing to anybody, so nobody has to ask the same server once more."""
    second_answers = [str(NEW)]
    async with (
        scripted_server(silent, lambda _: None) as first,
        scripted_server(lambda query: [answer_to(query, *second_answers)]) as second,
    ):
        resolver = resolver_at(first, second)
        tasks = [look_up(resolver)]
        await first.await_questions(1)
        tasks += [look_up(resolver) for _ in range(9)]
        await settle()
        first.send(0, answer_to(first.datagrams[0], flags=0x0200))  # over TCP, which is closed at once
        answers = await asyncio.gather(*tasks)
    assert {answer.addresses for answer in answers} == {frozenset({NEW})}
    assert len(first.datagrams) == 1


async def test_other_questions_are_not_waited_for() -> None:
    """Another name, another type and another server each have a question of their own."""
    async with scripted_server(silent) as server, scripted_server(silent) as other:
        resolver = resolver_at(server)
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(resolver.addresses_of(HOST, version=4)),
            asyncio.create_task(resolver.addresses_of(HOST, version=6)),
            asyncio.create_task(resolver.addresses_of("tuvfoo43.valid.example", version=4)),
            asyncio.create_task(resolver.names_of(OLD)),
            asyncio.create_task(resolver_at(other).addresses_of(HOST, version=4)),
        ]
        await server.await_questions(4)
        await other.await_questions(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_case_of_a_name_makes_no_other_question() -> None:
    """`TUVFOO42` and `tuvfoo42` are one name."""
    async with scripted_server(silent) as server:
        resolver = resolver_at(server)
        tasks = [look_up(resolver, HOST), look_up(resolver, HOST.upper())]
        await server.await_questions(1)
        await settle()
        server.send(0, answer_to(server.datagrams[0], str(OLD)))
        await asyncio.gather(*tasks)
    assert len(server.datagrams) == 1


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    """The look-up that asked is cancelled; the one that waits with it gets the answer to that question."""
    async with scripted_server(silent) as server:
        resolver = resolver_at(server)
        first, second = look_up(resolver), look_up(resolver)
        await server.await_questions(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        server.send(0, answer_to(server.datagrams[0], str(OLD)))
        assert (await second).addresses == {OLD}
    assert len(server.datagrams) == 1


async def test_each_has_a_deadline_of_its_own() -> None:
    """One look-up's time is over; the other one still gets the answer."""
    async with scripted_server(silent) as server:
        resolver = resolver_at(server)

        async def hasty() -> AddressAnswer:
            async with asyncio.timeout(0.05):
                return await resolver.addresses_of(HOST, version=4)

        first, second = asyncio.create_task(hasty()), look_up(resolver)
        await server.await_questions(1)
        with pytest.raises(TimeoutError):
            await first
        server.send(0, answer_to(server.datagrams[0], str(OLD)))
        assert (await second).addresses == {OLD}


async def test_when_all_have_left_the_question_ends() -> None:
    """Its port is closed, so no forged answer finds it; the next look-up asks at once."""
    async with scripted_server(silent) as server:
        resolver = resolver_at(server)
        tasks = [look_up(resolver), look_up(resolver)]
        await server.await_questions(1)
        assert server.open_ports([0]) == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        next_one = look_up(resolver)
        await server.await_questions(2)
        assert server.open_ports([0]) == 0
        server.send(1, answer_to(server.datagrams[1], str(NEW)))
        assert (await next_one).addresses == {NEW}


def answers_of(query: bytes) -> Iterator[bytes]:
    """Give every caller's address one name, and nothing for the name itself: that is the test's."""
    if dns.message.from_wire(query).question[0].rdtype == dns.rdatatype.PTR:
        yield answer_to(query, f"{HOST}.")


async def test_many_addresses_that_claim_one_name_open_one_question() -> None:
    """Whoever owns a reverse zone can let 48 addresses claim one name: one question for it at a time, and no
    answer to it confirms an address whose look-up began later than it.
    """
    async with scripted_server(answers_of) as server:
        identities = Identities(resolver_at(server), {}, deadline=PATIENCE, stale=0, clock=SYSTEM_CLOCK)
        domains = AllowedDomains.parse(["valid.example"])

        def identify(address: IPAddress) -> asyncio.Task[tuple[str, ...]]:
            caller = identities.caller(address, not_before=SYSTEM_CLOCK.monotonic())
            return asyncio.create_task(caller.confirmed_names(domains))

        tasks = [identify(address) for address in CALLERS]
        forward: list[int] = []
        most_open = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.01)
            for number, query in enumerate(server.datagrams):
                if (
                    dns.message.from_wire(query).question[0].rdtype == dns.rdatatype.A
                    and number not in forward
                ):
                    forward.append(number)
            most_open = max(most_open, server.open_ports(forward))
            if forward and server.open_ports(forward[-1:]) and len(server.datagrams) >= 49:
                server.send(forward[-1], answer_to(server.datagrams[forward[-1]], *map(str, CALLERS)))
        names = [task.result() for task in tasks]
    assert names == [(HOST,)] * 48
    assert most_open == 1
    assert 1 <= len(forward) <= 5
