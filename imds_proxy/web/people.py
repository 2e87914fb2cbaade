"""HTTP for people: the API of the old AWS Federation Proxy, and the page. One request in, one answer out.

The order is fixed: peer (403), Host (403), limits (503), path (404), method (405), another site (403), who is
asking (401), what they may have (403), callbackurl (400), the account's id (404). No provider hears of a
request before it is known who is asking, and no AWS before all of it.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp.http_exceptions import InvalidHeader

from imds_proxy.errors import Refusal, RefusalKind, Trouble
from imds_proxy.records import person_denial_record
from imds_proxy.web import page
from imds_proxy.web.callback_urls import CallbackUrls
from imds_proxy.web.cross_site import Fetch, own_origins
from imds_proxy.web.edge.budgets import PEOPLE
from imds_proxy.web.edge.guard import host_of
from imds_proxy.web.identity import NotIdentified
from imds_proxy.web.local_user import LocalUser
from imds_proxy.web.login_throttle import LoginThrottled
from imds_proxy.web.origins import split_origin
from imds_proxy.web.page_posts import read_post
from imds_proxy.web.page_tokens import PAGE_TOKEN_LIFE, process_page_tokens
from imds_proxy.web.peer import Peer, peer_of
from imds_proxy.web.people_answers import (
    JSON,
    STRICT_TRANSPORT,
    TEXT,
    Denial,
    accounts_document,
    answer_to_denial,
    answer_with,
    answer_with_json,
    credential_document,
)
from imds_proxy.web.people_paths import PeopleKind, PeopleTarget, authority_of, is_name, parse_people_target
from imds_proxy.web.role_desk import RoleDesk, Wish
from imds_proxy.web.tree import split_base_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from imds_proxy.audit import Audit
    from imds_proxy.caller import Identities, Person
    from imds_proxy.clock import Clock
    from imds_proxy.federation import Federation
    from imds_proxy.metrics import Metrics
    from imds_proxy.model import Credentials
    from imds_proxy.web.answer import Answer, Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.guard import Guard
    from imds_proxy.web.edge.limits import CallerLimits
    from imds_proxy.web.identity import SignOn

_LONGEST_NOTE = 200
_CONTROL_IN_HEADER = re.compile("Invalid header value|Missing expected (?:CR|LF) after header value")


@dataclass(slots=True)
class _Visit:
    """One request, and what has come to light about it so far."""

    request: web.BaseRequest
    connection: Connection
    target: PeopleTarget
    peer: Peer
    user: str | None = None

    @property
    def is_head(self) -> bool:
        return self.request.method == "HEAD"


class PeopleService:
    """What one listener for people serves under one configuration."""

    bounds = PEOPLE

    def __init__(
        self,
        guard: Guard,
        federation: Federation,
        sign_on: SignOn,
        identities: Identities,
        base_path: str | None,
        public_url: str | None,
        callback_urls: Sequence[str],
        limits: CallerLimits,
        audit: Audit,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.guard = guard
        self.is_open = True
        self._desk = RoleDesk(federation, audit, metrics)
        self._sign_on = sign_on
        self._identities = identities
        self._base = split_base_path(base_path)
        self._public_url = public_url or ""
        found = split_origin(self._public_url)
        self._public = found[0] if found is not None else None
        self._callback_urls = CallbackUrls(callback_urls)
        self._limits = limits
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._page_tokens = process_page_tokens()

    def closed(self) -> PeopleService:
        """Return the same service with nobody let in: its address is no longer configured."""
        service = copy(self)
        service.guard = replace(self.guard, callers=())
        service.is_open = False
        return service

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
        target = self._target_of(request.raw_path)
        visit = _Visit(request, connection, target, peer_of(request.transport, connection.peer))
        try:
            response = await self._answer(visit)
        except Denial as denial:
            is_page = target.kind is PeopleKind.PAGE
            response = answer_to_denial(denial, user=visit.user, is_page=is_page)
        if visit.peer.is_encrypted:
            response.add_line(STRICT_TRANSPORT)
        self._metrics.people_requests.counts[target.kind, response.status] += 1
        return response

    def admits(self, connection: Connection) -> bool:
        """Tell whether the peer of a connection may talk to the listener at all."""
        if not self.is_open:
            return False
        peer = connection.peer
        return connection.is_local or (peer is not None and self.guard.admits_peer(peer))

    def turn_away(self, kind: RefusalKind) -> Page:
        """Return the page for a peer that is turned away before it is read, and count it."""
        is_over = kind is RefusalKind.OVER_LIMIT
        page = answer_to_denial(
            _too_many() if is_over else Denial(403, "Permission denied: not from here")
        ).page
        self._metrics.people_requests.counts[PeopleKind.UNKNOWN, page.status] += 1
        return page

    def page_for_garbage(self, status: int, error: BaseException | None) -> Page:
        """Return the page for what is not HTTP: a status without a body.

        401 where a header holds what none may hold (RFC 9110 section 5.5): it might say who is asking.
        """
        # aiohttp's parser in Python raises the one, that in C has a message; it tells CR and LF apart.
        is_of_header = isinstance(error, InvalidHeader) or _CONTROL_IN_HEADER.search(str(error))
        return answer_with(401 if is_of_header else status, b"", TEXT).page

    def answer_at_once(self, ask: Ask, connection: Connection) -> None:
        """Return None: for people everything is looked up anew."""

    def _target_of(self, raw: str) -> PeopleTarget:
        target = parse_people_target(raw, self._base)
        if target.kind is PeopleKind.UNKNOWN and isinstance(self._sign_on, LocalUser):
            # Whoever runs the commands for people can't read the settings. No proxy stands in front of such a
            # socket, so there is none whose rules go by the path.
            return parse_people_target(raw)
        return target

    async def _answer(self, visit: _Visit) -> Answer:
        self._check_host(visit)
        self._check_limits(visit)
        _check_method(visit)
        if visit.target.kind is PeopleKind.STATUS:
            return answer_with_json({"status": "200", "message": "OK"})
        self._check_site(visit)
        if visit.target.kind is PeopleKind.ASSET:
            return _asset(visit.target.asset)
        if visit.target.kind is PeopleKind.BARE_PAGE:
            return self._redirect_to_page(visit)
        visit.user = await self._identify(visit)
        return await self._serve(visit, self._identities.person(visit.user, visit.peer.address))

    # --- before anybody is asked -------------------------------------------------------------------

    def _check_host(self, visit: _Visit) -> None:
        authority = authority_of(visit.request.raw_path)
        hosts = visit.request.headers.getall("Host", ())
        if not self._is_ours(hosts, visit) or (
            authority is not None and not self._is_ours([authority], visit)
        ):
            raise Denial(403, "Permission denied: this is not the host that was asked for")

    def _is_ours(self, hosts: Sequence[str], visit: _Visit) -> bool:
        """Tell whether Host names us: a name that anybody can make lead here (DNS rebinding) does not."""
        host = host_of(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            return False
        if host in self.guard.hosts or (self._public is not None and host == self._public.host):
            return True
        if visit.peer.is_local:
            return _names_this_machine(host)
        return host == visit.connection.local_host

    def _check_limits(self, visit: _Visit) -> None:
        if not self._limits.allow_request(visit.connection.allowance):
            raise _too_many()

    def _check_site(self, visit: _Visit) -> None:
        request, kind = visit.request, visit.target.kind
        fetch = Fetch.of(request.headers)
        host = request.headers["Host"].strip()
        own = own_origins(host, is_encrypted=visit.peer.is_encrypted, public=self._public)
        is_page = kind in (PeopleKind.PAGE, PeopleKind.BARE_PAGE)
        if is_page and request.method == "GET" and fetch.is_visit:
            return  # links lead to the page from anywhere; it hands out nothing by itself
        if fetch.is_foreign(own) or (request.method == "POST" and not fetch.is_ours(own)):
            said = f"Sec-Fetch-Site {fetch.sites}, Origin {fetch.origins}"[:_LONGEST_NOTE]
            self._note_refusal(visit, Refusal(f"asked for by another site: {said}"))
            raise Denial(403, "Permission denied: another site has asked for this")
        if fetch.is_untold:
            self._note_refusal(visit, Refusal("a browser that does not say which site is behind the request"))
            raise Denial(403, "Permission denied: this browser does not say which site asks for this")

    async def _identify(self, visit: _Visit) -> str:
        try:
            user = await self._sign_on.user_of(visit.request, visit.connection)
        except NotIdentified as unknown:
            if unknown.is_attempt:
                self._metrics.logins.add("refused")
                self._metrics.login_failures.add(unknown.failure)
                self._note_refusal(visit, unknown, unknown.user)
            raise _denial_of(unknown) from unknown
        except Trouble as trouble:
            self._metrics.logins.add("trouble")
            self._audit.note_denial(person_denial_record(visit.peer.caller, None, trouble))
            raise Denial(503, "Who is asking can't be found out now; try again in a while") from trouble
        self._metrics.logins.add("success")
        return user

    def _note_refusal(self, visit: _Visit, refusal: Refusal, user: str | None = None) -> None:
        self._audit.note_denial(person_denial_record(visit.peer.caller, user or visit.user, refusal))

    # --- for whoever is known ----------------------------------------------------------------------

    async def _serve(self, visit: _Visit, person: Person) -> Answer:
        target = visit.target
        if target.kind is PeopleKind.ACCOUNTS:
            return await self._show_accounts(visit, person)
        if target.kind is PeopleKind.PAGE:
            return await self._show_page(visit, person)
        if target.kind in (PeopleKind.PAGE_CREDENTIALS, PeopleKind.PAGE_CONSOLE):
            return await self._serve_post(visit, person)
        return await self._serve_role(visit, Wish(person, visit.peer.caller, target.account, target.role))

    async def _show_accounts(self, visit: _Visit, person: Person) -> Answer:
        rows = await self._desk.rows(person, visit.peer.caller)
        asked = dict(parse_qsl(visit.target.query, keep_blank_values=True))
        return answer_with_json(
            accounts_document(rows, with_id="withid" in asked, with_reason="withreason" in asked),
            user=person.user,
        )

    async def _serve_role(self, visit: _Visit, wish: Wish) -> Answer:
        kind = visit.target.kind
        has_console = kind is not PeopleKind.CREDENTIALS
        is_text = kind is PeopleKind.CONSOLE_URL
        grant = await self._desk.grant(wish)
        issuer = self._issuer_of(visit) if has_console else ""
        session = self._desk.session(wish, grant)
        if visit.is_head:
            # As GET as far as it goes without handing anything out.
            return answer_with(200, None, TEXT if is_text else JSON, user=wish.person.user)
        credentials = await self._desk.credentials(wish, grant, session)
        if is_text:
            url = await self._console_url(wish, credentials, issuer)
            return answer_with(200, url.encode("utf-8"), TEXT, user=wish.person.user)
        document = credential_document(credentials)
        if has_console:
            document["ConsoleUrl"] = await self._desk.console_url(wish, credentials, issuer)
        return answer_with_json(document, user=wish.person.user)

    async def _console_url(self, wish: Wish, credentials: Credentials, issuer: str) -> str:
        url = await self._desk.console_url(wish, credentials, issuer)
        if url is None:
            raise Denial(502, "Call to AWS failed: it gives no console URL now; try again in a while")
        return url

    def _issuer_of(self, visit: _Visit) -> str:
        """Return where AWS sends people whose console session has ended. Raises Denial (400)."""
        try:
            query = parse_qsl(visit.target.query, keep_blank_values=True, errors="strict")
            given = [value for name, value in query if name == "callbackurl"]
        except ValueError:
            given = ["?"]
        if not given or given == [""]:
            return self._public_url
        if len(given) == 1 and self._callback_urls.allow(given[0]):
            return given[0]
        self._note_refusal(visit, Refusal(f"callbackurl is not allowed: {given[0][:_LONGEST_NOTE]!r}"))
        raise Denial(400, "callbackurl is not one of the URLs that are allowed here")

    # --- the page ----------------------------------------------------------------------------------

    async def _show_page(self, visit: _Visit, person: Person) -> Answer:
        rows = await self._desk.rows(person, visit.peer.caller)
        token = page.PageToken(self._page_tokens.issue(person.user, self._clock.wall()), PAGE_TOKEN_LIFE)
        body = page.render_page(person.user, rows, token)
        return answer_with(200, body, page.CONTENT_TYPE, user=person.user)

    def _redirect_to_page(self, visit: _Visit) -> Answer:
        host = host_of(visit.request.headers["Host"])
        is_public = self._public is not None and host == self._public.host
        place = self._public_url if is_public else "".join(f"/{segment}" for segment in self._base)
        return answer_with(308, b"", TEXT, headers={"Location": f"{place}/"})

    async def _serve_post(self, visit: _Visit, person: Person) -> Answer:
        fields = await read_post(visit.request)
        if not self._page_tokens.is_good(fields["token"], person.user, self._clock.wall()):
            self._note_refusal(visit, Refusal("the page's token is not good, or has ended"))
            raise Denial(403, "Permission denied: this page is too old; reload it")
        if not (is_name(fields["account"]) and is_name(fields["role"])):
            raise Denial(404, "Not found")
        wish = Wish(person, visit.peer.caller, fields["account"], fields["role"])
        grant = await self._desk.grant(wish)
        credentials = await self._desk.credentials(wish, grant, self._desk.session(wish, grant))
        if visit.target.kind is PeopleKind.PAGE_CREDENTIALS:
            return answer_with_json(credential_document(credentials), user=person.user)
        url = await self._console_url(wish, credentials, self._public_url)
        return answer_with_json({"ConsoleUrl": url}, user=person.user)


def _denial_of(unknown: NotIdentified) -> Denial:
    if isinstance(unknown, LoginThrottled):
        headers = {"Retry-After": str(unknown.retry_after)}
        return Denial(429, "Too many failures to log in; try again later", headers=headers)
    challenge = {"WWW-Authenticate": unknown.challenge} if unknown.challenge else None
    return Denial(401, "Unauthorized: it is not known who is asking", headers=challenge)


def _check_method(visit: _Visit) -> None:
    kind = visit.target.kind
    if kind is PeopleKind.UNKNOWN:
        raise Denial(404, "Not found")
    if visit.request.method not in kind.methods:
        raise Denial(405, "Method not allowed", headers={"Allow": ", ".join(kind.methods)})


def _names_this_machine(host: str) -> bool:
    """Tell whether a host is what clients of a unix socket name: one word, or a loopback address."""
    if "." not in host and ":" not in host:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _too_many() -> Denial:
    return Denial(503, "Too many requests; try again in a while", ends_connection=True)


def _asset(name: str) -> Answer:
    found = page.asset(name)
    if found is None:
        raise Denial(404, "Not found")
    return answer_with(200, found.body, found.content_type)
