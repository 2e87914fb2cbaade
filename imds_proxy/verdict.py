"""The verdict on a caller: asks the provider, and makes exactly one grant of its answer, or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imds_proxy.errors import Refusal, RefusalKind, Trouble, TroubleKind
from imds_proxy.inquiry import ask_provider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imds_proxy.caller import IdentifiedCaller, Identities, Identity
    from imds_proxy.clock import Clock
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import Account, Grant, IPAddress, RoleSession
    from imds_proxy.provider import Provider, ProviderSettings
    from imds_proxy.role_sessions import RoleSessions

_GRANT_MEMORY = 60.0
_REFUSAL_MEMORY = 5.0
_TROUBLE_MEMORY = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about a caller: granted (`session` is there), refused or trouble."""

    outcome: str
    reason: str
    asked_at: float
    """Monotonic seconds, as all times here: when what it rests on was asked for."""
    fresh_until: float
    names: tuple[str, ...] = ()
    identity: Identity | None = None
    """The names that the provider was told; None where it asked for none."""
    pointers: Identity | None = None
    """The names that `deny` was compared with; None where it has none, or there was no grant."""
    grant: Grant | None = None
    session: RoleSession | None = None
    serve_until: float = 0.0
    """Until when a grant counts on while a look-up does not answer."""
    kind: RefusalKind | TroubleKind | None = None
    """What kind of denial it is."""

    @property
    def is_stale(self) -> bool:
        """Tell whether the names stand in for an answer that DNS does not give now."""
        return any(found is not None and found.is_stale for found in (self.identity, self.pointers))

    def denial(self) -> Refusal | Trouble:
        """Return the error that says why there is no grant."""
        if isinstance(self.kind, RefusalKind):
            return Refusal(self.reason, kind=self.kind)
        trouble = Trouble(self.reason)
        trouble.kind = self.kind or TroubleKind.OTHER
        return trouble


@dataclass(frozen=True, slots=True)
class Denied:
    """What `deny:` cuts off."""

    addresses: frozenset[IPAddress]
    names: frozenset[str]

    def with_names(self, logins: Iterable[str]) -> Denied:
        """Return the same with login names, folded as `Federation` compares them."""
        return replace(self, names=self.names.union(login.casefold() for login in logins))


class Judge:
    """Decides about the callers of one provider."""

    def __init__(
        self,
        name: str,
        provider: Provider[ProviderSettings],
        *,
        accounts: Mapping[str, Account],
        identities: Identities,
        role_sessions: RoleSessions,
        denied: Denied,
        stale: float,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.name = name
        self._provider = provider
        self._accounts = accounts
        self._identities = identities
        self._role_sessions = role_sessions
        self._denied = denied
        self._stale = stale
        self._metrics = metrics
        self._clock = clock

    async def decide(self, address: IPAddress, not_before: float, workload: str | None = None) -> Verdict:
        """Return the verdict on the caller at `address`; names looked up before `not_before` don't count.

        Of a caller that has proved which workload it is, the workload's name counts and no other.
        """
        started = self._clock.monotonic()
        caller = self._identities.caller(address, workload, not_before=not_before)
        try:
            if address in self._denied.addresses:
                raise Refusal("the address is denied", kind=RefusalKind.DENIED)
            grant = await self._ask_provider(caller)
            names = self._names_of(caller)
            pointers = await self._refuse_denied_names(caller, names)
            session = self._role_sessions.session_for(grant, self._accounts[grant.account], names, address)
        except Refusal as refusal:
            return self._conclude(refusal, caller, started)
        except Trouble as trouble:
            return self._conclude(trouble, caller, started)
        rests_on = [found for found in (caller.identity, pointers) if found is not None]
        return Verdict(
            "granted",
            grant.reason,
            asked_at=min((found.asked_at for found in rests_on), default=started),
            fresh_until=min((found.valid_until for found in rests_on), default=started + _GRANT_MEMORY),
            names=names,
            identity=caller.identity,
            pointers=pointers,
            grant=grant,
            session=session,
            serve_until=min((found.confirmed_at for found in rests_on), default=started) + self._stale,
        )

    async def _refuse_denied_names(self, caller: IdentifiedCaller, names: tuple[str, ...]) -> Identity | None:
        """Return what has the caller's PTR names; None where no name is denied.

        Raises Refusal where one of them is, ResolutionError where they can't be told.
        """
        if not self._denied.names:
            return None
        self._refuse_if_denied(names)
        pointers = await caller.find_pointers()
        self._refuse_if_denied(finding.name for finding in pointers.findings)
        return pointers

    def _refuse_if_denied(self, names: Iterable[str]) -> None:
        denied = self._denied.names.intersection(names)
        if denied:
            raise Refusal(f"the name {min(denied)} is denied", kind=RefusalKind.DENIED)

    def _conclude(self, denial: Refusal | Trouble, caller: IdentifiedCaller, started: float) -> Verdict:
        is_refusal = isinstance(denial, Refusal)
        return Verdict(
            "refused" if is_refusal else "trouble",
            str(denial),
            asked_at=started,
            fresh_until=self._clock.monotonic() + (_REFUSAL_MEMORY if is_refusal else _TROUBLE_MEMORY),
            names=self._names_of(caller),
            identity=caller.identity,
            pointers=caller.pointers,
            kind=denial.kind,
        )

    def _names_of(self, caller: IdentifiedCaller) -> tuple[str, ...]:
        if caller.identity is not None:
            return caller.identity.names
        if caller.workload is not None:
            return (caller.workload,)
        mapped = self._identities.mapped_name(caller.address)
        return (mapped,) if mapped else ()

    async def _ask_provider(self, caller: IdentifiedCaller) -> Grant:
        grants = await ask_provider(self.name, self._provider, caller, self._metrics)
        roles = {(grant.account, grant.role) for grant in grants}
        if not grants:
            raise Refusal(f"provider {self.name} grants nothing")
        if len(roles) > 1:
            text = f"provider {self.name} grants {len(roles)} roles, a machine has one"
            raise Refusal(text, kind=RefusalKind.SEVERAL_ROLES)
        grant = min(grants)
        if grant.account not in self._accounts:
            text = f"provider {self.name} grants a role in {grant.account!r}, which accounts lacks"
            raise Refusal(text, kind=RefusalKind.UNKNOWN_ACCOUNT)
        networks = {grant.network for grant in grants}
        network = grant.network if len(networks) == 1 else None
        return replace(grant, tags=_agreed_tags(grants), network=network)


def _agreed_tags(grants: Iterable[Grant]) -> tuple[tuple[str, str], ...]:
    """Return the tags of all grants; a key to which they give different values has none."""
    tags = {tag for grant in grants for tag in grant.tags}
    keys = [key for key, _ in tags]
    return tuple(sorted((key, value) for key, value in tags if keys.count(key) == 1))
