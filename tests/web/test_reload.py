"""SIGHUP: the whole configuration at once or not at all, and nobody's request is lost over it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, write_settings
from tests.standins.little_sts import running_little_sts
from tests.standins.wire import PATIENCE, ROLES_PATH, TOKEN_HEADER
from tests.web.machines import (
    BAR,
    BAR_ROLE,
    FOO,
    FOO_ROLE,
    HOSTS,
    LISTENERS,
    OUTSIDE,
    V1,
    V2,
    caller_of,
    site_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts

SECTIONS: dict[str, Any] = {"listen": LISTENERS[:2], "admin": {"address": "127.0.0.1:0"}}
REGION = "/latest/meta-data/placement/region"


class Reloading:
    """A daemon whose configuration a test changes while it runs."""

    def __init__(self, daemon: Daemon, sts: LittleSts, file: Path) -> None:
        self.daemon = daemon
        self.sts = sts
        self.file = file
        self._seen = 0

    @property
    def new_log(self) -> str:
        """What was logged since the settings that all tests begin with came into force."""
        return self.daemon.log[self._seen :]

    def begin(self) -> None:
        """Put the settings that all tests begin with into force."""
        self.reload()
        self._seen = len(self.daemon.log)

    def reload(self, **sections: Any) -> None:
        """Write these settings and let the daemon read them; return when it has."""
        write_settings(site_settings(self.sts, **{**SECTIONS, **sections}), self.file)
        assert self.signal_and_await() == "configuration reloaded"

    def reload_text(self, text: str) -> str:
        """Write this text and let the daemon read it; return the line that comes of it."""
        self.file.write_text(text)
        return self.signal_and_await()

    def signal_and_await(self) -> str:
        """Send SIGHUP and return the line that comes of it."""
        seen = self.daemon.log.count("\nconfiguration ")
        self.daemon.signal(signal.SIGHUP)
        return self.daemon.await_log("(configuration (?:reloaded|kept: .*))", seen + 1)[-1]


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    """A daemon with the listeners V2 and V1 of `machines`, for all tests of this module."""
    folder = tmp_path_factory.mktemp("reloading")
    with running_little_sts() as sts, running_daemon(site_settings(sts, **SECTIONS), folder) as daemon:
        yield Reloading(daemon, sts, folder / "imds-proxy.yaml")


@pytest.fixture
def running(shared_daemon: Reloading) -> Reloading:
    """The daemon with its first settings in force. What earlier tests were given is still held."""
    shared_daemon.begin()
    return shared_daemon


def test_a_good_configuration(running: Reloading) -> None:
    """New roles, callers and switches hold at once, also on connections that are open; tokens count on."""
    foo = caller_of(running.daemon)
    token = foo.fetch_token()
    assert foo.fetch_role(token) == FOO_ROLE
    assert caller_of(running.daemon, OUTSIDE).put_token("60").status == 403
    request = foo.render("GET", ROLES_PATH, (TOKEN_HEADER, token))
    with foo.connected() as connection:
        connection.send(request)
        assert connection.read_answer().text == FOO_ROLE
        listen = [{"address": "127.0.0.1:0", "imds_v1": True}, {"address": "127.0.0.1:0"}]
        running.reload(listen=listen, hosts={**HOSTS, FOO: HOSTS[BAR]})
        assert foo.fetch_role(token) == BAR_ROLE
        connection.send(request)
        assert connection.read_answer().text == BAR_ROLE
    assert foo.get(REGION).status == 200
    assert caller_of(running.daemon, listener=V1).get(REGION).status == 401
    assert caller_of(running.daemon, OUTSIDE).put_token("60").status == 200
    assert "warning" not in running.new_log


def test_a_deny(running: Reloading) -> None:
    """Denied by name or address and reloaded: 404 at once for whom it names; the others, and who is let in
    again, have their credentials without another AssumeRole.
    """
    foo, bar = caller_of(running.daemon), caller_of(running.daemon, BAR)
    token = foo.fetch_token()
    assert (foo.fetch_role(token), bar.fetch_role()) == (FOO_ROLE, BAR_ROLE)
    before, calls = foo.get(ROLES_PATH + FOO_ROLE, token), len(running.sts.calls)
    for denied in (FOO, HOSTS[FOO]):
        running.reload(deny=[denied])
        for path in (ROLES_PATH + FOO_ROLE, ROLES_PATH):
            answer = foo.get(path, token)
            assert (answer.status, answer.body) == (404, b"")
        assert foo.put_token("60").status == 200
        assert bar.fetch_role() == BAR_ROLE
    running.reload(deny=[])
    assert foo.fetch_role(token) == FOO_ROLE
    assert foo.get(ROLES_PATH + FOO_ROLE, token).body == before.body
    assert len(running.sts.calls) == calls


@pytest.mark.parametrize(
    "text",
    [
        "listen: [",
        "nonsense: 1\n",
        "listen: [{address: '127.0.0.1:0', hop_limit: 0}, {address: '10.0.0.1:80'}]\n",
    ],
)
def test_a_faulty_configuration(text: str, running: Reloading) -> None:
    """All faults as `check` shows them, one line that says how many, and everything goes on as before."""
    foo = caller_of(running.daemon)
    token = foo.fetch_token()
    assert foo.fetch_role(token) == FOO_ROLE
    line = running.reload_text(text)
    shown = [each for each in running.new_log.splitlines() if each.startswith(str(running.file))]
    assert shown == run_command("check", "--config", running.file).stderr.splitlines()
    faults = [each for each in shown if ": warning: " not in each]
    assert faults
    assert line == f"configuration kept: {len(faults)} fault{'s' * (len(faults) != 1)}"
    assert foo.get(ROLES_PATH + FOO_ROLE, token).status == 200
    assert caller_of(running.daemon, BAR).fetch_role() == BAR_ROLE
    assert caller_of(running.daemon, OUTSIDE).put_token("60").status == 403


def test_a_configuration_that_is_gone(running: Reloading) -> None:
    """A file that can't be read changes nothing either."""
    running.file.unlink()
    assert running.signal_and_await() == "configuration kept: 1 fault"
    assert caller_of(running.daemon).fetch_role() == FOO_ROLE


