"""From a peer address to a caller: forward-confirmed reverse DNS, remembered for a while.

1. `hosts:` is asked first; an entry there counts as confirmed and DNS is not asked at all.
2. PTR: at most 8 names, more is a refusal.
3. Names outside the allowed domains are dropped before anything is asked about them: the name in a
   PTR record is chosen by whoever owns the reverse zone, and so would be the server we ask.
4. A or AAAA of the rest: a name counts only if it leads back to the caller (FCrDNS, RFC 1912 section 2.1).
5. If a look-up fails, the answer is open: another name might have meant another role. Then the last
   confirmed names stand in for `stale` seconds. After a negative answer they never do.

For `deny`, PTR names are looked up alone (steps 1, 2 and 5): a name that cuts off need not lead back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from imds_proxy.errors import Refusal, RefusalKind, ResolutionError, Trouble
from imds_proxy.lookup_queue import LookupQueue
from imds_proxy.names import AllowedDomains, host_name
from imds_proxy.recent import Recent
from imds_proxy.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imds_proxy.clock import Clock
    from imds_proxy.model import IPAddress
    from imds_proxy.resolver import Resolver

NO_POINTER = "no PTR record"
NO_POINTER_V6 = f"{NO_POINTER} (a temporary address? docs/imds.md#temporary-addresses)"
"""No address shows whether it is one of those that change by the day (RFC 8981)."""

MOST_POINTERS = 8
MOST_IDENTITIES = 32_768
NEVER = float("-inf")
_SHORTEST_MEMORY = 1.0
_LONGEST_MEMORY = 60.0
_REFUSAL_MEMORY = 5.0
_FAILURE_MEMORY = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One name that was found for a caller and what became of it."""

    name: str
    is_allowed: bool
    is_confirmed: bool
    note: str | None = None
    """What became of it where that does not follow from whether it leads back to the address."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of the names of an address. Times are monotonic seconds."""

    names: tuple[str, ...]
    """Confirmed and allowed; sorted."""
    findings: tuple[Finding, ...]
    asked_at: float
    valid_until: float
    confirmed_at: float
    """When it was last confirmed; it stands in until `stale` seconds after that. NEVER: it does not."""
    refusal: str | None = None
    refusal_kind: RefusalKind = RefusalKind.NO_NAME
    failure: str | None = None
    """What the last look-up failed with."""

    @property
    def is_stale(self) -> bool:
        """Tell whether the names stand in for an answer that DNS does not give now."""
        return self.failure is not None and self.may_stand_in

    @property
    def may_stand_in(self) -> bool:
        """Tell whether it counts for a while when DNS does not answer."""
        return self.confirmed_at > NEVER

    @property
    def is_certain(self) -> bool:
        """Tell whether DNS has answered, and with names."""
        return self.failure is None and self.refusal is None


Key = tuple["IPAddress", AllowedDomains | None]
"""Without domains: all PTR names, of which none is confirmed."""


