"""HTTP Basic in virtual time: few guesses reach the directory, a right password is not held up by them."""

from __future__ import annotations

import asyncio
import base64
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.directory.verify import AccountLocked
from imds_proxy.errors import ProviderError, Trouble
from imds_proxy.web.basic import BasicSignOn, Login, parse_authorization
from imds_proxy.web.identity import LoginFailure, NotIdentified
from imds_proxy.web.login_throttle import (
    ADDRESS_FAILURES,
    ADDRESS_PAUSE,
    CHECKS_PER_ADDRESS,
    KNOWN_ADDRESSES,
    KNOWN_FOR,
    Bound,
    LoginThrottle,
    LoginThrottled,
)
from imds_proxy.web.peer import Peer
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HERE = Peer(ip_address("10.0.0.5"))
ELSEWHERE = Peer(ip_address("10.0.0.6"))
PASSWORD = "correct horse"
THRESHOLD, WINDOW = 4, 1800.0
MOST_USERS = 40


class VirtualThreads(DaemonThreads):
    """Calls that take `seconds` of virtual time, in which no real thread could take any."""

    def __init__(self) -> None:
        super().__init__("test", most=8, longest_line=64)
        self.seconds = 0.0
        self.running = 0
        self.most_running = 0

    async def run(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, after a while."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
            return function()
        finally:
            self.running -= 1


class Directory:
    """Knows alice and bob; counts the questions."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.hears: Callable[[], None] = lambda: None
        self.failure: Exception | None = None

    def verify(self, user: str, password: str) -> str | None:
        """Return the name as the directory spells it if the password is right."""
        self.asked.append((user, password))
        self.hears()
        if self.failure is not None:
            raise self.failure
        name = user.lower()
        return name if name in ("alice", "bob") and password == PASSWORD else None


class Door:
    """A sign-on by HTTP Basic, and how long each answer takes."""

    def __init__(self, threshold: int = THRESHOLD) -> None:
        self.lockout = Bound(threshold - 1, WINDOW)
        self.clock = VirtualClock()
        self.directory = Directory()
        self.asked_at: list[float] = []
        self.directory.hears = lambda: self.asked_at.append(self.clock.monotonic())
        self.threads = VirtualThreads()
        self.throttle = LoginThrottle(self.clock.clock(), most_users=MOST_USERS)
        self.sign_on = self.make_sign_on()

    def make_sign_on(self) -> BasicSignOn:
        """Return what a reload makes: another sign-on with the same throttle."""
        return BasicSignOn(
            self.directory.verify,
            patience=6,
            threads=self.threads,
            throttle=self.throttle,
            lockout=self.lockout,
            clock=self.clock.clock(),
        )

    async def try_to(self, password: str, user: str = "alice", peer: Peer = HERE) -> tuple[bool, float]:
        """Return whether the password was right, and after how many seconds that was said."""
        began = self.clock.monotonic()
        try:
            await self.sign_on.log_in(Login(user, password), peer)
        except LoginThrottled:
            raise
        except NotIdentified:
            return False, round(self.clock.monotonic() - began, 3)
        return True, round(self.clock.monotonic() - began, 3)


def at(number: int) -> Peer:
    """Return one of many addresses."""
    return Peer(ip_address((10 << 24) + number))


async def guess(door: Door, number: int, user: str = "alice", peer: Peer = HERE) -> str:
    """Return what became of a guess."""
    try:
        return str((await door.try_to(f"guess {number}", user, peer))[0])
    except LoginThrottled:
        return "throttled"


# --- one user at one address -----------------------------------------------------------------------


@in_virtual_time
async def test_each_failure_takes_longer() -> None:
    """0.25 s doubling to 8 s."""
    door = Door(threshold=100)
    took = [(await door.try_to(f"wrong {number}"))[1] for number in range(8)]
    assert took == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


@in_virtual_time
async def test_an_unknown_user_takes_as_long() -> None:
    """And hears the same: the answers, their times and the bounds."""
    told = []
    for user in ("nobody", "bob"):
        door = Door()
        began = door.clock.monotonic()
        told.append([await guess(door, number, user) for number in range(6)])
        told[-1].append(str(door.clock.monotonic() - began))
    assert told[0] == told[1]


@in_virtual_time
async def test_a_right_password_is_not_slowed_by_failures() -> None:
    """Not by one's own, once they are told, nor by those that others wait for."""
    door = Door(threshold=100)
    for number in range(8):
        await door.try_to(f"wrong {number}")
    guesses = [asyncio.create_task(guess(door, number, "bob")) for number in range(4)]
    await asyncio.sleep(0.1)
    assert await door.try_to(PASSWORD) == (True, 0)
    assert set(await asyncio.gather(*guesses)) <= {"False", "throttled"}


@in_virtual_time
async def test_many_tries_at_a_time_before_anything_failed() -> None:
    """A script that starts 64 requests with the right password gets all of them, by a few binds."""
    door = Door()
    door.threads.seconds = 0.3
    results = await asyncio.gather(*(door.try_to(PASSWORD) for _ in range(64)))
    assert all(is_right for is_right, _ in results)
    assert len(door.directory.asked) <= CHECKS_PER_ADDRESS


@in_virtual_time
async def test_one_try_at_a_time_after_a_failure() -> None:
    """The others wait 2 s for their turn; then they are refused, and the directory does not hear of them."""
    door = Door(threshold=100)
    for number in range(6):
        await door.try_to(f"wrong {number}")
    before = len(door.directory.asked)
    told = await asyncio.gather(*(guess(door, number) for number in range(200)))
    assert (told.count("False"), told.count("throttled")) == (1, 199)
    assert len(door.directory.asked) - before == 1


@in_virtual_time
async def test_hanging_up_frees_no_place() -> None:
    """And does not take back a guess: the check goes on and counts."""
    door = Door()
    door.threads.seconds = 1
    for number in range(50):
        hasty = asyncio.create_task(guess(door, number))
        await asyncio.sleep(0.1)
        hasty.cancel()
        await asyncio.gather(hasty, return_exceptions=True)
    await asyncio.sleep(60)
    assert len(door.directory.asked) == THRESHOLD - 1
    assert await guess(door, 99) == "throttled"


# --- one user over all addresses -------------------------------------------------------------------


@in_virtual_time
async def test_failures_of_a_user_stay_below_the_threshold() -> None:
    """At once from 200 addresses, under all spellings: three reach the directory, for half an hour."""
    door = Door()
    door.threads.seconds = 0.5
    names = ("alice", "ALICE", " alice ", "\uff41lice")
    told = await asyncio.gather(*(guess(door, n, names[n % 4], at(n)) for n in range(200)))
    assert len(door.directory.asked) == told.count("False") == THRESHOLD - 1
    await asyncio.sleep(WINDOW - 60)
    assert await guess(door, 1, peer=at(1000)) == "throttled"
    assert len(door.directory.asked) == THRESHOLD - 1
    await asyncio.sleep(61)
    assert await guess(door, 1, peer=at(1000)) == "False"


@in_virtual_time
async def test_the_count_lasts_until_the_directorys_is_over() -> None:
    """Active Directory forgets failures when none has come for the window: so does the count."""
    door = Door()
    for number in range(10):
        await guess(door, number, peer=at(number))
        await asyncio.sleep(WINDOW * 0.9)
    times = len(door.directory.asked)
    assert times <= 10 * 0.9  # without refusals it would be all of them
    assert longest_run(door) < THRESHOLD


def longest_run(door: Door) -> int:
    """Return how far a directory would have counted that forgets `WINDOW` after the last failure."""
    longest = run = 0
    last = float("-inf")
    for when in door.asked_at:
        run = run + 1 if when - last < WINDOW else 1
        longest, last = max(longest, run), when
    return longest


@in_virtual_time
async def test_what_is_throttled_names_when_to_come_back() -> None:
    """For Retry-After."""
    door = Door()
    for number in range(THRESHOLD - 1):
        await door.try_to(f"wrong {number}", peer=at(number))
    with pytest.raises(LoginThrottled) as throttled:
        await door.try_to(PASSWORD)
    assert WINDOW - 10 < throttled.value.retry_after <= WINDOW
    assert throttled.value.failure is LoginFailure.THROTTLED
    assert throttled.value.challenge is None


@in_virtual_time
async def test_where_the_user_has_logged_in_guesses_from_elsewhere_do_not_count() -> None:
    """A right password goes through there at once; a new address waits until the failures are forgotten."""
    door = Door()
    assert await door.try_to(PASSWORD) == (True, 0)
    await asyncio.sleep(86400)
    for number in range(50):
        await guess(door, number, peer=at(number + 1000))
    assert len(door.directory.asked) == 1 + THRESHOLD - 1
    assert await door.try_to(PASSWORD) == (True, 0)
    door.sign_on = door.make_sign_on()
    with pytest.raises(LoginThrottled):
        await door.try_to(PASSWORD, peer=ELSEWHERE)


@in_virtual_time
async def test_failures_at_known_addresses_stay_below_the_threshold_too() -> None:
    """Over all of them together; a success ends them, as at the directory."""
    door = Door()
    for peer in (HERE, ELSEWHERE):
        assert (await door.try_to(PASSWORD, peer=peer))[0]
    await asyncio.sleep(61)
    told = [await guess(door, number, peer=(HERE, ELSEWHERE)[number % 2]) for number in range(6)]
    assert told == ["False"] * (THRESHOLD - 1) + ["throttled"] * 3
    assert await guess(door, 7, peer=at(1)) == "throttled"
    await asyncio.sleep(WINDOW)
    assert [await guess(door, number) for number in range(2)] == ["False"] * 2
    assert (await door.try_to(PASSWORD))[0]
    assert [await guess(door, number) for number in range(2)] == ["False"] * 2


@in_virtual_time
async def test_known_addresses_are_few_and_last_for_days() -> None:
    """The one that was used longest ago makes room; guesses push none out."""
    door = Door()
    for number in range(KNOWN_ADDRESSES + 1):
        assert (await door.try_to(PASSWORD, peer=at(number)))[0]
    await asyncio.sleep(61)
    for number in range(3 * MOST_USERS):
        await guess(door, 0, f"user {number}", at(5000 + number))
    for number in range(10):
        await guess(door, number, peer=at(9000 + number))
    with pytest.raises(LoginThrottled):
        await door.try_to(PASSWORD, peer=at(0))
    assert (await door.try_to(PASSWORD, peer=at(1)))[0]
    await asyncio.sleep(KNOWN_FOR)
    for number in range(3):
        await guess(door, number, peer=at(9000 + number))
    with pytest.raises(LoginThrottled):
        await door.try_to(PASSWORD, peer=at(1))


@in_virtual_time
async def test_other_users_failures_push_no_count_out() -> None:
    """Full of counts, it refuses users without one: to forget one would give its guesses back."""
    door = Door()
    for number in range(THRESHOLD - 1):
        await guess(door, number, peer=at(number))
    for number in range(MOST_USERS + 20):
        await guess(door, 0, f"user {number}", at(5000 + number))
    assert door.throttle.users == MOST_USERS
    assert await guess(door, 9, peer=at(77)) == "throttled"
    assert await guess(door, 9, "new", at(77)) == "throttled"
    await asyncio.sleep(WINDOW)
    assert await guess(door, 9, "new", at(77)) == "False"


# --- one address -----------------------------------------------------------------------------------


@in_virtual_time
async def test_one_address_tries_few_users() -> None:
    """Twenty failures at once, then one every 5 s: 700 users are not tried in a second."""
    door = Door()
    told = [await guess(door, 0, f"user {number}") for number in range(700)]
    passed = door.clock.monotonic()
    assert told.count("False") == len(door.directory.asked) <= ADDRESS_FAILURES + passed / ADDRESS_PAUSE + 1
    assert told[-1] == "throttled"
    assert door.throttle.users <= ADDRESS_FAILURES + 5
    assert await door.try_to(PASSWORD, peer=ELSEWHERE) == (True, 0)


@in_virtual_time
async def test_users_who_have_logged_in_at_the_address_have_failures_of_their_own() -> None:
    """Whoever guesses in the same office does not lock them out."""
    door = Door()
    assert (await door.try_to(PASSWORD))[0]
    await asyncio.sleep(61)
    for number in range(100):
        await guess(door, 0, f"user {number}")
    assert await door.try_to(PASSWORD) == (True, 0)
    with pytest.raises(LoginThrottled):
        await door.try_to(PASSWORD, "bob")


@in_virtual_time
async def test_guesses_leave_threads_for_others() -> None:
    """Of one address 4 passwords are checked at a time; whoever waits for that for 2 s is turned away."""
    door = Door()
    door.threads.seconds = 1.5
    guesses = [asyncio.create_task(door.try_to("x", user=f"user {number}")) for number in range(50)]
    await asyncio.sleep(0.1)
    assert await door.try_to(PASSWORD, peer=ELSEWHERE) == (True, 1.5)
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert [result for result in results if not isinstance(result, LoginThrottled)] == [
        *[(False, 1.5)] * 4,
        *[(False, 3.0)] * 4,
    ]
    assert door.threads.most_running == 5


# --- what it is told -------------------------------------------------------------------------------


@in_virtual_time
async def test_a_locked_account_is_told_apart_for_us_alone() -> None:
    """The person hears what a wrong password hears, as late; the log and the metric have the reason."""
    door = Door()
    door.directory.failure = AccountLocked("the directory has locked the account of 'alice'")
    began = door.clock.monotonic()
    with pytest.raises(NotIdentified) as refusal:
        await door.sign_on.log_in(Login("alice", PASSWORD), HERE)
    assert door.clock.monotonic() - began == 0.25
    assert refusal.value.failure is LoginFailure.LOCKED
    assert "locked" in str(refusal.value)


@in_virtual_time
async def test_how_long_the_directory_took_does_not_show() -> None:
    """The wait counts from when the password came."""
    door = Door()
    for seconds, answered_after in ((0.1, 0.25), (0.2, 0.5), (3.0, 3.0)):
        door.threads.seconds = seconds
        assert (await door.try_to("x"))[1] == answered_after


@in_virtual_time
async def test_a_directory_that_hangs() -> None:
    """Is trouble after its time; whoever asks meanwhile from elsewhere is not in its way."""
    door = Door()
    door.threads.seconds = 60
    with pytest.raises(Trouble, match="not answered in 6 s"):
        await door.try_to(PASSWORD)
    door.threads.seconds = 0
    assert await door.try_to(PASSWORD) == (True, 0)


@in_virtual_time
async def test_delays_are_of_one_user_at_one_address() -> None:
    """IPv6: one /64; however the name is spelled."""
    door = Door(threshold=100)
    for number in range(6):
        await door.try_to(f"wrong {number}")
    assert (await door.try_to("x", peer=ELSEWHERE))[1] == 0.25
    assert (await door.try_to("x", user="bob"))[1] == 0.25
    assert (await door.try_to("x", user=" ALICE "))[1] == 8
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"):
        await door.try_to("x", peer=Peer(ip_address(host)))
    assert (await door.try_to("x", peer=Peer(ip_address("2001:db8::3"))))[1] == 1
    assert (await door.try_to("x", peer=Peer(ip_address("2001:db8:0:1::3"))))[1] == 0.5
    assert (await door.try_to("x", peer=Peer(None, is_local=True, uid=1000)))[1] == 0.25


@in_virtual_time
async def test_failures_are_forgotten() -> None:
    """Ten minutes after the last; not by a success, which may be someone else's, nor by a reload."""
    door = Door(threshold=100)
    for number in range(3):
        await door.try_to(f"wrong {number}")
    assert (await door.try_to(PASSWORD)) == (True, 0)
    door.sign_on = door.make_sign_on()
    assert (await door.try_to("wrong"))[1] == 2
    await asyncio.sleep(600)
    assert (await door.try_to("wrong"))[1] == 0.25


@in_virtual_time
async def test_a_success_is_remembered() -> None:
    """For 60 s, for that name and that password, from everywhere; then the directory is asked again."""
    door = Door()
    assert await door.sign_on.log_in(Login("Alice", PASSWORD), HERE) == "alice"
    assert await door.sign_on.log_in(Login("Alice", PASSWORD), ELSEWHERE) == "alice"
    assert len(door.directory.asked) == 1
    assert not (await door.try_to("wrong", user="Alice"))[0]
    await asyncio.sleep(60)
    assert await door.sign_on.log_in(Login("Alice", PASSWORD), HERE) == "alice"
    assert len(door.directory.asked) == 3


@in_virtual_time
async def test_trouble_is_no_failure() -> None:
    """A directory that does not answer slows nobody down, and nothing is remembered of it."""
    door = Door()
    door.directory.failure = ProviderError("no server answers")
    for _ in range(5):
        with pytest.raises(ProviderError):
            await door.try_to(PASSWORD)
    door.directory.failure = None
    assert await door.try_to("wrong") == (False, 0.25)
    assert await door.try_to(PASSWORD) == (True, 0)


@in_virtual_time
async def test_no_secret_is_shown() -> None:
    """Neither by what somebody claims, nor by the refusal."""
    door = Door()
    login = Login("alice", "wrong-secret")
    assert "wrong-secret" not in repr(login)
    with pytest.raises(NotIdentified) as refusal:
        await door.sign_on.log_in(login, HERE)
    assert "wrong-secret" not in f"{refusal.value} {refusal.value!r}"
    assert refusal.value.user == "alice"


def basic(text: str | bytes) -> str:
    """Return the header for a name and a password."""
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@given(
    st.text(
        st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=":"),
        min_size=1,
        max_size=60,
    ),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60),
)
def test_any_name_and_password(user: str, password: str) -> None:
    """The first colon parts them."""
    login = parse_authorization([basic(f"{user}:{password}")])
    assert (login.user, login.password) == (user, password)


