"""Client certificates of trusted proxies: revoked ones, other authorities, older connections."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.standins.authority import Authority
from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, write_settings
from tests.standins.people_wire import PeopleCaller
from tests.standins.wire import PATIENCE
from tests.web.machines import site_settings
from tests.web.people import ACCOUNT_ID, BASE, PROXY, USER_HEADER, running_people

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.authority import Issued
    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts
    from tests.standins.wire import Header, WireConnection

LOOPS = ["asyncio", "uvloop"]
SECRET: Header = ("X-Imds-Proxy-Secret", "the-proxy's-own-secret-of-32-chars")
ROLE = f"{BASE}/account/main/reader"
ACCOUNTS = f"{BASE}/account"
REFUSED = (ssl.SSLError, ConnectionError, EOFError)
"""What a client sees of a handshake that is refused; with TLS 1.3 it may see it after its own part."""


class Proxies:
    """The files of a listener for people, and proxies with certificates of its authority."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers = Authority(folder, "servers")
        self.clients = Authority(folder, "clients")
        self.strangers = Authority(folder, "strangers")
        self._server = self.servers.issue("server")
        self._server.key.chmod(0o600)
        self.good, self.bad = self.clients.issue("good"), self.clients.issue("bad")
        self.client_ca, self.crl = folder / "client-ca.pem", folder / "crl.pem"
        self.put_authority(self.clients)
        self.clients.write_crl(self.crl)
        (folder / "secret").touch(mode=0o600)
        (folder / "secret").write_text(f"{SECRET[1]}\n")

    def put_authority(self, authority: Authority) -> None:
        """Make another authority the one whose client certificates count."""
        new = self._folder / "client-ca.new"
        new.write_bytes(authority.certificate.read_bytes())
        new.rename(self.client_ca)

    @property
    def tls(self) -> dict[str, str]:
        """The section `tls`."""
        certificate, key = str(self._server.certificate), str(self._server.key)
        files = {"client_ca": str(self.client_ca), "crl": str(self.crl)}
        return {"certificate": certificate, "key": key, **files}

    @property
    def identity(self) -> dict[str, Any]:
        """How the listener knows who is asking."""
        return {"header": USER_HEADER, "trusted": [PROXY], "secret_file": str(self._folder / "secret")}

    def settings(self, sts: LittleSts, tls: dict[str, str] | None = None) -> dict[str, Any]:
        """Return the settings of a daemon for people alone."""
        groups = {"type": "by_groups", "regex": "(?P<account>.+)-(?P<role>.+)"}
        settings = site_settings(
            sts,
            providers={"people": {**groups, "groups": {"main-reader": ["alice"]}}},
            people={
                "listen": [{"address": "127.0.0.1:0", "tls": tls or self.tls}],
                "base_path": BASE,
                "identity": self.identity,
            },
            accounts={"main": {"id": ACCOUNT_ID}},
            admin={"address": "127.0.0.1:0"},
        )
        del settings["listen"]
        return settings

    def caller(self, port: int, shows: Issued | None, *headers: Header) -> PeopleCaller:
        """Return a proxy that says that alice is asking, and shows a certificate."""
        tls = ssl.create_default_context(cafile=str(self.servers.certificate))
        if shows is not None:
            tls.load_cert_chain(shows.certificate, shows.key)
        return PeopleCaller(("127.0.0.1", port), PROXY, ((USER_HEADER, "alice"), *headers), tls=tls)


@pytest.fixture
def proxies(tmp_path: Path) -> Proxies:
    """Files with a CRL that revokes nobody."""
    folder = tmp_path / "tls"
    folder.mkdir()
    return Proxies(folder)


@contextmanager
def running(
    proxies: Proxies, sts: LittleSts, folder: Path, loop: str = "uvloop"
) -> Iterator[tuple[Daemon, int]]:
    """Run a daemon; return it and its port."""
    environment = {"IMDS_PROXY_EVENT_LOOP": loop}
    with running_daemon(proxies.settings(sts), folder, environment=environment) as daemon:
        yield daemon, int(daemon.addresses[0].rpartition(":")[2])


def ask_over(connection: WireConnection, caller: PeopleCaller, path: str = ACCOUNTS) -> int:
    """Return the status of a request over an open connection."""
    connection.send(caller.render("GET", path, *caller.headers))
    return connection.read_answer().status


