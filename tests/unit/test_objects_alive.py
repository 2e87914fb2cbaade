"""Bounded means: objects alive. Each store is filled many times its bound, and what is left is counted.

The entries of a dictionary are not counted, but the objects of a class that the interpreter still has. The
garbage collector is off: the daemon's hardly ever looks at old objects, so what only it could free stays.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytest

from imds_proxy import audit, audit_denials, loop_trouble
from imds_proxy.assume_role import _MOST_WARNED_ROLES, RoleAssumer
from imds_proxy.audit import Audit
from imds_proxy.audit_records import Line, Record
from imds_proxy.blocking import LONGEST_LINE
from imds_proxy.botocore_data import SmallLoader
from imds_proxy.cache import CredentialCache, Entry
from imds_proxy.caller import Finding, Identity
from imds_proxy.clock import Clock
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.engine import MOST_WORKSHOPS, Engine, Workshop
from imds_proxy.errors import AWSError, OverloadError, Refusal
from imds_proxy.lookup_queue import LookupQueue
from imds_proxy.metadata.levels import Level, Levels, RememberedValues, Subject, Values
from imds_proxy.metadata.user_data import UserDataFolder
from imds_proxy.model import Credentials, RoleSession, canonical_address
from imds_proxy.standing import Standing, Standings
from imds_proxy.sts_settings import StsSettings
from imds_proxy.turn_queue import Turn, _Share
from imds_proxy.verdict import Verdict
from imds_proxy.web import documents, login_throttle, tree
from imds_proxy.web.answer import Page
from imds_proxy.web.basic import MOST_SUCCESSES, BasicSignOn, Login
from imds_proxy.web.container_pages import ContainerPages
from imds_proxy.web.edge.budgets import ByteBudget
from imds_proxy.web.edge.guard import Guard
from imds_proxy.web.edge.limits import Allowance, CallerLimits, Rates
from imds_proxy.web.login_throttle import (
    DEFAULT_LOCKOUT,
    Bound,
    LoginThrottle,
    LoginThrottled,
    Try,
    _Address,
    _Budget,
    _Tries,
)
from imds_proxy.web.peer import Peer
from tests.standins.core import Core, running_core
from tests.standins.identity_desk import Desk
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.sts import role_session
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES = 3
"""How many times its bound a store is filled whose bound is large."""


class Alive(Protocol):
    """Counts objects."""

    def __call__(self, kind: type) -> int:
        """Return how many objects of a class there are more than before."""


def count(kind: type) -> int:
    return sum(type(one) is kind for one in gc.get_objects())


@contextmanager
def counting(*kinds: type) -> Iterator[Alive]:
    """Count the objects of these classes that come to stay in the block; nothing but references frees any."""
    gc.collect()
    before = {kind: count(kind) for kind in kinds}
    gc.disable()
    try:
        yield lambda kind: count(kind) - before[kind]
    finally:
        gc.enable()


def test_it_counts() -> None:
    """The classes below are seen by the collector; a cycle counts as alive."""
    with counting(Credentials, Identity, Standing) as alive:
        kept = [credentials_of(number) for number in range(7)]
        assert alive(Credentials) == 7
        one = Standing(IPv4Address(1))
        one.flight = cast("Any", one)
        del one
        assert alive(Standing) == 1
        del kept
        assert alive(Credentials) == 0


def credentials_of(number: int) -> Credentials:
    return Credentials(f"ASIA{number:016d}", "s" * 40, "t" * 40, 2e9, 1e9, "000123456789")


def address_of(number: int) -> str:
    return str(IPv4Address((10 << 24) + number * 16))


# --- role sessions, their credentials and what refers to them ----------------------------------------

SESSIONS = 10


@contextmanager
def small_core(folder: Path, **changes: Any) -> Iterator[Core]:
    """Make a core with room for ten role sessions, each caller with one of its own."""
    with running_core(folder, provider=ScriptedProvider(), most_entries=SESSIONS, **changes) as core:
        yield core


async def ask_all(core: Core, callers: int) -> None:
    for number in range(callers):
        assert await core.round(address_of(number)) == ("roleprefix-tuvfoo", f"ASIA{number + 1:08}")


@in_virtual_time
async def test_role_sessions(tmp_path: Path) -> None:
    """Of a thousand callers with sessions of their own, the keys of ten are there, and of no other."""
    with small_core(tmp_path) as core, counting(Entry, Credentials, asyncio.Task) as alive:
        await ask_all(core, 100 * SESSIONS)
        assert core.broker.size == 100 * SESSIONS
        await asyncio.sleep(0.1)
        assert (alive(Entry), alive(Credentials)) == (SESSIONS, SESSIONS)
        assert alive(asyncio.Task) == 0


@in_virtual_time
async def test_who_made_room_is_served_anew(tmp_path: Path) -> None:
    """A caller whose session has gone gets it assumed again, also at the ROLE that LIST has named."""
    with small_core(tmp_path) as core:
        await core.token(address_of(0))
        assert await core.role_list(address_of(0)) == "roleprefix-tuvfoo"
        for number in range(1, 2 * SESSIONS):
            await core.round(address_of(number))
        assert len(core.sts.calls) == 2 * SESSIONS
        assert await core.role(address=address_of(0)) == f"ASIA{2 * SESSIONS + 1:08}"
        assert core.head(address_of(1)) == 503
        assert await core.round(address_of(1)) == ("roleprefix-tuvfoo", f"ASIA{2 * SESSIONS + 2:08}")


@in_virtual_time
async def test_sessions_that_make_room_under_way(tmp_path: Path) -> None:
    """Who waits for a session that has made room meanwhile gets its credentials; then they are gone."""
    with small_core(tmp_path) as core, counting(Entry, Credentials, asyncio.Task) as alive:
        core.sts.seconds = 0.1
        found = await asyncio.gather(*(core.round(address_of(number)) for number in range(5 * SESSIONS)))
        assert {role for role, _ in found} == {"roleprefix-tuvfoo"}
        assert all(isinstance(key, str) for _, key in found)
        del found
        await asyncio.sleep(1)
        assert (alive(Entry), alive(Credentials), alive(asyncio.Task)) == (SESSIONS, SESSIONS, 0)


class Marker:
    """Stands for what a request holds: its connection, its body."""


@pytest.mark.parametrize("kind", [Refusal, AWSError])
@in_virtual_time
async def test_failures_that_are_remembered(tmp_path: Path, kind: type[Exception]) -> None:
    """What STS answered is remembered for ten sessions, without the requests that were told."""

    class Failing(Exception):
        pass

    async def fail(_session: RoleSession) -> Credentials:
        failing = Marker()
        try:
            raise Failing(failing is None)
        except Failing as cause:
            raise (kind("no") if kind is Refusal else AWSError("no", code="no")) from cause

    async def ask(core: Core, address: str) -> None:
        request = Marker()
        assert await core.role_list(address) in (404, 503)
        del request

    with small_core(tmp_path) as core, counting(Entry, kind, Failing, Marker) as alive:
        core.sts.assume = fail  # type: ignore[method-assign, assignment]
        for number in range(100 * SESSIONS):
            await ask(core, address_of(number))
        assert alive(Entry) <= SESSIONS
        assert alive(kind) <= SESSIONS
        assert alive(Failing) <= SESSIONS
        assert alive(Marker) == 0


@in_virtual_time
async def test_sessions_end(tmp_path: Path) -> None:
    """What nobody asks for is gone with its end, without any other caller."""
    with small_core(tmp_path) as core, counting(Entry, Credentials) as alive:
        await ask_all(core, SESSIONS)
        assert alive(Credentials) == SESSIONS
        await asyncio.sleep(2 * 3600)
        assert (alive(Entry), alive(Credentials)) == (0, 0)


@in_virtual_time
async def test_forgotten_and_retired_callers(tmp_path: Path) -> None:
    """`forget` and a reload let go of a caller's verdict at once."""
    with small_core(tmp_path) as core, counting(Standing, Verdict, Entry) as alive:
        await ask_all(core, SESSIONS)
        core.broker.forget(core.standing(address_of(0)))
        assert (alive(Standing), alive(Verdict)) == (SESSIONS - 1, SESSIONS - 1)
        core.broker.retire()
        assert (alive(Standing), alive(Verdict)) == (0, 0)


