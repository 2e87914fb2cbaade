"""Bounds on guessing passwords: few guesses reach the directory, so that none of them locks an account.

- Failures of one user are counted over all addresses. They stay below the number at which the directory
  locks the account.
- An address where the user has logged in before has a count of its own, which other addresses can't use up.
- Failures of one address are counted over all users.
- After a failure of a user at an address one try at a time is made there, and each no is told later.

A try takes its share of each bound before the password is checked, so tries that run together can't exceed
one.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from cachetools import LRUCache

from imds_proxy.text import fold_login
from imds_proxy.web.identity import LoginFailure, NotIdentified

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType
    from typing import Self

    from imds_proxy.clock import Clock
    from imds_proxy.web.peer import Peer

FIRST_DELAY = 0.25
LONGEST_DELAY = 8.0
"""Seconds from a wrong password to its answer: the first time, and at most. It doubles with every failure."""

FAILURES_LAST = 600.0
"""Seconds after the last failure of a user at an address when they are forgotten. A success does not end
them: it may be someone else's than the guesses.
"""

MOST_TRIES = 64
"""Tries of one user from one address at a time, as long as none has failed."""

CHECKS_PER_ADDRESS = 4
"""Passwords from one address that are checked at a time: guesses leave threads for everybody else."""

PLACE_PATIENCE = 2.0
"""Seconds that a try waits for others to end."""

ADDRESS_FAILURES = 20
"""Failures that one address may have at once. Users who have logged in there before have as many together."""

ADDRESS_PAUSE = 5.0
"""Seconds after which the address may fail once more."""

KNOWN_FOR = 30 * 86400.0
"""Seconds for which an address is remembered where a user has logged in."""

KNOWN_ADDRESSES = 8
"""Addresses remembered for one user."""

_MOST_REMEMBERED = 16_384
_MOST_ADDRESSES = 4096
_IPV6_SHIFT = 128 - 64
_FULL_PAUSE = 60.0


class LoginThrottled(NotIdentified):
    """The password was not checked: too many have failed. `retry_after` is in seconds."""

    def __init__(self, reason: str, *, user: str | None, retry_after: float) -> None:
        super().__init__(reason, user=user, failure=LoginFailure.THROTTLED)
        self.retry_after = max(1, math.ceil(retry_after))


@dataclass(frozen=True, slots=True)
class Bound:
    """How many failures there may be."""

    most: int
    window: float
    """Seconds. They are forgotten so long after the last one, or one by one in so long."""
    is_leaky: bool = False

    def left_of(self, failures: float, seconds: float) -> float:
        """Return how many failures still count, so many seconds after the last one."""
        if self.is_leaky:
            return max(failures - seconds * self.most / self.window, 0.0)
        return 0.0 if seconds >= self.window else failures

    def wait_after(self, seconds: float) -> float:
        """Return in how many seconds there may be another failure, so many seconds after the last one."""
        return self.window / self.most if self.is_leaky else self.window - seconds


DEFAULT_LOCKOUT = Bound(3, 1800.0)
"""Failures of one user where nothing is known of the directory."""

_OF_ADDRESS = Bound(ADDRESS_FAILURES, ADDRESS_FAILURES * ADDRESS_PAUSE, is_leaky=True)


class _Gate:
    """Bounds how many tries run at a time. The others wait until one of them ends."""

    __slots__ = ("_ended", "running")

    def __init__(self) -> None:
        self.running = 0
        self._ended: asyncio.Event | None = None

    async def enter(self, most: Callable[[], float]) -> None:
        """Return when fewer than `most()` tries run, and count as one of them."""
        while self.running + 1 > most():
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        self.running += 1

    def leave(self) -> None:
        """Count no longer, and let the others look."""
        self.running -= 1
        if self._ended is not None:
            self._ended.set()
            self._ended = None


class _Budget(_Gate):
    """Gate that counts failures. A try takes its place before it is known whether it fails."""

    __slots__ = ("_at", "_failures")

    def __init__(self) -> None:
        super().__init__()
        self._failures = 0.0
        self._at = 0.0

    def failures(self, bound: Bound, now: float) -> float:
        """Return how many failures count. `now`, here as below, are monotonic seconds."""
        return bound.left_of(self._failures, now - self._at)

    def wait(self, bound: Bound, now: float) -> float:
        """Return in how many seconds a failure is forgotten."""
        return bound.wait_after(now - self._at)

    def fail(self, bound: Bound, now: float) -> None:
        """Count a failure."""
        self._failures = self.failures(bound, now) + 1
        self._at = now

    def forget(self) -> None:
        """Forget the failures."""
        self._failures = 0.0


class _Tries(_Gate):
    """Tries of one user from one address."""

    __slots__ = ("failed_at", "failures")

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.failed_at = 0.0

    def most(self, now: float) -> int:
        """Return how many may run at a time: one while a failure counts."""
        return 1 if self.failures and now - self.failed_at < FAILURES_LAST else MOST_TRIES

    def fail(self, now: float) -> float:
        """Count a failure, and return for how many seconds its answer is held back."""
        if now - self.failed_at >= FAILURES_LAST:
            self.failures = 0
        delay = min(FIRST_DELAY * 2.0 ** min(self.failures, 16), LONGEST_DELAY)
        self.failures += 1
        self.failed_at = now
        return delay


class _Address:
    """Tries of all users from one address."""

    __slots__ = ("checks", "known", "others")

    def __init__(self) -> None:
        self.checks = _Gate()
        self.known = _Budget()
        self.others = _Budget()


class _KnownUser:
    """Addresses where a user has logged in, and the failures there."""

    __slots__ = ("addresses", "budget")

    def __init__(self) -> None:
        self.addresses: dict[Hashable, float] = {}
        self.budget = _Budget()

    def add(self, origin: Hashable, now: float) -> None:
        """Remember an address; the one that was used longest ago makes room."""
        self.addresses.pop(origin, None)
        self.addresses[origin] = now
        if len(self.addresses) > KNOWN_ADDRESSES:
            del self.addresses[next(iter(self.addresses))]

    def has(self, origin: Hashable, now: float) -> bool:
        """Tell whether the user has logged in at an address."""
        at = self.addresses.get(origin)
        return at is not None and now - at < KNOWN_FOR


class LoginThrottle:
    """Counts failures, refuses tries beyond the bounds, and holds answers back."""

    def __init__(self, clock: Clock, *, most_users: int = _MOST_REMEMBERED) -> None:
        self._clock = clock
        self._most_users = most_users
        self._tries: LRUCache[Hashable, _Tries] = LRUCache(most_users)
        self._addresses: LRUCache[Hashable, _Address] = LRUCache(_MOST_ADDRESSES)
        # Only a success adds to these, so that guesses push nobody out.
        self._known: LRUCache[bytes, _KnownUser] = LRUCache(most_users)
        # When it is full, users without a count are refused: to push one out would give its guesses back.
        self._users: dict[bytes, _Budget] = {}
        self._tidied_at = -math.inf

    @property
    def tries(self) -> int:
        """How many users, by address, are remembered."""
        return len(self._tries)

    @property
    def addresses(self) -> int:
        """How many addresses are remembered."""
        return len(self._addresses)

    @property
    def users(self) -> int:
        """How many users are remembered who have failures."""
        return len(self._users)

    @property
    def known_users(self) -> int:
        """How many users are remembered who have logged in."""
        return len(self._known)

    async def begin(self, peer: Peer, user: str, lockout: Bound | None) -> Try:
        """Return a try of `user` from `peer`, to be ended by its caller. Raises LoginThrottled.

        `lockout` bounds the failures of one user. Without it only the user's tries at this address count.
        """
        one = Try(self, _origin_of(peer), _key_of(user), self._clock)
        try:
            steps = [] if lockout is None else self._bounds(one, user, lockout)
            for _, most in steps:
                most()  # what is used up refuses at once, before anything is remembered
            one.tries = tries = self._tries_of(one)
            steps.insert(0, (tries, lambda: tries.most(self._clock.monotonic())))
            async with asyncio.timeout(PLACE_PATIENCE):
                for gate, most in steps:
                    await gate.enter(most)
                    one.gates.append(gate)
        except TimeoutError:
            one.end()
            reason = f"too many tries to log in from {peer.caller} at a time"
            raise LoginThrottled(reason, user=user, retry_after=PLACE_PATIENCE) from None
        except BaseException:
            one.end()
            raise
        one.start()
        return one

    def note_success(self, peer: Peer, user: str) -> None:
        """Remember that `user` has logged in from `peer`."""
        self.remember(_origin_of(peer), _key_of(user))

    def remember(self, origin: Hashable, name: bytes) -> None:
        """Remember that a user has logged in at an address."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _KnownUser()
        known.add(origin, self._clock.monotonic())

    def forget_known_failures(self, name: bytes) -> None:
        """Forget the failures of a user where they have logged in before: so does the directory."""
        known = self._known.get(name)
        if known is not None:
            known.budget.forget()

    def tidy(self, name: bytes, budget: _Budget, lockout: Bound) -> None:
        """Drop the count of a user that says nothing."""
        is_idle = not budget.running and not budget.failures(lockout, self._clock.monotonic())
        if is_idle and self._users.get(name) is budget:
            del self._users[name]

    def _tries_of(self, one: Try) -> _Tries:
        key = (one.origin, one.name)
        tries = self._tries.get(key)
        if tries is None:
            tries = self._tries[key] = _Tries()
        return tries

    def _bounds(self, one: Try, user: str, lockout: Bound) -> list[tuple[_Gate, Callable[[], float]]]:
        """Return the gates of an address and a user, each with how many tries may run in it."""
        now = self._clock.monotonic
        address = self._addresses.get(one.origin)
        if address is None:
            address = self._addresses[one.origin] = _Address()
        known = self._known.get(one.name)
        is_known = known is not None and known.has(one.origin, now())
        of_address = address.known if is_known else address.others

        def left_of_address() -> float:
            return _left(of_address, _OF_ADDRESS, of_address.failures(_OF_ADDRESS, now()), now(), user)

        left_of_address()
        of_user = known.budget if known is not None and is_known else self._budget_of(one.name, user, lockout)

        def left_of_user() -> float:
            failures = of_user.failures(lockout, now())
            if known is not None and not is_known:
                failures += known.budget.failures(lockout, now())  # the directory has counted them as well
            return _left(of_user, lockout, failures, now(), user)

        one.budgets = [(of_address, _OF_ADDRESS), (of_user, lockout)]
        return [
            (address.checks, lambda: CHECKS_PER_ADDRESS),
            (of_address, left_of_address),
            (of_user, left_of_user),
        ]

    def _budget_of(self, name: bytes, user: str, lockout: Bound) -> _Budget:
        budget = self._users.get(name)
        if budget is not None:
            return budget
        now = self._clock.monotonic()
        if len(self._users) >= self._most_users and now - self._tidied_at >= 1:
            self._tidied_at = now
            for key, each in [*self._users.items()]:
                self.tidy(key, each, lockout)
        if len(self._users) >= self._most_users:
            reason = "too many users have failed to log in lately"
            raise LoginThrottled(reason, user=user, retry_after=_FULL_PAUSE)
        budget = self._users[name] = _Budget()
        return budget


