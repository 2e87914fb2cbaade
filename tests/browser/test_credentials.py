"""Show credentials: what is asked, what is shown, and when it is gone again."""

from __future__ import annotations

import asyncio
import configparser
import subprocess
from typing import TYPE_CHECKING

import pytest

from imds_proxy.web.page import PageToken
from tests.browser.people_site import ACCESS_KEY, BASE, SECRET_KEY, SECRETS, SESSION_TOKEN
from tests.browser.visits import OPEN, ROWS, SHOW, problem_on, show_credentials, wait_for_text

if TYPE_CHECKING:
    from tests.browser.devtools import Browser, Page
    from tests.browser.people_site import PeopleSite

pytestmark = pytest.mark.system


@pytest.fixture
async def page(browser: Browser, site: PeopleSite) -> Page:
    site.rows = ROWS
    return await browser.open_page(site.url)


async def _shown(page: Page, form: str) -> str:
    return str(await page.evaluate(f"document.querySelector('pre[data-form={form}]').textContent"))


async def _holds_keys(page: Page) -> bool:
    html = await page.html()
    return any(secret in html for secret in SECRETS)


async def test_the_request(page: Page, site: PeopleSite) -> None:
    """One POST with account, role and token; the browser says that our own page is behind it."""
    await show_credentials(page)
    [minting] = site.requests
    assert minting.path == f"{BASE}/credentials"
    assert minting.form == {"account": "main", "role": "admin", "token": site.token.text}
    assert minting.headers["Accept"] == "application/json"
    assert minting.headers["Sec-Fetch-Site"] == "same-origin"
    assert minting.headers["Origin"] == site.url.removesuffix(f"{BASE}/")
    assert "Referer" not in minting.headers
    assert page.complaints == []


async def test_export_lines(page: Page) -> None:
    """The lines for a shell set the three variables, as bash reads them."""
    await show_credentials(page)
    script = (
        await _shown(page, "bash")
    ) + "printenv AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN\n"
    process = await asyncio.create_subprocess_exec("bash", "-euc", script, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode().split() == [ACCESS_KEY, SECRET_KEY, SESSION_TOKEN]


async def test_profile(page: Page) -> None:
    """The profile is what a file of credentials holds, named after account and role."""
    await show_credentials(page)
    parser = configparser.RawConfigParser()
    parser.read_string(await _shown(page, "profile"))
    assert dict(parser["main-admin"]) == {
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "aws_session_token": SESSION_TOKEN,
    }


async def test_powershell(page: Page) -> None:
    """The lines for PowerShell set the same variables."""
    await show_credentials(page)
    assert (await _shown(page, "powershell")).splitlines() == [
        f"$Env:AWS_ACCESS_KEY_ID = '{ACCESS_KEY}'",
        f"$Env:AWS_SECRET_ACCESS_KEY = '{SECRET_KEY}'",
        f"$Env:AWS_SESSION_TOKEN = '{SESSION_TOKEN}'",
    ]


@pytest.mark.parametrize(
    ("button", "form"),
    [
        ("Copy shell lines", "bash"),
        ("Copy profile", "profile"),
        ("Copy PowerShell lines", "powershell"),
    ],
)
async def test_copy(page: Page, browser: Browser, button: str, form: str) -> None:
    """Each copy button puts its own text on the clipboard, whole."""
    await browser.grant("clipboardReadWrite", "clipboardSanitizedWrite")
    await show_credentials(page)
    await page.click("button", button)
    await page.wait_for("document.querySelector('#announcement').textContent === 'Copied'")
    assert await page.evaluate("navigator.clipboard.readText()") == await _shown(page, form)


async def test_copy_where_it_is_forbidden(page: Page) -> None:
    """Without the right to copy the text is selected, and the page says what to press."""
    await page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('no')); 0")
    await show_credentials(page)
    await page.click("button", "Copy profile")
    await page.wait_for("document.querySelector('#announcement').textContent.includes('Ctrl+C')")
    assert await page.evaluate("getSelection().toString().trim()") == (await _shown(page, "profile")).strip()


_NOTE_TIME_LEFT = """
window.times = new Set();
new MutationObserver(() => times.add(document.querySelector(".left")?.textContent))
  .observe(document.body, {childList: true, subtree: true, characterData: true}); 0
"""


