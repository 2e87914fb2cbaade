"""Runs the system's programs (ip, nft, systemctl), none for longer than a few seconds."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE

PATIENCE = 5.0
"""Seconds."""

_MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""An ordinary user's PATH often lacks these."""


class UnavailableError(Exception):
    """A fact can't be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    status: int
    output: str
    complaint: str
    """The first line on stderr."""


async def run_program(*words: str, patience: float = PATIENCE) -> Done:
    """Return how a program ended. Raises UnavailableError: not installed, or not ended in time."""
    path = f"{os.environ.get('PATH', os.defpath)}:{_MORE_PATH}"
    program = shutil.which(words[0], path=path)
    if program is None:
        raise UnavailableError(f"{words[0]} is not installed")
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": ""}
    try:
        process = await asyncio.create_subprocess_exec(
            program, *words[1:], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment
        )
    except OSError as error:
        raise UnavailableError(f"{words[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(patience):
            output, errors = await process.communicate()
    except TimeoutError:
        raise UnavailableError(f"{words[0]} did not end within {patience:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = errors.decode(errors="replace").strip().splitlines()
    return Done(process.returncode or 0, output.decode(errors="replace"), lines[0] if lines else "")


async def read_output(*words: str, patience: float = PATIENCE) -> str:
    """Return what a program writes to stdout. Raises UnavailableError, also when it fails."""
    done = await run_program(*words, patience=patience)
    if done.status:
        raise UnavailableError(f"{' '.join(words[:3])}: {done.complaint or f'exit status {done.status}'}")
    return done.output
