"""The samples for nginx and Apache in the manual, with the real servers: who is asking, and nobody else."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.standins import manual
from tests.standins.authority import Authority
from tests.standins.daemon import running_daemon
from tests.standins.processes import Child, bare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

HOST = "afp.example"
PASSWORDS = {"jane": "sword-fish", "joe": "cod-fish"}
SECRET = "0123456789abcdef0123456789abcdef"
START_TIME = 15
MODULES = (
    *("mpm_event", "authn_core", "authn_file", "auth_basic", "authz_core", "authz_user"),
    *("headers", "proxy", "proxy_http", "ssl", "socache_shmcb"),
)


@dataclass(frozen=True)
class Sample:
    """A web server's configuration in the manual, and the daemon's that follows it, if one does."""

    page: str
    kind: str
    server: str
    daemon: str

    def __str__(self) -> str:
        return f"{self.kind}-{Path(self.page).stem}"


def _samples() -> list[Sample]:
    found = []
    for page in ("docs/people.md", "docs/migrating-from-afp.md"):
        blocks = manual.blocks(page)
        for number, block in enumerate(blocks):
            if block.kind in {"nginx", "apache"}:
                after = [each.text for each in blocks[number + 1 :] if each.kind == "yaml"]
                before = [each.text for each in blocks[:number] if "people:" in each.text]
                daemon = after[0] if page == "docs/people.md" else before[-1]
                found.append(Sample(page, block.kind, block.text, daemon))
    return found


SAMPLES = _samples()


@dataclass(frozen=True)
class Reply:
    """What curl saw."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Site:
    """A web server with the daemon behind it."""

    def __init__(self, port: int, authority: Path) -> None:
        self._port = port
        self._authority = authority

    def get(self, path: str, *arguments: str, user: str | None = "jane") -> Reply:
        """Ask below /afp-api/latest as curl does, with a user's password."""
        login = ["--user", f"{user}:{PASSWORDS[user]}"] if user else []
        where = ["--cacert", str(self._authority), "--resolve", f"{HOST}:{self._port}:127.0.0.1"]
        url = f"https://{HOST}:{self._port}/afp-api/latest{path}"
        command = ["curl", "--silent", "--show-error", "--include", "--path-as-is", "--http1.1"]
        ended = subprocess.run(
            [*command, *where, *login, *arguments, url],
            capture_output=True, check=True, text=True, timeout=30, env=bare_environment(),
        )  # fmt: skip
        head, _, body = ended.stdout.partition("\n\n")
        first, *lines = head.splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(int(first.split()[1]), headers, body)


