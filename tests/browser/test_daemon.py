"""The page as the real daemon serves it, and other sites' pages that try to use it.

The browser is signed in: the headers that a proxy in front adds go out with every request of a tab,
other sites' included, as passwords, client certificates and a proxy's cookies do.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from tests.browser.people_site import BASE, serving
from tests.browser.visits import OPEN, SHOW, problem_on, show_credentials, wait_for_text
from tests.standins.aws_process import running_aws
from tests.standins.daemon import people_settings_for, running_daemon
from tests.standins.sign_in import running_sign_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.browser.devtools import Browser, Page
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon
    from tests.standins.sign_in import SignIn

pytestmark = pytest.mark.system

_GROUPS = {"main-admin": ["ada"], "main-reader": ["ada", "bob"]}
_PROXY_SECRET = secrets.token_hex(32)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Aws, SignIn]]:
    """One daemon for people, with AWS and its sign-in endpoint behind it."""
    folder = tmp_path_factory.mktemp("people")
    secret_file = folder / "secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(_PROXY_SECRET)
    identity = {"header": "X-Remote-User", "trusted": ["127.0.0.1"], "secret_file": str(secret_file)}
    with running_aws(folder) as aws, running_sign_in(aws) as sign_in:
        aws.add_roles("admin", "reader")
        listen = {"address": "127.0.0.1:0", "hosts": ["plain.test"]}
        extra = {"signin_endpoint": sign_in.url}
        settings = people_settings_for(aws, identity, _GROUPS, listen, aws_extra=extra)
        with running_daemon(settings, folder) as daemon:
            yield daemon, aws, sign_in


@pytest.fixture
def daemon(running: tuple[Daemon, Aws, SignIn]) -> Daemon:
    return running[0]


@pytest.fixture
def aws(running: tuple[Daemon, Aws, SignIn]) -> Aws:
    """AWS; what others have asked it does not count."""
    return running[1]


@pytest.fixture
def sign_in(running: tuple[Daemon, Aws, SignIn]) -> SignIn:
    return running[2]


@pytest.fixture
def url(daemon: Daemon) -> str:
    """Where the page is."""
    return f"{daemon.endpoint}{BASE}/"


async def _open_as(user: str, browser: Browser, url: str) -> Page:
    page = await browser.open_page()
    headers = {"X-Remote-User": user, "X-Imds-Proxy-Secret": _PROXY_SECRET}
    await page.send("Network.setExtraHTTPHeaders", headers=headers)
    await page.go(url)
    return page


async def _token(browser: Browser, url: str) -> str:
    page = await _open_as("ada", browser, url)
    return str(await page.evaluate("document.querySelector('main').dataset.token"))


async def test_rows(browser: Browser, url: str) -> None:
    """Everybody sees what they have, and why; nothing that the browser complains about."""
    page = await _open_as("ada", browser, url)
    rows = [element.name for element in await page.elements("button")]
    assert rows == [OPEN, SHOW, "Open console main reader", "Show credentials main reader"]
    text = await page.text()
    assert "Signed in as ada" in text
    assert "000123456789" in text
    assert "main-reader" in text
    assert page.complaints == []
    others = await _open_as("bob", browser, url)
    assert [element.name for element in await others.elements("button")] == rows[2:]
    nobody = await _open_as("mallory", browser, url)
    assert "mallory has no AWS role here" in await nobody.text()


async def test_credentials(browser: Browser, url: str, aws: Aws, daemon: Daemon) -> None:
    """The keys are those that STS gave for this user's session; they go on record, without the secret."""
    page = await _open_as("ada", browser, url)
    await show_credentials(page)
    shown = await page.evaluate("document.querySelector('pre[data-form=profile]').textContent")
    keys = dict(line.split(" = ") for line in shown.splitlines()[1:])
    [call] = [call for call in aws.calls() if call.session_name == "ada" and call.role_arn.endswith("/admin")]
    assert call.outcome == "ok"
    assert page.complaints == []
    [record] = [
        record for record in daemon.audit_records if record.get("access_key_id") == keys["aws_access_key_id"]
    ]
    assert record["role"] == "admin"
    for secret in (keys["aws_secret_access_key"], keys["aws_session_token"]):
        assert secret not in daemon.log + daemon.audit_text


async def test_console(browser: Browser, url: str, sign_in: SignIn, daemon: Daemon) -> None:
    """The new tab goes to AWS with a sign-in token that it gave for these keys; the token is in no log."""
    page = await _open_as("ada", browser, url)
    before = len(sign_in.tokens)
    await page.click("button", "Open console main reader")
    tab = await browser.opened_by(page)
    await page.wait_for("!document.querySelector('[aria-busy]')")
    [token] = sign_in.tokens[before:]
    await tab.wait_for("location.href !== 'about:blank'")
    [address] = [address for address in await tab.history() if address != "about:blank"]
    assert address.startswith(sign_in.url)
    assert parse_qs(urlsplit(address).query)["SigninToken"] == [token]
    assert await tab.evaluate("window.opener") is None
    assert token not in daemon.log + daemon.audit_text
    assert page.complaints == []


