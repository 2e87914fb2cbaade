"""One host with very many addresses, against others' new sessions, renewals and what is held for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from imds_proxy_providers import simple

from imds_proxy import sts
from imds_proxy.cache import MOST_ENTRIES
from imds_proxy.model import canonical_address
from tests.standins.core import ACCOUNTS, Core, running_core
from tests.standins.sts import CountedSts, role_session
from tests.standins.vault import Vault
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.model import Credentials, RoleSession
    from imds_proxy.provider import Provider

ROLE = "demo-role"
PER_SECOND = 500
SECONDS_OF_ONE_CALL = 0.1
MINUTE = 60


class ThreadedSts(CountedSts):
    """STS behind as many threads as the daemon has, first come, first served."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.seconds = SECONDS_OF_ONE_CALL
        self._threads = asyncio.Semaphore(sts.THREADS)

    async def assume(self, session: RoleSession) -> Credentials:
        """Return new keys, when a thread is free."""
        async with self._threads:
            return await super().assume(session)


def everybody_has_a_role(**changes: object) -> Provider[Any]:
    settings = {"grants": [{"account": "main", "role": ROLE, **changes}]}
    return simple.Provider(simple.Settings.model_validate(settings, context={"accounts": ACCOUNTS}))


class World:
    """A daemon's core with a bounded STS, and the attacker's addresses."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.sts = ThreadedSts(core.clock)
        core.broker._sts = cast("Any", self.sts)
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0

    async def attack(self, seconds: float) -> None:
        """Ask for tokens from addresses that nobody has had before, all in one /64."""
        for _ in range(round(seconds * PER_SECOND)):
            self._next += 1
            task = asyncio.create_task(self.core.token(attacker(self._next)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(1 / PER_SECOND)

    def called_at(self, address: str) -> list[float]:
        """Return when STS was asked for a caller's session."""
        names = {self.core.standing(address).verdict: address}
        (verdict,) = names
        assert verdict is not None
        calls = zip(self.sts.calls, self.sts.called_at, strict=True)
        return [at for session, at in calls if session == verdict.session]

    async def end(self) -> None:
        """Let all end."""
        await asyncio.gather(*self._tasks)
        await self.core.cache.close()


def attacker(number: int) -> str:
    return f"2001:db8:bad::{number:x}"


@pytest.mark.parametrize("newcomer", ["10.0.0.5", "2001:db8:900d::5"])
@in_virtual_time
async def test_a_new_machine_of_another_network(newcomer: str, tmp_path: Path) -> None:
    """Its first round brings credentials, as when nobody else is there."""
    with running_core(tmp_path, provider=everybody_has_a_role()) as core:
        world = World(core)
        await world.attack(3)
        attack = asyncio.create_task(world.attack(2))
        name, key = await core.round(newcomer, role=ROLE)
        assert name == ROLE
        assert str(key).startswith("ASIA")
        await attack
        await world.end()


@in_virtual_time
async def test_a_known_machine_s_renewal(tmp_path: Path) -> None:
    """It waits for two calls of STS at most, though the attacker's sessions all fall due before it."""
    with running_core(tmp_path, provider=everybody_has_a_role()) as core:
        world = World(core)
        for number in range(600):
            await core.round(attacker(number), role=ROLE)
        await core.round("10.0.0.5", role=ROLE)
        (first,) = world.called_at("10.0.0.5")
        due = first + SECONDS_OF_ONE_CALL + 30 * MINUTE
        await asyncio.sleep(due - 3 - core.clock.monotonic())
        world._next = 1000
        await world.attack(6)
        _, renewed = world.called_at("10.0.0.5")
        assert renewed - due <= 3 * SECONDS_OF_ONE_CALL
        await world.end()


