"""How the daemon ends: what was accepted is answered, then it goes, with exit status 0."""

from __future__ import annotations

import signal
import socket
import sys
import time
from contextlib import ExitStack
from subprocess import DEVNULL, PIPE, Popen
from typing import TYPE_CHECKING

import pytest

from tests.standins.daemon import running_daemon, write_settings
from tests.standins.processes import REPOSITORY, bare_environment
from tests.standins.wire import PATIENCE, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH
from tests.web.machines import FOO, FOO_ROLE, V1, V2, caller_of, site_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts
    from tests.web.conftest import StartSite

LOOPS = ["asyncio", "uvloop"]
REGION = "/latest/meta-data/placement/region"


def await_call(sts: LittleSts) -> None:
    """Wait until STS has been asked."""
    deadline = time.monotonic() + PATIENCE
    while not sts.calls:
        assert time.monotonic() < deadline, "STS was not asked"
        time.sleep(0.01)


def assert_closed(daemon: Daemon) -> None:
    """Check that nobody listens any more."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(caller_of(daemon).server, PATIENCE).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon(number: signal.Signals, sts: LittleSts, tmp_path: Path) -> None:
    """SIGTERM or Ctrl-C: exit status 0, idle connections are closed, the admin pages too."""
    settings = site_settings(sts, admin={"address": "127.0.0.1:0", "socket": str(tmp_path / "admin.sock")})
    with running_daemon(settings, tmp_path) as daemon, caller_of(daemon, listener=V1).connected() as idle:
        idle.send(caller_of(daemon, listener=V1).render("GET", REGION))
        assert idle.read_answer().status == 200
        daemon.signal(number)
        assert daemon.wait() == 0
        assert idle.read_to_end() == b""
        assert_closed(daemon)


@pytest.mark.parametrize("loop", LOOPS)
def test_requests_under_way(loop: str, sts: LittleSts, tmp_path: Path) -> None:
    """A LIST that waits for STS when SIGTERM comes gets its role, and the end of its connection."""
    sts.hold()
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    with running_daemon(site_settings(sts), tmp_path, environment=environment) as daemon:
        caller = caller_of(daemon, listener=V1)
        with caller.connected() as connection:
            connection.send(caller.render("GET", ROLES_PATH))
            await_call(sts)
            daemon.signal(signal.SIGTERM)
            daemon.await_log("(stopping)")
            sts.release()
            answer = connection.read_answer()
            assert (answer.status, answer.text) == (200, FOO_ROLE)
            assert answer.header("Connection") == "close"
            assert connection.read_to_end() == b""
        assert daemon.wait() == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_accepted_but_not_read(loop: str, sts: LittleSts, tmp_path: Path) -> None:
    """Connections that wait in the kernel's line, and requests on connections that are open, are answered
    when SIGTERM is there first.
    """
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    with (
        running_daemon(site_settings(sts), tmp_path, environment=environment) as daemon,
        ExitStack() as stack,
    ):
        caller = caller_of(daemon, listener=V1)
        opened = [stack.enter_context(caller.connected()) for _ in range(20)]
        for connection in opened:
            connection.send(caller.render("GET", REGION))
            assert connection.read_answer().status == 200
        daemon.signal(signal.SIGSTOP)
        opened += [stack.enter_context(caller.connected()) for _ in range(60)]
        for connection in opened:
            connection.send(caller.render("GET", REGION))
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGCONT)
        answers = [connection.read_answer() for connection in opened]
        assert {answer.status for answer in answers} == {200}
        assert daemon.wait() == 0


def test_requests_while_it_drains(start_site: StartSite) -> None:
    """A connection that is open when it begins may ask once more and is told that this was the last."""
    site = start_site()
    caller = site.caller(FOO, listener=V1)
    with caller.connected() as connection:
        connection.send(caller.render("GET", REGION))
        assert connection.read_answer().header("Connection") is None
        site.listeners[V1].is_draining = True
        connection.send(caller.render("GET", REGION))
        answer = connection.read_answer()
        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert connection.read_to_end() == b""


def test_sts_that_never_answers(sts: LittleSts, tmp_path: Path) -> None:
    """Nobody waits for a call that hangs: who asked for it hears 503, and the daemon ends."""
    sts.hold()
    with running_daemon(site_settings(sts), tmp_path) as daemon:
        caller = caller_of(daemon, listener=V1)
        with caller.connected() as connection:
            connection.send(caller.render("GET", ROLES_PATH))
            await_call(sts)
            daemon.signal(signal.SIGTERM)
            assert connection.read_answer().status == 503
        assert daemon.wait() == 0


def test_a_body_that_never_ends(sts: LittleSts, tmp_path: Path) -> None:
    """Clients that dribble, or send nothing at all, keep nobody waiting."""
    with running_daemon(site_settings(sts), tmp_path) as daemon:
        caller = caller_of(daemon)
        with caller.connected() as silent, caller.connected() as half, caller.connected() as body:
            half.send(b"GET / HTTP/1.1\r\nHo")
            body.send(caller.render("PUT", TOKEN_PATH, ("Content-Length", "100")))
            assert body.read_answer().status == 400
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            assert [each.read_to_end() for each in (silent, half, body)] == [b"", b"", b""]


def test_a_second_signal(sts: LittleSts, tmp_path: Path) -> None:
    """SIGTERM twice: it ends without an answer to what is under way, and still with exit status 0."""
    sts.hold()
    with running_daemon(site_settings(sts), tmp_path) as daemon:
        caller = caller_of(daemon, listener=V1)
        with caller.connected() as connection:
            connection.send(caller.render("GET", ROLES_PATH))
            await_call(sts)
            daemon.signal(signal.SIGTERM)
            daemon.await_log("(stopping)")
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            assert FOO_ROLE.encode() not in connection.read_to_end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_as_soon_as_it_listens(number: signal.Signals, sts: LittleSts, tmp_path: Path) -> None:
    """Who waits for the first line and sends a signal at once gets what the signal means, not a death."""
    listen = [{"address": "127.0.0.1:0"}] * 100
    file = write_settings(site_settings(sts, listen=listen), tmp_path / "a.yaml")
    command = [sys.executable, "-m", "imds_proxy", "serve", "--config", str(file)]
    with Popen(
        command, cwd=REPOSITORY, env=bare_environment(), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr)
            assert "listening " in next(line for line in lines if "warning" not in line)
            process.send_signal(number)
            if number is signal.SIGHUP:
                assert "configuration reloaded\n" in lines
                process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_the_audit_is_written_to_its_end(sts: LittleSts, tmp_path: Path) -> None:
    """What was handed out and refused before SIGTERM is on record after it, counts of repeated ones too."""
    with running_daemon(site_settings(sts), tmp_path) as daemon:
        caller = caller_of(daemon)
        token = caller.fetch_token()
        role = caller.fetch_role(token)
        assert caller.get(ROLES_PATH + role, token).status == 200
        for _ in range(3):
            assert caller.get(ROLES_PATH + "another", token).status == 404
        daemon.stop()
        records = daemon.audit_records
    assert [(record["outcome"], record["count"]) for record in records] == [
        ("granted", 1),
        ("refused", 1),
        ("refused", 2),
    ]
    assert {record["caller"] for record in records} == {FOO}


def test_a_restart_in_between(sts: LittleSts, tmp_path: Path) -> None:
    """The next daemon takes the same address at once, and a token and a role from before still count."""
    with running_daemon(site_settings(sts), tmp_path, name="first", environment=state_of(tmp_path)) as daemon:
        token = caller_of(daemon).fetch_token()
        assert caller_of(daemon).fetch_role(token) == FOO_ROLE
        listen = [{"address": address} for address in daemon.addresses[V2:V1]]
    settings = site_settings(sts, listen=listen)
    with running_daemon(settings, tmp_path, name="second", environment=state_of(tmp_path)) as daemon:
        assert daemon.addresses == [listen[0]["address"]]
        header = (TOKEN_HEADER, token)
        assert caller_of(daemon).settle(ROLES_PATH + FOO_ROLE, token).status == 200
        assert caller_of(daemon).get(REGION, None, header).status == 200


def state_of(folder: Path) -> dict[str, str]:
    """Return the environment of a unit with a state directory."""
    return {"STATE_DIRECTORY": str(folder)}