def test_an_audit_file_that_cannot_be_written(running: Reloading, tmp_path: Path) -> None:
    """What would keep a start from succeeding keeps a reload out too: no hand-out may go unrecorded."""
    missing = tmp_path / "missing" / "audit.jsonl"
    write_settings(
        site_settings(running.sts, **SECTIONS, audit={"file": str(missing)}, deny=[FOO]), running.file
    )
    assert running.signal_and_await().startswith(f"configuration kept: cannot write audit.file {missing}: ")
    assert caller_of(running.daemon).fetch_role() == FOO_ROLE


def test_changed_addresses(running: Reloading) -> None:
    """An address that is new or gone needs a restart, and the log says so for each; the one that is gone
    keeps its own settings, the one that stays takes the new ones.
    """
    stays = {"address": "127.0.0.1:0", "imds_v1": True}
    running.reload(listen=[stays, {"address": "127.0.0.1:9"}], admin={"address": "127.0.0.1:10"})
    warnings = [line for line in running.new_log.splitlines() if "needs a restart" in line]
    assert len(warnings) == 3
    assert "warning: listen: 127.0.0.1:9 is not open yet: needs a restart" in warnings
    assert "warning: listen: 127.0.0.1:0 is no longer configured: needs a restart" in warnings
    assert any(line.startswith("warning: admin") for line in warnings)
    assert caller_of(running.daemon, listener=V2).get(REGION).status == 200  # IMDSv1 is on here now
    assert caller_of(running.daemon, listener=V1).get(REGION).status == 200  # and still is here
    assert caller_of(running.daemon, OUTSIDE, V2).put_token("60").status == 200
    assert caller_of(running.daemon, OUTSIDE, V1).put_token("60").status == 403


def test_requests_under_way(running: Reloading) -> None:
    """What waits while the configuration changes ends under the old one, what comes then is under the new."""
    machine = {FOO: "tuvfoo77.valid.example"}
    running.reload(hosts=machine)
    calls = len(running.sts.calls)
    running.sts.hold()
    foo = caller_of(running.daemon, listener=V1)
    with foo.connected() as connection:
        connection.send(foo.render("GET", ROLES_PATH))
        deadline = time.monotonic() + PATIENCE
        while len(running.sts.calls) == calls:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.reload(hosts=machine, deny=[FOO])
        running.sts.release()
        # On a busy machine the reload takes longer than a LIST waits.
        answer = connection.read_answer()
        assert (answer.status, answer.text) in {(200, FOO_ROLE), (503, "")}
        connection.send(foo.render("GET", ROLES_PATH))
        assert connection.read_answer().status == 404


def test_many_signals(sts: LittleSts, tmp_path: Path) -> None:
    """SIGHUPs in a row are taken one after the other, and callers are served meanwhile."""
    with running_daemon(site_settings(sts), tmp_path) as daemon:
        foo = caller_of(daemon, listener=V1)
        for _ in range(5):
            daemon.signal(signal.SIGHUP)
            assert foo.get(REGION).status == 200
        daemon.await_log("(configuration reloaded)")
        assert foo.settle(ROLES_PATH, None).text == FOO_ROLE


def test_keys_change_without_a_break(running: Reloading, tmp_path: Path) -> None:
    """A key put in front signs, the ones behind it still verify; a key that is taken out is worth nothing."""
    old, new = (
        "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n",
        "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=\n",
    )
    key = tmp_path / "token.key"
    key.touch(mode=0o600)
    key.write_text(old)
    running.reload(tokens={"key_file": str(key)})
    foo = caller_of(running.daemon)
    first = foo.fetch_token()
    key.write_text(new + old)
    assert running.signal_and_await() == "configuration reloaded"
    second = foo.fetch_token()
    assert [foo.get(REGION, token).status for token in (first, second)] == [200, 200]
    key.write_text(new)
    assert running.signal_and_await() == "configuration reloaded"
    assert [foo.get(REGION, token).status for token in (first, second)] == [401, 200]
    key.write_text("no key\n")
    assert running.signal_and_await() == "configuration kept: 1 fault"
    assert foo.get(REGION, second).status == 200
