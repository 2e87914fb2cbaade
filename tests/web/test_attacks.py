"""Attacks in small: what one host may cost the others, counted in bytes, connections and answers.

Every dropped connection is looked up by its reason in /metrics. A refusal asks neither STS nor a name server.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imds_proxy.gauges import register_gauges
from imds_proxy.metrics import Metrics, render
from imds_proxy.sockets import prepare_connections
from imds_proxy.web.edge.budgets import MAX_HEAD_BYTES, MAX_HEAD_FIELDS, READ_BYTES
from imds_proxy.web.edge.conversation import MAX_LINGER_BYTES
from imds_proxy.web.edge.guard import Guard
from imds_proxy.web.edge.limits import CallerLimits
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import DROP_REASONS, MAX_TURNED_AWAY, OpenConnections
from imds_proxy.web.edge.timeouts import FIRST_REQUEST_SECONDS, TURNED_AWAY_SECONDS
from imds_proxy.web.status import ADMIN_RATES, MAX_ADMIN_CONNECTIONS, AdminService, Readiness, status_views
from tests.standins.answer_stream import split_answers
from tests.standins.authority import Authority
from tests.standins.daemon import running_daemon
from tests.standins.people_wire import PeopleCaller
from tests.standins.virtual_time import VirtualClock, in_virtual_time
from tests.standins.waiting import wait_until
from tests.standins.wire import LIFE_HEADER, PATIENCE, TOKEN_PATH, WireCaller, WireConnection
from tests.web.machines import BAR, FOO, FOO_NAME, LISTENERS, OUTSIDE, V1, caller_of, site_settings
from tests.web.test_container import assert_nobody_was_asked
from tests.web.test_limits import send_until_full
from tests.web.test_slow_senders import MOMENT, Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from imds_proxy.web.edge.conversation import Conversation
    from imds_proxy.web.edge.service import Service
    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

REGION = "/latest/meta-data/placement/region"
GARBAGE = [
    *(
        b"\0",
        b"GET",
        b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    *(b"GET / HTTP/1.1\r\nHost: x\r\n", b"PUT / HTTP/1.1\r\nContent-Length: 99999\r\n\r\nx", b"x" * 30_000),
    f"PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n{LIFE_HEADER}: 60\r\n\r\n".encode(),
]


def dropped(site: RunningSite) -> dict[str, int]:
    """Return how many connections the daemon has ended, by reason, as a scrape finds them; no zeros."""
    families = {family.name: family for family in text_string_to_metric_families(scrape(site))}
    samples = families["imds_proxy_connections_dropped"].samples
    found = {
        sample.labels["reason"]: int(sample.value) for sample in samples if sample.name.endswith("_total")
    }
    assert set(found) == set(DROP_REASONS)
    return {reason: count for reason, count in found.items() if count}


def scrape(site: RunningSite) -> str:
    """Return the text of /metrics for a site; of its gauges, those of its parts."""
    metrics = Metrics()
    workshop = replace(site.workshop, metrics=metrics)

    def snapshot() -> object:
        register_gauges(workshop, lambda: site.site, count_connections=lambda: 0, crl_end=lambda: None)
        return metrics.snapshot()

    return render(site.do(snapshot)).decode()


def held(site: RunningSite, listener: int) -> int:
    """Return how many bytes of requests all connections of a listener hold."""

    def count() -> int:
        return sum(len(cast("Conversation", one)._held) for one in site.listeners[listener].connections)

    return cast("int", site.do(count))


@contextmanager
def connections_of(caller: WireCaller, count: int) -> Iterator[list[WireConnection]]:
    """Hold so many connections open."""
    with ExitStack() as stack:
        yield [stack.enter_context(caller.connected()) for _ in range(count)]


async def until_dropped(site: RunningSite, reason: str, count: int = 1) -> None:
    """Wait until so many connections were ended for a reason."""
    await wait_until(lambda: dropped(site).get(reason, 0) >= count, f"{count} dropped: {reason}")


# --- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"1\r\na\r\n", b"zz\r\n", b"\0" * 6, b"GET / HTTP/1.1\r\n\r\n"])
def test_bodies_are_not_parsed(body: bytes, start_site: StartSite) -> None:
    """Bytes behind a chunked head are counted and dropped: one answer, good chunks or not, and the end.

    No parser sees them, and the daemon holds at most one read of them.
    """
    site = start_site()
    caller = site.caller(FOO)
    head = caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), ("Transfer-Encoding", "chunked"))
    piece, most = body * (READ_BYTES // len(body)), 0
    with caller.connected() as connection:
        connection.send(head)
        for _ in range(MAX_LINGER_BYTES // READ_BYTES):
            connection.send(piece)
            most = max(most, held(site, 0))
        (answer,) = split_answers(connection.read_to_end())
    assert (answer.status, answer.header("Connection")) == (200, "close")
    assert most <= READ_BYTES
    assert site.caller(FOO).put_token("60").status == 200
    assert dropped(site) == {}


async def test_a_body_without_end(start_site: StartSite) -> None:
    """After the answer so many bytes are read and dropped, then the connection is cut."""
    site = start_site()
    caller = site.caller(FOO)
    with caller.connected() as connection:
        connection.send(
            caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), ("Content-Length", "999999999")) + b"x"
        )
        assert connection.read_answer().status == 200
        with suppress(OSError):
            for _ in range(2 * MAX_LINGER_BYTES // 1024):
                connection.send(b"x" * 1024)
        assert connection.read_to_end() == b""
        await until_dropped(site, "body")
    assert dropped(site) == {"body": 1}


# --- heads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEAD_FIELDS + 2),
        b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES,
        b"G" * (MAX_HEAD_BYTES + 1),
        b"GET /" + b"x" * 3 * MAX_HEAD_BYTES,
    ],
    ids=["fields", "a field", "a method", "a path"],
)
def test_a_head_without_end(data: bytes, start_site: StartSite, sts: LittleSts) -> None:
    """Too many bytes or fields are a 400 at once, and the end."""
    site = start_site()
    with site.caller(FOO).connected() as connection:
        connection.send(data)
        assert connection.read_answer().status == 400
        connection.read_to_end()
    assert dropped(site) == {"endless": 1}
    assert_nobody_was_asked(site, sts)


def test_a_head_within_the_bounds(start_site: StartSite) -> None:
    """As many bytes and fields as allowed are a request like any other."""
    site = start_site()
    caller = site.caller(FOO, listener=V1)
    fields = [(f"X-{number}", "y") for number in range(MAX_HEAD_FIELDS - 1)]
    assert caller.ask("GET", REGION, *fields).status == 200
    large = [("X-1", "y" * 8000), ("X-2", "y" * 7000)]
    padding = MAX_HEAD_BYTES - len(caller.render("GET", REGION, *large, ("X-3", "")))
    assert caller.ask("GET", REGION, *large, ("X-3", "y" * padding)).status == 200
    assert dropped(site) == {}


def test_blank_lines_without_end(start_site: StartSite, sts: LittleSts) -> None:
    """Blank lines alone are not a request: the connection is cut without an answer."""
    site = start_site()
    with site.caller(FOO).connected() as connection:
        with suppress(OSError):
            connection.send(b"\r\n" * MAX_HEAD_BYTES)
        assert connection.read_to_end() == b""
    assert dropped(site) == {"endless": 1}
    assert_nobody_was_asked(site, sts)


async def test_many_unfinished_heads(start_site: StartSite) -> None:
    """All unfinished heads stay within one budget: the largest goes, and the others are answered."""
    site = start_site()
    caller = site.caller(FOO, listener=V1)
    site.do(lambda: setattr(site.workshop.connections.heads, "limit", 40_000))
    sizes = [2000, 15_000, 3000, 14_000, 4000]
    with connections_of(caller, len(sizes)) as connections:
        for connection, size in zip(connections, sizes, strict=True):
            connection.send(caller.render("GET", REGION, ("X", "y"))[:-4].ljust(size, b"y"))
        await wait_until(lambda: site.workshop.connections.heads.total == sum(sizes), "all heads")
        connections[0].send(b"y" * 3000)
        assert connections[1].read_to_end() == b""
        assert dropped(site) == {"heads": 1}
        assert site.workshop.connections.heads.total <= 40_000
        for connection in (connections[0], connections[2], connections[4]):
            connection.send(b"\r\n\r\n")
            assert connection.read_answer().status == 200
    await wait_until(lambda: site.workshop.connections.heads.total == 0, "nothing held")


# --- strangers, and callers beyond their limits ----------------------------------------------------


@pytest.mark.parametrize("data", GARBAGE)
def test_strangers_are_not_read(data: bytes, start_site: StartSite, sts: LittleSts) -> None:
    """A peer that may not ask hears 403 whatever it sends, with its first byte, and the end."""
    site = start_site()
    with site.caller(OUTSIDE).connected() as connection:
        connection.send(data)
        answer = connection.read_answer()
        assert (answer.status, answer.body, answer.header("Connection")) == (403, b"", "close")
        assert connection.read_to_end() == b""
    assert {str(kind[0]): count for kind, count in site.metrics.refusals.counts.items()} == {
        "not_admitted": 1
    }
    assert dropped(site) == {}
    assert_nobody_was_asked(site, sts)


def test_many_strangers(start_site: StartSite, sts: LittleSts) -> None:
    """Only so many strangers stay at a time, and none of them takes the place of a caller."""
    site = start_site(limits={"all_connections": 2})
    caller = site.caller(BAR, listener=V1)
    with (
        connections_of(caller, 2) as callers,
        connections_of(site.caller(OUTSIDE), MAX_TURNED_AWAY + 10) as strangers,
    ):
        for connection in strangers[MAX_TURNED_AWAY:]:
            assert connection.read_to_end() == b""
        assert dropped(site)["stranger"] >= 10
        assert set(dropped(site)) == {"stranger"}
        assert_nobody_was_asked(site, sts)
        for connection in callers:
            connection.send(caller.render("GET", REGION))
            assert connection.read_answer().status == 200
        assert site.workshop.connections.count == 2


@pytest.mark.parametrize("data", GARBAGE)
def test_connections_too_many_are_not_read(data: bytes, start_site: StartSite, sts: LittleSts) -> None:
    """A connection beyond its caller's limit hears 503 whatever it sends, with its first byte."""
    site = start_site(limits={"connections": 1})
    with site.caller(FOO).connected(), site.caller(FOO).connected() as connection:
        connection.send(data)
        answer = connection.read_answer()
        assert (answer.status, answer.body, answer.header("Connection")) == (503, b"", "close")
        assert connection.read_to_end() == b""
        assert {str(kind[0]): count for kind, count in site.metrics.refusals.counts.items()} == {
            "over_limit": 1
        }
        assert site.workshop.connections.count == 1
    assert_nobody_was_asked(site, sts)


