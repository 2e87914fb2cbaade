"""The metadata of one caller: what is found out for a path, and for what it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.errors import Refusal, Trouble
from imds_proxy.metadata.levels import Subject
from imds_proxy.web import documents, leaves, tree
from imds_proxy.web.tree import Kind

if TYPE_CHECKING:
    from imds_proxy.broker import Broker
    from imds_proxy.metadata.user_data import UserData
    from imds_proxy.metadata_parts import TreeSettings
    from imds_proxy.standing import Standing
    from imds_proxy.verdict import Verdict
    from imds_proxy.web.answer import Page
    from imds_proxy.web.tree import Target

USER_DATA = ("user-data",)


class MetadataReader:
    """Finds what stands at a path, for the callers of one provider."""

    def __init__(self, broker: Broker, settings: TreeSettings, *, shows_roles: bool, started: float) -> None:
        """`started` are seconds UTC since 1970: when what never changes is said to have changed last."""
        self._broker = broker
        self._settings = settings
        self._shows_roles = shows_roles
        self._started = started

    async def page_at(self, standing: Standing, target: Target, *, starts_nothing: bool) -> Page | None:
        """Return what GET answers to a path that is no LIST and no ROLE, None where there is nothing.

        With `starts_nothing` it is decided by what is known now. Raises Refusal or Trouble, after 0.85 s at
        the latest, and 2 s later where a file of user-data has to be read.
        """
        if target.kind not in (Kind.METADATA, Kind.IAM):
            return None
        if not target.segments:
            return self._render(tree.VERSION_LISTING)
        below = target.segments[1:]
        if below in ((), USER_DATA):
            return await self._user_data_page(standing, below, starts_nothing=starts_nothing)
        facts = await self._facts_of(standing, target, starts_nothing=starts_nothing)
        body = tree.find(leaves.branch(facts, below[0]), below[1:])
        if body is None and not facts.is_complete:
            # It may be there for this caller: clients take a 404 for an answer and go on without it.
            raise Trouble("the provider gives no answer")
        return None if body is None else self._render(body)

    def _render(self, body: bytes) -> Page:
        return documents.render_ok(body, self._started)

    async def _user_data_page(
        self, standing: Standing, below: tuple[str, ...], *, starts_nothing: bool
    ) -> Page | None:
        user_data = await self._user_data_of(standing, starts_nothing=starts_nothing)
        if not below:
            return self._render(tree.top_listing(has_user_data=user_data is not None))
        if user_data is None:
            return None
        return documents.render_ok(user_data.content, user_data.modified, "application/octet-stream")

    async def _user_data_of(self, standing: Standing, *, starts_nothing: bool) -> UserData | None:
        """Return the caller's user-data: only who has a grant may read it, there may be secrets in it."""
        folder = self._settings.user_data
        if folder is None:
            return None
        if not starts_nothing:
            await self._broker.verdict(standing)
        verdict = self._known_verdict(standing)
        if verdict.outcome == "trouble":
            raise verdict.denial()
        if verdict.grant is None:
            return None
        return await folder.find(_name_of(verdict), standing.address)

    async def _facts_of(self, standing: Standing, target: Target, *, starts_nothing: bool) -> leaves.Facts:
        """Find out what the path needs: the region must wait for no one, a name not for STS."""
        profile: bytes | None = None
        subject = Subject(standing.address)
        is_complete = True
        shows_role = self._shows_roles and tree.shows_role(target.segments)
        if shows_role:
            profile = await self._profile_of(standing, target, starts_nothing=starts_nothing)
        if leaves.shows_identity(target.segments[1:], self._settings.levels):
            if not shows_role and not starts_nothing:
                await self._broker.verdict(standing)
            verdict = self._known_verdict(standing)
            subject = _subject_of(standing, verdict)
            is_complete = verdict.outcome != "trouble"
        return leaves.Facts(
            subject=subject,
            values=self._settings.values.of(subject),
            partition=self._settings.partition,
            started=self._started,
            profile=profile,
            is_complete=is_complete,
        )

    async def _profile_of(self, standing: Standing, target: Target, *, starts_nothing: bool) -> bytes | None:
        """Return `iam/info`; None where the caller has no role to be listed. Raises below `iam/`."""
        try:
            if starts_nothing:
                session, credentials = self._broker.peek(standing)
            else:
                session, credentials = await self._broker.obtain(standing)
        except (Refusal, Trouble):
            if target.is_iam:
                raise
            return None
        return documents.render_profile(session, credentials.received)

    def _known_verdict(self, standing: Standing) -> Verdict:
        """Return the verdict. Raises Trouble while the caller's names are unknown: an instance id made
        without them would change when they come back.
        """
        verdict = standing.verdict
        if verdict is None:
            raise Trouble("nothing is known yet")
        if verdict.outcome == "trouble" and not verdict.names:
            raise verdict.denial()
        return verdict


def _name_of(verdict: Verdict) -> str | None:
    return verdict.names[0] if verdict.names else None


def _subject_of(standing: Standing, verdict: Verdict) -> Subject:
    grant, session = verdict.grant, verdict.session
    return Subject(
        standing.address,
        name=_name_of(verdict),
        role=session.role_name if session else None,
        account=grant.account if grant else None,
        account_id=session.account_id if session else None,
        tags=grant.tags if grant else (),
    )
