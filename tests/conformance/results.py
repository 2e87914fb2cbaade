"""What a run found out: one entry per client and mode, kept in a file for the page."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.clients import Client
    from tests.conformance.modes import Mode

FILE = REPOSITORY / ".cache" / "conformance" / "results.json"
GREEN = "green"


class Results:
    """The outcomes so far: `green`, or why not."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self._cells: dict[str, dict[str, str]] = {}

    @contextmanager
    def judging(self, client: Client, mode: Mode) -> Iterator[None]:
        """Record how the block ends: green when nothing is raised."""
        cells = self._cells.setdefault(client.name, {})
        try:
            yield
        except pytest.skip.Exception as skipped:
            cells[mode] = f"skipped: {skipped}"
            raise
        except BaseException as error:
            cells[mode] = f"red: {error}"
            raise
        cells[mode] = GREEN

    def write(self) -> None:
        """Put all into FILE, in the place of what an earlier run found."""
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps({"versions": self.versions, "cells": self._cells}, indent=1), "utf-8")
