"""Anything at all on the wire: never an error of the service's own, never a hang, never another's role.

Each example goes over a connection of its own to a real site. An error in the log or in the loop fails the
run when the site ends. Whatever comes back is searched for names and keys of roles.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.site_thread import RunningSite, running_site
from tests.standins.wire import (
    LIFE_HEADER,
    PATIENCE,
    ROLES_PATH,
    TOKEN_HEADER,
    TOKEN_PATH,
    WireCaller,
)
from tests.web.machines import BAR, BAR_ROLE, DUAL, FOO, FOO_ROLE, FOREIGN, V1, V2, site_settings
from tests.web.questions import LAST

if TYPE_CHECKING:
    from collections.abc import Iterator

many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

_MOMENT = 0.03

METHODS = ["GET", "PUT", "HEAD", "POST", "OPTIONS", "DELETE", "TRACE", "PATCH", "CONNECT", "get", "PRI", "X"]
WORDS = [
    *(
        "latest",
        "2021-03-23",
        "1.0",
        "meta-data",
        "iam",
        "security-credentials",
        "security-credentials-extended",
    ),
    *("info", "api", "token", "dynamic", "instance-identity", "document", "placement", "region", "user-data"),
    *(
        FOO_ROLE,
        BAR_ROLE,
        "instance-id",
        "local-hostname",
        "..",
        ".",
        "%2e%2e",
        "%2F",
        "%00",
        "%0d%0a",
        "%",
        "%zz",
    ),
    *("%ff", "%e2%82%ac", "\u20ac", "*", ";", "=", "&", "?", "#", "a:b@c", " ", "\t", "\x7f"),
]
NAMES = [
    *(
        "Host",
        "Via",
        "X-Forwarded-For",
        "Forwarded",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
    ),
    *(
        "Upgrade",
        "Content-Encoding",
        "Content-Type",
        "Accept",
        "Range",
        "If-None-Match",
        "Cookie",
        "X-Y",
        "Trailer",
    ),
    *(TOKEN_HEADER, LIFE_HEADER, "X-HTTP-Method-Override", "X-Original-URL", "Proxy-Connection", "TE"),
]
VALUES = [
    "",
    "0",
    "1",
    "60",
    "close",
    "keep-alive",
    "chunked",
    "gzip, chunked",
    "100-continue",
    "websocket",
    "h2c",
    "*",
]

segments = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
roles_below = segments.map(lambda name: ROLES_PATH + name)
known = st.sampled_from(
    [TOKEN_PATH, ROLES_PATH, ROLES_PATH + FOO_ROLE, "/latest/meta-data/", "/", "//latest//"]
)
made = st.tuples(
    st.sampled_from(["/", "//", "", "http://169.254.169.254/", "http://x/"]), st.lists(segments, max_size=7)
)
targets = st.one_of(known, roles_below, made.map(lambda parts: parts[0] + "/".join(parts[1])))
headers = st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(VALUES), st.text(max_size=20)))
requests = st.tuples(
    st.sampled_from(METHODS),
    targets,
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", ""]),
    st.lists(headers, max_size=5),
    st.binary(max_size=30),
)


@pytest.fixture(scope="module")
def sts_of_all() -> Iterator[LittleSts]:
    """The STS of the site."""
    with running_little_sts() as sts:
        yield sts


@pytest.fixture(scope="module")
def site(sts_of_all: LittleSts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A site where FOO and BAR have been given their roles, so that there is something to find."""
    with running_site(site_settings(sts_of_all), tmp_path_factory.mktemp("fuzz")) as site:
        for source in (FOO, BAR):
            caller = site.caller(source)
            token = caller.fetch_token()
            assert caller.get(ROLES_PATH + caller.fetch_role(token), token).status == 200
        yield site


def exchange(caller: WireCaller, data: bytes) -> bytes:
    """Send bytes and return all that comes: until the other side closes, or has nothing to say for a moment;
    then it is told that there is no more, and must close.
    """
    received = b""
    with caller.connected() as connection:
        with suppress(OSError):  # it may have heard enough before the end
            connection.send(data)
        connection.socket.settimeout(_MOMENT)
        with suppress(TimeoutError, ConnectionResetError):
            while some := connection.socket.recv(65536):
                received += some
        connection.socket.settimeout(PATIENCE)
        with suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        return received + connection.read_to_end()


def answers_in(data: bytes) -> list[int]:
    """Return the statuses of the answers in a stream."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", data)]


def assert_no_error(received: bytes) -> None:
    """Check that no answer is an error of the service's own; a HEAD may find nothing known yet (503)."""
    assert {status for status in answers_in(received) if status >= 500} <= {503}


