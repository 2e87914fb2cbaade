"""The daemon under a supervisor such as systemd: sockets that are passed, what it says of itself, its end."""

from __future__ import annotations

import signal
import socket
import ssl
import sys
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from imds_proxy.sockets import bound_address, open_listener, open_unix_listener
from tests.standins.authority import Authority
from tests.standins.daemon import activation_command, running_daemon, write_settings
from tests.standins.people_wire import PeopleCaller
from tests.standins.processes import Child, bare_environment
from tests.standins.wire import LIFE_HEADER, PATIENCE, TOKEN_PATH, WireCaller
from tests.unit.test_activation import DO, LOOPBACK
from tests.web.machines import FOO, FOO_ROLE, site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.little_sts import LittleSts

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def passed() -> Iterator[socket.socket]:
    """A listening socket as systemd would have opened it."""
    with closing(open_listener(LOOPBACK)) as sock:
        yield sock


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the supervisor hears."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        yield sock


def settings_of(sts: LittleSts, *sockets: socket.socket, **sections: object) -> dict[str, Any]:
    """Return settings that listen where the sockets do."""
    listen = [{"address": bound_address(sock), "imds_v1": True} for sock in sockets]
    return site_settings(sts, **{"listen": listen, **sections})


def caller_at(sock: socket.socket) -> WireCaller:
    return WireCaller(sock.getsockname(), FOO)


