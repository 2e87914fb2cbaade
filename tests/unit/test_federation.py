"""What people may have, and when STS is asked for it: in virtual time, without sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from imds_proxy.cache import CredentialCache
from imds_proxy.caller import Identities
from imds_proxy.console import Console, ConsoleSettings
from imds_proxy.errors import AWSError, ConfigurationError, ProviderError, Refusal
from imds_proxy.federation import STS_PATIENCE, Federation
from imds_proxy.metrics import Metrics
from imds_proxy.model import Account, Grant, canonical_address
from imds_proxy.role_sessions import RoleSessions
from imds_proxy.sign_in_threads import SignInThreads
from tests.standins.core import deny
from tests.standins.name_servers import TableResolver
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.sts import CountedSts
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from imds_proxy.caller import Person
    from imds_proxy.model import Credentials, RoleSession
    from imds_proxy.sts import Sts

GRANTS = (Grant("main", "admin", "because"), Grant("main", "reader", "so"), Grant("nowhere", "admin", "x"))


class Desk:
    """A federation, with what it works with."""

    def __init__(self, *, denied: tuple[str, ...] = ()) -> None:
        self.clock = VirtualClock()
        clock = self.clock.clock()
        self.sts = CountedSts(self.clock)
        self.provider = ScriptedProvider(GRANTS)
        self.metrics = Metrics()
        self.identities = Identities(TableResolver(), {}, deadline=2.0, stale=900.0, clock=clock)
        self.cache = CredentialCache(clock, on_renewal_refused=lambda *_: None, spread=lambda: 0.0)
        self.federation = Federation(
            "people",
            self.provider,
            accounts={"main": Account("main", "000123456789")},
            denied=deny(*denied),
            role_sessions=RoleSessions(
                signer="AKIA",
                endpoint="eu-central-1",
                partition="aws",
                duration=3600,
                is_shared=True,
                gateway="gateway",
            ),
            cache=self.cache,
            sts=cast("Sts", self.sts),
            console=Console(ConsoleSettings("aws"), {}),
            sign_in_threads=SignInThreads(),
            metrics=self.metrics,
        )

    def person(self, user: str = "alice", address: str | None = None) -> Person:
        """Return somebody who has logged in."""
        return self.identities.person(user, canonical_address(address) if address else None)

    async def session(self, user: str = "alice", role: str = "admin") -> RoleSession:
        """Return what STS is told for a role in the account `main`."""
        person = self.person(user)
        return self.federation.session(person, await self.federation.grant(person, "main", role))

    async def ask(self, session: RoleSession, **how: Any) -> Credentials:
        """Return credentials."""
        return await self.federation.credentials(session, **how)


@in_virtual_time
async def test_a_role_is_granted_or_not() -> None:
    """By account and role, exactly; a name in another case is another's."""
    desk = Desk()
    assert await desk.federation.grants(desk.person()) == frozenset(GRANTS)
    assert await desk.federation.grant(desk.person(), "main", "reader") == GRANTS[1]
    for account, role in (("main", "Admin"), ("Main", "admin"), ("main", ""), ("nowhere", "reader")):
        with pytest.raises(Refusal):
            await desk.federation.grant(desk.person(), account, role)


@in_virtual_time
async def test_reasons_of_one_role_are_joined() -> None:
    """In an order of their own, whatever order they come in."""
    desk = Desk()
    desk.provider.grants = frozenset({Grant("main", "admin", "b"), Grant("main", "admin", "a")})
    assert await desk.federation.grant(desk.person(), "main", "admin") == Grant("main", "admin", "a; b")


@in_virtual_time
async def test_denied_people_are_not_asked_about() -> None:
    """By name, whatever case it is in, and by address."""
    desk = Desk(denied=("mallory", "smith", "10.0.0.9"))
    denied = [desk.person(name) for name in ("mallory", "Mallory", "SMITH", "\u017fmith")]
    for person in (*denied, desk.person("alice", "10.0.0.9")):
        with pytest.raises(Refusal, match="is denied"):
            await desk.federation.grants(person)
    assert desk.provider.callers == []
    assert await desk.federation.grants(desk.person("alice", "10.0.0.8"))


