"""Virtual environments for real AWS clients: some pin a botocore that is not the one the daemon has."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

_CACHE = REPOSITORY / ".cache" / "clients"
_INSTALL_TIME = 600


class ClientUnavailableError(Exception):
    """The client could not be installed; the text says why."""


def sdk_requirements() -> list[str]:
    """Return what the extra `sdk` of pyproject.toml names."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    return list(project["optional-dependencies"]["sdk"])


def client_bin(name: str, requirements: list[str]) -> Path:
    """Return the bin folder of a venv that has the requirements; it is made once and kept under `.cache`.

    Raises ClientUnavailableError when it can't be made, with the last lines of what pip said.
    """
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = _CACHE / f"{name}-{digest}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
        complete = folder / "complete"
        if not complete.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            _run([str(folder / "bin" / "pip"), "install", "--quiet", "--no-input", *requirements])
            complete.touch()
    return folder / "bin"


def _run(command: list[str]) -> None:
    try:  # pip takes the developer's own settings: proxies, certificates
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIME)
    except subprocess.TimeoutExpired as error:
        raise ClientUnavailableError(f"{command[:3]} took more than {_INSTALL_TIME} s") from error
    except subprocess.CalledProcessError as error:
        raise ClientUnavailableError(f"{command[:3]}: {error.stderr.strip()[-400:]}") from error
