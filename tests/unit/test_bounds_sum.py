"""docs/behaviour.md, "What the bounds add up to": all bounds at once, against MemoryHigh of the unit.

The counts are the code's. The sizes are measured again here, by tracemalloc: objects only, no duration.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import Future
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import count as numbered
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from imds_proxy import (
    audit,
    audit_denials,
    cache,
    caller,
    log,
    lookup_queue,
    metadata_parts,
    model,
    naming,
    session_queue,
    standing,
    sts,
)
from imds_proxy.audit_records import Line, Record
from imds_proxy.config.metadata import MetadataSettings
from imds_proxy.config.settings import LimitSettings
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import AWSError
from imds_proxy.metadata import user_data
from imds_proxy.metadata.levels import Levels, RememberedValues, Subject
from imds_proxy.metadata.templates import literal
from imds_proxy.model import Credentials
from imds_proxy.web import basic, container_pages, documents, imds, login_throttle, tree
from imds_proxy.web.edge import budgets, guard, limits, open_connections, strict
from imds_proxy.web.edge.admission import empty_page
from imds_proxy.web.edge.limits import CallerLimits, Rates
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import OpenConnections
from imds_proxy.web.peer import Peer
from tests.standins import manual
from tests.standins.core import Core, running_core
from tests.standins.identity_desk import Desk
from tests.standins.sts import role_session
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from aiohttp import web

PAGE = "docs/behaviour.md"
HEADING = "What the bounds add up to"
MIB = 1 << 20
N = 300
"""How many of each are made to be measured."""

SLACK = 1.15
"""Other versions of Python and of the libraries make objects a little larger."""

CONNECTIONS = LimitSettings().all_connections
ALL = CONNECTIONS + 2 * open_connections.MAX_TURNED_AWAY


def maxsize_of(function: Any) -> int:
    """Return how many answers of a function are remembered."""
    found = function.cache_info().maxsize
    assert isinstance(found, int)
    return found


DEFAULTS = metadata_parts._level(MetadataSettings().defaults)
NO_LEVELS = Levels(replace(DEFAULTS, texts={"region": literal("eu-central-1"), **DEFAULTS.texts}), {}, {})

LOCKOUT = login_throttle.DEFAULT_LOCKOUT

COUNTS = {
    "the program, boto3 loaded": 1,
    "open connections": ALL,
    "connections with TLS, besides that": open_connections.MAX_ENCRYPTED,
    "requests that wait for an answer": CONNECTIONS,
    "heads, read by aiohttp": budgets.MAX_HELD_HEADS,
    "answers that are not taken": budgets.MAX_UNSENT,
    "callers that are counted": 2 * limits.MAX_CALLERS + CONNECTIONS,
    "networks of IPv6 callers": CONNECTIONS,
    "callers with a role": standing.MOST_STANDINGS,
    "callers without a role": standing.MOST_STANDINGS,
    "callers whose PTR names `deny` was compared with": caller.MOST_IDENTITIES,
    "role sessions": cache.MOST_ENTRIES,
    "pages with credentials": 2 * documents.MOST_PAGES,
    "pages with credentials, for containers": documents.MOST_PAGES,
    "pages with the name of a role": imds._MAX_ROLE_PAGES,
    "look-ups that wait": lookup_queue._LONGEST_LINE,
    "AssumeRole calls that wait": session_queue.LONGEST_QUEUE,
    "readings of user-data": user_data.MOST_THREADS,
    "audit records that wait": audit._MOST_WAITING_HAND_OUTS + audit._MOST_WAITING_REFUSALS,
    "refusals that are counted": 2 * audit_denials._MOST_COLLAPSED,
    "rates of refusals": audit_denials._MOST_COLLAPSED,
    "lines of the log that wait": log._LONGEST_LINE,
    "values of `Host` that are remembered": maxsize_of(guard.host_of),
    "request lines that are remembered": maxsize_of(strict._read_request_line),
    "header fields that are remembered": maxsize_of(strict._read_common_field),
    "paths that are remembered": maxsize_of(tree._parse_remembered),
    "addresses that are remembered as texts": maxsize_of(model.canonical_address),
    "addresses that are remembered as admitted": maxsize_of(guard.Guard((), (), frozenset()).admits_peer),
    "values of the tree that are remembered": maxsize_of(RememberedValues(NO_LEVELS)._values_of),
    "ARNs of roles that are remembered": maxsize_of(naming.role_arn),
    "login names whose failures are remembered": login_throttle._MOST_REMEMBERED,
    "login names over all addresses": login_throttle._MOST_REMEMBERED,
    "login names that have succeeded": login_throttle._MOST_REMEMBERED,
    "right passwords that are remembered": basic.MOST_SUCCESSES,
}

ROWS = {
    name: (float(count.replace(",", "")), float(size.replace(",", "")), float(total.replace(",", "")))
    for name, count, size, total in manual.rows(manual.section(PAGE, HEADING))
}


def test_the_rows_are_all() -> None:
    """Each row has its count here, and identities are as many as standings."""
    assert list(ROWS) == list(COUNTS)
    assert caller.MOST_IDENTITIES == standing.MOST_STANDINGS


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_the_codes(name: str) -> None:
    """And the product is right, in MiB, rounded up."""
    count, size, total = ROWS[name]
    assert count == COUNTS[name]
    assert total == math.ceil(count * size / MIB)


def test_the_sum_is_the_sum_of_the_rows() -> None:
    """The page says it in a sentence."""
    text = manual.section(PAGE, HEADING)
    [told] = re.findall(r"The sum is ([\d,]+) MiB", text)
    assert int(told.replace(",", "")) == sum(total for _, _, total in ROWS.values())


def test_the_sum_is_below_the_units_limit() -> None:
    """systemd slows the daemon down above MemoryHigh."""
    unit = (manual.ROOT / "systemd" / "imds-proxy.service").read_text()
    [high] = re.findall(r"^MemoryHigh=(\d+)M$", unit, re.MULTILINE)
    assert sum(total for _, _, total in ROWS.values()) <= int(high)


# --- sizes -----------------------------------------------------------------------------------------


def fits(name: str, measured: float) -> bool:
    """Tell whether a size is what the page says: not larger, and not so small that the page misleads."""
    _, size, _ = ROWS[name]
    return size / 2 <= measured <= size * SLACK


async def size_of(make: Callable[[int], Awaitable[object]]) -> float:
    """Return how many bytes each of the objects takes that `make` makes, given how many."""
    gc.collect()
    # Coverage's own tracing makes frames larger, and keeps a tracer for each thread that there was.
    tracing, tracing_of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = await make(N)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sys.settrace(tracing)
        threading.settrace(tracing_of_threads)
    del kept
    return (after - before) / N


def test_the_program() -> None:
    """The modules, an event loop and an STS client."""
    code = (
        "import imds_proxy.server, imds_proxy_providers.by_ip, uvloop, boto3, re\n"
        "from imds_proxy.botocore_data import *\n"
        "uvloop.new_event_loop().close()\n"
        "boto3.client('sts', 'eu-central-1', aws_access_key_id='x', aws_secret_access_key='y')\n"
        "print(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fits("the program, boto3 loaded", int(done.stdout) * 1024)


class Hesitant:
    """A service that answers when it is told to."""

    bounds = budgets.MACHINES
    guard = cast("Any", None)

    def __init__(self) -> None:
        self.is_told = asyncio.Event()

    def closed(self) -> Hesitant:
        """Return itself: nothing reloads here."""
        return self

    def admits(self, _: object) -> bool:
        """Admit everybody."""
        return True

    def turn_away(self, _: object) -> Any:
        """Return a page."""
        return empty_page(503)

    def page_for_garbage(self, status: int, _: object) -> Any:
        """Return a page."""
        return empty_page(status)

    def answer_at_once(self, *_: object) -> None:
        """Return None: aiohttp is to read the request."""
        return

    async def answer(self, *_: object) -> web.StreamResponse:
        """End the connection, when told to."""
        await self.is_told.wait()
        raise ConnectionResetError


async def size_of_connections(*pieces: bytes) -> float:
    """Return how many bytes a connection takes on which these pieces came, one after the other."""
    loop = asyncio.get_running_loop()
    many = 1_000_000
    rates = Rates(
        connections=many,
        requests_per_second=many,
        new_connections_per_second=many,
        tls_handshakes_per_second=many,
    )
    clock = cast("Any", SimpleNamespace(monotonic=time.monotonic))
    service = Hesitant()
    connections = OpenConnections(CallerLimits(rates, clock=clock), max_connections=many)
    listener = Listener(service, connections)
    server = await loop.create_server(listener, "127.0.0.1", 0, backlog=N)
    clients: list[socket.socket] = []

    async def connect(count: int) -> None:
        for _ in range(count):
            client = socket.socket()
            client.setblocking(False)
            clients.append(client)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            for piece in pieces:
                await asyncio.sleep(0.001)
                await loop.sock_sendall(client, piece)
        await asyncio.sleep(0.1)  # all of it is read by then
        assert connections.count == len(clients)

    try:
        await connect(16)
        return await size_of(connect)
    finally:
        service.is_told.set()
        for client in clients:
            client.close()
        server.close()
        await listener.shutdown(1)


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def test_connections_and_requests() -> None:
    """An idle connection; what a request adds; what each byte of a head adds, or of what is behind it."""
    idle = await size_of_connections()
    asking = await size_of_connections(HEAD + b"\r\n")
    fields = b"".join(b"X-Field-%02d: %s\r\n" % (number, b"v" * 236) for number in range(63))
    full = await size_of_connections(HEAD + fields + b"\r\n")
    crowded = await size_of_connections(
        HEAD + b"\r\n", b"G" * (budgets.READ_BYTES - 1), b"G" * budgets.READ_BYTES
    )
    assert fits("open connections", idle)
    assert fits("requests that wait for an answer", asking - idle)
    assert fits("heads, read by aiohttp", (full - asking) / len(fields))
    assert crowded - asking <= 3 * budgets.READ_BYTES


async def test_callers_that_are_counted() -> None:
    """Each with all its rates used, and for IPv6 the /64 with it."""
    seconds = iter(range(0, 1_000_000, 7))
    rates = Rates(
        connections=9, requests_per_second=9, new_connections_per_second=9, tls_handshakes_per_second=9
    )
    counted = CallerLimits(rates, clock=cast("Any", SimpleNamespace(monotonic=lambda: next(seconds) + 0.5)))

    def use(address: IPv4Address | IPv6Address) -> None:
        allowance = counted.allowance_of(address)
        counted.begin_connection(allowance)
        counted.delay_connection(allowance, is_encrypted=True, patience=1)
        counted.take_request(allowance)
        counted.delay_request(allowance)

    async def make(count: int, first: int = 10 << 24) -> None:
        for number in range(count):
            use(IPv4Address(first + number))

    async def make_networks(count: int) -> None:
        for number in range(count):
            use(IPv6Address((0xFD77 << 112) + (number << 64)))

    alone = await size_of(make)
    assert fits("callers that are counted", alone)
    assert fits("networks of IPv6 callers", await size_of(make_networks) - alone)


class _Nowhere(list[str]):
    def append(self, _: str) -> None:
        """Keep nothing: what a stand-in remembers is not the daemon's."""


