"""Whether strangers may write the zones that callers' names are in: who writes them takes anybody's role.

Asked as anybody may: an update without a signature (RFC 2136), to the zone's primary as its SOA names it and
to the configured name servers. It deletes one record of a name made up a moment ago, so it changes nothing:
no record, no serial number. There is no prerequisite, because a server looks at those before it looks at
rights (section 3.2 and 3.3), and would tell nothing of them. NOERROR says that it is open, REFUSED or NOTAUTH
that it is closed to this host; others are asked from elsewhere.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.update

from imds_proxy.doctor.findings import Finding, fault, ok, skipped, warning
from imds_proxy.doctor.lookups import TRY_TIME, first_answer
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    import dns.message

    from imds_proxy.dns_exchange import Server
    from imds_proxy.model import IPAddress

MOST_ZONES = 16
"""Asked about at most: a list of networks may be long."""

DNS_PORT = 53
_CLOSED = frozenset({"REFUSED", "NOTAUTH", "NOTIMP"})
_NOT_OURS = tuple(
    map(dns.name.from_text, ("iana.org", "in-addr-servers.arpa", "ip6-servers.arpa", "root-servers.net"))
)
"""Who serves reverse zones that nobody here has (RFC 6304, RFC 7535): strangers, who are not sent updates."""
_NOBODYS = frozenset(map(dns.name.from_text, (".", "arpa", "in-addr.arpa", "ip6.arpa", "localhost")))
_REMEDY = (
    "on that server take updates signed with a key alone (BIND: update-policy with a key instead of "
    "allow-update by address; Windows: dynamic updates 'secure only')"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and its primary."""

    name: dns.name.Name
    primary: dns.name.Name

    @property
    def text(self) -> str:
        """The name without the last dot."""
        return self.name.to_text(omit_final_dot=True)

    @property
    def is_strangers(self) -> bool:
        """Whether it is nobody's here: the empty zones that answer for private networks."""
        return self.name in _NOBODYS or any(self.primary.is_subdomain(one) for one in _NOT_OURS)


@dataclass(frozen=True, slots=True)
class Try:
    """What a server said to an update that changes nothing."""

    server: Server
    answer: str
    """An rcode, or why there is none."""


def names_to_ask(networks: Iterable[IPv4Network | IPv6Network]) -> list[dns.name.Name]:
    """Return names in the reverse zones of networks: of the first and the last octet (nibble) block of each.

    A network of all addresses has no zone that would be anybody's.
    """
    names: dict[dns.name.Name, None] = {}
    for network in networks:
        if network.prefixlen == 0:
            continue
        step, whole = (8, 32) if network.version == 4 else (4, 128)
        parts = min(-(-network.prefixlen // step), whole // step)
        for address in (network.network_address, network.broadcast_address):
            labels = dns.reversename.from_address(str(address)).labels
            names[dns.name.Name(labels[whole // step - parts :])] = None
    return list(names)


def names_of(caller: IPAddress | None, domains: Iterable[str]) -> list[dns.name.Name]:
    """Return the reverse name of a caller, if there is one, and the names of domains."""
    names = [dns.name.from_text(domain) for domain in domains]
    return names if caller is None else [dns.reversename.from_address(str(caller)), *names]


async def find_zone(name: dns.name.Name, servers: Sequence[Server]) -> Zone | None:
    """Return the zone that a name is in; None where no server tells."""
    answer = await first_answer(name, dns.rdatatype.SOA, servers)
    if answer is None:
        return None
    for rrset in (*answer.answer, *answer.authority):
        if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
            return Zone(rrset.name.canonicalize(), rrset[0].mname)
    return None


async def examine_zones(
    names: Sequence[dns.name.Name], servers: Sequence[Server], *, port: int = DNS_PORT
) -> list[Finding]:
    """Return a finding for each zone that the names are in: whether it takes unsigned updates from here."""
    found = await asyncio.gather(*(find_zone(name, servers) for name in names))
    findings = []
    zones = dict.fromkeys(zone for zone in found if zone is not None)
    lost = [name for name, zone in zip(names, found, strict=True) if zone is None]
    for zone in list(zones)[:MOST_ZONES]:
        if zone.is_strangers:
            findings.append(_judge_foreign(zone))
        else:
            findings.append(judge_zone(zone, await _try_all(zone, servers, port)))
    if lost:
        text = f"no name server says which zone {lost[0].to_text(omit_final_dot=True)} is in"
        findings.append(skipped("zone updates", text, "dig SOA " + lost[0].to_text(omit_final_dot=True)))
    return findings


def _judge_foreign(zone: Zone) -> Finding:
    title = f"zone {zone.text}"
    text = f"is served by {zone.primary.to_text(omit_final_dot=True)}: callers there have no names"
    return warning(title, text, "set dns.nameservers to the servers that have the callers' reverse zones")


async def _try_all(zone: Zone, servers: Sequence[Server], port: int) -> list[Try]:
    primaries = [(address, port) for address in await _addresses_of(zone.primary, servers)]
    asked = tuple(dict.fromkeys([*primaries, *servers]))
    answers = await asyncio.gather(*(send_update(zone.name, server) for server in asked))
    return [Try(server, answer) for server, answer in zip(asked, answers, strict=True)]


async def _addresses_of(name: dns.name.Name, servers: Sequence[Server]) -> list[IPAddress]:
    kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
    answers = await asyncio.gather(*(first_answer(name, kind, servers) for kind in kinds))
    return [
        canonical_address(record.address)
        for answer in answers
        for rrset in (answer.answer if answer is not None else ())
        if rrset.rdtype in kinds
        for record in rrset
    ]


async def send_update(zone: dns.name.Name, server: Server) -> str:
    """Return what a server says to an unsigned update that changes nothing: an rcode, or the trouble."""
    made_up = f"imds-proxy-doctor-{secrets.token_hex(8)}"
    update = dns.update.UpdateMessage(zone)
    update.delete(made_up, "TXT", f'"{made_up}"')
    address, port = server
    try:
        answer: dns.message.Message = await dns.asyncquery.udp(
            update, str(address), timeout=TRY_TIME, port=port
        )
    except dns.exception.Timeout:
        return "no answer in time"
    except (OSError, dns.exception.DNSException) as error:
        return getattr(error, "strerror", None) or type(error).__name__
    return dns.rcode.to_text(answer.rcode())


def judge_zone(zone: Zone, tries: Sequence[Try]) -> Finding:
    """Return whether a zone is open to unsigned updates, as far as the servers tell."""
    title = f"zone {zone.text}"
    said = ", ".join(f"{one.server[0]}: {one.answer}" for one in tries)
    opened = [one for one in tries if one.answer == "NOERROR"]
    if opened:
        text = f"takes updates without a signature from this host ({said}): who writes it takes others' roles"
        return fault(title, text, _REMEDY)
    if not any(one.answer in _CLOSED for one in tries):
        primary = zone.primary.to_text(omit_final_dot=True)
        return skipped(
            title, f"whether it takes updates is not known; primary {primary} ({said or 'no address'})"
        )
    return ok(title, f"takes no unsigned update from this host ({said})")