def test_latin_1_is_taken_too() -> None:
    """What `requests` sends for `jürgen`; the scheme in any case."""
    login = parse_authorization([basic("jürgen:pässword".encode("latin-1")).replace("Basic", "bAsIc")])
    assert (login.user, login.password) == ("jürgen", "pässword")


@pytest.mark.parametrize(
    "values",
    [
        ["Basic"],
        ["Basic "],
        ["Basic !!!"],
        ["Basic YWxpY2U"],
        ["Basic YWxp Y2U6eA=="],
        ["Basic é"],
        ["Bearer abc"],
        [""],
        [basic("alice")],
        [basic("alice:")],
        [basic(":password")],
        [basic(":")],
        [basic("al\0ice:password")],
        [basic("alice:pass\0word")],
        [basic("alice:\n")],
        [basic("a" * 257 + ":x")],
        [basic("alice:x"), basic("alice:x")],
    ],
)
def test_what_claims_nothing(values: list[str]) -> None:
    """401 before any directory is asked: malformed, empty, doubled, controls."""
    with pytest.raises(NotIdentified) as refusal:
        parse_authorization(values)
    assert refusal.value.is_attempt


def test_no_header_is_no_attempt() -> None:
    """A browser's first request is no failed login."""
    with pytest.raises(NotIdentified) as refusal:
        parse_authorization([])
    assert not refusal.value.is_attempt
