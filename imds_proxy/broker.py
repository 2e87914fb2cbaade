"""The decision: which one role a caller may have, and the credentials for it, if they can be had in time.

A caller asks three things in a row. TOKEN starts the work and says nothing. LIST names the role only when
its credentials are at hand, because clients crash on an error at ROLE. ROLE hands them out.
Whatever is under way belongs to the caller's address, not to a connection, and goes on when the caller
hangs up.
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING

from imds_proxy import freshness
from imds_proxy.caller import NEVER
from imds_proxy.errors import LateError, OverloadError, Refusal, RefusalKind, Trouble
from imds_proxy.records import denial_record, hand_out_record
from imds_proxy.standing import Standing, Standings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.audit import Audit
    from imds_proxy.cache import CredentialCache, Entry
    from imds_proxy.clock import Clock
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import Credentials, IPAddress, RoleSession
    from imds_proxy.sts import Sts
    from imds_proxy.verdict import Judge, Verdict

TOKEN_HOLD = 0.4
"""Seconds that a TOKEN waits for its caller's verdict and credentials; Go v2 gives up at 0.5."""

ANSWER_HOLD = 0.85
"""Seconds that a LIST or ROLE waits for what is not there yet; most clients give up at 1.0."""

NAMED_MEMORY = 60.0
"""Seconds for which a role that LIST named is good for ROLE."""

_CANT_RECORD = "the audit log can't be written now, so no new key is handed out"


