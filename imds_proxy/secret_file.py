"""Files that have a secret or say whom to trust: read without waiting, and only if closed to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.file_access import find_opening
from imds_proxy.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 64 << 10


class FileError(ValueError):
    """A file can't be used; the text says why and never what is in it."""


def read_secret(path: Path) -> bytes:
    """Return what is in a file that has a secret. Raises FileError, also where others can get at it."""
    try:
        with open_regular(path) as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    check_closed(path, is_secret=True)
    if len(content) > _MOST_BYTES:
        raise FileError(f"{path} has more than {_MOST_BYTES} bytes")
    return content


def check_closed(path: Path, *, is_secret: bool = False) -> None:
    """Raise FileError if others can change a file or folder, or read it where it `is_secret`."""
    try:
        opening = find_opening(path, is_secret=is_secret)
    except OSError as error:
        raise _unreadable(path, error) from None
    if opening is not None:
        raise FileError(str(opening))


def check_readable(path: Path, *, is_secret: bool = False) -> None:
    """Raise FileError unless `path` is a file that can be opened, and that is closed to others."""
    try:
        with open_regular(path) as stream:
            stream.read(1)
    except OSError as error:
        raise _unreadable(path, error) from None
    check_closed(path, is_secret=is_secret)


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path} can't be read: {error.strerror}")
