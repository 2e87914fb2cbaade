"""The daemon as pip installs it into /opt/imds-proxy: two layers of an overlay, kept below `.cache/booted`.

The lower one has what the daemon needs and changes with pyproject.toml; the upper one has the daemon of this
checkout. Its Python is the system's: one below somebody's home can't be seen by a unit with ProtectHome=.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PREFIX = "/opt/imds-proxy"
SYSTEM_PYTHON = Path("/usr/bin/python3")
_CACHE = REPOSITORY / ".cache" / "booted"
_SCRIPT = Path(__file__).with_name("booted.sh")
_SOURCES = ("imds_proxy", "providers", "aws_federation_proxy", "systemd")
_INSTALL_TIME = 600


class InstallError(Exception):
    """The daemon could not be installed; the text is the last of what pip said."""


def installed_daemon() -> tuple[Path, ...]:
    """Return layers of an overlay at /opt, topmost first, with the checkout's daemon in /opt/imds-proxy.

    They are made when they are missing, which takes a minute the first time. The daemon can talk to
    directories where python-ldap could be built. Raises InstallError.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want them at once
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
        needed, directory = project["dependencies"], project["optional-dependencies"]["ldap"]
        version = _run([str(SYSTEM_PYTHON), "--version"])
        below = _CACHE / f"needed-{_digest([version.encode(), *(r.encode() for r in needed + directory)])}"
        if not below.exists():
            _make_layer(below, (), _venv_with(needed, directory))
        sources = [file for name in _SOURCES for file in sorted((REPOSITORY / name).rglob("*"))]
        files = [REPOSITORY / "pyproject.toml", *sources]
        contents = (
            str(file.relative_to(REPOSITORY)).encode() + b"\0" + file.read_bytes()
            for file in files
            if file.is_file() and file.suffix != ".pyc"
        )
        above = _CACHE / f"daemon-{_digest([below.name.encode(), *contents])}"
        if not above.exists():
            _forget_layers_before(above)
            wheels = _CACHE / "wheel"
            shutil.rmtree(wheels, ignore_errors=True)
            pip = [sys.executable, "-m", "pip"]
            _run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(REPOSITORY)])
            (wheel,) = wheels.glob("*.whl")
            _make_layer(above, (below,), [_pip_install("--no-deps", str(wheel))])
    return above, below


def lower_layers(layers: Iterable[Path]) -> str:
    """Return the layers as the script takes them, the machine's own `/opt` still to follow."""
    return "".join(f"{layer}:" for layer in layers)


def _venv_with(needed: list[str], optional: list[str]) -> list[str]:
    # pip stays outside: it is large, and the daemon doesn't need it.
    make = f"{SYSTEM_PYTHON} -m venv --without-pip {PREFIX}"
    maybe = f"{_pip_install(*optional)} || echo 'no python-ldap: directories are not tried' >&2"
    return [make, _pip_install(*needed), maybe]


def _pip_install(*words: str) -> str:
    quoted = " ".join(f"'{word}'" for word in words)
    return (
        f"{sys.executable} -m pip --python {PREFIX}/bin/python install --quiet --no-input --compile {quoted}"
    )


def _make_layer(layer: Path, below: Sequence[Path], commands: list[str]) -> None:
    fresh, work = layer.with_suffix(".fresh"), layer.with_suffix(".work")
    for folder in (fresh, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    script = ["set -eu", *commands]
    overlay = ["unshare", "--mount", str(_SCRIPT), "layer", lower_layers(below), str(fresh), str(work)]
    _run([*overlay, "sh", "-c", "\n".join(script)])
    shutil.rmtree(work)
    fresh.rename(layer)


def _forget_layers_before(layer: Path) -> None:
    # The last ones stay: another run may have booted with them.
    old = sorted(layer.parent.glob("daemon-*"), key=lambda folder: folder.stat().st_mtime)
    for folder in old[:-5]:
        shutil.rmtree(folder)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> str:
    # pip takes the developer's own settings: proxies, certificates.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=_INSTALL_TIME, env=environment
    )
    if done.returncode:
        raise InstallError(f"{' '.join(command)[:200]}: {done.stderr.strip()[-800:]}")
    return done.stdout
