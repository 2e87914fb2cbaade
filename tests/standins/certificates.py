"""Certificates for servers on loopback, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_REQUEST = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class OwnCertificate:
    """A certificate that vouches for itself."""

    pem: Path
    """For the server: key and certificate."""
    authority: Path
    """For whoever is to believe it."""


def make_certificate(folder: Path, *, name: str = "server", address: str = "127.0.0.1") -> OwnCertificate:
    """Return a certificate for an address; its files go into `folder`. Skips the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate and is not installed")
    pem, authority = folder / f"{name}.pem", folder / f"{name}.crt"
    subject = ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}"]
    subprocess.run([*_REQUEST, *subject, "-keyout", pem, "-out", authority], check=True, capture_output=True)
    with pem.open("a") as file:
        file.write(authority.read_text())
    return OwnCertificate(pem, authority)
