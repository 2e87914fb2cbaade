"""HTTP for people: what each path answers, to whom."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.standins.people_wire import error_of
from tests.web.people import ACCOUNT_ID, ALICE, BASE, PORTAL, PUBLIC, PeopleWorld, running_people

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.wire import WireAnswer

READER = f"{BASE}/account/main/reader"
KEYS = ["Code", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration", "LastUpdated"]
SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleWorld]:
    """A site for people whose AWS has been asked for nothing yet."""
    with running_people(tmp_path_factory.mktemp("people")) as running:
        yield running


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleWorld]:
    """A site for people of whom none gets anything: its AWS is never asked."""
    with running_people(tmp_path_factory.mktemp("quiet-people")) as running:
        yield running
        assert running.calls == 0


def assert_secure(answer: WireAnswer) -> None:
    """Check the headers that every answer has, and that there is no cookie."""
    for name, value in SECURITY.items():
        assert answer.header(name) == value
    policy = answer.header("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.header("Set-Cookie") is None


def test_status_needs_no_identity(quiet: PeopleWorld) -> None:
    """For monitoring: anybody who may connect gets it, as the old API has it."""
    answer = quiet.caller().get(f"{BASE}/status")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "200", "message": "OK"})
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.header("X-Username") is None
    assert_secure(answer)


@pytest.mark.parametrize("path", ["/account", "/account/", "/%61ccount"])
def test_accounts(quiet: PeopleWorld, path: str) -> None:
    """A map of lists, sorted; AWS is not asked."""
    answer = quiet.proxy().get(BASE + path)
    assert answer.status == 200
    assert list(json.loads(answer.body).items()) == list(ALICE.items())
    assert answer.header("X-Username") == "alice"
    assert quiet.calls == 0
    assert_secure(answer)


@pytest.mark.parametrize("query", ["withid", "withid=", "withid=0", "a=b&withid"])
def test_accounts_with_ids(quiet: PeopleWorld, query: str) -> None:
    """By the presence of `withid`; an account that the settings lack has null."""
    found = json.loads(quiet.proxy().get(f"{BASE}/account?{query}").body)
    assert found["main"] == {"id": ACCOUNT_ID, "roles": ALICE["main"]}
    assert found["noid"] == {"id": None, "roles": ["reader"]}


def test_nobody_s_accounts(quiet: PeopleWorld) -> None:
    """Somebody without a group is told that there is nothing."""
    answer = quiet.proxy("carol").get(f"{BASE}/account")
    assert (answer.status, json.loads(answer.body)) == (200, {})


def test_credentials(world: PeopleWorld) -> None:
    """One flat object; the session has the person's name; the hand-out is on record."""
    answer = world.proxy().get(f"{READER}/credentials")
    assert answer.status == 200
    found = json.loads(answer.body)
    assert sorted(found) == sorted(KEYS)
    [issued] = world.sts.issued
    assert (found["AccessKeyId"], found["SecretAccessKey"]) == (issued.access_key, issued.secret_key)
    assert (found["Token"], found["Code"], found["Type"]) == (issued.session_token, "Success", "AWS-HMAC")
    assert issued.session_name == "alice"
    for name in ("Expiration", "LastUpdated"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[name])
    assert world.sign_in.paths == []
    assert_secure(answer)


def test_credentials_with_console_url(world: PeopleWorld) -> None:
    """What `afp` asks for: the same object and a ConsoleUrl whose Issuer is public_url."""
    answer = world.proxy().get(READER)
    found = json.loads(answer.body)
    assert sorted(found) == sorted([*KEYS, "ConsoleUrl"])
    query = parse_qs(urlsplit(found["ConsoleUrl"]).query)
    assert (query["Action"], query["Issuer"]) == (["login"], [PUBLIC])


@pytest.mark.parametrize(
    ("query", "issuer"),
    [("", PUBLIC), ("?callbackurl=", PUBLIC), (f"?callbackurl={PORTAL}/x", f"{PORTAL}/x")],
)
def test_console_url(world: PeopleWorld, query: str, issuer: str) -> None:
    """Bare text, as the old API has it."""
    answer = world.proxy().get(f"{READER}/consoleurl{query}")
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.header("X-Username") == "alice"
    assert parse_qs(urlsplit(answer.text).query)["Issuer"] == [issuer]


def test_sign_in_endpoint_down(world: PeopleWorld) -> None:
    """Credentials still come, with a ConsoleUrl of null; the URL alone is 502."""
    world.sign_in.status = 500
    found = json.loads(world.proxy().get(READER).body)
    assert found["ConsoleUrl"] is None
    assert found["AccessKeyId"]
    alone = world.proxy().get(f"{READER}/consoleurl")
    assert alone.status == 502
    error_of(alone)
    assert world.site.metrics.console_urls.counts == {("trouble",): 2}


