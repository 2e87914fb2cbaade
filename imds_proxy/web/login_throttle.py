"""Guessing passwords is slow, and logging in is not: a no is held back, a yes is not.

Tries are counted per address and user, so that nobody can lock anybody out from elsewhere. A password is
checked when it comes. The answer to a wrong one waits, and for so long it takes one of a few places: guessing
on many connections at once brings no more than there are places.
"""

from __future__ import annotations

import asyncio
import unicodedata
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cachetools import LRUCache

from imds_proxy.errors import OverloadError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from imds_proxy.clock import Clock
    from imds_proxy.web.peer import Peer

FIRST_DELAY = 0.25
LONGEST_DELAY = 8.0
"""Seconds from a wrong password to its answer: the first time, and at most. It doubles with every failure."""

FAILURES_LAST = 600.0
"""Seconds after the last failure when they are forgotten. A success does not wipe them out: it may be someone
else's than the guesses.
"""

MOST_TRIES = 64
"""Of one user from one address, under way or waiting for their no."""

CHECKS_PER_ADDRESS = 4
"""Passwords from one address that are checked at a time: guesses leave threads for everybody else."""

PLACE_PATIENCE = 2.0
"""Seconds that a try waits for its place: the most that others' failures delay a right password."""

_MOST_REMEMBERED = 16_384
_MOST_ADDRESSES = 4096
_IPV6_SHIFT = 128 - 64


class _Tries:
    """What is known of the tries of one user from one address."""

    __slots__ = ("failed_at", "failures", "places")

    def __init__(self) -> None:
        self.failures = 0
        self.failed_at = 0.0
        self.places = asyncio.Semaphore(MOST_TRIES)


class LoginThrottle:
    """Counts failures and holds their answers back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: LRUCache[Hashable, _Tries] = LRUCache(_MOST_REMEMBERED)
        self._checks: LRUCache[Hashable, asyncio.Semaphore] = LRUCache(_MOST_ADDRESSES)

    @property
    def tries(self) -> int:
        """How many users, by address, are remembered."""
        return len(self._tries)

    @property
    def addresses(self) -> int:
        """How many addresses are remembered."""
        return len(self._checks)

    @asynccontextmanager
    async def place(self, peer: Peer, user: str) -> AsyncIterator[Try]:
        """Hold a place for one try: the password may be checked. Raises OverloadError after 2 s without."""
        origin = _origin_of(peer)
        key = (origin, _spelled_alike(user))
        tries = self._tries.get(key)
        if tries is None:
            tries = self._tries[key] = _Tries()
        checks = self._checks.get(origin)
        if checks is None:
            checks = self._checks[origin] = asyncio.Semaphore(CHECKS_PER_ADDRESS)
        try:
            async with asyncio.timeout(PLACE_PATIENCE):
                await tries.places.acquire()
                try:
                    await checks.acquire()
                except BaseException:
                    tries.places.release()
                    raise
        except TimeoutError:
            raise OverloadError(f"too many tries to log in from {peer.caller}") from None
        one = Try(tries, checks, self._clock)
        try:
            yield one
        finally:
            one.end()


class Try:
    """One try; it begins when it has its place."""

    def __init__(self, tries: _Tries, checks: asyncio.Semaphore, clock: Clock) -> None:
        self._tries = tries
        self._checks: asyncio.Semaphore | None = checks
        self._clock = clock
        self._began = clock.monotonic()
        self._held_for = 0.0

    async def fail(self) -> None:
        """Note a failure, and return when it may be told."""
        self._end_check()
        tries, now = self._tries, self._clock.monotonic()
        if now - tries.failed_at >= FAILURES_LAST:
            tries.failures = 0
        # From the beginning, so that how long the directory took does not show.
        self._held_for = max(self._began + _delay_after(tries.failures) - now, 0.0)
        tries.failures += 1
        tries.failed_at = now
        await asyncio.sleep(self._held_for)
        self._held_for = 0.0

    def end(self) -> None:
        """Give the place back, in time: hanging up does not shorten it."""
        self._end_check()
        places = self._tries.places
        if self._held_for > 0:
            asyncio.get_running_loop().call_later(self._held_for, places.release)
        else:
            places.release()

    def _end_check(self) -> None:
        if self._checks is not None:
            self._checks.release()
            self._checks = None


def _origin_of(peer: Peer) -> Hashable:
    """Return where a peer is, as far as tries are concerned: IPv6 by /64, processes of this host by uid."""
    if peer.address is None:
        return ("uid", peer.uid)
    shift = 0 if peer.address.version == 4 else _IPV6_SHIFT
    return (peer.address.version, int(peer.address) >> shift)


def _delay_after(failures: int) -> float:
    """Return for how many seconds the next no is held back after so many failures."""
    return min(FIRST_DELAY * 2.0 ** min(failures, 16), LONGEST_DELAY)


def _spelled_alike(user: str) -> str:
    """Return what is the same for all spellings that a directory may take for one name."""
    return " ".join(unicodedata.normalize("NFKC", user).casefold().split())