def quiet_core(core: Core) -> Core:
    """Let the stand-ins of a core remember nothing."""
    core.dns.questions = _Nowhere()
    numbers = numbered()

    async def assume(_: object) -> Credentials:
        wall = core.clock.clock().wall()
        last = f"{next(numbers):016d}"
        token = "t" * 984 + last
        return Credentials("ASIA" + last, "s" * 24 + last, token, wall + 3600, wall, "000123456789")

    core.sts.assume = assume  # type: ignore[method-assign, assignment]
    return core


def add_hosts(core: Core, name: Callable[[int], str]) -> None:
    """Give addresses names, before anything is measured."""
    for number in range(N + 1):
        core.dns.add_host(str(IPv6Address((0xFD77 << 112) + number)), name(number))


async def ask(core: Core, count: int) -> None:
    for number in range(count):
        await core.token(str(IPv6Address((0xFD77 << 112) + number)))


@in_virtual_time
async def test_callers_and_sessions(tmp_path: Path) -> None:
    """A caller is its names, its verdict and what it was told; a session is its key and credentials."""
    with running_core(tmp_path) as core:
        strange = await size_of(lambda count: ask(quiet_core(core), count))
    with running_core(tmp_path, is_shared=True) as core:
        add_hosts(core, lambda number: f"tuv{chr(97 + number // 100)}oo{number % 100:02d}.valid.example")
        known = await size_of(lambda count: ask(quiet_core(core), count))
        assert core.cache.size < 10
    with running_core(tmp_path) as core:
        add_hosts(core, lambda number: f"tuv{chr(97 + number // 26)}{chr(97 + number % 26)}o42.valid.example")
        own = await size_of(lambda count: ask(quiet_core(core), count))
        assert core.cache.size >= N
    assert fits("callers without a role", strange)
    assert fits("callers with a role", known)
    assert fits("role sessions", own - known)


