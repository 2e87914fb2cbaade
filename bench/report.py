"""The report: headings, plain tables and the few statistics in them."""

from __future__ import annotations

import math
import sys
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


_WIDTH = 110


def write(text: str = "") -> None:
    """Print a line at once, so that a long run can be followed."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_heading(title: str, explanation: str) -> None:
    """Print the heading of an item and what its figures are."""
    write(f"\n{title}\n{'-' * len(title)}\n{textwrap.fill(explanation, _WIDTH)}")


@dataclass(slots=True)
class Table:
    """Rows under fixed columns; the first column is flush left, the others flush right."""

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Append a row. Floats must be formatted by who knows their precision."""
        self.rows.append([str(cell) for cell in cells])

    def write(self) -> None:
        """Print the table."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        for line in lines:
            _write_line(line, widths)

    def write_newest(self, widths: Sequence[int]) -> None:
        """Print the row that was added last, and the columns before the first: for a run that takes long."""
        if len(self.rows) == 1:
            _write_line(self.columns, widths)
        _write_line(self.rows[-1], widths)


def _write_line(line: Sequence[str], widths: Sequence[int]) -> None:
    first, *others = line
    cells = [first.ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    write("  ".join(cells).rstrip())


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values don't exceed; NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def milliseconds(seconds: float) -> str:
    """Return seconds as a text in milliseconds, two figures after the point."""
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.2f}"
