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
    grant: Grant | None = None
    session: RoleSession | None = None
    serve_until: float = 0.0
    """Until when a grant counts on while a look-up does not answer."""
    kind: RefusalKind | TroubleKind | None = None
    """What kind of denial it is."""

    @property
    def is_stale(self) -> bool:
        """Tell whether the names stand in for an answer that DNS does not give now."""
        return self.identity is not None and self.identity.is_stale

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
            denied = self._denied.names.intersection(names)
            if denied:
                raise Refusal(f"the name {min(denied)} is denied", kind=RefusalKind.DENIED)
            session = self._role_sessions.session_for(grant, self._accounts[grant.account], names, address)
        except Refusal as refusal:
            return self._conclude(refusal, caller, started)
        except Trouble as trouble:
            return self._conclude(trouble, caller, started)
        identity = caller.identity
        return Verdict(
            "granted",
            grant.reason,
            asked_at=identity.asked_at if identity else started,
            fresh_until=identity.valid_until if identity else started + _GRANT_MEMORY,
            names=names,
            identity=identity,
            grant=grant,
            session=session,
            serve_until=(identity.confirmed_at if identity else started) + self._stale,
        )

    def _conclude(self, denial: Refusal | Trouble, caller: IdentifiedCaller, started: float) -> Verdict:
        is_refusal = isinstance(denial, Refusal)
        return Verdict(
            "refused" if is_refusal else "trouble",
            str(denial),
            asked_at=started,
            fresh_until=self._clock.monotonic() + (_REFUSAL_MEMORY if is_refusal else _TROUBLE_MEMORY),
            names=self._names_of(caller),
            identity=caller.identity,
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
        return replace(grant, tags=_agreed_tags(grants))


def _agreed_tags(grants: Iterable[Grant]) -> tuple[tuple[str, str], ...]:
    """Return the tags of all grants; a key to which they give different values has none."""
    tags = {tag for grant in grants for tag in grant.tags}
    keys = [key for key, _ in tags]
    return tuple(sorted((key, value) for key, value in tags if keys.count(key) == 1))