@in_virtual_time
async def test_lookups_and_calls_that_wait(tmp_path: Path) -> None:
    """With the tasks that wait for them."""
    with running_core(tmp_path) as core:
        quiet_core(core).dns.silence()
        tasks: list[asyncio.Task[None]] = []

        async def wait(count: int) -> None:
            addresses = (str(IPv4Address((10 << 24) + (number << 8))) for number in range(count))
            tasks.extend(asyncio.ensure_future(core.token(address)) for address in addresses)
            await asyncio.sleep(0.01)

        size = await size_of(wait)
        core.dns.heal()
        await asyncio.gather(*tasks)
    assert fits("look-ups that wait", size)


async def test_calls_of_sts_that_wait() -> None:
    """A flight and its place in front of the threads."""
    threads = sts.StsThreads(threads=1)
    loop = asyncio.get_running_loop()
    clock = cast("Any", SimpleNamespace(monotonic=loop.time, wall=time.time))
    credentials = cache.CredentialCache(clock, on_renewal_refused=lambda *_: None)
    gate = threading.Event()

    class Source:
        async def assume(self, session: object) -> Credentials:
            await threads.run(lambda: gate.wait() and session)
            raise AWSError("over", code="over")

    networks = [IPv4Address((10 << 24) + (number << 4)) for number in range(N)]
    entries = [
        credentials.entry(role_session(session_name=str(network)), Source(), network) for network in networks
    ]

    async def fly(_: int) -> None:
        for entry in entries:
            credentials.begin_flight(entry, entry.caller)
        await asyncio.sleep(0.05)

    size = await size_of(fly)
    gate.set()
    await credentials.close()
    threads.close()
    assert fits("AssumeRole calls that wait", size)


