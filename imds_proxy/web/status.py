"""The admin pages: /healthz, /readyz, /metrics, and on the socket those of the commands. Not for callers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from imds_proxy.errors import RefusalKind
from imds_proxy.metrics import Metrics, render
from imds_proxy.model import canonical_address
from imds_proxy.web.answer import Page, render_page
from imds_proxy.web.edge.budgets import PEOPLE
from imds_proxy.web.edge.guard import Guard
from imds_proxy.web.edge.limits import CallerLimits, Rates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from imds_proxy.explain import Explanation
    from imds_proxy.model import IPAddress
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection

    View = Callable[[web.BaseRequest], Awaitable[web.Response]]

MAX_ADMIN_CONNECTIONS = 16
"""Open connections to the admin address, of all who ask there together; to the admin socket as many."""

ADMIN_RATES = Rates(
    connections=MAX_ADMIN_CONNECTIONS,
    requests_per_second=100,
    new_connections_per_second=100,
    tls_handshakes_per_second=1,
)

_TEXT = "text/plain; charset=utf-8"


class Explainer(Protocol):
    """Whoever can explain a decision."""

    async def __call__(self, address: IPAddress, workload: str | None, *, assumes: bool) -> Explanation:
        """Return the explanation for the caller at `address`, or for a workload there, with an AssumeRole if
        wanted.
        """


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon listens and is configured.

    DNS and STS are details at most: their outage must not empty a load balancer.
    """

    is_ready: bool
    details: dict[str, str]


class AdminService:
    """Admin pages by method and path, for a listener of their own."""

    bounds = PEOPLE

    def __init__(self, guard: Guard, views: Mapping[tuple[str, str], View], limits: CallerLimits) -> None:
        """`guard` is for an address; whoever may open the socket may ask there."""
        self.guard = guard
        self.is_open = True
        self._views = views
        self._limits = limits

    def closed(self) -> AdminService:
        """Return the same service with nobody let in."""
        service = AdminService(Guard((), (), frozenset()), self._views, self._limits)
        service.is_open = False
        return service

    def admits(self, connection: Connection) -> bool:
        """Tell whether the peer of a connection may talk to the listener at all."""
        if not self.is_open:
            return False
        peer = connection.peer
        return connection.is_local or (peer is not None and self.guard.admits_peer(peer))

    def turn_away(self, kind: RefusalKind) -> Page:
        """Return the page for a peer that is turned away before it is read."""
        if kind is RefusalKind.OVER_LIMIT:
            return _page(503, "too many connections")
        return _page(403, "not from here: see admin.callers")

    def page_for_garbage(self, status: int, error: BaseException | None) -> Page:  # noqa: ARG002  any is alike
        """Return the page for what is not HTTP."""
        return _page(status, "this is not a request")

    def answer_at_once(self, ask: Ask, connection: Connection) -> None:
        """Return None: these pages are asked for now and then."""

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
        hosts = request.headers.getall("Host", ())
        if not connection.is_local and not self.guard.admits_host(hosts, connection):
            return _text(403, "this host is not named in admin.hosts")
        if not self._limits.allow_request(connection.allowance):
            return _text(503, "too many requests")
        method = "GET" if request.method == "HEAD" else request.method
        view = self._views.get((method, request.path))
        if view is None:
            methods = [each for each, path in self._views if path == request.path]
            if methods:
                return _text(405, "not by this method", Allow=", ".join(methods))
            return _text(404, "there is nothing at this path")
        try:
            return await view(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.text)


def status_views(metrics: Metrics, readiness: Callable[[], Readiness]) -> dict[tuple[str, str], View]:
    """Return the pages that both the admin address and the socket have."""

    async def healthz(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.BaseRequest) -> web.Response:
        state = readiness()
        body = {"status": "ready" if state.is_ready else "not ready", **state.details}
        return web.json_response(body, status=200 if state.is_ready else 503)

    async def show_metrics(_: web.BaseRequest) -> web.Response:
        # Some milliseconds of text: made on a thread, so that no caller waits for a scrape.
        body = await asyncio.to_thread(render, metrics.snapshot())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return {("GET", "/healthz"): healthz, ("GET", "/readyz"): readyz, ("GET", "/metrics"): show_metrics}


def explain_view(explain: Explainer) -> View:
    """Return the page for `imds-proxy explain`."""

    async def show_explanation(request: web.BaseRequest) -> web.Response:
        try:
            address = canonical_address(request.query["address"])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="address: not an IP address\n") from None
        workload = request.query.get("workload") or None
        explanation = await explain(address, workload, assumes=request.query.get("assume") == "1")
        return web.json_response(asdict(explanation), dumps=json.dumps)

    return show_explanation


def _page(status: int, text: str) -> Page:
    return render_page(status, f"{text}\n".encode(), Content_Type=_TEXT)


def _text(status: int, text: str, **headers: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=headers)