class Identities:
    """Looks names up, once per address at a time, and remembers them by their TTL."""

    def __init__(
        self,
        resolver: Resolver,
        hosts: Mapping[IPAddress, str],
        *,
        deadline: float,
        stale: float,
        clock: Clock,
        most: int = MOST_IDENTITIES,
        observe: Callable[[str, float], None] = lambda _outcome, _seconds: None,
    ) -> None:
        """`observe` hears how each look-up ended and how many seconds it took."""
        self._resolver = resolver
        self._hosts = hosts
        self._deadline = deadline
        self._stale = stale
        self._clock = clock
        self._queue = LookupQueue()
        # Apart, so that nobody who has many addresses and no name pushes out those who have one: a name
        # that was confirmed before is what serves when DNS fails.
        self._confirmed: Recent[Key, Identity] = Recent(most)
        self._nameless: Recent[Key, Identity] = Recent(most)
        # Of callers with a grant, whose names `deny` is compared with.
        self._pointers: Recent[Key, Identity] = Recent(most)
        self._shelves = (self._confirmed, self._nameless, self._pointers)
        self._flights: dict[Key, asyncio.Task[Identity]] = {}
        self._forgotten_flights: set[asyncio.Task[Identity]] = set()
        self._observe = observe

    @property
    def size(self) -> int:
        """How many identities are remembered."""
        return sum(len(shelf) for shelf in self._shelves)

    @property
    def flights(self) -> int:
        """How many look-ups are under way or wait for their turn."""
        return len(self._flights)

    def addresses_of(self, name: str) -> set[IPAddress]:
        """Return the addresses for which this name was found, whatever it counted."""
        return {
            key[0]
            for shelf in self._shelves
            for key, identity in shelf.items()
            if any(finding.name == name for finding in identity.findings)
        }

    def forget(self, address: IPAddress) -> int:
        """Forget the names of an address and return for how many sets of domains they were known.

        What a look-up under way brings is for those who wait for it already and is not remembered.
        """
        for key in [key for key in self._flights if key[0] == address]:
            flight = self._flights.pop(key)
            self._forgotten_flights.add(flight)
            flight.add_done_callback(self._forgotten_flights.discard)
        count = 0
        for shelf in self._shelves:
            for key in [key for key in shelf if key[0] == address]:
                del shelf[key]
                count += 1
        return count

    def caller(
        self, address: IPAddress, workload: str | None = None, *, not_before: float
    ) -> IdentifiedCaller:
        """Return the caller at `address`. Its names are looked up when a provider asks for them.

        Names that were looked up before `not_before` (monotonic seconds) are looked up again. Where a token
        has proved which `workload` it is, that is its name, and nothing is looked up.
        """
        return IdentifiedCaller(self, address, workload, not_before)

    def person(self, user: str, address: IPAddress | None, *, is_machine: bool = False) -> Person:
        """Return the person who logged in as `user`, from `address` or over a unix socket (None).

        To the library a machine is a user, too: its address.
        """
        return Person(self, user, address, is_machine=is_machine)

    def mapped_name(self, address: IPAddress) -> str | None:
        """Return the name that `hosts:` gives the address, without asking anyone."""
        return self._hosts.get(address)

    async def identify(
        self, address: IPAddress, domains: AllowedDomains | None, *, not_before: float
    ) -> Identity:
        """Return what is known of the address, looking it up where that is nothing or too old.

        Without `domains`, the findings are all its PTR names, and none of them is confirmed.
        """
        if address in self._hosts:
            return self._identity_by_map(address, domains)
        key = (address, domains)
        identity = self._remembered(key)
        if identity is not None and self._is_fresh(identity, not_before):
            return identity
        joined = self._flights.get(key)
        if joined is not None:
            identity = await asyncio.shield(joined)
            if self._is_fresh(identity, not_before):
                return identity
        # The look-up that was under way had begun too early to see what has changed since.
        return await asyncio.shield(self._flights.get(key) or self._start_flight(key))

    def _remembered(self, key: Key) -> Identity | None:
        if key[1] is None:
            return self._pointers.get(key)
        return self._confirmed.get(key) or self._nameless.get(key)

    def _remember(self, key: Key, identity: Identity) -> None:
        if key[1] is None:
            self._pointers[key] = identity
            return
        keeps, drops = self._nameless, self._confirmed
        if identity.names:
            keeps, drops = drops, keeps
        drops.pop(key)
        keeps[key] = identity

    def _is_fresh(self, identity: Identity, not_before: float) -> bool:
        if self._clock.monotonic() >= identity.valid_until:
            return False
        return identity.asked_at >= not_before or not identity.is_certain

    def _start_flight(self, key: Key) -> asyncio.Task[Identity]:
        flight = asyncio.get_running_loop().create_task(self._look_up(key), name=f"look-up {key[0]}")
        self._flights[key] = flight
        return flight

    async def _look_up(self, key: Key) -> Identity:
        address, domains = key
        started = self._clock.monotonic()
        before = self._remembered(key)
        try:
            async with self._queue.place(address, is_known=before is not None and before.may_stand_in):
                asked_at = self._clock.monotonic()
                try:
                    async with asyncio.timeout(self._deadline):
                        identity = await self._ask(address, domains, asked_at)
                except (ResolutionError, TimeoutError) as error:
                    identity = self._settle_failure(before, asked_at, str(error) or "no answer in time")
        except Trouble as error:
            identity = self._settle_failure(before, self._clock.monotonic(), str(error))
        finally:
            is_ours = self._flights.get(key) is asyncio.current_task()
            if is_ours:
                del self._flights[key]
        if is_ours:  # else somebody has said meanwhile that it is to be forgotten
            self._remember(key, identity)
        self._observe(_outcome_of(identity, domains), self._clock.monotonic() - started)
        return identity

    async def _ask(self, address: IPAddress, domains: AllowedDomains | None, asked_at: float) -> Identity:
        pointers = await self._resolver.names_of(address)
        if pointers.is_long or len(pointers.names) > MOST_POINTERS:
            count = "very many" if pointers.is_long else len(pointers.names)
            reason = f"{count} PTR names, {MOST_POINTERS} at most"
            return self._refuse(asked_at, (), reason, RefusalKind.MANY_NAMES)
        dropped, candidates = _sort_pointers(pointers.names, domains)
        if domains is None:
            now = self._clock.monotonic()
            until = self._end_of(pointers.ttl, asked_at) if dropped else now + _REFUSAL_MEMORY
            return Identity((), tuple(dropped), asked_at, until, confirmed_at=now)
        answers = await asyncio.gather(
            *(self._resolver.addresses_of(name, version=address.version) for name in candidates),
            return_exceptions=True,
        )
        findings, ttl = list(dropped), pointers.ttl
        for name, answer in zip(candidates, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            is_confirmed = address in answer.addresses
            findings.append(Finding(name, is_allowed=True, is_confirmed=is_confirmed))
            if is_confirmed:
                ttl = min(ttl, answer.ttl)
        names = tuple(sorted(finding.name for finding in findings if finding.is_confirmed))
        if not names:
            reason = "no PTR name is allowed and leads back"
            kind = RefusalKind.NOT_CONFIRMED if candidates else RefusalKind.FOREIGN_DOMAIN
            if not findings:
                reason = NO_POINTER if address.version == 4 else NO_POINTER_V6
                kind = RefusalKind.NO_NAME
            return self._refuse(asked_at, tuple(findings), reason, kind)
        until = self._end_of(ttl, asked_at)
        return Identity(names, tuple(findings), asked_at, until, confirmed_at=self._clock.monotonic())

    def _end_of(self, ttl: float, asked_at: float) -> float:
        # Also what its TTL outlived on the way counts for a moment: whoever waits for it would get nothing.
        return max(asked_at + min(ttl, _LONGEST_MEMORY), self._clock.monotonic() + _SHORTEST_MEMORY)

    def _refuse(
        self, asked_at: float, findings: tuple[Finding, ...], reason: str, kind: RefusalKind
    ) -> Identity:
        until = self._clock.monotonic() + _REFUSAL_MEMORY
        return Identity((), findings, asked_at, until, confirmed_at=NEVER, refusal=reason, refusal_kind=kind)

    def _settle_failure(self, before: Identity | None, asked_at: float, failure: str) -> Identity:
        now = self._clock.monotonic()
        until = now + _FAILURE_MEMORY
        if before is not None and now < before.confirmed_at + self._stale:
            until = min(until, before.confirmed_at + self._stale)
            return replace(before, asked_at=asked_at, valid_until=until, failure=failure)
        return Identity((), (), asked_at, until, confirmed_at=NEVER, failure=failure)

    def identity_of_workload(self, name: str, domains: AllowedDomains) -> Identity:
        """Return the identity of a workload, whose token has proved its name."""
        return self._identity_by_proof(name, domains, "from its token")

    def _identity_by_map(self, address: IPAddress, domains: AllowedDomains | None) -> Identity:
        name, origin = self._hosts[address], "from hosts"
        if domains is not None:
            return self._identity_by_proof(name, domains, origin)
        now = self._clock.monotonic()
        finding = Finding(name, is_allowed=False, is_confirmed=True, note=origin)
        return Identity((), (finding,), now, now + _LONGEST_MEMORY, confirmed_at=now)

    def _identity_by_proof(self, name: str, domains: AllowedDomains, origin: str) -> Identity:
        now = self._clock.monotonic()
        finding = Finding(name, is_allowed=domains.allow(name), is_confirmed=True, note=origin)
        if not finding.is_allowed:
            refusal = f"{name} ({origin}) is in no allowed domain"
            kind = RefusalKind.FOREIGN_DOMAIN
            return Identity((), (finding,), now, now, confirmed_at=now, refusal=refusal, refusal_kind=kind)
        return Identity((name,), (finding,), now, now + _LONGEST_MEMORY, confirmed_at=now)


class IdentifiedCaller:
    """A provider's `Caller`, and for the broker what its questions brought to light."""

    def __init__(
        self, identities: Identities, address: IPAddress, workload: str | None, not_before: float
    ) -> None:
        self._identities = identities
        self._not_before = not_before
        self.address = address
        self.workload = workload
        self.user = None
        self.identity: Identity | None = None
        """What was found out; None as long as no provider asked for names."""
        self.pointers: Identity | None = None
        """What has all PTR names; None as long as `deny` was not compared with them."""

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Return the names in `domains` that lead back to the address; see `provider.Caller`."""
        if self.workload is not None:
            self.identity = self._identities.identity_of_workload(self.workload, domains)
        else:
            self.identity = await self._identities.identify(
                self.address, domains, not_before=self._not_before
            )
        return _names_of(self.identity)

    async def find_pointers(self) -> Identity:
        """Return what has all PTR names of the address as findings, confirmed or not.

        Raises Refusal where they are too many, ResolutionError where DNS fails and nothing stands in.
        """
        found = self.identity
        if self.workload is not None or found is None:
            found = await self._identities.identify(self.address, None, not_before=self._not_before)
        self.pointers = found
        if found.failure is not None and not found.may_stand_in:
            raise ResolutionError(f"deny has names, and those of the address are not known: {found.failure}")
        if found.refusal_kind is RefusalKind.MANY_NAMES:
            raise Refusal(f"deny has names, and the address has {found.refusal}", kind=found.refusal_kind)
        return found


@dataclass(frozen=True, slots=True)
class Person:
    """A provider's `Caller` who has logged in. The names of their machine prove nothing about them."""

    _identities: Identities = field(repr=False)
    user: str
    address: IPAddress | None
    workload: None = None
    is_machine: bool = False

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Return the names in `domains` that lead back to the address; see `provider.Caller`."""
        if self.address is None:
            raise Refusal(
                f"{visible(self.user)} came without an address, so there is no host name to confirm"
            )
        return _names_of(await self._identities.identify(self.address, domains, not_before=NEVER))


def _outcome_of(identity: Identity, domains: AllowedDomains | None) -> str:
    if identity.is_stale:
        return "stale"
    if identity.failure is not None:
        return "failed"
    if domains is None and identity.refusal is None:
        return "listed"
    return "confirmed" if identity.names else "refused"


def _names_of(identity: Identity) -> tuple[str, ...]:
    if identity.failure is not None and not identity.names:
        raise ResolutionError(identity.failure)
    if identity.refusal is not None:
        raise Refusal(identity.refusal, kind=identity.refusal_kind)
    return identity.names


def _sort_pointers(
    pointers: tuple[tuple[bytes, ...], ...], domains: AllowedDomains | None
) -> tuple[list[Finding], list[str]]:
    """Return (findings of names that don't count, names to ask about); each name once."""
    dropped: list[Finding] = []
    candidates: dict[str, None] = {}
    for labels in pointers:
        name = host_name(labels)
        if name is None:
            shown = b".".join(labels).decode("ascii", "backslashreplace")
            note = "is no host name"
            dropped.append(Finding(repr(shown), is_allowed=False, is_confirmed=False, note=note))
        elif domains is None or not domains.allow(name):
            note = "is in no allowed domain" if domains is not None else "is compared with deny only"
            dropped.append(Finding(name, is_allowed=False, is_confirmed=False, note=note))
        else:
            candidates[name] = None
    return dropped, list(candidates)
