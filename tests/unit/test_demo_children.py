"""The demo's children are read line by line, know nothing of the visitor's settings, and always end."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from imds_proxy.demo.children import (
    DemoError,
    bare_environment,
    neutral_environment,
    python_command,
    run,
    running,
)

if TYPE_CHECKING:
    from pathlib import Path


def _python(program: str) -> list[str]:
    return python_command("-c", program)


async def test_a_child_runs_to_its_end(tmp_path: Path) -> None:
    """Status and both streams are kept; the complaint is the last line of stderr."""
    program = "import sys; print('one\\ntwo'); print('what\\nwhy', file=sys.stderr); sys.exit(3)"
    outcome = await run("child", _python(program), bare_environment(tmp_path))
    assert (outcome.status, outcome.stdout, outcome.complaint) == (3, "one\ntwo", "why")


async def test_a_child_that_ends_before_its_promise_says_why(tmp_path: Path) -> None:
    """A daemon that can't start is reported with its own last line, at once."""
    promised: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    command = _python("import sys; sys.exit('no such thing')")
    async with running("the child", command, bare_environment(tmp_path), on_output=print) as child:
        with pytest.raises(DemoError, match="the child ended with status 1: no such thing"):
            await child.wait_for(promised)


async def test_a_child_that_will_not_go_is_killed_at_the_second_signal(tmp_path: Path) -> None:
    """Leaving is bounded even when a child ignores SIGTERM: cancelled once more, the demo kills it."""
    said: asyncio.Queue[str] = asyncio.Queue()
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True);"
        "time.sleep(60)"
    )
    pids = []

    async def hold() -> None:
        async with running(
            "child", _python(program), bare_environment(tmp_path), on_output=said.put_nowait
        ) as child:
            pids.append(child.process.pid)
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    assert await said.get() == "up"
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_visitors_settings_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, profiles and proxies of the visitor change nothing; the client gets nothing but its home."""
    foreign = {
        "AWS_PROFILE": "mine",
        "AWS_ACCESS_KEY_ID": "AKIAMINE",
        "HTTPS_PROXY": "http://192.0.2.1:3128",
        "http_proxy": "http://192.0.2.1:3128",
        "IMDS_PROXY_CONFIG": "/etc/elsewhere",
        "MOTO_ACCOUNT_ID": "999999999999",
    }
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", "/usr/bin")
    neutral = neutral_environment(tmp_path)
    assert not foreign.keys() & neutral.keys()
    assert (neutral["HOME"], neutral["PATH"]) == (str(tmp_path), "/usr/bin")
    assert {name for name in bare_environment(tmp_path) if not name.startswith("PYTHON")} == {"HOME"}