def keys() -> list[Credentials]:
    """Return credentials that nothing has been made of."""
    return [Credentials("A" * 20, "s" * 40, "t" * 1000, 2e9 + each, 1e9, "000123456789") for each in range(N)]


async def test_pages() -> None:
    """Rendered documents, beside the credentials in them."""
    pages, held = documents.CredentialPages(), keys()

    async def render(_: int) -> list[object]:
        return [pages.page_of(each) for each in held]

    async def render_names(count: int) -> dict[str, object]:
        names = [f"{number:064d}" for number in range(count)]
        return {name: documents.render_ok(name.encode(), 1e9) for name in names}

    for_containers, others = container_pages.ContainerPages(), keys()

    async def render_for_containers(_: int) -> list[object]:
        return [for_containers.page_of(role_session(), each) for each in others]

    assert fits("pages with credentials", await size_of(render))
    assert fits("pages with credentials, for containers", await size_of(render_for_containers))
    assert fits("pages with the name of a role", await size_of(render_names))


async def test_records() -> None:
    """Audit records with texts of their own, refusals that are counted, lines of the log."""

    async def hand_outs(count: int) -> list[audit._Waiting]:
        return [waiting(line) for line in lines_of(count)]

    def waiting(line: Line) -> audit._Waiting:
        return audit._Waiting(line, line.time, Future())

    def lines_of(count: int) -> list[Line]:
        return [
            Line(
                1e9 + number,
                Record(
                    f"10.0.0.{number}",
                    "granted",
                    name=f"tuvfoo{number}.valid.example",
                    reason=f"rule loctyp: roleprefix-tuvfoo{number}",
                    account="main",
                    role=f"roleprefix-tuvfoo{number}",
                    session_name=f"tuvfoo{number}.valid.example",
                    access_key_id=f"ASIA{number:016d}",
                    expiration=f"2026-11-24T03:00:00Z{number}",
                    sts_request_id=f"{number:036d}",
                ),
                1,
            )
            for number in range(count)
        ]

    async def denials(count: int) -> dict[tuple[object, ...], object]:
        found: dict[tuple[object, ...], object] = {}
        for number in range(count):
            record = Record(f"10.0.0.{number}", "refused", reason=f"no PTR record: {number}")
            key = (record.caller, record.outcome, record.reason, record.name, record.account, record.role)
            found[key] = audit_denials._Counted(record, 1e9 + number)
        return found

    async def rates(count: int) -> dict[tuple[str, str], audit_denials._Rate]:
        found = {
            (f"10.0.0.{number}", f"tuvfoo{number}.valid.example"): audit_denials._Rate()
            for number in range(count)
        }
        for number, rate in enumerate(found.values()):
            rate.number_in(1_000_000 + number)
        return found

    async def lines(count: int) -> list[logging.LogRecord]:
        return [
            logging.LogRecord("imds_proxy.sts", 30, "sts.py", 1, f"{number:0200d}", None, None)
            for number in range(count)
        ]

    assert fits("audit records that wait", await size_of(hand_outs))
    assert fits("refusals that are counted", await size_of(denials))
    assert fits("rates of refusals", await size_of(rates))
    assert fits("lines of the log that wait", await size_of(lines))


