"""Packages of a Debian suite, unpacked below `.cache`, never installed on the machine that runs the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.processes import REPOSITORY

_CACHE = REPOSITORY / ".cache" / "debian"
_RUN_TIME = 300
_OS_RELEASE = Path("/etc/os-release")
# Oldest first. A suite older than the machine's may need libraries that the machine no longer has.
SUITES = ("bookworm", "trixie")


def unpack_package(package: str, suite: str) -> Path:
    """Return a folder with the files of a suite's package, fetched from the machine's own Debian mirror.

    Lists and state of the machine's apt stay as they are. Raises ClientUnavailableError when it can't be
    had, with the last of what apt said.
    """
    own = _own_suite()
    if own not in SUITES or SUITES.index(suite) < SUITES.index(own):
        raise ClientUnavailableError(f"{package} of Debian's {suite} is not for a machine with {own}")
    folder = _CACHE / f"{package}-{suite}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{package}-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
        if not folder.exists():
            fetched = _fetch(package, suite, _CACHE / "apt" / suite)
            fresh = _CACHE / f"{package}-{suite}.fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            _run(["dpkg-deb", "--extract", str(fetched), str(fresh)])
            fresh.rename(folder)
    return folder


def _own_suite() -> str:
    lines = _OS_RELEASE.read_text("utf-8").splitlines() if _OS_RELEASE.exists() else []
    found = dict(line.partition("=")[::2] for line in lines)
    return found.get("VERSION_CODENAME", "") if found.get("ID") == "debian" else "another system"


def _fetch(package: str, suite: str, folder: Path) -> Path:
    for part in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    # Release files of a suite are signed with keys that the release before it already knows.
    sources.write_text(
        f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {_find_mirror()} {suite} main\n"
    )
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::State": folder / "state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *options, "--quiet", "--quiet", "update"])
    for old in folder.glob(f"{package}_*.deb"):
        old.unlink()
    _run(["apt-get", *options, "--quiet", "--quiet", "download", package], folder)
    (fetched,) = folder.glob(f"{package}_*.deb")
    return fetched


def _find_mirror() -> str:
    wanted = ["Created-By: Packages", "Component: main", "Origin: Debian", "Label: Debian"]
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted])
    if not listed.strip():
        raise ClientUnavailableError("apt-get has no Debian mirror, or no lists of it yet")
    return listed.split()[0]


def _run(command: list[str], folder: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # apt takes the machine's own settings: proxies
    try:
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=_RUN_TIME,
            env=environment,
        )
    except FileNotFoundError as error:
        raise ClientUnavailableError(f"no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise ClientUnavailableError(f"{command[0]} took more than {_RUN_TIME} s") from error
    except subprocess.CalledProcessError as error:
        raise ClientUnavailableError(f"{command[0]}: {error.stderr.strip()[-400:]}") from error
    return done.stdout
