"""SIGHUP: the whole configuration at once or not at all, and nobody's request is lost over it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.authority import Authority
from tests.standins.aws_process import Aws
from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, settings_for, write_settings
from tests.standins.little_sts import running_little_sts
from tests.standins.people_wire import PeopleCaller
from tests.standins.wire import PATIENCE, ROLES_PATH, TOKEN_HEADER, WireCaller
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
    lets nobody in, the one that stays takes the new settings.
    """
    stays = {"address": "127.0.0.1:0", "imds_v1": True}
    running.reload(listen=[stays, {"address": "127.0.0.1:9"}], admin={"address": "127.0.0.1:10"})
    warnings = [line for line in running.new_log.splitlines() if "needs a restart" in line]
    assert len(warnings) == 3
    assert "warning: listen: 127.0.0.1:9 is not open yet: needs a restart" in warnings
    gone = "is no longer configured and lets nobody in: closing its socket needs a restart"
    assert f"warning: listen: 127.0.0.1:0 {gone}" in warnings
    assert any(line.startswith("warning: admin") for line in warnings)
    assert caller_of(running.daemon, listener=V2).get(REGION).status == 200  # IMDSv1 is on here now
    assert caller_of(running.daemon, listener=V1).get(REGION).status == 403
    assert caller_of(running.daemon, OUTSIDE, V2).put_token("60").status == 200
    assert caller_of(running.daemon, OUTSIDE, V1).put_token("60").status == 403
    running.reload()
    assert caller_of(running.daemon, listener=V1).get(REGION).status == 200


def test_a_callers_list_that_is_shorter(running: Reloading) -> None:
    """It holds on connections that are open, too: 403, and nobody is asked upstream."""
    bar = caller_of(running.daemon, BAR, V1)
    with bar.connected() as asked, bar.connected() as silent:
        asked.send(bar.render("GET", REGION))
        assert asked.read_answer().status == 200
        calls = len(running.sts.calls)
        running.reload(listen=[SECTIONS["listen"][0], {**SECTIONS["listen"][1], "callers": [f"{FOO}/32"]}])
        for connection in (asked, silent):
            connection.send(bar.render("GET", ROLES_PATH + BAR_ROLE))
            assert connection.read_answer().status == 403
            assert connection.read_to_end() == b""
    assert len(running.sts.calls) == calls


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_listeners_that_are_taken_out(loop: str, sts: LittleSts, tmp_path: Path) -> None:
    """At the reload everybody is out, on listeners for machines and for people, on sockets of all kinds: no
    connection gets another answer, not even one that waits for it, and new ones get 403. AWS is not asked.
    A listener that is put back lets callers in again, without a restart.
    """
    taken_out = Doors(tmp_path)
    everything = site_settings(sts, **taken_out.sections)
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    with running_daemon(everything, tmp_path, environment=environment) as daemon, ExitStack() as stack:
        reloading = Reloading(daemon, sts, tmp_path / "imds-proxy.yaml")
        callers = taken_out.callers(daemon)
        assert [caller.get(path).status for caller, path in callers] == [200] * 4
        used, silent = ([stack.enter_context(caller.connected()) for caller, _ in callers] for _ in range(2))
        for connection, (caller, path) in zip(used, callers, strict=True):
            connection.send(caller.render("GET", path, *getattr(caller, "headers", ())))
            assert connection.read_answer().status == 200
        shaking_hands = stack.enter_context(socket.create_connection(callers[1][0].server, PATIENCE))
        sts.hold()
        bar = caller_of(daemon, BAR, 1)
        waiting = stack.enter_context(bar.connected())
        calls = len(sts.calls)
        waiting.send(bar.render("GET", ROLES_PATH + BAR_ROLE))
        deadline = time.monotonic() + PATIENCE
        while len(sts.calls) == calls:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        machines = {"machines": taken_out.sections["providers"]["machines"]}
        left = {"listen": taken_out.sections["listen"][:1], "providers": machines}
        write_settings(site_settings(sts, **left), reloading.file)
        assert reloading.signal_and_await() == "configuration reloaded"
        assert [connection.read_to_end() for connection in (*used, *silent, waiting)] == [b""] * 9
        assert shaking_hands.recv(1) == b""
        sts.release()
        calls = len(sts.calls)
        assert [caller.get(path).status for caller, path in callers] == [403] * 4
        assert bar.get(ROLES_PATH + BAR_ROLE).status == 403
        assert len(sts.calls) == calls
        assert caller_of(daemon).get(REGION).status == 200
        assert daemon.log.count("is no longer configured and lets nobody in") == 4
        write_settings(everything, reloading.file)
        assert reloading.signal_and_await() == "configuration reloaded"
        assert [caller.get(path).status for caller, path in callers] == [200] * 4