async def test_values_of_host() -> None:
    """As long as one may be, with the name that was found in it."""
    guard.host_of.cache_clear()

    async def look(count: int) -> None:
        for number in range(count):
            guard.host_of(f"{number:08d}" + "x" * (guard._MAX_HOST - 8))

    size = await size_of(look)
    guard.host_of.cache_clear()
    assert fits("values of `Host` that are remembered", size)


async def size_of_answers(function: Callable[[Any], object], question: Callable[[int], object]) -> float:
    """Return how many bytes a remembered answer of a function takes, the question included."""

    async def ask(count: int) -> None:
        for number in range(count):
            assert function(question(number)) is not None

    return await size_of(ask)


async def test_other_texts_of_requests() -> None:
    """Request lines and paths as long as one may be, header fields."""
    roles = "/latest/meta-data/iam/security-credentials/"
    longest = strict.MAX_STRICT_BYTES - 40
    for remembered in (strict._read_request_line, strict._read_common_field, tree._parse_remembered):
        remembered.cache_clear()
    line = await size_of_answers(
        strict._read_request_line, lambda one: b"GET /%0*d HTTP/1.1" % (longest, one)
    )
    field = await size_of_answers(strict._read_common_field, lambda one: b"User-Agent: %052d" % one)
    rest = tree._LONGEST_REMEMBERED - len(roles)
    path = await size_of_answers(tree.parse_target, lambda one: f"{roles}{one:0{rest}d}")
    assert fits("request lines that are remembered", line)
    assert fits("header fields that are remembered", field)
    assert fits("paths that are remembered", path)


