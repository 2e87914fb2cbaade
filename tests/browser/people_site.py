"""A site that serves the page for people as the daemon does, and answers its requests as a test says."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from imds_proxy.web.page import (
    CONTENT_SECURITY_POLICY,
    CONTENT_TYPE,
    PageToken,
    Row,
    asset,
    render_page,
    render_problem,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

BASE = "/afp-api/latest"
TOKEN = PageToken("token-of-the-page", 3600)
ACCESS_KEY = "ASIAQQQQQQQQEXAMPLE7"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # AWS's own example
SESSION_TOKEN = "FwoGZXIvYXdzE" + "Lk2/Qm+Z4" * 60 + "=="
SECRETS = (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Minting:
    """A request of the page for credentials or a console URL."""

    path: str
    form: dict[str, str]
    headers: dict[str, str]


@dataclass
class PeopleSite:
    """What the site shows and answers; a test changes it before it opens the page."""

    url: str = ""
    user: str = "ada"
    rows: Sequence[Row] = ()
    token: PageToken = TOKEN
    life: float = 3600.0
    """Seconds that credentials live from when they are asked for."""
    status: int = 200
    """Of the answers to its requests; 0: the connection is cut instead."""
    problem: str | None = None
    """The message of an answer whose status is not 200; None: some proxy's page instead of JSON."""
    secret_key: str = SECRET_KEY
    console_url: str | None = None
    trouble: str | None = None
    """What is wrong so that there is no page with rows."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Closed (clear): requests wait for an answer."""
    requests: list[Minting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def app(self) -> web.Application:
        """Return the site as an aiohttp application."""
        app = web.Application()
        app.router.add_get(f"{BASE}/", self._page)
        app.router.add_get(f"{BASE}/static/{{name}}", self._asset)
        app.router.add_post(f"{BASE}/{{what:credentials|console}}", self._mint)
        return app

    async def _page(self, _request: web.Request) -> web.Response:
        if self.trouble is None:
            body = render_page(self.user, self.rows, self.token)
        else:
            body = render_problem("Service Unavailable", self.trouble)
        return web.Response(body=body, headers={**HEADERS, "Content-Type": CONTENT_TYPE})

    async def _asset(self, request: web.Request) -> web.Response:
        found = asset(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found.body, headers={**HEADERS, "Content-Type": found.content_type})

    async def _mint(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append(Minting(request.path, form, dict(request.headers)))
        await self.gate.wait()
        if self.status != 200:
            return self._fail(request)
        if request.match_info["what"] == "console":
            return web.json_response({"ConsoleUrl": self.console_url}, headers=HEADERS)
        return web.json_response(_credentials(time.time() + self.life, self.secret_key), headers=HEADERS)

    def _fail(self, request: web.Request) -> web.Response:
        if self.status == 0:
            assert request.transport is not None
            request.transport.abort()
        if self.status == 302:
            return web.Response(status=302, headers={"Location": "/sign-in"})
        if self.problem is None:
            return web.Response(status=self.status, text="<h1>Oops</h1>", content_type="text/html")
        problem = {"status": self.status, "error": "...", "message": self.problem}
        return web.json_response(problem, status=self.status, headers=HEADERS)


def _credentials(expiry: float, secret_key: str) -> dict[str, str]:
    form = "%Y-%m-%dT%H:%M:%SZ"
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": secret_key,
        "Token": SESSION_TOKEN,
        "Expiration": datetime.fromtimestamp(expiry, UTC).strftime(form),
        "LastUpdated": datetime.now(UTC).strftime(form),
    }


@asynccontextmanager
async def serving(app: web.Application, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve an application on a free port of loopback and give its origin, in which it is called `host`."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
