"""HTTP for people: who is not let in. Each time neither STS nor the sign-in endpoint hears of it."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.standins.people_wire import error_of
from tests.web.people import (
    BASE,
    OUTSIDE,
    PORTAL,
    PROXY,
    SECRET,
    SECRET_HEADER,
    STRANGER,
    USER_HEADER,
    PeopleWorld,
    running_people,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.wire import Header, WireAnswer

READER = f"{BASE}/account/main/reader"
SITE = "Sec-Fetch-Site"
TO_PAGE = ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")
OWN = "https://afp.valid.example"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleWorld]:
    """A site for people of whom none gets anything."""
    with running_people(tmp_path_factory.mktemp("refused-people")) as running:
        yield running
        assert running.calls == 0


@pytest.fixture
def giving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleWorld]:
    """A site for people whose AWS has been asked for nothing yet."""
    with running_people(tmp_path_factory.mktemp("people")) as running:
        yield running


def assert_unknown(answer: WireAnswer) -> None:
    """Check for a 401 that tells nothing and asks for no password."""
    assert answer.status == 401
    assert answer.header("WWW-Authenticate") is None
    assert answer.header("X-Username") is None
    error_of(answer)


# --- who is asking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [(USER_HEADER, "alice")],
        [(USER_HEADER, "alice"), (SECRET_HEADER, "wrong")],
        [(USER_HEADER, "alice"), (SECRET_HEADER, "")],
        [(USER_HEADER, "alice"), (SECRET_HEADER, SECRET + " x")],
        [(USER_HEADER, "alice"), (SECRET_HEADER, SECRET), (SECRET_HEADER, SECRET)],
        # Each wrong secret is answered later than the one before.
        pytest.param(
            [(USER_HEADER, "alice"), (SECRET_HEADER, SECRET), (SECRET_HEADER, "wrong")],
            marks=pytest.mark.patient,
        ),
        pytest.param([(USER_HEADER, "alice"), (SECRET_HEADER, "\udcff")], marks=pytest.mark.patient),
        [(SECRET_HEADER, SECRET)],
        [],
        [("Remote-User", "alice"), ("X-Forwarded-User", "alice"), (SECRET_HEADER, SECRET)],
        [("Authorization", "Basic YWxpY2U6YWxpY2U="), (SECRET_HEADER, SECRET)],
        [("Cookie", f"{USER_HEADER}=alice"), (SECRET_HEADER, SECRET)],
    ],
)
def test_a_proxy_that_does_not_prove_itself(world: PeopleWorld, headers: list[Header]) -> None:
    """401 without the secret, with a wrong or a doubled one, and without the header."""
    assert_unknown(world.caller(*headers).get(READER))


@pytest.mark.parametrize("source", [STRANGER, "127.0.0.9"])
def test_a_spoofed_header(world: PeopleWorld, source: str) -> None:
    """From an address that is not trusted the header is nothing, even with the secret."""
    assert_unknown(world.proxy(source=source).get(READER))


def test_forwarded_addresses_prove_nothing(world: PeopleWorld) -> None:
    """X-Forwarded-For and the like are normal behind a proxy, and never believed."""
    claims = [("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1"), ("Via", "1.1 proxy")]
    assert_unknown(world.proxy(source=STRANGER).ask("GET", READER, *claims))
    assert world.proxy().ask("GET", f"{BASE}/account", *claims).status == 200


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["   "],
        ["alice", "alice"],
        ["alice", "mallory"],
        ["alice, mallory"],
        ["a" * 257],
        ["al\u0085ice"],
        ["al\u2028ice"],
        ["al\udcffice"],
        ["al\tice"],
    ],
)
def test_odd_names(world: PeopleWorld, values: list[str]) -> None:
    """Empty, repeated (also joined by a comma), too long, controls, no UTF-8: 401."""
    named = [(USER_HEADER, value) for value in values]
    assert_unknown(world.caller((SECRET_HEADER, SECRET), *named).get(READER))


@pytest.mark.parametrize("control", ["\0", "\x01", "\n", "\r", "\x1b", "\x7f"])
def test_controls_that_no_header_may_have(world: PeopleWorld, control: str) -> None:
    """401, though the request is no HTTP (RFC 9110 section 5.5); other garbage is 400."""
    assert world.proxy(f"al{control}ice").get(READER).status == 401
    assert world.caller().exchange(b"GARBAGE\r\n\r\n").status == 400
    assert world.caller(source=OUTSIDE).exchange(b"GARBAGE\r\n\r\n").status == 403


@pytest.mark.parametrize("data", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n"])
@pytest.mark.parametrize("source", [PROXY, OUTSIDE])
def test_answers_to_garbage_are_kept_by_nobody(world: PeopleWorld, data: bytes, source: str) -> None:
    """They have the headers that all answers have; a stranger hears the same whatever it sends."""
    ordinary = world.caller().get(f"{BASE}/status")
    answer = world.caller(source=source).exchange(data)
    if source == OUTSIDE:
        assert (answer.status, answer.body) == (403, world.caller(source=source).get(f"{BASE}/status").body)
    else:
        assert answer.body == b""
    for name in ("Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options"):
        assert answer.header(name) == ordinary.header(name) is not None
    assert answer.header("Server") == ordinary.header("Server")


@pytest.mark.parametrize("user", ["a", "a" * 256, "ä" * 256])
def test_long_names(world: PeopleWorld, user: str) -> None:
    """Up to 256 characters are a name."""
    assert world.proxy(user).get(f"{BASE}/account").status == 200


def test_a_header_in_another_case_is_the_same_header(world: PeopleWorld) -> None:
    """So it can't be smuggled past a proxy that strips the one it knows."""
    assert_unknown(world.proxy().ask("GET", READER, (USER_HEADER.lower(), "bob")))


