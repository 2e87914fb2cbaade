"""What is refused costs nobody anything: no look-up, no AssumeRole, whatever else a request says."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_proxy.imds_tokens import TokenKeys
from imds_proxy.model import canonical_address
from imds_proxy.web.edge.budgets import MAX_HEAD_BYTES
from tests.standins.answer_stream import split_answers
from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.site_thread import TOKEN_KEYS, RunningSite, running_site
from tests.standins.wire import PATIENCE
from tests.web.machines import FOO_ROLE, LISTENERS, site_settings
from tests.web.questions import LAST, Asker, Door, questions

if TYPE_CHECKING:
    from collections.abc import Iterator

many = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

DOORS = [Door(), Door(lists_openly=True)]
LISTEN = [
    {**LISTENERS[0], "imds_v1": door.takes_v1, "list_without_token": door.lists_openly} for door in DOORS
]
REFUSALS = {400, 401, 403, 405}
_hosts = count(1)


class ColdSite:
    """A site of which nothing has been asked yet, a name server that never answers, and an STS."""

    def __init__(self, site: RunningSite, sts: LittleSts, name_server: socket.socket) -> None:
        self.site = site
        self._sts = sts
        self._name_server = name_server

    def new_caller(self) -> str:
        """Return an address that has not been here yet."""
        number = next(_hosts)
        return f"127.1.{number // 250 % 250}.{number % 250 + 1}"

    def has_asked_others(self, *, patience: float = 0.0) -> bool:
        """Tell whether the site has asked the name server or STS anything."""
        self._name_server.settimeout(patience)
        with suppress(BlockingIOError, TimeoutError):
            self._name_server.recv(4096)
            return True
        return bool(self._sts.calls)


@pytest.fixture(scope="module")
def cold_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ColdSite]:
    """A site whose callers are in no `hosts`: who they are, only DNS could tell."""
    with (
        running_little_sts() as sts,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as name_server,
    ):
        name_server.bind(("127.0.0.1", 0))
        dns = {"nameservers": [f"127.0.0.1:{name_server.getsockname()[1]}"]}
        with running_site(
            site_settings(sts, listen=LISTEN, hosts={}, dns=dns), tmp_path_factory.mktemp("cold")
        ) as site:
            yield ColdSite(site, sts, name_server)


@many
@given(data=st.data())
def test_refused_requests(data: st.DataObject, cold_site: ColdSite) -> None:
    """Statuses from 400 to 405, with a good token too, and all HEADs."""
    number = data.draw(st.integers(0, len(DOORS) - 1))
    source = cold_site.new_caller()
    keys, now = TokenKeys(TOKEN_KEYS), cold_site.site.clock.read_wall()
    token, foreign = (keys.issue(canonical_address(each), 60, now) for each in (source, "127.0.0.1"))
    asker = Asker(FOO_ROLE, token, (foreign, "x" * 56), ("other",))
    starts_nothing = questions(DOORS[number], asker).filter(
        lambda question: question.method in ("HEAD", "OPTIONS") or question.status in REFUSALS
    )
    question = data.draw(starts_nothing)
    with cold_site.site.caller(source, listener=number).connected() as connection:
        with suppress(OSError):  # behind an answer that was the last
            connection.send(question.data + LAST)
        answer, *_ = split_answers(connection.read_to_end(), [question.method])
    if question.status in REFUSALS:
        # A head that is too long is refused unread, whatever is in it.
        is_too_long = len(question.data.partition(b"\r\n\r\n")[0]) + 4 > MAX_HEAD_BYTES
        assert answer.status in ({question.status, 400} if is_too_long else {question.status}), question
    assert answer.status in {*REFUSALS, 200, 404, 503}, question
    assert not cold_site.has_asked_others(), question


def test_a_token_asks_the_name_server(cold_site: ColdSite) -> None:
    """What the test above looks at would be seen."""
    assert cold_site.site.caller(cold_site.new_caller()).put_token("60").status == 200
    assert cold_site.has_asked_others(patience=PATIENCE)
