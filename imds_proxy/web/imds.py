"""The metadata service: one request in, one answer out.

The order is fixed: peer, Host, forwarding headers (403), limits (503), method (405), IMDS token (401), path.
"""

from __future__ import annotations

import logging
from copy import copy
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from imds_proxy.errors import FederationError, OverloadError, Refusal, RefusalKind, Trouble
from imds_proxy.imds_tokens import parse_life
from imds_proxy.web import documents, tree
from imds_proxy.web.admission import Admission, empty_page, path_of
from imds_proxy.web.answer import Answer
from imds_proxy.web.listener import Connection, lower_hop_limit
from imds_proxy.web.metadata import MetadataReader
from imds_proxy.web.tree import Kind, Target, parse_target

if TYPE_CHECKING:
    from imds_proxy.broker import Broker
    from imds_proxy.clock import Clock
    from imds_proxy.imds_tokens import TokenKeys
    from imds_proxy.metadata_parts import TreeSettings
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import IPAddress
    from imds_proxy.standing import Standing
    from imds_proxy.web.answer import Page
    from imds_proxy.web.guard import Guard
    from imds_proxy.web.limits import CallerLimits

TOKEN_HEADER = "X-aws-ec2-metadata-token"
LIFE_HEADER = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
_LIFE_HEADER_BYTES = LIFE_HEADER.encode("ascii")

STATUS_OF: tuple[tuple[type[FederationError], int], ...] = (
    (Refusal, 404),
    (OverloadError, 503),
    (Trouble, 503),
)
"""The one table from errors to statuses; the first line that fits counts."""

_ALLOW_READ = "GET, HEAD"
_ALLOW_TOKEN = "OPTIONS, PUT"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = logging.getLogger(__name__)


