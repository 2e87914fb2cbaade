"""One value of the tree as it was written, for checks that look at it before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

T = TypeVar("T")


def parse_at(source: Source, path: KeyPath, parse: Callable[[str], T]) -> T | None:
    """Return what stands at `path`, or None where nothing or nonsense does: that is a fault already."""
    value = source.value(path)
    try:
        return parse(value) if isinstance(value, str) else None
    except ValueError:
        return None
