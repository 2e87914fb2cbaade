"""dns_exchange: what of an answer must fit its question, and what becomes of what does not. Loopback only."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.dns_exchange import (
    MOST_WRONG_ANSWERS,
    Flaw,
    LongAnswerError,
    MalformedAnswerError,
    exchange,
)
from imds_proxy.errors import ResolutionError
from imds_proxy.metrics import Metrics
from imds_proxy.model import canonical_address
from imds_proxy.resolver import AddressAnswer, DNSResolver, PointerAnswer
from tests.standins.scripted_dns import ScriptedServer, answer_to, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "tuvfoo42.valid.example"
NAME = dns.name.from_text(HOST)
OTHER = dns.name.from_text("tuvfoo43.valid.example")
CALLER = canonical_address("10.0.0.5")
TRUE, FORGED = "10.0.0.5", "10.66.66.66"
PATIENCE = 5.0


class Notes:
    """What was told of datagrams that were dropped."""

    def __init__(self) -> None:
        self.flaws: Counter[str] = Counter()
        self.suspicions = 0

    def __call__(self, flaw: str, *, is_suspicious: bool) -> None:
        """Count it."""
        self.flaws[flaw] += 1
        self.suspicions += is_suspicious


def true(query: bytes) -> bytes:
    """Return the true answer."""
    return answer_to(query, TRUE)


def other_id(query: bytes) -> int:
    """Return an id that the query does not have."""
    return int.from_bytes(query[:2], "big") ^ 0x5A5A


FORGERIES: dict[str, tuple[Flaw, Callable[[bytes], bytes]]] = {
    "another id": (Flaw.ID, lambda query: answer_to(query, FORGED, id=other_id(query))),
    "another name": (Flaw.QUESTION, lambda query: answer_to(query, FORGED, name=OTHER)),
    "another type": (Flaw.QUESTION, lambda query: answer_to(query, "fd00::66", rdtype="AAAA")),
    "another class": (Flaw.QUESTION, lambda query: answer_to(query, "chaos. 1", rdclass="CH")),
    "two questions": (Flaw.QUESTION, lambda query: query[:2] + b"\x84\0\0\2\0\0\0\0\0\0" + query[12:] * 2),
    "a question": (Flaw.GARBAGE, lambda query: query),
    "half a header": (Flaw.GARBAGE, lambda query: query[:7]),
    "one byte": (Flaw.GARBAGE, lambda _: b"\0"),
}


async def ask(server: ScriptedServer, notes: Notes) -> str:
    """Return the address that the exchange brings, or the rcode."""
    answer = await exchange(NAME, dns.rdatatype.A, server.where, PATIENCE, notes)
    if answer.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(answer.rcode())
    return str(answer.answer[0][0].address)


async def test_letters_are_in_a_case_of_their_own() -> None:
    """The name is the same, its letters are in another case each time, and so is the id."""
    async with scripted_server(lambda query: [true(query)]) as server:
        for _ in range(40):
            assert await ask(server, Notes()) == TRUE
    names = [query[12:-4] for query in server.datagrams]
    assert {name.lower() for name in names} == {NAME.to_digestable()}
    assert len(set(names)) > 30  # of 2**18
    assert len({query[:2] for query in server.datagrams}) > 30
    for position, letter in enumerate(NAME.to_digestable()):
        spellings = {name[position] for name in names}
        assert len(spellings) == (2 if chr(letter).isalpha() else 1)


async def test_the_letters_of_a_reverse_name() -> None:
    """`in-addr.arpa` has letters, too."""
    async with scripted_server(lambda query: [answer_to(query, f"{HOST}.")]) as server:
        for _ in range(20):
            name = dns.reversename.from_address(TRUE)
            await exchange(name, dns.rdatatype.PTR, server.where, PATIENCE)
    assert len({query[12:-4] for query in server.datagrams}) > 10


async def test_the_case_is_gone_from_the_answer() -> None:
    """Names that point to the question are in lower case again: they end up in findings and logs."""
    async with scripted_server(lambda query: [answer_to(query, "www.TUVFOO42.valid.example.")]) as server:
        answer = await exchange(NAME, dns.rdatatype.CNAME, server.where, PATIENCE)
    assert [str(name.name) for name in (*answer.question, *answer.answer)] == [f"{HOST}."] * 2


async def test_dockers_name_server_is_asked_in_lower_case() -> None:
    """It drops PTR questions in any other case. It is on loopback, so no other host can forge its answers."""
    async with scripted_server(lambda query: [true(query)], address="127.0.0.11") as server:
        for _ in range(5):
            assert await ask(server, Notes()) == TRUE
    assert {query[12:-4] for query in server.datagrams} == {NAME.to_digestable()}


@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_wrong_answer_is_dropped_and_counted(kind: str) -> None:
    """It is not the answer; the true one that comes after it is, over UDP."""
    flaw, forge = FORGERIES[kind]
    notes = Notes()
    async with scripted_server(lambda query: [forge(query), true(query)]) as server:
        assert await ask(server, notes) == TRUE
    assert (notes.flaws, notes.suspicions, server.streams) == ({flaw: 1}, 0, [])


@pytest.mark.parametrize("kind", FORGERIES)
async def test_many_wrong_answers_lead_to_tcp(kind: str) -> None:
    """With the 32nd the same question goes over TCP, whatever comes by UDP."""
    flaw, forge = FORGERIES[kind]
    notes = Notes()
    assert MOST_WRONG_ANSWERS == 32

    def flood(query: bytes) -> list[bytes]:
        return [forge(query)] * MOST_WRONG_ANSWERS + [answer_to(query, FORGED)]

    async with scripted_server(flood, true) as server:
        assert await ask(server, notes) == TRUE
    assert (notes.flaws, notes.suspicions) == ({flaw: MOST_WRONG_ANSWERS}, 1)
    assert server.streams == server.datagrams


async def test_one_fewer_does_not() -> None:
    """31 wrong answers, and then the true one."""
    _, forge = FORGERIES["another id"]
    notes = Notes()
    async with scripted_server(lambda query: [forge(query)] * 31 + [true(query)]) as server:
        assert await ask(server, notes) == TRUE
    assert (notes.flaws, notes.suspicions, server.streams) == ({Flaw.ID: 31}, 0, [])


async def test_another_case_leads_to_tcp() -> None:
    """A server that answers in lower case is asked over TCP; the datagram does not count."""

    def fold(query: bytes, address: str) -> bytes:
        return answer_to(query, address, name=NAME)

    notes = Notes()
    async with scripted_server(
        lambda query: [fold(query, FORGED)], lambda query: fold(query, TRUE)
    ) as server:
        assert await ask(server, notes) == TRUE
    assert (notes.flaws, notes.suspicions) == ({Flaw.CASE: 1}, 0)
    assert server.streams == server.datagrams


async def test_a_server_without_tcp_that_loses_the_case() -> None:
    """Nothing that it says counts: it can't be told from a forger."""
    async with scripted_server(lambda query: [answer_to(query, TRUE, name=NAME)], has_tcp=False) as server:
        with pytest.raises(ConnectionRefusedError):
            await ask(server, Notes())


