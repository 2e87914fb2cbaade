"""What no single setting of the people's listener shows: its files, and addresses that are taken already."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from imds_proxy.config import files, values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

SECRET_FILE = ("people", "identity", "secret_file")


def check(source: Source) -> Iterator[Fault]:
    """Return the faults of the files that the people's listeners need."""
    listen = source.value(("people", "listen"))
    for index in range(len(listen) if isinstance(listen, list) else 0):
        yield from _check_tls(source, ("people", "listen", index, "tls"))


def _check_tls(source: Source, path: KeyPath) -> Iterator[Fault]:
    certificate = _file(source, (*path, "certificate"))
    key = _file(source, (*path, "key"))
    client_ca = _file(source, (*path, "client_ca"))
    is_readable = True
    for name, file in (("certificate", certificate), ("key", key), ("client_ca", client_ca)):
        if file is None:
            continue
        try:
            files.check_readable(file)
            if name == "key" and files.is_open_to_others(file):
                yield source.fault((*path, name), files.describe_open_to_others(file))
        except files.FileError as error:
            is_readable = False
            yield source.fault((*path, name), str(error))
    if not is_readable or certificate is None or key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        text = f"{certificate} and {key} can't be used: {getattr(error, 'reason', None) or error}"
        yield source.fault((*path, "certificate"), text)
    if client_ca is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(client_ca)
        except ssl.SSLError as error:
            yield source.fault((*path, "client_ca"), f"{client_ca} can't be used: {error.reason}")


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is there to type it")


def _file(source: Source, path: KeyPath) -> Path | None:
    value = source.value(path)
    try:
        return values.parse_path(value) if isinstance(value, str) else None
    except ValueError:
        return None
