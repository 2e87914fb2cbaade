"""Distributions that name providers, installed for the length of a test: a folder on the module path."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imds_proxy import registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def installed(folder: Path, *entry_points: str) -> Iterator[None]:
    """Have one distribution for each entry point, such as `machines = site.machines:Provider`."""
    for number, entry_point in enumerate(entry_points):
        info = folder / f"site{number}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: site{number}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry_point}\n")
    sys.path.insert(0, str(folder))
    registry.installed.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        registry.installed.cache_clear()
