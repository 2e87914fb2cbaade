"""The admin pages: /healthz, /readyz, /metrics, and on the socket those of the commands. Not for callers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from imds_proxy.metrics import Metrics, render
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.explain import Explanation
    from imds_proxy.model import IPAddress
    from imds_proxy.web.forget_desk import ForgetDesk
    from imds_proxy.web.health_desk import HealthDesk
    from imds_proxy.web.token_desk import TokenDesk


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


def build_status_app(
    metrics: Metrics,
    readiness: Callable[[], Readiness],
    explain: Explainer | None = None,
    token_desk: TokenDesk | None = None,
    forget_desk: ForgetDesk | None = None,
    health_desk: HealthDesk | None = None,
) -> web.Application:
    """Return the pages for the admin address, or with all others those of the admin socket."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        state = readiness()
        body = {"status": "ready" if state.is_ready else "not ready", **state.details}
        return web.json_response(body, status=200 if state.is_ready else 503)

    async def show_metrics(_: web.Request) -> web.Response:
        # Some milliseconds of text: made on a thread, so that no caller waits for a scrape.
        body = await asyncio.to_thread(render, metrics.snapshot())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def show_explanation(request: web.Request) -> web.Response:
        assert explain is not None
        try:
            address = canonical_address(request.query["address"])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="address: not an IP address\n") from None
        workload = request.query.get("workload") or None
        explanation = await explain(address, workload, assumes=request.query.get("assume") == "1")
        return web.json_response(asdict(explanation), dumps=json.dumps)

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)]
    )
    if explain is not None:
        app.router.add_get("/explain", show_explanation)
    if token_desk is not None:
        app.router.add_post("/token", token_desk.answer)
    if forget_desk is not None:
        app.router.add_post("/forget", forget_desk.answer)
    if health_desk is not None:
        app.router.add_get("/own-key", health_desk.answer)
    return app