def reload(daemon: Daemon) -> None:
    """Let the daemon read its settings again; return when it has."""
    seen = daemon.log.count("\nconfiguration ")
    daemon.signal(signal.SIGHUP)
    assert daemon.await_log("(configuration (?:reloaded|kept: .*))", seen + 1)[-1] == "configuration reloaded"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_revoked_certificate(loop: str, proxies: Proxies, sts: LittleSts, tmp_path: Path) -> None:
    """Its handshake is refused, and AWS is not asked. A proxy with another one, or with the secret, is not
    concerned; one with neither is nobody.
    """
    proxies.clients.revoke(proxies.bad)
    proxies.clients.write_crl(proxies.crl)
    with running(proxies, sts, tmp_path, loop) as (_, port):
        with pytest.raises(REFUSED):
            proxies.caller(port, proxies.bad, SECRET).get(ROLE)
        with pytest.raises(REFUSED):
            proxies.caller(port, proxies.strangers.issue("stranger")).get(ROLE)
        assert proxies.caller(port, None).get(ROLE).status == 401
        assert sts.calls == []
        assert proxies.caller(port, proxies.good).get(ROLE).status == 200
        assert proxies.caller(port, None, SECRET).get(ROLE).status == 200


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("change", ["crl", "client_ca", "another crl setting", "no client_ca"])
def test_connections_that_are_older(
    change: str, loop: str, proxies: Proxies, sts: LittleSts, tmp_path: Path
) -> None:
    """Another CRL or authority ends the connections with a client certificate, those in their handshake too.
    One whose answer is being made ends after it. Connections without a certificate go on.
    """
    with running(proxies, sts, tmp_path, loop) as (daemon, port), ExitStack() as stack:
        good, bad = (proxies.caller(port, shows) for shows in (proxies.good, proxies.bad))
        without = proxies.caller(port, None, SECRET)
        held = [(caller, stack.enter_context(caller.connected())) for caller in (good, bad, without, good)]
        shaking_hands = stack.enter_context(socket.create_connection(good.server, PATIENCE))
        assert [ask_over(connection, caller) for caller, connection in held] == [200] * 4
        sts.hold()
        waiting = held[3][1]
        waiting.send(good.render("GET", f"{ROLE}/credentials", *good.headers))
        deadline = time.monotonic() + PATIENCE
        while not sts.calls:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        tls = proxies.tls
        proxies.clients.revoke(proxies.bad)
        if change == "crl":
            proxies.clients.write_crl(proxies.crl)
        elif change == "client_ca":
            proxies.put_authority(proxies.strangers)
        elif change == "another crl setting":
            proxies.clients.write_crl(proxies.crl.with_name("other.pem"))
            tls["crl"] = str(proxies.crl.with_name("other.pem"))
        else:
            del tls["client_ca"], tls["crl"]
        write_settings(proxies.settings(sts, tls), tmp_path / "imds-proxy.yaml")
        reload(daemon)
        assert [connection.read_to_end() for _, connection in held[:2]] == [b"", b""]
        assert shaking_hands.recv(1) == b""
        waiting.send(good.render("GET", ROLE, *good.headers))  # is not answered any more
        sts.release()
        assert waiting.read_answer().status == 200
        assert waiting.read_to_end() == b""
        assert ask_over(held[2][1], without) == 200
        calls = len(sts.calls)
        if change == "no client_ca":
            assert [caller.get(ROLE).status for caller in (good, bad)] == [401, 401]
        else:
            with pytest.raises(REFUSED):
                bad.get(ROLE)
        assert len(sts.calls) == calls
        if "crl" in change:
            assert good.get(ROLE).status == 200
        assert "client_ca or crl has changed: connections with a client certificate end" in daemon.log


def test_a_renewed_certificate_ends_no_connection(proxies: Proxies, sts: LittleSts, tmp_path: Path) -> None:
    """A certificate of our own that is renewed says nothing about those of proxies."""
    with running(proxies, sts, tmp_path) as (daemon, port):
        good = proxies.caller(port, proxies.good)
        with good.connected() as connection:
            assert ask_over(connection, good) == 200
            renewed = proxies.servers.issue("renewed")
            renewed.key.chmod(0o600)
            tls = {**proxies.tls, "certificate": str(renewed.certificate), "key": str(renewed.key)}
            write_settings(proxies.settings(sts, tls), tmp_path / "imds-proxy.yaml")
            reload(daemon)
            assert "the certificate has changed" in daemon.log
            assert ask_over(connection, good) == 200