@pytest.mark.parametrize("token", ["", "x" * 40, "another's"])
async def test_without_the_token(browser: Browser, url: str, token: str, aws: Aws) -> None:
    """Without the token of this user's page there are no keys, even for the page's own site."""
    page = await _open_as("bob", browser, url)
    if token == "another's":
        token = await _token(browser, url)
    before = len(aws.calls())
    form = json.dumps({"account": "main", "role": "reader", "token": token})
    request = f"fetch('credentials', {{method: 'POST', body: new URLSearchParams({form})}})"
    assert await page.evaluate(f"{request}.then((answer) => answer.status)") == 403
    await page.evaluate(f"document.querySelector('main').dataset.token = {json.dumps(token)}; 0")
    await page.click("button", "Show credentials main reader")
    assert "reload it" in await problem_on(page)
    assert len(aws.calls()) == before


@pytest.fixture(params=["localhost", "127.0.0.1"])
async def foreign(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Another site, and another port of the same host: neither is ours."""

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Kittens</title><body>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    async with serving(app, request.param) as origin:
        yield f"{origin}/"


async def test_a_foreign_form(browser: Browser, url: str, foreign: str, aws: Aws) -> None:
    """A form of another site gets a refusal, even with a token that somebody stole; AWS hears nothing."""
    fields = {"account": "main", "role": "admin", "token": await _token(browser, url)}
    before = len(aws.calls())
    for what in ("credentials", "console"):
        page = await _open_as("ada", browser, foreign)
        await page.evaluate(f"""
            const form = document.createElement("form");
            form.method = "post";
            form.action = {json.dumps(url + what)};
            for (const [name, value] of Object.entries({json.dumps(fields)})) {{
                const field = document.createElement("input");
                [field.name, field.value] = [name, value];
                form.append(field);
            }}
            document.body.append(form);
            setTimeout(() => form.submit()); 0""")
        await wait_for_text(page, "another site has asked for this")
        await page.wait_for_answers(403, 1)
        assert (url + what, 403) in page.answers
    assert len(aws.calls()) == before


_TRIES = """(async () => {
const form = new URLSearchParams(FIELDS), heard = [];
const attempt = async (path, options) => {
  try {
    const answer = await fetch(BASE + path, options);
    heard.push(await answer.text());
  } catch {}
};
for (const mode of ["cors", "no-cors"]) {
  for (const path of ["credentials", "console"]) await attempt(path, {method: "POST", body: form, mode});
  for (const path of ["", "account", "account/main/admin", "account/main/admin/credentials"])
    await attempt(path, {mode});
}
for (const name of ["img", "script", "iframe"]) {
  const element = document.createElement(name);
  element.src = BASE + "account/main/admin/credentials";
  await new Promise((done) => { element.onload = element.onerror = done; document.body.append(element); });
}
return heard.filter((text) => text);
})()"""


async def test_foreign_requests(browser: Browser, url: str, foreign: str, aws: Aws) -> None:
    """No other way to ask from another site's page works: nothing to read, and AWS hears of none."""
    fields = {"account": "main", "role": "admin", "token": await _token(browser, url)}
    before = len(aws.calls())
    page = await _open_as("ada", browser, foreign)
    script = _TRIES.replace("FIELDS", json.dumps(fields)).replace("BASE", json.dumps(url))
    assert await page.evaluate(script) == []
    await page.wait_for_answers(403, 8)  # six requests, image, script; a frame is not always told of
    ours = [status for address, status in page.answers if address.startswith(url)]
    # The browser asks for leave first (OPTIONS) where it must: that method is not to be had.
    assert set(ours) == {403, 405}
    assert len(aws.calls()) == before


async def test_by_plain_http(browser: Browser, url: str, foreign: str, aws: Aws) -> None:
    """By http, off loopback, the browser does not say which site asks: every request is refused.

    A foreign page's images and scripts once got as far as STS that way.
    """
    plain = url.replace("127.0.0.1", "plain.test")
    before = len(aws.calls())
    page = await _open_as("ada", browser, foreign)
    script = _TRIES.replace("FIELDS", json.dumps({"account": "main", "role": "admin", "token": "x"}))
    assert await page.evaluate(script.replace("BASE", json.dumps(plain))) == []
    await page.wait_for_answers(403, 8)
    assert {status for address, status in page.answers if address.startswith(plain)} <= {403, 405}
    ours = await _open_as("ada", browser, plain)
    await wait_for_text(ours, "does not say which site asks")
    assert len(aws.calls()) == before


async def test_a_frame(browser: Browser, url: str, foreign: str) -> None:
    """No page shows ours in a frame, where it could be clicked unseen."""
    page = await _open_as("ada", browser, foreign)
    await page.evaluate(f"""
        const frame = document.createElement("iframe");
        frame.src = {json.dumps(url)};
        document.body.append(frame); 0""")
    await page.wait_for_complaint("frame")
    [complaint] = [complaint for complaint in page.complaints if "frame" in complaint]
    assert url.removesuffix(f"{BASE}/") in complaint


async def test_a_link(browser: Browser, url: str, foreign: str) -> None:
    """A link on another site leads to the page, which works."""
    page = await _open_as("ada", browser, foreign)
    await page.evaluate(f"setTimeout(() => location.href = {json.dumps(url)}); 0")
    await page.wait_for("document.querySelector('tr[data-role=admin] .show:enabled')")
    await show_credentials(page)
