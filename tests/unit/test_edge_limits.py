"""Limits of a caller, by a clock that stands still until the test moves it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.model import canonical_address
from imds_proxy.web.edge.limits import (
    HANDSHAKE_BURST,
    MAX_CALLERS,
    NETWORK_MULTIPLE,
    PACE_BURST,
    PACE_MULTIPLE,
    CallerLimits,
    Rates,
)
from tests.standins.clocks import HandClock

if TYPE_CHECKING:
    from imds_proxy.web.edge.limits import Allowance

RATES = Rates(
    connections=3, requests_per_second=10, new_connections_per_second=4, tls_handshakes_per_second=2
)
PATIENCE = 0.5


@pytest.fixture
def clock() -> HandClock:
    """Clock that stands still."""
    return HandClock()


@pytest.fixture
def limits(clock: HandClock) -> CallerLimits:
    """Limits with the rates above."""
    return CallerLimits(RATES, clock=clock.clock())


def find(limits: CallerLimits, address: str) -> Allowance:
    """Return the allowance of an address."""
    return limits.allowance_of(canonical_address(address))


def connected(limits: CallerLimits, address: str, count: int = 1) -> Allowance:
    """Return the allowance of an address that has so many more connections now."""
    allowance = find(limits, address)
    for _ in range(count):
        limits.begin_connection(allowance)
    return allowance


def count_allowed(limits: CallerLimits, allowance: Allowance | None, tries: int = 100) -> int:
    """Return how many of so many requests at once are allowed."""
    return sum(limits.allow_request(allowance) for _ in range(tries))


def delays(limits: CallerLimits, allowance: Allowance, count: int, *, is_encrypted: bool = False) -> object:
    """Return how long so many new connections at once must wait, to be compared with a list."""
    found = [
        limits.delay_connection(allowance, is_encrypted=is_encrypted, patience=PATIENCE) for _ in range(count)
    ]
    return [None if one is None else round(one, 6) for one in found]


def come_as_many(limits: CallerLimits, count: int) -> None:
    """Let so many other addresses come."""
    for number in range(count):
        find(limits, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")


# --- requests --------------------------------------------------------------------------------------


def test_a_second_s_worth_at_once(limits: CallerLimits) -> None:
    """A caller may take what one second brings, and not one more. Each refusal is counted."""
    assert count_allowed(limits, find(limits, "10.0.0.1")) == 10
    assert limits.denied_requests == 90


def test_the_rate_after_that(limits: CallerLimits, clock: HandClock) -> None:
    """The time brings new requests, but never more than a second's worth."""
    caller = find(limits, "10.0.0.1")
    count_allowed(limits, caller)
    clock.advance(0.5)
    assert count_allowed(limits, caller) == 5
    clock.advance(3600)
    assert count_allowed(limits, caller) == 10


def test_refused_requests_cost_nothing(limits: CallerLimits, clock: HandClock) -> None:
    """A caller that goes on asking too often still gets its rate."""
    caller = find(limits, "10.0.0.1")
    allowed = 0
    for _ in range(1000):
        clock.advance(0.01)
        allowed += count_allowed(limits, caller, tries=1)
    assert allowed == pytest.approx(10 * 10 + 9, abs=2)


def test_asking_whether_takes_nothing(limits: CallerLimits) -> None:
    """`has_request` changes nothing, and says what `allow_request` would."""
    caller = connected(limits, "fd77::1")
    for _ in range(10):
        assert all(limits.has_request(caller) for _ in range(5))
        assert limits.allow_request(caller)
    assert not limits.has_request(caller)
    assert limits.denied_requests == 0


def test_callers_do_not_share(limits: CallerLimits) -> None:
    """One caller's requests are taken from no other caller."""
    count_allowed(limits, find(limits, "10.0.0.1"))
    assert count_allowed(limits, find(limits, "10.0.0.2")) == 10


def test_small_ipv6_and_ipv4_numbers_are_not_neighbours(limits: CallerLimits) -> None:
    """`::` as a number is 0, as `0.0.0.0` is. The families don't share."""
    count_allowed(limits, find(limits, "::"))
    assert count_allowed(limits, find(limits, "0.0.0.0")) == 10


