"""The quick way and aiohttp's: whatever is sent, both give the same answers and leave the same behind.

Two sites with equal settings are asked the same. At one of them a request of the strict form may be
answered at once; at the other every request is handed to aiohttp. Answers are compared byte for byte, but for
dates and what is drawn anew each time (tokens, keys).
"""

from __future__ import annotations

import re
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imds_proxy.model import canonical_address
from tests.standins.authority import Authority
from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.site_thread import RunningSite, running_site
from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH
from tests.web.container_questions import HEADER as CONTAINER_HEADER
from tests.web.container_questions import PATH as CONTAINER_PATH
from tests.web.machines import BAR, BAR_ROLE, FOO, FOO_ROLE, FOREIGN, HOSTS, OUTSIDE, site_settings
from tests.web.questions import LAST
from tests.web.test_pipelines import BASE, CONTAINER, TWIN, TWIN_NAME, World, listeners

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_proxy.web.answer import Reply
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.service import Service
    from tests.web.questions import Asker

many = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
few = settings(many, max_examples=25)

SOURCES = [FOO, BAR, TWIN]
_MASKED = [
    (re.compile(rb"(Date|Last-Modified): [^\r]*"), rb"\1: -"),
    (re.compile(rb'"(Expiration|LastUpdated)" ?: ?"[^"]*"'), rb'"\1": -'),
    (re.compile(rb"(?<=\r\n\r\n)[0-9A-Za-z_-]{56}(?=HTTP/1\.1 |\Z)"), b"<token>"),
]


