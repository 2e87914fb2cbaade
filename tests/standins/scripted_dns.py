"""A name server on loopback whose answers a test makes, datagram by datagram, in the test's own event loop.

async with scripted_server(over_udp=lambda query: [forged(query), true(query)]) as server:
    await exchange(name, rdtype, server.where, 1.0)
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from imds_proxy.model import IPAddress, canonical_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

_PORT_TRIES = 20
_LAST_TURNS = 5
"""Of the event loop: a connection that was accepted just now must not find its server closed."""
ADDRESS = "127.0.0.1"


@dataclass
class ScriptedServer:
    """Where it listens, and what it was asked."""

    over_udp: Callable[[bytes], Iterable[bytes]]
    over_tcp: Callable[[bytes], bytes | None]
    where: tuple[IPAddress, int] = (canonical_address(ADDRESS), 0)
    datagrams: list[bytes] = field(default_factory=list)
    streams: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with every question."""
    _senders: dict[int, tuple[str, int]] = field(default_factory=dict)
    _transport: asyncio.DatagramTransport | None = None

    def take(self, query: bytes, sender: tuple[str, int]) -> None:
        """Note a datagram and answer it by the script."""
        self._senders[len(self.datagrams)] = sender
        self.datagrams.append(query)
        self.asked.set()
        for answer in self.over_udp(query):
            self.send(len(self.datagrams) - 1, answer)

    def send(self, number: int, answer: bytes) -> None:
        """Answer the datagram of that number, now."""
        assert self._transport is not None
        self._transport.sendto(answer, self._senders[number])

    async def await_questions(self, count: int) -> None:
        """Wait until so many datagrams have come."""
        async with asyncio.timeout(10):
            while len(self.datagrams) < count:
                self.asked.clear()
                await self.asked.wait()

    def open_ports(self, numbers: Iterable[int]) -> int:
        """Return at how many of these datagrams' source ports somebody still waits for an answer."""
        count = 0
        for number in numbers:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind(self._senders[number])
                except OSError:
                    count += 1
        return count


def answer_to(query: bytes, *records: str, **changes: Any) -> bytes:
    """Return an answer with these records (of the type that is asked for, as in a zone file).

    `changes`: `id`, `rcode`, `flags` (added), `name`, `rdtype`, `rdclass` of the repeated question.
    """
    asked = dns.message.from_wire(query)
    question = asked.question[0]
    answer = dns.message.make_response(asked)
    name = changes.get("name", question.name)
    rdclass = dns.rdataclass.from_text(changes.get("rdclass", "IN"))
    rdtype = dns.rdatatype.from_text(changes.get("rdtype", dns.rdatatype.to_text(question.rdtype)))
    answer.question = [dns.rrset.RRset(name, rdclass, rdtype)]
    if records:
        answer.answer.append(dns.rrset.from_text(name, 60, rdclass, rdtype, *records))
    answer.id = changes.get("id", asked.id)
    answer.flags |= changes.get("flags", 0)
    answer.set_rcode(changes.get("rcode", 0))
    return answer.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.take(data, addr)


@asynccontextmanager
async def scripted_server(
    over_udp: Callable[[bytes], Iterable[bytes]],
    over_tcp: Callable[[bytes], bytes | None] = lambda _: None,
    *,
    has_tcp: bool = True,
    address: str = ADDRESS,
) -> AsyncIterator[ScriptedServer]:
    """Run the server on one free port for both transports; TCP without an answer is closed."""
    server = ScriptedServer(over_udp, over_tcp)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            length = int.from_bytes(await reader.readexactly(2), "big")
            query = await reader.readexactly(length)
            server.streams.append(query)
            answer = over_tcp(query)
            if answer is not None:
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        writer.close()

    stream, transport = await _listen(server, serve, address)
    if not has_tcp:
        stream.close()
    try:
        yield server
    finally:
        transport.close()
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(0)
        stream.close()


async def _listen(
    server: ScriptedServer,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
    address: str,
) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
    loop = asyncio.get_running_loop()
    for attempt in range(_PORT_TRIES):
        stream = await asyncio.start_server(serve, address, 0)
        port = stream.sockets[0].getsockname()[1]
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(server), local_addr=(address, port)
            )
        except OSError:
            stream.close()
            if attempt == _PORT_TRIES - 1:
                raise
            continue
        server.where = canonical_address(address), port
        server._transport = transport
        return stream, transport
    raise AssertionError("unreachable: the last try raises")
