"""Virtual environments for real AWS clients: some pin a botocore that is not the one the daemon has."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

_CACHE = REPOSITORY / ".cache"
_PROJECT = REPOSITORY / "pyproject.toml"
_INSTALL_TIME = 600


class ClientUnavailableError(Exception):
    """The client could not be installed; the text says why."""


def sdk_requirements() -> list[str]:
    """Return what the extra `sdk` of pyproject.toml names."""
    project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
    return list(project["optional-dependencies"]["sdk"])


def client_bin(name: str, requirements: list[str]) -> Path:
    """Return the bin folder of the venv `.cache/NAME` that has the requirements.

    It is made when it is missing or older than pyproject.toml; the stamp in it is the one that `make`
    keeps. Raises ClientUnavailableError when it can't be made, with the last of what pip said.
    """
    folder = _CACHE / name
    stamp = folder / ".made"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
        if not stamp.exists() or stamp.stat().st_mtime < _PROJECT.stat().st_mtime:
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            _run([str(folder / "bin" / "pip"), "install", "--quiet", "--no-input", *requirements])
            stamp.touch()
    return folder / "bin"


def _run(command: list[str]) -> None:
    try:  # pip takes the developer's own settings: proxies, certificates
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIME)
    except subprocess.TimeoutExpired as error:
        raise ClientUnavailableError(f"{command[:3]} took more than {_INSTALL_TIME} s") from error
    except subprocess.CalledProcessError as error:
        raise ClientUnavailableError(f"{command[:3]}: {error.stderr.strip()[-400:]}") from error
