"""TOKEN: who gets one, for how long, and whose it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_PATH, pairs
from tests.web.machines import BAR, BAR_ROLE, DENIED, FOO, FOO_ROLE, FOREIGN, NAMELESS

if TYPE_CHECKING:
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

ANSWER_HEADER = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
REGION_PATH = "/latest/meta-data/placement/region"


def test_the_answer_to_the_byte(shared_site: RunningSite) -> None:
    """200, 56 characters of URL-safe base64 without a newline, the life that was asked for in its header."""
    answer = shared_site.caller(FOO).put_token("21600")
    assert (answer.status, answer.reason) == (200, "OK")
    assert re.fullmatch(rb"[A-Za-z0-9_-]{56}", answer.body)
    headers = pairs(answer.headers)
    assert headers.pop("date").endswith(" GMT")
    assert headers.pop("last-modified").endswith(" GMT")
    assert headers == {
        "server": "EC2ws",
        "content-type": "text/plain",
        "accept-ranges": "none",
        "content-length": "56",
        "x-aws-ec2-metadata-token-ttl-seconds": "21600",
    }
    assert ANSWER_HEADER in dict(answer.headers)


def test_tokens_differ(shared_site: RunningSite) -> None:
    """No two tokens are equal, so that a log of a proxy can tell them apart."""
    caller = shared_site.caller(FOO)
    assert len({caller.fetch_token() for _ in range(5)}) == 5


@pytest.mark.parametrize("life", ["1", "10", "60", "300", "600", "21600"])
def test_lives_that_clients_ask_for(life: str, shared_site: RunningSite) -> None:
    """1 to 21600 seconds: GDAL asks for 10, s3cmd 60, Go v2 300, Rust's object_store 600."""
    answer = shared_site.caller(FOO).put_token(life)
    assert (answer.status, answer.header(ANSWER_HEADER)) == (200, life)


@pytest.mark.parametrize(
    "life",
    [
        "0",
        "21601",
        "-1",
        "+5",
        "5.0",
        "5e1",
        "0x10",
        "1_0",
        "60, 60",
        "60 60",
        "99999999999999999999",
        "x",
        "",
        "\u0665",
        "\u0661\u0660",
        "\uff15",
        "\u00b2",
        "6\u06600",
    ],
)
def test_lives_that_are_none(life: str, shared_site: RunningSite) -> None:
    """Anything but ASCII digits from 1 to 21600 is a 400: `int()` alone would take Arabic digits and `+5`."""
    answer = shared_site.caller(FOO).put_token(life)
    assert (answer.status, answer.reason) == (400, "Bad Request")
    assert answer.body == b""


@pytest.mark.parametrize("lives", [(), ("60", "60"), ("60", "61"), ("60", "x")])
def test_the_life_stands_there_once(lives: tuple[str, ...], shared_site: RunningSite) -> None:
    """No TTL header and two of them, equal ones too, are a 400."""
    assert shared_site.caller(FOO).put_token(*lives).status == 400


def test_white_space_around_the_life_is_the_headers(shared_site: RunningSite) -> None:
    """Blanks around a value belong to HTTP (RFC 9110 section 5.5), not to the number."""
    request = f"PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n{LIFE_HEADER}: \t 5 \r\n\r\n"
    answer = shared_site.caller(FOO).exchange(request.encode())
    assert (answer.status, answer.header(ANSWER_HEADER)) == (200, "5")


@pytest.mark.parametrize(
    "name", [LIFE_HEADER.lower(), LIFE_HEADER.upper(), "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"]
)
def test_header_names_in_any_case(name: str, shared_site: RunningSite) -> None:
    """Clients write the names of both headers as they like."""
    caller = shared_site.caller(FOO)
    answer = caller.ask("PUT", TOKEN_PATH, (name, "60"))
    assert answer.status == 200
    token_header = name.removesuffix(name[-12:])
    assert caller.get(REGION_PATH, None, (token_header, answer.text)).status == 200


@pytest.mark.parametrize(
    "path",
    [TOKEN_PATH, TOKEN_PATH + "/", "//latest/api/token", "/latest//api///token//", "/latest/api/tok%65n"],
)
def test_slashes_of_the_token_path(path: str, shared_site: RunningSite) -> None:
    """Repeated and trailing slashes don't matter: minio-js and JS's metadata client double them."""
    assert shared_site.caller(FOO).ask("PUT", path, (LIFE_HEADER, "60")).status == 200


@pytest.mark.parametrize("version", ["1.0", "2007-01-19", "2021-03-23"])
def test_dated_paths_give_no_token(version: str, shared_site: RunningSite) -> None:
    """A PUT on a dated path is refused with an empty 403; there is nothing to GET there."""
    caller = shared_site.caller(FOO)
    path = f"/{version}/api/token"
    answer = caller.ask("PUT", path, (LIFE_HEADER, "60"))
    assert (answer.status, answer.body) == (403, b"")
    assert caller.get(path).status == 401
    assert caller.get(path, caller.fetch_token()).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH"])
def test_other_methods(method: str, shared_site: RunningSite) -> None:
    """405 with what is allowed and an empty body, token or not."""
    caller = shared_site.caller(FOO)
    for token in (None, caller.fetch_token()):
        answer = caller.ask(method, TOKEN_PATH, token=token)
        assert (answer.status, answer.reason, answer.body) == (405, "Not Allowed", b"")
        assert answer.header("Allow") == "OPTIONS, PUT"


