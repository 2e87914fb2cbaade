"""A router advertisement (RFC 4861 section 4.2): what makes a machine give itself IPv6 addresses."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.lab.namespaces import Namespace

_ADVERTISEMENT = struct.Struct("!BBHBBHII")
"""Type, code, checksum (the kernel's), hop limit, flags, router's life, reachable time, retransmission."""
_PREFIX = struct.Struct("!BBBBIII16s")
_TYPE, _PREFIX_OPTION, _ON_LINK_AND_AUTONOMOUS = 134, 3, 0xC0
_LIFE = 3600


def advertise(router: Namespace, machine_link_local: str, prefix: str) -> None:
    """Tell one machine on the router's `eth0` to make addresses in a prefix (/64), and of no default route.

    To that machine's link-local address alone: the others on the LAN stay as they are.
    """
    network = IPv6Network(prefix)
    packet = _ADVERTISEMENT.pack(_TYPE, 0, 0, 64, 0, 0, 0, 0) + _PREFIX.pack(
        _PREFIX_OPTION, 4, network.prefixlen, _ON_LINK_AND_AUTONOMOUS, _LIFE, _LIFE, 0, network[0].packed
    )
    with (
        router.entered(),
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        interface = socket.if_nametoindex("eth0")
        sock.sendto(packet, (machine_link_local, 0, 0, interface))