@in_virtual_time
async def test_a_known_machine_whose_credentials_have_ended(tmp_path: Path) -> None:
    """One that nobody has asked for in time has a place that strangers can't take."""
    with running_core(tmp_path, provider=everybody_has_a_role()) as core:
        world = World(core)
        await core.round("10.0.0.5", role=ROLE)
        await asyncio.sleep(180 * MINUTE)
        assert core.cache.size == 0
        # Attackers in as many networks as there are places for new sessions, each with all it may have.
        flood = [f"2001:db8:{net:x}::{host:x}" for net in range(10) for host in range(100)]
        tasks = [asyncio.create_task(core.token(address)) for address in flood]
        await asyncio.sleep(0.01)
        name, key = await core.round("10.0.0.5", role=ROLE)
        assert name == ROLE
        assert str(key).startswith("ASIA")
        await asyncio.gather(*tasks)
        await world.end()


@in_virtual_time
async def test_a_shared_session_that_an_attacker_asked_for_first(tmp_path: Path) -> None:
    """It is assumed when a caller of another network wants it, whatever the attacker has queued before."""
    provider = everybody_has_a_role()
    with running_core(tmp_path, provider=provider) as core:
        world = World(core)
        sessions = core.judge._role_sessions
        queue = [asyncio.create_task(core.token(attacker(number))) for number in range(200)]
        await asyncio.sleep(0.01)
        address = canonical_address("10.0.0.5")
        grant = min(await provider.grants_for(core.identities.caller(address, not_before=0)))
        session = sessions.session_for(grant, ACCOUNTS["main"], ("shared",), address)
        entry = core.cache.entry(session, world.sts, canonical_address(attacker(1)))
        core.cache.begin_flight(entry, canonical_address(attacker(1)))
        began = core.clock.monotonic()
        core.cache.entry(session, world.sts, address)
        flight = core.cache.begin_flight(entry, address)
        assert flight is not None
        await flight
        assert core.clock.monotonic() - began <= 2 * SECONDS_OF_ONE_CALL
        await asyncio.gather(*queue)
        await world.end()


@in_virtual_time
async def test_what_is_held_for_other_networks_stays(tmp_path: Path) -> None:
    """A host that asks from more addresses than there are places pushes out its own sessions only."""
    most = 400
    with running_core(tmp_path, provider=everybody_has_a_role(), most_entries=most) as core:
        world = World(core)
        world.sts.seconds = 0.0
        machines = [f"10.0.{number}.1" for number in range(60)]
        machines += [f"2001:db8:900d::{number:x}" for number in range(60)]
        held = {address: await core.round(address, role=ROLE) for address in machines}
        await world.attack(2)
        assert core.cache.size <= most
        calls = len(world.sts.calls)
        assert {address: await core.round(address, role=ROLE) for address in machines} == held
        assert len(world.sts.calls) == calls
        await world.end()


@in_virtual_time
async def test_a_network_of_ten_thousand_fits() -> None:
    """A /64 with so many honest hosts keeps all its sessions where there is room."""
    vault = Vault(most_entries=MOST_ENTRIES)
    sessions = [role_session(session_name=f"host{number}") for number in range(10_000)]
    for number, session in enumerate(sessions):
        vault.entry(session, canonical_address(f"2001:db8::{number:x}"))
    assert all(vault.cache.find(session) is not None for session in sessions)


@in_virtual_time
async def test_one_session_for_a_network(tmp_path: Path) -> None:
    """With `session: network` all addresses of a /64 cost one AssumeRole; records name each one's own."""
    with running_core(tmp_path, provider=everybody_has_a_role(session="network")) as core:
        world = World(core)
        await world.attack(2)
        keys = {(await core.round(attacker(number), role=ROLE))[1] for number in range(1, 4)}
        assert len(keys) == 1
        assert len(world.sts.calls) == 1
        own = [(await core.round(address, role=ROLE))[1] for address in ("10.0.0.5", "2001:db8:900d::5")]
        assert len(keys.union(own)) == 3
        assert core.cache.size == 3
        await world.end()
        records = [record for record in core.records() if record["outcome"] == "granted"]
        assert {record["caller"] for record in records} >= {attacker(1), attacker(2), attacker(3)}
        assert len({record["session_name"] for record in records}) == 3
