"""What one caller may take of a listener: connections and requests per second."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from imds_proxy.sockets import UNREAD_SECONDS
from tests.standins.waiting import wait_until
from tests.standins.wire import LIFE_HEADER, PATIENCE, ROLES_PATH, TOKEN_PATH, WireCaller, WireConnection
from tests.web.machines import BAR, DUAL, FOO, FOO_ROLE, LISTENERS, OUTSIDE, SIX, V1
from tests.web.machines import REGION as REGION_NAME

if TYPE_CHECKING:
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

REGION = "/latest/meta-data/placement/region"


@pytest.fixture
def site(start_site: StartSite) -> RunningSite:
    """Three connections and ten requests per second for each caller; the clock stands still."""
    site = start_site(limits={"connections": 3, "requests_per_second": 10})
    site.clock.freeze()
    return site


def ask(connection: WireConnection, caller: WireCaller) -> int:
    """Return the status of a request over an open connection."""
    connection.send(caller.render("GET", REGION))
    return connection.read_answer().status


# --- requests --------------------------------------------------------------------------------------


def test_a_second_s_worth_of_requests(site: RunningSite) -> None:
    """After the tenth request of a second, an empty 503 and the end of the connection; then it goes on."""
    caller = site.caller(FOO, listener=V1)
    assert [caller.get(REGION).status for _ in range(10)] == [200] * 10
    answer = caller.get(REGION)
    assert (answer.status, answer.reason, answer.body) == (503, "Service Unavailable", b"")
    assert answer.header("Connection") == "close"
    site.clock.ahead += 0.5
    assert [caller.get(REGION).status for _ in range(6)] == [200] * 5 + [503]


def test_tokens_count(site: RunningSite) -> None:
    """A TOKEN beyond the limit is a 503, the only thing but its guards that keeps one from a caller."""
    caller = site.caller(FOO)
    assert [caller.put_token("60").status for _ in range(11)] == [200] * 10 + [503]


def test_callers_and_listeners(site: RunningSite) -> None:
    """A caller's requests count on all listeners together, and against no other caller."""
    for listener in (V1, DUAL):
        assert [site.caller(FOO, listener=listener).get(REGION).status for _ in range(5)] == [200] * 5
    assert site.caller(FOO, listener=V1).get(REGION).status == 503
    assert site.caller(BAR, listener=V1).get(REGION).status == 200
    assert site.caller(SIX, listener=DUAL).get(REGION).status == 200


def test_requests_that_are_refused_cost_nothing(site: RunningSite) -> None:
    """Who is not let in hears 403, not 503, and takes nothing from anybody."""
    for _ in range(20):
        assert site.caller(OUTSIDE, listener=V1).get(REGION).status == 403
        assert site.caller(FOO).ask("GET", REGION, host="attacker.example").status == 403
    assert site.caller(FOO, listener=V1).get(REGION).status == 200


# --- connections -----------------------------------------------------------------------------------


def test_a_connection_too_many(site: RunningSite) -> None:
    """The fourth connection gets an empty 503 and its end; the three go on; when one ends there is room."""
    caller = site.caller(FOO, listener=V1)
    with ExitStack() as open_connections:
        three = [open_connections.enter_context(caller.connected()) for _ in range(3)]
        assert [ask(connection, caller) for connection in three] == [200] * 3
        with caller.connected() as fourth:
            assert ask(fourth, caller) == 503
            assert fourth.read_to_end() == b""
        assert ask(three[0], caller) == 200
        three[0].send(caller.render("GET", REGION, ("Connection", "close")))
        assert three[0].read_answer().text == REGION_NAME
        assert three[0].read_to_end() == b""
        with caller.connected() as another:
            assert ask(another, caller) == 200


def test_a_connection_too_many_that_says_nothing(site: RunningSite) -> None:
    """Connections beyond the limit that never ask are ended, those within it are not."""
    caller = site.caller(FOO, listener=V1)
    with ExitStack() as open_connections:
        three = [open_connections.enter_context(caller.connected()) for _ in range(3)]
        for connection in [open_connections.enter_context(caller.connected()) for _ in range(20)]:
            assert connection.read_to_end() == b""
        assert [ask(connection, caller) for connection in three] == [200] * 3
    assert site.caller(FOO, listener=V1).get(REGION).status == 200


def test_connections_of_others(site: RunningSite) -> None:
    """One caller's connections keep no other caller out, and no other listener opens a second account."""
    caller = site.caller(FOO, listener=V1)
    with ExitStack() as open_connections:
        for _ in range(3):
            assert ask(open_connections.enter_context(caller.connected()), caller) == 200
        assert site.caller(FOO, listener=DUAL).get(REGION).status == 503
        assert site.caller(BAR, listener=V1).get(REGION).status == 200


