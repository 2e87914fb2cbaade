"""The commands that run to their end, as an operator runs them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.standins.processes import REPOSITORY, bare_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUN_TIME = 60


def run_command(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `imds-proxy ARGUMENTS` and return how it ended, with its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "imds_proxy", *map(str, arguments)],
        cwd=REPOSITORY,
        env=bare_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIME,
        check=False,
    )
