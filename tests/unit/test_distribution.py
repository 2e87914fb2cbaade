"""The check of wheel and sdist sees what lacks, what is too much, and wrong entry points."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.distribution import Contents, find_faults

_SETTINGS: dict[str, Any] = {
    "project": {
        "name": "a-b",
        "version": "1.0",
        "scripts": {"a-b": "a:main"},
        "entry-points": {"a.parts": {"x": "b:X"}},
    },
    "tool": {
        "hatch": {
            "build": {
                "targets": {
                    "wheel": {"packages": ["a", "parts/b"], "force-include": {"files": "a/files"}},
                    "sdist": {"only-include": ["a", "parts", "files", "LICENSE"]},
                }
            }
        }
    },
}
_TRACKED = {
    *("a/__init__.py", "a/py.typed", "parts/b/__init__.py", "parts/b/py.typed"),
    *("files/x.d/y.conf", "LICENSE", "notes.txt"),
}
_DIST_INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
_GOOD = Contents(
    wheel={"a/__init__.py", "a/py.typed", "b/__init__.py", "b/py.typed", "a/files/x.d/y.conf"}
    | {f"a_b-1.0.dist-info/{file}" for file in _DIST_INFO},
    entry_points={"console_scripts": {"a-b": "a:main"}, "a.parts": {"x": "b:X"}},
    sdist=(_TRACKED - {"notes.txt"}) | {"PKG-INFO", "pyproject.toml", ".gitignore"},
)


def test_what_is_named_and_tracked_is_right() -> None:
    """The wheel has the packages and its metadata, the sdist what is named and no more."""
    assert find_faults(_GOOD, _SETTINGS, _TRACKED) == []


def test_a_file_that_lacks_is_a_fault() -> None:
    """Also the licence, the marker of a typed package, and what comes from a folder elsewhere."""
    for path in ("a/__init__.py", "b/py.typed", "a/files/x.d/y.conf", "a_b-1.0.dist-info/licenses/LICENSE"):
        contents = dataclasses.replace(_GOOD, wheel=_GOOD.wheel - {path})
        assert f"wheel: lacks {path}" in find_faults(contents, _SETTINGS, _TRACKED)


def test_a_package_without_its_marker_is_a_fault() -> None:
    """A py.typed that nobody tracks is missed all the same."""
    contents = dataclasses.replace(
        _GOOD, wheel=_GOOD.wheel - {"a/py.typed"}, sdist=_GOOD.sdist - {"a/py.typed"}
    )
    assert find_faults(contents, _SETTINGS, _TRACKED - {"a/py.typed"}) == ["wheel: lacks a's py.typed"]


def test_a_file_that_nobody_tracks_is_a_fault() -> None:
    """What happened to lie in the folder stays out of both archives."""
    contents = Contents(_GOOD.wheel | {"a/key.pem"}, _GOOD.entry_points, _GOOD.sdist | {"notes.txt"})
    assert find_faults(contents, _SETTINGS, _TRACKED) == [
        "wheel: has a/key.pem, which does not belong there",
        "sdist: has notes.txt, which does not belong there",
    ]


def test_wrong_entry_points_are_a_fault() -> None:
    """A provider that is declared but not in the wheel's metadata can't be named in the settings."""
    contents = dataclasses.replace(_GOOD, entry_points={"console_scripts": {"a-b": "a:main"}})
    [fault] = find_faults(contents, _SETTINGS, _TRACKED)
    assert fault.startswith("wheel: its entry points are")
