"""Callers without a role, and trouble: what each path says, and that nobody asks STS for nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.standins.dns_server import running_name_server
from tests.standins.wire import ROLES_PATH, WireAnswer, WireCaller
from tests.web.machines import (
    BAR,
    BAR_ROLE,
    DENIED,
    DUAL,
    FOO,
    FOO_ROLE,
    FOREIGN,
    HOSTS,
    NAMELESS,
    V1,
    site_settings,
)

if TYPE_CHECKING:
    from tests.standins.little_sts import LittleSts
    from tests.web.conftest import StartSite

IAM_PATHS = [
    "/latest/meta-data/iam",
    "/latest/meta-data/iam/",
    "/latest/meta-data/iam/info",
    ROLES_PATH,
    ROLES_PATH + FOO_ROLE,
    ROLES_PATH + "roleprefix-tuvbaz",
    ROLES_PATH + "anything%0a",
]


def assert_empty(answer: WireAnswer, status: int) -> None:
    """Check that an answer is this status and no body, not even the type of one."""
    assert (answer.status, answer.body, answer.header("Content-Type")) == (status, b"", None)


def settle_refusal(caller: WireCaller) -> None:
    """Wait until LIST is no 503 any more: a busy machine may take longer than its patience."""
    assert caller.settle(ROLES_PATH, caller.fetch_token()).status == 404


@pytest.mark.parametrize("source", [FOREIGN, DENIED])
def test_refused_callers(source: str, sts: LittleSts, start_site: StartSite) -> None:
    """A foreign domain or `deny`: TOKEN 200, an empty 404 at and below `iam/`, and STS never hears of it."""
    site = start_site()
    caller = site.caller(source)
    settle_refusal(caller)
    token = caller.fetch_token()
    for path in IAM_PATHS:
        assert_empty(caller.get(path, token), 404)
        assert caller.ask("HEAD", path, token=token).status == 404
    assert_empty(site.caller(source, listener=V1).get(ROLES_PATH), 404)
    assert_empty(site.caller(source, listener=DUAL).get(ROLES_PATH), 404)
    assert sts.calls == []


@pytest.mark.parametrize("source", [FOREIGN, DENIED])
def test_the_rest_for_refused_callers(source: str, start_site: StartSite) -> None:
    """What is no secret is served; `meta-data/` does not list `iam/`; the identity has no account."""
    caller = start_site().caller(source)
    settle_refusal(caller)
    token = caller.fetch_token()
    listing = caller.get("/latest/meta-data/", token)
    assert listing.status == 200
    assert "iam/" not in listing.text.split("\n")
    assert caller.get("/latest/meta-data/placement/region", token).status == 200
    assert caller.get("/latest/meta-data/instance-id", token).status == 200
    document = json.loads(caller.get("/latest/dynamic/instance-identity/document", token).body)
    assert document["accountId"] is None


def test_a_role_that_sts_refuses(sts: LittleSts, start_site: StartSite) -> None:
    """AccessDenied with nothing held: an empty 404 at LIST, ROLE and `iam/info`; no `iam/` is listed."""
    sts.refuse(403, "AccessDenied")
    caller = start_site().caller(FOO)
    settle_refusal(caller)
    token = caller.fetch_token()
    for path in IAM_PATHS:
        assert_empty(caller.get(path, token), 404)
    assert "iam/" not in caller.get("/latest/meta-data/", token).text.split("\n")
    assert len(sts.calls) == 1  # and it is remembered


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "Throttling"), (500, "InternalFailure"), (403, "ExpiredToken"), (403, "InvalidClientTokenId")],
)
def test_sts_in_trouble(status: int, code: str, sts: LittleSts, start_site: StartSite) -> None:
    """Throttling, 5xx and our own key refused are trouble: 503 and empty below `iam/`, the rest is served."""
    sts.refuse(status, code)
    caller = start_site().caller(FOO)
    token = caller.fetch_token()
    for path in (ROLES_PATH, ROLES_PATH + FOO_ROLE, "/latest/meta-data/iam/info", "/latest/meta-data/iam/"):
        assert_empty(caller.get(path, token), 503)
    assert caller.get("/latest/meta-data/local-hostname", token).status == 200
    assert caller.get("/latest/dynamic/instance-identity/document", token).status == 200
    assert "iam/" not in caller.get("/latest/meta-data/", token).text.split("\n")
    # Another role's name is a 404 even now: that much is known without STS.
    assert_empty(caller.get(ROLES_PATH + BAR_ROLE, token), 404)


def test_sts_comes_back(sts: LittleSts, start_site: StartSite) -> None:
    """After trouble the role is there again with nobody's help."""
    sts.refuse(503, "ServiceUnavailable")
    caller = start_site().caller(FOO)
    assert caller.get(ROLES_PATH, caller.fetch_token()).status == 503
    sts.accept()
    assert caller.fetch_role() == FOO_ROLE