def test_a_lower_limit_after_a_reload(site: RunningSite) -> None:
    """The limits of the new configuration hold for what comes; what is open stays."""
    caller = site.caller(FOO, listener=V1)
    with ExitStack() as open_connections:
        three = [open_connections.enter_context(caller.connected()) for _ in range(3)]
        assert ask(three[0], caller) == 200
        limits = site.workshop.connections.limits
        limits.rates = replace(limits.rates, connections=1)
        assert [ask(connection, caller) for connection in three] == [200] * 3
        assert caller.get(REGION).status == 503


def test_flights_do_not_depend_on_the_limit(start_site: StartSite) -> None:
    """A caller at its limit still has its role afterwards: the limit ends requests, not what is known."""
    site = start_site(limits={"requests_per_second": 5}, listen=LISTENERS)
    caller = site.caller(FOO)
    token = caller.fetch_token()
    assert caller.fetch_role(token) == FOO_ROLE
    site.clock.freeze()
    site.clock.ahead += 1
    statuses = [caller.ask("PUT", TOKEN_PATH, (LIFE_HEADER, "60")).status for _ in range(8)]
    assert statuses == [200] * 5 + [503] * 3
    site.clock.ahead += 1
    assert caller.fetch_role(token) == FOO_ROLE


def test_a_caller_that_does_not_read(start_site: StartSite) -> None:
    """Answers that nobody reads don't pile up: the service stops reading, and goes on when they are read."""
    caller = start_site().caller(FOO, listener=V1)
    role = caller.settle(ROLES_PATH, None).text
    request = caller.render("GET", ROLES_PATH + role, ("X-Padding", "x" * 4000))
    most = 10_000
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(caller.server)
        sock.settimeout(1)
        sent = send_until_full(sock, request * most)
        assert sent < most * len(request)  # more than the kernel's buffers take
        sock.settimeout(PATIENCE)
        connection = WireConnection(sock)
        whole = sent // len(request)
        assert all(connection.read_answer().status == 200 for _ in range(whole))


@pytest.mark.patient
def test_a_caller_that_never_reads(start_site: StartSite) -> None:
    """Its connection ends once the kernel could not get rid of an answer for long enough, and is counted."""
    site = start_site()
    caller = site.caller(FOO, listener=V1)
    role = caller.settle(ROLES_PATH, None).text
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(caller.server)
        sock.settimeout(1)
        send_until_full(sock, caller.render("GET", ROLES_PATH + role, ("X-Padding", "x" * 4000)) * 10_000)
        assert site.workshop.connections.count == 1
        asyncio.run(wait_until(lambda: not site.workshop.connections.count, "the end", 5 * UNREAD_SECONDS))
    assert +site.workshop.connections.dropped == {"unread": 1}


# --- all together ----------------------------------------------------------------------------------


def test_one_connection_too_many_for_all(start_site: StartSite) -> None:
    """It ends the one on which nobody has asked for longest, and is served; the others go on."""
    site = start_site(limits={"all_connections": 3})
    callers = [site.caller(address, listener=V1) for address in (FOO, FOO, BAR, BAR)]
    with ExitStack() as connections:
        first, second, third = (connections.enter_context(caller.connected()) for caller in callers[:3])
        assert [ask(first, callers[0]), ask(second, callers[1]), ask(third, callers[2])] == [200] * 3
        assert ask(first, callers[0]) == 200
        fourth = connections.enter_context(callers[3].connected())
        assert ask(fourth, callers[3]) == 200
        assert second.read_to_end() == b""
        assert [ask(first, callers[0]), ask(third, callers[2]), ask(fourth, callers[3])] == [200] * 3
    assert +site.workshop.connections.dropped == {"idle": 1}


def test_senders_of_nothing_make_room(start_site: StartSite) -> None:
    """Connections that bring no request go first, however many there are, and keep nobody out."""
    site = start_site(limits={"all_connections": 20})
    caller = site.caller(BAR, listener=V1)
    with ExitStack() as connections:
        for _ in range(60):
            silent = connections.enter_context(site.caller(FOO, listener=V1).connected())
            silent.send(b"GET /latest/")
        assert [caller.get(REGION).status for _ in range(5)] == [200] * 5


def test_a_pipeline_is_answered_in_order(site: RunningSite) -> None:
    """What is within the limit, then one 503 and the end, whatever else was sent."""
    caller = site.caller(FOO, listener=V1)
    with caller.connected() as connection:
        connection.send(caller.render("GET", REGION) * 30)
        assert [connection.read_answer().status for _ in range(11)] == [200] * 10 + [503]
        assert connection.read_to_end() == b""
    assert site.workshop.connections.limits.denied_requests == 1


def send_until_full(sock: socket.socket, data: bytes) -> int:
    """Return how many bytes of `data` could be sent before a second passed in which there was no room."""
    sent = 0
    try:
        while sent < len(data):
            sent += sock.send(data[sent : sent + 65536])
    except TimeoutError:
        pass
    return sent
