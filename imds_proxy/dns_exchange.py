"""One question to one name server: over UDP, and over TCP where the answer did not fit.

dnspython reads the messages. Its own resolver class costs more time for a question than the
message and both system calls together, and identification is what limits how many new callers a second
this daemon can take. And it reads whatever comes: an answer of 3,000 records, from whoever owns a
caller's reverse zone, takes a seventh of a second in which nobody else is served. Here the header is
looked at first.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass

if TYPE_CHECKING:
    import dns.name
    import dns.rdatatype

    from imds_proxy.model import IPAddress

Server = tuple["IPAddress", int]
"""A name server's address and port."""

MOST_RECORDS = 64
"""In an answer, its authority and additional sections included."""

MOST_BYTES = 8192

_HEADER = struct.Struct("!6H")  # id, flags, QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT: RFC 1035 section 4.1.1
_QUESTION_TAIL = struct.Struct("!2H")  # QTYPE, QCLASS: section 4.1.2
_NEEDS_QUESTION = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
_LENGTH = struct.Struct("!H")  # in front of a message over TCP: section 4.2.2


class MalformedAnswerError(Exception):
    """What came is no answer to the question."""


class LongAnswerError(Exception):
    """An answer is longer than anything that is worth reading; `records` is how many it has."""

    def __init__(self, records: int) -> None:
        super().__init__(f"an answer of {records} records")
        self.records = records


async def exchange(
    name: dns.name.Name, rdtype: dns.rdatatype.RdataType, server: Server, patience: float
) -> dns.message.Message:
    """Return the server's answer to a question, whatever its rcode.

    The socket, and so the source port, is this question's own: with plain DNS that is half of what
    keeps a forged answer out (RFC 5452 section 9.2), the random id is the other half.
    Raises TimeoutError after `patience` seconds, OSError when the server can't be reached,
    MalformedAnswerError, and LongAnswerError for an answer that nobody will read.
    """
    number = int.from_bytes(os.urandom(2), "big")
    question = name.to_digestable() + _QUESTION_TAIL.pack(rdtype, dns.rdataclass.IN)
    query = _HEADER.pack(number, dns.flags.RD, 1, 0, 0, 0) + question
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + patience):
        data = await _ask_over_udp(query, server)
        if _HEADER.unpack_from(data)[1] & dns.flags.TC:
            # Whatever did come may be cut anywhere (RFC 2181 section 9): it is not read.
            data = await _ask_over_tcp(query, server)
    _check_length(data, len(data))
    try:
        answer = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedAnswerError(f"malformed: {error}") from error
    has_question = [(one.name, one.rdtype) for one in answer.question] == [(name, rdtype)]
    # A server that could not even read the question need not repeat it.
    if answer.id != number or not (has_question or answer.rcode() not in _NEEDS_QUESTION):
        raise MalformedAnswerError("the answer is to another question")
    return answer


async def _ask_over_udp(query: bytes, server: Server) -> bytes:
    loop = asyncio.get_running_loop()
    address, port = server
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0)
        # Connected: the kernel lets nobody else's datagrams in, and tells when nobody listens there.
        sock.connect((str(address), port))
        sock.send(query)
        while True:
            data = await loop.sock_recv(sock, MOST_BYTES + 1)
            # Garbage may be forged: the true answer can still come.
            is_ours = len(data) >= _HEADER.size and data[:2] == query[:2]
            if is_ours and _HEADER.unpack_from(data)[1] & dns.flags.QR:
                return data


async def _ask_over_tcp(query: bytes, server: Server) -> bytes:
    address, port = server
    reader, writer = await asyncio.open_connection(str(address), port, limit=MOST_BYTES)
    try:
        writer.write(_LENGTH.pack(len(query)) + query)
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