@pytest.mark.patient  # waits until the daemon looks at the files
def test_a_new_crl_without_a_signal(proxies: Proxies, sts: LittleSts, tmp_path: Path) -> None:
    """The daemon sees it by itself. One that can't be read leaves the one before in force."""
    with running(proxies, sts, tmp_path) as (daemon, port):
        bad = proxies.caller(port, proxies.bad)
        with bad.connected() as connection:
            assert ask_over(connection, bad) == 200
            proxies.clients.revoke(proxies.bad)
            proxies.clients.write_crl(proxies.crl)
            daemon.await_log(".*(connections with a client certificate end)")
            assert connection.read_to_end() == b""
        proxies.crl.write_text("garbage")
        daemon.await_log(r".*(the old certificate is kept: \S+ has no CRL in PEM)")
        with pytest.raises(REFUSED):
            bad.get(ACCOUNTS)
        assert proxies.caller(port, proxies.good).get(ACCOUNTS).status == 200


def test_a_crl_that_has_ended(proxies: Proxies, sts: LittleSts, tmp_path: Path) -> None:
    """No client certificate counts; the secret does. The log and a metric say so, and the doctor."""
    proxies.clients.write_crl(proxies.crl, seconds=-3600)
    with running(proxies, sts, tmp_path) as (daemon, port):
        with pytest.raises(REFUSED):
            proxies.caller(port, proxies.good).get(ROLE)
        assert sts.calls == []
        assert proxies.caller(port, None, SECRET).get(ROLE).status == 200
        daemon.await_log(".*(tls.crl has ended: no client certificate counts)")
        with build_opener(ProxyHandler({})).open(f"{daemon.admin_url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith("imds_proxy_client_crl_seconds ")]
        assert -3700 < float(value) < -3500


@pytest.mark.parametrize(("ends", "ahead"), [("the certificate", 3 * 86400), ("the CRL", 7200)])
def test_an_end_while_connected(ends: str, ahead: int, proxies: Proxies, tmp_path: Path) -> None:
    """When the certificate of a connection ends, or the CRL, it is nobody's: 401, and it ends."""
    proxies.clients.write_crl(proxies.crl, seconds=3600 if ends == "the CRL" else 10 * 86400)
    listen = [{"address": "127.0.0.1:0", "tls": proxies.tls}]
    with running_people(tmp_path, listen=listen, identity=proxies.identity) as world:
        good = proxies.caller(world.site.ports[0], proxies.good)
        with good.connected() as connection:
            assert ask_over(connection, good) == 200
            world.site.clock.ahead += ahead
            assert ask_over(connection, good, ROLE) == 401
            assert connection.read_to_end() == b""
        assert world.calls == 0


@pytest.mark.parametrize("fault", ["missing", "garbage", "certificate", "both", "no client_ca"])
def test_faults_at_check(fault: str, proxies: Proxies, sts: LittleSts, tmp_path: Path) -> None:
    """`imds-proxy check` says what is wrong with a CRL, at the key that names it."""
    crl, tls = proxies.crl, proxies.tls
    certificate = proxies.clients.certificate.read_text()
    text = f"{crl} has no CRL in PEM"
    if fault == "missing":
        crl.unlink()
        text = f"{crl} can't be read: No such file or directory"
    elif fault == "garbage":
        crl.write_text("garbage")
    elif fault == "certificate":
        crl.write_text(certificate)
    elif fault == "both":
        crl.write_text(crl.read_text() + certificate)
        text = f"{crl} has a certificate as well, which would become an authority: leave only CRLs in it"
    else:
        del tls["client_ca"]
        text = "needs client_ca beside it: the authorities whose certificates it revokes"
    file = write_settings(proxies.settings(sts, tls), tmp_path / "x.yaml")
    done = run_command("check", "--config", file)
    lines = [line.partition(": ")[2] for line in done.stderr.splitlines() if "warning: " not in line]
    assert (done.returncode, lines) == (2, [f"people.listen[0].tls.crl: {text}"])