async def test_a_failure_without_a_question_is_asked_again_by_tcp() -> None:
    """A server that can't read the question repeats none. Over UDP that would be forged by the id alone."""

    def header(query: bytes, flags: int) -> bytes:
        return query[:2] + (flags | dns.flags.QR).to_bytes(2, "big") + bytes(8)

    notes = Notes()
    async with scripted_server(lambda query: [header(query, 1)], lambda query: header(query, 1)) as server:
        assert await ask(server, notes) == "FORMERR"
    assert notes.flaws == {Flaw.NO_QUESTION: 1}
    async with scripted_server(lambda query: [header(query, 2)], true) as server:
        assert await ask(server, notes) == TRUE


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
async def test_only_a_failure_need_not_repeat_the_question(rcode: int) -> None:
    """A yes or a no without the question could be an answer to any."""

    def header(query: bytes) -> bytes:
        return query[:2] + (rcode | dns.flags.QR).to_bytes(2, "big") + bytes(8)

    async with scripted_server(lambda query: [header(query)], header) as server:
        with pytest.raises(MalformedAnswerError):
            await ask(server, Notes())
    assert len(server.streams) == 1


@pytest.mark.parametrize("kind", FORGERIES)
async def test_over_tcp_the_question_counts_as_well(kind: str) -> None:
    """An answer to another question is no answer, also where nobody can forge it."""
    _, forge = FORGERIES[kind]
    truncated = dns.flags.TC
    async with scripted_server(lambda query: [answer_to(query, flags=truncated)], forge) as server:
        with pytest.raises(MalformedAnswerError):
            await ask(server, Notes())
    assert len(server.streams) == 1