def test_a_new_connection_is_not_a_new_bucket(limits: CallerLimits) -> None:
    """The allowance belongs to the address, however that is written, and outlives its connections."""
    first = connected(limits, "10.0.0.1")
    count_allowed(limits, first)
    limits.end_connection(first)
    assert connected(limits, "::ffff:10.0.0.1") is first
    assert count_allowed(limits, first) == 0


def test_a_reload_changes_the_rates(limits: CallerLimits, clock: HandClock) -> None:
    """A lower rate holds at once, a higher one as time passes."""
    caller = find(limits, "10.0.0.1")
    limits.rates = replace(RATES, requests_per_second=2)
    assert count_allowed(limits, caller) == 2
    limits.rates = replace(RATES, requests_per_second=100)
    clock.advance(1)
    assert count_allowed(limits, caller, tries=200) == 100


def test_a_peer_that_is_gone_has_no_limit(limits: CallerLimits) -> None:
    """A connection without a known peer has no allowance, and is not limited."""
    assert limits.allow_request(None)
    assert limits.has_request(None)
    assert limits.delay_request(None) == 0
    limits.take_request(None)


def test_a_user_of_this_host_is_a_caller(limits: CallerLimits) -> None:
    """A user of a unix socket counts by uid. A uid is not an address, and not another uid."""
    user = limits.allowance_of_user(4)
    assert limits.allowance_of_user(4) is user
    assert limits.allowance_of_user(5) is not user
    assert find(limits, "0.0.0.4") is not user
    assert count_allowed(limits, user) == 10
    assert count_allowed(limits, limits.allowance_of_user(5)) == 10


# --- how fast saved-up requests are served ---------------------------------------------------------


def test_saved_up_requests_are_paced(limits: CallerLimits, clock: HandClock) -> None:
    """The first few are served at once, the next ones at a multiple of the rate."""
    caller, gap = find(limits, "10.0.0.1"), 1 / (10 * PACE_MULTIPLE)
    assert [limits.delay_request(caller) for _ in range(PACE_BURST)] == [0] * PACE_BURST
    assert [limits.delay_request(caller) for _ in range(3)] == pytest.approx([gap, 2 * gap, 3 * gap])
    assert limits.delay_request(find(limits, "10.0.0.2")) == 0
    clock.advance(4 * gap)
    assert [limits.delay_request(caller) for _ in range(2)] == pytest.approx([0, gap])


def test_addresses_of_a_network_have_one_pace(limits: CallerLimits) -> None:
    """A host does not get more turns of the loop by having more IPv6 addresses."""
    callers = [connected(limits, f"fd77::{number}") for number in range(1, PACE_BURST + 3)]
    found = [limits.delay_request(caller) for caller in callers]
    assert found == pytest.approx([0] * PACE_BURST + [0.05, 0.1])
    assert limits.delay_request(connected(limits, "fd77:0:0:1::1")) == 0


# --- new connections -------------------------------------------------------------------------------


def test_new_connections_wait_for_their_turn(limits: CallerLimits, clock: HandClock) -> None:
    """Those beyond a second's worth wait. One that would wait for too long is refused, and not counted."""
    caller = find(limits, "10.0.0.1")
    assert delays(limits, caller, 9) == [0, 0, 0, 0, 0.25, 0.5, None, None, None]
    assert delays(limits, find(limits, "10.0.0.2"), 1) == [0]
    clock.advance(0.25)
    assert delays(limits, caller, 2) == [0.5, None]
    clock.advance(3600)
    assert delays(limits, caller, 5) == [0, 0, 0, 0, 0.25]


def test_handshakes_count_apart(limits: CallerLimits) -> None:
    """A TLS connection takes one of both; a plain one needs no handshake."""
    caller = find(limits, "10.0.0.1")
    assert delays(limits, caller, 5, is_encrypted=True) == [0, 0, 0.5, None, None]
    assert delays(limits, caller, 2) == [0, 0.25]
    assert delays(limits, caller, 1, is_encrypted=True) == [None]


