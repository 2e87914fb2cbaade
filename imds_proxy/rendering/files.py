"""Files that were rendered, and how they get into a folder."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.errors import FederationError

if TYPE_CHECKING:
    from collections.abc import Iterable


class RenderingError(FederationError):
    """The settings say too little, or something that can't be rendered; the text names the key."""


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file: its path below the folder it is written to, its text, its mode."""

    name: str
    text: str
    mode: int = 0o644


def write_files(files: Iterable[RenderedFile], folder: Path) -> list[str]:
    """Write files below a folder and return a line for each: `written PATH` or `unchanged PATH`.

    One that has its text and mode already is left alone; any other is replaced whole, or not at all.
    Raises RenderingError naming the path.
    """
    return [
        f"{'written' if _write(file, folder / file.name) else 'unchanged'} {folder / file.name}"
        for file in files
    ]


def _write(file: RenderedFile, path: Path) -> bool:
    data = file.text.encode()
    try:
        if path.is_file() and path.read_bytes() == data and path.stat().st_mode & 0o7777 == file.mode:
            return False
        if path.is_symlink() and path.readlink() == Path(os.devnull):
            raise RenderingError(f"{path} is masked: systemctl unmask {path.name}, then again")
        _make_folder(path.parent)
        _replace(path, data, file.mode)
    except OSError as error:
        raise RenderingError(f"cannot write {path}: {error.strerror}") from error
    return True


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask: systemd-networkd reads its drop-ins as a user of its own


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise
