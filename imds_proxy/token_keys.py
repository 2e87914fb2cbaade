"""Where the keys that sign tokens come from when the settings name no file."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.config import parse_token_keys
from imds_proxy.errors import ConfigurationError, Fault
from imds_proxy.secret_file import read_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

IMDS_KEY_FILE = "token.key"
WORKLOAD_KEY_FILE = "workload-token.key"

_KEY_BYTES = 32


def own_token_keys(environ: Mapping[str, str], name: str = IMDS_KEY_FILE) -> tuple[bytes, ...] | None:
    """Return the keys in the file `name` of `$STATE_DIRECTORY`, made (mode 0600) where it is missing.

    None without that variable. Raises ConfigurationError when the file can't be used.
    """
    folder = environ.get("STATE_DIRECTORY")
    if not folder:
        return None
    # systemd separates several folders by colons; the first is ours.
    file = Path(folder.partition(":")[0]) / name
    try:
        _make_if_missing(file)
        return parse_token_keys(read_secret(file).decode("ascii"))
    except (OSError, ValueError) as error:
        raise ConfigurationError([Fault(str(file), "", f"can't be used: {error}")]) from error


def passing_token_key() -> bytes:
    """Return a key that lives as long as this process."""
    return os.urandom(_KEY_BYTES)


def check_keys_differ(imds_keys: Iterable[bytes], workload_keys: Iterable[bytes]) -> None:
    """Raise ConfigurationError when a key signs IMDS tokens and workloads' tokens, wherever it comes from."""
    if set(imds_keys) & set(workload_keys):
        text = "a key of tokens.key_file (or of $STATE_DIRECTORY/token.key) is one of workloads' tokens too"
        raise ConfigurationError([Fault("tokens", "tokens.workload_key_file", f"{text}; make another")])


def _make_if_missing(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
