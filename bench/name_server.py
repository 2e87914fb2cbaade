"""The stand-in for DNS: PTR and A of every caller, made from the question and so never late."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, cast

from bench.callers import DOMAIN, address_of, host_part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEADER = struct.Struct("!6H")
_A, _PTR = 1, 12
_AUTHORITATIVE_ANSWER = 0x8580  # QR AA RD RA, RFC 1035 section 4.1.1
_QUESTION_NAME = b"\xc0\x0c"  # a pointer to the name in the question, section 4.1.4
_NAME_ERROR = 3
_TTL = 600
_REVERSE_ZONE = [b"127", b"in-addr", b"arpa"]
_DOMAIN_LABELS = DOMAIN.encode().split(b".")


class NameServer(asyncio.DatagramProtocol):
    """Answers every question at once and counts them."""

    def __init__(self) -> None:
        self.question_count = 0
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        self.question_count += 1
        assert self._transport is not None
        self._transport.sendto(answer(data), addr)


def answer(query: bytes) -> bytes:
    """Return the answer to a query with one question. What the query has behind it (EDNS) is left out."""
    labels, end = _read_name(query)
    (kind,) = struct.unpack_from("!H", query, end)
    question = query[_HEADER.size : end + 4]
    record, exists = _find_record([label.lower() for label in labels], kind)
    flags = _AUTHORITATIVE_ANSWER | (0 if exists else _NAME_ERROR)
    header = _HEADER.pack(int.from_bytes(query[:2], "big"), flags, 1, 1 if record else 0, 0, 0)
    if not record:
        return header + question
    fixed = struct.pack("!HHIH", kind, 1, _TTL, len(record))
    return header + question + _QUESTION_NAME + fixed + record


def _find_record(labels: list[bytes], kind: int) -> tuple[bytes, bool]:
    """Return the data of the record, empty for none, and whether the name exists at all."""
    if labels[-3:] == _REVERSE_ZONE and len(labels) == len(_REVERSE_ZONE) + 3:
        octets = b".".join(reversed(labels[:4])).decode()
        name = [host_part(IPv4Address(octets)).encode(), *_DOMAIN_LABELS]
        return (_write_name(name) if kind == _PTR else b""), True
    if labels[1:] == _DOMAIN_LABELS and (address := address_of(labels[0].decode())):
        return (address.packed if kind == _A else b""), True
    return b"", False


def _read_name(message: bytes) -> tuple[list[bytes], int]:
    labels, position = [], _HEADER.size
    while length := message[position]:
        labels.append(message[position + 1 : position + 1 + length])
        position += 1 + length
    return labels, position + 1


def _write_name(labels: list[bytes]) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """Serve names on a free UDP port of 127.0.0.1 until the block ends."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Thousands of questions may stand in line while the loop is busy with callers: a lost question
    # would be the stand-in's fault and show up as the daemon's.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, sock=sock)
    try:
        yield protocol
    finally:
        transport.close()