def test_one_assume_role(world: PeopleWorld) -> None:
    """The same person and role again while they are good: the same keys; another person's are others."""
    first = json.loads(world.proxy().get(f"{READER}/credentials").body)
    assert json.loads(world.proxy().get(READER).body)["AccessKeyId"] == first["AccessKeyId"]
    assert json.loads(world.proxy("bob").get(READER).body)["AccessKeyId"] != first["AccessKeyId"]
    assert len(world.sts.calls) == 2


@pytest.mark.parametrize(
    "path",
    [
        "other/admin",
        "unknown/reader",
        "main/unknown",
        "main/reader%20",
        "Main/reader",
        "main%2Freader/x",
        "main/%2e%2e%2e",
    ],
)
@pytest.mark.parametrize("end", ["", "/credentials", "/consoleurl"])
def test_not_granted(quiet: PeopleWorld, path: str, end: str) -> None:
    """403 for what is not granted and for what does not exist alike, before anything is asked of AWS."""
    answer = quiet.proxy().get(f"{BASE}/account/{path}{end}")
    assert answer.status == 403
    assert "may not access" in error_of(answer)["message"]
    assert answer.header("X-Username") == "alice"
    assert quiet.calls == 0
    assert_secure(answer)


def test_granted_without_id(quiet: PeopleWorld) -> None:
    """404 with a message that says what is missing."""
    answer = quiet.proxy().get(f"{BASE}/account/noid/reader")
    assert answer.status == 404
    assert "ConfigurationError" in error_of(answer)["message"]
    assert answer.header("X-Username") == "alice"
    assert quiet.calls == 0


def test_a_role_that_iam_can_t_have(quiet: PeopleWorld) -> None:
    """A group may give one: 403, and AWS is not asked."""
    assert quiet.proxy().get(f"{BASE}/account/main/no%20role").status == 403
    assert quiet.calls == 0


def test_a_name_with_a_slash(world: PeopleWorld) -> None:
    """`%2F` is part of a name, and so is `%252F` of another one."""
    assert world.proxy().get(f"{BASE}/account/od%2Fd/reader/credentials").status == 200
    assert world.proxy().get(f"{BASE}/account/od%252Fd/reader/credentials").status == 403
    assert world.proxy().get(f"{BASE}/account/od/d/reader/credentials").status == 404


def test_denied(quiet: PeopleWorld) -> None:
    """Who stands under `deny` gets 403 for everything but the status."""
    mallory = quiet.proxy("mallory")
    assert [mallory.get(path).status for path in (f"{BASE}/account", READER, f"{BASE}/")] == [403] * 3
    assert quiet.calls == 0


def test_sts_refuses(world: PeopleWorld) -> None:
    """403: AWS says no to this role. The request id is on record."""
    world.sts.refuse(403, "AccessDenied")
    answer = world.proxy().get(READER)
    assert (answer.status, answer.header("X-Username")) == (403, "alice")
    assert "AWS refuses" in error_of(answer)["message"]
    assert world.sign_in.paths == []
    world.site.do(lambda: world.site.workshop.audit.close(10))
    [record] = world.site.audit_records()
    assert (record["outcome"], record["role"]) == ("refused", "reader")
    assert record["reason"].startswith("group main-reader ")
    assert "AccessDenied" in record["error"]
    assert record["sts_request_id"]


@pytest.mark.parametrize(
    ("status", "code"), [(400, "Throttling"), (500, "InternalFailure"), (403, "ExpiredToken")]
)
def test_sts_fails(world: PeopleWorld, status: int, code: str) -> None:
    """502 for throttling, errors of AWS's own and our own key refused; nothing of it is told."""
    world.sts.refuse(status, code)
    answer = world.proxy().get(READER)
    assert answer.status == 502
    assert code not in answer.text
    assert "Call to AWS failed" in error_of(answer)["message"]


@pytest.mark.parametrize("path", [READER, f"{READER}/credentials", f"{READER}/consoleurl"])
def test_head_hands_out_nothing(quiet: PeopleWorld, path: str) -> None:
    """The status and headers of GET as far as the grant decides them; AWS is not asked."""
    answer = quiet.proxy().ask("HEAD", path)
    assert (answer.status, answer.body, answer.header("X-Username")) == (200, b"", "alice")
    assert quiet.proxy("carol").ask("HEAD", path).status == 403
    assert quiet.calls == 0