async def test_the_end(page: Page, site: PeopleSite) -> None:
    """The time left counts down; at the end the keys are out of the document, and new ones can be had."""
    site.life = 4.5
    await page.evaluate(_NOTE_TIME_LEFT)
    await show_credentials(page)
    assert await problem_on(page) == "These credentials have ended. Ask for new ones."
    assert not await _holds_keys(page)
    times = await page.evaluate("[...times].filter((time) => time)")
    assert len(times) > 1
    assert times == sorted(times, reverse=True)
    site.life = 3600
    await show_credentials(page)
    assert await _holds_keys(page)


async def test_keys_that_have_ended_already(page: Page, site: PeopleSite) -> None:
    """Keys without any life left are not shown at all."""
    site.life = -5
    await page.click("button", SHOW)
    assert "have ended" in await problem_on(page)
    assert not await _holds_keys(page)


async def test_hide(page: Page) -> None:
    """The button takes the keys out of the document."""
    await show_credentials(page)
    assert await _holds_keys(page)
    await page.click("button", "Hide credentials")
    await page.wait_for("!document.querySelector('.panel')")
    assert not await _holds_keys(page)


async def test_press_again(page: Page) -> None:
    """The button that has shown them hides them too, and says which of both it will do."""
    await show_credentials(page)
    expanded = "document.querySelector('tr[data-role=admin] .show').ariaExpanded"
    assert await page.evaluate(expanded) == "true"
    await page.click("button", SHOW)
    await page.wait_for("!document.querySelector('.panel')")
    assert await page.evaluate(expanded) == "false"
    assert not await _holds_keys(page)


async def test_one_at_a_time(page: Page) -> None:
    """The keys of one role make room for those of the next."""
    await show_credentials(page)
    await page.click("button", "Show credentials main read-only")
    await wait_for_text(page, "Credentials for main read-only")
    assert len(await page.elements("button", "Hide credentials")) == 1
    assert "[main-admin]" not in await page.text()


async def test_a_page_that_was_left(page: Page, site: PeopleSite) -> None:
    """Keys go when the page is left, as browsers keep pages to come back to; who comes back finds none."""
    await show_credentials(page)
    await page.evaluate(
        "addEventListener('pagehide', () => sessionStorage.setItem('left', document.body.outerHTML)); 0"
    )
    await page.go(f"{site.url}static/people.css")
    left = await page.evaluate("sessionStorage.getItem('left')")
    assert "Show credentials" in left
    assert not any(secret in left for secret in SECRETS)
    await page.evaluate("setTimeout(() => history.back()); 0")
    await page.wait_for("document.querySelector('tr[data-role=admin] .show:enabled')")
    assert not await _holds_keys(page)


async def test_a_refusal(page: Page, site: PeopleSite) -> None:
    """What the server says is shown as text below the row, with a way to load the page anew."""
    site.status, site.problem = 403, "No: <img src=x onerror=alert(1)>"
    await page.click("button", SHOW)
    assert await problem_on(page) == f"{site.problem} Reload the page"
    assert page.dialogs == []
    assert await page.evaluate("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (502, "The server has answered 502 Bad Gateway"),
        (302, "Your sign-in has ended. Reload the page"),
        (401, "Your sign-in has ended. Reload the page"),
        (0, "The server can't be reached. Try again in a moment."),
    ],
)
async def test_what_stands_in_between(page: Page, site: PeopleSite, status: int, words: str) -> None:
    """Answers that are not ours, and none at all, are told in words; the next try works."""
    site.status = status
    await page.click("button", SHOW)
    assert await problem_on(page) == words
    site.status = 200
    await show_credentials(page)


async def test_a_page_that_is_too_old(browser: Browser, site: PeopleSite) -> None:
    """After its token's life the page does not ask any more: it says that it must be loaded anew."""
    site.rows, site.token = ROWS, PageToken("old", 0)
    page = await browser.open_page(site.url)
    for name in (SHOW, OPEN):
        await page.click("button", name)
        assert await problem_on(page) == "This page has been open for too long. Reload the page"
    assert site.requests == []
    site.token = PageToken("new", 3600)
    await page.click("link", "Reload the page")
    await page.wait_for("document.querySelector('main[data-token=new]')")
    await show_credentials(page)


async def test_keys_that_are_none(page: Page, site: PeopleSite) -> None:
    """What would run as a command when it is pasted is not shown."""
    site.secret_key = "';reboot;'"
    await page.click("button", SHOW)
    assert await problem_on(page) == "The server has sent credentials that can't be shown."
    assert "reboot" not in await page.html()
