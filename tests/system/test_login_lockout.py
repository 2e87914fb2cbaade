"""Guessing at HTTP Basic before a real OpenLDAP server that locks accounts: it does not lock one."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.directory.settings import LoginDirectorySettings
from imds_proxy.directory.verify import AccountLocked, verify
from imds_proxy.web.basic import BasicSignOn, Login
from imds_proxy.web.identity import NotIdentified
from imds_proxy.web.login_throttle import Bound, LoginThrottle, LoginThrottled
from imds_proxy.web.peer import Peer
from tests.standins import slapd
from tests.standins.slapd import person, running_slapd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

PASSWORD = "richtig-Alice"
POLICY = f"cn=policy,{slapd.SUFFIX}"
LOCKS_AT = 4
OVERLAY = f"""\
moduleload ppolicy
overlay ppolicy
ppolicy_default "{POLICY}"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[LoginDirectorySettings]:
    """A directory that locks an account for good at its fourth failure."""
    pytest.importorskip("ldap", reason="python-ldap is missing: pip install 'imds-proxy[ldap]'")
    missing = slapd.find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    policy = slapd.entry(
        POLICY,
        objectClass=["organizationalRole", "pwdPolicy"],
        pwdAttribute="userPassword",
        pwdLockout="TRUE",
        pwdMaxFailure=str(LOCKS_AT),
        pwdLockoutDuration="0",
        pwdFailureCountInterval="1800",
    )
    with running_slapd(tmp_path / "slapd", [policy, person("alice", PASSWORD)], more=OVERLAY) as server:
        yield LoginDirectorySettings.model_validate(slapd.settings_for(server.ldapi))


def test_guesses_at_once_from_many_addresses_lock_nobody(settings: LoginDirectorySettings) -> None:
    """Of 300 guesses three reach the directory; then alice logs in where she has done so before."""
    asked = []

    def ask(user: str, password: str) -> str | None:
        asked.append(password)
        return verify(settings, user, password)

    async def attack() -> list[str]:
        sign_on = BasicSignOn(
            ask,
            patience=30,
            threads=DaemonThreads("directory", most=8, longest_line=64),
            throttle=LoginThrottle(SYSTEM_CLOCK),
            lockout=Bound(settings.lockout_threshold - 1, settings.lockout_window),
            clock=SYSTEM_CLOCK,
        )
        home = Peer(ip_address("10.0.0.5"))
        assert await sign_on.log_in(Login("alice", PASSWORD), home) == "alice"

        async def guess(number: int) -> str:
            try:
                await sign_on.log_in(Login("alice", f"guess {number}"), Peer(ip_address(0x0B000000 + number)))
            except LoginThrottled:
                return "throttled"
            except NotIdentified:
                return "refused"
            return "in"

        told = await asyncio.gather(*(guess(number) for number in range(300)))
        assert await sign_on.log_in(Login("Alice", PASSWORD), home) == "alice"
        return list(told)

    told = asyncio.run(attack())
    assert (told.count("refused"), told.count("throttled")) == (LOCKS_AT - 1, 300 - LOCKS_AT + 1)
    assert len(asked) == LOCKS_AT - 1 + 2
    assert verify(settings, "alice", PASSWORD) == "alice"


def test_a_locked_account_is_told_apart(settings: LoginDirectorySettings) -> None:
    """The directory answers "invalid credentials" to the right password as well: its mark says why."""
    for number in range(LOCKS_AT - 1):
        assert verify(settings, "alice", f"wrong {number}") is None
    with pytest.raises(AccountLocked):
        verify(settings, "alice", "wrong once more")
    with pytest.raises(AccountLocked):
        verify(settings, "alice", PASSWORD)
    assert verify(settings, "nobody", PASSWORD) is None