def test_dns_in_trouble(sts: LittleSts, start_site: StartSite) -> None:
    """No name server answers: TOKEN 200, 503 and empty where a name would matter, the region is served."""
    caller = start_site().caller(NAMELESS)
    token = caller.fetch_token()
    for path in (*IAM_PATHS[:5], "/latest/meta-data/", "/latest/meta-data/instance-id"):
        assert_empty(caller.get(path, token), 503)
    assert caller.get("/latest/meta-data/placement/region", token).status == 200
    assert caller.get("/latest/meta-data/local-ipv4", token).text == NAMELESS
    assert sts.calls == []


def test_dns_that_says_nothing(sts: LittleSts, start_site: StartSite) -> None:
    """A name server that is silent: TOKEN 200, LIST 503 and empty; when it speaks again the role is there."""
    with running_name_server() as names:
        names.add_host("127.0.1.1", "tuvfoo42.valid.example")
        names.fault_all("drop")
        site = start_site(dns={"nameservers": [names.endpoint]}, hosts={})
        caller = site.caller("127.0.1.1")
        token = caller.fetch_token()
        assert_empty(caller.get(ROLES_PATH, token), 503)
        assert caller.get("/latest/meta-data/placement/availability-zone/", token).status == 200
        assert sts.calls == []
        names.heal()
        assert caller.fetch_role(token) == FOO_ROLE


def test_dns_that_answers(sts: LittleSts, start_site: StartSite) -> None:
    """Names from a real name server: confirmed, a PTR that leads elsewhere, and no PTR at all."""
    with running_name_server() as names:
        names.add_host("127.0.1.1", "tuvfoo42.valid.example")
        names.set_pointers("127.0.1.2", "tuvfoo42.valid.example")
        site = start_site(dns={"nameservers": [names.endpoint]}, hosts={})
        assert site.caller("127.0.1.1").fetch_role() == FOO_ROLE
        for source in ("127.0.1.2", "127.0.1.3"):
            caller = site.caller(source)
            settle_refusal(caller)
            listing = caller.get("/latest/meta-data/", caller.fetch_token()).text.split("\n")
            assert {"instance-id", "local-ipv4", "placement/"} <= set(listing)
            assert {"hostname", "local-hostname", "iam/"}.isdisjoint(listing)
    assert len(sts.calls) == 1


def test_slow_sts(sts: LittleSts, start_site: StartSite) -> None:
    """While STS does not answer: TOKEN 200, LIST and ROLE an empty 503; one call for all, and kept."""
    sts.hold()
    caller = start_site().caller(FOO)
    token = caller.fetch_token()
    for path in (ROLES_PATH, ROLES_PATH + FOO_ROLE, ROLES_PATH):
        assert_empty(caller.get(path, token), 503)
    sts.release()
    assert caller.fetch_role(token) == FOO_ROLE
    assert len(sts.calls) == 1


def test_a_deny_by_a_reload_ends_what_was_given(sts: LittleSts, start_site: StartSite) -> None:
    """Denied after LIST and with credentials held, by address or by name: 404 at once, also on the open
    connection; the other caller goes on.
    """
    site = start_site()
    foo, bar = site.caller(FOO), site.caller(BAR)
    token = foo.fetch_token()
    assert foo.fetch_role(token) == FOO_ROLE
    assert bar.fetch_role() == BAR_ROLE
    header = ("X-aws-ec2-metadata-token", token)
    with foo.connected() as connection:
        connection.send(foo.render("GET", ROLES_PATH + FOO_ROLE, header))
        assert connection.read_answer().status == 200
        for denied in (FOO, HOSTS[FOO]):
            site.replace(site_settings(sts, deny=[denied]))
            for path in (ROLES_PATH + FOO_ROLE, ROLES_PATH):
                connection.send(foo.render("GET", path, header))
                assert_empty(connection.read_answer(), 404)
            assert foo.put_token("60").status == 200
            assert bar.fetch_role() == BAR_ROLE
    assert len(sts.calls) == 2


def test_records_of_refusals(start_site: StartSite) -> None:
    """The caller learns little, the audit all: outcome, name and reason, once for many requests."""
    site = start_site()
    caller = site.caller(DENIED)
    token = caller.fetch_token()
    for _ in range(5):
        caller.settle(ROLES_PATH, token)
        caller.get(ROLES_PATH + FOO_ROLE, token)
    site.do(lambda: site.workshop.audit.close(5))
    records = site.audit_records()
    assert {(record["caller"], record["outcome"]) for record in records} == {(DENIED, "refused")}
    assert "denied" in records[0]["reason"]
    assert len(records) == 2  # the first, and the count of the rest
    assert sum(record["count"] for record in records) == 10
