"""`list_without_token`: the role's name, and that alone, for clients that LIST without a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.dns_server import NameServer, running_name_server
from tests.standins.wire import ROLES_PATH
from tests.web.machines import BAR, BAR_ROLE, FOO, FOO_ROLE, FOREIGN, NAMELESS, OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

LISTEN = [{"address": "127.0.0.1:0", "list_without_token": True, "callers_except": [OUTSIDE]}]
SPELLINGS = [ROLES_PATH, ROLES_PATH.rstrip("/"), "//latest//meta-data/iam/security-credentials/"]
DATED = "/2021-03-23/meta-data/iam/security-credentials/"
CLOSED = [
    ROLES_PATH + FOO_ROLE,
    ROLES_PATH + BAR_ROLE,
    "/",
    "/latest/",
    "/latest/meta-data/",
    "/latest/meta-data/iam/",
    "/latest/meta-data/iam/info",
    "/latest/meta-data/iam/security-credentials-extended/",
    "/latest/meta-data/iam/security-credentials-extended/" + FOO_ROLE,
    "/latest/meta-data/instance-id",
    "/latest/meta-data/placement/region",
    "/latest/dynamic/instance-identity/document",
    "/latest/user-data",
    "/nowhere",
]


@pytest.fixture
def site(start_site: StartSite) -> RunningSite:
    """A site whose one listener answers LIST without a token, and nothing else."""
    return start_site(listen=LISTEN)


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    """A name server without records."""
    with running_name_server() as server:
        yield server


@pytest.mark.parametrize("path", [*SPELLINGS, DATED])
def test_the_role_s_name(path: str, site: RunningSite) -> None:
    """LIST without a token is the bare name, by GET and HEAD, without a token's life in the answer."""
    caller = site.caller(FOO)
    answer = caller.settle(path, None)
    assert (answer.status, answer.text) == (200, FOO_ROLE)
    assert answer.header("X-aws-ec2-metadata-token-ttl-seconds") is None
    head = caller.ask("HEAD", path)
    assert (head.status, head.header("Content-Length")) == (200, str(len(FOO_ROLE)))


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_else(path: str, site: RunningSite) -> None:
    """All other paths, the caller's own role included, are 401 without a token and as ever with one."""
    caller = site.caller(FOO)
    assert caller.settle(ROLES_PATH, None).status == 200
    for method in ("GET", "HEAD"):
        answer = caller.ask(method, path)
        assert (answer.status, answer.body) == (401, b"")
    assert caller.settle(path, caller.fetch_token()).status in {200, 404}


def test_s3fs_then_gets_its_keys(site: RunningSite) -> None:
    """LIST without, then TOKEN and ROLE: what s3fs does with `iam_role=auto`."""
    caller = site.caller(FOO)
    role = caller.settle(ROLES_PATH, None).text
    assert caller.get(ROLES_PATH + role, caller.fetch_token()).status == 200


def test_a_wrong_token(site: RunningSite) -> None:
    """Who shows a token shows a good one, of its own, once: else 401."""
    caller = site.caller(FOO)
    good = caller.fetch_token()
    foreign = site.caller(BAR).fetch_token()
    for token in ("wrong", "", foreign):
        answer = caller.get(ROLES_PATH, token)
        assert (answer.status, answer.body) == (401, b""), token
    twice = (("X-aws-ec2-metadata-token", good),) * 2
    assert caller.ask("GET", ROLES_PATH, *twice).status == 401
    assert caller.settle(ROLES_PATH, good).text == FOO_ROLE


def test_who_is_refused(site: RunningSite, sts: LittleSts) -> None:
    """A caller without a role gets an empty 404, one whose name nobody knows 503; nobody asks STS."""
    foreign = site.caller(FOREIGN).get(ROLES_PATH)
    assert (foreign.status, foreign.body) == (404, b"")
    nameless = site.caller(NAMELESS).get(ROLES_PATH)
    assert (nameless.status, nameless.body) == (503, b"")
    assert not sts.calls


def test_guards(site: RunningSite, sts: LittleSts) -> None:
    """Peers outside `callers`, proxies and foreign names in Host hear 403, as at every path."""
    assert site.caller(OUTSIDE).get(ROLES_PATH).status == 403
    caller = site.caller(FOO)
    for header in ("X-Forwarded-For", "Forwarded", "Via"):
        answer = caller.get(ROLES_PATH, None, (header, "10.0.0.1"))
        assert (answer.status, answer.body) == (403, b""), header
    assert caller.ask("GET", ROLES_PATH, host="attacker.example").status == 403
    assert caller.ask("PUT", ROLES_PATH).status == 405
    assert not sts.calls


def test_old_urls(start_site: StartSite) -> None:
    """LIST below `base_path` is the same LIST; ROLE there wants a token, too."""
    site = start_site(listen=[{**LISTEN[0], "base_path": "/afp-api/latest", "imds_v1": False}])
    caller = site.caller(FOO)
    path = "/afp-api/latest/meta-data/iam/security-credentials/"
    assert caller.settle(path, None).text == FOO_ROLE
    assert caller.get(path + FOO_ROLE).status == 401


def test_the_identity_is_looked_up_again(name_server: NameServer, start_site: StartSite) -> None:
    """A LIST without a token is not preceded by a TOKEN, so it looks an older identity up again, as TOKEN
    does; one with a token does not.
    """
    name_server.add_host(FOO, "tuvfoo42.valid.example", ttl=300)
    site = start_site(listen=LISTEN, hosts={}, dns={"nameservers": [name_server.endpoint], "recheck": "5s"})
    caller = site.caller(FOO)
    token = caller.fetch_token()
    assert caller.settle(ROLES_PATH, None).text == FOO_ROLE
    name_server.clear()
    name_server.add_host(FOO, "berbar07.valid.example", ttl=300)
    assert caller.settle(ROLES_PATH, None).text == FOO_ROLE
    site.clock.ahead += 6
    assert caller.settle(ROLES_PATH, token).text == FOO_ROLE
    assert caller.settle(ROLES_PATH, None).text == BAR_ROLE
    assert caller.settle(ROLES_PATH, token).text == BAR_ROLE


def test_it_is_off_unless_asked_for(start_site: StartSite) -> None:
    """Without the setting a LIST without a token is 401."""
    assert start_site().caller(FOO).get(ROLES_PATH).status == 401