def assert_harmless(received: bytes) -> None:
    """Check that there is nothing of a role, and no error of the service's own, in what was received."""
    assert_no_error(received)
    for secret in (FOO_ROLE, BAR_ROLE, "AccessKeyId", "SecretAccessKey", "ASIA"):
        assert secret.encode() not in received
    for leak in (b"Traceback", b"aiohttp", b"Python", b"imds_proxy"):
        assert leak not in received


def render(
    method: str, target: str, version: str, extra: list[tuple[str, str]], body: bytes, host: str
) -> bytes:
    """Return a request as bytes."""
    lines = [f"{method} {target} {version}", f"Host: {host}", *(f"{name}: {value}" for name, value in extra)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + body


def test_answers_are_seen(site: RunningSite) -> None:
    """The tests below look at what really comes back: here two answers, and a role to a good token."""
    caller = site.caller(FOO)
    region = caller.render("GET", "/latest/")
    assert answers_in(exchange(caller, region + region)) == [401, 401]
    received = exchange(caller, caller.render("GET", ROLES_PATH, (TOKEN_HEADER, caller.fetch_token())))
    assert answers_in(received) == [200]
    with pytest.raises(AssertionError):
        assert_harmless(received)


@many
@given(parts=st.lists(requests, min_size=1, max_size=3), listener=st.sampled_from([V2, DUAL]))
def test_requests_of_all_kinds(
    parts: list[tuple[str, str, str, list[tuple[str, str]], bytes]], listener: int, site: RunningSite
) -> None:
    """Odd methods, targets, versions, headers and bodies, several to a connection, without a good token where
    one is needed: nothing of a role comes back. (DUAL takes IMDSv1, so there it is FOREIGN who asks.)
    """
    caller = site.caller(FOREIGN if listener == DUAL else FOO, listener=listener)
    data = b"".join(render(*part, caller.host) for part in parts)
    assert_harmless(exchange(caller, data))


@many
@given(data=st.binary(max_size=400), begins_well=st.booleans())
def test_garbage(data: bytes, begins_well: bool, site: RunningSite) -> None:
    """Bytes of any kind, also behind the beginning of a good request."""
    caller = site.caller(FOO)
    start = f"GET {ROLES_PATH} HTTP/1.1\r\nHost: {caller.host}\r\n".encode() if begins_well else b""
    assert_harmless(exchange(caller, start + data))


@many
@given(target=targets, extra=st.lists(headers, max_size=3), listener=st.sampled_from([V1, V2]))
def test_with_a_good_token(
    target: str, extra: list[tuple[str, str]], listener: int, site: RunningSite, sts_of_all: LittleSts
) -> None:
    """A caller with a good token and a role of its own finds no way to another's, whatever path and headers
    it sends; what has keys in it is its own.
    """
    caller = site.caller(BAR, listener=listener)
    token = caller.fetch_token()
    request = render("GET", target, "HTTP/1.1", [(TOKEN_HEADER, token), *extra], b"", caller.host)
    received = exchange(caller, request)
    assert_no_error(received)
    assert FOO_ROLE.encode() not in received
    if b"AccessKeyId" in received:
        own = [key.secret_key.encode() for key in sts_of_all.issued if key.role == BAR_ROLE]
        assert any(secret in received for secret in own)


@many
@given(token=st.text(max_size=60), extra=st.lists(headers, max_size=2))
def test_any_token(token: str, extra: list[tuple[str, str]], site: RunningSite) -> None:
    """No text is a token but one that was issued to this address."""
    caller = site.caller(FOO, listener=V1)
    request = render(
        "GET", ROLES_PATH + FOO_ROLE, "HTTP/1.1", [(TOKEN_HEADER, token), *extra], b"", caller.host
    )
    assert_harmless(exchange(caller, request + LAST))


@many
@given(position=st.integers(0, 55), character=st.characters(codec="ascii"))
def test_a_token_with_a_character_changed(position: int, character: str, site: RunningSite) -> None:
    """Another character anywhere in a good token makes it worthless."""
    caller = site.caller(FOO, listener=V1)
    token = caller.fetch_token()
    changed = token[:position] + character + token[position + 1 :]
    request = render("GET", ROLES_PATH, "HTTP/1.1", [(TOKEN_HEADER, changed)], b"", caller.host)
    received = exchange(caller, request + LAST)
    if changed != token:
        assert_harmless(received)
