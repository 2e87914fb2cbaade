"""The library blocks, wherever it is called: no loop, a running one (a notebook), several, or its own."""

from __future__ import annotations

import asyncio
import code
import threading
from typing import TYPE_CHECKING

import pytest

from imds_proxy import engine
from tests.library.site import ACCOUNT, proxy_for

if TYPE_CHECKING:
    from tests.standins.aws_process import Aws
    from tests.standins.sign_in import SignIn

ROLE = "loop-role"


@pytest.fixture(autouse=True)
def role(aws: Aws) -> None:
    """A role that everybody here asks for."""
    aws.add_roles(ROLE)


async def test_inside_a_running_loop(sign_in: SignIn) -> None:
    """As in a notebook: all of it works, and the loop that runs is not touched."""
    proxy = proxy_for(ROLE, user="notebook")
    assert proxy.get_account_and_role_dict()
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert proxy.get_console_url(credentials, "").startswith(sign_in.url)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_one_loop_after_the_other(aws: Aws) -> None:
    """Nothing of it belongs to a loop that is gone, or to no loop at all."""
    proxy = proxy_for(ROLE, user="loops")

    async def ask() -> str:
        return proxy.get_aws_credentials(ACCOUNT, ROLE).access_key

    keys = {asyncio.run(ask()), asyncio.run(ask()), proxy.get_aws_credentials(ACCOUNT, ROLE).access_key}
    assert len(keys) == 1
    assert len(aws.calls()) == 1


async def test_from_threads_of_a_loop(aws: Aws) -> None:
    """`asyncio.to_thread` is the way not to hold up a loop of one's own."""
    proxy = proxy_for(ROLE, user="to_thread")
    answers = await asyncio.gather(
        *(asyncio.to_thread(proxy.get_aws_credentials, ACCOUNT, ROLE) for _ in range(5))
    )
    assert len({answer.access_key for answer in answers}) == 1
    assert len(aws.calls()) == 1


def test_in_an_interactive_session(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, at a prompt."""
    console = code.InteractiveConsole({"proxy_for": proxy_for})
    for line in ("proxy = proxy_for('loop-role')", "print(proxy.get_account_and_role_dict().keys())"):
        assert console.push(line) is False
    assert capsys.readouterr().out == "dict_keys(['main'])\n"
    assert aws.counts() == {}


def test_on_its_own_loop() -> None:
    """It would wait for itself: RuntimeError, and nobody hangs."""
    current = engine.current_engine()

    async def ask() -> None:
        proxy_for(ROLE).get_account_and_role_dict()

    with pytest.raises(RuntimeError, match="its own event loop"):
        current.run(ask())


def test_one_engine_for_a_process() -> None:
    """Whichever thread comes first."""
    found: list[engine.Engine] = []
    threads = [threading.Thread(target=lambda: found.append(engine.current_engine())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {engine.current_engine()}


def test_whoever_exits_on_the_loop_takes_nobody_along() -> None:
    """A coroutine that raises SystemExit ends for whoever waits for it; the loop goes on."""
    current = engine.current_engine()

    async def leave(kind: type[BaseException]) -> None:
        raise kind

    async def stay() -> str:
        return "here"

    for kind in (SystemExit, KeyboardInterrupt):
        with pytest.raises(kind):
            current.run(leave(kind))
        assert current.run(stay()) == "here"
