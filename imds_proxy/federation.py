"""People and what they may have: their grants, the credentials of one of them, a way into the console.

The machines' counterpart is `broker`. A person may have any number of roles, says which one, and can wait
for seconds: so there are no verdicts to remember, every question goes to the provider.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

from imds_proxy.errors import AWSError, ConfigurationError, Fault, Refusal, Trouble
from imds_proxy.inquiry import ask_logins, ask_provider
from imds_proxy.model import Grant
from imds_proxy.role_answers import join_reasons
from imds_proxy.text import fold_login, visible

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from imds_proxy.cache import CredentialCache, Entry
    from imds_proxy.caller import Person
    from imds_proxy.console import Console
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import Account, Credentials, RoleSession
    from imds_proxy.provider import Provider
    from imds_proxy.role_sessions import RoleSessions
    from imds_proxy.sign_in_threads import SignInThreads
    from imds_proxy.sts import Sts
    from imds_proxy.verdict import Denied

STS_PATIENCE = 30.0
"""Seconds that a person waits for STS: two tries of 12 s and the line in front of them."""

SIGN_IN_PATIENCE = 15.0
"""Seconds that a person waits for a sign-in token, however slowly its bytes come."""


class Federation:
    """Decides about people by what one provider says of them."""

    def __init__(
        self,
        name: str,
        provider: Provider[Any],
        *,
        accounts: Mapping[str, Account],
        denied: Denied,
        role_sessions: RoleSessions,
        cache: CredentialCache,
        sts: Sts,
        console: Console,
        sign_in_threads: SignInThreads,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._provider = provider
        self._accounts = accounts
        self._denied = denied
        self._denied_logins = frozenset(map(fold_login, denied.names))
        self._role_sessions = role_sessions
        self._cache = cache
        self._sts = sts
        self._console = console
        self._sign_in_threads = sign_in_threads
        self._metrics = metrics

    def account_id(self, account: str) -> str | None:
        """Return the 12 digits of an account, None where the settings have no such account."""
        known = self._accounts.get(account)
        return known.id if known is not None else None

    async def grants(self, person: Person) -> frozenset[Grant]:
        """Return all that a person may have. Raises Refusal or Trouble."""
        if person.address in self._denied.addresses or fold_login(person.user) in self._denied_logins:
            raise Refusal(f"{visible(person.user)} is denied")
        if self._denied_logins:
            logins = await ask_logins(self.name, self._provider, person, self._metrics)
            denied = self._denied_logins.intersection(map(fold_login, logins))
            if denied:
                text = f"{visible(person.user)}, whom provider {self.name} knows as {visible(min(denied))}"
                raise Refusal(f"{text}, is denied")
        return await ask_provider(self.name, self._provider, person, self._metrics)

    async def grant(self, person: Person, account: str, role: str) -> Grant:
        """Return the grant of one role, its reasons joined. Raises Refusal when there is none, or Trouble."""
        reasons = {
            grant.reason
            for grant in await self.grants(person)
            if (grant.account, grant.role) == (account, role)
        }
        if not reasons:
            raise Refusal(f"{visible(person.user)} has no role {role!r} in {account!r}")
        return Grant(account, role, join_reasons(reasons))

    def session(self, person: Person, grant: Grant) -> RoleSession:
        """Return what STS is told for a grant.

        Raises ConfigurationError when the settings lack the account, Refusal when IAM can't have the role.
        """
        account = self._accounts.get(grant.account)
        if account is None:
            text = f"is granted to {visible(person.user)} ({grant.reason}), but has no id"
            raise ConfigurationError([Fault("accounts", grant.account, text)])
        if person.is_machine and person.address is not None:
            return self._role_sessions.session_of_address(grant, account, person.user, person.address)
        return self._role_sessions.session_of_person(grant, account, person.user, person.address)

    async def credentials(self, session: RoleSession, *, fresh: bool = False) -> Credentials:
        """Return credentials that live for 25 minutes or more if STS gives them, else what is held.

        One AssumeRole for all who ask meanwhile. With `fresh` STS is asked anew whatever is held. Raises
        Refusal (AccessDenied) or Trouble, after 30 s at the latest.
        """
        entry = self._cache.find(session) or self._cache.entry(session, self._sts, session.session_name)
        if fresh:
            return await self._renewed(entry)
        if not self._cache.is_comfortable(entry):
            flight = self._cache.begin_flight(entry, session.session_name)
            if flight is not None:
                await asyncio.wait((flight,), timeout=STS_PATIENCE)
        credentials = self._cache.usable(entry)
        if credentials is None:
            raise _failure_of(entry)
        return credentials

    async def _renewed(self, entry: Entry) -> Credentials:
        await asyncio.wait((self._cache.insist(entry, entry.caller),), timeout=STS_PATIENCE)
        credentials = self._cache.usable(entry)
        if credentials is None or entry.flight is not None or entry.failure is not None:
            raise _failure_of(entry)
        return credentials

    async def console_url(self, credentials: Credentials, issuer: str, *, user: str) -> str:
        """Return a URL that logs in whoever opens it within 15 minutes: a secret. Raises Trouble.

        `user` is the person who asks: each has a share of the threads.
        """
        try:
            async with asyncio.timeout(SIGN_IN_PATIENCE):
                return await self._sign_in_threads.run(user, lambda: self._sign_in(credentials, issuer))
        except TimeoutError:
            raise AWSError("no sign-in token in time", code="Timeout") from None

    def _sign_in(self, credentials: Credentials, issuer: str) -> str:
        duration = self._console.duration
        if duration is not None and not self._sts.has_long_term_key():
            duration = None
        return self._console.url(credentials, issuer, duration=duration)


def _failure_of(entry: Entry) -> Refusal | Trouble:
    if entry.flight is None and entry.failure is None and entry.credentials is not None:
        text = f"the credentials end at {entry.credentials.expiration}: is the clock of this machine right?"
        return AWSError(f"STS has answered, but {text}", code="EndedCredentials")
    if entry.flight is not None or entry.failure is None:
        return AWSError("STS has not answered in time", code="Timeout")
    # A copy for each who waits: one exception raised on many threads would keep the frames of all of them.
    failure = copy.copy(entry.failure)
    failure.__cause__ = entry.failure.__cause__
    return failure
