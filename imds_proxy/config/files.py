"""The files that settings name: secrets, keys, certificates. All reading besides the YAML itself is here."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from imds_proxy.file_access import find_opening as find_opening
from imds_proxy.secret_file import FileError as FileError
from imds_proxy.secret_file import check_closed as check_closed
from imds_proxy.secret_file import check_readable as check_readable
from imds_proxy.secret_file import read_secret

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST_PROXY_SECRET = 32
"""Characters."""

SHORTEST_TOKEN_KEY = 32
"""Bytes."""


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


def parse_proxy_secret(text: str) -> str:
    """Return the secret of a trusted proxy, which is the one line of a file. Raises ValueError."""
    secret = text.strip()
    if not secret or not secret.isprintable() or " " in secret:
        raise ValueError("must have the secret on one line and nothing else")
    if len(secret) < SHORTEST_PROXY_SECRET:
        raise ValueError(
            f"has a secret of {len(secret)} characters, {SHORTEST_PROXY_SECRET} at least;"
            " make one with: openssl rand -hex 32"
        )
    return secret


def read_secret_file(path: Path) -> str:
    """Return the text of a file that has a secret. Raises FileError, also where others can read it."""
    try:
        return read_secret(path).decode("ascii")
    except UnicodeDecodeError:
        raise FileError(f"{path} is not a text of ASCII characters") from None
