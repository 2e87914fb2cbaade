"""The unit's environment: what an intruder has left in the state folder, the user's home, is not run."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from ctypes.util import find_library
from typing import TYPE_CHECKING

import pytest

from tests.standins.daemon import running_daemon
from tests.standins.processes import REPOSITORY, bare_environment
from tests.standins.wire import ROLES_PATH
from tests.web.machines import FOO_ROLE, caller_of, site_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts

CACERT_FILE = 0x6002
"""LDAP_OPT_X_TLS_CACERTFILE of ldap.h."""

KEYS = {"Version": 1, "AccessKeyId": "AKIAINTRUDER", "SecretAccessKey": "intruder"}


def unit_environment(credentials: Path) -> dict[str, str]:
    """Return what `Environment=` of the shipped unit sets; `credentials` is the folder of LoadCredential=."""
    lines = (REPOSITORY / "systemd" / "imds-proxy.service").read_text().splitlines()
    words = [word for line in lines if line.startswith("Environment=") for word in shlex.split(line[12:])]
    return dict(word.replace("%d", str(credentials)).split("=", 1) for word in words)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The state folder, which systemd makes $HOME by the user's entry in passwd(5)."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture(params=[True, False], ids=["the unit", "no unit"])
def is_unit(request: pytest.FixtureRequest) -> bool:
    """Whether the unit's environment is there. Without it each attack works, so each test can fail."""
    return bool(request.param)


@pytest.fixture
def environment(is_unit: bool, home: Path, tmp_path: Path) -> dict[str, str]:
    """The daemon's environment."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "aws-credentials").write_text("#")
    return {"HOME": str(home)} | (unit_environment(credentials) if is_unit else {})


def plant(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def ask(daemon: Daemon) -> int:
    """Ask for the role's credentials; return the status."""
    caller = caller_of(daemon)
    return caller.get(ROLES_PATH + FOO_ROLE, caller.fetch_token()).status


def ask_until_granted(daemon: Daemon) -> int:
    """Ask until there are credentials: boto3 may still be loading."""
    end = time.monotonic() + 30
    while (found := ask(daemon)) != 200 and time.monotonic() < end:
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("name", [".aws/config", ".aws/credentials", ".boto"])
def test_a_profile(
    sts: LittleSts, tmp_path: Path, home: Path, environment: dict[str, str], is_unit: bool, name: str
) -> None:
    """Neither `credential_process` nor a key from the home counts; without another key it is a 503."""
    program = tmp_path / "program"
    plant(program, f"#!/bin/sh\n: >{tmp_path}/has-run\necho '{json.dumps(KEYS)}'\n")
    program.chmod(0o755)
    keys = "aws_access_key_id = AKIAINTRUDER\naws_secret_access_key = intruder\n"
    texts = {
        ".aws/config": f"[default]\ncredential_process = {program}\n",
        ".aws/credentials": f"[default]\n{keys}",
        ".boto": f"[Credentials]\n{keys}",
    }
    plant(home / name, texts[name])
    settings = site_settings(sts)
    for key in ("access_key", "secret_key"):
        del settings["aws"][key]
    with running_daemon(settings, tmp_path, environment=environment) as daemon:
        if is_unit:
            assert ask(daemon) == 503
            daemon.await_log(r".*(Unable to locate credentials).*")
        else:
            assert ask_until_granted(daemon) == 200
    assert (tmp_path / "has-run").exists() == (name == ".aws/config" and not is_unit)
    assert bool(sts.calls) != is_unit


def test_a_model(
    sts: LittleSts, tmp_path: Path, home: Path, environment: dict[str, str], is_unit: bool
) -> None:
    """botocore's data comes from its own package: what is in `~/.aws/models` would say what STS is."""
    plant(home / ".aws" / "models" / "endpoints.json", '{"partitions": "none"}')
    with running_daemon(site_settings(sts), tmp_path, environment=environment) as daemon:
        if is_unit:
            assert ask_until_granted(daemon) == 200
        else:
            daemon.await_log(r".*raised in (_read_endpoints) .*")
            assert ask(daemon) == 503


def test_a_module(tmp_path: Path, home: Path, environment: dict[str, str], is_unit: bool) -> None:
    """Python runs no line of a user's site-packages; a venv would not anyway, the system's would."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    marker = tmp_path / "has-run"
    plant(home / f".local/lib/{version}/site-packages/x.pth", f"import os; open({str(marker)!r}, 'w')\n")
    interpreter = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([interpreter, "-c", ""], env=bare_environment(environment), check=True, timeout=60)
    assert marker.exists() != is_unit


def test_a_setting_of_libldap(tmp_path: Path, home: Path, environment: dict[str, str], is_unit: bool) -> None:
    """Which authorities vouch for a directory is nothing that a file in the home says."""
    library = find_library("ldap")
    if library is None:
        pytest.skip("libldap is not installed")
    plant(home / ".ldaprc", f"TLS_CACERT {tmp_path}/intruder.pem\n")
    code = f"""
import ctypes
value = ctypes.c_char_p()
ctypes.CDLL({library!r}).ldap_get_option(None, {CACERT_FILE}, ctypes.byref(value))
print(value.value)
"""
    words, variables = [sys.executable, "-c", code], bare_environment(environment)
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert ("intruder" in done.stdout) != is_unit