def test_connections_of_a_network_wait_together(limits: CallerLimits) -> None:
    """A /64 may have so many times what one address may have; another /64 has its own."""
    callers = [connected(limits, f"fd77::{number:x}") for number in range(1, 20)]
    found = [limits.delay_connection(caller, patience=0) for caller in callers]
    assert found == [0] * 16 + [None] * 3
    shaking = [connected(limits, f"fd78::{number:x}") for number in range(1, 20)]
    found = [limits.delay_connection(caller, is_encrypted=True, patience=0) for caller in shaking]
    assert found == [0] * HANDSHAKE_BURST + [None] * (19 - HANDSHAKE_BURST)


# --- IPv6 ------------------------------------------------------------------------------------------


def test_an_address_has_the_limits_of_a_caller(limits: CallerLimits) -> None:
    """One IPv6 address takes no more than one IPv4 address, and leaves the rest of its /64 to the others."""
    assert count_allowed(limits, connected(limits, "fd77::1")) == 10
    assert count_allowed(limits, connected(limits, "fd77::ffff:ffff:ffff:ffff")) == 10


def test_a_network_has_a_multiple(limits: CallerLimits) -> None:
    """All addresses of a /64 together take so many times what one takes; the next /64 has its own."""
    callers = [connected(limits, f"fd77::{number}") for number in range(1, 9)]
    assert [count_allowed(limits, one) for one in callers] == [10] * NETWORK_MULTIPLE + [0] * 4
    assert count_allowed(limits, connected(limits, "fd77:0:0:1::1")) == 10


@pytest.mark.parametrize("is_granted", [False, True])
def test_a_network_is_not_forgotten_between_connections(limits: CallerLimits, *, is_granted: bool) -> None:
    """A host that takes a new address of its /64 for every connection has no more than the /64 has."""
    allowed = connections = 0
    for number in range(1, 40):
        caller = connected(limits, f"fd77::{number:x}")
        if is_granted:
            limits.note_granted(caller)
        connections += limits.delay_connection(caller, patience=0) is not None
        allowed += count_allowed(limits, caller)
        limits.end_connection(caller)
    assert allowed == 10 * NETWORK_MULTIPLE
    assert connections == 4 * NETWORK_MULTIPLE


def test_known_addresses_have_a_part_of_their_own(limits: CallerLimits, clock: HandClock) -> None:
    """Strangers of a /64 take nothing from an address that was granted a role, neither now nor later."""
    known = connected(limits, "fd77::1")
    limits.note_granted(known)
    strangers = [connected(limits, f"fd77::1:{number:x}") for number in range(1, 20)]
    assert sum(count_allowed(limits, one) for one in strangers) == 10 * NETWORK_MULTIPLE
    assert all(limits.delay_connection(one, patience=9) is not None for one in strangers)
    assert count_allowed(limits, known) == 10
    assert limits.delay_connection(known, patience=0) == 0
    limits.end_connection(known)
    clock.advance(1)
    assert sum(count_allowed(limits, one) for one in strangers) == 10 * NETWORK_MULTIPLE
    assert connected(limits, "fd77::1") is known
    assert count_allowed(limits, known) == 10


def test_known_addresses_share_their_part(limits: CallerLimits) -> None:
    """That part is as large as that of the strangers, and all known addresses of the /64 share it."""
    known = [connected(limits, f"fd77::{number}") for number in range(1, 9)]
    for one in known:
        limits.note_granted(one)
        limits.note_granted(one)
    assert [count_allowed(limits, one) for one in known] == [10] * NETWORK_MULTIPLE + [0] * 4


# --- connections, and who is remembered ------------------------------------------------------------


def test_connections_of_one_caller(limits: CallerLimits) -> None:
    """A caller may have so many connections at a time."""
    caller = connected(limits, "10.0.0.1", 3)
    assert not limits.has_too_many(caller)
    connected(limits, "10.0.0.1")
    assert limits.has_too_many(caller)
    limits.end_connection(caller)
    assert not limits.has_too_many(caller)


