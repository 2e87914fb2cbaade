"""broker: what holds whatever names, name servers and STS do, and in whatever order callers ask."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from imds_proxy import freshness, naming
from imds_proxy.errors import AWSError, Refusal
from tests.standins.core import Core, running_core
from tests.standins.virtual_time import in_virtual_time, virtual_runner

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

PREFIX = "roleprefix-"
LABEL = (
    st.binary(max_size=10)
    | st.from_regex(rb"[a-z]{6}[0-9]{2}", fullmatch=True)
    | st.sampled_from(
        [b"valid", b"example", b"VALID", b"valid.example", b"..", b"*", b"role/x", b"roleprefix-"]
    )
)
POINTERS = st.lists(
    st.lists(LABEL, max_size=4).map(tuple) | LABEL.map(lambda label: (label, b"valid", b"example")),
    max_size=4,
)
CALLERS = ("10.0.0.5", "fd00::5")


@given(POINTERS, POINTERS)
def test_any_names(first: list[tuple[bytes, ...]], second: list[tuple[bytes, ...]]) -> None:
    """Whatever names two callers have, and lead where they may: a role with the prefix or a status, no error.

    Neither gets the other's credentials unless both have proved the same name.
    """

    @in_virtual_time
    async def ask() -> None:
        with tempfile.TemporaryDirectory() as folder, running_core(Path(folder)) as core:
            for caller, pointers in zip(CALLERS, (first, second), strict=True):
                core.dns.set_pointers(caller, *pointers)
                for labels in pointers:
                    core.dns.set_addresses(b".".join(labels).decode("latin-1").lower(), *CALLERS)
            handed: dict[str, str | int] = {}
            for caller in CALLERS:
                await core.token(caller)
                role = await core.role_list(caller)
                handed[caller] = await core.role(str(role), caller)
                assert isinstance(role, str) is isinstance(handed[caller], str)
                assert role in {404} or (isinstance(role, str) and role.startswith(PREFIX))
            for session in core.sts.calls:
                assert session.account_id == "000123456789"
                assert session.role_arn.startswith(f"arn:aws:iam::000123456789:role/{PREFIX}")
                assert naming.is_role_name(session.role_name)
            verdicts = [core.standing(caller).verdict for caller in CALLERS]
            names = [verdict.names for verdict in verdicts if verdict]
            if handed[CALLERS[0]] == handed[CALLERS[1]] != 404:
                assert names[0][0] == names[1][0]

    ask()


NAMES = ("tuvfoo42.valid.example", "tuvfoo43.valid.example", "tuvbar42.valid.example", "x.other.example")
ADDRESSES = ("10.0.0.5", "10.0.0.6", "fd00::5")
STALE = 300.0
RECHECK = 5.0
LONG_AGO = float("-inf")


def role_of(name: str) -> str:
    return PREFIX + name[:6]


class Callers(RuleBasedStateMachine):
    """Callers ask, names move, name servers and STS fail and come back, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = virtual_runner()
        self.folder = tempfile.TemporaryDirectory()
        self.core: Core = self.run(self.make_core())
        self.names: dict[str, str | None] = dict.fromkeys(ADDRESSES)
        self.had: dict[str, dict[str, float]] = {address: {} for address in ADDRESSES}
        """When each address last had which name."""
        self.moved_at = dict.fromkeys(ADDRESSES, LONG_AGO)
        self.is_dns_well = True
        self.dns_healed_at = LONG_AGO

    async def make_core(self) -> Core:
        """Return what is asked; its clock is that of the loop it is made in."""
        return Core(Path(self.folder.name), stale=STALE, recheck=RECHECK)

    def run(self, request: Coroutine[Any, Any, Any]) -> Any:
        """Let a request run to its end, in virtual time."""
        return self.runner.run(request)

    def teardown(self) -> None:
        """End all that is under way."""
        self.run(self.core.broker.close())
        self.run(self.core.cache.close())
        self.core.audit.close(10)
        self.runner.close()
        self.folder.cleanup()

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.core.clock.monotonic()

    def note_names(self) -> None:
        """Remember who has which name at this moment."""
        for address, name in self.names.items():
            if name is not None:
                self.had[address][name] = self.now

    # --- the world changes ---

    @rule(address=st.sampled_from(ADDRESSES), name=st.sampled_from((None, *NAMES)))
    def move(self, address: str, name: str | None) -> None:
        """An address gets a name, which no other has then, or loses its own."""
        self.note_names()
        for other, had in self.names.items():
            if had == name and name is not None and other != address:
                self.core.dns.set_pointers(other)
                self.names[other], self.moved_at[other] = None, self.now
        if name is None:
            self.core.dns.set_pointers(address)
        else:
            self.core.dns.add_host(address, name)
        self.names[address], self.moved_at[address] = name, self.now
        self.note_names()

    @rule(how=st.sampled_from(["fail", "silence"]))
    def break_dns(self, how: str) -> None:
        """The name servers fail from now on."""
        self.note_names()
        self.is_dns_well = False
        if how == "fail":
            self.core.dns.fail()
        else:
            self.core.dns.silence()

    @rule()
    def heal_dns(self) -> None:
        """The name servers answer again."""
        if not self.is_dns_well:
            self.core.dns.heal()
            self.run(asyncio.sleep(0.001))
            self.is_dns_well, self.dns_healed_at = True, self.now

    @rule(
        failure=st.sampled_from([None, Refusal("STS: AccessDenied"), AWSError("STS: down", code="Down")]),
        seconds=st.sampled_from([0.0, 0.3, 3.0]),
        lifetime=st.sampled_from([None, 40.0, 20 * 60.0, 50 * 60.0]),
    )
    def change_sts(self, failure: Exception | None, seconds: float, lifetime: float | None) -> None:
        """STS says something else from now on."""
        self.core.sts.failure = failure
        self.core.sts.seconds = seconds
        self.core.sts.lifetime = lifetime

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.5, 30.0, 61.0, 301.0, 1700.0]))
    def let_time_pass(self, seconds: float) -> None:
        """Nothing happens for a while."""
        self.note_names()
        self.run(asyncio.sleep(seconds))
        self.note_names()

    # --- callers ask ---

    @rule(address=st.sampled_from(ADDRESSES))
    def ask_a_round(self, address: str) -> None:
        """A caller asks for TOKEN, LIST and ROLE."""
        self.run(self.core.token(address))
        self.ask_list(address)

    @rule(address=st.sampled_from(ADDRESSES))
    def ask_list(self, address: str) -> None:
        """A LIST names a role of a name that may count, and the ROLE after it is served."""
        self.note_names()
        role = self.run(self.core.role_list(address))
        if isinstance(role, int):
            assert role in {404, 503}
            return
        assert role in {role_of(name) for name in self.recent_names(address)}
        key = self.run(self.core.role(role, address))
        assert isinstance(key, str), f"LIST said {role}, ROLE {key}"
        self.check_key(address, role, key)

    @rule(address=st.sampled_from(ADDRESSES), name=st.sampled_from(NAMES))
    def ask_role(self, address: str, name: str) -> None:
        """Credentials are those of the caller's own name, whatever role is asked for."""
        self.note_names()
        key = self.run(self.core.role(role_of(name), address))
        if isinstance(key, str):
            self.check_key(address, role_of(name), key)
        else:
            assert key in {404, 503}

    @rule(address=st.sampled_from(ADDRESSES))
    def ask_when_all_is_settled(self, address: str) -> None:
        """With DNS well and no change for a while, a round is answered by the name of now."""
        self.note_names()
        if not self.is_dns_well:
            return
        if self.now - max(self.moved_at[address], self.dns_healed_at) <= RECHECK + 0.5:
            return
        self.run(self.core.token(address))
        role = self.run(self.core.role_list(address))
        name = self.names[address]
        if name is None or not name.endswith(".valid.example"):
            assert role == 404
        else:
            assert role in {role_of(name), 404, 503}
            if isinstance(role, str):
                key = self.run(self.core.role(role, address))
                assert self.session_name_of(key) == name

    def recent_names(self, address: str) -> set[str]:
        """Return the names that may count: had now, or not longer ago than names count on."""
        oldest = self.now - STALE - 61
        return {name for name, last in self.had[address].items() if last >= oldest}

    def session_name_of(self, key: str) -> str:
        """Return whose session a key is."""
        return self.core.sts.calls[int(key.removeprefix("ASIA")) - 1].session_name

    def check_key(self, address: str, role: str, key: str) -> None:
        """A key is of a name that may count, of the role asked for, and lives long enough."""
        assert self.session_name_of(key) in self.recent_names(address)
        standing = self.core.standing(address)
        held = [entry for entry in (standing.entry, standing.named_entry) if entry and entry.credentials]
        (expiry,) = {e.credentials.expiry for e in held if e.credentials and e.credentials.access_key == key}
        assert expiry - self.core.clock.wall() > freshness.LAST_AFTER_LIST
        assert self.core.sts.calls[int(key.removeprefix("ASIA")) - 1].role_name == role

    @invariant()
    def nobody_cancels_sts(self) -> None:
        """No request ever cancels an AssumeRole."""
        assert self.core.sts.cancelled == 0


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=60, stateful_step_count=40)
