"""The page for everybody: by keyboard, heard, narrow, light and dark, with many roles, without a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from imds_proxy.web.page import CONTENT_SECURITY_POLICY, CONTENT_TYPE, Row
from tests.browser.axe import find_barriers
from tests.browser.people_site import BASE, SECRETS, serving
from tests.browser.visits import (
    ADMIN,
    OPEN,
    ROWS,
    SHOW,
    many,
    overhang,
    problem_on,
    show_credentials,
    wait_for_text,
)

if TYPE_CHECKING:
    from tests.browser.devtools import Browser, Page
    from tests.browser.people_site import PeopleSite

pytestmark = pytest.mark.system

_LONG = "a" * 64
_LONG_ROW = Row(_LONG * 3, _LONG, f"group {_LONG * 4}", "000123456789")


async def _tab_to(page: Page, wanted: str, limit: int = 40) -> None:
    for _ in range(limit):
        await page.press("Tab")
        if await page.focused() == wanted:
            return
    raise AssertionError(f"{wanted!r} is not reached; the focus is on {await page.focused()!r}")


async def test_names(browser: Browser, site: PeopleSite) -> None:
    """Each role has its two buttons, which say in full what they are for."""
    site.rows = ROWS
    page = await browser.open_page(site.url)
    names = [element.name for element in await page.elements("button")]
    assert names == [
        f"{what} {role}"
        for role in ("data-lake-production analyst", "main admin", "main read-only")
        for what in ("Open console", "Show credentials")
    ]
    assert len(await page.elements("rowheader", "main")) == 2


async def test_keyboard_alone(browser: Browser, site: PeopleSite) -> None:
    """Everything can be reached, pressed and left with the keyboard; the focus comes back where it was."""
    await browser.grant("clipboardReadWrite", "clipboardSanitizedWrite")
    site.rows, site.console_url = [ADMIN], f"{site.url}static/people.css"
    page = await browser.open_page(site.url)
    await _tab_to(page, f"button {SHOW}")
    await page.press("Enter")
    await page.wait_for("document.querySelector('.keys')")
    assert await page.focused() == f"button {SHOW}"
    reached = []
    for _ in range(7):
        await page.press("Tab")
        reached.append(await page.focused())
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == [
        "button Hide credentials",
        "button Copy shell lines",
        "region Shell bash, zsh",
        "button Copy profile",
        "region Profile ~/.aws/credentials",
        "button Copy PowerShell lines",
        "region PowerShell",
    ]
    await page.press("Tab", shift=True)
    await page.press("Space")
    await page.wait_for("document.querySelector('#announcement').textContent === 'Copied'")
    for _ in range(5):
        await page.press("Tab", shift=True)
    assert await page.focused() == "button Hide credentials"
    await page.press("Enter")
    await page.wait_for("!document.querySelector('.panel')")
    assert await page.focused() == f"button {SHOW}"
    await page.press("Tab", shift=True)
    assert await page.focused() == f"button {OPEN}"
    await page.press("Enter")
    tab = await browser.opened_by(page)
    await tab.wait_for("location.href.endsWith('people.css')")


async def test_the_focus_at_the_end(browser: Browser, site: PeopleSite) -> None:
    """When keys vanish under the focus it goes back to the button that asks for new ones."""
    site.rows, site.life = [ADMIN], 4.5
    page = await browser.open_page(site.url)
    await show_credentials(page)
    await page.evaluate("document.querySelector('.hide').focus()")
    assert "have ended" in await problem_on(page)
    assert await page.focused() == f"button {SHOW}"


_LISTEN = """
window.heard = [];
new MutationObserver(() => {
  for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]"))
    window.heard.push(region.textContent);
}).observe(document.body, {childList: true, subtree: true, characterData: true}); 0
"""


async def test_what_is_announced(browser: Browser, site: PeopleSite) -> None:
    """A screen reader says what happens, and never a key."""
    await browser.grant("clipboardReadWrite", "clipboardSanitizedWrite")
    site.rows, site.life = ROWS, 62
    page = await browser.open_page(site.url)
    await page.evaluate(_LISTEN)
    await show_credentials(page)
    await page.wait_for("heard.some((text) => text.includes('end in 1 min'))")
    await page.click("button", "Copy shell lines")
    await page.wait_for("heard.includes('Copied')")
    await page.click("button", "Hide credentials")
    await page.wait_for("heard.includes('Credentials for main admin are hidden')")
    heard = await page.evaluate("[...new Set(heard)].filter((text) => text)")
    assert heard[0] == "Asking for credentials for main admin"
    assert heard[1].startswith("Credentials for main admin are shown, valid for 1 min 0")
    assert not any(secret in text for secret in SECRETS for text in heard)


@pytest.mark.parametrize("width", [320, 360, 600, 820, 840, 1200])
@pytest.mark.parametrize("rows", [ROWS, (ADMIN, _LONG_ROW)], ids=["ordinary", "long"])
async def test_width(browser: Browser, site: PeopleSite, width: int, rows: tuple[Row, ...]) -> None:
    """However narrow the window, the page is no wider, keys and all; no button is outside."""
    site.rows = rows
    page = await browser.open_page()
    await page.show_as(width=width)
    await page.go(site.url)
    assert await overhang(page) == 0
    await show_credentials(page)
    assert await overhang(page) == 0
    edges = "[...document.querySelectorAll('button')].map((each) => each.getBoundingClientRect())"
    assert await page.evaluate(f"{edges}.every((edge) => edge.left >= 0 && edge.right <= innerWidth)")


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_barriers(browser: Browser, site: PeopleSite, axe: str, width: int, scheme: str) -> None:
    """axe-core finds nothing: with rows, with keys, with a problem, with a filter, without a role."""
    site.rows = [*ROWS, *many(8)]
    page = await browser.open_page()
    await page.show_as(width=width, scheme=scheme)
    await page.go(site.url)
    assert await find_barriers(page, axe) == []
    await show_credentials(page)
    assert await find_barriers(page, axe) == []
    site.status, site.problem = 403, "Permission denied"
    await page.click("button", SHOW)
    await page.wait_for("!document.querySelector('.panel')")
    await page.click("button", SHOW)
    await problem_on(page)
    assert await find_barriers(page, axe) == []
    site.rows = []
    await page.go(f"{site.url}?none")
    assert await find_barriers(page, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_barriers_of_a_problem(browser: Browser, site: PeopleSite, axe: str, scheme: str) -> None:
    """The page that says why there are no rows is one for everybody, too."""
    site.trouble = "What you may access can't be found out"
    page = await browser.open_page()
    await page.show_as(scheme=scheme)
    await page.go(site.url)
    assert "found out" in await page.text()
    assert await find_barriers(page, axe) == []
    assert page.complaints == []


async def test_the_rules_find_barriers(browser: Browser, axe: str) -> None:
    """A page with a barrier is found out, so that finding none means something."""
    page = await browser.open_page("data:text/html,<html><title>x</title><button></button>")
    found = await find_barriers(page, axe)
    assert any(each.startswith("button-name") for each in found)
    assert any(each.startswith("html-has-lang") for each in found)


async def test_dark_and_light(browser: Browser, site: PeopleSite) -> None:
    """The page is as dark as the system is set to be."""
    site.rows = ROWS
    page = await browser.open_page(site.url)
    brightness = []
    for scheme in ("light", "dark"):
        await page.show_as(scheme=scheme)
        colour = await page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
        )
        brightness.append(sum(colour) / 3)
    assert brightness[0] > 200
    assert brightness[1] < 50


async def test_many_roles(browser: Browser, site: PeopleSite) -> None:
    """500 roles are narrowed down by words of account, id, role and reason; few roles have no filter."""
    site.rows = many(500)
    page = await browser.open_page(site.url)
    await _tab_to(page, "searchbox Filter", 1)
    await page.type("ADMIN account-007")
    await page.wait_for("document.querySelector('#count').textContent === '1 of 500'")
    names = [element.name for element in await page.elements("button")]
    assert names == ["Open console account-007 admin", "Show credentials account-007 admin"]
    await page.type(" none")
    await page.wait_for("document.querySelector('#count').textContent === '0 of 500'")
    site.rows = ROWS
    await page.go(f"{site.url}?few")
    assert await page.elements("searchbox") == []


async def test_keys_out_of_sight(browser: Browser, site: PeopleSite) -> None:
    """A row that is filtered out takes its keys with it: keys that nobody sees would be forgotten."""
    site.rows = [ADMIN, *many(20)]
    page = await browser.open_page(site.url)
    await show_credentials(page)
    await page.evaluate("document.querySelector('#filter').focus()")
    await page.type("account-003")
    await wait_for_text(page, "4 of 21")
    assert await page.evaluate("document.querySelector('.hide') === null")
    html = await page.html()
    assert not any(secret in html for secret in SECRETS)


async def test_without_a_script(browser: Browser, site: PeopleSite) -> None:
    """Without JavaScript the rows are there, and a sentence names the commands."""
    site.rows = ROWS
    page = await browser.open_page()
    await page.send("Emulation.setScriptExecutionDisabled", value=True)
    await page.send("Page.navigate", url=site.url)
    await page.wait_for("document.querySelectorAll('tr[data-role]').length === 3")
    text = await page.text()
    assert "imds-proxy credentials ACCOUNT ROLE" in text
    assert "group main-read-only" in text
    assert await page.evaluate("[...document.querySelectorAll('button')].every((button) => button.disabled)")


async def test_hostile_names(browser: Browser, site: PeopleSite) -> None:
    """Names that try to be more than names are shown as names, and sent as they are."""
    hostile = Row(
        '"><script>alert(1)</script>', "<img src=x onerror=alert(2)>\u202e'", "<b onclick=alert(3)>\n", None
    )
    site.rows, site.user = [hostile], "<script>alert(4)</script>"
    page = await browser.open_page(site.url)
    assert await page.evaluate("document.querySelectorAll('script, img, b').length") == 1
    visible = hostile.role.replace("\u202e", "\\u202e")
    await page.click("button", f"Show credentials {hostile.account} {visible}")
    await page.wait_for("document.querySelector('.keys')")
    [minting] = site.requests
    assert (minting.form["account"], minting.form["role"]) == (hostile.account, hostile.role)
    assert page.dialogs == []
    assert page.complaints == []
    profile = await page.evaluate("document.querySelector('pre[data-form=profile]').textContent")
    assert profile.splitlines()[0].strip("[]").isprintable()
    assert len(profile.splitlines()) == 4


async def test_the_policy_is_watched(browser: Browser) -> None:
    """A page that breaks the policy is found out, so that a page without complaints means something."""

    async def show(_request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Content-Type": CONTENT_TYPE}
        return web.Response(body=b"<script>window.ran = 1</script>", headers=headers)

    app = web.Application()
    app.router.add_get(f"{BASE}/", show)
    async with serving(app) as origin:
        page = await browser.open_page(f"{origin}{BASE}/")
        assert await page.evaluate("window.ran") is None
        assert any("script-src-elem" in complaint for complaint in page.complaints)
