"""The TLS of our own listeners: a certificate that is read again when its files have changed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.certificate_ends import read_crl_end
from imds_proxy.config import TLSSettings
from imds_proxy.config.tls_files import NAMES, OF_CLIENTS, find_faults

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.config import CertificateSettings

    State = tuple[tuple[int, ...] | None, ...]


class CertificateError(ValueError):
    """The files of a listener's TLS can't be used; the text names one and says why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The TLS of a listener, as the files had it at one moment."""

    settings: CertificateSettings
    context: ssl.SSLContext
    state: State
    clients: tuple[object, ...]
    """What decides which client certificates count: the files that are named for them, and their state."""
    crl_end: float | None
    """When the first CRL ends, seconds UTC since 1970; from then on no client certificate counts."""

    def is_current(self) -> bool:
        """Tell whether the files are still those that were read: whatever a link leads to, by its inode,
        size and times.
        """
        return self.state == _state_of(self.settings)


def read_certificate(settings: CertificateSettings) -> Certificate:
    """Return what is in the files now. Raises CertificateError when they don't belong together.

    That is so for a moment whenever one of two files has been replaced and the other has not yet.
    """
    state = _state_of(settings)
    for _, text in find_faults(_files_of(settings)):
        raise CertificateError(text)
    try:
        context = _context(settings)
        crl = getattr(settings, "crl", None)
        crl_end = None if crl is None else read_crl_end(crl.read_text("ascii", "replace"))
    except (OSError, ValueError) as error:  # another file than the one that was checked
        raise CertificateError(f"{settings.certificate}: {error}") from error
    files = {name: file for name, file in _files_of(settings).items() if name in OF_CLIENTS}
    clients = tuple(zip(files.items(), state[-len(files) :], strict=True)) if files else ()
    return Certificate(settings, context, state, clients, crl_end)


def _context(settings: CertificateSettings) -> ssl.SSLContext:
    """Return the context for TLS 1.2 or newer.

    With `client_ca` a certificate is asked for, not demanded: it is one way to prove a trusted proxy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
    if isinstance(settings, TLSSettings) and settings.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(settings.client_ca)
        if settings.crl is not None:
            # Of the whole chain: an authority in between may have been revoked as well.
            context.load_verify_locations(settings.crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is there to type it")


def _files_of(settings: CertificateSettings) -> dict[str, Path]:
    files = {name: getattr(settings, name, None) for name in NAMES}
    return {name: file for name, file in files.items() if file is not None}


def _state_of(settings: CertificateSettings) -> State:
    return tuple(_identity_of(file) for file in _files_of(settings).values())


def _identity_of(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
