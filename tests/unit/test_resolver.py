"""resolver: what a real name server's answers and failures become. Loopback only."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING, cast

import dns.flags
import dns.message
import dns.rrset
import pytest

from imds_proxy.errors import ResolutionError
from imds_proxy.model import IPAddress, canonical_address
from imds_proxy.resolver import AddressAnswer, DNSResolver
from tests.standins.dns_server import NameServer, reverse_name, running_name_server

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "tuvfoo42.valid.example"
LABELS = (b"tuvfoo42", b"valid", b"example")
CALLER = canonical_address("10.0.0.5")
CALLER6 = canonical_address("fd00::5")
FAILURES = ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "malformed", "drop", "close"]


@pytest.fixture
def names() -> Iterator[NameServer]:
    with running_name_server() as server:
        yield server


@pytest.fixture
def silent_server() -> Iterator[tuple[IPAddress, int]]:
    """A server that takes questions and says nothing."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        yield canonical_address("127.0.0.1"), silent.getsockname()[1]


def where(server: NameServer) -> tuple[IPAddress, int]:
    return canonical_address(server.address), server.port


def resolver(*servers: tuple[IPAddress, int], deadline: float = 2.0) -> DNSResolver:
    return DNSResolver(servers, attempt_timeout=0.1, deadline=deadline)


@pytest.mark.parametrize("address", [CALLER, CALLER6], ids=str)
async def test_pointers(names: NameServer, address: IPAddress) -> None:
    """PTR names come as labels without the root, with their TTL, for IPv4 and IPv6."""
    names.add_host(str(address), HOST, ttl=17)
    answer = await resolver(where(names)).names_of(address)
    assert answer.names == (LABELS,)
    assert answer.ttl == 17


async def test_all_pointers(names: NameServer) -> None:
    """All PTR names come, also when they are too many for a datagram."""
    names.set_pointers(str(CALLER), *(f"tuvfoo{number}.valid.example" for number in range(50)))
    answer = await resolver(where(names)).names_of(CALLER)
    assert set(answer.names) == {(b"tuvfoo%d" % number, *LABELS[1:]) for number in range(50)}


async def test_very_many_pointers(names: NameServer) -> None:
    """An answer of hundreds of records is not read: it is said to be long, over TCP too."""
    names.set_pointers(str(CALLER), *(f"tuvfoo{number}.valid.example" for number in range(200)))
    answer = await resolver(where(names)).names_of(CALLER)
    assert (answer.names, answer.is_long) == ((), True)


async def test_very_many_addresses(names: NameServer) -> None:
    """A name with hundreds of addresses leaves the question open: nobody reads them all."""
    names.set_records(HOST, "A", *(f"10.{number // 250}.0.{number % 250}" for number in range(200)))
    with pytest.raises(ResolutionError, match="an answer of 200 records"):
        await resolver(where(names)).addresses_of(HOST, version=4)


async def test_an_escaped_dot(names: NameServer) -> None:
    r"""A dot inside a label stays inside: `evil\.valid.example.` has two labels."""
    names.set_records(reverse_name("10.0.0.5"), "PTR", r"evil\.valid.example.", r"nul\000.valid.example.")
    answer = await resolver(where(names)).names_of(CALLER)
    assert set(answer.names) == {(b"evil.valid", b"example"), (b"nul\0", b"valid", b"example")}


async def test_the_root_as_a_name(names: NameServer) -> None:
    """A PTR that leads to the root is a name without labels, and no error."""
    names.set_records(reverse_name("10.0.0.5"), "PTR", ".")
    assert (await resolver(where(names)).names_of(CALLER)).names == ((),)


async def test_a_delegated_reverse_zone(names: NameServer) -> None:
    """RFC 2317: a PTR behind a CNAME is found; the shorter of the two TTLs counts."""
    names.set_records(reverse_name("10.0.0.5"), "CNAME", "5.0-15.0.0.10.in-addr.arpa.", ttl=30)
    names.set_records("5.0-15.0.0.10.in-addr.arpa", "PTR", f"{HOST}.", ttl=300)
    answer = await resolver(where(names)).names_of(CALLER)
    assert (answer.names, answer.ttl) == ((LABELS,), 30)


