"""A machine under load, by `steady_load`, for the length of a block."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.standins.processes import Child
from tests.system.lab.namespaces import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.lab.machine import Machine


class Loaded:
    """The load while it runs, and what came of it afterwards."""

    outcome: dict[str, Any]


@contextmanager
def load_on(machine: Machine, rate: int, folder: Path) -> Iterator[Loaded]:
    """Have `rate` requests a second come from the machine for the length of the block."""
    command = machine.namespace.command(sys.executable, "-m", "tests.system.lab.steady_load", str(rate))
    child = Child("load", command, folder=folder, environment=ENVIRONMENT)
    loaded = Loaded()
    try:
        child.await_lines("(asking)", on="stdout")
        yield loaded
        assert child.stop(60) == 0, child.stderr
        loaded.outcome = json.loads(child.stdout.splitlines()[-1])
    finally:
        child.kill()