def hear(desk: socket.socket, beginning: str) -> str:
    """Return the next message that begins so."""
    for _ in range(1000):
        message = desk.recv(4096).decode()
        if message.startswith(beginning):
            return message
    raise AssertionError(beginning)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_first_request(loop: str, sts: LittleSts, passed: socket.socket, tmp_path: Path) -> None:
    """The request for which systemd starts the daemon is answered, and so is the next daemon's."""
    caller = caller_at(passed)
    for name in ("first", "second"):
        with caller.connected() as connection:
            connection.send(caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")))
            with running_daemon(
                settings_of(sts, passed),
                tmp_path,
                name=name,
                environment={"IMDS_PROXY_EVENT_LOOP": loop},
                passed=[passed],
            ) as daemon:
                assert connection.read_answer().status == 200
                assert caller.fetch_role() == FOO_ROLE
                assert daemon.addresses == [bound_address(passed)]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_restart_under_load(loop: str, sts: LittleSts, passed: socket.socket, tmp_path: Path) -> None:
    """Whoever asks while one daemon ends and the next one starts waits, and is answered."""
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    caller, is_over, statuses, errors = caller_at(passed), threading.Event(), list[int](), list[OSError]()

    def ask() -> None:
        while not is_over.wait(0.01):
            try:
                statuses.append(caller.get("/latest/meta-data/placement/region").status)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    settings = settings_of(sts, passed)
    try:
        for name in ("first", "second", "third"):
            with running_daemon(settings, tmp_path, name=name, environment=environment, passed=[passed]):
                if name == "first":
                    for thread in threads:
                        thread.start()
                before = len(statuses)
                while len(statuses) < before + 20 and not errors:
                    is_over.wait(0.01)
                if name == "third":
                    is_over.set()
                    for thread in threads:
                        thread.join(PATIENCE)
    finally:
        is_over.set()
    assert errors == []
    assert set(statuses) == {200}


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_at_the_end(loop: str, sts: LittleSts, passed: socket.socket, tmp_path: Path) -> None:
    """Connections in the kernel's line are answered by the daemon that ends or by the next one."""
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    settings, caller = settings_of(sts, passed), caller_at(passed)
    with ExitStack() as stack:
        with running_daemon(settings, tmp_path, environment=environment, passed=[passed]) as daemon:
            daemon.signal(signal.SIGSTOP)
            waiting = [stack.enter_context(caller.connected()) for _ in range(80)]
            for connection in waiting:
                connection.send(caller.render("GET", "/latest/meta-data/placement/region"))
            daemon.signal(signal.SIGTERM)
            daemon.signal(signal.SIGCONT)
            assert daemon.wait() == 0
        with running_daemon(settings, tmp_path, name="next", environment=environment, passed=[passed]):
            assert {connection.read_answer().status for connection in waiting} == {200}


@pytest.mark.parametrize("loop", LOOPS)
def test_tls_and_people(loop: str, sts: LittleSts, passed: socket.socket, tmp_path: Path) -> None:
    """A listener with TLS and a path for people are passed as well; the path is there for the next daemon."""
    authority = Authority(tmp_path)
    issued = authority.issue("gateway")
    place = tmp_path / "people.sock"
    settings = site_settings(
        sts,
        listen=[
            {
                "address": bound_address(passed),
                "tls": {"certificate": str(issued.certificate), "key": str(issued.key)},
            }
        ],
        people={"listen": [{"unix": str(place)}], "identity": {"peer": True}},
    )
    settings["providers"]["people"] = {
        "type": "by_groups",
        "regex": "(?P<account>.+)-(?P<role>.+)",
        "groups": {"main-reader": ["alice"]},
    }
    settings["people"]["provider"] = "people"
    settings["listen"][0]["provider"] = "machines"
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    tls.check_hostname = False
    with closing(open_unix_listener(place)) as people:
        for name in ("first", "second"):
            with running_daemon(
                settings,
                tmp_path,
                name=name,
                environment={"IMDS_PROXY_EVENT_LOOP": loop},
                passed=[people, passed],
            ):
                with (
                    socket.create_connection(passed.getsockname(), PATIENCE) as plain,
                    tls.wrap_socket(plain) as secure,
                ):
                    secure.sendall(caller_at(passed).render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")))
                    assert secure.recv(4096).startswith(b"HTTP/1.1 200 ")
                caller = PeopleCaller(("localhost", 0), socket_path=place)
                assert caller.get("/nothing").status == 404
            assert place.is_socket()


def test_what_does_not_match(sts: LittleSts, passed: socket.socket, tmp_path: Path) -> None:
    """A socket that is only passed, and one that is only configured: exit status 1, one line."""
    with closing(open_listener(LOOPBACK)) as other:
        for configured, sockets, line in (
            (
                [passed],
                [passed, other],
                f"{bound_address(other)}: systemd passed it, but it is not configured",
            ),
            (
                [passed, other],
                [passed],
                f"cannot listen on {bound_address(other)}: it is configured, but systemd did not pass it",
            ),
        ):
            file = write_settings(settings_of(sts, *configured), tmp_path / "a.yaml")
            descriptors = [sock.fileno() for sock in sockets]
            command = [sys.executable, "-m", "imds_proxy", "serve", "--config", str(file)]
            child = Child(
                "a",
                activation_command(command, descriptors),
                folder=tmp_path,
                environment=bare_environment(),
                descriptors=descriptors,
            )
            try:
                assert child.wait() == 1
            finally:
                child.kill()
            assert child.stderr.splitlines() == [f"imds-proxy: {line} {DO}"]


def test_what_the_supervisor_hears(
    sts: LittleSts, passed: socket.socket, desk: socket.socket, tmp_path: Path
) -> None:
    """Ready once it answers, each reload from its beginning to its end whatever came of it, and the end."""
    settings = settings_of(sts, passed)
    environment = {"NOTIFY_SOCKET": desk.getsockname(), "WATCHDOG_USEC": "3000000"}
    with running_daemon(settings, tmp_path, environment=environment, passed=[passed]) as daemon:
        line = "1 listener, 0 sessions held, own key: no trouble known"
        assert hear(desk, "READY=1") == f"READY=1\nSTATUS={line}"
        hear(desk, "WATCHDOG=1")

        more = {**settings, "listen": [*settings["listen"], {"address": "127.0.0.1:81"}]}
        write_settings(more, tmp_path / "imds-proxy.yaml")
        daemon.signal(signal.SIGHUP)
        assert hear(desk, "RELOADING=1").startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert hear(desk, "READY=1").startswith(f"READY=1\nSTATUS={line}; reloaded at 2")
        daemon.await_log(
            "(warning: listen: 127.0.0.1:81 is not open yet: needs another socket unit: imds-proxy render .*)"
        )

        (tmp_path / "imds-proxy.yaml").write_text(yaml.safe_dump({**settings, "colour": "red"}))
        daemon.signal(signal.SIGHUP)
        hear(desk, "RELOADING=1")
        assert hear(desk, "READY=1") == f"READY=1\nSTATUS={line}; configuration kept: 1 fault"

        assert caller_at(passed).fetch_role() == FOO_ROLE
        assert hear(desk, "STATUS=1 listener, 1 sessions").endswith("; configuration kept: 1 fault")
        daemon.signal(signal.SIGTERM)
        assert hear(desk, "STOPPING=1") == "STOPPING=1\nSTATUS=stopping"
        assert daemon.wait() == 0
