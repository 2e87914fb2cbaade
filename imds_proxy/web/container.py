"""Container credentials: what `AWS_CONTAINER_CREDENTIALS_FULL_URI` and `_RELATIVE_URI` lead to.

The order is fixed: peer, Host, forwarding headers (403), limits (503), path (404), method (405), token (401),
and then the verdict.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from imds_proxy.errors import FederationError, Refusal, RefusalKind, Trouble
from imds_proxy.recent import Recent
from imds_proxy.web.answer import Reply
from imds_proxy.web.container_pages import ContainerPages, render_error
from imds_proxy.web.edge.admission import MachineService
from imds_proxy.web.tree import split_path

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from aiohttp import web

    from imds_proxy.broker import Broker
    from imds_proxy.clock import Clock
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import IPAddress
    from imds_proxy.web.answer import Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.guard import Guard
    from imds_proxy.web.edge.limits import CallerLimits
    from imds_proxy.workload_secrets import WorkloadSecrets
    from imds_proxy.workload_tokens import WorkloadTokens

OLD_TOKEN_PAUSE = 3600.0
"""Seconds between two log lines about a workload's token of the old kind."""

_MOST_WARNED = 256
"""Workloads for which that time is remembered."""

_log = logging.getLogger(__name__)

NOT_FOUND = render_error(404, "NotFound", "There is nothing at this path.")
NOT_ALLOWED = render_error(405, "MethodNotAllowed", "Only GET and HEAD are allowed.", Allow="GET, HEAD")
UNAUTHORIZED = render_error(401, "Unauthorized", "The authorization token is missing or not good here.")
FORBIDDEN = render_error(403, "AccessDenied", "There are no credentials for this caller.")
UNAVAILABLE = render_error(503, "ServiceUnavailable", "There are no credentials at the moment.")

PAGE_OF: tuple[tuple[type[FederationError], Page], ...] = ((Refusal, FORBIDDEN), (Trouble, UNAVAILABLE))
"""The one table from errors to answers; the first line that fits counts."""


class _UnauthorizedError(Exception):
    """A request shows no token that counts."""

    def __init__(self, kind: RefusalKind) -> None:
        super().__init__(kind)
        self.kind = kind


class ContainerKind(StrEnum):
    """What a path asks for; also the label `path` of the request counter."""

    CREDENTIALS = "container"
    UNKNOWN = "unknown"