async def test_addresses_and_roles() -> None:
    """IPv6 addresses, and roles with names as long as one may be."""
    model.canonical_address.cache_clear()
    naming.role_arn.cache_clear()
    first = 0xFD78 << 112
    text = await size_of_answers(model.canonical_address, lambda one: str(IPv6Address(first + one)))
    admits = guard.Guard((), (), frozenset()).admits_peer
    admitted = await size_of_answers(admits, lambda one: IPv6Address(first + one))
    arn = await size_of_answers(
        lambda role: model._role_of(naming.role_arn("aws", "000123456789", "/machines/", role)),
        lambda one: f"{one:064d}",
    )
    assert fits("addresses that are remembered as texts", text)
    assert fits("addresses that are remembered as admitted", admitted)
    assert fits("ARNs of roles that are remembered", arn)


async def test_values_of_the_tree() -> None:
    """What the defaults say of a machine with a name, a role and two tags."""
    values = RememberedValues(NO_LEVELS)

    async def look(count: int) -> None:
        for number in range(count):
            name = f"tuvfoo{number}.valid.example"
            tags = (("Name", name), ("site", f"hh{number}"))
            values.of(Subject(IPv4Address(number), name, "role", "main", "000123456789", tags))

    assert fits("values of the tree that are remembered", await size_of(look))


@in_virtual_time
async def test_names_for_deny() -> None:
    """An address with one name."""
    desk = Desk()
    desk.dns.questions = _Nowhere()
    addresses = [IPv6Address((0xFD77 << 112) + number) for number in range(N)]
    for number, address in enumerate(addresses):
        desk.dns.add_host(str(address), f"tuvfoo{number}.valid.example")

    async def look(_: int) -> None:
        for address in addresses:
            await desk.identities.identify(IPv6Address(int(address)), None, not_before=0)

    assert fits("callers whose PTR names `deny` was compared with", await size_of(look))


@in_virtual_time
async def test_right_passwords() -> None:
    """With names as long as one may be."""
    clock = VirtualClock().clock()
    threads = DaemonThreads("directory", most=8, longest_line=64)
    throttle, other_throttle = login_throttle.LoginThrottle(clock), login_throttle.LoginThrottle(clock)
    sign_on = basic.BasicSignOn(
        lambda user, _: user, patience=10, threads=threads, throttle=throttle, clock=clock
    )
    peer = Peer(IPv4Address(1))

    async def log_in(count: int) -> None:
        for number in range(count):
            await sign_on.log_in(basic.Login(f"{number:0256d}", "p"), peer)

    async def try_to(count: int) -> None:
        for number in range(count):
            with await other_throttle.begin(peer, f"{number:0256d}", None) as one_try:
                one_try.succeed()

    await sign_on.log_in(basic.Login("first", "p"), peer)
    size = await size_of(log_in) - await size_of(try_to)
    assert fits("right passwords that are remembered", size)


async def test_login_names() -> None:
    """Names as long as one may be; each fails, or logs in at as many addresses as are kept."""
    clock = cast("Any", SimpleNamespace(monotonic=time.monotonic))
    throttle = login_throttle.LoginThrottle(clock)

    def peer(number: int) -> Any:
        return SimpleNamespace(address=IPv4Address((10 << 24) + number), uid=None, caller="somebody")

    async def tried(count: int) -> None:
        for number in range(count):
            (await throttle.begin(peer(number), f"{number:0256d}", None)).end()

    async def failed(count: int) -> None:
        for number in range(count):
            budget = throttle._budget_of(login_throttle._key_of(f"{number:0256d}"), "", LOCKOUT)
            budget.fail(LOCKOUT, time.monotonic())

    async def logged_in(count: int) -> None:
        for number in range(count):
            for place in range(login_throttle.KNOWN_ADDRESSES):
                throttle.note_success(peer(number * 64 + place), f"{number:0256d}")

    assert fits("login names whose failures are remembered", await size_of(tried))
    assert fits("login names over all addresses", await size_of(failed))
    assert fits("login names that have succeeded", await size_of(logged_in))
