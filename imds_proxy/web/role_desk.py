"""What a person may have, asked for and handed out; every hand-out and every no goes on record."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from imds_proxy.errors import ConfigurationError, FederationError, OverloadError, Refusal, Trouble
from imds_proxy.records import person_denial_record, person_hand_out_record
from imds_proxy.web.page import Row
from imds_proxy.web.people_answers import Denial

if TYPE_CHECKING:
    from imds_proxy.audit import Audit
    from imds_proxy.caller import Person
    from imds_proxy.federation import Federation
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import Credentials, Grant, RoleSession

_log = logging.getLogger(__name__)

RECORD_PATIENCE = 5.0
"""Seconds that a person's credentials wait for the record that they go out."""

_NO_RECORD = "The audit log can't be written at the moment; try again in a while"
_UNKNOWN_GRANTS = "What you may access can't be found out at the moment; try again in a while"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to have."""

    person: Person
    caller: str
    """As records name it."""
    account: str
    role: str

    @property
    def words(self) -> str:
        """The role and the account, for a message."""
        return f"role {self.role!r} in account {self.account!r}"


class RoleDesk:
    """Asks the federation, and tells its errors as people may hear them."""

    def __init__(self, federation: Federation, audit: Audit, metrics: Metrics) -> None:
        self._federation = federation
        self._audit = audit
        self._metrics = metrics

    async def rows(self, person: Person, caller: str) -> list[Row]:
        """Return the person's roles, one row for each, sorted. Raises Denial."""
        try:
            grants = await self._federation.grants(person)
        except (Refusal, Trouble) as error:
            self._audit.note_denial(person_denial_record(caller, person.user, error))
            if isinstance(error, Refusal):
                raise Denial(403, "Permission denied") from error
            raise Denial(503, _UNKNOWN_GRANTS) from error
        reasons: dict[tuple[str, str], list[str]] = {}
        for grant in sorted(grants):
            reasons.setdefault((grant.account, grant.role), []).append(grant.reason)
        return [
            Row(account, role, ", ".join(why), self._federation.account_id(account))
            for (account, role), why in reasons.items()
        ]

    async def grant(self, wish: Wish) -> Grant:
        """Return the grant of what somebody wants. Raises Denial."""
        try:
            return await self._federation.grant(wish.person, wish.account, wish.role)
        except Refusal as refusal:
            self._deny(wish, refusal, 403, f"Permission denied: you may not access {wish.words}")
        except Trouble as trouble:
            self._deny(wish, trouble, 503, _UNKNOWN_GRANTS)

    def session(self, wish: Wish, grant: Grant) -> RoleSession:
        """Return what STS is to be told. Raises Denial."""
        try:
            return self._federation.session(wish.person, grant)
        except Refusal as refusal:
            self._deny(wish, refusal, 403, f"Permission denied: you may not access {wish.words}")
        except ConfigurationError as error:
            _log.warning("%s", error)
            self._deny(wish, error, 404, f"ConfigurationError: account {wish.account!r} has no id here")

    async def credentials(self, wish: Wish, grant: Grant, session: RoleSession) -> Credentials:
        """Return credentials of what somebody wants; that they go out is on record. Raises Denial."""
        if self._audit.is_behind:
            self._deny(wish, OverloadError("the audit log can't be written now"), 503, _NO_RECORD, grant)
        try:
            credentials = await self._federation.credentials(session)
        except Refusal as refusal:
            self._deny(wish, refusal, 403, f"Permission denied: AWS refuses {wish.words}", grant)
        except OverloadError as trouble:
            self._deny(wish, trouble, 503, "Too many ask AWS at the moment; try again in a while", grant)
        except Trouble as trouble:
            self._deny(wish, trouble, 502, "Call to AWS failed; try again in a while", grant)
        record = person_hand_out_record(wish.caller, wish.person.user, grant, session, credentials)
        written = asyncio.wrap_future(self._audit.note_hand_out(record))
        await asyncio.wait((written,), timeout=RECORD_PATIENCE)
        if not written.done():
            self._deny(wish, OverloadError("the audit log can't be written now"), 503, _NO_RECORD, grant)
        return credentials

    async def console_url(self, wish: Wish, credentials: Credentials, issuer: str) -> str | None:
        """Return the URL that logs in at the console, None when AWS gives no token for it now."""
        try:
            url = await self._federation.console_url(credentials, issuer, user=wish.person.user)
        except FederationError as error:
            self._metrics.console_urls.add("trouble")
            _log.warning("no console URL for %s, %s: %s", wish.person.user, wish.words, error)
            return None
        self._metrics.console_urls.add("success")
        return url

    def _deny(
        self, wish: Wish, error: FederationError, status: int, message: str, grant: Grant | None = None
    ) -> NoReturn:
        record = person_denial_record(
            wish.caller, wish.person.user, error, account=wish.account, role=wish.role, grant=grant
        )
        self._audit.note_denial(record)
        raise Denial(status, message) from error