class MetadataService:
    """What one listener serves under one configuration."""

    def __init__(
        self,
        *,
        guard: Guard,
        broker: Broker,
        tokens: TokenKeys,
        imds_v1: bool,
        has_credentials: bool,
        list_without_token: bool,
        base_path: str | None,
        hop_limit: int,
        metadata: TreeSettings,
        limits: CallerLimits,
        credential_pages: documents.CredentialPages,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.broker = broker
        self.admission = Admission(guard, limits, metrics.refusals)
        self._tokens = tokens
        self._imds_v1 = imds_v1
        self._has_credentials = has_credentials
        self._list_without_token = list_without_token
        self._base = tree.split_base_path(base_path)
        self._hop_limit = hop_limit
        self._pages = credential_pages
        self._requests = metrics.requests.counts
        self._metrics = metrics
        self._clock = clock
        self._started = clock.wall()
        self._reader = MetadataReader(broker, metadata, shows_roles=has_credentials, started=self._started)

    def closed(self) -> MetadataService:
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
        target = parse_target(path_of(request), self._base)
        response = self.admission.refuse(request, connection, self)
        if response is None:
            response = await self._answer_admitted(request, connection, target)
        self._requests[target.kind, response.status] += 1
        return response

    def answer_to_garbage(self, status: int, error: BaseException | None) -> Answer:  # noqa: ARG002  any is alike
        """Return the answer to what is no HTTP: aiohttp's status and nothing else."""
        return Answer(empty_page(status))

    # --- tokens ------------------------------------------------------------------------------------

    async def _answer_admitted(
        self, request: web.BaseRequest, connection: Connection, target: Target
    ) -> Answer:
        assert connection.peer is not None
        if target.kind is Kind.TOKEN:
            return await self._answer_token(request, connection, connection.peer)
        if request.method not in ("GET", "HEAD"):
            # AWS: a PUT for a token on a dated path is refused, not redirected.
            is_dated_token = target.kind is Kind.DATED_TOKEN and request.method == "PUT"
            return Answer(empty_page(403) if is_dated_token else empty_page(405, _ALLOW_READ))
        life: int | None = None
        given = request.headers.getall(TOKEN_HEADER, ())
        is_list = target.kind is Kind.ROLE_LIST and not target.is_extended
        is_open = self._imds_v1 or (self._list_without_token and is_list)
        if given or not is_open:
            life = self._remaining_life(given, connection.peer)
            if life is None:
                self._metrics.refusals.add(RefusalKind.BAD_TOKEN if given else RefusalKind.NO_TOKEN)
                return Answer(empty_page(401))
        if target.is_iam and not self._has_credentials:
            return self._not_found(target)
        try:
            return await self._answer_read(request, self._standing_of(connection), target, life)
        except (Refusal, Trouble) as error:
            self._metrics.count_denial(error)
            return self._denial(error, target)

    def _remaining_life(self, tokens: list[str] | tuple[str, ...], peer: IPAddress) -> int | None:
        if len(tokens) != 1:
            return None
        return self._tokens.remaining_life(tokens[0], peer, self._clock.wall())

    def _standing_of(self, connection: Connection) -> Standing:
        standing = connection.standing
        if standing is None or not standing.is_current:
            assert connection.peer is not None
            standing = connection.standing = self.broker.standing(connection.peer)
        return standing

    async def _answer_token(
        self, request: web.BaseRequest, connection: Connection, peer: IPAddress
    ) -> Answer:
        if request.method == "OPTIONS":
            return Answer(empty_page(200, _ALLOW_TOKEN))
        if request.method != "PUT":
            return Answer(empty_page(405, _ALLOW_TOKEN))
        if request.transport is not None:
            lower_hop_limit(request.transport, self._hop_limit)
        expects = request.headers.get("Expect", "").lower()
        if expects == "100-continue" and request.version >= HttpVersion11:
            # s3fs sends its empty PUT chunked and waits for this before it ends it.
            await request.writer.write(_CONTINUE)
        asked = request.headers.getall(LIFE_HEADER, ())
        life = parse_life(asked[0]) if len(asked) == 1 else None
        if life is None:
            # Empty: GDAL takes the body of an error for a token.
            return Answer(empty_page(400))
        try:
            await self.broker.prepare(self._standing_of(connection))
        except Exception:  # noqa: BLE001  see below
            # A token tells no verdict, and an error here would make some clients fall back to IMDSv1.
            _log.exception("could not prepare the answer for %s", peer)
        token = self._tokens.issue(peer, life, self._clock.wall())
        return self._ok(token.encode("ascii"), life=life)

    # --- reading -----------------------------------------------------------------------------------

    async def _answer_read(
        self, request: web.BaseRequest, standing: Standing, target: Target, life: int | None
    ) -> Answer:
        if request.method == "HEAD":
            return await self._answer_head(standing, target, life)
        if target.kind is Kind.ROLE:
            credentials = self.broker.credentials_at_hand(standing, target.role)
            if credentials is None:
                credentials = await self.broker.credentials(standing, target.role)
            return _with_life(self._pages.page_of(credentials, is_extended=target.is_extended), life)
        if target.kind is Kind.ROLE_LIST:
            role = await self.broker.role_name(standing, improves=life is None)
            return self._ok(role.encode("ascii"), life=life)
        return await self._answer_metadata(standing, target, life, starts_nothing=False)

    async def _answer_head(self, standing: Standing, target: Target, life: int | None) -> Answer:
        """Answer as GET would by what is known now; aiohttp leaves the body out."""
        if target.kind not in (Kind.ROLE, Kind.ROLE_LIST):
            return await self._answer_metadata(standing, target, life, starts_nothing=True)
        session, credentials = self.broker.peek(standing)
        if target.kind is Kind.ROLE_LIST:
            return self._ok(session.role_name.encode("ascii"), life=life)
        if target.role != session.role_name:
            return self._not_found(target)
        return _with_life(self._pages.page_of(credentials, is_extended=target.is_extended), life)

    async def _answer_metadata(
        self, standing: Standing, target: Target, life: int | None, *, starts_nothing: bool
    ) -> Answer:
        page = await self._reader.page_at(standing, target, starts_nothing=starts_nothing)
        return self._not_found(target) if page is None else _with_life(page, life)

    # --- answers -----------------------------------------------------------------------------------

    def _ok(self, body: bytes, *, life: int | None) -> Answer:
        return _with_life(documents.render_ok(body, self._started), life)

    def _denial(self, error: FederationError, target: Target) -> Answer:
        status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
        return self._not_found(target) if status == 404 else Answer(empty_page(status))

    def _not_found(self, target: Target) -> Answer:
        # GDAL and awscrt take the body of an error below `iam/` for a role's name or a token.
        return Answer(empty_page(404) if target.is_iam else documents.NOT_FOUND_PAGE)


def _with_life(page: Page, life: int | None) -> Answer:
    """Return the page with the token's remaining life, which Go v1 and v2, Ruby and Rust want."""
    return Answer(page) if life is None else Answer(page, b"%s: %d\r\n" % (_LIFE_HEADER_BYTES, life))
