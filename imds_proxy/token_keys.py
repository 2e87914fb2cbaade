"""Where the key that signs IMDS tokens comes from when the settings name no file."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.config import parse_token_keys
from imds_proxy.errors import ConfigurationError, Fault
from imds_proxy.secret_file import read_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY_BYTES = 32


def own_token_keys(environ: Mapping[str, str]) -> tuple[bytes, ...] | None:
    """Return the keys in `$STATE_DIRECTORY/token.key`, made (mode 0600) where it is missing.

    None without that variable. Raises ConfigurationError when the file can't be used.
    """
    folder = environ.get("STATE_DIRECTORY")
    if not folder:
        return None
    # systemd separates several folders by colons; the first is ours.
    file = Path(folder.partition(":")[0]) / "token.key"
    try:
        _make_if_missing(file)
        return parse_token_keys(read_secret(file).decode("ascii"))
    except (OSError, ValueError) as error:
        raise ConfigurationError([Fault(str(file), "", f"can't be used: {error}")]) from error


def passing_token_key() -> bytes:
    """Return a key that lives as long as this process."""
    return os.urandom(_KEY_BYTES)


def _make_if_missing(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
