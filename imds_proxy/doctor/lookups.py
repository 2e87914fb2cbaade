"""DNS from here: whether the name servers answer, whether they know the allowed domains, and no loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename

from imds_proxy.dns_exchange import LongAnswerError, MalformedAnswerError, exchange
from imds_proxy.doctor.findings import Finding, fault, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import dns.message

    from imds_proxy.dns_exchange import Server
    from imds_proxy.model import IPAddress

TRY_TIME = 2.0
"""Seconds that one server has for one answer."""

_RESOLVED = "127.0.0.53"
"""systemd-resolved.service(8): its stub; its own servers are in the file below."""
_RESOLVED_SERVERS = Path("/run/systemd/resolve/resolv.conf")
_SYSTEM_SERVERS = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Reply:
    """What one server made of one question."""

    server: Server
    rcode: str | None
    """None where there was no answer."""
    trouble: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether it is one, a negative one included."""
        return self.rcode in {"NOERROR", "NXDOMAIN"}

    @property
    def text(self) -> str:
        """The outcome in a word."""
        return self.rcode or self.trouble


async def ask(
    name: dns.name.Name, rdtype: dns.rdatatype.RdataType, server: Server
) -> dns.message.Message | str:
    """Return a server's answer, or why there is none."""
    try:
        return await exchange(name, rdtype, server, TRY_TIME)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return error.strerror or type(error).__name__
    except (MalformedAnswerError, LongAnswerError) as error:
        return str(error)


async def ask_all(
    name: dns.name.Name, rdtype: dns.rdatatype.RdataType, servers: Iterable[Server]
) -> list[Reply]:
    """Return what every server makes of a question, all asked at once."""
    asked = tuple(servers)
    answers = await asyncio.gather(*(ask(name, rdtype, server) for server in asked))
    return [
        Reply(server, None, answer)
        if isinstance(answer, str)
        else Reply(server, dns.rcode.to_text(answer.rcode()))
        for server, answer in zip(asked, answers, strict=True)
    ]


async def first_answer(
    name: dns.name.Name, rdtype: dns.rdatatype.RdataType, servers: Iterable[Server]
) -> dns.message.Message | None:
    """Return the first server's answer that is one, negative ones included; None where all fail."""
    for server in servers:
        answer = await ask(name, rdtype, server)
        if not isinstance(answer, str) and answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            return answer
    return None


async def examine_servers(servers: Sequence[Server], own: IPAddress | None) -> list[Finding]:
    """Return whether each name server answers a question: for this host's own name, if it has an address."""
    name = dns.reversename.from_address(str(own) if own is not None else "127.0.0.1")
    replies = await ask_all(name, dns.rdatatype.PTR, servers)
    return judge_servers(replies, name.to_text(omit_final_dot=True))


def judge_servers(replies: Sequence[Reply], asked: str) -> list[Finding]:
    """Return a finding for each server: one that is silent is a fault only where no other answers."""
    answers_any = any(reply.is_answer for reply in replies)
    remedy = "dig -x {own} @{host} -p {port}; correct dns.nameservers, or let port 53 out to it (UDP and TCP)"
    findings = []
    for reply in replies:
        host, port = reply.server
        title = f"name server {host}" + ("" if port == 53 else f" port {port}")
        if reply.is_answer:
            findings.append(ok(title, f"answers (PTR {asked}: {reply.text})"))
            continue
        command = remedy.format(own="ADDRESS", host=host, port=port)
        report = warning if answers_any else fault
        findings.append(report(title, f"{reply.text} (PTR {asked})", command))
    return findings


async def examine_domains(domains: Sequence[str], servers: Sequence[Server]) -> list[Finding]:
    """Return whether the name servers know the domains in which callers' names are."""
    names = [dns.name.from_text(domain.strip(".")) for domain in domains]
    replies = await asyncio.gather(*(ask_all(name, dns.rdatatype.SOA, servers) for name in names))
    return [judge_domain(domain, reply) for domain, reply in zip(domains, replies, strict=True)]


def judge_domain(domain: str, replies: Sequence[Reply]) -> Finding:
    """Return whether a domain's names can be looked up from here."""
    title = f"domain {domain}"
    known = [reply for reply in replies if reply.rcode == "NOERROR"]
    lost = [reply for reply in replies if reply.rcode == "NXDOMAIN"]
    command = f"dig SOA {domain} @{replies[0].server[0]}" if replies else "set dns.nameservers"
    if known and not lost:
        return ok(title, f"is known to {_count(known, replies)}")
    if known:
        text = f"does not exist for {lost[0].server[0]}, and does for {known[0].server[0]}"
        return warning(title, text, f"dns.nameservers have to agree: {command}")
    if lost:
        text = "does not exist: no caller's name can be confirmed"
        return fault(title, text, f"correct allowed_domains, or dns.nameservers: {command}")
    reasons = ", ".join(sorted({reply.text for reply in replies}))
    return fault(title, f"its servers are out of reach ({reasons})", command)


def _count(some: Sequence[Reply], replies: Sequence[Reply]) -> str:
    if len(some) == len(replies):
        return "the name server" if len(replies) == 1 else f"all {len(replies)} name servers"
    return f"{len(some)} of {len(replies)} name servers"


def examine_system_resolver(own: Collection[IPAddress]) -> Finding:
    """Return what is to be said of the system's name servers, which are asked without `dns.nameservers`."""
    servers = _read_nameservers(_SYSTEM_SERVERS)
    forwarders = _read_nameservers(_RESOLVED_SERVERS) if _RESOLVED in servers else []
    return judge_system_resolver(servers, forwarders, {str(address) for address in own})


def judge_system_resolver(servers: Sequence[str], forwarders: Sequence[str], own: Collection[str]) -> Finding:
    """Return whether the system asks itself, or asks more than DNS. `own` are this host's addresses."""
    remedy = "set dns.nameservers to the servers that know the callers' zones"
    if not servers:
        return fault("system resolver", "/etc/resolv.conf names no server", remedy)
    loops = sorted(set(forwarders).intersection(own) | {one for one in forwarders if one == _RESOLVED})
    if loops:
        where = ", ".join(loops)
        text = f"systemd-resolved asks this host itself ({where}): a loop, unless a name server runs here"
        return warning("system resolver", text, remedy)
    if _RESOLVED in servers:
        text = (
            "is systemd-resolved, which answers from /etc/hosts too, and by LLMNR or mDNS where those are on"
        )
        return warning("system resolver", text, remedy)
    return ok("system resolver", f"/etc/resolv.conf names {', '.join(servers)}")


def _read_nameservers(file: Path) -> list[str]:
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    words = (line.split() for line in lines)
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
