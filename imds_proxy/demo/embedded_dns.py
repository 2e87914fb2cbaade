"""The demo's DNS server: PTR and A records of its machines over UDP, asked by the daemon's own resolver."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from imds_proxy.demo.machines import Machine

_TTL = 5  # seconds; short, so that nothing outlives what a visitor tries next

Zone = dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset]


def make_zone(machines: Iterable[Machine]) -> Zone:
    """Return the records: every machine's PTR, and the A record of the machines that do not lie."""
    zone: Zone = {}
    for machine in machines:
        reverse = dns.reversename.from_address(machine.address)
        name = dns.name.from_text(machine.claimed_name)
        zone[reverse, dns.rdatatype.PTR] = dns.rrset.from_text(reverse, _TTL, "IN", "PTR", name.to_text())
        if machine.role is not None:
            zone[name, dns.rdatatype.A] = dns.rrset.from_text(name, _TTL, "IN", "A", machine.address)
    return zone


def answer(query_wire: bytes, zone: Zone) -> bytes | None:
    """Return the answer to a query in wire format; None, which is silence, for what is no query.

    A name that the zone lacks is NXDOMAIN, a known name without the asked type an empty NOERROR
    (RFC 2308 section 2).
    """
    try:
        query = dns.message.from_wire(query_wire)
    except (dns.exception.DNSException, ValueError):
        return None
    if query.flags & dns.flags.QR or query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        return None
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    question = query.question[0]
    record = zone.get((question.name, question.rdtype))
    if record is not None:
        response.answer.append(record)
    elif all(name != question.name for name, _ in zone):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


class _Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not isinstance: asyncio's own datagram transport is no DatagramTransport before 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = answer(data, self._zone)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)


@asynccontextmanager
async def serve_dns(zone: Zone) -> AsyncIterator[str]:
    """Answer queries on a free UDP port of 127.0.0.1; gives its `ADDRESS:PORT`."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Server(zone), local_addr=("127.0.0.1", 0))
    try:
        host, port = transport.get_extra_info("sockname")
        yield f"{host}:{port}"
    finally:
        transport.close()
