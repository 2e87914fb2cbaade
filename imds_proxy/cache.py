"""Credentials at hand: what is fresh, one AssumeRole under way per key, and what a failure means.

A flight (an AssumeRole under way) belongs to nobody's connection: a caller that hangs up cancels nothing,
and whoever comes meanwhile waits for the same flight.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from imds_proxy import freshness
from imds_proxy.errors import AWSError, Refusal, Trouble
from imds_proxy.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.clock import Clock
    from imds_proxy.model import Credentials, RoleSession

MOST_ENTRIES = 20_000
_MOST_RENEWALS = 8
"""Renewals behind the callers' back at a time: they must not keep new callers waiting."""

_SHORTEST_SLEEP = 0.1
"""Seconds between two looks at all entries, so that ten thousand that fall due one by one cost little."""

_LONGEST_SLEEP = 3600.0

NEVER = float("inf")


class CredentialSource(Protocol):
    """Whoever turns a role session into credentials."""

    async def assume(self, session: RoleSession) -> Credentials:
        """Return new credentials. Raises Refusal (AccessDenied) or Trouble."""


class Entry:
    """What is held for one role session. `credentials` and `failure` may both be there: a failed renewal."""

    __slots__ = (
        "__weakref__",
        "credentials",
        "failed_at",
        "failure",
        "failures",
        "flight",
        "is_asked",
        "is_insisted",
        "kept_at",
        "renew_at",
        "session",
        "short_renewals",
        "source",
        "wake_at",
    )

    def __init__(self, session: RoleSession, source: CredentialSource) -> None:
        self.session = session
        self.source = source
        self.credentials: Credentials | None = None
        self.renew_at = 0.0
        """Wall clock, seconds."""
        self.kept_at = 0.0
        """When `credentials` came, monotonic seconds."""
        self.short_renewals = 0
        """How many times in a row STS gave less than 25 minutes."""
        self.is_asked = False
        """Whether anybody asked since the last renewal; what nobody asks for is left to expire."""
        self.is_insisted = False
        """Whether the flight under way is to bring other credentials, whatever is held."""
        self.flight: asyncio.Task[None] | None = None
        self.failure: Refusal | Trouble | None = None
        self.failures = 0
        self.failed_at = 0.0
        """Monotonic seconds."""
        self.wake_at = NEVER
        """When the cache looks at it again: to renew it, to try again or to drop it. Monotonic seconds."""


