"""The doctor on DNS: name servers, domains, the system's resolver, zones that strangers may write."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, cast

import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.update
import pytest

from imds_proxy.doctor.lookups import (
    Reply,
    examine_domains,
    examine_servers,
    judge_domain,
    judge_servers,
    judge_system_resolver,
)
from imds_proxy.doctor.updates import (
    Try,
    Zone,
    examine_zones,
    find_zone,
    judge_zone,
    names_of,
    names_to_ask,
    send_update,
)
from tests.standins.dns_server import running_name_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imds_proxy.dns_exchange import Server

FIRST, SECOND = (ip_address("192.0.2.1"), 53), (ip_address("192.0.2.2"), 53)
REVERSE = "77.10.in-addr.arpa"
SOA = "ns.valid.example. hostmaster.valid.example. 1 3600 600 86400 60"


class Primary(asyncio.DatagramProtocol):
    """A server that answers every update with one rcode, and keeps what came."""

    def __init__(self, rcode: str) -> None:
        self.rcode = dns.rcode.from_text(rcode)
        self.updates: list[dns.update.UpdateMessage] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)  # 3.11's own is no subclass of it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        message = dns.message.from_wire(data)
        assert isinstance(message, dns.update.UpdateMessage)
        self.updates.append(message)
        answer = dns.message.make_response(message)
        answer.set_rcode(self.rcode)
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def running_primary(rcode: str) -> AsyncIterator[tuple[Primary, int]]:
    """Run a primary on loopback; with its port."""
    primary = Primary(rcode)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: primary, local_addr=("127.0.0.1", 0)
    )
    try:
        yield primary, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


# --- name servers ----------------------------------------------------------------------------------


async def test_servers() -> None:
    """A negative answer is one; a silent server is a warning beside one that answers, else a fault."""
    with running_name_server() as names:
        good: Server = (ip_address(names.address), names.port)
        nobody: Server = (ip_address("127.0.0.1"), 1)
        found = await examine_servers([good, nobody], ip_address("10.77.0.1"))
        assert [one.level for one in found] == ["ok", "warning"]
        assert "1.0.77.10.in-addr.arpa: NXDOMAIN" in found[0].fact
        (alone,) = await examine_servers([nobody], None)
        assert (alone.level, bool(alone.remedy)) == ("fault", True)
        names.fault_all("SERVFAIL")
        (failing,) = await examine_servers([good], None)
        assert (failing.level, "SERVFAIL" in failing.fact) == ("fault", True)


def test_servers_by_port() -> None:
    """A port that is not DNS's own is shown."""
    (found,) = judge_servers([Reply((ip_address("127.0.0.1"), 5353), "NOERROR")], "x")
    assert found.title == "name server 127.0.0.1 port 5353"


async def test_domains() -> None:
    """A domain that is there is well; one that nobody knows gives nobody a name."""
    with running_name_server() as names:
        names.set_records("valid.example", "SOA", SOA)
        servers = [(ip_address(names.address), names.port)]
        found = await examine_domains(["valid.example", "typo.example"], servers)
        assert [one.level for one in found] == ["ok", "fault"]


@pytest.mark.parametrize(
    ("rcodes", "level"),
    [
        (["NOERROR", "NOERROR"], "ok"),
        (["NOERROR", "NXDOMAIN"], "warning"),
        (["NOERROR", "SERVFAIL"], "ok"),
        (["NXDOMAIN", "SERVFAIL"], "fault"),
        (["SERVFAIL", None], "fault"),
        ([], "fault"),
    ],
)
def test_domain(rcodes: list[str | None], level: str) -> None:
    """Servers that disagree confirm a caller now and then; one that fails is told of as a server."""
    replies = [Reply(server, rcode, "silent") for server, rcode in zip((FIRST, SECOND), rcodes, strict=False)]
    assert judge_domain("valid.example", replies).level == level


@pytest.mark.parametrize(
    ("servers", "forwarders", "level", "words"),
    [
        (["192.0.2.53"], [], "ok", "192.0.2.53"),
        ([], [], "fault", "no server"),
        (["127.0.0.53"], ["192.0.2.53"], "warning", "/etc/hosts"),
        (["127.0.0.53"], ["10.77.0.1"], "warning", "loop"),
        (["127.0.0.53"], ["127.0.0.53"], "warning", "loop"),
    ],
)
def test_system_resolver(servers: list[str], forwarders: list[str], level: str, words: str) -> None:
    """A resolver that asks itself, or answers from more than DNS, is told of."""
    found = judge_system_resolver(servers, forwarders, {"127.0.0.1", "10.77.0.1"})
    assert (found.level, words in found.fact) == (level, True)


