"""A name server on loopback, UDP and TCP, whose records and faults change while it runs.

    with running_name_server() as names:
        names.add_host("10.0.0.5", "tuvfoo42.valid.example")
        names.fault("5.0.0.10.in-addr.arpa", "SERVFAIL")

It answers what is asked of it and nothing else: no recursion, no zones. A name that has no record
is NXDOMAIN, a name without the wanted type an empty answer; a CNAME is followed within the table.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_TTL = 60
_LONGEST_CNAME_CHAIN = 8
_START_TIME = 10
_PORT_TRIES = 20
BEHAVIOURS = frozenset({"drop", "malformed", "truncate", "delay", "close"})
"""`drop`: no answer. `malformed`: a message cut short. `truncate`: TC set, no records, over UDP.
`close`: TCP is closed without an answer, UDP as `drop`. `delay`: the answer comes `seconds` later."""


@dataclass(frozen=True)
class Fault:
    """What a name does wrong: an rcode such as `SERVFAIL`, or one of BEHAVIOURS."""

    kind: str
    seconds: float = 0

    def __post_init__(self) -> None:
        if self.kind not in BEHAVIOURS:
            dns.rcode.from_text(self.kind)


@dataclass
class _Table:
    """Records and faults by name; every access holds the lock, for it comes from two threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    records: dict[dns.name.Name, dict[dns.rdatatype.RdataType, dns.rrset.RRset]] = field(default_factory=dict)
    faults: dict[dns.name.Name, Fault] = field(default_factory=dict)
    fault_for_all: Fault | None = None
    queries: Counter[tuple[str, str]] = field(default_factory=Counter)