class CredentialCache:
    """The credentials of all role sessions, renewed in time and bounded in number."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_renewal_refused: Callable[[RoleSession, Refusal], None],
        spread: Callable[[], float] = random.random,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self._clock = clock
        self._on_renewal_refused = on_renewal_refused
        self._spread = spread
        self._entries: Recent[RoleSession, Entry] = Recent(most_entries)
        self._renewals = asyncio.Semaphore(_MOST_RENEWALS)
        self._flights: set[asyncio.Task[None]] = set()
        # One timer for all: a timer per entry takes half the memory of the credentials it is for, and keeps
        # an entry alive that has made room for others.
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = NEVER

    @property
    def size(self) -> int:
        """How many role sessions are known."""
        return len(self._entries)

    @property
    def flights(self) -> int:
        """How many AssumeRole calls are under way or wait for their turn."""
        return len(self._flights)

    def soonest_expiry(self, *, is_wanted: bool = False) -> float | None:
        """Return the wall clock second at which the first of the credentials held ends; None: none held.

        With `is_wanted`, of those that somebody has asked for since they came, so that they are renewed.
        """
        entries = (entry for entry in self._entries.values() if entry.is_asked or not is_wanted)
        return min((entry.credentials.expiry for entry in entries if entry.credentials), default=None)

    def entry(self, session: RoleSession, source: CredentialSource) -> Entry:
        """Return the entry of a role session that somebody asks for now; new ones hold nothing yet."""
        entry = self._entries.get(session)
        if entry is None:
            entry = self._entries[session] = Entry(session, source)
        entry.source = source
        entry.is_asked = True
        return entry

    def find(self, session: RoleSession) -> Entry | None:
        """Return the entry of a role session if there is one. Nobody asks for it by that."""
        return self._entries.get(session)

    def usable(self, entry: Entry, *, least: float = freshness.LAST_MINUTE) -> Credentials | None:
        """Return the credentials held if they live longer than `least` seconds."""
        credentials = entry.credentials
        if credentials is None or not freshness.is_usable(
            credentials.expiry, self._clock.wall(), least=least
        ):
            return None
        return credentials

    def is_comfortable(self, entry: Entry) -> bool:
        """Tell whether the credentials held live for 25 minutes or more."""
        return entry.credentials is not None and freshness.is_comfortable(
            entry.credentials.expiry, self._clock.wall()
        )

    def is_due(self, entry: Entry) -> bool:
        """Tell whether a renewal should be under way: the refresh window is reached, or nothing is held."""
        return entry.credentials is None or self._clock.wall() >= entry.renew_at

    def begin_flight(self, entry: Entry) -> asyncio.Task[None] | None:
        """Return the flight under way, or a new one; None while STS is left alone after a failure.

        The task never raises: its outcome is in the entry.
        """
        if entry.flight is not None:
            return entry.flight
        if self._clock.monotonic() < self._quiet_until(entry, in_background=False):
            return None
        return self._start(entry, in_background=False)

    def insist(self, entry: Entry) -> asyncio.Task[None]:
        """Return the flight under way, or a new one, even while STS is to be left alone.

        What it brings is kept, also when what was held would have lived longer.
        """
        entry.is_insisted = True
        return entry.flight or self._start(entry, in_background=False)

    def renew_if_due(self, entry: Entry) -> None:
        """Note that somebody asks, and start a renewal behind their back if it is time for one."""
        entry.is_asked = True
        if entry.flight is None and entry.credentials is not None and self._clock.wall() >= entry.renew_at:
            self._renew(entry)

    def forget_demand(self) -> None:
        """Renew nothing that is not asked for again: the settings have changed."""
        for entry in self._entries.values():
            entry.is_asked = False

    def forget(self, entry: Entry) -> None:
        """Drop an entry and what it holds."""
        if self._entries.get(entry.session) is entry:
            del self._entries[entry.session]

    async def close(self) -> None:
        """Drop all entries, cancel the timer and the flights."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
        for flight in list(self._flights):
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    def _start(self, entry: Entry, *, in_background: bool) -> asyncio.Task[None]:
        flight = asyncio.get_running_loop().create_task(
            self._fly(entry, in_background=in_background), name=f"AssumeRole {entry.session.role_arn}"
        )
        entry.flight = flight
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)
        return flight

    async def _fly(self, entry: Entry, *, in_background: bool) -> None:
        try:
            if in_background:
                async with self._renewals:
                    credentials = await entry.source.assume(entry.session)
            else:
                credentials = await entry.source.assume(entry.session)
        except (Refusal, Trouble) as error:
            self._note_failure(entry, error)
        except Exception as error:  # noqa: BLE001  a source that fails otherwise must not be asked in a loop
            # Only the type: nobody knows what the text of a foreign exception holds.
            name = type(error).__name__
            self._note_failure(entry, AWSError(f"AssumeRole failed: {name}", code=name))
        else:
            self._keep(entry, credentials)
        finally:
            entry.flight = None
            entry.is_insisted = False
        if self._entries.get(entry.session) is entry:  # not forgotten meanwhile
            self._set_timer(entry)

    def _keep(self, entry: Entry, credentials: Credentials) -> None:
        is_short = not freshness.is_comfortable(credentials.expiry, credentials.received)
        entry.short_renewals = entry.short_renewals + 1 if is_short else 0
        held = entry.credentials
        if held is None or entry.is_insisted or held.expiry <= credentials.expiry:
            entry.credentials = credentials
        entry.kept_at = self._clock.monotonic()
        entry.renew_at = freshness.renewal_time(credentials.received, credentials.expiry, self._spread())
        entry.is_asked = False
        entry.failure, entry.failures = None, 0

    def _note_failure(self, entry: Entry, error: Refusal | Trouble) -> None:
        is_news = isinstance(error, Refusal) and not isinstance(entry.failure, Refusal)
        is_same_kind = isinstance(error, Refusal) == isinstance(entry.failure, Refusal)
        entry.failures = entry.failures + 1 if is_same_kind else 1
        entry.failure = _without_frames(error)
        entry.failed_at = self._clock.monotonic()
        if is_news and isinstance(error, Refusal) and self.usable(entry) is not None:
            self._on_renewal_refused(entry.session, error)

    def _quiet_until(self, entry: Entry, *, in_background: bool) -> float:
        """Return until when (monotonic seconds) STS is left alone about this entry."""
        is_held = self.usable(entry) is not None
        if isinstance(entry.failure, Refusal):
            return entry.failed_at + (freshness.HELD_REFUSAL_RETRY if is_held else freshness.REFUSAL_MEMORY)
        if entry.failure is not None:
            pause = freshness.back_off(entry.failures, in_background=in_background and is_held)
            return entry.failed_at + pause
        # The first caller who finds too short a life may try once; nobody tries more than once a minute.
        if entry.short_renewals > (0 if in_background else 1):
            return entry.kept_at + freshness.SHORT_RENEWAL_RETRY
        return 0.0

    def _renew(self, entry: Entry) -> None:
        if self._clock.monotonic() >= self._quiet_until(entry, in_background=True):
            self._start(entry, in_background=True)

    def _set_timer(self, entry: Entry) -> None:
        """Look at an entry again when it is to be renewed, tried again or dropped."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        quiet = self._quiet_until(entry, in_background=True) - now
        if entry.credentials is None:
            pause = quiet + freshness.LAST_MINUTE
        elif entry.is_asked or wall < entry.renew_at:
            pause = max(entry.renew_at - wall, quiet)
        else:
            pause = entry.credentials.expiry - wall
        # A wall clock that is set makes any long pause wrong, so none is longer than an hour.
        entry.wake_at = now + min(max(pause, _SHORTEST_SLEEP), _LONGEST_SLEEP)
        self._ring_by(entry.wake_at)

    def _ring_by(self, time: float) -> None:
        """Set the one timer to `time` (monotonic seconds) where it would go off later."""
        if time >= self._rings_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = time
        pause = max(time - self._clock.monotonic(), _SHORTEST_SLEEP)
        # A timer keeps no cache alive that is not used any more: the library has one for each key of ours.
        self._timer = asyncio.get_running_loop().call_later(pause, _ring, ref(self))

    def wake_due(self) -> None:
        """Look at the entries that are due, and set the timer for the next of the others."""
        self._timer, self._rings_at = None, NEVER
        now = self._clock.monotonic()
        due = [entry for entry in self._entries.values() if entry.wake_at <= now]
        for entry in due:
            entry.wake_at = NEVER
            self._wake(entry)
        self._ring_by(min((entry.wake_at for entry in self._entries.values()), default=NEVER))

    def _wake(self, entry: Entry) -> None:
        if entry.flight is not None:
            return
        if self.usable(entry, least=0) is None:
            self.forget(entry)
            return
        if entry.is_asked and self.is_due(entry):
            self._renew(entry)
        if entry.flight is None:
            self._set_timer(entry)


def _ring(cache: ref[CredentialCache]) -> None:
    known = cache()
    if known is not None:
        known.wake_due()


def _without_frames(error: Refusal | Trouble) -> Refusal | Trouble:
    """Return an error that keeps alive nothing of what ran when it was raised, the entry itself included."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
