"""Questions of the daemon to the name servers, by dnspython.

A negative answer (no such name, no such record) is an empty answer. Everything that leaves the
question open (SERVFAIL, REFUSED, FORMERR, NOTIMP, a malformed answer, no answer in time, no route) is a
ResolutionError.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename

from imds_proxy.dns_exchange import (
    LongAnswerError,
    MalformedAnswerError,
    Note,
    Server,
    exchange,
    note_nothing,
)
from imds_proxy.errors import ResolutionError
from imds_proxy.model import IPAddress, canonical_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

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


Key = tuple[bytes, int, Server]
"""A name in wire format and lower case, a type, a server."""


class _Question:
    """A question to one server that is in progress. It ends when no look-up waits for it any more."""

    __slots__ = ("sent_at", "task", "waiting")

    def __init__(self, ask: Callable[[], Awaitable[dns.message.Message]], moments: Iterator[int]) -> None:
        self.sent_at = 0
        self.waiting = 0
        self.task = asyncio.create_task(self._send(ask, moments))

    async def _send(
        self, ask: Callable[[], Awaitable[dns.message.Message]], moments: Iterator[int]
    ) -> dns.message.Message:
        self.sent_at = next(moments)
        return await ask()


class DNSResolver:
    """A stub resolver: each server in turn, `attempt_timeout` seconds for a try, `deadline` for a question.

    A server that can't answer (SERVFAIL, REFUSED, nobody there) is not asked this question again, one that
    is silent is, as long as there is time. Without `nameservers` the system's are used, as
    `/etc/resolv.conf` names them now; raises ResolutionError when there are none.

    A question is asked once at a time: each copy that is open would be one more port and id for which a
    forged answer could be taken. Who comes later waits for it. Its answer may be older than a change after
    which the look-up has to ask, such as an address that changed hands. So an answer counts for look-ups
    that began before its question was sent. The others ask again, all of them with one question. A failure
    counts for all.
    """

    def __init__(
        self,
        nameservers: Sequence[Server] | None,
        *,
        attempt_timeout: float,
        deadline: float,
        note: Note = note_nothing,
    ) -> None:
        """`note` hears of datagrams that are not the answer to a question."""
        self._nameservers = tuple(nameservers) if nameservers is not None else system_nameservers()
        self._attempt_timeout = attempt_timeout
        self._deadline = deadline
        self._note = note
        self._open: dict[Key, _Question] = {}
        self._moments = count(1)
        """An order of events. Clocks could show two of them at the same time."""

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
        began_at = next(self._moments)
        waiting = deque(self._nameservers)
        failures: dict[Server, str] = {}
        while waiting and loop.time() < until:
            server = waiting.popleft()
            try:
                answer = await self._share(name, rdtype, server, began_at, until)
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

    async def _share(
        self,
        name: dns.name.Name,
        rdtype: dns.rdatatype.RdataType,
        server: Server,
        began_at: int,
        until: float,
    ) -> dns.message.Message:
        """Return the answer to a question that was sent after `began_at`. Raises what `exchange` does."""
        key = (name.to_digestable(), int(rdtype), server)
        while True:
            question = self._open.get(key) or self._begin(key, name, rdtype)
            try:
                answer = await self._wait(key, question, until)
            except LongAnswerError:
                if question.sent_at > began_at:
                    raise
            else:
                if question.sent_at > began_at:
                    return answer

    def _begin(self, key: Key, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> _Question:
        def ask() -> Awaitable[dns.message.Message]:
            return exchange(name, rdtype, key[2], self._attempt_timeout, self._note)

        def end(task: asyncio.Task[dns.message.Message]) -> None:
            self._close(key, question)
            if not task.cancelled():
                task.exception()  # asyncio would log one that no look-up waits for any more

        question = self._open[key] = _Question(ask, self._moments)
        question.task.add_done_callback(end)
        return question

    async def _wait(self, key: Key, question: _Question, until: float) -> dns.message.Message:
        task = question.task
        question.waiting += 1
        try:
            await asyncio.wait((task,), timeout=until - asyncio.get_running_loop().time())
            if not task.done():
                raise TimeoutError
        finally:
            question.waiting -= 1
            if not question.waiting and not task.done():
                task.cancel()
                self._close(key, question)
        return task.result()

    def _close(self, key: Key, question: _Question) -> None:
        if self._open.get(key) is question:
            del self._open[key]


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
