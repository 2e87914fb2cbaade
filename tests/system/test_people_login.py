"""Passwords of a real OpenLDAP server, by a daemon that speaks TLS itself: the commands, and `afp`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.standins import slapd
from tests.standins.authority import Authority
from tests.standins.aws_process import running_aws
from tests.standins.client_venvs import ClientUnavailableError, client_bin
from tests.standins.daemon import people_settings_for, running_daemon
from tests.standins.processes import bare_environment
from tests.standins.slapd import group, person, person_dn, running_slapd
from tests.standins.terminals import at_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.system

PASSWORD = "Tür-auf: sofort"
AFP_PASSWORD = "nur-ASCII-7"  # afp takes no other
ENTRIES = (
    person("alice", PASSWORD),
    person("bob", AFP_PASSWORD),
    person("carol", "keine-Gruppe"),
    group("aws-main-admin", [person_dn("alice"), person_dn("bob")]),
    group("aws-main-reader", [person_dn("bob")]),
)
PROGRAM = [sys.executable, "-m", "imds_proxy"]


@dataclass(frozen=True)
class Site:
    """Where the daemon is, and whom to believe that it is it."""

    url: str
    authority: Path

    def environment(self, home: Path) -> dict[str, str]:
        """Return what commands are run with: the authority, and a home."""
        trust = {"SSL_CERT_FILE": str(self.authority), "REQUESTS_CA_BUNDLE": str(self.authority)}
        return bare_environment({**trust, "HOME": str(home)})

    def run(self, command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
        """Run something without a terminal."""
        return subprocess.run(
            command,
            env=self.environment(home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon on https that asks the directory for passwords and for groups."""
    pytest.importorskip("ldap", reason="python-ldap is missing: pip install 'imds-proxy[ldap]'")
    missing = slapd.find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    folder = tmp_path_factory.mktemp("login")
    authority = Authority(folder)
    issued, ours = authority.issue("directory"), authority.issue("daemon")
    ours.key.chmod(0o600)
    with running_slapd(folder / "slapd", ENTRIES, issued=issued) as server, running_aws(folder) as aws:
        aws.add_roles("admin", "reader")
        directory = dict(slapd.settings_for(server.ldap, ca_file=str(authority.certificate)))
        listen = {
            "address": "127.0.0.1:0",
            "tls": {"certificate": str(ours.certificate), "key": str(ours.key)},
        }
        nobody = {"signin_endpoint": "http://127.0.0.1:1"}
        settings = people_settings_for(aws, {"ldap": directory}, {}, listen, aws_extra=nobody)
        regex = "aws-(?P<account>[^-]+)-(?P<role>.+)"
        settings["providers"] = {"people": {"type": "ldap", "regex": regex, **directory}}
        with running_daemon(settings, folder) as daemon:
            yield Site(f"https://{daemon.addresses[0]}/afp-api/latest", authority.certificate)
            assert not any(secret in daemon.log + daemon.audit_text for secret in (PASSWORD, AFP_PASSWORD))


def with_netrc(home: Path, user: str, password: str) -> Path:
    """Return a home with a netrc."""
    file = home / ".netrc"
    file.touch(mode=0o600)
    file.write_text(f'machine 127.0.0.1 login {user} password "{password}"\n')
    return home


def test_the_password_in_netrc(site: Site, tmp_path: Path) -> None:
    """Whoever the directory knows sees the roles of their groups there."""
    home = with_netrc(tmp_path, "alice", PASSWORD)
    done = site.run([*PROGRAM, "accounts", "--url", site.url], home)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [["main", "admin"]]
    done = site.run([*PROGRAM, "credentials", "main", "admin", "--url", site.url], home)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"AccessKeyId": "ASIA' in done.stdout
    done = site.run([*PROGRAM, "credentials", "main", "reader", "--url", site.url], home)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("user", "password"), [("alice", AFP_PASSWORD), ("nobody", PASSWORD), ("*", PASSWORD)]
)
def test_a_wrong_password(site: Site, tmp_path: Path, user: str, password: str) -> None:
    """Refused, and nobody hears whether there is such a user."""
    done = site.run([*PROGRAM, "accounts", "--url", site.url], with_netrc(tmp_path, user, password))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"imds-proxy: {site.url} refuses user {user}: wrong user or password\n"


def test_the_password_is_typed(site: Site, tmp_path: Path) -> None:
    """The daemon asks for it, so the person is asked."""
    command = [*PROGRAM, "accounts", "--url", site.url, "--user", "alice"]
    with at_terminal(command, site.environment(tmp_path)) as terminal:
        terminal.await_text("Password of alice at 127.0.0.1: ")
        terminal.type(f"{PASSWORD}\n")
        assert terminal.wait() == 0
        assert "main\tadmin" in terminal.screen.expandtabs(1).replace(" ", "\t")


def test_no_role(site: Site, tmp_path: Path) -> None:
    """Who is in no group has no role, and hears so."""
    done = site.run([*PROGRAM, "accounts", "--url", site.url], with_netrc(tmp_path, "carol", "keine-Gruppe"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "imds-proxy: you have no role\n")


def test_afp(site: Site, tmp_path: Path) -> None:
    """It lists accounts and opens a shell; nothing stands between it and the daemon."""
    try:
        afp = client_bin("afp-cli", ["afp-cli==370.326"]) / "afp"
    except ClientUnavailableError as error:
        pytest.skip(f"afp-cli can't be installed: {error}")
    command = [str(afp), "--api-url", site.url, "--user=bob"]
    environment = {**site.environment(tmp_path), "TERM": "dumb"}
    with at_terminal(command, environment) as terminal:
        terminal.await_text("Password for bob: ")
        terminal.type(f"{AFP_PASSWORD}\n")
        assert terminal.wait() == 0
        assert "admin,reader" in terminal.screen
    with at_terminal([*command, "main", "reader"], environment) as terminal:
        terminal.await_text("Password for bob: ")
        terminal.type(f"{AFP_PASSWORD}\n")
        terminal.await_text("(AWS main/reader ")
        terminal.type("echo it is ${AWS_ACCESS_KEY_ID:0:4}\n")
        terminal.await_text("it is ASIA")
        terminal.type("exit\n")
        assert terminal.wait() == 0
    with at_terminal(command, environment) as terminal:
        terminal.await_text("Password for bob: ")
        terminal.type("falsch\n")
        assert terminal.wait() == 1
        assert "401 Unauthorized" in terminal.screen