def test_refusals_of_identity_are_on_record(giving: PeopleWorld) -> None:
    """Where it came from and why; the claimed name is nobody's, so it is not in `name`."""
    giving.proxy(source=STRANGER).get(READER)
    giving.site.do(lambda: giving.site.workshop.audit.close(10))
    [record] = giving.site.audit_records()
    assert (record["caller"], record["outcome"], record["name"]) == (STRANGER, "refused", None)
    assert "no trusted proxy" in record["reason"]


@pytest.mark.parametrize("shown", ["x", SECRET[:-1], SECRET + "x", "", SECRET.upper()])
def test_a_wrong_secret(giving: PeopleWorld, shown: str) -> None:
    """Is answered after a pause, and counted; the right one goes through meanwhile, from the same address."""
    guesser = giving.caller((SECRET_HEADER, shown), (USER_HEADER, "alice"))
    with guesser.connected() as connection:
        connection.send(guesser.render("GET", f"{BASE}/account", *guesser.headers))
        assert giving.proxy().get(f"{BASE}/account").status == 200
        assert connection.read_answer().status == 401
    assert guesser.get(f"{BASE}/account").status == 401
    assert dict(giving.site.metrics.login_failures.counts) == {("wrong_proof",): 2}
    assert giving.calls == 0


def test_many_wrong_secrets_at_once(giving: PeopleWorld) -> None:
    """One at a time gets its answer; those that wait too long for their turn are told to come back later."""
    guesser = giving.caller((SECRET_HEADER, "x" * 32), (USER_HEADER, "alice"))
    with ExitStack() as stack:
        connections = [stack.enter_context(guesser.connected()) for _ in range(8)]
        for connection in connections:
            connection.send(guesser.render("GET", f"{BASE}/account", *guesser.headers))
        statuses = [connection.read_answer().status for connection in connections]
    assert set(statuses) <= {401, 429}
    assert giving.proxy().get(f"{BASE}/account").status == 200
    assert giving.calls == 0


# --- from where, for which host ------------------------------------------------------------------------