def test_many_connections_too_many(start_site: StartSite, sts: LittleSts) -> None:
    """Only so many such connections stay at a time."""
    site = start_site(limits={"connections": 1})
    with site.caller(FOO).connected(), connections_of(site.caller(FOO), MAX_TURNED_AWAY + 10) as beyond:
        for connection in beyond[MAX_TURNED_AWAY:]:
            assert connection.read_to_end() == b""
        assert dropped(site)["excess"] >= 10
        assert set(dropped(site)) == {"excess"}
    assert_nobody_was_asked(site, sts)


def test_new_connections_beyond_the_rate(start_site: StartSite, sts: LittleSts) -> None:
    """A new connection that would have to wait for too long is closed unread; other callers are let in."""
    site = start_site(limits={"new_connections_per_second": 1})
    site.clock.freeze()
    with connections_of(site.caller(FOO), 5) as connections:
        for connection in connections[3:]:
            assert connection.read_to_end() == b""
        assert dropped(site) == {"rate": 2}
        assert_nobody_was_asked(site, sts)
        assert site.caller(BAR, listener=V1).get(REGION).status == 200


# --- answers that are not read ------------------------------------------------------------------------


async def test_callers_that_never_read(start_site: StartSite, tmp_path: Path) -> None:
    """Answers that are not taken stay within one budget: the connection with the most goes, others go on."""
    folder = tmp_path / "user-data"
    folder.mkdir()
    (folder / FOO_NAME).write_bytes(b"x" * 16_000)
    site = start_site(metadata={"user_data": str(folder)})
    caller = site.caller(FOO, listener=V1)
    assert len(caller.settle("/latest/user-data", None).body) == 16_000
    site.do(lambda: setattr(site.workshop.connections.unsent, "limit", 1000))
    with ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(caller.server)
            sock.settimeout(1)
            with suppress(OSError):
                send_until_full(sock, caller.render("GET", "/latest/user-data") * 3000)
        await until_dropped(site, "unsent", 3)
        assert site.workshop.connections.unsent.total <= 1000
        assert len(caller.get(REGION).body) > 0
    await wait_until(lambda: site.workshop.connections.count == 0, "all have ended")
    assert site.workshop.connections.unsent.total == 0


