"""TLS on a listener for machines: real handshakes, those that never end, certificates that are renewed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.authority import Authority
from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, write_settings
from tests.standins.people_wire import PeopleCaller
from tests.standins.waiting import wait_until
from tests.standins.wire import LIFE_HEADER, PATIENCE, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH
from tests.web.machines import FOO, FOO_ROLE, HOSTS, site_settings
from tests.web.test_hop_limit import hops_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.authority import Issued
    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts
    from tests.standins.wire import WireConnection
    from tests.web.conftest import StartSite

LOOPS = ["asyncio", "uvloop"]
REGION = "/latest/meta-data/placement/region"


@dataclass
class Files:
    """The files that a listener's settings name, and what they may become."""

    folder: Path
    authority: Authority
    first: Issued
    second: Issued

    @property
    def settings(self) -> dict[str, str]:
        """The section `tls`."""
        return {"certificate": str(self.folder / "tls.crt"), "key": str(self.folder / "tls.key")}

    def put(self, certificate: Path | None = None, key: Path | None = None) -> None:
        """Put a certificate, a key or both in place, each by a rename."""
        for name, source in (("tls.crt", certificate), ("tls.key", key)):
            if source is not None:
                new = self.folder / f"{name}.new"
                shutil.copy(source, new)
                new.chmod(0o600)
                new.rename(self.folder / name)

    def listen(self, **more: object) -> dict[str, Any]:
        """Return an entry of `listen`."""
        return {"address": "127.0.0.1:0", "tls": self.settings, **more}

    def caller(self, port: int) -> PeopleCaller:
        """Return a caller that believes the authority."""
        tls = ssl.create_default_context(cafile=str(self.authority.certificate))
        return PeopleCaller(("127.0.0.1", port), FOO, tls=tls)

    def caller_of(self, daemon: Daemon, listener: int = 0) -> PeopleCaller:
        """Return a caller of a daemon's listener."""
        return self.caller(int(daemon.addresses[listener].rpartition(":")[2]))


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Issued, Issued]:
    """An authority and two certificates of it."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority, authority.issue("first"), authority.issue("second")


@pytest.fixture
def files(issued: tuple[Authority, Issued, Issued], tmp_path: Path) -> Files:
    """The first certificate in its place."""
    folder = tmp_path / "tls"
    folder.mkdir()
    authority, first, second = issued
    files = Files(folder, authority, first, second)
    files.put(first.certificate, first.key)
    return files


def name_of(caller: PeopleCaller) -> str:
    """Return the common name of the certificate that a new connection sees."""
    with caller.connected() as connection:
        shown = connection.socket.getpeercert()  # type: ignore[attr-defined]  # it is an SSLSocket
        return str(dict(pair[0] for pair in shown["subject"])["commonName"])


def status_over(connection: WireConnection, caller: PeopleCaller) -> int:
    """Return the status of a GET without a token over an open connection."""
    connection.send(caller.render("GET", REGION))
    return connection.read_answer().status


@contextmanager
def raw_connections(caller: PeopleCaller, count: int) -> Iterator[list[socket.socket]]:
    """Open connections on which nobody begins a handshake."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(caller.server, PATIENCE, (caller.source, 0)))
            for _ in range(count)
        ]