@pytest.mark.parametrize("pages", [documents.CredentialPages(), ContainerPages()], ids=["ROLE", "containers"])
def test_pages(pages: documents.CredentialPages | ContainerPages) -> None:
    """Documents are kept of the newest credentials, and none longer than its credentials."""
    with counting(Page) as alive:
        held = [credentials_of(number) for number in range(TIMES * documents.MOST_PAGES)]
        for each in held:
            if isinstance(pages, ContainerPages):
                pages.page_of(role_session(), each)
            else:
                pages.page_of(each)
        assert alive(Page) == documents.MOST_PAGES
        held.clear()
        del each
        assert alive(Page) == 0


def test_workshops_of_the_library() -> None:
    """Keys and endpoints that no instance uses any more: those of 64 are kept, with the credentials in them.

    A timer that is set for the end of credentials keeps nothing of the others alive.
    """
    engine = Engine()

    class Source:
        async def assume(self, _: RoleSession) -> Credentials:
            return Credentials("ASIA", "s", "t", 4e9, 1e9, "000123456789")

    async def fill(workshop: Workshop) -> None:
        flight = workshop.cache.begin_flight(workshop.cache.entry(role_session(), Source(), "ada"), "ada")
        assert flight is not None
        await flight

    with counting(Workshop, CredentialCache, Credentials) as alive:
        for number in range(TIMES * MOST_WORKSHOPS):
            engine.run(fill(engine.workshop(StsSettings(f"region-{number}"), b"")))
        # The loop's thread may still hold the last one for a moment.
        engine.run(asyncio.sleep(0))
        assert alive(Workshop) == MOST_WORKSHOPS
        assert MOST_WORKSHOPS <= alive(CredentialCache) <= MOST_WORKSHOPS + 1
        assert MOST_WORKSHOPS <= alive(Credentials) <= MOST_WORKSHOPS + 1


