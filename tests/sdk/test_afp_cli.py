"""afp, the client of the AWS Federation Proxy, as PyPI has it: it goes on working with this daemon."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.standins.authority import Authority
from tests.standins.basic_proxy import SECRET, BasicProxy, running_basic_proxy
from tests.standins.client_venvs import ClientUnavailableError, client_bin
from tests.standins.daemon import people_settings_for
from tests.standins.processes import bare_environment
from tests.standins.terminals import at_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws

pytestmark = pytest.mark.sdk

# The last release, of 2019; what it needs is in its metadata.
REQUIREMENTS = ["afp-cli==370.326"]
ACCOUNT = "000123456789"
GROUPS = {
    "main-admin": ["alice"],
    "main-reader": ["alice", "bob"],
    "main-with space": ["alice"],
    "other account-reader": ["alice"],
    "spare-reader": ["alice"],
}
PASSWORDS = {"alice": "PASSWORD", "carol": "PASSWORD", "bob": "a: better one"}  # the first is afp's for tests
ADMIN_ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/alice"


@dataclass(frozen=True)
class Afp:
    """The client, a home for it, and what is behind it."""

    command: Path
    home: Path
    proxy: BasicProxy

    @property
    def environment(self) -> dict[str, str]:
        """What it is run with."""
        return bare_environment({"HOME": str(self.home), "USER": "alice"})

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it without a terminal."""
        return subprocess.run(
            [str(self.command), *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def command() -> Path:
    try:
        return client_bin("afp-cli", REQUIREMENTS) / "afp"
    except ClientUnavailableError as error:
        pytest.skip(f"afp-cli can't be installed: {error}")


@pytest.fixture
def afp(command: Path, aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> Iterator[Afp]:
    """afp with its settings, behind a web server that checks its password, as it was with Apache."""
    aws.add_roles("admin", "reader")
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    identity = {"header": "X-Remote-User", "trusted": ["127.0.0.1"], "secret_file": str(secret)}
    nobody = {"signin_endpoint": "http://127.0.0.1:1"}  # each time it is asked for a console URL, too
    settings = people_settings_for(aws, identity, GROUPS, {"address": "127.0.0.1:0"}, aws_extra=nobody)
    settings["accounts"]["other account"] = {"id": "000000000042"}
    daemon = start_daemon(settings)
    home = tmp_path / "home"
    home.mkdir()
    with running_basic_proxy(daemon.addresses[0], PASSWORDS) as proxy:
        settings_file = home / ".afp-cli" / "afp.yaml"
        settings_file.parent.mkdir()
        settings_file.write_text(f"api_url: {proxy.url}\npassword-provider: testing\n")
        yield Afp(command, home, proxy)


def exported(text: str) -> dict[str, str]:
    """Return what lines such as `export NAME='VALUE'` set."""
    words = [shlex.split(line)[-1] for line in text.splitlines()]
    return dict(word.split("=", 1) for word in words)


def who_is(aws: Aws, keys: dict[str, str]) -> str:
    """Return the ARN that AWS has for the keys in an environment."""
    session = boto3.Session(
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["AWS_SESSION_TOKEN"],
        region_name="eu-central-1",
    )
    return str(session.client("sts", endpoint_url=aws.url).get_caller_identity()["Arn"])


def test_afp_lists_accounts(afp: Afp, aws: Aws) -> None:
    """Accounts and roles, sorted; it asks for nothing but the list, twice in a row."""
    for _ in range(2):  # the second time it has a file with cookies
        done = afp.run()
        assert (done.returncode, done.stderr) == (0, "")
        lines = [re.split(r"  +", line) for line in done.stdout.splitlines()]
        assert lines == [
            ["main", "admin,reader,with space"],
            ["other account", "reader"],
            ["spare", "reader"],
        ]
    assert afp.proxy.asked == [("GET", "/afp-api/latest/account")] * 2
    assert aws.calls() == []


def test_afp_exports_credentials(afp: Afp, aws: Aws) -> None:
    """What `--export` prints makes a shell the role's session, named after the user, with the time left."""
    done = afp.run("--export", "main", "admin")
    assert (done.returncode, done.stderr) == (0, "")
    keys = exported(done.stdout)
    assert who_is(aws, keys) == ADMIN_ARN
    assert keys["AWS_SECURITY_TOKEN"] == keys["AWS_SESSION_TOKEN"]
    end = datetime.strptime(keys["AWS_EXPIRATION_DATE"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs((end - datetime.now(UTC)).total_seconds() - int(keys["AWS_VALID_SECONDS"])) < 60
    assert (
        exported(afp.run("--show", "main", "admin").stdout)["AWS_ACCESS_KEY_ID"] == keys["AWS_ACCESS_KEY_ID"]
    )
    assert afp.proxy.asked == [("GET", "/afp-api/latest/account/main/admin")] * 2


def test_its_second_command_line(afp: Afp, aws: Aws) -> None:
    """`afpv2` comes in the same package and asks for the same."""
    second = replace(afp, command=afp.command.with_name("afpv2"))
    listed = json.loads(second.run("list", "--output", "json").stdout)
    assert listed["main"] == ["admin", "reader", "with space"]
    assert who_is(aws, exported(second.run("export", "main", "admin").stdout)) == ADMIN_ARN


def test_afp_takes_the_first_role(afp: Afp, aws: Aws) -> None:
    """Without a role it asks for the list and takes the first by name."""
    keys = exported(afp.run("--export", "main").stdout)
    assert who_is(aws, keys) == ADMIN_ARN


def test_afp_writes_a_profile(afp: Afp) -> None:
    """`--write` puts the keys into ~/.aws/credentials."""
    done = afp.run("--write", "--profile", "work", "main", "reader")
    assert (done.returncode, done.stderr) == (0, "")
    written = configparser.RawConfigParser()
    written.read(afp.home / ".aws" / "credentials")
    assert written["work"]["aws_access_key_id"].startswith("ASIA")
    assert written["work"]["aws_session_token"]


def test_afp_opens_a_shell(afp: Afp) -> None:
    """A shell with the keys in its environment and the role in its prompt; the password is typed."""
    command = [str(afp.command), "--user=bob", "--password-provider=prompt", "main", "reader"]
    with at_terminal(command, {**afp.environment, "TERM": "dumb"}) as terminal:
        terminal.await_text("Password for bob: ")
        terminal.type(f"{PASSWORDS['bob']}\n")
        terminal.await_text("Entering AFP subshell for account main, role reader.")
        terminal.await_text("(AWS main/reader ")
        terminal.type("echo it is ${AWS_ACCESS_KEY_ID:0:4}-$AWS_ACCOUNT_NAME-$AWS_ASSUMED_ROLE\n")
        terminal.await_text("it is ASIA-main-reader")
        terminal.type("exit\n")
        terminal.await_text("Left AFP subshell.")
        assert terminal.wait() == 0
        assert "better one" not in terminal.screen


def test_afp_and_names_with_spaces(afp: Afp, aws: Aws) -> None:
    """It escapes them as the daemon reads them."""
    aws.add_roles("reader", account="000000000042")
    keys = exported(afp.run("--export", "other account", "reader").stdout)
    assert who_is(aws, keys) == "arn:aws:sts::000000000042:assumed-role/reader/alice"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("main", "writer"), "Permission denied: you may not access role 'writer' in account 'main'"),
        (("nowhere", "admin"), "Permission denied: you may not access role 'admin' in account 'nowhere'"),
        (("spare", "reader"), "has no id"),
    ],
)
def test_afp_is_refused(afp: Afp, aws: Aws, arguments: tuple[str, str], said: str) -> None:
    """It shows the daemon's message, ends with 1 and prints no keys; AWS hears nothing."""
    done = afp.run("--export", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert aws.calls() == []


def test_afp_hears_of_trouble(afp: Afp, aws: Aws) -> None:
    """When AWS fails, too."""
    aws.set_faults({"kind": "unavailable"})
    done = afp.run("--export", "main", "admin")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Call to AWS failed" in done.stderr


def test_afp_with_a_wrong_password(afp: Afp) -> None:
    """It shows the reason phrase of a 401."""
    done = afp.run("--user=bob")
    assert (done.returncode, done.stdout) == (1, "")
    assert "401 Unauthorized" in done.stderr
    assert afp.proxy.asked == []


def test_afp_and_certificates(afp: Afp, tmp_path: Path) -> None:
    """It believes an authority of the site's own by REQUESTS_CA_BUNDLE alone, and sends nothing before."""
    authority = Authority(tmp_path)
    with running_basic_proxy(afp.proxy.daemon, PASSWORDS, authority.issue("web")) as proxy:
        done = afp.run("--api-url", proxy.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert proxy.asked == []
        done = afp.run("--api-url", proxy.url, REQUESTS_CA_BUNDLE=str(authority.certificate))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("main ")


def test_afp_without_roles(afp: Afp) -> None:
    """Somebody without a role gets an empty list, at which afp fails in words of its own."""
    done = afp.run("--user=carol")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Failed to get account list from AWS: max()" in done.stderr
    assert "Traceback" not in done.stderr
    assert afp.proxy.asked == [("GET", "/afp-api/latest/account")]