# --- the ordinary -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_machines_over_tls(loop: str, files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """TOKEN, LIST and ROLE over one connection; a foreign Host is refused; at SIGTERM an open connection is
    closed, one in the middle of its handshake too.
    """
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    settings = site_settings(sts, listen=[files.listen()])
    with running_daemon(settings, tmp_path, environment=environment) as daemon:
        caller = files.caller_of(daemon)
        with caller.connected() as connection, raw_connections(caller, 1) as (silent,):
            connection.send(caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")))
            token = connection.read_answer().text
            assert caller.fetch_role(token) == FOO_ROLE
            connection.send(caller.render("GET", ROLES_PATH + FOO_ROLE, (TOKEN_HEADER, token)))
            assert '"Code" : "Success"' in connection.read_answer().text
            assert caller.ask("GET", REGION, token=token, host="attacker.example").status == 403
            daemon.signal(signal.SIGTERM)
            assert connection.read_to_end() == b""
            assert silent.recv(1) == b""
        assert daemon.wait() == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_requests_under_way(loop: str, files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """What had connected when SIGTERM came shakes hands, asks, and is answered."""
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    settings = site_settings(sts, listen=[files.listen(imds_v1=True)])
    with running_daemon(settings, tmp_path, environment=environment) as daemon:
        caller = files.caller_of(daemon)
        daemon.signal(signal.SIGSTOP)
        sock = socket.create_connection(caller.server, PATIENCE, (caller.source, 0))
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGCONT)
        assert caller.tls is not None
        with caller.tls.wrap_socket(sock, server_hostname="127.0.0.1") as encrypted:
            encrypted.sendall(caller.render("GET", REGION))
            assert encrypted.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert daemon.wait() == 0


def test_the_hop_limit(files: Files, start_site: StartSite) -> None:
    """TOKEN lowers it on the socket below TLS, and nothing raises it again."""
    site = start_site(listen=[files.listen(hop_limit=3)])
    caller = files.caller(site.ports[0])
    with caller.connected() as connection:
        before, _ = hops_of(site, 0, connection)
        connection.send(caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")))
        assert connection.read_answer().status == 200
        assert (before > 3, hops_of(site, 0, connection)) == (True, (3, None))


def test_the_hop_limit_with_uvloop(files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """A TOKEN is answered there too: its transport gives the socket out."""
    with running_daemon(
        site_settings(sts, listen=[files.listen(hop_limit=1)]),
        tmp_path,
        environment={"IMDS_PROXY_EVENT_LOOP": "uvloop"},
    ) as daemon:
        assert len(files.caller_of(daemon).fetch_token()) == 56


# --- limits -------------------------------------------------------------------------------------------


@pytest.mark.patient
@pytest.mark.parametrize("loop", LOOPS)
def test_handshakes_that_never_end(loop: str, files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """Connections without a handshake count as the caller's own: with all places taken another hears 503;
    those beyond are ended, and so are in time those within. Garbage ends at once and gives its place back.
    """
    settings = site_settings(
        sts, listen=[files.listen(imds_v1=True)], limits={"connections": 3, "requests_per_second": 1000}
    )
    with running_daemon(settings, tmp_path, environment={"IMDS_PROXY_EVENT_LOOP": loop}) as daemon:
        caller = files.caller_of(daemon)
        for _ in range(4):
            with raw_connections(caller, 1) as (garbage,):
                garbage.sendall(caller.render("GET", REGION))
                while garbage.recv(4096):
                    pass
        with raw_connections(caller, 3), caller.connected() as connection:
            assert status_over(connection, caller) == 503
            assert connection.read_to_end() == b""
            with raw_connections(caller, 2) as beyond:
                assert [one.recv(1) for one in beyond] == [b"", b""]
        # Those three have hung up in the middle.
        asyncio.run(wait_until(lambda: caller.get(REGION).status == 200, "a free place"))


@pytest.mark.patient  # waits for the time-out
def test_a_handshake_has_its_end(files: Files, start_site: StartSite) -> None:
    """A connection whose handshake is not over in the time for a first request ends and no longer counts."""
    site = start_site(listen=[files.listen()])
    with raw_connections(files.caller(site.ports[0]), 2) as silent:
        silent[1].sendall(b"\x16\x03\x01\x02\x00")
        assert [one.recv(1) for one in silent] == [b"", b""]
    assert site.do(lambda: (site.workshop.connections.count, len(site.listeners[0].connections))) == (
        0,
        0,
    )


# --- certificates that change -------------------------------------------------------------------------


@pytest.mark.patient
def test_renewal_without_a_signal(files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """While only the certificate is new the old pair is shown, and one line says why. Once the key is there
    the new pair is shown, without SIGHUP, for machines and for people, and connections go on.
    """
    identity = {"header": "X-Remote-User", "trusted": ["127.0.0.1"], "secret_file": str(tmp_path / "secret")}
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("the-proxy's-own-secret-of-32-characters\n")
    settings = site_settings(
        sts,
        listen=[files.listen(imds_v1=True, provider="machines")],
        people={"listen": [files.listen()], "provider": "people", "identity": identity},
    )
    groups = {
        "type": "by_groups",
        "regex": "(?P<account>[^-]+)-(?P<role>.+)",
        "groups": {"main-admin": ["alice"]},
    }
    settings["providers"]["people"] = groups
    with running_daemon(settings, tmp_path) as daemon:
        callers = [files.caller_of(daemon, number) for number in range(2)]
        assert [name_of(caller) for caller in callers] == ["first", "first"]
        with callers[0].connected() as connection:
            assert status_over(connection, callers[0]) == 200
            files.put(files.second.certificate)
            daemon.await_log(".*(the old certificate is kept).*", 2)
            assert [name_of(caller) for caller in callers] == ["first", "first"]
            files.put(None, files.second.key)
            daemon.await_log(".*(the certificate has changed)", 2)
            assert [name_of(caller) for caller in callers] == ["second", "second"]
            assert status_over(connection, callers[0]) == 200
        assert daemon.log.count("the old certificate is kept") == 2
        assert f"{files.settings['key']} is not the key of {files.settings['certificate']}" in daemon.log


@pytest.mark.patient
def test_renewal_by_a_link_and_by_a_signal(files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """The folder that the paths lead through is swapped by its link, as certbot's and Kubernetes' are; SIGHUP
    takes it over at once. A faulty pair keeps the whole configuration, and a good one then comes by itself.
    """
    for name, pair in (("one", files.first), ("two", files.second)):
        (files.folder / name).mkdir()
        shutil.copy(pair.certificate, files.folder / name / "tls.crt")
        shutil.copy(pair.key, files.folder / name / "tls.key")
        (files.folder / name / "tls.key").chmod(0o600)
    link = files.folder / "live"
    link.symlink_to("one")
    tls = {"certificate": str(link / "tls.crt"), "key": str(link / "tls.key")}

    def point_at(name: str) -> None:
        new = files.folder / "live.new"
        new.symlink_to(name)
        os.replace(new, link)  # noqa: PTH105  Path.replace is the same; this one says what it is

    with running_daemon(site_settings(sts, listen=[files.listen(tls=tls)]), tmp_path) as daemon:
        caller = files.caller_of(daemon)
        assert name_of(caller) == "first"
        point_at("two")
        daemon.signal(signal.SIGHUP)
        daemon.await_log("(configuration reloaded)")
        assert name_of(caller) == "second"
        (files.folder / "one" / "tls.key").chmod(0o644)
        point_at("one")
        daemon.signal(signal.SIGHUP)
        daemon.await_log("(configuration kept: 1 fault)")
        daemon.await_log(r".*(the old certificate is kept: \S+ has a secret and others can read it).*")
        assert name_of(caller) == "second"
        (files.folder / "one" / "tls.key").chmod(0o600)
        daemon.await_log(".*(the certificate has changed)", 2)
        assert name_of(caller) == "first"


def test_other_files_and_the_switch(files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """A reload takes other files; TLS that comes or goes needs a restart, and says so."""
    plain = {"address": "127.0.0.1:0"}
    with running_daemon(site_settings(sts, listen=[files.listen(), plain]), tmp_path) as daemon:
        other = {"certificate": str(files.second.certificate), "key": str(files.second.key)}
        files.second.key.chmod(0o600)
        settings = site_settings(sts, listen=[files.listen(tls=other), files.listen()])
        write_settings(settings, tmp_path / "imds-proxy.yaml")
        daemon.signal(signal.SIGHUP)
        daemon.await_log("(configuration reloaded)")
        assert name_of(files.caller_of(daemon)) == "second"
        assert daemon.log.count("tls has come or gone: needs a restart") == 1
        with pytest.raises(ssl.SSLError):
            name_of(files.caller_of(daemon, 1))


# --- faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("mismatch", "listen[0].tls.key: KEY is not the key of CRT"),
        ("open", "listen[0].tls.key: KEY has a secret and others can read it; chmod o= KEY"),
        ("missing", "listen[0].tls.certificate: CRT can't be read: No such file or directory"),
        ("garbage", "listen[0].tls.certificate: CRT has no certificate in PEM"),
    ],
)
def test_faults_at_check(change: str, fault: str, files: Files, sts: LittleSts, tmp_path: Path) -> None:
    """`imds-proxy check` says what is wrong with the files, at the key that names them, and ends with 2."""
    certificate, key = (files.folder / name for name in ("tls.crt", "tls.key"))
    if change == "mismatch":
        files.put(key=files.second.key)
    elif change == "open":
        key.chmod(0o644)
    elif change == "missing":
        certificate.unlink()
    else:
        certificate.write_text("garbage")
    file = write_settings(site_settings(sts, listen=[files.listen()], hosts=HOSTS), tmp_path / "x.yaml")
    done = run_command("check", "--config", file)
    lines = [line for line in done.stderr.splitlines() if "warning: " not in line]
    expected = fault.replace("KEY", str(key)).replace("CRT", str(certificate))
    assert (done.returncode, [line.partition(": ")[2] for line in lines]) == (2, [expected])
