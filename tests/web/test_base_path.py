"""`base_path`: LIST and ROLE at the old place as well, the same in every respect, and nothing else there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import ROLES_PATH, TOKEN_HEADER, TOKEN_PATH, Header
from tests.web.machines import (
    BAR,
    BAR_ROLE,
    DENIED,
    FOO,
    FOO_NAME,
    FOO_ROLE,
    FOREIGN,
    LISTENERS,
    OUTSIDE,
    site_settings,
)

if TYPE_CHECKING:
    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.standins.wire import WireAnswer
    from tests.web.conftest import StartSite

BASE = "/afp-api/latest"
OLD_PATH = BASE + "/meta-data/iam/security-credentials/"
V1, V2, NO_BASE, OTHER_BASE = 0, 1, 2, 3
"""The listeners by number: IMDSv1 too; tokens needed; without a base path; with another one."""


def listener(**keys: object) -> dict[str, object]:
    """Return a listener's settings."""
    return {**LISTENERS[0], **keys}


LISTEN = [
    listener(imds_v1=True, base_path=BASE),
    listener(imds_v1=False, base_path=BASE),
    listener(imds_v1=True),
    listener(imds_v1=True, base_path="/other"),
]


@pytest.fixture
def site(start_site: StartSite) -> RunningSite:
    """A site with these listeners."""
    return start_site(listen=LISTEN)


def shape(answer: WireAnswer) -> tuple[object, ...]:
    """Return all of an answer that must not differ between the two places."""
    passing = {"date", "x-aws-ec2-metadata-token-ttl-seconds"}
    kept = [(name, value) for name, value in answer.headers if name.lower() not in passing]
    return answer.status, answer.reason, kept, answer.body


def test_two_requests_without_a_token(sts: LittleSts, site: RunningSite) -> None:
    """From cold: the bare name, then the document of this caller's own role; one AssumeRole."""
    caller = site.caller(FOO, listener=V1)
    listed = caller.settle(OLD_PATH, None)
    assert (listed.status, listed.body) == (200, FOO_ROLE.encode())
    document = json.loads(caller.get(OLD_PATH + FOO_ROLE).body)
    (key,) = sts.issued
    assert (key.role, key.session_name) == (FOO_ROLE, FOO_NAME)
    assert document["AccessKeyId"] == key.access_key
    record = site.audit_records()[0]
    assert (record["caller"], record["outcome"], record["role"]) == (FOO, "granted", FOO_ROLE)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("below", ["", FOO_ROLE, "/" + FOO_ROLE + "/", BAR_ROLE, "x/y", FOO_ROLE + "?x"])
@pytest.mark.parametrize("which", [V1, V2])
def test_the_same_as_below_latest(which: int, below: str, method: str, site: RunningSite) -> None:
    """Status, headers and body, by every method, with a token, without one and with a wrong one."""
    caller = site.caller(FOO, listener=which)
    token = caller.fetch_token()
    caller.fetch_role(token)
    for headers in ((), ((TOKEN_HEADER, token),), ((TOKEN_HEADER, "x" * 56),)):
        assert shape(caller.ask(method, OLD_PATH + below, *headers)) == shape(
            caller.ask(method, ROLES_PATH + below, *headers)
        )


def test_the_statuses(site: RunningSite) -> None:
    """What the comparison above compares is what it should be."""
    v1, v2 = site.caller(FOO, listener=V1), site.caller(FOO, listener=V2)
    token = v1.fetch_token()
    v1.fetch_role(token)
    assert v1.get(OLD_PATH).status == v1.get(OLD_PATH + FOO_ROLE).status == 200
    assert v1.ask("HEAD", OLD_PATH).status == 200
    assert v1.ask("PUT", OLD_PATH).status == 405
    assert (v1.get(OLD_PATH + BAR_ROLE).status, v1.get(OLD_PATH, "x" * 56).status) == (404, 401)
    assert (v2.get(OLD_PATH).status, v2.get(OLD_PATH).body) == (401, b"")
    assert v2.get(OLD_PATH, token).body == FOO_ROLE.encode()


@pytest.mark.parametrize(
    "path",
    [
        OLD_PATH.rstrip("/"),
        OLD_PATH + "/",
        "/" + OLD_PATH.replace("/", "//"),
        "/afp%2Dapi/latest/meta-data/iam/security-credentials/",
        OLD_PATH + "?x=y",
    ],
)
def test_slashes_and_escapes(path: str, site: RunningSite) -> None:
    """They don't matter here either."""
    caller = site.caller(FOO, listener=V1)
    caller.settle(OLD_PATH, None)
    assert caller.get(path).body == FOO_ROLE.encode()


def test_everyone_gets_its_own(sts: LittleSts, site: RunningSite) -> None:
    """By the socket's peer; another's role is an empty 404."""
    for source, role, other in ((FOO, FOO_ROLE, BAR_ROLE), (BAR, BAR_ROLE, FOO_ROLE)):
        caller = site.caller(source, listener=V1)
        assert caller.settle(OLD_PATH, None).body == role.encode()
        document = json.loads(caller.get(OLD_PATH + role).body)
        (key,) = [key for key in sts.issued if key.role == role]
        assert document["AccessKeyId"] == key.access_key
        refused = caller.get(OLD_PATH + other)
        assert (refused.status, refused.body) == (404, b"")


@pytest.mark.parametrize(
    "header", [("X-Forwarded-For", FOO), ("Forwarded", f"for={FOO}"), ("Via", "1.1 proxy.example")]
)
def test_what_was_passed_on_is_refused(header: Header, sts: LittleSts, site: RunningSite) -> None:
    """The old service ran behind a web server and believed such headers; here they are a 403."""
    answer = site.caller(BAR, listener=V1).get(OLD_PATH, None, header)
    assert (answer.status, answer.body) == (403, b"")
    assert sts.calls == []


