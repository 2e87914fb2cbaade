"""What wheel and sdist must hold, and nothing else.

`python -m tests.distribution dist` lists and checks the ones in the folder `dist`.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_ROOT = Path(__file__).parent.parent
_ALWAYS_IN_SDIST = {"PKG-INFO", "pyproject.toml", ".gitignore"}  # hatchling adds them by itself
_DIST_INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


@dataclass(frozen=True, slots=True)
class Contents:
    """What two archives hold: paths, and the wheel's entry points by group."""

    wheel: set[str]
    entry_points: dict[str, dict[str, str]]
    sdist: set[str]


def tracked_files(root: Path) -> set[str]:
    """Return the paths of the files that git tracks in `root`."""
    # The checkout may belong to somebody else than the user who builds, as in a container.
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return {path for path in listing.split("\0") if path and (root / path).exists()}


def expected_wheel(
    tracked: Collection[str],
    packages: Iterable[str],
    moved: Mapping[str, str],
    name: str,
    version: str,
) -> set[str]:
    """Return the wheel's paths: tracked files of its packages and of folders that move, and the metadata."""
    dist_info = f"{name.replace('-', '_')}-{version}.dist-info"
    files = {f"{dist_info}/{file}" for file in _DIST_INFO}
    for folder, place in (*((each, PurePosixPath(each).name) for each in packages), *moved.items()):
        for path in map(PurePosixPath, tracked):
            if path.is_relative_to(folder):
                files.add(str(PurePosixPath(place) / path.relative_to(folder)))
    return files


def expected_sdist(tracked: Iterable[str], named: Iterable[str]) -> set[str]:
    """Return the sdist's paths without its top folder: the tracked files at or below what is named."""
    folders = [PurePosixPath(path) for path in named]
    files = {
        path for path in tracked if any(PurePosixPath(path).is_relative_to(folder) for folder in folders)
    }
    return files | _ALWAYS_IN_SDIST


def differences(kind: str, found: set[str], expected: set[str]) -> list[str]:
    """Return a line for each path that one side has and the other lacks."""
    missing = [f"{kind}: lacks {path}" for path in sorted(expected - found)]
    return missing + [f"{kind}: has {path}, which does not belong there" for path in sorted(found - expected)]


def read_wheel(wheel: Path) -> tuple[set[str], dict[str, dict[str, str]]]:
    """Return the wheel's paths and its entry points by group."""
    with zipfile.ZipFile(wheel) as archive:
        paths = {info.filename for info in archive.infolist() if not info.is_dir()}
        parser = configparser.ConfigParser(delimiters="=")
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        for path in paths:
            if path.endswith(".dist-info/entry_points.txt"):
                parser.read_string(archive.read(path).decode())
    return paths, {group: dict(parser[group]) for group in parser.sections()}


def read_sdist(sdist: Path) -> set[str]:
    """Return the sdist's paths without its top folder."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def find_faults(contents: Contents, settings: Mapping[str, Any], tracked: set[str]) -> list[str]:
    """Return all that is wrong with the contents. `settings` is pyproject.toml, `tracked` what git tracks."""
    project, targets = settings["project"], settings["tool"]["hatch"]["build"]["targets"]
    packages = targets["wheel"]["packages"]
    moved = targets["wheel"].get("force-include", {})
    wheel = expected_wheel(tracked, packages, moved, project["name"], project["version"])
    sdist = expected_sdist(tracked, targets["sdist"]["only-include"])
    faults = differences("wheel", contents.wheel, wheel) + differences("sdist", contents.sdist, sdist)
    for package in (PurePosixPath(path).name for path in packages):
        if f"{package}/py.typed" not in contents.wheel:
            faults.append(f"wheel: lacks {package}'s py.typed")
    entry_points = {"console_scripts": project["scripts"], **project["entry-points"]}
    if contents.entry_points != entry_points:
        faults.append(f"wheel: its entry points are {contents.entry_points}, not {entry_points}")
    return faults


def main(folder: str) -> int:
    """List what the one wheel and the one sdist in `folder` hold; return 0 when it is as it must be."""
    [wheel], [sdist] = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
    contents = Contents(*read_wheel(wheel), read_sdist(sdist))
    for archive, paths in ((wheel, contents.wheel), (sdist, contents.sdist)):
        sys.stdout.write(f"{archive.name}: {len(paths)} files\n")
        sys.stdout.writelines(f"  {path}\n" for path in sorted(paths))
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    faults = find_faults(contents, settings, tracked_files(_ROOT))
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