async def test_addresses(names: NameServer) -> None:
    """A is asked for IPv4 and AAAA for IPv6; all addresses come, with the TTL."""
    names.set_records(HOST, "A", "10.0.0.5", "10.0.0.6", ttl=5)
    names.set_records(HOST, "AAAA", "fd00::5", ttl=6)
    made = resolver(where(names))
    four, six = await made.addresses_of(HOST, version=4), await made.addresses_of(HOST, version=6)
    assert four == AddressAnswer(frozenset({CALLER, canonical_address("10.0.0.6")}), 5)
    assert six == AddressAnswer(frozenset({CALLER6}), 6)
    assert (names.queries(HOST, "A"), names.queries(HOST, "AAAA")) == (1, 1)


async def test_no_such_name(names: NameServer) -> None:
    """NXDOMAIN is an answer: no names, no addresses."""
    made = resolver(where(names))
    assert (await made.names_of(CALLER)).names == ()
    assert (await made.addresses_of(HOST, version=4)).addresses == frozenset()


async def test_an_empty_answer(names: NameServer) -> None:
    """A name without the wanted type is an answer too: none."""
    names.set_records(HOST, "TXT", "text")
    names.set_records(reverse_name("10.0.0.5"), "TXT", "text")
    made = resolver(where(names))
    assert (await made.addresses_of(HOST, version=6)).addresses == frozenset()
    assert (await made.names_of(CALLER)).names == ()


async def test_an_alias_that_leads_nowhere(names: NameServer) -> None:
    """A CNAME to a name that does not exist is a negative answer."""
    names.set_records(HOST, "CNAME", "nowhere.valid.example.")
    assert (await resolver(where(names)).addresses_of(HOST, version=4)).addresses == frozenset()


@pytest.mark.parametrize("kind", FAILURES)
async def test_failures(names: NameServer, kind: str) -> None:
    """What leaves the question open is a ResolutionError that names the question, never an empty answer."""
    names.add_host("10.0.0.5", HOST)
    names.fault_all(kind)
    made = resolver(where(names), deadline=0.3)
    with pytest.raises(ResolutionError, match=r"^A tuvfoo42\.valid\.example: ."):
        await made.addresses_of(HOST, version=4)
    with pytest.raises(ResolutionError, match=r"^PTR 5\.0\.0\.10\.in-addr\.arpa: ."):
        await made.names_of(CALLER)


async def test_failures_end(names: NameServer) -> None:
    """A server that failed is asked again by the next question."""
    names.add_host("10.0.0.5", HOST)
    names.fault_all("SERVFAIL")
    made = resolver(where(names))
    with pytest.raises(ResolutionError):
        await made.addresses_of(HOST, version=4)
    names.heal()
    assert (await made.addresses_of(HOST, version=4)).addresses == {CALLER}


async def test_nobody_listens() -> None:
    """A port at which nobody answers is a failure."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ResolutionError):
        await resolver((canonical_address("127.0.0.1"), port), deadline=0.3).names_of(CALLER)


async def test_no_route() -> None:
    """An address that no packet may leave for is a failure."""
    with pytest.raises(ResolutionError):
        await resolver((canonical_address("255.255.255.255"), 53), deadline=0.3).names_of(CALLER)


@pytest.mark.parametrize("kind", ["SERVFAIL", "REFUSED", "malformed"])
async def test_the_next_server(names: NameServer, kind: str) -> None:
    """A server that fails is passed over: the next one's answer counts."""
    names.add_host("10.0.0.5", HOST)
    with running_name_server() as first:
        first.fault_all(kind)
        answer = await resolver(where(first), where(names)).names_of(CALLER)
        assert first.queries() == 1
    assert answer.names == (LABELS,)


