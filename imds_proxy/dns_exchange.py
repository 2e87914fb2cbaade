"""One question to one name server: over UDP, and over TCP where the answer did not fit.

dnspython reads and writes the messages. Its own resolver class costs more time for a question than the
message and both system calls together, and identification is what limits how many new callers a second
this daemon can take. And it reads whatever comes: an answer of 3,000 records, from whoever owns a
caller's reverse zone, takes a seventh of a second in which nobody else is served. Here the header is
looked at first.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message

if TYPE_CHECKING:
    from imds_proxy.model import IPAddress

Server = tuple["IPAddress", int]
"""A name server's address and port."""

MOST_RECORDS = 64
"""In an answer, its authority and additional sections included."""

MOST_BYTES = 8192

_HEADER = struct.Struct("!6H")  # id, flags, QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT: RFC 1035 section 4.1.1
_LENGTH = struct.Struct("!H")  # in front of a message over TCP: section 4.2.2


class MalformedAnswerError(Exception):
    """What came is no answer to the question."""


class LongAnswerError(Exception):
    """An answer is longer than anything that is worth reading; `records` is how many it has."""

    def __init__(self, records: int) -> None:
        super().__init__(f"an answer of {records} records")
        self.records = records


class _Datagrams(asyncio.DatagramProtocol):
    """Waits for the datagram that answers a question and takes no notice of others."""

    def __init__(self, query: dns.message.QueryMessage, arrival: asyncio.Future[bytes]) -> None:
        self._query = query
        self._arrival = arrival

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take an answer to the question. Garbage may be forged: the true answer can still come."""
        del addr  # the socket is connected, so the kernel lets nobody else's datagrams in
        if len(data) >= _HEADER.size and not self._arrival.done():
            number, flags, *_ = _HEADER.unpack_from(data)
            if number == self._query.id and flags & dns.flags.QR:
                self._arrival.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """Give up at once when nobody listens there (ICMP port unreachable)."""
        if not self._arrival.done():
            self._arrival.set_exception(exc)


async def exchange(query: dns.message.QueryMessage, server: Server, patience: float) -> dns.message.Message:
    """Return the server's answer to a question, whatever its rcode.

    The socket, and so the source port, is this question's own: with plain DNS that is half of what
    keeps a forged answer out (RFC 5452 section 9.2), the random id is the other half.
    Raises TimeoutError after `patience` seconds, OSError when the server can't be reached,
    MalformedAnswerError, and LongAnswerError for an answer that nobody will read.
    """
    until = asyncio.get_running_loop().time() + patience
    wire = query.to_wire()
    async with asyncio.timeout_at(until):
        data = await _ask_over_udp(query, wire, server)
        if _HEADER.unpack_from(data)[1] & dns.flags.TC:
            # Whatever did come may be cut anywhere (RFC 2181 section 9): it is not read.
            data = await _ask_over_tcp(wire, server)
    _check_length(data, len(data))
    try:
        answer = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedAnswerError(f"malformed: {error}") from error
    if not query.is_response(answer):
        raise MalformedAnswerError("the answer is to another question")
    return answer


async def _ask_over_udp(query: dns.message.QueryMessage, wire: bytes, server: Server) -> bytes:
    loop = asyncio.get_running_loop()
    arrival: asyncio.Future[bytes] = loop.create_future()
    address, port = server
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(query, arrival), remote_addr=(str(address), port)
    )
    try:
        transport.sendto(wire)
        return await arrival
    finally:
        transport.close()


async def _ask_over_tcp(wire: bytes, server: Server) -> bytes:
    address, port = server
    reader, writer = await asyncio.open_connection(str(address), port, limit=MOST_BYTES)
    try:
        writer.write(_LENGTH.pack(len(wire)) + wire)
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        head = await reader.readexactly(min(length, _HEADER.size))
        _check_length(head, length)
        return head + await reader.readexactly(length - len(head))
    except asyncio.IncompleteReadError as error:
        # Not a time-out: a server that hangs up at once would be asked again at once, all the time there is.
        raise ConnectionResetError("the connection was closed without a whole answer") from error
    finally:
        writer.close()


def _check_length(head: bytes, length: int) -> None:
    if len(head) < _HEADER.size:
        raise MalformedAnswerError("the answer is shorter than a header")
    _, _, _, answers, authorities, additional = _HEADER.unpack_from(head)
    records = answers + authorities + additional
    if records > MOST_RECORDS or length > MOST_BYTES:
        raise LongAnswerError(records)