def test_the_number_of_callers_is_bounded(limits: CallerLimits) -> None:
    """A host with a great many addresses does not fill the memory with them."""
    come_as_many(limits, MAX_CALLERS + 4000)
    assert limits.size == MAX_CALLERS


def test_connections_are_not_forgotten(limits: CallerLimits) -> None:
    """However many other addresses come, an allowance with open connections stays, and is counted once."""
    caller = connected(limits, "10.255.0.1", 3)
    come_as_many(limits, MAX_CALLERS)
    assert limits.size == MAX_CALLERS + 1
    assert connected(limits, "10.255.0.1") is caller
    assert limits.has_too_many(caller)
    for _ in range(4):
        limits.end_connection(caller)
    assert limits.size == MAX_CALLERS
    assert find(limits, "10.255.0.1") is caller


def test_known_callers_are_not_forgotten(limits: CallerLimits) -> None:
    """Callers that were granted a role stay, connected or not, however many strangers come."""
    idle, busy = connected(limits, "10.255.0.1"), connected(limits, "fd77::1")
    for one in (idle, busy):
        limits.note_granted(one)
    limits.end_connection(idle)
    come_as_many(limits, MAX_CALLERS + 10)
    assert find(limits, "10.255.0.1") is idle
    assert find(limits, "fd77::1") is busy
    limits.end_connection(busy)
    come_as_many(limits, MAX_CALLERS + 10)
    assert find(limits, "fd77::1") is busy
    assert limits.size == MAX_CALLERS + 2


def test_a_grant_to_a_caller_that_was_pushed_out(limits: CallerLimits) -> None:
    """A caller that only stays because of its connections is known from a grant on."""
    caller = connected(limits, "10.255.0.1")
    come_as_many(limits, MAX_CALLERS)
    limits.note_granted(caller)
    limits.end_connection(caller)
    come_as_many(limits, MAX_CALLERS + 10)
    assert find(limits, "10.255.0.1") is caller
    assert caller.is_known


ADDRESSES = ["10.0.0.1", "fd77::1", "fd77::2", "fd77::3", "fd77:0:0:1::1", "::", "0.0.0.0"]
steps = st.lists(
    st.tuples(st.sampled_from(["begin", "end", "grant"]), st.sampled_from(ADDRESSES)), max_size=60
)


@given(steps=steps)
def test_counts_of_connections(steps: list[tuple[str, str]]) -> None:
    """In whatever order connections begin, end and are granted roles, all counts are exact, down to zero."""
    limits = CallerLimits(RATES, clock=HandClock().clock())
    open_now: dict[str, int] = dict.fromkeys(ADDRESSES, 0)
    for step, address in [*steps, *(("end", address) for address in ADDRESSES for _ in steps)]:
        allowance = find(limits, address)
        if step == "begin":
            limits.begin_connection(allowance)
            open_now[address] += 1
        elif open_now[address] and step == "end":
            limits.end_connection(allowance)
            open_now[address] -= 1
        elif open_now[address]:
            limits.note_granted(allowance)
        assert_counts(limits, open_now)
    assert sum(open_now.values()) == 0
    assert limits.size == (len(ADDRESSES) if steps else 0)


def assert_counts(limits: CallerLimits, open_now: dict[str, int]) -> None:
    """Check the counts of all addresses, and that each /64 has those of its known or its other addresses."""
    size = limits.size
    all_of = {address: find(limits, address) for address, count in open_now.items() if count}
    assert limits.size == size
    assert {address: one.connections for address, one in all_of.items()} == {
        address: count for address, count in open_now.items() if count
    }
    for address, one in all_of.items():
        if one.network is None:
            assert ":" not in address
        else:
            near = [other for other in all_of.values() if other.network is one.network]
            assert one.network.connections == sum(other.connections for other in near)
            assert set(near) == set(one.network.connected)
            assert {(other.key[1] >> 64, other.is_known) for other in near} == {
                (one.key[1] >> 64, one.is_known)
            }
