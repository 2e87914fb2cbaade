"""All open connections together: who must go for a newcomer, and that every count comes back to zero."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.model import canonical_address
from imds_proxy.web.edge.budgets import READ_BYTES
from imds_proxy.web.edge.limits import NETWORK_MULTIPLE
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import DROP_REASONS, MAX_TURNED_AWAY, OpenConnections
from imds_proxy.web.edge.timeouts import FIRST_REQUEST_SECONDS, KEEP_ALIVE_SECONDS
from tests.standins.edge import PLENTY, REQUEST, SLOW_REQUEST, Far, connect, make_listener
from tests.standins.virtual_time import in_virtual_time

FEW = replace(PLENTY, connections=3)
MOMENT = 0.01


async def settle() -> None:
    """Let everything happen that is due."""
    await asyncio.sleep(MOMENT)


async def connect_and_ask(listener: Listener, *peers: str) -> list[Far]:
    """Return connections on which one request was answered each, one after the other."""
    made = []
    for peer in peers:
        far = connect(listener, peer)
        far.send(REQUEST)
        await settle()
        made.append(far)
    return made


def statuses(*connections: Far) -> list[str]:
    """Return what each connection received last: a status, or "" for nothing at all."""
    return [far.received.rpartition(b"HTTP/1.1 ")[2][:3].decode() for far in connections]


def ended(*connections: Far) -> list[bool]:
    """Return which connections have ended."""
    return [far.is_over for far in connections]


def assert_all_given_back(listener: Listener, open_connections: OpenConnections) -> None:
    """Check that nothing is counted: neither here, nor for any caller."""
    assert listener.connections == set()
    assert open_connections.count == 0
    assert (open_connections.heads.total, open_connections.unsent.total) == (0, 0)
    for seconds in (FIRST_REQUEST_SECONDS, KEEP_ALIVE_SECONDS):
        assert open_connections.timeouts.first(seconds) is None
    for peer in PEERS:
        allowance = open_connections.limits.allowance_of(canonical_address(peer))
        assert (allowance.connections, allowance.network) == (0, None)


# --- all connections -------------------------------------------------------------------------------


@in_virtual_time
async def test_one_too_many_ends_the_longest_idle() -> None:
    """A newcomer takes the place of the connection that has been idle for longest."""
    listener, _, open_connections = make_listener(max_connections=3)
    first, second, third = await connect_and_ask(listener, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    first.send(REQUEST)
    await settle()
    (fourth,) = await connect_and_ask(listener, "10.0.0.4")
    assert ended(first, second, third, fourth) == [False, True, False, False]
    assert statuses(fourth) == ["200"]
    assert +open_connections.dropped == {"idle": 1}


@in_virtual_time
async def test_a_silent_connection_goes_first() -> None:
    """One that has asked nothing for a second goes ahead of idle ones; a younger one does not."""
    listener, _, open_connections = make_listener(max_connections=3)
    idle = await connect_and_ask(listener, "10.0.0.1", "10.0.0.2")
    silent = connect(listener, "10.0.0.3")
    (newcomer,) = await connect_and_ask(listener, "10.0.0.4")
    assert ended(*idle, silent) == [True, False, False]
    await asyncio.sleep(1)
    (another,) = await connect_and_ask(listener, "10.0.0.5")
    assert ended(idle[1], silent, newcomer, another) == [False, True, False, False]
    assert +open_connections.dropped == {"idle": 2}


@in_virtual_time
async def test_silent_connections_alone() -> None:
    """Where all are silent, the oldest goes, however young it is."""
    listener, _, _ = make_listener(max_connections=2)
    silent = [connect(listener, f"10.0.0.{number}") for number in (1, 2, 3)]
    await settle()
    assert ended(*silent) == [True, False, False]


@in_virtual_time
async def test_no_answer_is_cut_off() -> None:
    """While every connection is being answered, the newcomer is the one too many."""
    listener, service, open_connections = make_listener(max_connections=2)
    busy = [connect(listener, f"10.0.0.{number}") for number in (1, 2)]
    for far in busy:
        far.send(SLOW_REQUEST)
    await settle()
    newcomer = connect(listener, "10.0.0.3")
    newcomer.send(REQUEST)
    service.is_released.set()
    await settle()
    assert statuses(newcomer, *busy) == ["403", "200", "200"]
    assert ended(*busy) == [False, False]
    assert +open_connections.dropped == {}


@in_virtual_time
async def test_one_that_is_ending_makes_room_once() -> None:
    """As many go as come, also when all come in one turn of the loop."""
    listener, _, open_connections = make_listener(max_connections=5)
    idle = await connect_and_ask(listener, *(f"10.0.0.{number}" for number in range(1, 6)))
    newcomers = [connect(listener, f"10.0.1.{number}") for number in range(3)]
    assert ended(*idle) == [True, True, True, False, False]
    await settle()
    assert open_connections.count == 5
    newcomers[0].go()
    await settle()
    connect(listener, "10.0.2.1")
    await settle()
    assert ended(*idle[3:]) == [False, False]


# --- one /64 ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_full_network() -> None:
    """The address with the most connections of a full /64 loses the one that was opened first."""
    listener, _, open_connections = make_listener(rates=FEW)
    places = 3 * NETWORK_MULTIPLE
    greedy = await connect_and_ask(listener, "fd77::1", "fd77::1", "fd77::1")
    others = await connect_and_ask(listener, *(f"fd77::2:{number}" for number in range(places - 3)))
    assert ended(*greedy, *others) == [False] * places
    (newcomer,) = await connect_and_ask(listener, "fd77::3")
    assert statuses(newcomer) == ["200"]
    assert ended(*greedy, *others) == [True, *[False] * (places - 1)]
    assert +open_connections.dropped == {"crowded_out": 1}


@in_virtual_time
async def test_newcomers_of_a_full_network() -> None:
    """An address of a full /64 gets in for as long as any connection there is idle, and not beyond that."""
    listener, service, open_connections = make_listener(rates=FEW)
    places = 3 * NETWORK_MULTIPLE
    busy = [connect(listener, "fd77::1") for _ in range(3)]
    for far in busy:
        far.send(SLOW_REQUEST)
    idle = await connect_and_ask(listener, *(f"fd77::2:{number}" for number in range(places - 3)))
    for number in range(len(idle)):
        newcomer = connect(listener, f"fd77::3:{number}")
        newcomer.send(SLOW_REQUEST)
        await settle()
        assert sum(ended(*idle)) == number + 1
        assert not newcomer.is_over
    (last,) = await connect_and_ask(listener, "fd77::4")
    assert statuses(last) == ["403"]
    assert open_connections.count == places
    assert +open_connections.dropped == {"crowded_out": len(idle)}
    service.is_released.set()
    await settle()
    assert statuses(*busy) == ["200"] * 3


@in_virtual_time
async def test_newcomers_in_one_turn() -> None:
    """A /64 never has more connections than its limit, also when many come in one turn of the loop."""
    listener, _, open_connections = make_listener(rates=FEW)
    places = 3 * NETWORK_MULTIPLE
    idle = await connect_and_ask(listener, *(f"fd77::{number:x}" for number in range(1, places + 1)))
    newcomers = [connect(listener, f"fd77::2:{number}") for number in range(5)]
    await settle()
    assert open_connections.count == places
    assert sum(ended(*idle, *newcomers)) == 5
    assert +open_connections.dropped == {"crowded_out": 5}


@in_virtual_time
async def test_strangers_of_a_network_leave_known_addresses_alone() -> None:
    """However many addresses of a /64 come, one that was granted a role keeps its connection."""
    listener, _, open_connections = make_listener(rates=FEW)
    (known,) = await connect_and_ask(listener, "fd77::1")
    known.connection.note_granted()
    others = await connect_and_ask(listener, *(f"fd77::2:{number}" for number in range(20)))
    assert not known.is_over
    assert sum(ended(*others)) == 20 - 3 * NETWORK_MULTIPLE
    (again,) = await connect_and_ask(listener, "fd77::1")
    assert statuses(again) == ["200"]
    assert open_connections.dropped["crowded_out"] == 20 - 3 * NETWORK_MULTIPLE


# --- those who only hear 403 or 503 ----------------------------------------------------------------


@in_virtual_time
async def test_strangers_are_bounded() -> None:
    """So many strangers may stay to hear 403. They do not count as callers, and push no caller out."""
    listener, service, open_connections = make_listener(max_connections=1)
    service.strangers.add("10.9.9.9")
    (idle,) = await connect_and_ask(listener, "10.0.0.1")
    strangers = [connect(listener, "10.9.9.9") for _ in range(MAX_TURNED_AWAY + 10)]
    await settle()
    assert sum(ended(*strangers)) == 10
    assert open_connections.count == 1
    assert open_connections.dropped["stranger"] == 10
    strangers[0].send(b"x")
    assert statuses(strangers[0]) == ["403"]
    strangers[0].go()
    await settle()
    assert not connect(listener, "10.9.9.9").is_over
    assert not idle.is_over


@in_virtual_time
async def test_those_beyond_a_limit_are_bounded() -> None:
    """So many connections beyond their callers' limits may stay to hear 503, apart from strangers."""
    listener, service, open_connections = make_listener(rates=FEW)
    service.strangers.add("10.9.9.9")
    within = await connect_and_ask(listener, *["10.0.0.1"] * 3)
    beyond = [connect(listener, "10.0.0.1") for _ in range(MAX_TURNED_AWAY + 10)]
    assert not connect(listener, "10.9.9.9").is_over
    await settle()
    assert sum(ended(*beyond)) == 10
    assert ended(*within) == [False] * 3
    assert open_connections.count == 3
    assert open_connections.dropped["excess"] == 10


