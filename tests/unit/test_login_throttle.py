"""HTTP Basic in virtual time: wrong passwords are slow, a right one is not, nobody is locked out."""

from __future__ import annotations

import asyncio
import base64
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import OverloadError, ProviderError, Trouble
from imds_proxy.web.basic import BasicSignOn, Login, parse_authorization
from imds_proxy.web.identity import NotIdentified
from imds_proxy.web.login_throttle import LONGEST_DELAY, MOST_TRIES, PLACE_PATIENCE, LoginThrottle
from imds_proxy.web.peer import Peer
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HERE = Peer(ip_address("10.0.0.5"))
ELSEWHERE = Peer(ip_address("10.0.0.6"))
PASSWORD = "correct horse"


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
        self.failure: Exception | None = None

    def verify(self, user: str, password: str) -> str | None:
        """Return the name as the directory spells it if the password is right."""
        self.asked.append((user, password))
        if self.failure is not None:
            raise self.failure
        name = user.lower()
        return name if name in ("alice", "bob") and password == PASSWORD else None


class Door:
    """A sign-on by HTTP Basic, and how long each answer takes."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.directory = Directory()
        self.threads = VirtualThreads()
        self.throttle = LoginThrottle(self.clock.clock())
        self.sign_on = self.make_sign_on()

    def make_sign_on(self) -> BasicSignOn:
        """Return what a reload makes: another sign-on with the same throttle."""
        return BasicSignOn(
            self.directory.verify,
            patience=6,
            threads=self.threads,
            throttle=self.throttle,
            clock=self.clock.clock(),
        )

    async def try_to(self, password: str, user: str = "alice", peer: Peer = HERE) -> tuple[bool, float]:
        """Return whether the password was right, and after how many seconds that was said."""
        began = self.clock.monotonic()
        try:
            await self.sign_on.log_in(Login(user, password), peer)
        except NotIdentified:
            return False, round(self.clock.monotonic() - began, 3)
        return True, round(self.clock.monotonic() - began, 3)


@in_virtual_time
async def test_each_failure_takes_longer() -> None:
    """0.25 s doubling to 8 s."""
    door = Door()
    took = [(await door.try_to(f"wrong {number}"))[1] for number in range(8)]
    assert took == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


@in_virtual_time
async def test_an_unknown_user_takes_as_long() -> None:
    """And the answer is the same."""
    door = Door()
    assert [await door.try_to("x", user) for user in ("nobody", "bob")] == [(False, 0.25)] * 2


@in_virtual_time
async def test_a_right_password_is_not_slowed_by_failures() -> None:
    """Not by one's own, nor by those of others at the same address who are waiting for their no."""
    door = Door()
    for number in range(8):
        await door.try_to(f"wrong {number}")
    guesses = [asyncio.create_task(door.try_to(f"guess {number}")) for number in range(MOST_TRIES - 1)]
    await asyncio.sleep(0.1)
    is_right, took = await door.try_to(PASSWORD)
    assert (is_right, took < PLACE_PATIENCE) == (True, True)
    assert not any(right for right, _ in await asyncio.gather(*guesses))


@in_virtual_time
async def test_guessing_on_many_connections_is_slow_too() -> None:
    """There are 64 places, each taken until its no is told: the rest is turned away unseen."""
    door = Door()
    for number in range(6):
        await door.try_to(f"wrong {number}")
    before = len(door.directory.asked)
    guesses = [asyncio.create_task(door.try_to(f"guess {number}")) for number in range(200)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    turned_away = [one for one in results if isinstance(one, OverloadError)]
    assert len(door.directory.asked) - before == MOST_TRIES
    assert len(turned_away) == 200 - MOST_TRIES


@in_virtual_time
async def test_guesses_leave_threads_for_others() -> None:
    """Of one address 4 passwords are checked at a time; whoever waits for that for 2 s is turned away."""
    door = Door()
    door.threads.seconds = 1.5
    guesses = [asyncio.create_task(door.try_to("x", user=f"user {number}")) for number in range(50)]
    await asyncio.sleep(0.1)
    assert await door.try_to(PASSWORD, peer=ELSEWHERE) == (True, 1.5)
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert [result for result in results if not isinstance(result, OverloadError)] == [
        *[(False, 1.5)] * 4,
        *[(False, 3.0)] * 4,
    ]
    assert door.threads.most_running == 5


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
async def test_hanging_up_frees_no_place() -> None:
    """Whoever does not wait for the no has the place taken all the same."""
    door = Door()
    for number in range(6):
        await door.try_to(f"wrong {number}")
    guesses = [asyncio.create_task(door.try_to(f"guess {number}")) for number in range(MOST_TRIES)]
    await asyncio.sleep(1)
    for guess in guesses:
        guess.cancel()
    await asyncio.gather(*guesses, return_exceptions=True)
    with pytest.raises(OverloadError):
        await door.try_to("one more")
    await asyncio.sleep(LONGEST_DELAY)
    assert (await door.try_to(PASSWORD))[0]


@in_virtual_time
async def test_nobody_is_locked_out_from_elsewhere() -> None:
    """Failures count for one user and one address (IPv6: /64), however the name is spelled."""
    door = Door()
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
    door = Door()
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
