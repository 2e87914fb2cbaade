"""supervisor: what systemd is told, by datagrams, and that nothing depends on whether it listens."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from imds_proxy.supervisor import Supervisor, take_supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[socket.socket]:
    """Where messages arrive."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def messages(desk: socket.socket) -> list[str]:
    """Return what has arrived."""
    desk.setblocking(False)
    found = []
    while True:
        try:
            found.append(desk.recv(4096).decode())
        except BlockingIOError:
            return found


def test_a_life(desk: socket.socket) -> None:
    """Ready, a status only when it has changed, a reload with its time, and nothing after the end."""
    supervisor = Supervisor(desk.getsockname())
    supervisor.reloading()
    supervisor.ready("3 listeners")
    supervisor.tell_status("3 listeners")
    supervisor.tell_status("4 listeners")
    supervisor.reloading()
    supervisor.ready("reloaded")
    supervisor.stopping()
    supervisor.reloading()
    supervisor.ready("reloaded again")
    supervisor.tell_status("5 listeners")
    ready, status, reloading, again, stopping = messages(desk)
    assert ready == "READY=1\nSTATUS=3 listeners"
    assert status == "STATUS=4 listeners"
    name, _, microseconds = reloading.removeprefix("RELOADING=1\n").partition("=")
    assert name == "MONOTONIC_USEC"
    assert int(microseconds) > 0
    assert again == "READY=1\nSTATUS=reloaded"
    assert stopping == "STOPPING=1\nSTATUS=stopping"


def test_a_status_of_several_lines(desk: socket.socket) -> None:
    """A text from elsewhere must not become a message of its own."""
    Supervisor(desk.getsockname()).tell_status("no key:\nSTOPPING=1")
    assert messages(desk) == ["STATUS=no key: STOPPING=1"]


def test_an_abstract_name() -> None:
    """`@` stands for the zero byte of an abstract socket's name."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind("")  # the kernel takes a free abstract name
        name = "@" + sock.getsockname()[1:].decode()
        take_supervisor({"NOTIFY_SOCKET": name}).ready("here")
        assert messages(sock) == ["READY=1\nSTATUS=here"]


def test_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A supervisor that is gone is one warning, whatever there is to tell."""
    supervisor = Supervisor(str(tmp_path / "gone"))
    supervisor.ready("here")
    supervisor.tell_status("still here")
    supervisor.stopping()
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot tell the supervisor at {tmp_path}/gone: No such file or directory"
    ]


def test_a_full_line(desk: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """A supervisor that reads nothing keeps nobody waiting."""
    supervisor = Supervisor(desk.getsockname())
    for number in range(1000):
        supervisor.tell_status(str(number))
    assert len(caplog.records) == 1


def test_the_variables() -> None:
    """They are taken out: programs that are started later must not speak for us."""
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1", "PATH": "/bin"}
    take_supervisor(environ)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("variables", "period"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_whose_watchdog(variables: dict[str, str], period: float | None) -> None:
    """One that waits for this process and says how long."""
    assert take_supervisor(variables).watchdog_period == period


def test_another_kind_of_address(caplog: pytest.LogCaptureFixture) -> None:
    """What is neither a path nor an abstract name is said, and nobody is told anything."""
    take_supervisor({"NOTIFY_SOCKET": "vsock:2:1234"}).ready("here")
    assert len(caplog.records) == 1


async def test_the_watchdog(desk: socket.socket) -> None:
    """Fed again and again while the loop runs, and not while it hangs."""
    feeding = asyncio.create_task(Supervisor(desk.getsockname(), 0.03).feed_watchdog())
    desk.setblocking(False)
    async with asyncio.timeout(10):
        for _ in range(3):
            assert await asyncio.get_running_loop().sock_recv(desk, 100) == b"WATCHDOG=1"
    messages(desk)
    desk.settimeout(0.3)
    with pytest.raises(TimeoutError):
        desk.recv(100)  # blocks the loop
    feeding.cancel()


async def test_no_watchdog() -> None:
    """Without one there is nothing to feed."""
    await Supervisor("/run/x").feed_watchdog()
    await Supervisor(None, 1.0).feed_watchdog()