@in_virtual_time
async def test_a_connection_that_is_judged_again() -> None:
    """A caller that a reload makes a stranger hears 403 at its next request, and all counts stay right."""
    listener, service, open_connections = make_listener()
    far, other = await connect_and_ask(listener, "fd77::1", "fd77::2")
    _, stricter, _ = make_listener()
    stricter.strangers.add("fd77::1")
    listener.service = stricter  # type: ignore[assignment]  # it has what is asked of it
    for each in (far, other):
        each.send(REQUEST)
    await settle()
    assert statuses(far, other) == ["403", "200"]
    other.go()
    await asyncio.sleep(FIRST_REQUEST_SECONDS)
    assert_all_given_back(listener, open_connections)
    del service


# --- why connections end ---------------------------------------------------------------------------


@in_virtual_time
async def test_reasons() -> None:
    """All reasons are there from the start, as zero. Silent connections and unread answers count."""
    listener, _, open_connections = make_listener()
    assert open_connections.dropped == dict.fromkeys(DROP_REASONS, 0)
    silent, unread, quiet = (
        connect(listener, "10.0.0.1"),
        connect(listener, "10.0.0.2"),
        connect(listener, "::1"),
    )
    for far in (unread, quiet):
        far.send(REQUEST)
    unread.connection.connection_lost(TimeoutError())
    await asyncio.sleep(FIRST_REQUEST_SECONDS + KEEP_ALIVE_SECONDS)
    assert ended(silent, quiet) == [True, True]
    assert +open_connections.dropped == {"silent": 1, "unread": 1}
    assert_all_given_back(listener, open_connections)