@in_virtual_time
async def test_spellings_of_a_denied_name() -> None:
    """Composed or not, wide or not, with spaces around: whatever a directory may take for the same name."""
    desk = Desk(denied=("Jos\u00e9", "Stra\u00dfe"))
    for name in ("Jose\u0301", "jos\u00e9", "JOSE\u0301", "\uff2aos\u00e9", " jos\u00e9 ", "STRASSE"):
        with pytest.raises(Refusal, match="is denied"):
            await desk.federation.grants(desk.person(name))
    assert desk.provider.callers == []
    assert await desk.federation.grants(desk.person("jose"))


@in_virtual_time
async def test_a_name_that_the_provider_takes_for_a_denied_one() -> None:
    """Its own spellings count as the typed one does; where it can't tell them there are no grants."""
    desk = Desk(denied=("Jane",))
    desk.provider.logins = {"jd": frozenset({"jd", "JANE"})}
    with pytest.raises(Refusal, match="jd, whom provider people knows as jane, is denied"):
        await desk.federation.grant(desk.person("jd"), "main", "admin")
    assert await desk.federation.grants(desk.person("alice")) == frozenset(GRANTS)
    desk.provider.logins_error = ProviderError("the directory does not answer")
    with pytest.raises(ProviderError):
        await desk.federation.grants(desk.person("alice"))
    desk.provider.logins_error = OSError("broken")
    with pytest.raises(ProviderError, match="broken"):
        await desk.federation.grants(desk.person("alice"))
    assert desk.sts.calls == []


@in_virtual_time
async def test_without_denied_names_nobody_is_asked_for_spellings() -> None:
    """It would be a question to the directory for nothing."""
    desk = Desk(denied=("10.0.0.9",))
    desk.provider.logins_error = ProviderError("the directory does not answer")
    assert await desk.federation.grants(desk.person("alice")) == frozenset(GRANTS)


@in_virtual_time
async def test_a_session_is_the_persons() -> None:
    """Named after them though machines share theirs, and never one with a machine of the same name."""
    desk = Desk()
    session = await desk.session("alice")
    assert (session.session_name, session.is_person) == ("alice", True)
    assert session != await desk.session("bob")
    assert session != await desk.session("alice", "reader")


@in_virtual_time
async def test_an_account_without_an_id() -> None:
    """Is known by none, and an error by name for whoever has a role in it."""
    desk = Desk()
    assert desk.federation.account_id("main") == "000123456789"
    assert desk.federation.account_id("nowhere") is None
    grant = await desk.federation.grant(desk.person(), "nowhere", "admin")
    with pytest.raises(ConfigurationError, match="nowhere"):
        desk.federation.session(desk.person(), grant)


@in_virtual_time
async def test_credentials_are_shared_while_they_are_comfortable() -> None:
    """Until 25 minutes are left; nothing is renewed before anybody asks."""
    desk = Desk()
    session = await desk.session()
    first = await desk.ask(session)
    await asyncio.sleep(35 * 60)
    assert await desk.ask(session) is first
    await asyncio.sleep(1)
    second = await desk.ask(session)
    assert second is not first
    assert len(desk.sts.calls) == 2
    await asyncio.sleep(7200)
    assert len(desk.sts.calls) == 2
    assert desk.cache.size == 0


@in_virtual_time
async def test_one_flight_for_all_who_ask() -> None:
    """Whoever gives up takes nobody along, nor the flight."""
    desk = Desk()
    session = await desk.session()
    desk.sts.seconds = 5
    asking = [asyncio.create_task(desk.ask(session)) for _ in range(20)]
    await asyncio.sleep(1)
    asking[0].cancel()
    answers = await asyncio.gather(*asking[1:])
    assert len({id(answer) for answer in answers}) == 1
    assert len(desk.sts.calls) == 1
    assert desk.sts.cancelled == 0


