"""Python's clients: each in a virtual environment of its own, for some pin what others need newer."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from tests.conformance.cache import PROBES, make_once, run_step
from tests.conformance.clients import Client, usual_modes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _prepare(name: str, *requirements: str) -> Sequence[str]:
    """Return the command line of `tests/sdk/python/NAME.py` in a venv with the requirements."""

    def build(folder: Path) -> None:
        run_step([sys.executable, "-m", "venv", str(folder)], folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
        run_step([*pip, "--disable-pip-version-check", *requirements], folder)

    recipe = f"{sys.version} {' '.join(requirements)}"
    venv = make_once(f"python/{name}", recipe, build)
    return [str(venv / "bin" / "python"), str(PROBES / "python" / f"{name}.py")]


CLIENTS = (
    Client(
        name="boto3",
        language="python",
        prepare=partial(_prepare, "boto3_probe", "boto3==1.44.5"),
        modes=usual_modes(),
    ),
)
