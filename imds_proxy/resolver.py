"""Questions of the daemon to the name servers, by dnspython.

A negative answer (no such name, no such record) is an empty answer. Everything that leaves the
question open (SERVFAIL, REFUSED, FORMERR, NOTIMP, a malformed answer, no answer in time, no route) is a
ResolutionError.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename

from imds_proxy.dns_exchange import LongAnswerError, MalformedAnswerError, Server, exchange
from imds_proxy.errors import ResolutionError
from imds_proxy.model import IPAddress, canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ANSWERS = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
_LONGEST_TEXT = 300
"""Characters of a failure's story: it has to fit a log line."""


@dataclass(frozen=True, slots=True)
class PointerAnswer:
    """The PTR names of an address, each as its labels without the root, and the TTL in seconds."""

    names: tuple[tuple[bytes, ...], ...]
    ttl: float
    is_long: bool = False
    """Whether there are more names than anybody would read; `names` is empty then."""


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """The addresses of a name, and the TTL in seconds."""

    addresses: frozenset[IPAddress]
    ttl: float


class Resolver(Protocol):
    """What identification needs of DNS."""

    async def names_of(self, address: IPAddress) -> PointerAnswer:
        """Return the PTR names of an address; none is an empty answer. Raises ResolutionError."""

    async def addresses_of(self, name: str, *, version: int) -> AddressAnswer:
        """Return a name's A (version 4) or AAAA (6) addresses; none is empty. Raises ResolutionError."""


class DNSResolver:
    """A stub resolver: each server in turn, `attempt_timeout` seconds for a try, `deadline` for a question.

    A server that can't answer (SERVFAIL, REFUSED, nobody there) is not asked this question again, one that
    is silent is, as long as there is time. Without `nameservers` the system's are used, as
    `/etc/resolv.conf` names them now; raises ResolutionError when there are none.
    """

    def __init__(
        self,
        nameservers: Sequence[Server] | None,
        *,
        attempt_timeout: float,
        deadline: float,
    ) -> None:
        self._nameservers = tuple(nameservers) if nameservers is not None else system_nameservers()
        self._attempt_timeout = attempt_timeout
        self._deadline = deadline

    async def names_of(self, address: IPAddress) -> PointerAnswer:
        """Return the PTR names of an address; none is an empty answer. Raises ResolutionError."""
        try:
            records, ttl = await self._ask(dns.reversename.from_address(str(address)), dns.rdatatype.PTR)
        except LongAnswerError:
            return PointerAnswer((), 0, is_long=True)
        return PointerAnswer(tuple(record.target.labels[:-1] for record in records), ttl)

    async def addresses_of(self, name: str, *, version: int) -> AddressAnswer:
        """Return a name's A (version 4) or AAAA (6) addresses; none is empty. Raises ResolutionError."""
        rdtype = dns.rdatatype.A if version == 4 else dns.rdatatype.AAAA
        try:
            records, ttl = await self._ask(dns.name.from_text(name), rdtype)
        except LongAnswerError as error:
            raise ResolutionError(f"{dns.rdatatype.to_text(rdtype)} {name}: {error}") from error
        return AddressAnswer(frozenset(canonical_address(record.address) for record in records), ttl)

    async def _ask(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> tuple[Iterable[Any], float]:
        """Return the records, CNAMEs followed, and the least TTL on the way; none is an empty answer.

        Raises ResolutionError or LongAnswerError.
        """
        try:
            answer = await self._ask_in_turn(name, rdtype)
            if answer.rcode() == dns.rcode.NXDOMAIN:
                return (), 0
            chain = answer.resolve_chaining()
        except (dns.exception.DNSException, _NoServerLeftError) as error:
            question = f"{dns.rdatatype.to_text(rdtype)} {name.to_text(omit_final_dot=True)}"
            raise ResolutionError(f"{question}: {_in_one_line(error)}") from error
        return chain.answer or (), chain.minimum_ttl

    async def _ask_in_turn(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> dns.message.QueryMessage:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._deadline
        waiting = deque(self._nameservers)
        failures: dict[Server, str] = {}
        while waiting and (remaining := until - loop.time()) > 0:
            server = waiting.popleft()
            try:
                answer = await exchange(name, rdtype, server, min(self._attempt_timeout, remaining))
            except TimeoutError:
                failures[server] = "no answer in time"
                waiting.append(server)
                continue
            except (OSError, MalformedAnswerError) as error:
                failures[server] = _in_one_line(error)
                continue
            if answer.rcode() in _ANSWERS and isinstance(answer, dns.message.QueryMessage):
                return answer
            failures[server] = dns.rcode.to_text(answer.rcode())
        raise _NoServerLeftError(
            ", ".join(f"{host} port {port}: {why}" for (host, port), why in failures.items())
        )


class _NoServerLeftError(Exception):
    """Every server has failed; the text says how each did."""


def system_nameservers() -> tuple[Server, ...]:
    """Return the system's name servers, as /etc/resolv.conf names them now. Raises ResolutionError."""
    # Only for this: the module costs as much to import as all the rest of dnspython.
    import dns.resolver

    try:
        system = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration as error:
        raise ResolutionError("the system has no name servers; set dns.nameservers") from error
    servers = [str(server) for server in system.nameservers]
    return tuple((canonical_address(server), system.port) for server in servers)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