class Counting:
    """Service whose quick answers are counted."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.quick = 0

    def answer_at_once(self, ask: Ask, connection: Connection) -> Reply | None:
        """Return what the service answers."""
        reply = self._service.answer_at_once(ask, connection)
        self.quick += reply is not None
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


class HandingOver(Counting):
    """Service that answers nothing at once."""

    def answer_at_once(self, ask: Ask, connection: Connection) -> None:
        """Return None."""


@dataclass
class Side:
    """One of the two sites."""

    site: RunningSite
    sts: LittleSts
    wrapper: type[Counting]

    def wrap(self) -> None:
        """Put the wrapper around the services of all listeners."""

        def put() -> None:
            for listener in self.site.listeners:
                listener.service = cast("Service", self.wrapper(listener.service))

        self.site.do(put)

    @property
    def quick(self) -> list[int]:
        """How many answers were given at once, by listener."""
        return [cast("Counting", listener.service).quick for listener in self.site.listeners]

    def drain(self, *, is_draining: bool) -> None:
        """Let every answer be the last of its connection, or not."""

        def put() -> None:
            for listener in self.site.listeners:
                listener.is_draining = is_draining

        self.site.do(put)

    def limit(self, requests_per_second: int) -> None:
        """Let every caller ask so often; all have saved up as much as they may."""
        limits = self.site.workshop.connections.limits
        limits.rates = replace(limits.rates, requests_per_second=requests_per_second)
        self.site.clock.ahead += 1.5

    def state(self) -> dict[str, object]:
        """Return all that requests leave behind: counts, records, and what callers have left."""
        return cast("dict[str, object]", self.site.do(self._read)) | {"audit": self._records()}

    def _read(self) -> dict[str, object]:
        metrics, limits = self.site.metrics, self.site.workshop.connections.limits
        now = self.site.clock.read_monotonic()
        taken = {}
        for source in [*SOURCES, FOREIGN, OUTSIDE]:
            allowance = limits.allowance_of(canonical_address(source))
            taken[source] = round(max(allowance.requests_at - now, -1.0), 8), allowance.is_known
        tallies = (metrics.requests, metrics.refusals, metrics.troubles, metrics.verdicts, metrics.hand_outs)
        return {
            "counts": [tally.read() for tally in tallies],
            "taken": taken,
            "denied": limits.denied_requests,
            "dropped": +self.site.workshop.connections.dropped,
            "calls": [call["RoleArn"] for call in self.sts.calls],
        }

    def _records(self) -> list[dict[str, object]]:
        varying = {"time", "expiration", "access_key_id"}
        records = self.site.audit_records()
        return [{key: value for key, value in one.items() if key not in varying} for one in records]

    def mask(self, received: bytes) -> bytes:
        """Return what was received without what differs from one time to the next."""
        for key in self.sts.issued:
            for name in ("access_key", "secret_key", "session_token"):
                text = f"<{name} of {key.session_name}>"
                received = received.replace(getattr(key, name).encode(), text.encode())
        received = re.sub(
            rb"Content-Length: \d+(?=\r\n(?:[^\r]+\r\n)*?\r\n\{)", b"Content-Length: -", received
        )
        for pattern, text_for in _MASKED:
            received = pattern.sub(text_for, received)
        return received


class Pair:
    """Both sites, and callers that ask the same of both."""

    def __init__(self, quick: Side, slow: Side, tls: ssl.SSLContext) -> None:
        self.sides = quick, slow
        self.worlds = [World(side.site, side.sts, tls) for side in self.sides]
        wall = time.time()
        for side in self.sides:
            side.site.clock.freeze()
            side.site.clock.freeze_wall(wall)
            side.wrap()

    def exchange(self, source: str, number: int, pieces: list[bytes]) -> tuple[bytes, bytes]:
        """Return what both answer to all that is sent over one connection, until they end it."""
        first, second = (
            self._exchange(side, world, source, number, pieces)
            for side, world in zip(self.sides, self.worlds, strict=True)
        )
        return first, second

    def _exchange(self, side: Side, world: World, source: str, number: int, pieces: list[bytes]) -> bytes:
        with world.caller(source, number).connected() as connection:
            for piece in pieces:
                with suppress(OSError):  # behind an answer that was the last
                    connection.send(piece)
            return side.mask(connection.read_to_end())

    def assert_equal(self, asked: object) -> None:
        """Check that both sites have been left in the same state."""
        first, second = (side.state() for side in self.sides)
        for name, value in first.items():
            assert value == second[name], (name, asked)


@contextmanager
def running_pair(listen: list[dict[str, object]], folder: Path, authority: Authority) -> Iterator[Pair]:
    """Run two sites with equal settings."""
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    hosts = {**HOSTS, TWIN: TWIN_NAME}
    for name in ("quick", "slow"):
        (folder / name).mkdir()
    with (
        running_little_sts() as first_sts,
        running_little_sts() as second_sts,
        running_site(site_settings(first_sts, listen=listen, hosts=hosts), folder / "quick") as first,
        running_site(site_settings(second_sts, listen=listen, hosts=hosts), folder / "slow") as second,
    ):
        yield Pair(Side(first, first_sts, Counting), Side(second, second_sts, HandingOver), tls)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two sites for all of these tests."""
    folder = tmp_path_factory.mktemp("both-ways")
    authority = Authority(folder)
    with running_pair(listeners(folder, authority), folder, authority) as made:
        yield made


# --- what is sent ----------------------------------------------------------------------------------

_DRESS = st.lists(
    st.sampled_from(
        [
            *("Accept: */*", "User-Agent: aws-cli/2.15 md/prompt#off", "Accept-Encoding: identity"),
            *(
                "amz-sdk-request: attempt=1",
                "Connection: keep-alive",
                "Connection: close",
                "Content-Length: 0",
            ),
            *("Via: 1.1 x", "X-Forwarded-For: 10.0.0.1", "Cookie: a=b", "Accept: a", "Expect: 100-continue"),
        ]
    ),
    max_size=2,
)
_HOST = st.sampled_from(
    [*["Host: 169.254.169.254"] * 6, "host: localhost", "Host: attacker.example", "Host:x", ""]
)
_EDITS = st.one_of(
    st.binary(max_size=2),
    st.sampled_from(
        [b"\r\n", b"\n", b"\0", b" ", b"\t", b": ", b"%2e", b"HTTP/1.0", b"\r\n\r\n", b"\r\n x", b"/"]
    ),
)