# --- TLS -------------------------------------------------------------------------------------------


async def test_handshakes_that_are_ended_before_they_begin(start_site: StartSite, tmp_path: Path) -> None:
    """Connections that all come in one turn of the loop push each other out, and nothing stays of them."""
    authority = Authority(tmp_path)
    issued = authority.issue("machines")
    issued.key.chmod(0o600)
    tls = {"certificate": str(issued.certificate), "key": str(issued.key)}
    site = start_site(listen=[{"address": "127.0.0.1:0", "tls": tls}], limits={"all_connections": 2})
    context = ssl.create_default_context(cafile=str(authority.certificate))
    is_open = threading.Event()
    site.loop.call_soon_threadsafe(is_open.wait, PATIENCE)
    try:
        with connections_of(site.caller(FOO), 20) as connections:
            is_open.set()
            for connection in connections[:18]:
                assert connection.read_to_end() == b""
    finally:
        is_open.set()
    connections_left = site.workshop.connections
    await wait_until(lambda: not site.listeners[0].connections, "no connection is left")
    assert connections_left.count == 0
    assert dropped(site) == {"idle": 18}
    for _ in range(3):
        caller = PeopleCaller(("127.0.0.1", site.ports[0]), FOO, tls=context)
        assert caller.put_token("60").status == 200


