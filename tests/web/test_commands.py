"""check, config and explain as an operator runs them: output and exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, write_settings
from tests.standins.dns_server import NameServer, running_name_server
from tests.standins.little_sts import running_little_sts
from tests.web.machines import (
    ACCOUNT,
    DENIED,
    FOO,
    FOO_NAME,
    FOO_ROLE,
    FOREIGN,
    HOSTS,
    NAMELESS,
    OUTSIDE,
    SIX,
    SIX_ROLE,
    site_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.little_sts import LittleSts

KEYS = {
    "address",
    "names",
    "account",
    "account_id",
    "role",
    "role_arn",
    "session_name",
    "reason",
    "outcome",
    "steps",
}


# --- check and config ------------------------------------------------------------------------------


def test_check_good(sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 0 and one line on stdout; a file and a folder that the environment names do."""
    folder = tmp_path / "etc"
    folder.mkdir()
    file = write_settings(site_settings(sts), folder / "a.yaml")
    for arguments, environment in (
        (("--config", file), {}),
        ((), {"IMDS_PROXY_CONFIG": str(folder)}),
    ):
        done = run_command("check", *arguments, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 1
    assert sts.calls == []


def test_check_faulty(sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 2, a line for every fault in the order of the file, nothing on stdout, no traceback."""
    settings = site_settings(sts, limits={"connections": 0}, unknown=1)
    settings["providers"]["machines"]["allowed_domain"] = "typo.example"
    file = write_settings(settings, tmp_path / "a.yaml")
    done = run_command("check", "--config", file)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    numbers = [int(line.removeprefix(f"{file}:").partition(":")[0]) for line in lines]
    assert numbers == sorted(numbers)
    for key in ("limits.connections", "unknown", "providers.machines.allowed_domain"):
        assert sum(f": {key}: " in line for line in lines) == 1


def test_check_with_warnings(sts: LittleSts, tmp_path: Path) -> None:
    """A warning is shown and changes no exit status."""
    file = write_settings(site_settings(sts, accounts={"main": {"id": "123456789"}}), tmp_path / "a.yaml")
    done = run_command("check", "--config", file)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert ": accounts.main.id: warning: " in line


def test_config(sts: LittleSts, tmp_path: Path) -> None:
    """Every setting with its origin; account ids have 12 digits, secrets are masked."""
    file = write_settings(site_settings(sts), tmp_path / "a.yaml")
    done = run_command("config", "--config", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "our/own/secret/key" not in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith(f"accounts.main.id: {ACCOUNT}    # {file}:") for line in lines)
    assert any(line.startswith("dns.stale: ") and line.endswith("# default") for line in lines)


def test_config_faulty(tmp_path: Path) -> None:
    """Exit status 2 and the faults; nothing half is printed."""
    done = run_command("config", "--config", tmp_path / "missing")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_schema() -> None:
    """`config --schema` needs no configuration and prints one JSON document."""
    done = run_command("config", "--schema", environment={"IMDS_PROXY_CONFIG": "/nonexistent"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "listen" in json.loads(done.stdout)["properties"]


# --- explain ---------------------------------------------------------------------------------------


class Explaining:
    """A daemon with an admin socket, its stand-ins, and the command."""

    def __init__(self, file: Path, sts: LittleSts, names: NameServer) -> None:
        self.file = file
        self.sts = sts
        self.names = names

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return exit status and JSON of `explain ARGUMENTS --json`."""
        done = run_command("explain", *arguments, "--json", "--config", self.file)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def explaining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explaining]:
    """A daemon for the tests of this module."""
    folder = tmp_path_factory.mktemp("explaining")
    with running_little_sts() as sts, running_name_server() as names:
        settings = site_settings(
            sts,
            admin={"socket": str(folder / "admin.sock")},
            dns={"nameservers": [names.endpoint]},
            hosts={address: name for address, name in HOSTS.items() if address != FOO},
        )
        names.add_host(FOO, FOO_NAME)
        names.set_pointers("127.0.0.7", FOO_NAME, "tuvfoo42.evil.example")
        names.fault("5.0.0.127.in-addr.arpa", "SERVFAIL")
        with running_daemon(settings, folder):
            yield Explaining(folder / "imds-proxy.yaml", sts, names)


@pytest.mark.parametrize("where", [(), ("--offline",)])
def test_explain_granted(where: tuple[str, ...], explaining: Explaining) -> None:
    """Exit status 0 and all that was decided; STS is not asked. The daemon and `--offline` agree."""
    calls = len(explaining.sts.calls)
    status, answer = explaining.run(FOO, *where)
    assert status == 0
    assert set(answer) == KEYS
    assert answer["outcome"] == "granted"
    assert answer["address"] == FOO
    assert answer["names"] == [{"name": FOO_NAME, "confirmed": True, "allowed": True}]
    assert (answer["account"], answer["account_id"]) == ("main", ACCOUNT)
    assert answer["role"] == FOO_ROLE
    assert answer["role_arn"] == f"arn:aws:iam::{ACCOUNT}:role/{FOO_ROLE}"
    assert answer["session_name"] == FOO_NAME
    assert answer["reason"]
    assert len(answer["steps"]) >= 4
    assert len(explaining.sts.calls) == calls


def test_explain_ipv6(explaining: Explaining) -> None:
    """Any spelling of the address will do, IPv4-mapped too; the listener that lets it in is found."""
    status, answer = explaining.run("0:0:0:0:0:0:0:1")
    assert (status, answer["address"], answer["role"]) == (0, SIX, SIX_ROLE)
    status, answer = explaining.run(f"::ffff:{FOO}")
    assert (status, answer["address"], answer["role"]) == (0, FOO, FOO_ROLE)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (FOREIGN, "allowed"),
        (DENIED, "denied"),
        (OUTSIDE, "no listener"),
        ("10.0.0.1", "no listener"),
        ("127.0.0.7", "allowed"),
        ("127.0.0.8", "PTR"),
    ],
)
def test_explain_refused(address: str, reason: str, explaining: Explaining) -> None:
    """Exit status 1, the reason in words, nothing about a role; the same keys as ever."""
    status, answer = explaining.run(address)
    assert (status, answer["outcome"]) == (1, "refused")
    assert set(answer) == KEYS
    assert reason in answer["reason"]
    assert answer["role"] is None
    assert answer["role_arn"] is None
    assert answer["steps"][-1].startswith("refused: ")