def test_an_address_outside_of_callers(world: PeopleWorld) -> None:
    """403 for everything, the status too."""
    outside = world.proxy(source=OUTSIDE)
    for path in (READER, f"{BASE}/status", "/nothing", f"{BASE}/"):
        assert outside.get(path).status == 403


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:443",
        "afp.valid.example.attacker.example",
        "127.0.0.1.attacker.example",
        "xafp.valid.example",
        "localhost.attacker.example",
        "127.0.0.2",
        "169.254.169.254",
        "[::1]",
        "",
        "attacker.example@127.0.0.1",
    ],
)
def test_a_foreign_host(world: PeopleWorld, host: str) -> None:
    """403: a name that somebody has made lead here (DNS rebinding)."""
    request = world.proxy().render("GET", READER, *world.proxy().headers, host=None)
    head, end = request[:-2], request[-2:]
    assert world.proxy().exchange(head + f"Host: {host}\r\n".encode() + end).status == 403


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "127.0.0.1"], ["127.0.0.1", "attacker.example"]])
def test_none_or_two_hosts(world: PeopleWorld, hosts: list[str]) -> None:
    """403, or 400 where not even the parser takes it."""
    proxy = world.proxy()
    request = proxy.render("GET", READER, *proxy.headers, *(("Host", host) for host in hosts), host=None)
    assert proxy.exchange(request).status in (400, 403)


@pytest.mark.parametrize("host", ["afp.valid.example", "AFP.valid.example:8443", "localhost", "127.0.0.1:1"])
def test_our_hosts(world: PeopleWorld, host: str) -> None:
    """The name of public_url, the address, and on loopback localhost; the port does not matter."""
    assert world.proxy().ask("GET", f"{BASE}/account", host=host).status == 200


# --- other sites ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [(SITE, "cross-site")],
        [(SITE, "same-site")],
        [(SITE, "")],
        [(SITE, "Same-Origin")],
        [(SITE, "same-origin"), (SITE, "same-origin")],
        [(SITE, "none, cross-site")],
        [(SITE, "cross-site"), *TO_PAGE],
        [("Origin", "https://attacker.example")],
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "http://afp.valid.example")],
        [("Origin", "https://afp.valid.example:8443")],
        [("Origin", "https://afp.valid.example.attacker.example")],
        [("Origin", f"{OWN}/")],
        [("Origin", OWN), ("Origin", OWN)],
        [("Origin", OWN), ("Origin", "https://attacker.example")],
        [(SITE, "same-origin"), ("Origin", "https://attacker.example")],
        [(SITE, "cross-site"), ("Origin", OWN)],
    ],
)
@pytest.mark.parametrize("path", ["/account", "/account/main/reader", "/account/main/reader/consoleurl"])
def test_from_another_site(world: PeopleWorld, headers: list[Header], path: str) -> None:
    """403 for whatever a browser asks for on behalf of another site."""
    answer = world.proxy().ask("GET", BASE + path, *headers)
    assert answer.status == 403
    assert "another site" in error_of(answer)["message"]


@pytest.mark.parametrize(
    "headers",
    [
        [(SITE, "same-origin")],
        [(SITE, "none"), *TO_PAGE],
        [("Origin", OWN)],
        [("Origin", f"{OWN}:443")],
        [("Origin", "HTTPS://AFP.valid.example")],
        [(SITE, "same-origin"), ("Origin", OWN)],
    ],
)
def test_from_our_own_page(world: PeopleWorld, headers: list[Header]) -> None:
    """Our page, under public_url, and what somebody typed."""
    assert world.proxy().ask("GET", f"{BASE}/account", *headers).status == 200


BROWSER = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36")


