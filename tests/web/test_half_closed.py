"""Clients that send all they have to say, close their side and wait for the answers."""

from __future__ import annotations

import gc
import socket
from typing import TYPE_CHECKING

import pytest

from tests.standins.answer_stream import split_answers
from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH
from tests.web.machines import FOO, FOO_ROLE, V1

if TYPE_CHECKING:
    from tests.standins.site_thread import RunningSite

REGION = "/latest/meta-data/placement/region"


@pytest.mark.parametrize("number", [1, 2, 5])
def test_all_that_was_asked_is_answered(number: int, shared_site: RunningSite) -> None:
    """Also what is not of the strict form, and what has to wait for its turn; then the connection ends."""
    caller = shared_site.caller(FOO, listener=V1)
    token = caller.fetch_token()
    caller.settle(ROLES_PATH, token)
    quick = caller.render("GET", ROLES_PATH + FOO_ROLE, (TOKEN_HEADER, token))
    slow = caller.render("GET", REGION)
    put = caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60"))
    for asked in (quick * number, slow * number, (put + slow + quick) * number):
        with caller.connected() as connection:
            connection.send(asked)
            connection.socket.shutdown(socket.SHUT_WR)
            answers = split_answers(connection.read_to_end())
        assert [answer.status for answer in answers] == [200] * asked.count(b" HTTP/1.1\r\n")


def test_half_a_request(shared_site: RunningSite) -> None:
    """Nothing is answered that was not asked, and nobody waits for the rest."""
    caller = shared_site.caller(FOO, listener=V1)
    region = caller.render("GET", REGION)
    with caller.connected() as connection:
        connection.send(region + region[:-1])
        connection.socket.shutdown(socket.SHUT_WR)
        assert len(split_answers(connection.read_to_end())) == 1


def test_requests_leave_no_garbage(shared_site: RunningSite) -> None:
    """What aiohttp had of a request is let go at its end: looking for garbage holds up everybody."""
    caller = shared_site.caller(FOO, listener=V1)

    def ask(number: int) -> None:
        with caller.connected() as connection:
            for _ in range(number):
                connection.send(caller.render("GET", REGION))
                assert connection.read_answer().status == 200

    ask(10)
    shared_site.do(gc.collect)
    gc.disable()
    try:
        ask(100)
        found = shared_site.do(gc.collect)
    finally:
        gc.enable()
    assert found < 100