class Try:
    """One try, which has its place. It must be ended."""

    def __init__(self, throttle: LoginThrottle, origin: Hashable, name: bytes, clock: Clock) -> None:
        self.origin = origin
        self.name = name
        self.tries: _Tries | None = None
        self.budgets: list[tuple[_Budget, Bound]] = []
        """Of the address, and of the user."""
        self.gates: list[_Gate] = []
        """Those that it has entered, that of the user at the address first."""
        self._throttle = throttle
        self._clock = clock
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Begin, now."""
        self._began = self._clock.monotonic()

    async def fail(self) -> None:
        """Note a failure, and return when it may be told."""
        now = self._clock.monotonic()
        for budget, bound in self.budgets:
            budget.fail(bound, now)
        delay = 0.0 if self.tries is None else self.tries.fail(now)
        self._leave(but_for=1)
        # From the beginning, so that how long the directory took does not show.
        await asyncio.sleep(max(self._began + delay - now, 0.0))

    def succeed(self) -> None:
        """Note a success: the address is one of the user's, whose failures at such addresses are over."""
        self._throttle.remember(self.origin, self.name)
        self._throttle.forget_known_failures(self.name)

    def end(self) -> None:
        """Give the places back."""
        self._leave(but_for=0)
        if self.budgets:
            self._throttle.tidy(self.name, *self.budgets[-1])

    def _leave(self, *, but_for: int) -> None:
        while len(self.gates) > but_for:
            self.gates.pop().leave()


def _left(budget: _Budget, bound: Bound, failures: float, now: float, user: str) -> float:
    """Return how many more failures a bound allows. Raises LoginThrottled for none."""
    left = bound.most - failures
    if left < 1:
        reason = "too many failures to log in lately: the password was not checked"
        raise LoginThrottled(reason, user=user, retry_after=budget.wait(bound, now))
    return left


def _origin_of(peer: Peer) -> Hashable:
    """Return where a peer is, as far as tries are concerned: IPv6 by /64, processes of this host by uid."""
    if peer.address is None:
        return ("uid", peer.uid)
    shift = 0 if peer.address.version == 4 else _IPV6_SHIFT
    return (peer.address.version, int(peer.address) >> shift)


def _key_of(user: str) -> bytes:
    """Return what is the same for all spellings of a login name that a directory may take for one."""
    return blake2b(fold_login(user).encode("utf-8", "surrogatepass"), digest_size=16).digest()