# --- callers ------------------------------------------------------------------------------------------

MOST = 50
"""Of each kind of caller, in place of the bounds on the page: they are the same parts, made smaller."""


def test_verdicts() -> None:
    """Callers with a grant and callers without one: so many of each."""
    with counting(Standing, Verdict) as alive:
        standings = Standings(most=MOST)
        session = role_session()
        for number in range(100 * MOST):
            one = standings.of(IPv4Address(number))
            one.verdict = Verdict(
                "granted", "", asked_at=0, fresh_until=0, session=session if number % 2 else None
            )
            standings.file(one)
        assert alive(Standing) == alive(Verdict) == len(standings)
        assert 2 * MOST - 1 <= len(standings) <= 2 * MOST


@in_virtual_time
async def test_identities() -> None:
    """With a name, without one, and those that `deny` was compared with: so many of each."""
    desk = Desk(most=MOST)
    desk.dns.questions = cast("Any", SimpleNamespace(append=lambda _: None))
    for number in range(0, 100 * MOST, 2):
        desk.dns.add_host(address_of(number), f"tuvfoo{number}.valid.example")
    with counting(Identity, Finding, asyncio.Task) as alive:
        for number in range(100 * MOST):
            await desk.identify(address_of(number))
        assert (alive(Identity), alive(Finding)) == (2 * MOST, MOST)
        for number in range(100 * MOST):
            address = canonical_address(address_of(number))
            await desk.identities.identify(address, None, not_before=0)
        assert (alive(Identity), desk.identities.size) == (3 * MOST, 3 * MOST)
        assert alive(Finding) == MOST + MOST // 2
        assert alive(asyncio.Task) == 0


OF_ALL_STRANGERS = 1
"""The allowance that those share who may not talk to us."""


def small_limits() -> CallerLimits:
    rates = Rates(
        connections=9, requests_per_second=9, new_connections_per_second=9, tls_handshakes_per_second=9
    )
    clock = Clock(wall=lambda: 0.0, monotonic=lambda: 1.0)
    return CallerLimits(rates, clock=clock, max_callers=MOST)


def test_callers_that_are_counted() -> None:
    """Strangers, callers with a role, and those with a connection, which are never forgotten."""
    with counting(Allowance) as alive:
        counted = small_limits()
        connected = [counted.allowance_of(IPv4Address(number)) for number in range(MOST)]
        for one in connected:
            counted.begin_connection(one)
        for number in range(100 * MOST):
            one = counted.allowance_of(IPv4Address((10 << 24) + number))
            counted.begin_connection(one)
            if number % 2:
                counted.note_granted(one)
            counted.end_connection(one)
        assert counted.size <= 3 * MOST
        assert alive(Allowance) == counted.size + OF_ALL_STRANGERS
        for each in connected:
            counted.end_connection(each)
        connected.clear()
        assert counted.size <= 2 * MOST
        assert alive(Allowance) == counted.size + OF_ALL_STRANGERS


