"""AssumeRole for the event loop: calls on a bounded pool of threads, boto3 imported on one of them.

Three outcomes: credentials, a Refusal (AccessDenied: the role says no) or an AWSError (everything else,
our own key refused included).
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeVar

from imds_proxy.errors import AWSError, OverloadError, Refusal
from imds_proxy.model import OwnKey
from imds_proxy.session_queue import PLACES

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.assume_role import RoleAssumer
    from imds_proxy.clock import Clock
    from imds_proxy.model import Credentials, RoleSession
    from imds_proxy.sts_settings import StsSettings

THREADS = PLACES
_LONGEST_LINE = 256
"""Calls beside AssumeRole, such as `explain`, come without a place in the queue."""

_QUIET_SECONDS = 60.0
_THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException"})

Result = TypeVar("Result")


class Threads(Protocol):
    """Where calls that block are made."""

    @property
    def threads(self) -> int:
        """How many calls can be under way."""

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns on a thread. Raises OverloadError when the line is full."""


class StsThreads:
    """The threads on which boto3 works, and the line in front of them."""

    def __init__(self, threads: int = THREADS) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sts")
        self.line = 0
        """How many calls are under way or wait for a thread."""

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns on a thread. Raises OverloadError when the line is full."""
        if self.line >= _LONGEST_LINE:
            raise OverloadError("too many calls of STS wait for their turn")
        self.line += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self.line -= 1

    def close(self) -> None:
        """Take no more calls. Those under way end by themselves: nothing can interrupt a thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Sts:
    """AssumeRole with the settings of one configuration. boto3 is imported by the first use, on a thread."""

    def __init__(
        self,
        settings: StsSettings,
        threads: Threads,
        *,
        clock: Clock,
        warn: Callable[[str], None],
        observe: Callable[[str, float], None],
    ) -> None:
        self._settings = settings
        self._threads = threads
        self._clock = clock
        self._warn = warn
        self._observe = observe
        self._loading = Lock()
        self._assumer: RoleAssumer | None = None
        self.signer = settings.signer(os.environ)
        self.endpoint = settings.endpoint(os.environ)
        self.own_key_trouble: str | None = None
        """Why STS refuses our own key, as of the last call; None when it does not."""
        self._told: tuple[str, float] | None = None

    @property
    def is_loaded(self) -> bool:
        """Tell whether boto3 is imported and the client made."""
        return self._assumer is not None

    async def load(self) -> None:
        """Import boto3 and make the client, so that the first caller need not wait for that."""
        await self._threads.run(self._load)

    async def assume(self, session: RoleSession) -> Credentials:
        """Return new credentials for a role session. Raises Refusal, AWSError or OverloadError."""
        started = self._clock.monotonic()
        outcome = "trouble"
        try:
            credentials = await self._threads.run(lambda: self._load().assume(session))
            outcome = "success"
        except Refusal:
            outcome = "refused"
            self.own_key_trouble = None
            raise
        except AWSError as error:
            outcome = _outcome_of(error)
            self.own_key_trouble = str(error) if error.is_own_key else None
            self._tell(error)
            raise
        finally:
            self._observe(outcome, self._clock.monotonic() - started)
        self.own_key_trouble = None
        return credentials

    def _tell(self, error: AWSError) -> None:
        """Log trouble with STS: once a minute for each code, for it may be every caller's."""
        now = self._clock.monotonic()
        if self._told is not None and self._told[0] == error.code and now - self._told[1] < _QUIET_SECONDS:
            return
        self._told = (error.code, now)
        self._warn(str(error))

    def has_long_term_key(self) -> bool:
        """Tell whether our own key is a user's, not a role's. It blocks: for a thread. Raises AWSError."""
        return self._load().has_long_term_key()

    async def own_key(self) -> OwnKey:
        """Return what STS says of our own key, also that it can't be asked. Raises OverloadError."""
        try:
            return await self._threads.run(lambda: self._load().own_key())
        except AWSError as error:
            return OwnKey(trouble=str(error), is_refused=error.is_own_key)

    async def diagnose_refusal(self, session: RoleSession) -> str:
        """Say why a role was refused, as far as `iam:GetRole` tells: it sees our own account only."""
        return await self._threads.run(lambda: self._load().diagnose_refusal(session))

    def _load(self) -> RoleAssumer:
        with self._loading:
            if self._assumer is None:
                # boto3 takes a quarter of a second to import: after the listeners are up, on a thread.
                from imds_proxy.botocore_data import SmallLoader

                loader = SmallLoader()
                from imds_proxy.assume_role import RoleAssumer

                self._assumer = RoleAssumer(
                    self._settings,
                    loader,
                    connections=self._threads.threads,
                    wall=self._clock.wall,
                    warn=self._warn,
                )
            return self._assumer


def _outcome_of(error: AWSError) -> str:
    if error.is_own_key:
        return "own_key_refused"
    return "throttled" if error.code in _THROTTLED else "trouble"
