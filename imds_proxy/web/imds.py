"""The metadata service: one request in, one answer out.

The order is fixed: peer, Host, forwarding headers (403), limits (503), method (405), IMDS token (401), path.
"""

from __future__ import annotations

import logging
from hmac import compare_digest
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from imds_proxy.errors import FederationError, OverloadError, Refusal, RefusalKind, Trouble
from imds_proxy.imds_tokens import TOKEN_CHARACTERS, parse_life, remaining_life
from imds_proxy.recent import Recent
from imds_proxy.web import documents, tree
from imds_proxy.web.answer import Reply
from imds_proxy.web.edge.admission import MachineService, empty_page
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
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.guard import Guard
    from imds_proxy.web.edge.limits import CallerLimits

_LIFE_LINE = b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: %d\r\n"

STATUS_OF: tuple[tuple[type[FederationError], int], ...] = (
    (Refusal, 404),
    (OverloadError, 503),
    (Trouble, 503),
)
"""The one table from errors to statuses; the first line that fits counts."""

_ALLOW_READ = "GET, HEAD"
_ALLOW_TOKEN = "OPTIONS, PUT"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AT_ONCE = {Kind.TOKEN: "PUT", Kind.ROLE_LIST: "GET", Kind.ROLE: "GET"}
"""What may be answered at once, and by which method it is asked for."""

_MAX_ROLE_PAGES = 1024
"""Pages with the name of a role that are kept, for each listener."""

_log = logging.getLogger(__name__)