def test_networks_that_are_counted() -> None:
    """IPv6 addresses and their /64s, with a role and without: neither keeps the other alive."""
    with counting(Allowance) as alive:
        counted = small_limits()
        for number in range(100 * MOST):
            one = counted.allowance_of(IPv6Address((0xFD77 << 112) + (number << 64)))
            counted.begin_connection(one)
            if number % 2:
                counted.note_granted(one)
            counted.end_connection(one)
        assert counted.size <= 2 * MOST
        assert alive(Allowance) <= counted.size + MOST + OF_ALL_STRANGERS


def test_budgets() -> None:
    """Who has no bytes any more is let go."""

    class Owner:
        pass

    with counting(Owner) as alive:
        budget: ByteBudget[Owner] = ByteBudget(1)
        for size in range(1, 1000):
            owner = Owner()
            budget.set(owner, size)
            budget.set(owner, 0)
        assert alive(Owner) == 1, "the last one, which this test holds"


@in_virtual_time
async def test_lookups_in_the_queue() -> None:
    """A network's share goes with its last lookup; so does what waited, also where it was dropped."""

    async def look_up(queue: LookupQueue, number: int) -> None:
        with suppress(OverloadError):
            async with queue.place(IPv4Address(number), is_known=False):
                await asyncio.sleep(0.001)

    with counting(_Share, Turn, asyncio.Task, asyncio.Future, OverloadError) as alive:
        queue = LookupQueue()
        tasks = [asyncio.create_task(look_up(queue, number)) for number in range(13_000)]
        await asyncio.wait(tasks)
        tasks.clear()
        assert queue.length == 0
        assert (alive(_Share), alive(Turn), alive(asyncio.Task), alive(OverloadError)) == (0, 0, 0, 0)
        assert alive(asyncio.Future) <= 1


# --- what is remembered of requests -------------------------------------------------------------------


def test_addresses_and_paths() -> None:
    """Texts that anybody can send are remembered up to a number of them."""
    with counting(IPv4Address, tree.Target, Values) as alive:
        for number in range(TIMES * 4096):
            canonical_address(str(IPv4Address(number)))
            tree.parse_target(f"/latest/meta-data/iam/security-credentials/role-{number}")
        assert alive(IPv4Address) <= 4096
        assert alive(tree.Target) <= 4096
        guard = Guard((), (), frozenset())
        for number in range(TIMES * 4096):
            guard.admits_peer(IPv4Address(number))
        assert alive(IPv4Address) <= 2 * 4096
        values = RememberedValues(levels())
        for number in range(TIMES * 1024):
            values.of(Subject(IPv4Address(number)))
        assert alive(Values) == values.size == 1024


def levels() -> Levels:
    from imds_proxy.metadata.templates import literal

    level = Level(
        texts={"region": literal("eu-central-1")},
        security_groups=(literal("default"),),
        public_keys={},
        tags={},
    )
    return Levels(defaults=level, domains={}, hosts={})


async def test_user_data(tmp_path: Path) -> None:
    """A reading is let go with its answer."""
    with counting(asyncio.Task) as alive:
        folder = UserDataFolder(tmp_path)
        for number in range(300):
            assert await folder.find(None, IPv4Address(number)) is None
        await asyncio.sleep(0)
        assert alive(asyncio.Task) == 0


def test_refusals_on_record(tmp_path: Path) -> None:
    """Refusals that are counted, and records that wait for the disk: a full disk keeps 10,000 of them."""
    now = 0.0
    clock = Clock(wall=lambda: 1e9, monotonic=lambda: now)
    with counting(Record, Line, audit_denials._Counted) as alive:
        log = Audit(str(tmp_path / "missing" / "audit.jsonl"), clock=clock, on_error=lambda _: None)
        for number in range(TIMES * audit_denials._MOST_COLLAPSED):
            now = number / 100  # slowly enough that each one is written
            log.note_denial(Record(address_of(number), "refused", reason="no"))
        assert alive(audit_denials._Counted) == audit_denials._MOST_COLLAPSED
        assert alive(Line) == audit._MOST_WAITING_REFUSALS
        for number in range(TIMES * audit_denials._MOST_COLLAPSED):
            log.note_denial(Record(address_of(number), "refused", reason="too many at once"))
        assert alive(audit_denials._Counted) <= 2 * audit_denials._MOST_COLLAPSED
        assert alive(Line) == audit._MOST_WAITING_REFUSALS
        assert alive(Record) <= 2 * audit_denials._MOST_COLLAPSED + audit._MOST_WAITING_REFUSALS
        log.close(10)


