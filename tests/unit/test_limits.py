"""What one caller may take, by a clock of the test's."""

from __future__ import annotations

import pytest

from imds_proxy.clock import Clock
from imds_proxy.model import canonical_address
from imds_proxy.web.limits import CallerLimits


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        """Return seconds."""
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """A clock at some time."""
    return HandClock()


@pytest.fixture
def limits(clock: HandClock) -> CallerLimits:
    """Ten requests per second."""
    return CallerLimits(
        connections=3,
        requests_per_second=10,
        clock=Clock(clock.read, clock.read),
        most_connections=5,
    )


def count_allowed(limits: CallerLimits, address: str, tries: int = 100) -> int:
    """Return how many of so many requests at once are allowed."""
    allowance = limits.allowance_of(canonical_address(address))
    return sum(limits.allow_request(allowance) for _ in range(tries))


def test_a_second_s_worth_at_once(limits: CallerLimits) -> None:
    """A caller may take what a second brings, and not one more."""
    assert count_allowed(limits, "10.0.0.1") == 10


def test_the_rate_after_that(limits: CallerLimits, clock: HandClock) -> None:
    """What comes back is what the time has brought, never more than a second's worth."""
    count_allowed(limits, "10.0.0.1")
    clock.now += 0.5
    assert count_allowed(limits, "10.0.0.1") == 5
    clock.now += 3600
    assert count_allowed(limits, "10.0.0.1") == 10


def test_refused_requests_cost_nothing(limits: CallerLimits, clock: HandClock) -> None:
    """A caller that goes on asking too often still gets its rate."""
    allowed = 0
    for _ in range(1000):
        clock.now += 0.01
        allowed += count_allowed(limits, "10.0.0.1", tries=1)
    assert allowed == pytest.approx(10 * 10 + 9, abs=2)


def test_callers_do_not_share(limits: CallerLimits) -> None:
    """One caller's requests are nobody else's."""
    count_allowed(limits, "10.0.0.1")
    assert count_allowed(limits, "10.0.0.2") == 10


def test_ipv6_counts_by_64(limits: CallerLimits) -> None:
    """A host may have a /64 to itself: all of it is one caller, the next /64 is another."""
    count_allowed(limits, "fd77::1")
    assert count_allowed(limits, "fd77::ffff:ffff:ffff:ffff") == 0
    assert count_allowed(limits, "fd77:0:0:1::1") == 10


def test_small_ipv6_and_ipv4_numbers_are_no_neighbours(limits: CallerLimits) -> None:
    """`::` as a number is 0 as `0.0.0.0` is; the families don't share."""
    count_allowed(limits, "::")
    assert count_allowed(limits, "0.0.0.0") == 10


def test_a_new_connection_is_no_new_bucket(limits: CallerLimits) -> None:
    """The allowance belongs to the address."""
    first = limits.allowance_of(canonical_address("10.0.0.1"))
    assert limits.allowance_of(canonical_address("::ffff:10.0.0.1")) is first


def test_a_reload_changes_the_rate(limits: CallerLimits, clock: HandClock) -> None:
    """A lower rate holds at once, a higher one as time passes."""
    limits.requests_per_second = 2
    assert count_allowed(limits, "10.0.0.1") == 2
    limits.requests_per_second = 100
    clock.now += 1
    assert count_allowed(limits, "10.0.0.1", tries=200) == 100


def test_the_number_of_callers_is_bounded(limits: CallerLimits) -> None:
    """Whoever has a great many addresses does not fill the memory with them."""
    for number in range(70_000):
        limits.allowance_of(canonical_address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert limits.size == 65_536


def test_a_peer_that_is_gone_has_no_limit(limits: CallerLimits) -> None:
    """There is nobody left to count."""
    assert limits.allow_request(None)


def test_a_user_of_this_host_is_a_caller(limits: CallerLimits) -> None:
    """Whoever comes over a unix socket counts by uid: a uid is nobody's address, and not another uid."""
    user = limits.allowance_of_user(4)
    assert limits.allowance_of_user(4) is user
    assert limits.allowance_of_user(5) is not user
    assert limits.allowance_of(canonical_address("0.0.0.4")) is not user
    assert sum(limits.allow_request(user) for _ in range(100)) == 10


def test_connections_of_one_caller(limits: CallerLimits) -> None:
    """A caller may have so many connections; when one ends, there is room for another."""
    allowance = limits.allowance_of(canonical_address("10.0.0.1"))
    assert [limits.allow_connection(allowance) for _ in range(4)] == [True, True, True, False]
    limits.end_connection(allowance)
    limits.end_connection(allowance)
    assert limits.allow_connection(allowance)


def test_connections_are_not_forgotten(limits: CallerLimits) -> None:
    """Whoever else comes with however many addresses: an allowance with open connections stays."""
    allowance = limits.allowance_of(canonical_address("10.0.0.1"))
    for _ in range(3):
        limits.allow_connection(allowance)
    for number in range(70_000):
        limits.allowance_of(canonical_address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert limits.allowance_of(canonical_address("10.0.0.1")) is allowance
    assert not limits.allow_connection(allowance)


def test_connections_of_all_callers(limits: CallerLimits) -> None:
    """All together may have no more than there are file descriptors for."""
    callers = [limits.allowance_of(canonical_address(f"10.0.0.{number}")) for number in range(1, 7)]
    assert [limits.allow_connection(caller) for caller in callers] == [True] * 5 + [False]
