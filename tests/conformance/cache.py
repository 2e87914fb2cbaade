"""What is built for the clients: kept below `.cache/conformance`, made anew when its recipe changes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PROBES = REPOSITORY / "tests" / "sdk"
"""The programs, one folder per language."""

_CACHE = REPOSITORY / ".cache" / "conformance"
_BUILD_TIME = 1800


def make_once(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `.cache/conformance/NAME` with what `build` has put there.

    `name` begins with the language (`go/sdk-v2`). `build` gets the empty folder, and is called when
    there is none yet or when `recipe` (all that the result depends on, as text) was another.
    Raises what `build` raises: ClientUnavailableError.
    """
    folder = _CACHE / name
    stamp = folder / ".recipe"
    folder.parent.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(recipe.encode()).hexdigest()
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may want it at once
        if not stamp.exists() or stamp.read_text("ascii") != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            stamp.write_text(wanted, "ascii")
    return folder


def copy_probe(source: str, folder: Path) -> None:
    """Copy the programs of a language (`go`, or a folder in it: `go/v2`) into `folder`."""
    shutil.copytree(PROBES / source, folder, dirs_exist_ok=True)


def text_of(source: str) -> str:
    """Return all files of a language's programs as one text: the recipe of what is built from them."""
    files = sorted(path for path in (PROBES / source).rglob("*") if path.is_file())
    return "\n".join(f"{path.relative_to(PROBES)}\n{path.read_text('utf-8')}" for path in files)


def find_tool(*names: str) -> None:
    """Raise ClientUnavailableError that names the first of these programs which is not on the PATH."""
    for name in names:
        if shutil.which(name) is None:
            raise ClientUnavailableError(f"{name} is not installed")


def run_step(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    seconds: int = _BUILD_TIME,
) -> None:
    """Run one step of a build in `folder`, with the developer's own environment and `environment` over it.

    Raises ClientUnavailableError with the last of what it said when it fails or takes longer than `seconds`.
    """
    try:
        subprocess.run(
            list(command),
            cwd=folder,
            env={**os.environ, **(environment or {})},
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise ClientUnavailableError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClientUnavailableError(f"{' '.join(command[:3])} took more than {seconds} s") from error
    except subprocess.CalledProcessError as error:
        raise ClientUnavailableError(f"{' '.join(command[:3])}: {error.stdout.strip()[-600:]}") from error