@pytest.mark.parametrize("over", ["UDP", "TCP"])
async def test_chaos(over: str) -> None:
    """An answer of class CHAOS has addresses that are no IP addresses: a failure, no traceback."""

    def chaos(query: bytes) -> bytes:
        return answer_to(query, "chaos. 1", rdclass="CH")

    def truncated(query: bytes) -> bytes:
        return answer_to(query, flags=dns.flags.TC)

    async with scripted_server(
        lambda query: [chaos(query) if over == "UDP" else truncated(query)], chaos
    ) as server:
        resolver = DNSResolver([server.where], attempt_timeout=0.1, deadline=0.1)
        with pytest.raises(ResolutionError):
            await resolver.addresses_of(HOST, version=4)


async def test_chaos_in_an_answer_to_a_true_question() -> None:
    """Records of another class than the question's are not the answer's."""

    def mixed(query: bytes) -> bytes:
        answer = dns.message.from_wire(true(query))
        answer.answer = [dns.rrset.from_text(answer.question[0].name, 60, "CH", "A", "chaos. 1")]
        return answer.to_wire()

    async with scripted_server(lambda query: [mixed(query)]) as server:
        resolver = DNSResolver([server.where], attempt_timeout=1.0, deadline=1.0)
        assert (await resolver.addresses_of(HOST, version=4)).addresses == frozenset()


async def test_wrong_answers_are_counted_in_the_metrics() -> None:
    """By reason; and the questions that went over TCP for their number."""
    _, forge = FORGERIES["another id"]
    metrics = Metrics()
    async with scripted_server(lambda query: [forge(query)] * 32, true) as server:
        resolver = DNSResolver(
            [server.where], attempt_timeout=PATIENCE, deadline=PATIENCE, note=metrics.note_wrong_answer
        )
        assert (await resolver.addresses_of(HOST, version=4)).addresses == {CALLER}
    assert metrics.dns_wrong_answers.read()[Flaw.ID,] == 32
    assert metrics.dns_forgeries_suspected.read() == {(): 1}
    assert metrics.dns_wrong_answers.values == tuple(Flaw)


# --- any bytes ------------------------------------------------------------------------------------


SHAPES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "as it is": lambda _, data: data,
    "with the id": lambda query, data: query[:2] + data,
    "with the question": lambda query, data: (
        query[:2] + bytes([0x84, data[0] & 15 if data else 0, 0, 1])
        + bytes([0, data[1] & 3 if len(data) > 1 else 1, 0, 0, 0, data[2] & 1 if len(data) > 2 else 0])
        + query[12:] + data[3:]
    ),
    "a record": lambda query, data: (
        query[:2] + bytes([0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]) + query[12:]
        + b"\xc0\x0c" + query[-4:] + bytes(4) + len(data).to_bytes(2, "big") + data
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("over", ["UDP", "TCP"])
def test_any_bytes(shape: str, over: str) -> None:
    """Whatever comes, an exchange ends in an answer, one of its errors or a time-out; a resolver in an answer
    or a ResolutionError.
    """
    make = SHAPES[shape]

    async def try_bytes(data: bytes) -> None:
        def scripted(query: bytes) -> bytes:
            return make(query, data)

        def truncated(query: bytes) -> bytes:
            return answer_to(query, flags=dns.flags.TC)

        async with scripted_server(
            lambda query: [scripted(query) if over == "UDP" else truncated(query)], scripted
        ) as server:
            try:
                answer = await exchange(NAME, dns.rdatatype.A, server.where, 0.01)
            except (MalformedAnswerError, LongAnswerError, TimeoutError, OSError):
                pass
            else:
                assert isinstance(answer, dns.message.Message)
            resolver = DNSResolver([server.where], attempt_timeout=0.01, deadline=0.01)
            results = await asyncio.gather(
                resolver.addresses_of(HOST, version=4),
                resolver.addresses_of(HOST, version=6),
                resolver.names_of(CALLER),
                return_exceptions=True,
            )
            for result in results:
                assert isinstance(result, AddressAnswer | PointerAnswer | ResolutionError), repr(result)

    with asyncio.Runner() as runner:

        @given(st.binary(max_size=80))
        def check(data: bytes) -> None:
            runner.run(try_bytes(data))

        check()
