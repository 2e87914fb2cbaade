"""What goes over loopback, packet by packet: the payload of TCP segments and how far they may travel."""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALL_PROTOCOLS = 0x0003
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP = 6
_IPV6_HEADER = 40
_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER, which the socket module has no name for."""


class CaptureUnavailableError(Exception):
    """This process may not look at packets."""


@dataclass(frozen=True)
class Segment:
    """A TCP segment on its way."""

    source_port: int
    hops: int
    """IPv4's time to live, IPv6's hop limit."""
    payload: bytes


class Capture:
    """The segments that left from one port over loopback since the capture began."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def take_segments(self) -> list[Segment]:
        """Return the segments with a payload that have come since the last time, once each."""
        found: list[Segment] = []
        while True:
            try:
                packet, address = self._socket.recvfrom(65536)
            except BlockingIOError:
                return found
            segment = _parse(packet, address[1])
            # Loopback shows each packet twice: once as it leaves and once as it arrives.
            if segment is not None and address[2] == socket.PACKET_OUTGOING and segment.payload:
                found.append(segment)


def _parse(packet: bytes, protocol: int) -> Segment | None:
    if protocol == _IPV4 and packet[9] == _TCP:
        length = int.from_bytes(packet[2:4], "big")
        hops, tcp = packet[8], packet[(packet[0] & 15) * 4 : length]
    elif protocol == _IPV6 and packet[6] == _TCP:
        length = int.from_bytes(packet[4:6], "big")
        hops, tcp = packet[7], packet[_IPV6_HEADER : _IPV6_HEADER + length]
    else:
        return None
    return Segment(int.from_bytes(tcp[:2], "big"), hops, tcp[(tcp[12] >> 4) * 4 :])


def _filter_for(port: int) -> bytes:
    """Return a classic BPF program that lets packets with this TCP source port pass (no IPv4 options)."""
    load_byte, load_half, jump_equal, shift_right, give = 0x30, 0x28, 0x15, 0x74, 0x06
    program = [
        (load_byte, 0, 0, 0),
        (shift_right, 0, 0, 4),
        (jump_equal, 0, 2, 4),
        (load_half, 0, 0, 20),
        (jump_equal, 2, 3, port),
        (load_half, 0, 0, _IPV6_HEADER),
        (jump_equal, 0, 1, port),
        (give, 0, 0, 0xFFFF),
        (give, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


@contextmanager
def capturing(port: int) -> Iterator[Capture]:
    """Watch what leaves from a TCP port over loopback for the length of the block.

    Raises CaptureUnavailableError without CAP_NET_RAW.
    """
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except (AttributeError, PermissionError) as error:
        raise CaptureUnavailableError(f"packets can't be watched: {error}") from error
    with sock:
        program = ctypes.create_string_buffer(_filter_for(port))
        size = (len(program) - 1) // 8
        # The kernel drops what a full buffer can't take: others' packets must not fill it.
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", size, ctypes.addressof(program)))
        sock.bind(("lo", _ALL_PROTOCOLS))
        sock.setblocking(False)
        yield Capture(sock)
