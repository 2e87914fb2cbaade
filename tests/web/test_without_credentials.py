"""`credentials: false`: metadata for those who may have it, and nothing of `iam/` for anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import ROLES_PATH
from tests.web.machines import FOO, FOO_ROLE

if TYPE_CHECKING:
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

LISTEN = [
    {"address": "127.0.0.1:0", "imds_v1": True, "credentials": False},
    {"address": "127.0.0.1:0"},
]
OF_ROLES = [
    ROLES_PATH,
    ROLES_PATH + FOO_ROLE,
    "/latest/meta-data/iam",
    "/latest/meta-data/iam/info",
    "/latest/meta-data/iam/security-credentials-extended/" + FOO_ROLE,
]


@pytest.fixture
def site(start_site: StartSite) -> RunningSite:
    """A site with a listener that has no credentials, and one that has."""
    return start_site(listen=LISTEN)


@pytest.mark.parametrize("path", OF_ROLES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_of_roles_is_there(path: str, method: str, site: RunningSite) -> None:
    """An empty 404, with and without a token, also when the caller has its credentials at hand elsewhere."""
    caller, elsewhere = site.caller(FOO), site.caller(FOO, listener=1)
    token = elsewhere.fetch_token()
    assert elsewhere.settle(ROLES_PATH + FOO_ROLE, token).status == 200
    for headers in ((), (("X-aws-ec2-metadata-token", token),)):
        answer = caller.ask(method, path, *headers)
        assert (answer.status, answer.body) == (404, b"")


def test_the_rest_is(site: RunningSite) -> None:
    """What is listed is served, and `iam/` is not listed."""
    caller = site.caller(FOO)
    listed = caller.settle("/latest/meta-data/", None).text.split("\n")
    assert "instance-id" in listed
    assert "iam/" not in listed
    assert caller.get("/latest/meta-data/instance-id").status == 200
    assert (
        "iam/"
        in site.caller(FOO, listener=1)
        .settle("/latest/meta-data/", site.caller(FOO, listener=1).fetch_token())
        .text
    )
