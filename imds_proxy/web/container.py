"""Container credentials: what `AWS_CONTAINER_CREDENTIALS_FULL_URI` and `_RELATIVE_URI` lead to.

The order is fixed: peer, Host, forwarding headers (403), limits (503), path (404), method (405), token (401),
and then the verdict.
"""

from __future__ import annotations

from copy import copy
from enum import StrEnum
from typing import TYPE_CHECKING

from multidict import istr

from imds_proxy.errors import FederationError, Refusal, RefusalKind, Trouble
from imds_proxy.web.admission import Admission, empty_page, path_of
from imds_proxy.web.answer import Answer
from imds_proxy.web.container_pages import ContainerPages, render_error
from imds_proxy.web.tree import split_path

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from aiohttp import web

    from imds_proxy.broker import Broker
    from imds_proxy.clock import Clock
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import IPAddress
    from imds_proxy.web.answer import Page
    from imds_proxy.web.guard import Guard
    from imds_proxy.web.limits import CallerLimits
    from imds_proxy.web.listener import Connection
    from imds_proxy.workload_secrets import WorkloadSecrets
    from imds_proxy.workload_tokens import WorkloadTokens

TOKEN_HEADER = istr("Authorization")

NOT_FOUND = render_error(404, "NotFound", "There is nothing at this path.")
NOT_ALLOWED = render_error(405, "MethodNotAllowed", "Only GET and HEAD are allowed.", Allow="GET, HEAD")
UNAUTHORIZED = render_error(401, "Unauthorized", "The authorization token is missing or not good here.")
FORBIDDEN = render_error(403, "AccessDenied", "There are no credentials for this caller.")
UNAVAILABLE = render_error(503, "ServiceUnavailable", "There are no credentials at the moment.")

PAGE_OF: tuple[tuple[type[FederationError], Page], ...] = ((Refusal, FORBIDDEN), (Trouble, UNAVAILABLE))
"""The one table from errors to answers; the first line that fits counts."""


class ContainerKind(StrEnum):
    """What a path asks for; also the label `path` of the request counter."""

    CREDENTIALS = "container"
    UNKNOWN = "unknown"


class ContainerService:
    """What a listener with `container` serves under one configuration."""

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
        self.broker = broker
        self.admission = Admission(guard, limits, metrics.refusals)
        self._path = split_path(path)
        self._tokens = tokens
        self._secrets = secrets
        self._is_by_workload = is_by_workload
        self._denied = denied
        self._pages = ContainerPages()
        self._requests = metrics.requests.counts
        self._metrics = metrics
        self._clock = clock

    def closed(self) -> ContainerService:
        """Return the same service with nobody let in: its address is no longer configured."""
        service = copy(self)
        service.admission = self.admission.closed()
        return service

    @property
    def guard(self) -> Guard:
        """Who may talk to the listener at all."""
        return self.admission.guard

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
        is_ours = split_path(path_of(request)) == self._path
        kind = ContainerKind.CREDENTIALS if is_ours else ContainerKind.UNKNOWN
        response = self.admission.refuse(request, connection, self)
        if response is None:
            response = Answer(await self._page_for(request, connection, kind))
        self._requests[kind, response.status] += 1
        return response

    def answer_to_garbage(self, status: int, error: BaseException | None) -> Answer:  # noqa: ARG002  any is alike
        """Return the answer to what is no HTTP: aiohttp's status and nothing else."""
        return Answer(empty_page(status))

    async def _page_for(self, request: web.BaseRequest, connection: Connection, kind: ContainerKind) -> Page:
        peer = connection.peer
        assert peer is not None
        if kind is ContainerKind.UNKNOWN:
            return NOT_FOUND
        if request.method not in ("GET", "HEAD"):
            return NOT_ALLOWED
        try:
            workload = None
            if self._tokens is not None:
                workload = await self._workload_of(request, peer, self._tokens)
                if workload is None:
                    has_token = TOKEN_HEADER in request.headers
                    self._metrics.refusals.add(RefusalKind.BAD_TOKEN if has_token else RefusalKind.NO_TOKEN)
                    return UNAUTHORIZED
            standing = self.broker.standing(peer, workload if self._is_by_workload else None)
            if request.method == "HEAD":
                session, credentials = self.broker.peek(standing)
            else:
                session, credentials = await self.broker.role_and_credentials(standing)
        except (Refusal, Trouble) as error:
            self._metrics.count_denial(error)
            return next(page for kind_of, page in PAGE_OF if isinstance(error, kind_of))
        return self._pages.page_of(session, credentials)

    async def _workload_of(
        self, request: web.BaseRequest, peer: IPAddress, tokens: WorkloadTokens
    ) -> str | None:
        """Return which workload asks; None where no good token says it. Raises Trouble: can't tell now."""
        given = request.headers.getall(TOKEN_HEADER, ())
        if len(given) != 1:
            return None
        workload = tokens.workload_of(given[0], peer, self._clock.wall())
        if workload is None and self._secrets is not None:
            workload = await self._secrets.workload_of(given[0], self._clock.monotonic())
        # Where the workload's name decides, a denied one is refused on record, as a denied host is.
        is_revoked = workload in self._denied and not self._is_by_workload
        return None if is_revoked else workload