def test_explain_names(explaining: Explaining) -> None:
    """Names that don't count are shown with the reason: here one is not ours, one leads elsewhere."""
    _, answer = explaining.run("127.0.0.7")
    names = {name["name"]: (name["confirmed"], name["allowed"]) for name in answer["names"]}
    assert names == {FOO_NAME: (False, True), "tuvfoo42.evil.example": (False, False)}


def test_explain_trouble(explaining: Explaining) -> None:
    """Exit status 3 where DNS fails."""
    status, answer = explaining.run(NAMELESS)
    assert (status, answer["outcome"]) == (3, "trouble")
    assert answer["role"] is None


def test_explain_assume(explaining: Explaining) -> None:
    """`--assume` really asks STS and says which key came, never a secret."""
    done = run_command("explain", FOO, "--assume", "--json", "--config", explaining.file)
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(answer) == KEYS | {"access_key_id", "expiration"}
    key = explaining.sts.issued[-1]
    assert answer["access_key_id"] == key.access_key
    assert answer["expiration"].endswith("Z")
    assert key.secret_key not in done.stdout
    assert key.session_token not in done.stdout


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [((403, "AccessDenied"), 1, "refused"), ((503, "ServiceUnavailable"), 3, "trouble")],
)
def test_explain_assume_fails(
    error: tuple[int, str], status: int, outcome: str, explaining: Explaining
) -> None:
    """STS says no: exit status 1; STS is in trouble: 3."""
    explaining.sts.refuse(*error)
    try:
        ended, answer = explaining.run(FOO, "--assume")
        assert (ended, answer["outcome"]) == (status, outcome)
        assert error[1] in answer["reason"]
    finally:
        explaining.sts.accept()


def test_explain_in_words(explaining: Explaining) -> None:
    """Without `--json`: the steps, numbered, and the outcome last."""
    done = run_command("explain", FOO, "--config", explaining.file)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split(".")[0].strip() for line in lines[:-1]] == [
        str(number) for number in range(1, len(lines))
    ]
    assert lines[-1].startswith("granted: ")
    assert any(FOO_ROLE in line for line in lines)


def test_explain_without_a_daemon(sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 3 and one line that names `--offline`: no socket set, nobody there, or somebody else."""
    for admin in ({}, {"socket": str(tmp_path / "admin.sock")}):
        file = write_settings(site_settings(sts, admin=admin), tmp_path / "a.yaml")
        done = run_command("explain", FOO, "--config", file)
        assert (done.returncode, done.stdout) == (3, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("imds-proxy: ")
        assert "--offline" in line


def test_explain_faulty(tmp_path: Path) -> None:
    """Exit status 2 for a faulty configuration and for an address that is none."""
    file = tmp_path / "a.yaml"
    file.write_text("listen: []\n")
    assert run_command("explain", FOO, "--config", file).returncode == 2
    done = run_command("explain", "tuvfoo42", "--config", file)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
