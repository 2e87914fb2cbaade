"""The files of a listener's TLS: what is wrong with them, at `check` and whenever they are read."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from imds_proxy.config import files, values
from imds_proxy.config.written import parse_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

OF_CLIENTS = ("client_ca", "crl")
"""The settings that name the files for client certificates, which are not everywhere."""

NAMES = ("certificate", "key", *OF_CLIENTS)
"""The settings that name the files."""


def check(source: Source, path: KeyPath) -> Iterator[Fault]:
    """Return the faults of the files that the `tls` at `path` names, each at the key that names it."""
    named = {name: parse_at(source, (*path, name), values.parse_path) for name in NAMES}
    for name, text in find_faults({name: file for name, file in named.items() if file is not None}):
        yield source.fault((*path, name), text)


def find_faults(named: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Return which of the files (by the names of their settings) can't be used, and why."""
    unusable: set[str] = set()
    for name, file in named.items():
        try:
            files.check_readable(file, is_secret=name == "key")
            if name != "key" and (text := _fault_of_pem(name, file)) is not None:
                unusable.add(name)
                yield name, text
        except files.FileError as error:
            unusable.add(name)
            yield name, str(error)
        except OSError as error:  # gone since it was looked at
            unusable.add(name)
            yield name, f"{file} can't be read: {error.strerror}"
    if named.keys() >= {"certificate", "key"} and not unusable & {"certificate", "key"}:
        text = _fault_of_key(named["certificate"], named["key"])
        if text is not None:
            yield "key", text


def _fault_of_pem(name: str, file: Path) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    kind, what = ("crl", "CRL") if name == "crl" else ("x509", "certificate")
    try:
        context.load_verify_locations(file)
        found = context.cert_store_stats()
    except ssl.SSLError:
        found = {}
    if not found.get(kind):
        return f"{file} has no {what} in PEM"
    if name != "crl":
        return None
    if found["x509"]:
        return f"{file} has a certificate as well, which would become an authority: leave only CRLs in it"
    return None


def _fault_of_key(certificate: Path, key: Path) -> str | None:
    is_asked_for_password = False

    def note_password() -> str:
        nonlocal is_asked_for_password
        is_asked_for_password = True
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=note_password)
    except (OSError, ValueError) as error:
        if is_asked_for_password:
            return f"{key} has a password, and nobody is there to type it"
        return _describe(error, certificate, key)
    return None


def _describe(error: Exception, certificate: Path, key: Path) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the key of {certificate}"
    if reason is None:  # OpenSSL's PEM reader gives none
        return f"{key} has no private key in PEM"
    return f"{key} and {certificate} can't be used: {reason}"