# --- updates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("10.77.0.0/16", ["77.10.in-addr.arpa."]),
        ("10.77.4.0/24", ["4.77.10.in-addr.arpa."]),
        ("10.77.4.0/22", ["4.77.10.in-addr.arpa.", "7.77.10.in-addr.arpa."]),
        ("10.77.4.9/32", ["9.4.77.10.in-addr.arpa."]),
        ("10.0.0.0/8", ["10.in-addr.arpa."]),
        ("0.0.0.0/0", []),
        ("fd77::/32", ["0.0.0.0.7.7.d.f.ip6.arpa."]),
    ],
)
def test_names_to_ask(network: str, names: list[str]) -> None:
    """The reverse names of a network's first and last block."""
    assert [name.to_text() for name in names_to_ask([ip_network(network)])] == names


def test_names_of() -> None:
    """Of a caller the name of its PTR record, of domains they themselves."""
    assert [one.to_text() for one in names_of(None, ["valid.example"])] == ["valid.example."]
    assert len(names_of(ip_address("10.77.1.2"), ["valid.example"])) == 2


@pytest.mark.parametrize(
    ("answers", "level"),
    [
        (["REFUSED"], "ok"),
        (["NOTAUTH", "REFUSED"], "ok"),
        (["REFUSED", "NOERROR"], "fault"),
        (["no answer in time"], "skipped"),
        (["SERVFAIL"], "skipped"),
        ([], "skipped"),
    ],
)
def test_zone(answers: list[str], level: str) -> None:
    """One server that would write is enough; silence says nothing."""
    zone = Zone(dns.name.from_text(REVERSE), dns.name.from_text("ns.valid.example"))
    assert judge_zone(zone, [Try(FIRST, answer) for answer in answers]).level == level


async def test_update_changes_nothing() -> None:
    """What is sent has no prerequisite, no signature, and deletes one record of a name that nobody has."""
    async with running_primary("NOERROR") as (primary, port):
        zone = dns.name.from_text(REVERSE)
        assert await send_update(zone, (ip_address("127.0.0.1"), port)) == "NOERROR"
        assert await send_update(zone, (ip_address("127.0.0.1"), port)) == "NOERROR"
    first, second = primary.updates
    for update in (first, second):
        assert update.opcode() == dns.opcode.UPDATE
        assert not update.had_tsig
        assert not update.prerequisite
        (change,) = update.update
        assert change.deleting is not None
        assert change.deleting.name == "NONE"  # RFC 2136 section 2.5.4: this record alone, if it is there
        assert change.name.is_subdomain(zone)
        assert change.name != zone
    assert first.update[0].name != second.update[0].name


async def test_nobody_takes_updates() -> None:
    """No server is no answer, not a closed zone."""
    said = await send_update(dns.name.from_text(REVERSE), (ip_address("127.0.0.1"), 1))
    assert said not in {"NOERROR", "REFUSED"}


@pytest.mark.parametrize(("rcode", "level"), [("NOERROR", "fault"), ("REFUSED", "ok")])
async def test_zones(rcode: str, level: str) -> None:
    """The zone and its primary are found by DNS, the primary is asked."""
    async with running_primary(rcode) as (primary, port):
        with running_name_server() as names:
            names.set_records(REVERSE, "SOA", SOA)
            names.set_records("ns.valid.example", "A", "127.0.0.1")
            servers = [(ip_address(names.address), names.port)]
            found = await examine_zones([dns.name.from_text(REVERSE)], servers, port=port)
    assert [(one.title, one.level) for one in found] == [(f"zone {REVERSE}", level)]
    assert len(primary.updates) == 1


async def test_strangers_are_not_asked() -> None:
    """The servers of private addresses that are nobody's (AS112) are sent no update."""
    async with running_primary("NOERROR") as (primary, port):
        with running_name_server() as names:
            names.set_records(
                "10.in-addr.arpa", "SOA", SOA.replace("ns.valid.example", "prisoner.iana.org", 1)
            )
            names.set_records("prisoner.iana.org", "A", "127.0.0.1")
            servers = [(ip_address(names.address), names.port)]
            (found,) = await examine_zones([dns.name.from_text("10.in-addr.arpa")], servers, port=port)
    assert (found.level, "no names" in found.fact) == ("warning", True)
    assert primary.updates == []


async def test_no_zone() -> None:
    """Where nobody tells the zone, the doctor says so."""
    name = dns.name.from_text(REVERSE)
    with running_name_server() as names:
        servers = [(ip_address(names.address), names.port)]
        assert await find_zone(name, servers) is None
        (found,) = await examine_zones([name], servers)
    assert found.level == "skipped"