@st.composite
def strict_requests(draw: st.DrawFn, number: int, asker: Asker, container_tokens: tuple[str, ...]) -> bytes:
    """Draw a request as SDKs send it, and some that nearly are."""
    token = draw(st.sampled_from([asker.token, asker.token, asker.token, *asker.worthless_tokens[:2], ""]))
    if number == CONTAINER:
        path = draw(st.sampled_from([CONTAINER_PATH, CONTAINER_PATH, CONTAINER_PATH + "/", "/x"]))
        said = [f"{CONTAINER_HEADER}: {draw(st.sampled_from([*container_tokens, 'x']))}"]
        method = draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT"]))
    elif draw(st.booleans()):
        roles = draw(st.sampled_from([ROLES_PATH, BASE + ROLES_PATH.removeprefix("/latest")]))
        path = roles + draw(st.sampled_from(["", asker.role, asker.role, *asker.foreign_roles[:2]]))
        said = [f"{TOKEN_HEADER}: {token}"] if token else []
        method = draw(st.sampled_from(["GET", "GET", "GET", "GET", "HEAD", "PUT"]))
    else:
        path, method = TOKEN_PATH, draw(st.sampled_from(["PUT", "PUT", "PUT", "GET"]))
        said = [f"{LIFE_HEADER}: {draw(st.sampled_from(['60', '21600', '0', '00060', 'x']))}"]
    version = draw(st.sampled_from([*["HTTP/1.1"] * 6, "HTTP/1.0"]))
    lines = [f"{method} {path} {version}", draw(_HOST), *said, *draw(_DRESS)]
    return "\r\n".join([*filter(None, lines), "", ""]).encode()


@st.composite
def requests(draw: st.DrawFn, pair: Pair, source: str, number: int) -> bytes:
    """Draw a request: of the strict form, nearly so, well-formed in any other way, or anything at all."""
    world = pair.worlds[0]
    kind = draw(st.sampled_from(["strict", "strict", "strict", "edited", "question", "binary"]))
    if kind == "binary":
        return draw(st.binary(max_size=40))
    if kind == "question":
        return draw(world.questions(source, number)).data
    request = draw(strict_requests(number, world.askers[source], world.container_tokens))
    if kind == "edited":
        start = draw(st.integers(0, len(request) - 1))
        request = request[:start] + draw(_EDITS) + request[start + draw(st.integers(0, 2)) :]
    return request