@pytest.fixture(scope="module", params=SAMPLES, ids=str)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each sample, with the paths and addresses of the test in the place of the manual's."""
    sample: Sample = request.param
    for program in ("nginx" if sample.kind == "nginx" else "apache2", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"missing: {program}")
    # The servers' workers have a user of their own, so the folder is open; pytest's own folders are not.
    with tempfile.TemporaryDirectory(prefix="imds-web-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        authority = Authority(folder)
        issued = authority.issue("afp", f"DNS:{HOST}")
        with running_daemon(_settings(sample, folder, authority), folder) as daemon:
            (place,) = daemon.addresses[-1:]
            server = sample.server.replace("/run/imds-proxy/people.sock", place)
            server = server.replace("imds-proxy.example:8443", place)
            port = _free_port()
            run = _run_nginx if sample.kind == "nginx" else _run_apache
            with run(server, port, issued.certificate, issued.key, folder):
                yield Site(port, authority.certificate)


def _settings(sample: Sample, folder: Path, authority: Authority) -> dict[str, Any]:
    """Return the daemon's settings, for people alone, with groups that are written down."""
    settings = yaml.safe_load(sample.daemon)
    people = settings["people"]
    (listen,) = people["listen"]
    if "unix" in listen:
        people["listen"] = [{"unix": str(folder / "people.sock"), "mode": "0666"}]
    else:
        issued = authority.issue("imds-proxy", f"DNS:{HOST}")
        listen |= {"address": "127.0.0.1:0", "callers": ["127.0.0.1"]}
        listen["tls"] = {"certificate": str(issued.certificate), "key": str(issued.key)}
        secret = folder / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        people["identity"] |= {"trusted": ["127.0.0.1"], "secret_file": str(secret)}
    people.pop("provider", None)
    groups = {"aws-main-admin": ["jane"], "aws-main-reader": ["jane", "joe"]}
    return {
        "people": people,
        "provider": {"type": "by_groups", "regex": "aws-(?P<account>.*)-(?P<role>.*)", "groups": groups},
        "accounts": {"main": {"id": "000123456789"}},
        "aws": {"region": "eu-central-1", "sts_endpoint": "http://127.0.0.1:1"},
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _password_file(folder: Path, form: str) -> Path:
    file = folder / "people"
    hashed = {
        user: subprocess.run(
            ["openssl", "passwd", form, password], capture_output=True, check=True, text=True, timeout=30
        ).stdout
        for user, password in PASSWORDS.items()
    }
    file.write_text("".join(f"{user}:{text}" for user, text in hashed.items()))
    return file


@contextmanager
def _run_nginx(server: str, port: int, certificate: Path, key: Path, folder: Path) -> Iterator[None]:
    server = server.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    server = server.replace("/etc/nginx/afp.pem", str(certificate)).replace("/etc/nginx/afp.key", str(key))
    server = server.replace("/etc/nginx/people", str(_password_file(folder, "-apr1")))
    file = folder / "nginx.conf"
    file.write_text(
        f"user www-data; daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {server} }}\n"
    )
    with _running(["nginx", "-p", str(folder), "-c", str(file)], port, folder):
        yield


@contextmanager
def _run_apache(server: str, port: int, certificate: Path, key: Path, folder: Path) -> Iterator[None]:
    password_file = _password_file(folder, "-apr1")
    basic = f'AuthType Basic\nAuthName "AWS roles"\nAuthBasicProvider file\nAuthUserFile {password_file}\n'
    # Who checks the password is not what is tried here: a file does.
    server = server.replace("AuthType openid-connect\n", basic)
    server = server.replace(
        "AuthBasicProvider PAM\n", f"AuthBasicProvider file\nAuthUserFile {password_file}\n"
    )
    server = re.sub(r" *AuthPAMService .*\n", "", server)
    server = server.replace("*:443", f"127.0.0.1:{port}")
    tls = f"SSLEngine on\nSSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}\n"
    server = server.replace(f"ServerName {HOST}\n", f"ServerName {HOST}\n{tls}")
    server = server.replace("/etc/apache2/rz.pem", str(folder / "authority.crt"))
    secret = folder / "imds-proxy-secret.conf"
    secret.write_text(f'RequestHeader set X-Imds-Proxy-Secret "{SECRET}"\n')
    secret.chmod(0o600)
    server = server.replace("/etc/apache2/imds-proxy-secret.conf", str(secret))
    assert "/etc/" not in server, server
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in MODULES
    )
    file = folder / "apache2.conf"
    file.write_text(
        f"ServerRoot {folder}\nServerName {HOST}\nDefaultRuntimeDir {folder}\nPidFile {folder}/apache2.pid\n"
        f"ErrorLog {folder}/error.log\nUser www-data\nGroup www-data\nListen 127.0.0.1:{port}\n"
        f"{modules}{server}"
    )
    with _running(["apache2", "-D", "FOREGROUND", "-f", str(file)], port, folder):
        yield


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    child = Child(command[0], command, folder=folder, environment=bare_environment())
    try:
        _await_port(child, port)
        yield
        child.stop()
    finally:
        child.kill()


def _await_port(child: Child, port: int) -> None:
    deadline = time.monotonic() + START_TIME
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert child.is_running, child.stderr
            assert time.monotonic() < deadline, child.stderr
            time.sleep(0.05)
        else:
            return


def test_there_are_samples_for_both_servers() -> None:
    """The tests here have something to look at."""
    assert [str(sample) for sample in SAMPLES] == [
        "nginx-people",
        "apache-people",
        "apache-migrating-from-afp",
    ]


def test_the_user_is_whom_the_web_server_has_logged_in(site: Site) -> None:
    """Each sees their own roles."""
    reply = site.get("/account")
    assert (reply.status, reply.headers["x-username"]) == (200, "jane")
    assert reply.json() == {"main": ["admin", "reader"]}
    assert site.get("/account", user="joe").json() == {"main": ["reader"]}


def test_without_a_login_the_web_server_says_no(site: Site) -> None:
    """Also where the client claims a user by itself."""
    for headers in ((), ("--header", "X-Remote-User: jane")):
        reply = site.get("/account", *headers, user=None)
        assert reply.status == 401
        assert reply.headers["www-authenticate"].startswith("Basic")
        assert "x-username" not in reply.headers


def test_a_header_of_the_client_is_replaced(site: Site) -> None:
    """Whatever it claims, and however often."""
    spoofed = ["--header", "X-Remote-User: jane", "--header", "x-remote-user: root"]
    reply = site.get("/account", *spoofed, user="joe")
    assert (reply.status, reply.headers.get("x-username")) == (200, "joe")


def test_names_arrive_as_they_were_sent(site: Site) -> None:
    """An encoded slash is a part of the name, not two segments."""
    reply = site.get("/account/a%2Fb/c%20d/credentials")
    assert reply.status == 403
    assert "role 'c d' in account 'a/b'" in reply.json()["message"]


def test_the_page_and_other_sites(site: Site) -> None:
    """A browser gets the page under public_url's host; another site's page gets nothing."""
    own = site.get("/", "--header", "Sec-Fetch-Site: same-origin", "--header", f"Origin: https://{HOST}")
    assert own.status == 200
    assert "<title>AWS roles of jane</title>" in own.body
    assert "admin" in own.body
    foreign = site.get("/account", "--header", "Origin: https://evil.example")
    assert (foreign.status, "another site" in foreign.json()["message"]) == (403, True)