async def test_a_dead_first_server(names: NameServer, silent_server: tuple[IPAddress, int]) -> None:
    """A server that says nothing costs one try's time: the next one's answer counts."""
    names.add_host("10.0.0.5", HOST)
    answer = await resolver(silent_server, where(names)).names_of(CALLER)
    assert answer.names == (LABELS,)


async def test_only_dead_servers(silent_server: tuple[IPAddress, int]) -> None:
    """When nobody answers within the deadline, the error says so in a few words."""
    with pytest.raises(ResolutionError, match=r": no answer in time$"):
        await resolver(silent_server, deadline=0.3).names_of(CALLER)


async def test_a_negative_answer_is_no_failure_of_the_server(names: NameServer) -> None:
    """After NXDOMAIN the second server is not asked: the first one's no is an answer."""
    with running_name_server() as first:
        answer = await resolver(where(first), where(names)).names_of(CALLER)
    assert answer.names == ()
    assert names.queries() == 0


async def test_no_search_list(names: NameServer) -> None:
    """Only the name itself is asked for: no domain of the gateway's is hung on to it."""
    assert (await resolver(where(names)).addresses_of("tuvfoo42", version=4)).addresses == frozenset()
    assert names.queries("tuvfoo42", "A") == names.queries() == 1


async def test_source_ports() -> None:
    """Questions under way at the same time each have a port of their own (RFC 5452 section 9.2)."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        made = resolver((canonical_address("127.0.0.1"), silent.getsockname()[1]), deadline=0.25)
        questions = [made.addresses_of(f"tuvfoo{number}.valid.example", version=4) for number in range(8)]
        results = await asyncio.gather(*questions, return_exceptions=True)
        assert all(isinstance(result, ResolutionError) for result in results)
        senders = []
        with suppress(BlockingIOError):
            while True:
                senders.append(silent.recvfrom(512)[1])
    assert len(set(senders)) >= 8


class Truncating(asyncio.DatagramProtocol):
    """Answers every question with "too long, ask over TCP"."""

    def __init__(self) -> None:
        self.questions = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Count and answer."""
        self.questions += 1
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.flags |= dns.flags.TC
        self._transport.sendto(answer.to_wire(), addr)


async def test_a_server_that_hangs_up() -> None:
    """A server that asks for TCP and hangs up there has failed: it is not asked over and over again."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        where_it_is = server.sockets[0].getsockname()
        transport, truncating = await asyncio.get_running_loop().create_datagram_endpoint(
            Truncating, local_addr=where_it_is
        )
        with pytest.raises(ResolutionError, match=r"closed without a whole answer|reset by peer"):
            await resolver((canonical_address(where_it_is[0]), where_it_is[1])).names_of(CALLER)
        transport.close()
    assert truncating.questions == 1


async def test_a_long_story_is_cut(names: NameServer) -> None:
    """The text of a failure is one line of bearable length, whatever the server's name for it."""
    long_name = ".".join(["x" * 60] * 4)
    names.fault(long_name, "SERVFAIL")
    with pytest.raises(ResolutionError) as failure:
        await resolver(where(names)).addresses_of(long_name, version=4)
    assert "\n" not in str(failure.value)
    assert len(str(failure.value)) < 600


class Cutting(Truncating):
    """Says "too long" in an answer that is itself cut in the middle of a record."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Count and answer."""
        self.questions += 1
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.TC
        answer.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "PTR", "a.example."))
        self._transport.sendto(answer.to_wire()[:-9], addr)


async def test_a_cut_answer_is_asked_for_over_tcp() -> None:
    """An answer that is truncated inside a record is not garbage: the whole one is asked for over TCP."""
    asked: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(512))
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        where_it_is = server.sockets[0].getsockname()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Cutting, local_addr=where_it_is
        )
        with pytest.raises(ResolutionError):
            await resolver((canonical_address(where_it_is[0]), where_it_is[1])).names_of(CALLER)
        transport.close()
    assert len(asked) == 1