@in_virtual_time
async def test_answers_that_are_not_taken() -> None:
    """The connection with the most unsent bytes goes when all together have too many."""
    listener, _, open_connections = make_listener()
    open_connections.unsent.limit = 1000
    connections = await connect_and_ask(listener, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    for far, unsent in zip(connections, (300, 600, 90), strict=True):
        far.unsent = unsent
        far.connection.pause_writing()
    assert ended(*connections) == [False] * 3
    connections[2].unsent = 200
    connections[2].connection.pause_writing()
    assert ended(*connections) == [False, True, False]
    assert open_connections.unsent.total == 500
    connections[0].connection.resume_writing()
    assert open_connections.unsent.total == 200
    connections[0].send(REQUEST)
    assert connections[0].received.count(b"HTTP/1.1 200 ") == 2
    for far in connections:
        far.go()
    await settle()
    assert +open_connections.dropped == {"unsent": 1}
    assert_all_given_back(listener, open_connections)


# --- what arrives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("requests", [1, 10, 500, 2000])
@in_virtual_time
async def test_a_connection_goes_on_after_a_long_pipeline(requests: int) -> None:
    """However much comes at once, all is answered, and so is what comes after it."""
    listener, _, _ = make_listener()
    far = connect(listener, "10.0.0.1")
    left = REQUEST * requests
    while left and not far.is_over:
        left = left[far.send(left) :]
        await settle()
    assert far.received.count(b"HTTP/1.1 200 ") == requests
    assert far.is_reading_now
    far.send(REQUEST)
    await settle()
    assert far.received.count(b"HTTP/1.1 200 ") == requests + 1


@pytest.mark.parametrize("size", [100, 16_383, 16_384])
@in_virtual_time
async def test_a_connection_goes_on_after_blank_lines(size: int) -> None:
    """As many blank lines as may stand before a request are skipped, also behind one that takes its time."""
    listener, service, _ = make_listener()
    far = connect(listener, "10.0.0.1")
    far.send(SLOW_REQUEST)
    far.send((b"\r\n" * size)[:size])
    service.is_released.set()
    await settle()
    assert far.is_reading_now
    far.send(REQUEST)
    await settle()
    assert far.received.count(b"HTTP/1.1 200 ") == 2


@in_virtual_time
async def test_reading_stops() -> None:
    """While an answer is waited for, no more is taken in than a read or two."""
    listener, service, _ = make_listener()
    far = connect(listener, "10.0.0.1")
    far.send(SLOW_REQUEST)
    assert far.send(REQUEST * 10_000) <= 2 * READ_BYTES
    assert not far.is_reading_now
    service.is_released.set()
    await settle()
    assert far.is_reading_now


@pytest.mark.parametrize("ends_by", ["the peer", "the budget of heads"])
@in_virtual_time
async def test_a_connection_that_ends_as_a_request_is_handed_over(ends_by: str) -> None:
    """A request is not begun on a connection that is ending: no error is left in the loop."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
    listener, _, open_connections = make_listener()
    far = connect(listener, "10.0.0.1")
    if ends_by == "the peer":
        far.send(REQUEST + SLOW_REQUEST)
        far.go()
    else:
        open_connections.heads.limit = 10
        far.send(SLOW_REQUEST)
    await settle()
    gc.collect()
    assert complaints == []
    assert far.is_over
    assert_all_given_back(listener, open_connections)


# --- TLS -------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_handshake_that_ends_just_as_its_place_is_taken() -> None:
    """A connection that was ended in its handshake is not admitted again by the end of the handshake."""
    listener, _, open_connections = make_listener()
    connection = listener()
    assert connection.expect(("fd77::1", 50_000), lambda: None) == 0
    open_connections.drop(connection, "idle")
    far = Far(connection, "fd77::1")
    connection.connection_made(far)
    far.go()
    await settle()
    assert_all_given_back(listener, open_connections)


# --- counts ----------------------------------------------------------------------------------------

PEERS = ["10.0.0.1", "10.0.0.2", "fd77::1", "fd77::2", "fd77::3", "fd77:0:0:1::1", "10.9.9.9"]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["come", "come", "expect", "shake", "ask", "half", "slow", "grant", "go", "turn", "release"]
        ),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(steps=steps)
def test_any_order(steps: list[tuple[str, int]]) -> None:
    """Whatever connections do, no count is ever negative, no limit exceeded for long, and all end at zero."""

    @in_virtual_time
    async def run() -> None:
        listener, service, open_connections = make_listener(
            rates=replace(PLENTY, connections=2), max_connections=6
        )
        service.strangers.add("10.9.9.9")
        made: list[Far] = []
        for step, number in steps:
            if step in ("come", "expect"):
                made.append(begin(listener, PEERS[number % len(PEERS)], is_encrypted=step == "expect"))
            elif made:
                act(made[number % len(made)], step)
            if step == "turn":
                await settle()
                assert open_connections.count <= 6
            if step == "release":
                service.is_released.set()
            assert_sound(open_connections)
        service.is_released.set()
        await settle()
        for far in made:
            shake_hands(far)
            far.go()
        await settle()
        assert_all_given_back(listener, open_connections)

    run()


def begin(listener: Listener, peer: str, *, is_encrypted: bool) -> Far:
    """Return a new connection; one that is to be encrypted is not made before its handshake."""
    if not is_encrypted:
        return connect(listener, peer)
    connection = listener()
    far = Far(connection, peer)
    if connection.expect((peer, 50_000), far.abort) is None:
        far.abort()
    return far


def shake_hands(far: Far) -> None:
    """End the handshake of a connection, unless that is over."""
    if far.connection.transport is None and not far.is_over:
        far.connection.connection_made(far)


def act(far: Far, step: str) -> None:
    """Let one thing happen on a connection."""
    if step == "shake":
        shake_hands(far)
    elif step == "grant":
        far.connection.note_granted()
    elif step == "go":
        far.go()
    elif far.connection.transport is not None:
        far.send({"ask": REQUEST, "half": REQUEST[:9], "slow": SLOW_REQUEST}.get(step, b""))


def assert_sound(open_connections: OpenConnections) -> None:
    """Check that no count is negative, and that connections are ended for known reasons only."""
    assert open_connections.count >= 0
    assert open_connections.heads.total >= 0
    assert set(open_connections.dropped) == set(DROP_REASONS)
    assert all(count >= 0 for count in open_connections.dropped.values())