class NameServer:
    """The server's records, faults and counters, and where it listens. Safe to use from any thread."""

    def __init__(self) -> None:
        self._table = _Table()
        self.address = "127.0.0.1"
        self.port = 0

    @property
    def endpoint(self) -> str:
        """ADDRESS:PORT, as the daemon's `dns.nameservers` takes it."""
        return f"{self.address}:{self.port}"

    def set_records(self, name: str, kind: str, *values: str, ttl: int = DEFAULT_TTL) -> None:
        """Let `name` have exactly these records of one type; no values: none of that type.

        The last owner name dot is optional; values are in the form of a zone file, names in them absolute.
        """
        owner = dns.name.from_text(name)
        rdatatype = dns.rdatatype.from_text(kind)
        with self._table.lock:
            kinds = self._table.records.setdefault(owner, {})
            if values:
                kinds[rdatatype] = dns.rrset.from_text(owner, ttl, "IN", rdatatype, *values)
            else:
                kinds.pop(rdatatype, None)

    def remove(self, name: str) -> None:
        """Take all records of a name away: it becomes NXDOMAIN."""
        with self._table.lock:
            self._table.records.pop(dns.name.from_text(name), None)

    def add_host(self, address: str, *names: str, ttl: int = DEFAULT_TTL) -> None:
        """Give an address its PTR (all names) and each name its one A or AAAA."""
        self.set_pointers(address, *names, ttl=ttl)
        for name in names:
            self.set_records(name, "AAAA" if ":" in address else "A", address, ttl=ttl)

    def set_pointers(self, address: str, *names: str, ttl: int = DEFAULT_TTL) -> None:
        """Give an address exactly these PTR records, whatever the names lead to."""
        absolute = [f"{name.removesuffix('.')}." for name in names]
        self.set_records(reverse_name(address), "PTR", *absolute, ttl=ttl)

    def fault(self, name: str, kind: str, seconds: float = 0) -> None:
        """Let a name misbehave from now on: an rcode (`SERVFAIL`) or one of BEHAVIOURS."""
        with self._table.lock:
            self._table.faults[dns.name.from_text(name)] = Fault(kind, seconds)

    def fault_all(self, kind: str, seconds: float = 0) -> None:
        """Let every name misbehave; a fault of a name's own comes first."""
        with self._table.lock:
            self._table.fault_for_all = Fault(kind, seconds)

    def heal(self) -> None:
        """End all faults."""
        with self._table.lock:
            self._table.faults.clear()
            self._table.fault_for_all = None

    def clear(self) -> None:
        """Forget records, faults and counters."""
        self.heal()
        with self._table.lock:
            self._table.records.clear()
            self._table.queries.clear()

    def queries(self, name: str | None = None, kind: str | None = None) -> int:
        """Return how many questions came over UDP and TCP: for a name in any case, for a type, or in all."""
        wanted = None if name is None else _text(dns.name.from_text(name))
        with self._table.lock:
            return sum(
                count
                for (asked, asked_kind), count in self._table.queries.items()
                if wanted in {None, asked} and kind in {None, asked_kind}
            )

    def forget_queries(self) -> None:
        """Set the counters to zero."""
        with self._table.lock:
            self._table.queries.clear()

    async def answer(self, wire: bytes, *, is_stream: bool) -> bytes | None:
        """Return the answer's bytes, or None for no answer at all."""
        query = dns.message.from_wire(wire)
        if query.opcode() != dns.opcode.QUERY:
            unable = dns.message.make_response(query)
            unable.set_rcode(dns.rcode.NOTIMP)
            return unable.to_wire()
        question = query.question[0]
        with self._table.lock:
            self._table.queries[_text(question.name), dns.rdatatype.to_text(question.rdtype)] += 1
            fault = self._table.faults.get(question.name, self._table.fault_for_all)
            answer = self._find(query)
        if fault is not None:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.kind in {"drop", "close"}:
                return None
            elif fault.kind == "malformed":
                return answer.to_wire(max_size=65535)[:-3]
            elif fault.kind == "truncate" and not is_stream:
                return _truncated(query)
            elif fault.kind not in BEHAVIOURS:
                answer = dns.message.make_response(query)
                answer.set_rcode(dns.rcode.from_text(fault.kind))
        if is_stream:
            return answer.to_wire(max_size=65535)
        limit = max(512, query.payload)
        try:
            return answer.to_wire(max_size=limit)
        except dns.exception.TooBig:
            return _truncated(query)

    def _find(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | (dns.flags.RA if query.flags & dns.flags.RD else 0)
        name = question.name
        for _ in range(_LONGEST_CNAME_CHAIN):
            kinds = self._table.records.get(name)
            if kinds is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
                break
            if found := kinds.get(question.rdtype):
                answer.answer.append(found)
                break
            alias = kinds.get(dns.rdatatype.CNAME)
            if alias is None:
                break
            answer.answer.append(alias)
            name = alias[0].target
        return answer


def reverse_name(address: str) -> str:
    """Return the name whose PTR belongs to an address, with the last dot."""
    return dns.reversename.from_address(address).to_text()


def _text(name: dns.name.Name) -> str:
    return name.canonicalize().to_text()


def _truncated(query: dns.message.Message) -> bytes:
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.TC
    return answer.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # 3.11's own is no subclass of it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._respond(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = await self._server.answer(data, is_stream=False)
        if answer is not None:
            self._transport.sendto(answer, addr)


async def _serve_stream(
    server: NameServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(2), "big")
            answer = await server.answer(await reader.readexactly(length), is_stream=True)
            if answer is None:
                break
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is done
    finally:
        writer.close()


async def _listen(server: NameServer) -> tuple[asyncio.DatagramTransport, asyncio.Server]:
    """Open one port number for both transports: TCP gets a free one, UDP has to be free there too."""
    loop = asyncio.get_running_loop()
    for attempt in range(_PORT_TRIES):
        stream = await asyncio.start_server(
            lambda reader, writer: _serve_stream(server, reader, writer),
            server.address,
            server.port,
            backlog=1024,
        )
        port = stream.sockets[0].getsockname()[1]
        try:
            datagrams, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(server), local_addr=(server.address, port)
            )
        except OSError:
            stream.close()
            if server.port or attempt == _PORT_TRIES - 1:
                raise
            continue
        server.port = port
        return datagrams, stream
    raise AssertionError("unreachable: the last try raises")


class _ServerThread:
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="name server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(_START_TIME)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_START_TIME)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            datagrams, stream = await _listen(self._server)
        except OSError as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        await self._stopping.wait()
        datagrams.close()
        stream.close()


@contextmanager
def running_name_server(address: str = "127.0.0.1", port: int = 0) -> Iterator[NameServer]:
    """Run a name server on a thread of its own for the length of the block."""
    server = NameServer()
    server.address, server.port = address, port
    thread = _ServerThread(server)
    thread.start()
    try:
        yield server
    finally:
        thread.stop()
