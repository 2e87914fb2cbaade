"""Well-formed requests, whatever they look like: one whole answer to each, in order, and nobody else's.

Several callers with different roles ask at the same time, each with a pipeline on a connection of its own,
and the pieces of what they send arrive in any order.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_proxy.imds_tokens import TokenKeys
from imds_proxy.model import canonical_address
from imds_proxy.workload_tokens import Claims, WorkloadTokens
from tests.standins.answer_stream import split_answers
from tests.standins.authority import Authority
from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.people_wire import PeopleCaller
from tests.standins.site_thread import TOKEN_KEYS, WORKLOAD_TOKEN_KEYS, RunningSite, running_site
from tests.standins.wire import LIFE_HEADER, TOKEN_PATH
from tests.web.container_questions import container_questions
from tests.web.machines import (
    BAR,
    BAR_NAME,
    BAR_ROLE,
    FOO,
    FOO_NAME,
    FOO_ROLE,
    HOSTS,
    LISTENERS,
    REGION,
    site_settings,
)
from tests.web.questions import LAST, Asker, Door, Question, questions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.wire import WireAnswer, WireCaller

many = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

TWIN, TWIN_NAME = "127.0.0.6", "tuvfoo43.valid.example"
"""Has FOO's role, with a session and keys of its own."""

BASE = "/afp-api/latest"
DOORS = [Door(), Door(takes_v1=True), Door(lists_openly=True), Door(takes_v1=True, base=BASE), Door()]
WITH_TLS = len(DOORS) - 1
CONTAINER = len(DOORS)
"""The last of the doors takes TLS; behind them comes the listener for containers."""

WORKLOAD, SECRET = "web.pods.example", "a-secret-of-the-workload-web"
NAMES = {FOO: FOO_NAME, BAR: BAR_NAME, TWIN: TWIN_NAME}
ROLES = {FOO: FOO_ROLE, BAR: BAR_ROLE, TWIN: FOO_ROLE}
SIZES = st.sampled_from([1, 2, 30, 100, 1000, 9000])


