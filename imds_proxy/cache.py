"""Credentials at hand: what is fresh, one AssumeRole under way per key, and what a failure means.

A flight (an AssumeRole under way) belongs to nobody's connection: a caller that hangs up cancels nothing,
and whoever comes meanwhile waits for the same flight.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from imds_proxy import freshness
from imds_proxy.errors import AWSError, Refusal, Trouble
from imds_proxy.recent import Recent
from imds_proxy.session_queue import KNOWN, NEW, RENEWAL, session_queue
from imds_proxy.turn_queue import caller_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from imds_proxy.clock import Clock
    from imds_proxy.model import Credentials, RoleSession
    from imds_proxy.turn_queue import Caller, Turn

MOST_ENTRIES = 20_000
_ROOM_AT_ONCE = 0.05
"""Part of the entries that goes when all places are taken: counting the networks for one takes as long."""

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
        "caller",
        "credentials",
        "failed_at",
        "failure",
        "failures",
        "flight",
        "is_asked",
        "is_insisted",
        "kept_at",
        "network",
        "renew_at",
        "session",
        "short_renewals",
        "source",
        "turn",
        "wake_at",
    )

    def __init__(self, session: RoleSession, source: CredentialSource, caller: Caller) -> None:
        self.session = session
        self.source = source
        self.caller = caller
        """Who asked last."""
        self.network = caller_network(caller)
        """For which it counts."""
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
        self.turn: Turn | None = None
        """The wait of the flight for its place in front of STS."""
        self.failure: Refusal | Trouble | None = None
        self.failures = 0
        self.failed_at = 0.0
        """Monotonic seconds."""
        self.wake_at = NEVER
        """When the cache looks at it again: to renew it, to try again or to drop it. Monotonic seconds."""

    @property
    def has_held(self) -> bool:
        """Tell whether STS has ever given credentials for it."""
        return self.credentials is not None or self.kept_at > 0


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
        self._most_entries = most_entries
        self._entries: Recent[RoleSession, Entry] = Recent(most_entries, on_drop=_empty)
        self.queue = session_queue()
        self.evicted = 0
        """How many entries have made room for others."""
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

    def entry(self, session: RoleSession, source: CredentialSource, caller: Caller) -> Entry:
        """Return the entry of a role session that `caller` asks for now; new ones hold nothing yet."""
        entry = self._entries.get(session)
        if entry is None:
            if len(self._entries) >= self._most_entries:
                self._make_room()
            entry = self._entries[session] = Entry(session, source, caller)
        entry.source = source
        if entry.caller is not caller:
            entry.caller, entry.network = caller, caller_network(caller)
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

    def begin_flight(
        self, entry: Entry, caller: Caller, *, is_known: bool = False
    ) -> asyncio.Task[None] | None:
        """Return the flight under way, or a new one; None while STS is left alone after a failure.

        It has the first place that those have who wait for it; `is_known`: the caller has had credentials
        before. The task never raises: its outcome is in the entry.
        """
        if entry.flight is None and self._clock.monotonic() < self._quiet_until(entry, in_background=False):
            return None
        return self._board(entry, caller, KNOWN if is_known or entry.has_held else NEW)

    def insist(self, entry: Entry, caller: Caller) -> asyncio.Task[None]:
        """Return the flight under way, or a new one, even while STS is to be left alone.

        What it brings is kept, also when what was held would have lived longer.
        """
        entry.is_insisted = True
        return self._board(entry, caller, KNOWN if entry.has_held else NEW)

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
        """Drop an entry and what it holds: whoever still has the entry finds nothing in it."""
        if self._entries.get(entry.session) is entry:
            del self._entries[entry.session]
            _empty(entry)

    async def close(self) -> None:
        """Drop all entries, cancel the timer and the flights."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
        for flight in list(self._flights):
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    def _make_room(self) -> None:
        """Drop the oldest entries of the networks with the most.

        So whoever asks from many addresses of a network pushes out that network's. What a flight is under
        way for stays: those who wait for it would begin another.
        """
        idle = [entry for entry in self._entries.values() if entry.flight is None]
        wanted = min(len(idle), max(1, int(self._most_entries * _ROOM_AT_ONCE)))
        sizes = Counter(entry.network for entry in idle)
        level, rest = _level_of(sizes.values(), wanted)
        for entry in idle:
            size = sizes[entry.network]
            if size > level or (size == level and rest > 0):
                rest -= size == level
                sizes[entry.network] -= 1
                self.evicted += 1
                self.forget(entry)

    def _board(self, entry: Entry, caller: Caller, lane: str) -> asyncio.Task[None]:
        """Let a caller wait for the flight of an entry, which is under way or begins now."""
        if entry.flight is None:
            return self._start(entry, caller, lane)
        if entry.turn is not None:
            self.queue.join(entry.turn, caller, lane)
        return entry.flight

    def _start(self, entry: Entry, caller: Caller, lane: str) -> asyncio.Task[None]:
        turn = entry.turn = self.queue.enter(caller, lane)
        flight = asyncio.get_running_loop().create_task(
            self._fly(entry, turn), name=f"AssumeRole {entry.session.role_arn}"
        )
        entry.flight = flight
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)
        return flight

    async def _fly(self, entry: Entry, turn: Turn) -> None:
        try:
            async with self.queue.place(turn):
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
            entry.flight = entry.turn = None
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
            self._start(entry, entry.caller, RENEWAL)

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


def _empty(entry: Entry) -> None:
    entry.credentials = None


def _level_of(sizes: Iterable[int], wanted: int) -> tuple[int, int]:
    """Return the size to which all that are larger shrink so that no more than `wanted` go.

    And how many of that size have to give up one more.
    """
    count_by_size = Counter(sizes)

    def gain(level: int) -> int:
        return sum((size - level) * count for size, count in count_by_size.items() if size > level)

    levels = range(max(count_by_size, default=0) + 1)
    level = bisect_right(levels, -wanted - 1, key=lambda level: -gain(level))
    return level, wanted - gain(level)