class ContainerService(MachineService[ContainerKind]):
    """What a listener with `container` serves under one configuration."""

    unknown = ContainerKind.UNKNOWN

    def __init__(
        self,
        *,
        guard: Guard,
        broker: Broker,
        path: str,
        tokens: WorkloadTokens | None,
        secrets: WorkloadSecrets | None,
        is_by_workload: bool,
        denied: AbstractSet[str],
        limits: CallerLimits,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Without `tokens` nobody has to show one. `denied` are workloads whose tokens open nothing."""
        super().__init__(guard, limits, metrics)
        self.broker = broker
        self._path = split_path(path)
        self._tokens = tokens
        self._secrets = secrets
        self._is_by_workload = is_by_workload
        self._denied = denied
        self._pages = ContainerPages()
        self._clock = clock
        self._warned: Recent[str, float] = Recent(_MOST_WARNED)
        """When the log last named a workload with a token of the old kind, monotonic seconds."""

    def answer_at_once(self, ask: Ask, connection: Connection) -> Reply | None:
        """Return the answer to a request for credentials; None: something has to be awaited or refused.

        The steps are those of `answer`. Nothing is counted or changed before all of them are taken.
        """
        peer = connection.peer
        if peer is None or ask.method != "GET" or split_path(ask.path) != self._path:
            return None
        if self._objection(ask, connection) is not None:
            return None
        workload = None
        if self._tokens is not None:
            workload = self._signed_workload(ask, peer, self._tokens)
            if workload is None:
                return None
        standing = self.broker.find(peer, workload if self._is_by_workload else None)
        limits, allowance = self._limits, connection.allowance
        if standing is None or not limits.has_request(allowance):
            return None
        found = self.broker.role_and_credentials_at_hand(standing)
        if found is None:
            return None
        limits.take_request(allowance)
        connection.note_granted()
        self._requests[ContainerKind.CREDENTIALS, 200] += 1
        return Reply(self._pages.page_of(*found))

    def _read_path(self, path: str) -> tuple[ContainerKind, ContainerKind]:
        is_ours = split_path(path) == self._path
        kind = ContainerKind.CREDENTIALS if is_ours else ContainerKind.UNKNOWN
        return kind, kind

    async def _answer_admitted(
        self,
        request: web.BaseRequest,  # noqa: ARG002  all of it is in `ask`
        ask: Ask,
        connection: Connection,
        target: ContainerKind,
    ) -> Reply:
        return Reply(await self._page_for(ask, connection, target))

    async def _page_for(self, ask: Ask, connection: Connection, kind: ContainerKind) -> Page:
        peer = connection.peer
        assert peer is not None
        if kind is ContainerKind.UNKNOWN:
            return NOT_FOUND
        if ask.method not in ("GET", "HEAD"):
            return NOT_ALLOWED
        try:
            workload = None
            if self._tokens is not None:
                workload = await self._workload_of(ask, peer, self._tokens)
            standing = self.broker.standing(peer, workload if self._is_by_workload else None)
            if ask.method == "HEAD":
                session, credentials = self.broker.peek(standing)
            else:
                session, credentials = await self.broker.role_and_credentials(standing)
        except _UnauthorizedError as error:
            self._metrics.refusals.add(error.kind)
            return UNAUTHORIZED
        except (Refusal, Trouble) as error:
            self._metrics.count_denial(error)
            return next(page for kind_of, page in PAGE_OF if isinstance(error, kind_of))
        connection.note_granted()
        return self._pages.page_of(session, credentials)

    async def _workload_of(self, ask: Ask, peer: IPAddress, tokens: WorkloadTokens) -> str:
        """Return which workload asks. Raises _UnauthorizedError, and Trouble: can't tell now."""
        if len(ask.authorizations) != 1:
            raise _UnauthorizedError(RefusalKind.BAD_TOKEN if ask.authorizations else RefusalKind.NO_TOKEN)
        claims = tokens.claims_of(ask.authorizations[0], peer, self._clock.wall())
        workload = None if claims is None else claims.workload
        if claims is not None and tokens.is_revoked(claims):
            raise _UnauthorizedError(RefusalKind.REVOKED_TOKEN)
        if claims is None and self._secrets is not None:
            workload = await self._secrets.workload_of(ask.authorizations[0], self._clock.monotonic())
        if workload is None or self._is_denied(workload):
            raise _UnauthorizedError(RefusalKind.BAD_TOKEN)
        if claims is not None and claims.id is None:
            self._note_old_token(workload, peer)
        return workload

    def _signed_workload(self, ask: Ask, peer: IPAddress, tokens: WorkloadTokens) -> str | None:
        """Return which workload asks with a token that we signed, or with a secret that is known already.

        None where more is to be done than that, such as to say that a token is of the old kind.
        """
        if len(ask.authorizations) != 1:
            return None
        workload = None
        claims = tokens.claims_of(ask.authorizations[0], peer, self._clock.wall())
        if claims is not None and claims.id is not None and not tokens.is_revoked(claims):
            workload = claims.workload
        elif claims is None and self._secrets is not None:
            workload = self._secrets.known_workload_of(ask.authorizations[0], self._clock.monotonic())
        return None if workload is None or self._is_denied(workload) else workload

    def _is_denied(self, workload: str) -> bool:
        """Tell whether a workload's tokens open nothing.

        Where the workload's name decides, a denied one is refused on record, as a denied host is.
        """
        return workload in self._denied and not self._is_by_workload

    def _note_old_token(self, workload: str, peer: IPAddress) -> None:
        """Count a token of the old kind, and name its workload in the log, once an hour."""
        self._metrics.old_workload_tokens.add()
        now = self._clock.monotonic()
        warned_at = self._warned.get(workload)
        if warned_at is None or now - warned_at >= OLD_TOKEN_PAUSE:
            self._warned[workload] = now
            _log.warning(
                "the token of %s, shown from %s, is of the old kind, which tokens.key_file signed: "
                "make a new one with imds-proxy token",
                workload,
                peer,
            )