@pytest.mark.parametrize(
    "path",
    ["/", "", "/account", "/account/main/reader", "/account/main/reader/credentials", "/static/page.js"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_that_does_not_say_which_site_asks(world: PeopleWorld, method: str, path: str) -> None:
    """403 before anybody is asked: by http browsers leave out Sec-Fetch-Site, whichever page is behind it."""
    logins, calls = dict(world.site.metrics.logins.counts), world.calls
    answer = world.proxy().ask(method, BASE + path, BROWSER, ("Accept", "image/avif,image/webp,*/*;q=0.8"))
    assert answer.status == 403
    assert (dict(world.site.metrics.logins.counts), world.calls) == (logins, calls)
    told = world.proxy().ask("GET", f"{BASE}/account", BROWSER, (SITE, "same-origin"))
    assert told.status == 200


def test_a_browser_without_its_headers_posts_in_vain(world: PeopleWorld) -> None:
    """Also with the page's own Origin."""
    calls = world.calls
    answer = world.proxy().post(f"{BASE}/credentials", "a=b", BROWSER, ("Origin", OWN))
    assert (answer.status, world.calls) == (403, calls)


def test_headers_for_browsers(world: PeopleWorld) -> None:
    """A window that we open, or that opened us, can't be reached; without TLS no HSTS (RFC 6797, 7.2)."""
    for path in ("/status", "/account", "/", "/account/main/nothing", "/no/such/path", "/static/page.js"):
        answer = world.proxy().get(BASE + path)
        assert answer.header("Cross-Origin-Opener-Policy") == "same-origin", path
        assert answer.header("Strict-Transport-Security") is None


def test_the_address_itself_is_an_origin(world: PeopleWorld) -> None:
    """Whoever opens the page by address and port is at home there; another port is another site."""
    proxy = world.proxy()
    account = f"{BASE}/account"
    assert proxy.ask("GET", account, ("Origin", f"http://{proxy.host}")).status == 200
    assert proxy.ask("GET", account, ("Origin", f"https://{proxy.host}")).status == 403
    assert proxy.ask("GET", account, ("Origin", "http://127.0.0.1:1")).status == 403


def test_links_lead_to_the_page_from_anywhere(world: PeopleWorld) -> None:
    """A click on a portal shows the page, which hands out nothing; a frame or a script does not get it."""
    proxy, page = world.proxy(), f"{BASE}/"
    assert proxy.ask("GET", page, (SITE, "cross-site"), *TO_PAGE).status == 200
    frame = ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")
    assert proxy.ask("GET", page, (SITE, "cross-site"), *frame).status == 403
    script = ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "script")
    assert proxy.ask("GET", page, (SITE, "cross-site"), *script).status == 403
    assert proxy.ask("HEAD", page, (SITE, "cross-site"), *TO_PAGE).status == 403
    assert proxy.ask("GET", page, (SITE, "cross-site"), *TO_PAGE, ("Origin", "null")).status == 403


def test_the_status_is_for_every_site(world: PeopleWorld) -> None:
    """It tells nothing."""
    assert world.caller().ask("GET", f"{BASE}/status", (SITE, "cross-site")).status == 200


# --- callbackurl ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://attacker.example/",
        f"{PORTAL}side",
        f"{PORTAL}/../other",
        "https://portal.valid.example/other",
        "https://portal.valid.example",
        "//portal.valid.example/back",
        "javascript:alert(1)",
        "http://portal.valid.example/back",
        "%ff",
    ],
)
@pytest.mark.parametrize("end", ["", "/consoleurl"])
def test_callback_urls_off_the_list(world: PeopleWorld, url: str, end: str) -> None:
    """400 before STS is asked."""
    answer = world.proxy().get(f"{READER}{end}?callbackurl={url}")
    assert (answer.status, answer.header("X-Username")) == (400, "alice")
    assert "attacker" not in answer.text


def test_two_callback_urls(world: PeopleWorld) -> None:
    """400, whatever they are."""
    assert world.proxy().get(f"{READER}?callbackurl={PORTAL}&callbackurl={PORTAL}").status == 400


def test_who_may_have_the_role_comes_before_callbackurl(world: PeopleWorld) -> None:
    """Whoever may not have it learns nothing of what the settings allow to others."""
    assert world.proxy(None).get(f"{READER}?callbackurl=x").status == 401
    assert world.proxy("carol").get(f"{READER}?callbackurl=x").status == 403


# --- what the page posts -------------------------------------------------------------------------------


def token_of(world: PeopleWorld, user: str = "alice") -> str:
    """Return the token in a user's page."""
    page = world.proxy(user).get(f"{BASE}/")
    assert page.status == 200
    return page.text.partition('data-token="')[2].partition('"')[0]


def form(token: str, account: str = "main", role: str = "reader") -> str:
    """Return what a button posts."""
    return f"account={account}&role={role}&token={token}"