class Broker:
    """Decides for the callers of one provider."""

    def __init__(
        self,
        judge: Judge,
        *,
        recheck: float,
        cache: CredentialCache,
        sts: Sts,
        audit: Audit,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.judge = judge
        self._recheck = recheck
        self._cache = cache
        self._sts = sts
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._standings = Standings()
        self._flights: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """How many callers are known."""
        return len(self._standings)

    def standing(self, address: IPAddress, workload: str | None = None) -> Standing:
        """Return what is known of the caller at `address`, or of the workload that asks from there."""
        return self._standings.of(address, workload)

    def find(self, address: IPAddress, workload: str | None = None) -> Standing | None:
        """Return what is known of a caller, None: nothing."""
        return self._standings.find(address, workload)

    def known(self) -> Iterator[Standing]:
        """Yield what is known of each caller."""
        return self._standings.current()

    def forget(self, standing: Standing) -> None:
        """Forget what is known of one caller, the role that LIST has named included.

        A decision under way goes on for those who wait for it, and counts for nobody else.
        """
        self._standings.drop(standing)

    def retire(self) -> None:
        """Forget all verdicts: another broker decides from now on."""
        self._standings.retire()

    async def close(self) -> None:
        """Cancel the decisions under way."""
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    # --- what a caller asks ------------------------------------------------------------------------

    async def prepare(self, standing: Standing) -> None:
        """TOKEN: bring verdict and credentials up to date; return then, or after 0.4 s."""
        deadline = self._clock.monotonic() + TOKEN_HOLD
        await self._bring_verdict(standing, self._clock.monotonic() - self._recheck, deadline)
        entry = self._current_entry(standing)
        if entry is not None and self._sts.is_loaded:
            # While boto3 is still being imported a hold would only make a restart look longer.
            await self._improve_credentials(standing, entry, deadline)

    def prepare_at_once(self, standing: Standing) -> bool:
        """TOKEN, the common case: tell whether all is up to date; False changes nothing."""
        if not self._has_fresh_verdict(standing, self._clock.monotonic() - self._recheck):
            return False
        verdict = standing.verdict
        if verdict is None or verdict.session is None:
            return True
        entry = self._cache.find(verdict.session)
        if entry is None or not self._cache.is_comfortable(entry):
            return False
        self._cache.renew_if_due(entry)
        return True

    async def role_name(self, standing: Standing, *, improves: bool = False) -> str:
        """LIST: return the name of the caller's role, whose credentials are then at hand.

        With `improves` (an IMDSv1 caller, who sends no TOKEN) the identity is looked up again and a renewal
        that is overdue is waited for as at TOKEN. Raises Refusal or Trouble, after 0.85 s at the latest.
        """
        verdict, session, entry, _ = await self._offer_at_once(standing, improves=improves)
        return self._name_role(standing, verdict, session, entry)

    def role_name_at_hand(self, standing: Standing, *, improves: bool = False) -> str | None:
        """LIST, the common case: return the role's name if nothing need be asked; None changes nothing."""
        offer = self._offer_at_hand(standing, improves=improves)
        if offer is None:
            return None
        verdict, session, entry, _ = offer
        return self._name_role(standing, verdict, session, entry)

    def _name_role(self, standing: Standing, verdict: Verdict, session: RoleSession, entry: Entry) -> str:
        standing.named_entry = entry
        standing.named_role = session.role_name
        standing.named_verdict = verdict
        standing.named_at = self._clock.monotonic()
        return session.role_name

    def credentials_at_hand(self, standing: Standing, role: str) -> Credentials | None:
        """ROLE, the common case: return credentials if nothing need be asked nor recorded; None changes
        nothing.
        """
        entry, credentials = self._at_hand(standing, role)
        if entry is None or credentials is None or standing.handed_key != credentials.access_key:
            return None
        self._cache.renew_if_due(entry)
        return credentials

    async def credentials(self, standing: Standing, role: str) -> Credentials:
        """ROLE: return the credentials of the caller's role, once it is on record that they go out.

        Raises Refusal or Trouble, after 0.85 s at the latest.
        """
        deadline = self._clock.monotonic() + ANSWER_HOLD
        try:
            entry, credentials = self._at_hand(standing, role)
            if entry is not None and credentials is not None:
                self._cache.renew_if_due(entry)
                verdict = standing.verdict
                if verdict is None or verdict.session != entry.session:
                    # Since LIST named the role, trouble or another verdict has come up.
                    verdict = standing.named_verdict
            else:
                verdict, session = await self._granted(standing, deadline)
                if session.role_name != role:
                    text = f"asked for the role {role!r}, has {session.role_name}"
                    raise Refusal(text, kind=RefusalKind.OTHER_ROLE)
                entry = standing.entry = self._cache.entry(session, self._sts, standing.address)
                credentials = await self._offer(standing, verdict, entry, deadline)
            await self._record_hand_out(standing, verdict, credentials, deadline)
        except (Refusal, Trouble) as error:
            self._note_denial(standing, error)
            raise
        return credentials

    def _at_hand(self, standing: Standing, role: str) -> tuple[Entry | None, Credentials | None]:
        """Return the credentials that ROLE may have without asking anybody, and where they are held."""
        now = self._clock.monotonic()
        if standing.named_role == role and now - standing.named_at <= NAMED_MEMORY:
            entry, least = standing.named_entry, freshness.LAST_AFTER_LIST
        else:
            verdict, entry, least = standing.verdict, standing.entry, freshness.LAST_MINUTE
            if verdict is None or verdict.session is None or now >= verdict.fresh_until:
                return None, None
            if verdict.session.role_name != role:
                return None, None
        if entry is None:
            return None, None
        return entry, self._cache.usable(entry, least=least)

    async def role_and_credentials(self, standing: Standing) -> tuple[RoleSession, Credentials]:
        """Return the caller's role and credentials: all that a container's client asks for, in one go.

        The identity is looked up again and an overdue renewal waited for as at TOKEN. Raises Refusal or
        Trouble, after 0.85 s at the latest.
        """
        deadline = self._clock.monotonic() + ANSWER_HOLD
        verdict, session, _, credentials = await self._offer_at_once(standing, improves=True)
        try:
            await self._record_hand_out(standing, verdict, credentials, deadline)
        except Trouble as error:
            self._note_denial(standing, error)
            raise
        return session, credentials

    def role_and_credentials_at_hand(self, standing: Standing) -> tuple[RoleSession, Credentials] | None:
        """Return the same if nothing need be asked nor recorded, the common case; None changes nothing."""
        offer = self._offer_at_hand(standing, improves=True, is_hand_out=True)
        if offer is None:
            return None
        _, session, _, credentials = offer
        return session, credentials

    async def verdict(self, standing: Standing) -> Verdict:
        """Return what is decided about the caller, without waiting for STS. Raises Trouble after 0.85 s."""
        return await self._fresh_verdict(standing, self._clock.monotonic() + ANSWER_HOLD)

    async def obtain(self, standing: Standing) -> tuple[RoleSession, Credentials]:
        """Return the caller's role and credentials without noting that they were named or handed out.

        Raises Refusal or Trouble, after 0.85 s at the latest.
        """
        deadline = self._clock.monotonic() + ANSWER_HOLD
        _, session = await self._granted(standing, deadline)
        entry = self._cache.entry(session, self._sts, standing.address)
        return session, await self._held(standing, entry, deadline)

    def peek(self, standing: Standing) -> tuple[RoleSession, Credentials]:
        """Return what `obtain` would return, starting nothing and waiting for nothing (HEAD)."""
        verdict = standing.verdict
        if verdict is None or self._clock.monotonic() >= self._end_of(standing):
            raise Trouble("nothing is known yet")
        if verdict.session is None:
            raise verdict.denial()
        entry = self._cache.find(verdict.session)
        credentials = self._cache.usable(entry) if entry is not None else None
        if credentials is None:
            raise Trouble("no credentials are at hand")
        return verdict.session, credentials

    # --- the verdict -------------------------------------------------------------------------------

    def _end_of(self, standing: Standing) -> float:
        """Return until when (monotonic seconds) the verdict counts; longer while a look-up is under way."""
        verdict = standing.verdict
        if verdict is None:
            return NEVER
        if standing.flight is not None:
            return max(verdict.fresh_until, verdict.serve_until)
        return verdict.fresh_until

    async def _fresh_verdict(self, standing: Standing, deadline: float, not_before: float = NEVER) -> Verdict:
        await self._bring_verdict(standing, not_before, deadline)
        verdict = standing.verdict
        if verdict is None or self._clock.monotonic() >= self._end_of(standing):
            raise LateError("no verdict in time")
        return verdict

    async def _granted(
        self, standing: Standing, deadline: float, not_before: float = NEVER
    ) -> tuple[Verdict, RoleSession]:
        verdict = await self._fresh_verdict(standing, deadline, not_before)
        if verdict.session is None:
            raise verdict.denial()
        return verdict, verdict.session

    async def _bring_verdict(self, standing: Standing, not_before: float, deadline: float) -> None:
        """See to it that the verdict is fresh and not from before `not_before`, or that one is under way."""
        if self._has_fresh_verdict(standing, not_before):
            return
        now = self._clock.monotonic()
        verdict = standing.verdict
        standing.not_before = max(standing.not_before, not_before)
        if standing.flight is None:
            standing.flight = asyncio.get_running_loop().create_task(self._decide_and_go(standing))
            standing.flight_began_at = now
            self._flights.add(standing.flight)
            standing.flight.add_done_callback(self._flights.discard)
        if verdict is not None and verdict.session is not None and now < verdict.serve_until:
            # An earlier grant can serve, so there is no need to try a client's patience more than once.
            deadline = min(deadline, standing.flight_began_at + TOKEN_HOLD)
        await self._wait(standing.flight, deadline)

    def _has_fresh_verdict(self, standing: Standing, not_before: float) -> bool:
        """Tell whether the verdict counts, and rests on nothing that was asked before `not_before`."""
        verdict = standing.verdict
        if verdict is None or self._clock.monotonic() >= verdict.fresh_until:
            return False
        is_certain = verdict.session is not None and not verdict.is_stale
        return verdict.asked_at >= not_before or not is_certain

    async def _decide_and_go(self, standing: Standing) -> None:
        """Decide anew, put the verdict into force and start what it needs; twice if asked for more."""
        try:
            for _ in range(2):
                verdict = await self.judge.decide(standing.address, standing.not_before, standing.workload)
                self._put_in_force(standing, verdict)
                if verdict.asked_at >= standing.not_before or verdict.session is None:
                    break
        finally:
            standing.flight = None

    def _put_in_force(self, standing: Standing, verdict: Verdict) -> None:
        self._metrics.verdicts.add("stale" if verdict.is_stale else verdict.outcome)
        if verdict.is_stale and not (standing.verdict and standing.verdict.is_stale):
            # The audit log shall say that keys went out on an old name, even keys that went out before.
            standing.handed_key = standing.recording = None
        standing.verdict = verdict
        if standing.named_verdict is not None and _contradicts(verdict, standing.named_verdict):
            standing.named_role = standing.named_entry = standing.named_verdict = None
        self._standings.file(standing)
        if verdict.session is None:
            standing.entry = None
            return
        entry = standing.entry = self._cache.entry(verdict.session, self._sts, standing.address)
        if self._cache.usable(entry) is None:
            self._begin_flight(standing, entry)

    # --- the credentials ---------------------------------------------------------------------------

    def _current_entry(self, standing: Standing) -> Entry | None:
        verdict = standing.verdict
        if verdict is None or verdict.session is None or self._clock.monotonic() >= self._end_of(standing):
            return None
        return self._cache.entry(verdict.session, self._sts, standing.address)

    def _begin_flight(self, standing: Standing, entry: Entry) -> asyncio.Task[None] | None:
        is_known = standing.handed_key is not None
        return self._cache.begin_flight(entry, standing.address, is_known=is_known)

    async def _improve_credentials(self, standing: Standing, entry: Entry, deadline: float) -> None:
        """Wait for credentials that live for 25 minutes, starting a renewal for that if STS may be asked."""
        if self._cache.is_comfortable(entry):
            self._cache.renew_if_due(entry)
            return
        flight = self._begin_flight(standing, entry)
        if flight is not None:
            await self._wait(flight, deadline)

    async def _offer_at_once(
        self, standing: Standing, *, improves: bool
    ) -> tuple[Verdict, RoleSession, Entry, Credentials]:
        """Return what the caller may have now. Raises Refusal or Trouble, which is then on record."""
        deadline = self._clock.monotonic() + ANSWER_HOLD
        try:
            not_before = self._clock.monotonic() - self._recheck if improves else NEVER
            verdict, session = await self._granted(standing, deadline, not_before)
            entry = standing.entry = self._cache.entry(session, self._sts, standing.address)
            if improves:
                patience = min(deadline, self._clock.monotonic() + TOKEN_HOLD)
                await self._improve_credentials(standing, entry, patience)
            credentials = await self._offer(standing, verdict, entry, deadline)
        except (Refusal, Trouble) as error:
            self._note_denial(standing, error)
            raise
        return verdict, session, entry, credentials

    def _offer_at_hand(
        self, standing: Standing, *, improves: bool, is_hand_out: bool = False
    ) -> tuple[Verdict, RoleSession, Entry, Credentials] | None:
        """Return what `_offer_at_once` would return without waiting; None changes nothing."""
        not_before = self._clock.monotonic() - self._recheck if improves else NEVER
        verdict = standing.verdict
        if verdict is None or verdict.session is None or not self._has_fresh_verdict(standing, not_before):
            return None
        entry = self._cache.find(verdict.session)
        if entry is None or (improves and not self._cache.is_comfortable(entry)):
            return None
        credentials = self._cache.usable(entry)
        if credentials is None:
            return None
        is_news = standing.handed_key != credentials.access_key
        if is_news and (is_hand_out or self._audit.is_behind):
            return None
        standing.entry = entry
        self._cache.renew_if_due(entry)
        return verdict, verdict.session, entry, credentials

    async def _offer(
        self, standing: Standing, verdict: Verdict, entry: Entry, deadline: float
    ) -> Credentials:
        credentials = await self._held(standing, entry, deadline)
        if standing.verdict is not None and _contradicts(standing.verdict, verdict):
            raise Trouble("the caller's name changed meanwhile")
        if self._audit.is_behind and standing.handed_key != credentials.access_key:
            raise OverloadError(_CANT_RECORD)
        return credentials

    async def _held(self, standing: Standing, entry: Entry, deadline: float) -> Credentials:
        credentials = self._cache.usable(entry)
        if credentials is not None:
            self._cache.renew_if_due(entry)
            return credentials
        flight = self._begin_flight(standing, entry)
        if flight is not None:
            await self._wait(flight, deadline)
            credentials = self._cache.usable(entry)
            if credentials is not None:
                return credentials
        if entry.flight is not None or entry.failure is None:
            raise LateError("STS has not answered in time")
        # A copy: raised itself, it would keep the frames of this request alive, as long as it is remembered.
        raise copy(entry.failure)

    async def _wait(self, flight: asyncio.Future[None], deadline: float) -> None:
        remaining = deadline - self._clock.monotonic()
        if remaining > 0:
            await asyncio.wait((flight,), timeout=remaining)

    # --- the records -------------------------------------------------------------------------------

    async def _record_hand_out(
        self, standing: Standing, verdict: Verdict | None, credentials: Credentials, deadline: float
    ) -> None:
        """Return once it is on record that the credentials go to the caller; at once if it is already.

        Raises Trouble when that is not so in time. The record is written nevertheless, and the next request
        finds it.
        """
        key = credentials.access_key
        if standing.handed_key == key:
            return
        recording = standing.recording
        if recording is None or recording[0] != key:
            if self._audit.is_behind:
                raise OverloadError(_CANT_RECORD)
            record = hand_out_record(standing.address, verdict, credentials, workload=standing.workload)
            recording = key, asyncio.wrap_future(self._audit.note_hand_out(record))
            standing.recording = recording
        await self._wait(recording[1], deadline)
        if not recording[1].done():
            raise OverloadError(_CANT_RECORD)
        if standing.verdict is not None and verdict is not None and _contradicts(standing.verdict, verdict):
            raise Trouble("the caller's name changed meanwhile")
        if standing.recording is recording:
            standing.handed_key, standing.recording = key, None
            self._metrics.hand_outs.add()

    def _note_denial(self, standing: Standing, error: Refusal | Trouble) -> None:
        record = denial_record(standing.address, standing.verdict, error, workload=standing.workload)
        self._audit.note_denial(record)


def _contradicts(verdict: Verdict, earlier: Verdict) -> bool:
    """Tell whether what was said is over: the address has changed hands, lost its name or is denied."""
    return verdict.kind is RefusalKind.DENIED or (
        verdict.outcome != "trouble" and verdict.names != earlier.names
    )