def test_head_of_accounts(quiet: PeopleWorld) -> None:
    """The length that GET's body has, and no body."""
    length = quiet.proxy().get(f"{BASE}/account").header("Content-Length")
    assert quiet.proxy().ask("HEAD", f"{BASE}/account").header("Content-Length") == length


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/account", "GET, HEAD"),
        ("PUT", "/account/main/reader", "GET, HEAD"),
        ("DELETE", "/status", "GET, HEAD"),
        ("OPTIONS", "/account", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("GET", "/credentials", "POST"),
        ("HEAD", "/console", "POST"),
    ],
)
def test_other_methods(quiet: PeopleWorld, method: str, path: str, allow: str) -> None:
    """405 with Allow."""
    answer = quiet.proxy().ask(method, BASE + path)
    assert (answer.status, answer.header("Allow")) == (405, allow)
    assert quiet.calls == 0


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/account/main",
        "/account//reader",
        "/account/main/reader/",
        "/account/main//credentials",
        "/account/../reader",
        "/account/main/%2e%2e",
        "/account/main/.",
        "/account/main/%0a",
        "/account/ma%00in/reader",
        "/account/main/%7f",
        "/account/main/%c2%85",
        "/account/main/%e2%80%a8",
        "/account/main/%ff",
        "/account/main/%",
        "/account/main/%2",
        "/account/main/%zz",
        "//account",
        "/account/main/reader/other",
        "/meta-data/iam/security-credentials/",
        "/meta-data/iam/security-credentials/reader",
        "/static/../people.js",
        "/static/secret",
        "/static/",
    ],
)
def test_no_such_path(quiet: PeopleWorld, path: str) -> None:
    """404 for what is no path here: odd segments, and the machines' paths too."""
    answer = quiet.proxy().get(BASE + path)
    assert answer.status == 404
    error_of(answer)
    assert quiet.calls == 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/account",
        "/afp-api",
        "/afp-api/latest2/account",
        "/AFP-API/latest/account",
        "/latest/meta-data/",
    ],
)
def test_outside_of_the_base_path(quiet: PeopleWorld, path: str) -> None:
    """404: nothing is served beside it."""
    assert quiet.proxy().get(path).status == 404


def test_an_absolute_target(quiet: PeopleWorld) -> None:
    """As proxies send it (RFC 9112 section 3.2.2); what it names has to be us."""
    caller = quiet.proxy()
    assert caller.get(f"http://{caller.host}{BASE}/account").status == 200
    assert caller.get(f"http://attacker.example{BASE}/account").status == 403


@pytest.mark.parametrize(
    ("user", "shown"),
    [("jürgen müller", "j%C3%BCrgen m%C3%BCller"), ("50%", "50%25"), ("CORP\\alice", "CORP\\alice")],
)
def test_the_name_in_the_header(quiet: PeopleWorld, user: str, shown: str) -> None:
    """X-Username: what a header can't hold, and the percent sign, percent-encoded as UTF-8."""
    answer = quiet.proxy(user).get(f"{BASE}/account")
    assert (answer.status, answer.header("X-Username")) == (200, shown)


def test_records(world: PeopleWorld) -> None:
    """Each hand-out and each refusal: from where, who, which role, why; and no secret."""
    world.proxy().get(READER)
    world.proxy().get(READER)
    world.proxy().get(f"{BASE}/account/main/other")
    world.proxy("carol").get(READER)
    world.proxy("bob").get(f"{BASE}/account/main/other")
    world.site.do(lambda: world.site.workshop.audit.close(10))
    first, second, *denials = world.site.audit_records()
    [issued] = world.sts.issued
    assert first == second | {"time": first["time"]}
    assert (first["caller"], first["name"], first["outcome"]) == ("127.0.0.1", "alice", "granted")
    assert (first["account"], first["role"], first["session_name"]) == ("main", "reader", "alice")
    assert first["access_key_id"] == issued.access_key
    assert first["reason"].startswith("group main-reader ")
    assert [(one["name"], one["role"], one["outcome"]) for one in denials] == [
        ("alice", "other", "refused"),
        ("carol", "reader", "refused"),
        ("bob", "other", "refused"),
    ]
    assert [one["reason"].partition(" ")[0] for one in denials] == ["alice", "carol", "bob"]
    text = json.dumps([first, second, *denials])
    assert issued.secret_key not in text
    assert issued.session_token not in text
    assert "sign-in-token" not in text


def test_counters(world: PeopleWorld) -> None:
    """Requests by path and status, logins, console URLs."""
    world.proxy().get(READER)
    world.proxy(None).get(READER)
    world.proxy().get("/elsewhere")
    counts = world.site.metrics
    assert dict(counts.people_requests.counts) == {("role", 200): 1, ("role", 401): 1, ("unknown", 404): 1}
    assert dict(counts.logins.counts) == {("success",): 1, ("refused",): 1}
    assert dict(counts.console_urls.counts) == {("success",): 1}