def test_the_page_gets_credentials_and_console_urls(giving: PeopleWorld) -> None:
    """With its token, as a form or as JSON."""
    token, proxy = token_of(giving), giving.proxy()
    posted = proxy.post(f"{BASE}/credentials", form(token), (SITE, "same-origin"))
    assert posted.status == 200
    assert json.loads(posted.body)["AccessKeyId"] == giving.sts.issued[0].access_key
    assert "ConsoleUrl" not in json.loads(posted.body)
    fields = json.dumps({"account": "main", "role": "reader", "token": token})
    console = proxy.post(f"{BASE}/console", fields, ("Origin", OWN), kind="application/json")
    assert set(json.loads(console.body)) == {"ConsoleUrl"}
    giving.sign_in.status = 500
    failed = proxy.post(f"{BASE}/console", fields, ("Origin", OWN), kind="application/json")
    assert failed.status == 502


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(SITE, "none")],
        [(SITE, "cross-site")],
        [(SITE, "cross-site"), *TO_PAGE],
        [("Origin", "https://attacker.example")],
        [("Origin", "null")],
        [(SITE, "same-origin"), ("Origin", "null")],
    ],
)
@pytest.mark.parametrize("path", ["/credentials", "/console"])
def test_a_post_that_is_not_our_page_s(world: PeopleWorld, headers: list[Header], path: str) -> None:
    """403 even with a good token: the browser has to say that our page is behind it."""
    assert world.proxy().post(BASE + path, form(token_of(world)), *headers).status == 403


@pytest.mark.parametrize("path", ["/credentials", "/console"])
def test_tokens_of_others(world: PeopleWorld, path: str) -> None:
    """403 for no token, a made-up one, and another user's."""
    for token in ("", "A" * 40, token_of(world, "bob"), token_of(world)[:-1] + "!"):
        answer = world.proxy().post(BASE + path, form(token), (SITE, "same-origin"))
        assert answer.status == 403
        assert "reload" in error_of(answer)["message"]


def test_a_token_ends(giving: PeopleWorld) -> None:
    """After 12 hours."""
    token = token_of(giving)
    giving.site.clock.ahead = 12 * 3600 + 1
    assert giving.proxy().post(f"{BASE}/credentials", form(token), (SITE, "same-origin")).status == 403
    assert giving.calls == 0


def test_a_post_for_what_is_not_granted(world: PeopleWorld) -> None:
    """403 as for GET."""
    answer = world.proxy("bob").post(
        f"{BASE}/credentials", form(token_of(world, "bob"), role="admin"), (SITE, "same-origin")
    )
    assert answer.status == 403
    assert "may not access" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("", "application/x-www-form-urlencoded", 400),
        ("account=main&role=reader", "application/x-www-form-urlencoded", 400),
        ("account=main&role=reader&token=x&token=x", "application/x-www-form-urlencoded", 400),
        ("account=main&role=reader&other=x", "application/x-www-form-urlencoded", 400),
        ("account=%ff&role=reader&token=x", "application/x-www-form-urlencoded", 400),
        (b"account=\xff&role=reader&token=x", "application/x-www-form-urlencoded", 400),
        ("[]", "application/json", 400),
        ("{", "application/json", 400),
        ("[" * 9000, "application/json", 400),
        ('{"account": 1, "role": "reader", "token": "x"}', "application/json", 400),
        ('{"account": "a", "account": "b", "role": "reader", "token": "x"}', "application/json", 400),
        ("account=main", "text/plain", 415),
        ("account=main", "multipart/form-data; boundary=x", 415),
        ("account=main", None, 415),
        ("x" * (16384 + 1), "application/x-www-form-urlencoded", 413),
    ],
)
def test_odd_bodies(world: PeopleWorld, body: str | bytes, kind: str | None, status: int) -> None:
    """400, 413 for more than 16 KiB, 415 for another type; never 500."""
    answer = world.proxy().post(f"{BASE}/credentials", body, (SITE, "same-origin"), kind=kind)
    assert answer.status == status
    error_of(answer)


def test_a_long_body_in_chunks(world: PeopleWorld) -> None:
    """413 as soon as it is too long, though nobody said how long it would be."""
    proxy = world.proxy()
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    chunked = ("Transfer-Encoding", "chunked")
    head = proxy.render("POST", f"{BASE}/credentials", *proxy.headers, (SITE, "same-origin"), kind, chunked)
    assert proxy.exchange(head + b"5000\r\n" + b"x" * 0x5000 + b"\r\n").status == 413


