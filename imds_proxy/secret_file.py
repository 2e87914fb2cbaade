"""Files that have a secret: read without waiting, and only where others can't read them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from imds_proxy.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 64 << 10


class FileError(ValueError):
    """A file can't be used; the text says why and never what is in it."""


def read_secret(path: Path) -> bytes:
    """Return what is in a file that has a secret. Raises FileError, also where others can read it."""
    try:
        with open_regular(path) as stream:
            content = stream.read(_MOST_BYTES + 1)
            is_open = is_open_to_others(stream.fileno())
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}") from None
    if is_open:
        raise FileError(describe_open_to_others(path))
    if len(content) > _MOST_BYTES:
        raise FileError(f"{path} has more than {_MOST_BYTES} bytes")
    return content


def is_open_to_others(file: Path | int) -> bool:
    """Tell whether users outside the group of a file (path or descriptor) may read or write it.

    Raises OSError when there is no such file.
    """
    return bool(os.stat(file).st_mode & stat.S_IRWXO)  # noqa: PTH116  a Path has no stat of a descriptor


def describe_open_to_others(path: Path) -> str:
    """Return what is wrong with a secret's file, and the command that mends it."""
    return f"{path} has a secret and others can read it; chmod o= {path}"


def check_readable(path: Path) -> None:
    """Raise FileError unless `path` is a file that can be opened."""
    try:
        with open_regular(path) as stream:
            stream.read(1)
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}") from None
