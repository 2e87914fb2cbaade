"""STS as the cache sees it: `cache.CredentialSource` without AWS, with outcomes that a test sets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from imds_proxy.model import Credentials, RoleSession

if TYPE_CHECKING:
    from tests.standins.virtual_time import VirtualClock

ROLE_SESSION = RoleSession(
    signer="AKIAGATEWAY",
    partition="aws",
    endpoint="eu-central-1",
    account_id="000123456789",
    role_arn="arn:aws:iam::000123456789:role/roleprefix-tuvfoo",
    session_name="tuvfoo42.valid.example",
    duration=3600,
)


def role_session(**changes: object) -> RoleSession:
    """Return a role session that differs from ROLE_SESSION in the given fields."""
    return replace(ROLE_SESSION, **changes)  # type: ignore[arg-type]  # fields by name


class CountedSts:
    """Gives new keys by every call, named after its number. `calls` has what was asked for."""

    def __init__(self, clock: VirtualClock) -> None:
        self.is_loaded = True
        self.calls: list[RoleSession] = []
        self.called_at: list[float] = []
        """Monotonic seconds."""
        self.cancelled = 0
        self.lifetime: float | None = None
        """How long keys live, in seconds; None: as long as was asked for."""
        self.seconds = 0.0
        """How long an answer takes."""
        self.failure: Exception | None = None
        self._clock = clock
        self._silence: asyncio.Event | None = None

    def silence(self) -> None:
        """Answer nobody until `speak`."""
        self._silence = asyncio.Event()

    def speak(self) -> None:
        """Answer again, also those who wait."""
        if self._silence is not None:
            self._silence.set()
        self._silence = None

    async def assume(self, session: RoleSession) -> Credentials:
        """Return new keys, or raise `failure`; both as they are set when the answer is due."""
        self.calls.append(session)
        self.called_at.append(self._clock.monotonic())
        number = len(self.calls)
        try:
            if self._silence is not None:
                await self._silence.wait()
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        now = self._clock.wall()
        return Credentials(
            access_key=f"ASIA{number:08}",
            secret_key=f"secret-{number}",
            session_token=f"token-{number}",
            expiry=now + (session.duration if self.lifetime is None else self.lifetime),
            received=now,
            account_id=session.account_id,
            request_id=f"request-{number}",
        )