def test_the_guards_come_first(site: RunningSite) -> None:
    """A peer outside `callers` and a foreign Host: 403, before anything else."""
    assert site.caller(OUTSIDE, listener=V1).get(OLD_PATH).status == 403
    assert site.caller(FOO, listener=V1).ask("GET", OLD_PATH, host="attacker.example").status == 403
    assert site.caller(FOO, listener=V1).ask("DELETE", OLD_PATH, host="attacker.example").status == 403


@pytest.mark.parametrize(
    "below",
    ["/api/token", "/latest/api/token", "", "/", "/meta-data/", "/meta-data/placement/region", "/status"],
)
def test_nothing_else_is_there(below: str, site: RunningSite) -> None:
    """No token either: PUT is a 405, GET a 404 with EC2's page."""
    caller = site.caller(FOO, listener=V1)
    assert caller.get(BASE + below).status == 404
    put = caller.ask("PUT", BASE + below, ("X-aws-ec2-metadata-token-ttl-seconds", "60"))
    assert (put.status, put.header("Allow")) == (405, "GET, HEAD")


def test_errors_below_iam_are_empty(site: RunningSite) -> None:
    """Also of paths that are not there."""
    caller = site.caller(FOO, listener=V1)
    for path in ("/meta-data/iam", "/meta-data/iam/info", "/meta-data/iam/security-credentials/x/y"):
        answer = caller.get(BASE + path)
        assert (answer.status, answer.body) == (404, b"")


def test_latest_goes_on(site: RunningSite) -> None:
    """The usual paths are there as well, tokens included."""
    caller = site.caller(FOO, listener=V1)
    assert caller.fetch_role() == FOO_ROLE
    assert caller.get("/").status == 200
    assert caller.ask("OPTIONS", TOKEN_PATH).status == 200


def test_it_is_the_listeners_own(site: RunningSite) -> None:
    """Another listener has none, or another one: its paths are 404."""
    site.caller(FOO, listener=V1).settle(OLD_PATH, None)
    assert site.caller(FOO, listener=NO_BASE).get(OLD_PATH).status == 404
    assert site.caller(FOO, listener=OTHER_BASE).get(OLD_PATH).status == 404
    found = site.caller(FOO, listener=OTHER_BASE).get("/other/meta-data/iam/security-credentials/")
    assert found.body == FOO_ROLE.encode()


def test_a_reload_changes_it(sts: LittleSts, site: RunningSite) -> None:
    """It needs no restart, and what is remembered of paths does not outlive it."""
    caller = site.caller(FOO, listener=V1)
    caller.settle(OLD_PATH, None)
    moved = [{**LISTEN[0], "base_path": "/moved"}, *LISTEN[1:]]
    site.replace(site_settings(sts, listen=moved))
    assert caller.get(OLD_PATH).status == 404
    assert caller.settle("/moved/meta-data/iam/security-credentials/", None).body == FOO_ROLE.encode()
    site.replace(site_settings(sts, listen=[{**LISTEN[2]}, *LISTEN[1:]]))
    assert caller.get("/moved/meta-data/iam/security-credentials/").status == 404
    assert caller.settle(ROLES_PATH, None).body == FOO_ROLE.encode()


# --- what the old service answered, and what this one does --------------------------------------------

SEVERAL_ROLES = [{"account": "main", "role": "one"}, {"account": "main", "role": "two"}]
SEVERAL_ACCOUNTS = [{"account": "main", "role": "one"}, {"account": "other", "role": "one"}]
ACCOUNTS = {"main": {"id": "000123456789"}, "other": {"id": "210987654321"}}


@pytest.mark.parametrize("grants", [SEVERAL_ROLES, SEVERAL_ACCOUNTS])
def test_several_roles_are_none(grants: list[dict[str, str]], sts: LittleSts, start_site: StartSite) -> None:
    """A machine has one account and one role: 404 at LIST and at each of the roles, as before."""
    site = start_site(
        listen=LISTEN[:1], providers={"machines": {"type": "simple", "grants": grants}}, accounts=ACCOUNTS
    )
    caller = site.caller(FOO)
    for below in ("", "one", "two"):
        answer = caller.settle(OLD_PATH + below, None)
        assert (answer.status, answer.body) == (404, b"")
    assert sts.calls == []


@pytest.mark.parametrize("source", [FOREIGN, DENIED])
def test_no_role_is_404(source: str, sts: LittleSts, site: RunningSite) -> None:
    """As before, but empty."""
    caller = site.caller(source, listener=V1)
    for below in ("", FOO_ROLE):
        answer = caller.settle(OLD_PATH + below, None)
        assert (answer.status, answer.body) == (404, b"")
    assert sts.calls == []


def test_a_role_that_sts_refuses(sts: LittleSts, site: RunningSite) -> None:
    """404 at LIST; it used to be an empty 200, which clients read as a role without a name."""
    sts.refuse(403, "AccessDenied")
    caller = site.caller(FOO, listener=V1)
    for below in ("", FOO_ROLE):
        answer = caller.settle(OLD_PATH + below, None)
        assert (answer.status, answer.body) == (404, b"")


def test_sts_in_trouble(sts: LittleSts, site: RunningSite) -> None:
    """503 at LIST and ROLE, empty, where it used to be a 502 with JSON."""
    sts.refuse(503, "ServiceUnavailable")
    caller = site.caller(FOO, listener=V1)
    for below in ("", FOO_ROLE):
        answer = caller.get(OLD_PATH + below)
        assert (answer.status, answer.body) == (503, b"")