def test_options(shared_site: RunningSite) -> None:
    """OPTIONS says what is allowed, and allows no other site's page anything (no CORS headers)."""
    answer = shared_site.caller(FOO).ask("OPTIONS", TOKEN_PATH, ("Origin", "http://attacker.example"))
    assert (answer.status, answer.body, answer.header("Allow")) == (200, b"", "OPTIONS, PUT")
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("source", [FOO, FOREIGN, DENIED, NAMELESS])
def test_a_token_tells_no_verdict(source: str, shared_site: RunningSite) -> None:
    """Granted, refused, denied, or DNS in trouble: a token for each, and none looks different."""
    answer = shared_site.caller(source).put_token("60")
    assert (answer.status, len(answer.body)) == (200, 56)


# --- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["Content-Length: 0\r\n", ""])
def test_put_with_and_without_a_length(length: str, shared_site: RunningSite) -> None:
    """An empty PUT may say its length or leave it out; the connection goes on to serve."""
    caller = shared_site.caller(FOO)
    request = f"PUT {TOKEN_PATH} HTTP/1.1\r\nHost: {caller.host}\r\n{LIFE_HEADER}: 60\r\n{length}\r\n"
    with caller.connected() as connection:
        for _ in range(2):
            connection.send(request.encode())
            assert connection.read_answer().status == 200


def test_put_chunked_with_continue(shared_site: RunningSite) -> None:
    """s3fs waits for `100 Continue` before it ends its empty chunked PUT. With chunks in a request its answer
    is the last of a connection: what stands behind them would be taken for a part of the next one.
    """
    caller = shared_site.caller(FOO)
    headers = [(LIFE_HEADER, "21600"), ("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]
    with caller.connected() as connection:
        connection.send(caller.render("PUT", TOKEN_PATH, *headers))
        assert connection.read_answer().status == 100
        connection.send(b"0\r\n\r\n")
        answer = connection.read_answer()
        assert (answer.status, len(answer.body)) == (200, 56)
        assert answer.header("Connection") == "close"
        assert connection.read_to_end() == b""


def test_put_chunked_at_once(shared_site: RunningSite) -> None:
    """A client may send the end of its chunked body without waiting."""
    caller = shared_site.caller(FOO)
    headers = [(LIFE_HEADER, "60"), ("Transfer-Encoding", "chunked"), ("expect", "100-Continue")]
    with caller.connected() as connection:
        connection.send(caller.render("PUT", TOKEN_PATH, *headers) + b"0\r\n\r\n")
        assert connection.read_answer().status == 100
        assert connection.read_answer().status == 200


def test_no_continue_for_http_1_0(shared_site: RunningSite) -> None:
    """An HTTP/1.0 client knows no interim answers (RFC 9110 section 10.1.1): it gets the final one alone."""
    caller = shared_site.caller(FOO)
    headers = [(LIFE_HEADER, "60"), ("Expect", "100-continue"), ("Content-Length", "0")]
    answer = caller.exchange(caller.render("PUT", TOKEN_PATH, *headers, version="1.0"))
    assert (answer.status, len(answer.body)) == (200, 56)


def test_a_body_that_never_comes(shared_site: RunningSite) -> None:
    """The token does not wait for a body that was announced: nothing reads it."""
    caller = shared_site.caller(FOO)
    with caller.connected() as connection:
        connection.send(caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), ("Content-Length", "1000000")))
        assert connection.read_answer().status == 200


# --- what a token is worth -------------------------------------------------------------------------


def test_data_without_a_token(shared_site: RunningSite) -> None:
    """Without a token, 401 with an empty body: SDKs then fetch one."""
    for path in (ROLES_PATH, ROLES_PATH + FOO_ROLE, REGION_PATH, "/latest/nothing", "/"):
        answer = shared_site.caller(FOO).get(path)
        assert (answer.status, answer.reason, answer.body) == (401, "Unauthorized", b"")


@pytest.mark.parametrize(
    "token", ["", "x", "A" * 56, "A" * 55, "A" * 57, "=" * 56, "\u0665" * 56, "\udcff" * 56, "A" * 8000]
)
def test_tokens_of_nobodys_making(token: str, shared_site: RunningSite) -> None:
    """What this service did not sign is a 401."""
    answer = shared_site.caller(FOO).get(REGION_PATH, token)
    assert (answer.status, answer.body) == (401, b"")


def test_a_token_with_one_bit_changed(shared_site: RunningSite) -> None:
    """Every character of a token counts."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    for index in range(0, 56, 5):
        other = "A" if token[index] != "A" else "Q"
        assert caller.get(REGION_PATH, token[:index] + other + token[index + 1 :]).status == 401


def test_a_token_is_worthless_from_another_address(shared_site: RunningSite) -> None:
    """BAR with FOO's token gets neither FOO's role nor its own; with its own token it gets its own."""
    foo, bar = shared_site.caller(FOO), shared_site.caller(BAR)
    foo.fetch_role(token := foo.fetch_token())
    for path in (ROLES_PATH, ROLES_PATH + FOO_ROLE, ROLES_PATH + BAR_ROLE, REGION_PATH):
        answer = bar.get(path, token)
        assert (answer.status, answer.body) == (401, b"")
    assert bar.fetch_role() == BAR_ROLE


def test_two_tokens_are_none(shared_site: RunningSite) -> None:
    """Two token headers, good ones too, are a 401: which one would count depends on the reader."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    answer = caller.get(REGION_PATH, token, ("X-aws-ec2-metadata-token", token))
    assert (answer.status, answer.body) == (401, b"")


def test_a_token_ends(start_site: StartSite) -> None:
    """The header counts down; at the end of its life the token is a 401."""
    site = start_site()
    caller = site.caller(FOO)
    token = caller.fetch_token(300)
    site.clock.ahead = 200
    left = caller.get(REGION_PATH, token).header(ANSWER_HEADER)
    assert left is not None
    assert 60 <= int(left) <= 100
    site.clock.ahead = 301
    assert caller.get(REGION_PATH, token).status == 401