def test_a_body_that_breaks_off(world: PeopleWorld) -> None:
    """Whoever hangs up in the middle gets nothing and leaves no error in the log."""
    proxy = world.proxy()
    kind, length = ("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "100")
    with proxy.connected() as connection:
        headers = (*proxy.headers, (SITE, "same-origin"), kind, length)
        connection.send(proxy.render("POST", f"{BASE}/credentials", *headers) + b"account=")
    assert proxy.get(f"{BASE}/status").status == 200


# --- the rest ------------------------------------------------------------------------------------------


def test_the_page_without_its_slash(world: PeopleWorld) -> None:
    """Leads to the page: under public_url for who asked for that host, else where they are."""
    moved = world.proxy().ask("GET", BASE, host="afp.valid.example")
    assert (moved.status, moved.header("Location")) == (308, f"{OWN}{BASE}/")
    assert world.proxy().get(BASE).header("Location") == f"{BASE}/"


def test_assets(world: PeopleWorld) -> None:
    """The page's files are for whoever may connect."""
    answer = world.caller().get(f"{BASE}/static/people.js")
    assert answer.status == 200
    assert (answer.header("Content-Type") or "").startswith("text/javascript")
    assert answer.header("Cache-Control") == "no-store"


def test_the_page_tells_refusals_in_html(world: PeopleWorld) -> None:
    """To be read by people."""
    for answer in (world.proxy(None).get(f"{BASE}/"), world.proxy("mallory").get(f"{BASE}/")):
        assert answer.status in (401, 403)
        assert (answer.header("Content-Type") or "").startswith("text/html")


def test_a_listener_that_is_no_longer_configured(giving: PeopleWorld) -> None:
    """Lets nobody in, not to the status either."""
    listener = giving.site.listeners[0]
    giving.site.do(lambda: setattr(listener, "service", listener.service.closed()))
    assert [giving.proxy().get(path).status for path in (f"{BASE}/status", READER)] == [403, 403]


def test_the_audit_log_cannot_be_written(giving: PeopleWorld, tmp_path: Path) -> None:
    """503 for credentials, before STS is asked where that is known already; lists are still shown."""
    audit = giving.site.workshop.audit
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    giving.site.do(lambda: audit.reopen(str(fifo)))
    assert giving.proxy().get(READER).status == 503
    calls = giving.calls
    giving.site.clock.ahead += 1
    answers = [giving.proxy().get(path).status for path in (READER, f"{BASE}/account")]
    assert answers == [503, 200]
    assert giving.calls == calls
    with fifo.open() as reader:
        assert '"granted"' in reader.readline()
        assert giving.proxy().get(READER).status == 200
        giving.site.do(lambda: audit.reopen(str(tmp_path / "next")))
        assert giving.proxy().get(READER).status == 200


def test_a_person_who_asks_for_everything(giving: PeopleWorld) -> None:
    """300 roles that there are not: ten records and a count, whatever the roles were called."""
    giving.site.clock.freeze()
    for number in range(300):
        path = f"{BASE}/account/main/role-{number}{'x' * (number % 40)}"
        assert giving.proxy("mallory").get(path).status == 403
    giving.site.clock.ahead += 61
    giving.site.do(giving.site.workshop.audit.flush_counts)
    records = [one for one in giving.site.audit_records() if one["caller"] == PROXY]
    assert [one["count"] for one in records if one["name"] == "mallory"] == [1] * 10
    assert sum(one["count"] for one in records if one["name"] is None) == 290
    assert giving.calls == 0


def test_people_who_are_cut_off(tmp_path: Path) -> None:
    """By a login name that could be no host's, however its letters are written; everybody else goes on."""
    with running_people(tmp_path, deny=["Alice", "joe@valid.example"]) as running:
        for name in ("alice", "ALICE", "joe@valid.example", "JOE@valid.example"):
            assert running.proxy(name).get(f"{BASE}/account").status == 403
            assert running.proxy(name).get(READER).status == 403
        assert running.calls == 0
        assert running.proxy("bob").get(f"{BASE}/account").status == 200
