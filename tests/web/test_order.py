"""Which answer a request gets that deserves several: 403 before 503 before 405 before 401 before 404."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import ROLES_PATH, TOKEN_HEADER, TOKEN_PATH, WireCaller
from tests.web.machines import FOO, FOO_ROLE, OUTSIDE, V1, V2

if TYPE_CHECKING:
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

VIA = ("Via", "1.1 proxy.example")


@pytest.fixture
def site(start_site: StartSite) -> RunningSite:
    """One request per second, by a clock that stands still."""
    site = start_site(limits={"requests_per_second": 1})
    site.clock.freeze()
    return site


@pytest.mark.parametrize(
    "path", ["/nothing", "/latest/meta-data/iam/nothing", ROLES_PATH + "another", "/2021-03-23/api/token"]
)
@pytest.mark.parametrize("listener", [V1, V2])
def test_the_order(path: str, listener: int, site: RunningSite) -> None:
    """A request with every fault there is, and the next answer each time one is mended."""
    caller = site.caller(FOO, listener=listener)
    good = (TOKEN_HEADER, caller.fetch_token())
    bad = (TOKEN_HEADER, "x" * 56)

    def status(method: str, *headers: tuple[str, str]) -> int:
        return caller.ask(method, path, *headers).status

    assert status("DELETE", bad, VIA) == 403
    assert caller.ask("DELETE", path, bad, host="attacker.example").status == 403
    assert status("DELETE", bad) == 503
    site.clock.ahead += 1
    assert status("DELETE", bad) == 405
    site.clock.ahead += 1
    assert status("GET", bad) == 401
    site.clock.ahead += 1
    assert status("GET", good) == 404


def test_the_order_for_tokens(site: RunningSite) -> None:
    """The same for TOKEN: 403, 503, 405, then 400 for its TTL."""
    caller = site.caller(FOO)
    assert caller.get("/latest/meta-data/placement/region").status == 401  # takes this second's request
    assert caller.ask("DELETE", TOKEN_PATH, VIA).status == 403
    assert caller.ask("DELETE", TOKEN_PATH).status == 503
    assert caller.put_token("60").status == 503
    site.clock.ahead += 1
    assert caller.ask("DELETE", TOKEN_PATH).status == 405
    site.clock.ahead += 1
    assert caller.put_token("x").status == 400


def test_strangers_hear_403_first_of_all(shared_site: RunningSite) -> None:
    """A peer that is no caller learns nothing, whatever it asks and however: the same empty 403."""
    stranger = shared_site.caller(OUTSIDE)
    token = shared_site.caller(FOO).fetch_token()
    requests = [
        stranger.render("PUT", TOKEN_PATH, ("X-aws-ec2-metadata-token-ttl-seconds", "60")),
        stranger.render("PUT", TOKEN_PATH),
        stranger.render("OPTIONS", TOKEN_PATH),
        stranger.render("GET", ROLES_PATH),
        stranger.render("GET", ROLES_PATH + FOO_ROLE, (TOKEN_HEADER, token)),
        stranger.render("DELETE", "/nothing"),
        stranger.render("GET", "/", host="attacker.example"),
    ]
    answers = [stranger.exchange(request) for request in requests]
    assert {(answer.status, answer.body) for answer in answers} == {(403, b"")}
    assert len({tuple(name for name, _ in answer.headers) for answer in answers}) == 1


def test_errors_below_iam_are_empty(shared_site: RunningSite) -> None:
    """401, 403, 404 and 405 at and below `iam/` have no body, which GDAL and awscrt would take for a name."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    caller.fetch_role(token)
    for path in ("/latest/meta-data/iam", "/latest/meta-data/iam/info", ROLES_PATH, ROLES_PATH + "x"):
        answers = {
            401: caller.get(path),
            403: caller.get(path, token, VIA),
            405: caller.ask("POST", path, token=token),
            404: caller.get(path + "/nothing", token),
        }
        for status, answer in answers.items():
            assert (answer.status, answer.body, answer.header("Content-Length")) == (status, b"", "0")


def test_status_lines(shared_site: RunningSite) -> None:
    """Every answer of the service says HTTP/1.1, Date and Server, and no other software's name."""
    caller: WireCaller = shared_site.caller(FOO)
    for answer in (caller.get("/"), caller.put_token(), caller.ask("POST", "/"), caller.get("/", None, VIA)):
        assert answer.status >= 400
        assert answer.header("Server") == "EC2ws"
        assert answer.header("Date")
