"""Questions to the name servers, and the only place that knows dnspython.

A negative answer (no such name, no such record) is an empty answer. Everything that leaves the
question open (SERVFAIL, REFUSED, FORMERR, NOTIMP, a malformed answer, no answer in time, no route) is a
ResolutionError.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from imds_proxy.errors import ResolutionError
from imds_proxy.model import IPAddress, canonical_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dns.name import Name


@dataclass(frozen=True, slots=True)
class PointerAnswer:
    """The PTR names of an address, each as its labels without the root, and the TTL in seconds."""

    names: tuple[tuple[bytes, ...], ...]
    ttl: float


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

    Without `nameservers` the system's are used, as `/etc/resolv.conf` names them now.
    Every question gets a socket, and so a source port, of its own: with plain DNS that is half of what
    keeps a forged answer out (RFC 5452 section 9.2).
    """

    def __init__(
        self,
        nameservers: Sequence[tuple[IPAddress, int]] | None,
        *,
        attempt_timeout: float,
        deadline: float,
    ) -> None:
        self._deadline = deadline
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=nameservers is None)
        except dns.resolver.NoResolverConfiguration as error:
            raise ResolutionError("the system has no name servers; set dns.nameservers") from error
        self._resolver.timeout = attempt_timeout
        self._resolver.lifetime = deadline
        self._resolver.use_edns(-1)
        if nameservers is not None:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(str(address), port) for address, port in nameservers
            ]

    async def names_of(self, address: IPAddress) -> PointerAnswer:
        """Return the PTR names of an address; none is an empty answer. Raises ResolutionError."""
        answer = await self._ask(dns.reversename.from_address(str(address)), dns.rdatatype.PTR)
        if answer is None or answer.rrset is None:
            return PointerAnswer((), 0)
        names = tuple(record.target.labels[:-1] for record in answer.rrset)
        return PointerAnswer(names, answer.chaining_result.minimum_ttl)

    async def addresses_of(self, name: str, *, version: int) -> AddressAnswer:
        """Return a name's A (version 4) or AAAA (6) addresses; none is empty. Raises ResolutionError."""
        rdtype = dns.rdatatype.A if version == 4 else dns.rdatatype.AAAA
        answer = await self._ask(dns.name.from_text(name), rdtype)
        if answer is None or answer.rrset is None:
            return AddressAnswer(frozenset(), 0)
        addresses = frozenset(canonical_address(record.address) for record in answer.rrset)
        return AddressAnswer(addresses, answer.chaining_result.minimum_ttl)

    async def _ask(self, name: Name, rdtype: dns.rdatatype.RdataType) -> dns.resolver.Answer | None:
        # dnspython reads the wall clock for its lifetime; the timeout around it holds when that jumps.
        try:
            async with asyncio.timeout(self._deadline + 1):
                return await self._resolver.resolve(name, rdtype, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except (dns.exception.DNSException, OSError, TimeoutError, ValueError) as error:
            question = f"{dns.rdatatype.to_text(rdtype)} {name.to_text(omit_final_dot=True)}"
            raise ResolutionError(f"{question}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """Say in one line what went wrong. dnspython repeats the question and every try."""
    if isinstance(error, TimeoutError | dns.exception.Timeout):
        return "no answer in time"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
