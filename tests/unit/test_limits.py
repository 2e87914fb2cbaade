"""What one caller may take, by a clock of the test's."""

from __future__ import annotations

import pytest

from imds_proxy.clock import Clock
from imds_proxy.model import canonical_address
from imds_proxy.web.limits import DENIAL_PAUSE, Allowance, CallerLimits


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        """Return seconds."""
        return self.now


class Line:
    """A connection as the limits see it."""

    def __init__(self, limits: CallerLimits, address: str) -> None:
        self.allowance: Allowance | None = limits.allowance_of(canonical_address(address))
        self.is_excess = False
        self.pause = 0.0
        self.is_hung_up = False

    def hang_up(self) -> None:
        """Note it."""
        self.is_hung_up = True


def open_line(limits: CallerLimits, address: str) -> Line:
    """Return a connection that is open and idle, as the listener makes it."""
    line = Line(limits, address)
    assert line.allowance is not None
    line.is_excess = not limits.allow_connection(line.allowance)
    line.is_excess = not limits.make_room() or line.is_excess
    limits.note_idle(line)
    return line


def close_line(limits: CallerLimits, line: Line) -> None:
    """End a connection."""
    assert line.allowance is not None
    limits.end_connection(line, line.allowance)


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
    lines = [open_line(limits, "10.0.0.1") for _ in range(4)]
    assert [line.is_excess for line in lines] == [False, False, False, True]
    close_line(limits, lines[0])
    close_line(limits, lines[1])
    assert not open_line(limits, "10.0.0.1").is_excess


def test_connections_are_not_forgotten(limits: CallerLimits) -> None:
    """Whoever else comes with however many addresses: an allowance with open connections stays."""
    allowance = limits.allowance_of(canonical_address("10.0.0.1"))
    for _ in range(3):
        limits.allow_connection(allowance)
    for number in range(70_000):
        limits.allowance_of(canonical_address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert limits.allowance_of(canonical_address("10.0.0.1")) is allowance
    assert not limits.allow_connection(allowance)


def test_the_one_idle_for_longest_makes_room(limits: CallerLimits) -> None:
    """One connection too many for all together ends the one on which nobody has asked for longest."""
    lines = [open_line(limits, f"10.0.0.{number}") for number in range(1, 6)]
    limits.note_busy(lines[0])
    limits.note_busy(lines[1])
    limits.note_idle(lines[1])
    newcomer = open_line(limits, "10.0.0.9")
    assert [line.is_hung_up for line in lines] == [False, False, True, False, False]
    assert not newcomer.is_excess
    assert +limits.dropped == {"idle": 1}


def test_one_that_is_ending_makes_room_once(limits: CallerLimits) -> None:
    """Until a connection that was hung up is gone, it is not counted, nor is another ended for it."""
    lines = [open_line(limits, f"10.0.0.{number}") for number in range(1, 6)]
    newcomer = open_line(limits, "10.0.0.9")
    close_line(limits, lines[0])
    assert [line.is_hung_up for line in lines] == [True, False, False, False, False]
    close_line(limits, newcomer)
    open_line(limits, "10.0.0.10")
    assert not any(line.is_hung_up for line in lines[1:])
    open_line(limits, "10.0.0.11")
    assert [line.is_hung_up for line in lines[1:]] == [True, False, False, False]


def test_no_room_while_all_are_busy(limits: CallerLimits) -> None:
    """No answer is cut off for a newcomer: it is the newcomer that is one too many."""
    lines = [open_line(limits, f"10.0.0.{number}") for number in range(1, 6)]
    for line in lines:
        limits.note_busy(line)
    assert open_line(limits, "10.0.0.9").is_excess
    assert not any(line.is_hung_up for line in lines)


def test_denials_of_one_caller_are_paced(limits: CallerLimits, clock: HandClock) -> None:
    """Whoever asks too often hears so at a steady pace, over all its connections; nobody else waits."""
    count_allowed(limits, "10.0.0.1")
    lines = [open_line(limits, "10.0.0.1") for _ in range(2)]
    pauses = []
    for line in lines * 2:
        assert not limits.admit(line)
        pauses.append(line.pause)
    assert pauses == pytest.approx([DENIAL_PAUSE * turn for turn in (1, 2, 3, 4)])
    other = open_line(limits, "10.0.0.2")
    assert limits.admit(other)
    assert other.pause == 0
    clock.now += 0.05
    count_allowed(limits, "10.0.0.1")
    assert not limits.admit(lines[0])
    assert lines[0].pause == pytest.approx(DENIAL_PAUSE)
    assert limits.denied_requests == 5


def test_a_connection_too_many_is_never_admitted(limits: CallerLimits) -> None:
    """It hears so at the same pace, and takes nothing of its caller's requests."""
    lines = [open_line(limits, "10.0.0.1") for _ in range(4)]
    assert not limits.admit(lines[3])
    assert lines[3].pause == pytest.approx(DENIAL_PAUSE)
    assert sum(limits.admit(lines[0]) for _ in range(20)) == 10