class Doors:
    """A listener that stays, and four others: HTTP, HTTPS, people's address and people's unix socket."""

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder)
        server = self._authority.issue("server")
        server.key.chmod(0o600)
        self._socket = folder / "people.sock"
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text("the-proxy's-own-secret-of-32-chars\n")
        machines = {"address": "127.0.0.1:0", "imds_v1": True, "provider": "machines"}
        tls = {"certificate": str(server.certificate), "key": str(server.key)}
        trusted = ["127.0.0.1", str(os.getuid())]
        identity = {"header": "X-Remote-User", "trusted": trusted, "secret_file": str(secret)}
        groups = {"main-admin": ["alice"]}
        self.sections: dict[str, Any] = {
            "listen": [machines, machines, {**machines, "tls": tls}],
            "people": {
                "listen": [{"address": "127.0.0.1:0"}, {"unix": str(self._socket)}],
                "provider": "people",
                "identity": identity,
            },
            "providers": {
                "machines": settings_for(Aws("http://127.0.0.1:1", "x", "y"))["providers"]["machines"],
                "people": {
                    "type": "by_groups",
                    "regex": "(?P<account>[^-]+)-(?P<role>.+)",
                    "groups": groups,
                },
            },
        }

    def callers(self, daemon: Daemon) -> list[tuple[WireCaller, str]]:
        """Return a caller of each of the four with a path that it may ask for."""
        ports = [int(address.rpartition(":")[2]) for address in daemon.addresses[1:4]]
        headers = (("X-Imds-Proxy-Secret", "the-proxy's-own-secret-of-32-chars"), ("X-Remote-User", "alice"))
        tls = ssl.create_default_context(cafile=str(self._authority.certificate))
        return [
            (WireCaller(("127.0.0.1", ports[0])), REGION),
            (PeopleCaller(("127.0.0.1", ports[1]), tls=tls), REGION),
            (PeopleCaller(("127.0.0.1", ports[2]), headers=headers), "/account"),
            (PeopleCaller(("localhost", 0), headers=headers[1:], socket_path=self._socket), "/account"),
        ]


def test_an_admin_address_that_is_taken_out(sts: LittleSts, tmp_path: Path) -> None:
    """Another admin address, or another socket, needs a restart; the one that is open lets nobody in, on a
    connection that is open neither. What stays takes its new callers.
    """
    place = tmp_path / "admin.sock"
    admin = {"address": "127.0.0.1:0", "socket": str(place)}
    settings = {"listen": LISTENERS[:1]}
    with running_daemon(site_settings(sts, **settings, admin=admin), tmp_path) as daemon:
        reloading = Reloading(daemon, sts, tmp_path / "imds-proxy.yaml")
        port = int(daemon.admin_url.rpartition(":")[2])
        address = WireCaller(("127.0.0.1", port))
        local = PeopleCaller(("localhost", 0), socket_path=place)

        def reload(**changed: object) -> list[int]:
            write_settings(site_settings(sts, **settings, admin={**admin, **changed}), reloading.file)
            assert reloading.signal_and_await() == "configuration reloaded"
            return [caller.get("/healthz").status for caller in (address, local)]

        with address.connected() as over_address, local.connected() as over_socket:
            for connection in (over_address, over_socket):
                connection.send(address.render("GET", "/healthz"))
                assert connection.read_answer().status == 200
            assert reload(address="127.0.0.1:10") == [403, 200]
            assert over_address.read_to_end() == b""
            assert reload(socket=str(tmp_path / "other.sock")) == [200, 403]
            assert over_socket.read_to_end() == b""
        assert reload(address="127.0.0.1:10", callers=["127.0.0.9/32"]) == [403, 200]
        assert reload(callers=["127.0.0.9/32"]) == [403, 200]
        assert reload() == [200, 200]
        assert daemon.log.count("warning: admin: the addresses have changed") == 3


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
