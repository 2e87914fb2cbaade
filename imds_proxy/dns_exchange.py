"""One question to one name server: over UDP, and over TCP where the answer did not fit.

dnspython reads the messages. Its own resolver class costs more time for a question than the
message and both system calls together, and identification is what limits how many new callers a second
this daemon can take. And it reads whatever comes: an answer of 3,000 records, from whoever owns a
caller's reverse zone, takes a seventh of a second in which nobody else is served. Here the header is
looked at first.

An answer that was forged off the path must hit this question's source port, its id, and the case in which
each letter of the name was sent. A datagram that does not repeat all of it is dropped and counted. After
MOST_WRONG_ANSWERS of them the same question goes over TCP, which nobody forges without seeing it.

DNS cookies (RFC 7873) are not sent. To read one in an answer costs dnspython 30 us where a whole question
costs 200 us, and servers that know no EDNS would have to be asked twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from enum import StrEnum
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

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

MOST_WRONG_ANSWERS = 32
"""Datagrams to one question. A server has no reason to send one."""

_HEADER = struct.Struct("!6H")  # id, flags, QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT: RFC 1035 section 4.1.1
_QUESTION_TAIL = struct.Struct("!2H")  # QTYPE, QCLASS: section 4.1.2
_NEEDS_QUESTION = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
_LENGTH = struct.Struct("!H")  # in front of a message over TCP: section 4.2.2
_DOCKERS_SERVER = IPv4Address("127.0.0.11")
"""It has no answer to a PTR question with an upper-case letter. No other host can reach it, or forge it."""

_CASE_BITS = bytes(0x20 if byte < 128 and chr(byte).isalpha() else 0 for byte in range(256))
"""Translation table: for each byte the bit between `A` and `a`. Lengths of labels are no letters."""


class Flaw(StrEnum):
    """What is wrong with a datagram that came instead of the answer, for counting."""

    GARBAGE = "garbage"
    ID = "id"
    QUESTION = "question"
    CASE = "case"
    NO_QUESTION = "no_question"


_WORTH_TCP = (Flaw.CASE, Flaw.NO_QUESTION)
"""A few servers answer so. With the right id it is worth a question by TCP, where the answer counts."""


class Note(Protocol):
    """What hears of datagrams that are not the answer."""

    def __call__(self, flaw: str, *, is_suspicious: bool) -> None:
        """Count one; `is_suspicious`: it is one too many for an accident."""


class MalformedAnswerError(Exception):
    """What came is no answer to the question."""


class LongAnswerError(Exception):
    """An answer is longer than anything that is worth reading; `records` is how many it has."""

    def __init__(self, records: int) -> None:
        super().__init__(f"an answer of {records} records")
        self.records = records


def note_nothing(flaw: str, *, is_suspicious: bool) -> None:
    """Count nothing."""


async def exchange(
    name: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
    server: Server,
    patience: float,
    note: Note = note_nothing,
) -> dns.message.Message:
    """Return the server's answer to a question, whatever its rcode.

    The socket, and so the source port, is this question's own, the id and the case of the name's letters
    are random: with plain DNS that is all that keeps a forged answer out (RFC 5452 section 9.2). `note` hears
    of each datagram that is dropped.
    Raises TimeoutError after `patience` seconds, OSError when the server can't be reached,
    MalformedAnswerError, and LongAnswerError for an answer that nobody will read.
    """
    wire = name.to_digestable()
    noise = os.urandom(len(wire) + 2)
    head = _HEADER.pack(int.from_bytes(noise[:2], "big"), dns.flags.RD, 1, 0, 0, 0)
    tail = _QUESTION_TAIL.pack(rdtype, dns.rdataclass.IN)
    query = head + (wire if server[0] == _DOCKERS_SERVER else _mix_case(wire, noise[2:])) + tail
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + patience):
        data = await _ask_over_udp(query, server, note)
        if data is None:
            data = await _ask_over_tcp(query, server)
    _check_length(data, len(data))
    if _HEADER.unpack_from(data)[2]:
        # Names in the answer point to the question's: they come out in lower case.
        data = data[: _HEADER.size] + wire + tail + data[len(query) :]
    try:
        return dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedAnswerError(f"malformed: {error}") from error


def _mix_case(wire: bytes, noise: bytes) -> bytes:
    """Return a name in wire format with the case of each letter as the bits of `noise` have it."""
    turned = int.from_bytes(noise, "big") & int.from_bytes(wire.translate(_CASE_BITS), "big")
    return (int.from_bytes(wire, "big") ^ turned).to_bytes(len(wire), "big")


async def _ask_over_udp(query: bytes, server: Server, note: Note) -> bytes | None:
    """Return the answer; None: the question has to be asked over TCP."""
    loop = asyncio.get_running_loop()
    address, port = server
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0)
        # Connected: the kernel lets nobody else's datagrams in, and tells when nobody listens there.
        sock.connect((str(address), port))
        sock.send(query)
        for count in range(1, MOST_WRONG_ANSWERS + 1):
            data = await loop.sock_recv(sock, MOST_BYTES + 1)
            flaw = _find_flaw(query, data)
            if flaw is None:
                # Whatever did come may be cut anywhere (RFC 2181 section 9): it is not read.
                return None if _HEADER.unpack_from(data)[1] & dns.flags.TC else data
            # It may be forged: the true answer can still come.
            note(flaw, is_suspicious=count == MOST_WRONG_ANSWERS)
            if flaw in _WORTH_TCP:
                return None
    return None


def _find_flaw(query: bytes, data: bytes) -> Flaw | None:
    """Return what is wrong with a message as the answer to a query; None: it repeats id and question."""
    if len(data) < _HEADER.size:
        return Flaw.GARBAGE
    number, flags, questions, *_ = _HEADER.unpack_from(data)
    if not flags & dns.flags.QR:
        return Flaw.GARBAGE
    if number != int.from_bytes(query[:2], "big"):
        return Flaw.ID
    if not questions:
        return Flaw.NO_QUESTION
    asked, repeated = query[_HEADER.size :], data[_HEADER.size : len(query)]
    if questions == 1 and repeated == asked:
        return None
    tail = -_QUESTION_TAIL.size
    is_same = (repeated[:tail].lower(), repeated[tail:]) == (asked[:tail].lower(), asked[tail:])
    return Flaw.CASE if questions == 1 and is_same else Flaw.QUESTION


async def _ask_over_tcp(query: bytes, server: Server) -> bytes:
    address, port = server
    reader, writer = await asyncio.open_connection(str(address), port, limit=MOST_BYTES)
    try:
        writer.write(_LENGTH.pack(len(query)) + query)
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        head = await reader.readexactly(min(length, _HEADER.size))
        _check_length(head, length)
        data = head + await reader.readexactly(length - len(head))
    except asyncio.IncompleteReadError as error:
        # Not a time-out: a server that hangs up at once would be asked again at once, all the time there is.
        raise ConnectionResetError("the connection was closed without a whole answer") from error
    finally:
        writer.close()
    flaw = _find_flaw(query, data)
    # A server that could not even read the question need not repeat it.
    has_failed = dns.rcode.from_flags(_HEADER.unpack_from(data)[1], 0) not in _NEEDS_QUESTION
    if flaw in {None, Flaw.CASE} or (flaw is Flaw.NO_QUESTION and has_failed):
        return data
    raise MalformedAnswerError("the answer is to another question")


def _check_length(head: bytes, length: int) -> None:
    if len(head) < _HEADER.size:
        raise MalformedAnswerError("the answer is shorter than a header")
    _, _, _, answers, authorities, additional = _HEADER.unpack_from(head)
    records = answers + authorities + additional
    if records > MOST_RECORDS or length > MOST_BYTES:
        raise LongAnswerError(records)