class MetadataService(MachineService[Target]):
    """What one listener serves under one configuration."""

    unknown = Kind.UNKNOWN

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
        super().__init__(guard, limits, metrics)
        self.broker = broker
        self._tokens = tokens
        self._imds_v1 = imds_v1
        self._has_credentials = has_credentials
        self._list_without_token = list_without_token
        self._base = tree.split_base_path(base_path)
        self._hop_limit = hop_limit
        self._pages = credential_pages
        self._role_pages: Recent[str, Page] = Recent(_MAX_ROLE_PAGES)
        self._clock = clock
        self._started = clock.wall()
        self._token_page = documents.render_ok(bytes(TOKEN_CHARACTERS), self._started)
        self._reader = MetadataReader(broker, metadata, shows_roles=has_credentials, started=self._started)

    def answer_at_once(self, ask: Ask, connection: Connection) -> Reply | None:
        """Return the answer to TOKEN, LIST or ROLE; None: something has to be awaited or refused.

        The steps are those of `answer`. Nothing is counted or changed before all of them are taken.
        """
        target = parse_target(ask.path, self._base)
        peer = connection.peer
        if peer is None or ask.method != _AT_ONCE.get(target.kind):
            return None
        if self._objection(ask, connection) is not None:
            return None
        limits, allowance = self._limits, connection.allowance
        standing = connection.standing
        if standing is None or not standing.is_current:
            standing = connection.standing = self.broker.find(peer)
        if standing is None or not limits.has_request(allowance):
            return None
        if target.kind is Kind.TOKEN:
            reply = self._token_at_once(ask, connection, standing)
        elif not self._has_credentials:
            return None
        else:
            reply = self._role_at_once(ask, connection, standing, target)
        if reply is not None:
            limits.take_request(allowance)
            self._requests[target.kind, 200] += 1
        return reply

    def _read_path(self, path: str) -> tuple[Kind, Target]:
        target = parse_target(path, self._base)
        return target.kind, target

    # --- tokens ------------------------------------------------------------------------------------

    async def _answer_admitted(
        self, request: web.BaseRequest, ask: Ask, connection: Connection, target: Target
    ) -> Reply:
        assert connection.peer is not None
        if target.kind is Kind.TOKEN:
            return await self._answer_token(request, ask, connection, connection.peer)
        if ask.method not in ("GET", "HEAD"):
            # AWS: a PUT for a token on a dated path is refused, not redirected.
            is_dated_token = target.kind is Kind.DATED_TOKEN and ask.method == "PUT"
            return Reply(empty_page(403) if is_dated_token else empty_page(405, _ALLOW_READ))
        life = self._remaining_life(ask, connection, connection.peer)
        if life is None and (ask.tokens or not self._is_open(target)):
            self._metrics.refusals.add(RefusalKind.BAD_TOKEN if ask.tokens else RefusalKind.NO_TOKEN)
            return Reply(empty_page(401))
        if target.is_iam and not self._has_credentials:
            return self._not_found(target)
        try:
            reply = await self._answer_read(ask, self._standing_of(connection), target, life)
        except (Refusal, Trouble) as error:
            self._metrics.count_denial(error)
            return self._denial(error, target)
        if target.kind in (Kind.ROLE, Kind.ROLE_LIST):
            connection.note_granted()
        return reply

    def _is_open(self, target: Target) -> bool:
        """Tell whether a path may be read without a token."""
        is_list = target.kind is Kind.ROLE_LIST and not target.is_extended
        return self._imds_v1 or (self._list_without_token and is_list)

    def _remaining_life(self, ask: Ask, connection: Connection, peer: IPAddress) -> int | None:
        """Return how many seconds the token of a request is still good; None without a good one."""
        if len(ask.tokens) != 1:
            return None
        token = ask.tokens[0]
        now = self._clock.wall()
        known = connection.verified_token
        if known is not None and token.isascii() and compare_digest(known[0], token):
            return remaining_life(known[1], now)
        end = self._tokens.end_of(token, peer)
        if end is None:
            return None
        connection.verified_token = token, end
        return remaining_life(end, now)

    def _standing_of(self, connection: Connection) -> Standing:
        standing = connection.standing
        if standing is None or not standing.is_current:
            assert connection.peer is not None
            standing = connection.standing = self.broker.standing(connection.peer)
        return standing

    async def _answer_token(
        self, request: web.BaseRequest, ask: Ask, connection: Connection, peer: IPAddress
    ) -> Reply:
        if ask.method == "OPTIONS":
            return Reply(empty_page(200, _ALLOW_TOKEN))
        if ask.method != "PUT":
            return Reply(empty_page(405, _ALLOW_TOKEN))
        connection.lower_hop_limit(self._hop_limit)
        expects = request.headers.get("Expect", "").lower()
        if expects == "100-continue" and request.version >= HttpVersion11:
            # s3fs sends its empty PUT chunked and waits for this before it ends it.
            await request.writer.write(_CONTINUE)
        life = _wanted_life(ask)
        if life is None:
            # Empty: GDAL takes the body of an error for a token.
            return Reply(empty_page(400))
        try:
            await self.broker.prepare(self._standing_of(connection))
        except Exception:  # noqa: BLE001  see below
            # A token tells no verdict, and an error here would make some clients fall back to IMDSv1.
            _log.exception("could not prepare the answer for %s", peer)
        return self._token_reply(connection, peer, life)

    def _token_at_once(self, ask: Ask, connection: Connection, standing: Standing) -> Reply | None:
        life = _wanted_life(ask)
        if life is None or not self.broker.prepare_at_once(standing):
            return None
        connection.lower_hop_limit(self._hop_limit)
        return self._token_reply(connection, standing.address, life)

    def _token_reply(self, connection: Connection, peer: IPAddress, life: int) -> Reply:
        now = self._clock.wall()
        token = self._tokens.issue(peer, life, now)
        connection.verified_token = token, int(now) + life
        return _with_life(self._token_page.with_body(token.encode("ascii")), life)

    # --- reading -----------------------------------------------------------------------------------

    def _role_at_once(
        self, ask: Ask, connection: Connection, standing: Standing, target: Target
    ) -> Reply | None:
        life = self._remaining_life(ask, connection, standing.address)
        if life is None and (ask.tokens or not self._is_open(target)):
            return None
        if target.kind is Kind.ROLE:
            credentials = self.broker.credentials_at_hand(standing, target.role)
            if credentials is None:
                return None
            page = self._pages.page_of(credentials, is_extended=target.is_extended)
        else:
            role = self.broker.role_name_at_hand(standing, improves=life is None)
            if role is None:
                return None
            page = self._role_page(role)
        connection.note_granted()
        return _with_life(page, life)

    async def _answer_read(self, ask: Ask, standing: Standing, target: Target, life: int | None) -> Reply:
        if ask.method == "HEAD":
            return await self._answer_head(standing, target, life)
        if target.kind is Kind.ROLE:
            credentials = await self.broker.credentials(standing, target.role)
            return _with_life(self._pages.page_of(credentials, is_extended=target.is_extended), life)
        if target.kind is Kind.ROLE_LIST:
            role = await self.broker.role_name(standing, improves=life is None)
            return _with_life(self._role_page(role), life)
        return await self._answer_metadata(standing, target, life, starts_nothing=False)

    async def _answer_head(self, standing: Standing, target: Target, life: int | None) -> Reply:
        """Answer as GET would by what is known now; the body is left out at the end."""
        if target.kind not in (Kind.ROLE, Kind.ROLE_LIST):
            return await self._answer_metadata(standing, target, life, starts_nothing=True)
        session, credentials = self.broker.peek(standing)
        if target.kind is Kind.ROLE_LIST:
            return _with_life(self._role_page(session.role_name), life)
        if target.role != session.role_name:
            return self._not_found(target)
        return _with_life(self._pages.page_of(credentials, is_extended=target.is_extended), life)

    async def _answer_metadata(
        self, standing: Standing, target: Target, life: int | None, *, starts_nothing: bool
    ) -> Reply:
        page = await self._reader.page_at(standing, target, starts_nothing=starts_nothing)
        return self._not_found(target) if page is None else _with_life(page, life)

    # --- answers -----------------------------------------------------------------------------------

    def _role_page(self, role: str) -> Page:
        page = self._role_pages.get(role)
        if page is None:
            page = self._role_pages[role] = documents.render_ok(role.encode("ascii"), self._started)
        return page

    def _denial(self, error: FederationError, target: Target) -> Reply:
        status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
        return self._not_found(target) if status == 404 else Reply(empty_page(status))

    def _not_found(self, target: Target) -> Reply:
        # GDAL and awscrt take the body of an error below `iam/` for a role's name or a token.
        return Reply(empty_page(404) if target.is_iam else documents.NOT_FOUND_PAGE)


def _wanted_life(ask: Ask) -> int | None:
    return parse_life(ask.lives[0]) if len(ask.lives) == 1 else None


def _with_life(page: Page, life: int | None) -> Reply:
    """Return the page with the token's remaining life, which Go v1 and v2, Ruby and Rust want."""
    return Reply(page) if life is None else Reply(page, _LIFE_LINE % life)