def pieces_of(data: bytes, splits: list[int]) -> list[bytes]:
    """Return the data in pieces."""
    ends = [*sorted({split % (len(data) + 1) for split in splits}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start != end]


# --- both are asked --------------------------------------------------------------------------------


@many
@given(data=st.data())
def test_anything(data: st.DataObject, pair: Pair) -> None:
    """Both ways answer the same to whatever is sent, in one piece or in several, and count it alike."""
    number, source = data.draw(st.integers(0, CONTAINER)), data.draw(st.sampled_from(SOURCES))
    asked = data.draw(st.lists(requests(pair, source, number), min_size=1, max_size=4))
    splits = data.draw(st.lists(st.integers(0, 10_000), max_size=3))
    pieces = pieces_of(b"".join(asked) + LAST * 3, splits)
    first, second = pair.exchange(source, number, pieces)
    assert first == second, asked
    pair.assert_equal(asked)


@few
@given(data=st.data())
def test_while_draining(data: st.DataObject, pair: Pair) -> None:
    """Both ways end the connection with the first answer."""
    number, source = data.draw(st.integers(0, CONTAINER)), data.draw(st.sampled_from(SOURCES))
    asked = data.draw(st.lists(requests(pair, source, number), min_size=1, max_size=3))
    for side in pair.sides:
        side.drain(is_draining=True)
    try:
        first, second = pair.exchange(source, number, [b"".join(asked) + LAST * 3])
    finally:
        for side in pair.sides:
            side.drain(is_draining=False)
    assert first == second, asked
    assert first.count(b"Connection: close\r\n") == 1
    pair.assert_equal(asked)


@few
@given(data=st.data())
@example(data=None)
def test_beyond_the_limit(data: st.DataObject | None, pair: Pair) -> None:
    """Both ways take the same from what a caller may ask, and refuse at the same request."""
    number, source, asked = 0, FOO, [b""]
    if data is not None:
        number, source = data.draw(st.integers(0, CONTAINER)), data.draw(st.sampled_from(SOURCES))
        asked = data.draw(st.lists(requests(pair, source, number), min_size=1, max_size=5))
    token = f"PUT {TOKEN_PATH} HTTP/1.1\r\nHost: localhost\r\n{LIFE_HEADER}: 60\r\n\r\n".encode()
    for side in pair.sides:
        side.limit(requests_per_second=3)
    try:
        for pieces in ([b"".join([*asked, LAST * 3])], [token * 5 + LAST * 3]):
            first, second = pair.exchange(source, number, pieces)
            assert first == second, asked
            pair.assert_equal(asked)
    finally:
        for side in pair.sides:
            side.limit(requests_per_second=1_000_000)


@pytest.mark.parametrize("number", range(CONTAINER + 1))
def test_what_an_sdk_asks(number: int, pair: Pair) -> None:
    """TOKEN, LIST and ROLE, or the container's one request, are answered at once, and as by aiohttp."""
    world = pair.worlds[0]
    if number == CONTAINER:
        asked = [
            f"GET {CONTAINER_PATH} HTTP/1.1\r\nHost: localhost\r\n{CONTAINER_HEADER}: {token}\r\n\r\n"
            for token in world.container_tokens
        ]
    else:
        said = f"Host: 169.254.169.254\r\nAccept: */*\r\n{TOKEN_HEADER}: {world.askers[BAR].token}\r\n\r\n"
        asked = [
            f"PUT {TOKEN_PATH} HTTP/1.1\r\nHost: localhost\r\n{LIFE_HEADER}: 21600\r\n\r\n",
            f"GET {ROLES_PATH} HTTP/1.1\r\n{said}",
            f"GET {ROLES_PATH}{BAR_ROLE} HTTP/1.1\r\n{said}",
        ]
    pieces = ["".join(asked).encode() + LAST]
    pair.exchange(BAR, number, pieces)  # files of secrets are looked at now and then only
    quick_before = pair.sides[0].quick[number]
    first, second = pair.exchange(BAR, number, pieces)
    assert first == second
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", first) == [b"200"] * len(asked) + [b"403"]
    assert pair.sides[0].quick[number] == quick_before + len(asked)
    assert pair.sides[1].quick[number] == 0
    pair.assert_equal(asked)


# --- a reload in the middle of a connection --------------------------------------------------------

OTHERS: list[dict[str, object]] = [
    {"callers_except": [f"{FOO}/32"]},
    {"imds_v1": True},
    {"hosts": ["attacker.example"]},
    {"credentials": False},
]
"""Settings that a listener may have after a reload."""


@pytest.mark.parametrize("others", OTHERS)
def test_a_reload_in_the_middle(others: dict[str, object], tmp_path: Path) -> None:
    """The next request on an open connection is answered by the new settings, whichever way it takes."""
    listen: list[dict[str, object]] = [{"address": "127.0.0.1:0"}]
    streams = []
    for wrapper in (Counting, HandingOver):
        folder = tmp_path / wrapper.__name__
        folder.mkdir()
        with (
            running_little_sts() as sts,
            running_site(site_settings(sts, listen=listen), folder) as site,
        ):
            side = Side(site, sts, wrapper)
            side.wrap()
            streams.append(ask_around_a_reload(side, others, listen))
    assert streams[0] == streams[1]


def ask_around_a_reload(side: Side, others: dict[str, object], listen: list[dict[str, object]]) -> object:
    """Return what one connection receives, and what is left behind."""
    caller = side.site.caller(FOO)
    token = caller.fetch_token()
    caller.fetch_role(token)
    asked = [
        caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")),
        caller.render("GET", ROLES_PATH, (TOKEN_HEADER, token)),
        caller.render("GET", ROLES_PATH),
        caller.render("GET", ROLES_PATH + FOO_ROLE, (TOKEN_HEADER, token)),
    ]
    statuses = []
    with caller.connected() as connection:
        for request in asked:
            connection.send(request)
            statuses.append(connection.read_answer().status)
        assert (side.quick[0] > 0) == (side.wrapper is Counting)
        changed = [{**listen[0], **others}, *listen[1:]]
        side.site.replace(site_settings(side.sts, listen=changed))
        side.wrap()
        for request in asked:
            with suppress(OSError):
                connection.send(request)
            with suppress(EOFError, ConnectionResetError):
                statuses.append(connection.read_answer().status)
    state = side.state()
    state.pop("taken")
    state.pop("calls")
    return statuses, state
