"""imds-proxy doctor, as an operator runs it: beside a daemon, without one, and on what is faulty."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.aws_process import Aws, running_aws
from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, settings_for, write_settings
from tests.standins.dns_server import NameServer, running_name_server
from tests.web.machines import BAR, FOO, FOO_NAME, FOO_ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Doctor:
    """The command beside a daemon, and what it found."""

    def __init__(self, file: Path, aws: Aws, names: NameServer) -> None:
        self.file = file
        self.aws = aws
        self.names = names

    def run(self, *arguments: str | Path) -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the exit status and the findings by their titles."""
        done = run_command("doctor", "--json", "--config", self.file, *arguments)
        assert done.stderr == ""
        assert self.aws.secret_access_key not in done.stdout
        return done.returncode, {one["title"]: one for one in json.loads(done.stdout)["findings"]}


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def doctor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doctor]:
    """A daemon with an admin socket, on a port that the settings name, with a strict AWS."""
    folder = tmp_path_factory.mktemp("doctor")
    with running_aws(folder) as aws, running_name_server() as names:
        aws.add_roles(FOO_ROLE)
        names.set_records("valid.example", "SOA", "ns.valid.example. a.valid.example. 1 1 1 1 1")
        names.add_host(FOO, FOO_NAME)
        names.set_pointers(BAR, "berbar07.valid.example")  # and no way back
        settings = settings_for(
            aws,
            listen=[{"address": f"127.0.0.1:{free_port()}"}],
            dns={"nameservers": [names.endpoint]},
            admin={"socket": str(folder / "admin.sock")},
        )
        with running_daemon(settings, folder):
            yield Doctor(folder / "imds-proxy.yaml", aws, names)


def test_beside_a_daemon(doctor: Doctor) -> None:
    """All that can be well here is; nothing is a fault, so the exit status is 0."""
    status, found = doctor.run("--caller", FOO)
    assert [one for one in found.values() if one["level"] == "fault"] == []
    assert status == 0
    for title in (
        "configuration",
        "daemon",
        "renewals",
        "address 127.0.0.1",
        "files",
        "audit",
        "own key",
        "clock",
    ):
        assert found[title]["level"] == "ok", found[title]
    (port,) = [one for title, one in found.items() if title.startswith("port 127.0.0.1:")]
    assert (port["level"], "pid " in port["fact"]) == ("ok", True)
    assert found["domain valid.example"]["level"] == "ok"
    assert FOO_NAME in found[f"names of {FOO}"]["fact"]
    assert f"role/{FOO_ROLE} was assumed" in found[f"role of {FOO}"]["fact"]
    assert ":user/" in found["own key"]["fact"]


def test_a_caller_without_a_role(doctor: Doctor) -> None:
    """A caller that was named and has no role is a fault, with the reason and what to type."""
    status, found = doctor.run("--caller", BAR)
    assert status == 1
    assert found[f"names of {BAR}"]["level"] == "fault"
    assert found[f"role of {BAR}"]["remedy"] == f"imds-proxy explain {BAR} --assume"


def test_nobody_to_try(doctor: Doctor) -> None:
    """Without a caller, and none in the settings, it says how to name one."""
    status, found = doctor.run()
    assert status == 0
    assert (found["role"]["level"], "--caller" in found["role"]["remedy"]) == ("skipped", True)


def test_clock(doctor: Doctor) -> None:
    """The offset is between the daemon's clock and the Date of STS's answer: here one machine has both."""
    _, found = doctor.run()
    assert "agrees with STS's" in found["clock"]["fact"]


def test_lines_for_people(doctor: Doctor) -> None:
    """A line for each finding, one more with what to do, and a sum at the end."""
    done = run_command("doctor", "--config", doctor.file)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert lines[0] == f"ok      configuration: {doctor.file} is good"
    assert all(line.split()[0] in {"ok", "warning", "fault", "skipped", "->"} for line in lines[:-1])
    assert " ok, " in lines[-1]


def test_name_server_fails(doctor: Doctor) -> None:
    """DNS that fails is a fault, and nothing else stops for it."""
    doctor.names.fault_all("SERVFAIL")
    try:
        status, found = doctor.run()
    finally:
        doctor.names.heal()
    assert status == 1
    assert "SERVFAIL" in found["domain valid.example"]["fact"]
    assert found["own key"]["level"] == "ok"


def test_without_a_daemon(doctor: Doctor, tmp_path: Path) -> None:
    """The silence is a fault; what takes a key is tried by the configuration here, and said so."""
    status, found = doctor.run("--socket", tmp_path / "none.sock", "--caller", FOO)
    assert status == 1
    assert found["daemon"]["level"] == "fault"
    assert (found["own key"]["level"], "by the configuration here" in found["own key"]["fact"]) == (
        "ok",
        True,
    )
    assert found[f"role of {FOO}"]["level"] == "ok"


def test_a_foreign_process(doctor: Doctor, tmp_path: Path) -> None:
    """Who has a port instead of the daemon is named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = settings_for(doctor.aws, listen=[{"address": f"127.0.0.1:{port}"}])
        file = write_settings(settings, tmp_path / "a.yaml")
        done = run_command("doctor", "--config", file)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if f" port 127.0.0.1:{port}: " in line]
    assert line.startswith("fault ")
    assert f"(pid {os.getpid()})" in line


def test_a_key_that_is_refused(doctor: Doctor, tmp_path: Path) -> None:
    """A wrong key is a fault that says what to do, and shows none of it."""
    aws = Aws(doctor.aws.url, doctor.aws.access_key_id, "another/secret")
    settings = settings_for(aws, admin={"socket": str(tmp_path / "admin.sock")})
    with running_daemon(settings, tmp_path):
        done = run_command("doctor", "--config", tmp_path / "imds-proxy.yaml")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if " own key: " in line]
    assert (line.startswith("fault"), "SignatureDoesNotMatch" in line) == (True, True)
    assert "another/secret" not in done.stdout


def test_faulty(doctor: Doctor, tmp_path: Path) -> None:
    """Exit status 2 and all faults, as findings; nothing else is looked at."""
    file = write_settings(settings_for(doctor.aws, limits={"connections": 0}, unknown=1), tmp_path / "a.yaml")
    done = run_command("doctor", "--config", file, "--json")
    found = json.loads(done.stdout)["findings"]
    assert (done.returncode, done.stderr) == (2, "")
    assert [(one["title"], one["level"]) for one in found] == [("configuration", "fault")] * 2


def test_wrong_usage(tmp_path: Path) -> None:
    """A caller that is no address is wrong usage."""
    done = run_command("doctor", "--caller", "foo", "--config", tmp_path)
    assert (done.returncode, "is not an IP address" in done.stderr) == (2, True)
