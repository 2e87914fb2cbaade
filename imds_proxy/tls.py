"""The TLS of our own listeners."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.config import TLSSettings

HANDSHAKE_SECONDS = 10.0
"""For which a new connection may take to agree on keys."""


def server_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return the context of a listener: TLS 1.2 or newer. Raises OSError (ssl.SSLError is one) or ValueError.

    With `client_ca` a certificate is asked for, not demanded: it is one way to prove a trusted proxy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, settings)
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(settings.client_ca)
    return context


def load_certificate(context: ssl.SSLContext, settings: TLSSettings) -> None:
    """Let new connections see the certificate that is in the files now. Raises as `server_context`."""
    context.load_cert_chain(settings.certificate, settings.key, password=_no_password)


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is there to type it")
