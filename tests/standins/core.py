"""The core of the daemon in virtual time: identity, verdict, credentials and audit, without sockets and AWS.

    with running_core(tmp_path) as core:
        core.dns.add_host("10.0.0.5", "tuvfoo42.valid.example")
        await core.token()
        assert await core.role_list() == "roleprefix-tuvfoo"

What a caller asks is answered as the web layer would: a role's name or an access key, 404 or 503.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from imds_proxy_providers import by_ip

from imds_proxy.audit import Audit
from imds_proxy.broker import Broker
from imds_proxy.cache import MOST_ENTRIES, CredentialCache
from imds_proxy.caller import Identities
from imds_proxy.errors import FederationError, Refusal
from imds_proxy.metrics import Metrics
from imds_proxy.model import Account, canonical_address
from imds_proxy.role_sessions import RoleSessions
from imds_proxy.verdict import Denied, Judge
from tests.standins.name_servers import TableResolver
from tests.standins.sts import CountedSts
from tests.standins.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from imds_proxy.model import IPAddress, RoleSession
    from imds_proxy.provider import Provider
    from imds_proxy.standing import Standing
    from imds_proxy.sts import Sts

ADDRESS = "10.0.0.5"
NAME = "tuvfoo42.valid.example"
ROLE = "roleprefix-tuvfoo"
ACCOUNTS = {"main": Account("main", "000123456789"), "other": Account("other", "000123456780")}
NOBODY = Denied(frozenset(), frozenset())


def roles_by_name() -> Provider[Any]:
    """Return the provider by_ip for valid.example, with its default rule."""
    settings = {"allowed_domains": ["valid.example"], "account_name": "main", "role_prefix": "roleprefix-"}
    return by_ip.Provider(by_ip.Settings.model_validate(settings, context={"accounts": ACCOUNTS}))


def deny(*texts: str) -> Denied:
    """Return what `deny:` with these addresses and names cuts off."""
    addresses: set[IPAddress] = set()
    names: set[str] = set()
    for text in texts:
        try:
            addresses.add(canonical_address(text))
        except ValueError:
            names.add(text)
    return Denied(frozenset(addresses), frozenset(names))


class Core:
    """One broker and all that it works with."""

    def __init__(
        self,
        folder: Path,
        *,
        provider: Provider[Any] | None = None,
        accounts: Mapping[str, Account] = ACCOUNTS,
        hosts: Mapping[str, str] | None = None,
        denied: Denied = NOBODY,
        recheck: float = 5.0,
        stale: float = 900.0,
        deadline: float = 2.0,
        is_shared: bool = False,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self.clock = VirtualClock()
        clock = self.clock.clock()
        self.dns = TableResolver()
        self.sts = CountedSts(self.clock)
        self.metrics = Metrics()
        self.audit_file = folder / "audit.jsonl"
        self.complaints: list[str] = []
        self.audit = Audit(str(self.audit_file), clock=clock, on_error=self.complaints.append)
        self.is_log_moving = True
        """False for a log that takes nothing: then nobody waits for it."""
        self.clock.stand_still_while(lambda: self.is_log_moving and self.audit.waiting > 0)
        self.refused_renewals: list[RoleSession] = []
        self.cache = CredentialCache(
            clock,
            on_renewal_refused=lambda session, _: self.refused_renewals.append(session),
            spread=lambda: 0.0,
            most_entries=most_entries,
        )
        self.identities = Identities(
            self.dns,
            {canonical_address(address): name for address, name in (hosts or {}).items()},
            deadline=deadline,
            stale=stale,
            clock=clock,
        )
        self.judge = Judge(
            "machines",
            provider or roles_by_name(),
            accounts=accounts,
            identities=self.identities,
            role_sessions=RoleSessions(
                signer="AKIAGATEWAY",
                endpoint="eu-central-1",
                partition="aws",
                duration=3600,
                is_shared=is_shared,
                gateway="gateway",
            ),
            denied=denied,
            stale=stale,
            metrics=self.metrics,
            clock=clock,
        )
        self.broker = Broker(
            self.judge,
            recheck=recheck,
            cache=self.cache,
            sts=cast("Sts", self.sts),
            audit=self.audit,
            metrics=self.metrics,
            clock=clock,
        )

    def standing(self, address: str = ADDRESS) -> Standing:
        """Return what is known of a caller."""
        return self.broker.standing(canonical_address(address))

    async def token(self, address: str = ADDRESS) -> None:
        """Ask for a token; whoever gets past the guards gets one, whatever the verdict."""
        await self.broker.prepare(self.standing(address))

    async def role_list(self, address: str = ADDRESS, *, is_v1: bool = False) -> str | int:
        """Ask for the role's name: the name or a status."""
        try:
            return await self.broker.role_name(self.standing(address), improves=is_v1)
        except FederationError as error:
            return _status_of(error)

    async def role(self, role: str = ROLE, address: str = ADDRESS) -> str | int:
        """Ask for a role's credentials: the access key or a status."""
        try:
            return (await self.broker.credentials(self.standing(address), role)).access_key
        except FederationError as error:
            return _status_of(error)

    def head(self, address: str = ADDRESS) -> str | int:
        """Ask what is known without starting anything: the access key or a status."""
        try:
            return self.broker.peek(self.standing(address))[1].access_key
        except FederationError as error:
            return _status_of(error)

    async def round(self, address: str = ADDRESS, *, role: str = ROLE) -> tuple[str | int, str | int]:
        """Ask as an SDK does, for TOKEN, LIST and ROLE; return what the last two got."""
        await self.token(address)
        return await self.role_list(address), await self.role(role, address)

    def records(self) -> list[dict[str, Any]]:
        """Return the audit records, all of them: the log is closed by that."""
        self.audit.close(10)
        text = self.audit_file.read_text("ascii") if self.audit_file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


def _status_of(error: FederationError) -> int:
    return 404 if isinstance(error, Refusal) else 503


@contextmanager
def running_core(folder: Path, **changes: Any) -> Iterator[Core]:
    """Make a core inside a test in virtual time; its audit log is closed with the block."""
    core = Core(folder, **changes)
    try:
        yield core
    finally:
        core.audit.close(10)