class World:
    """A site at which the callers have been given their keys, and what these are."""

    def __init__(self, site: RunningSite, sts: LittleSts, tls: ssl.SSLContext) -> None:
        self.site = site
        self._tls = tls
        tokens = {source: site.caller(source).fetch_token() for source in NAMES}
        for source, role in ROLES.items():
            assert site.caller(source).fetch_role(tokens[source]) == role
        self.keys = {key.session_name: key for key in sts.issued}
        long_ago = site.clock.read_wall() - 3600
        old = TokenKeys(TOKEN_KEYS).issue(canonical_address(FOO), 60, long_ago)
        self.askers = {
            source: Asker(
                role,
                tokens[source],
                worthless_tokens=(*(tokens[other] for other in NAMES if other != source), old, "x" * 56),
                foreign_roles=tuple({*ROLES.values(), "admin", role + "x", role[:-1]} - {role}),
            )
            for source, role in ROLES.items()
        }

        networks = (ip_network("127.0.0.0/8"), ip_network("::1"))
        claims = Claims(WORKLOAD, networks, int(site.clock.read_wall()) + 86_400)
        self.container_tokens = (SECRET, WorkloadTokens(WORKLOAD_TOKEN_KEYS).issue(claims))

    def caller(self, source: str, number: int) -> WireCaller:
        """Return a caller of a listener."""
        plain = self.site.caller(source, listener=number)
        return PeopleCaller(plain.server, source, tls=self._tls) if number == WITH_TLS else plain

    def questions(self, source: str, number: int) -> st.SearchStrategy[Question]:
        """Return what a caller may ask a listener."""
        if number == CONTAINER:
            return container_questions(self.container_tokens)
        return questions(DOORS[number], self.askers[source])

    def secrets_of(self, source: str) -> list[str]:
        """Return what nobody may see but this caller, and it only when it is let in."""
        key = self.keys[NAMES[source]]
        return [NAMES[source], key.access_key, key.secret_key, key.session_token]

    def told(self, source: str) -> dict[str, str]:
        """Return what a caller that is let in has to find in an answer, by what it asks for."""
        role, name = ROLES[source], NAMES[source]
        key = self.keys[name].secret_key
        whole = {"list": role, "name": name, "region": REGION}
        return {**whole, "role": key, "container": key, "info": f'/{role}"'}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One site for all of these tests, which leave it as it is."""
    folder = tmp_path_factory.mktemp("world")
    authority = Authority(folder)
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    with (
        running_little_sts() as sts,
        running_site(
            site_settings(sts, listen=listeners(folder, authority), hosts={**HOSTS, TWIN: TWIN_NAME}), folder
        ) as site,
    ):
        yield World(site, sts, tls)


def listeners(folder: Path, authority: Authority) -> list[dict[str, object]]:
    """Return a listener for each of the doors, and one for containers."""
    issued = authority.issue("machines")
    issued.key.chmod(0o600)
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / WORKLOAD).touch(mode=0o600)
    (secrets / WORKLOAD).write_text(SECRET + "\n")
    made = [
        {
            **LISTENERS[0],
            "imds_v1": door.takes_v1,
            "list_without_token": door.lists_openly,
            **({"base_path": door.base} if door.base else {}),
        }
        for door in DOORS
    ]
    made[WITH_TLS]["tls"] = {"certificate": str(issued.certificate), "key": str(issued.key)}
    return [*made, {**LISTENERS[0], "container": {"secrets": str(secrets)}}]


def assert_answered(world: World, source: str, question: Question, answer: WireAnswer) -> None:
    """Check an answer against its question, and that nothing of others is in it."""
    text = f"{answer.headers}{answer.body.decode()}"
    assert answer.status == question.status, question
    assert (answer.header("Connection") == "close") == question.is_last, question
    for other in NAMES:
        if other != source or answer.status != 200:
            assert not [secret for secret in world.secrets_of(other) if secret in text], question
    if answer.status != 200:
        assert not [role for role in ROLES.values() if role in text], question
    elif question.method == "GET":
        assert world.told(source).get(question.what, "") in answer.text, question


def last_of(asked: list[Question]) -> int:
    """Return the index of the question whose answer ends the connection; it may be LAST, behind them all."""
    return next((index for index, question in enumerate(asked) if question.is_last), len(asked))


def sent(asked: list[Question], number: int) -> bytes:
    """Return what goes over a connection: all questions, also those behind the last that is answered.

    Not with TLS: once a write has failed, OpenSSL reads no more, and what has come by then would be lost.
    """
    data = [*(question.data for question in asked), LAST]
    return b"".join(data[: last_of(asked) + 1] if number == WITH_TLS else data)


@many
@given(data=st.data())
def test_pipelines(data: st.DataObject, world: World) -> None:
    """Each request has the answer that the manual promises, in order; after one that ends the connection
    comes nothing. Whatever has keys, roles or names in it is the caller's own.
    """
    number = data.draw(st.integers(0, CONTAINER))
    sources = data.draw(st.lists(st.sampled_from(list(NAMES)), min_size=1, max_size=3))
    asked = [
        data.draw(st.lists(world.questions(source, number), min_size=1, max_size=4)) for source in sources
    ]
    with ExitStack() as open_connections:
        connections = [
            open_connections.enter_context(world.caller(source, number).connected()) for source in sources
        ]
        left = [sent(each, number) for each in asked]
        pieces = data.draw(st.lists(st.tuples(st.sampled_from(range(len(left))), SIZES), max_size=8))
        for which, size in [*pieces, *((which, sys.maxsize) for which in range(len(left)))]:
            with suppress(OSError):  # behind an answer that was the last
                connections[which].send(left[which][:size])
            left[which] = left[which][size:]
        received = [connection.read_to_end() for connection in connections]
    for source, each, stream in zip(sources, asked, received, strict=True):
        methods = [question.method for question in each]
        answers = split_answers(stream, [*methods, "GET"])
        assert len(answers) == last_of(each) + 1, (each, answers)
        for question, answer in zip(each, answers, strict=False):
            assert_answered(world, source, question, answer)


@pytest.mark.parametrize("number", [0, WITH_TLS])
def test_a_long_pipeline(number: int, world: World) -> None:
    """However many requests come at once, each has its answer, and the connection goes on after them."""
    caller, many_requests = world.caller(FOO, number), 600
    request = caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60"))
    with caller.connected() as connection:
        for count in (many_requests, 1, many_requests, 1):
            connection.send(request * count)
            assert [connection.read_answer().status for _ in range(count)] == [200] * count