# --- the admin address -----------------------------------------------------------------------------

ADMIN_GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def administering(
    callers: str = "127.0.0.1/32",
) -> AsyncIterator[tuple[tuple[str, int], OpenConnections]]:
    """Run a listener for admin pages as the daemon does, in virtual time."""
    guard = Guard((ip_network(callers),), (), frozenset({"localhost"}))
    limits = CallerLimits(ADMIN_RATES, clock=VirtualClock().clock())
    views = status_views(Metrics(), lambda: Readiness(is_ready=True, details={}))
    service = AdminService(guard, views, limits)
    open_connections = OpenConnections(limits, max_connections=MAX_ADMIN_CONNECTIONS)
    listener = Listener(cast("Service", service), open_connections)
    sock = socket.create_server(("127.0.0.1", 0))
    prepare_connections(sock)
    server = await asyncio.get_running_loop().create_server(listener, sock=sock)
    yield server.sockets[0].getsockname(), open_connections
    server.close()
    await listener.shutdown(1)
    await asyncio.sleep(MOMENT)
    assert (open_connections.count, len(listener.connections)) == (0, 0)


@in_virtual_time
async def test_an_admin_connection_without_a_request() -> None:
    """It has as long for its first request as a machine's."""
    async with administering() as (where, open_connections):
        for data in (b"", ADMIN_GET[:-2]):
            statuses, age = await Sender(where).drip_and_read(data, 0.1)
            assert (statuses, round(age)) == ([], FIRST_REQUEST_SECONDS)
        assert +open_connections.dropped == {"silent": 2}


@in_virtual_time
async def test_admin_callers() -> None:
    """A peer that is not in `admin.callers` hears 403, whatever it sends, and does not stay."""
    async with administering("10.0.0.0/8") as (where, open_connections):
        for data in (ADMIN_GET, b"\0"):
            statuses, _ = await Sender(where).drip_and_read(data, MOMENT, len(data))
            assert statuses == [403]
        statuses, age = await Sender(where).drip_and_read(b"", 1)
        assert (statuses, round(age)) == ([], TURNED_AWAY_SECONDS)
        assert +open_connections.dropped == {"stranger": 1}


@in_virtual_time
async def test_admin_hosts() -> None:
    """A page that names another host in Host hears 403; one whose host is known is answered."""
    async with administering() as (where, _):
        for host, status in ((b"attacker.example", 403), (b"localhost:9338", 200), (b"127.0.0.1", 200)):
            request = ADMIN_GET.replace(b"localhost", host).replace(
                b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
            )
            statuses, _ = await Sender(where).drip_and_read(request, MOMENT, len(request))
            assert statuses == [status]


@in_virtual_time
async def test_admin_connections() -> None:
    """So many may be open; one more hears 503 and ends."""
    async with administering() as (where, open_connections):
        senders = [Sender(where) for _ in range(MAX_ADMIN_CONNECTIONS)]
        await asyncio.sleep(MOMENT)
        assert open_connections.count == MAX_ADMIN_CONNECTIONS
        statuses, _ = await Sender(where).drip_and_read(ADMIN_GET, MOMENT, len(ADMIN_GET))
        assert statuses == [503]
        assert [await sender.statuses_to_end() for sender in senders] == [[]] * MAX_ADMIN_CONNECTIONS


def test_admin_connections_take_nothing_from_machines(sts: LittleSts, tmp_path: Path) -> None:
    """All places of the admin address taken, machines are answered, and the other way round."""
    settings = site_settings(
        sts,
        listen=[LISTENERS[V1]],
        admin={"address": "127.0.0.1:0"},
        limits={"all_connections": 4, "connections": 4},
    )
    with running_daemon(settings, tmp_path) as daemon:
        host, _, port = daemon.admin_url.removeprefix("http://").rpartition(":")
        pages, caller = WireCaller((host, int(port))), caller_of(daemon)
        with connections_of(pages, MAX_ADMIN_CONNECTIONS) as admin, connections_of(caller, 4) as machines:
            for connection in machines:
                connection.send(caller.render("GET", REGION))
                assert connection.read_answer().status == 200
            assert pages.get("/healthz").status == 503
            assert caller.get(REGION).status == 503
            for connection in admin:
                connection.send(pages.render("GET", "/metrics"))
                assert (
                    'imds_proxy_connections_dropped_total{reason="idle"} 0.0' in connection.read_answer().text
                )
