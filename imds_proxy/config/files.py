"""The files that settings name: secrets, keys, certificates. All reading besides the YAML itself is here."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING

from imds_proxy.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST_TOKEN_KEY = 32
"""Bytes."""

_MOST_BYTES = 64 << 10
_OTHERS = stat.S_IRWXO


class FileError(ValueError):
    """A file can't be used; the text says why and never what is in it."""


def parse_token_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys, the first of which signs: per line base64 of 32 bytes or more.

    Raises ValueError naming the line, never what is on it.
    """
    lines = text.splitlines()
    if not lines:
        raise ValueError("is empty; make a key with: openssl rand -base64 32")
    keys = []
    for number, line in enumerate(lines, 1):
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) < SHORTEST_TOKEN_KEY:
            raise ValueError(f"line {number} is not base64 of {SHORTEST_TOKEN_KEY} bytes or more")
        keys.append(key)
    return tuple(keys)


def parse_secret_key(text: str) -> str:
    """Return the secret that is the one line of a file. Raises ValueError."""
    secret = text.strip()
    if not secret or not secret.isprintable() or " " in secret:
        raise ValueError("must have the secret key on one line and nothing else")
    return secret


def read_secret_file(path: Path) -> str:
    """Return the text of a file that has a secret. Raises FileError, also where others can read it."""
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
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise FileError(f"{path} is not a text of ASCII characters") from None


def is_open_to_others(file: Path | int) -> bool:
    """Tell whether users outside the group of a file (path or descriptor) may read or write it.

    Raises OSError when there is no such file.
    """
    return bool(os.stat(file).st_mode & _OTHERS)  # noqa: PTH116  a Path has no stat of a descriptor


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