@in_virtual_time
async def test_one_person_s_many_roles() -> None:
    """Four AssumeRole calls at a time; another person's is made at once."""
    desk = Desk()
    session = await desk.session()
    desk.sts.silence()
    sessions = [replace(session, role_arn=f"{session.role_arn}{number}") for number in range(64)]
    asking = [asyncio.create_task(desk.ask(one)) for one in sessions]
    await asyncio.sleep(1)
    assert len(desk.sts.calls) == 4
    other = replace(session, session_name="bob")
    asking.append(asyncio.create_task(desk.ask(other)))
    await asyncio.sleep(1)
    assert desk.sts.calls[4:] == [other]
    desk.sts.speak()
    assert len({id(answer) for answer in await asyncio.gather(*asking)}) == 65


@in_virtual_time
async def test_nobody_waits_for_sts_for_ever() -> None:
    """AWSError when its time is over; what comes later is kept."""
    desk = Desk()
    session = await desk.session()
    desk.sts.silence()
    for fresh in (False, True):
        with pytest.raises(AWSError, match="has not answered in time"):
            await asyncio.wait_for(desk.ask(session, fresh=fresh), STS_PATIENCE + 1)
    desk.sts.speak()
    assert (await desk.ask(session)).access_key == "ASIA00000001"


@in_virtual_time
async def test_what_is_held_is_better_than_an_error() -> None:
    """To its last minute, if a renewal fails or is refused; then the error comes out."""
    desk = Desk()
    session = await desk.session()
    held = await desk.ask(session)
    desk.sts.failure = Refusal("AccessDenied")
    await asyncio.sleep(45 * 60)
    assert await desk.ask(session) is held
    await asyncio.sleep(14 * 60)
    with pytest.raises(Refusal):
        await desk.ask(session)


@in_virtual_time
async def test_who_is_to_have_fresh_ones_gets_them_or_an_error() -> None:
    """Also right after a failure, when others leave STS alone."""
    desk = Desk()
    session = await desk.session()
    held = await desk.ask(session)
    desk.sts.failure = AWSError("Throttling", code="Throttling")
    for _ in range(2):
        with pytest.raises(AWSError):
            await desk.ask(session, fresh=True)
    desk.sts.failure = None
    fresh = await desk.ask(session, fresh=True)
    assert fresh is not held
    assert await desk.ask(session) is fresh
    assert len(desk.sts.calls) == 4


@in_virtual_time
async def test_credentials_that_have_ended_are_handed_to_nobody() -> None:
    """As where the machine's clock is wrong: the error says so, again and again, fresh ones or not."""
    desk = Desk()
    session = await desk.session()
    desk.sts.lifetime = -3600
    for fresh in (False, False, True):
        with pytest.raises(AWSError, match="is the clock of this machine right") as caught:
            await desk.ask(session, fresh=fresh)
        assert caught.value.code == "EndedCredentials"
    desk.sts.lifetime = None
    assert await desk.ask(session, fresh=True) is await desk.ask(session)


@in_virtual_time
async def test_an_error_is_each_ones_own() -> None:
    """Two who wait for one failure get two exceptions: tracebacks of one are not the other's."""
    desk = Desk()
    session = await desk.session()
    desk.sts.failure = AWSError("Throttling", code="Throttling", request_id="r")
    desk.sts.seconds = 1
    errors = await asyncio.gather(desk.ask(session), desk.ask(session), return_exceptions=True)
    assert errors[0] is not errors[1]
    for error in errors:
        assert isinstance(error, AWSError)
        assert (str(error), error.code, error.request_id) == ("Throttling", "Throttling", "r")
    assert len(desk.sts.calls) == 1


@in_virtual_time
async def test_a_provider_in_trouble_is_no_yes() -> None:
    """What it raises is the cause, also where it means to end the program; it is counted."""
    desk = Desk()
    for failure in (LookupError("down"), SystemExit(3)):
        desk.provider.failure = failure
        with pytest.raises(ProviderError) as caught:
            await desk.federation.grant(desk.person(), "main", "admin")
        assert caught.value.__cause__ is failure
    desk.provider.failure = None
    desk.provider.seconds = 6
    with pytest.raises(ProviderError, match="5 s"):
        await desk.federation.grants(desk.person())
    assert desk.metrics.provider_errors.counts == {("people",): 3}
    assert desk.sts.calls == []
