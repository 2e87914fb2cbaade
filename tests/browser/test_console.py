"""Open console: a new tab that knows nothing of the page, and a URL that is nowhere else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.browser.people_site import serving
from tests.browser.visits import OPEN, ROWS, problem_on, wait_for_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.browser.devtools import Browser, Page
    from tests.browser.people_site import PeopleSite

pytestmark = pytest.mark.system

_SECRET = "SigninToken=secret-of-the-console"


class _Console:
    """A site that plays AWS's console and keeps what it is told by the browser."""

    url = ""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/federation", self._login)
        return app

    async def _login(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        return web.Response(text="<h1>Console</h1>", content_type="text/html")


@pytest.fixture
async def console() -> AsyncIterator[_Console]:
    """The console, on another site than the page."""
    console = _Console()
    async with serving(console.app(), "localhost") as origin:
        console.url = f"{origin}/federation?Action=login&{_SECRET}"
        yield console


@pytest.fixture
async def page(browser: Browser, site: PeopleSite, console: _Console) -> Page:
    site.rows, site.console_url = ROWS, console.url
    return await browser.open_page(site.url)


async def test_a_new_tab(page: Page, browser: Browser, console: _Console) -> None:
    """The console is in a tab of its own, whose page can't reach ours and does not learn its address."""
    await page.click("button", OPEN)
    tab = await browser.opened_by(page)
    await tab.wait_for(f"location.href === {json.dumps(console.url)}")
    assert await tab.evaluate("[window.opener, document.referrer]") == [None, ""]
    [headers] = console.headers
    assert "Referer" not in headers
    assert page.complaints == []


async def test_the_url_is_nowhere_else(page: Page, browser: Browser, console: _Console) -> None:
    """It is not in our page, its history, its address or its storage."""
    before = await page.history()
    await page.click("button", OPEN)
    tab = await browser.opened_by(page)
    await tab.wait_for(f"location.href === {json.dumps(console.url)}")
    assert await page.history() == before
    assert _SECRET not in await page.html()
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0


async def test_one_click_one_tab(page: Page, browser: Browser, site: PeopleSite) -> None:
    """Who clicks again while the first tab waits for its address gets one console."""
    site.gate.clear()
    await page.click("button", OPEN)
    tab = await browser.opened_by(page)
    await wait_for_text(tab, "Opening the AWS console for main admin")
    await page.click("button", OPEN)
    site.gate.set()
    await page.wait_for("!document.querySelector('[aria-busy]')")
    assert len(site.requests) == 1
    assert len(await browser.tabs()) == 2


async def test_a_refusal(page: Page, browser: Browser, site: PeopleSite) -> None:
    """The tab that was opened for the console is closed again, and the page says why."""
    site.status, site.problem = 502, "Call to AWS failed"
    await page.click("button", OPEN)
    assert await problem_on(page) == "Call to AWS failed"
    assert len(await browser.tabs()) == 1


@pytest.mark.parametrize("url", ["javascript:alert(document.domain)", "data:text/html,hello", "", None])
async def test_what_is_no_address(page: Page, browser: Browser, site: PeopleSite, url: str | None) -> None:
    """What is not an address of a web page is not gone to."""
    site.console_url = url
    await page.click("button", OPEN)
    assert "no way into the console" in await problem_on(page)
    assert len(await browser.tabs()) == 1
    assert page.dialogs == []


async def test_a_blocked_tab(page: Page, site: PeopleSite) -> None:
    """Where the browser lets no tab open the page says so, and asks AWS for nothing."""
    # Headless Chromium blocks none: this is what a browser's blocker does.
    await page.evaluate("window.open = () => null; 0")
    await page.click("button", OPEN)
    assert "Allow pop-ups" in await problem_on(page)
    assert site.requests == []