def test_hand_outs_that_wait(tmp_path: Path) -> None:
    """Where records can't be written the broker hands nothing new out beyond the bound."""

    @in_virtual_time
    async def hand_out() -> None:
        with running_core(tmp_path / "missing", provider=ScriptedProvider(), is_shared=True) as core:
            for number in range(audit._MOST_WAITING_HAND_OUTS - 10):
                core.audit.note_hand_out(Record(f"10.0.0.{number}", "granted"))
            with counting(Line) as alive:
                found = [await core.round(address_of(number)) for number in range(1000)]
                assert alive(Line) <= 10 + audit_denials._MOST_OF_ALL
            assert {key for _, key in found} == {503}

    hand_out()


def test_complaints_of_the_event_loop() -> None:
    """What is remembered is a text; the errors that were told, and their frames, are not."""

    class Odd(Exception):
        pass

    def fail() -> Odd:
        try:
            raise Odd(Marker())
        except Odd as error:
            return error

    troubles = loop_trouble.LoopTroubles(Clock(wall=lambda: 0.0, monotonic=lambda: 100.0))
    with counting(Odd, Marker) as alive:
        for number in range(5 * loop_trouble._MOST_REMEMBERED):
            troubles.note(cast("Any", None), {"message": f"odd {number}", "exception": fail()})
        assert (alive(Odd), alive(Marker)) == (0, 0)


def test_roles_that_are_warned_about() -> None:
    """Roles whose sessions must be shorter than the settings want."""

    class Arn(str):
        __slots__ = ("__dict__",)

    warned: list[str] = []
    assumer = RoleAssumer(
        StsSettings("eu-central-1", access_key="AKIAEXAMPLE", secret_key="s"),
        SmallLoader(),
        connections=1,
        wall=lambda: 0.0,
        warn=warned.append,
    )
    with counting(Arn) as alive:
        for number in range(TIMES * _MOST_WARNED_ROLES):
            assumer._warn_about_duration(role_session(role_arn=Arn(f"role/{number}")))
        assert 0 < alive(Arn) <= _MOST_WARNED_ROLES
    assert len(warned) == TIMES * _MOST_WARNED_ROLES


# --- people -------------------------------------------------------------------------------------------


@in_virtual_time
async def test_login_names() -> None:
    """Failures are remembered of so many names at their addresses, of so many addresses, of so many names."""
    most, addresses = 1024, login_throttle._MOST_ADDRESSES
    throttle = LoginThrottle(VirtualClock().clock(), most_users=most)
    refused = 0

    async def guess(number: int, lockout: Bound | None) -> None:
        nonlocal refused
        try:
            one_try = await throttle.begin(Peer(IPv4Address(number)), f"user{number}", lockout)
        except LoginThrottled:
            refused += 1
            return
        with one_try:
            await one_try.fail()

    kinds = (_Tries, _Address, _Budget, Try, asyncio.Task)
    with counting(*kinds) as alive:
        for lockout in (None, DEFAULT_LOCKOUT):
            for start in range(0, 2 * addresses, most):
                await asyncio.gather(*(guess(number, lockout) for number in range(start, start + most)))
        await asyncio.sleep(0)
        assert refused == 2 * addresses - most
        assert alive(_Tries) == most
        assert alive(_Address) == addresses
        assert alive(_Budget) == most + 2 * addresses
        assert (alive(Try), alive(asyncio.Task)) == (0, 0)


@in_virtual_time
async def test_passwords_that_are_right() -> None:
    """So many are remembered, and none longer than a minute."""

    class Name(str):
        __slots__ = ("__dict__",)

    clock = VirtualClock().clock()
    threads = DaemonThreads("directory", most=8, longest_line=64)
    sign_on = BasicSignOn(
        lambda user, _: Name(user), patience=10, threads=threads, throttle=LoginThrottle(clock), clock=clock
    )
    with counting(Name) as alive:
        for number in range(2 * MOST_SUCCESSES):
            await sign_on.log_in(Login(f"user{number}", "p"), Peer(IPv4Address(number)))
        assert 0 < alive(Name) <= MOST_SUCCESSES + 1


def test_calls_that_were_given_up() -> None:
    """Questions to a provider of the old shape, or to a directory, that nobody waits for any more."""

    class Question:
        def __call__(self) -> None:
            """Ask nothing."""

    gate = threading.Event()
    threads = DaemonThreads("provider", most=1, longest_line=LONGEST_LINE)
    threads.submit(gate.wait)
    with counting(Question) as alive:
        for _ in range(10 * LONGEST_LINE):
            threads.abandon(threads.submit(Question()))
        assert alive(Question) <= LONGEST_LINE
        gate.set()
