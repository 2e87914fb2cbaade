"""The Debian package of this checkout, built when something in it has changed, kept below `.cache/deb`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standins.processes import REPOSITORY

_CACHE = REPOSITORY / ".cache" / "deb"
_BUILD = REPOSITORY / "packaging" / "deb" / "build"
_INGREDIENTS = (
    "imds_proxy",
    "providers",
    "aws_federation_proxy",
    "systemd",
    "packaging",
    "docs",
    "examples",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
)
_BUILD_TIME = 600


def built_package() -> Path:
    """Return the package of this checkout's files, by the script that `make deb` runs.

    Skips where the tools for that are missing. Raises AssertionError with what the build said when it fails.
    """
    if missing := _find_missing():
        pytest.skip(f"missing: {missing}")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
        folder = _CACHE / _digest()
        if not folder.exists():
            for old in sorted(_CACHE.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)[:-2]:
                shutil.rmtree(old)
            fresh = _CACHE / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            _run([str(_BUILD), sys.executable, str(fresh)])
            fresh.rename(folder)
    (package,) = folder.glob("*.deb")
    return package


def next_package(package: Path, folder: Path) -> Path:
    """Return the same package as a later version, made in `folder`, with the same files."""
    tree = folder / "next"
    _run(["dpkg-deb", "--raw-extract", str(package), str(tree)])
    control = tree / "DEBIAN" / "control"
    text = control.read_text("utf-8")
    version = next(line for line in text.splitlines() if line.startswith("Version: "))
    control.write_text(text.replace(version, f"{version}+next"), "utf-8")
    made = folder / "next.deb"
    _run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(made)])
    shutil.rmtree(tree)
    return made


def _find_missing() -> str:
    if shutil.which("dpkg-checkbuilddeps") is None:
        return "dpkg-checkbuilddeps (Debian package dpkg-dev)"
    command = ["dpkg-checkbuilddeps", str(_BUILD.with_name("debian") / "control")]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr.strip()


def _digest() -> str:
    digest = hashlib.sha256()
    for name in _INGREDIENTS:
        top = REPOSITORY / name
        for file in [top] if top.is_file() else sorted(top.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"{file.relative_to(REPOSITORY)}\0{file.stat().st_mode}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=_BUILD_TIME, env=os.environ
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
