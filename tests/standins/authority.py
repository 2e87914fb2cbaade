"""A certificate authority, made by openssl: certificates for any name or address, expired ones too."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_CA = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]

_EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
"""What a certificate must have for Python 3.13 and newer (RFC 5280 sections 4.2.1.1 and 4.2.1.9)."""


@dataclass(frozen=True)
class Issued:
    """A server's certificate."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates. Its own is in `certificate`, for those who are to believe it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        """Skips the test without openssl."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificates and is not installed")
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.certificate = folder / f"{name}.crt"
        _openssl("req", "-x509", *_KEY, *_CA, "-days", "2", "-subj", f"/CN={name}",
                 "-keyout", self._key, "-out", self.certificate)  # fmt: skip

    def issue(self, name: str, subject: str = "IP:127.0.0.1", *, days: int = 2) -> Issued:
        """Return a certificate for `subject` (`IP:...`, `DNS:...`); with -1 day it ended yesterday."""
        files = (self._folder / f"{name}.{end}" for end in ("key", "crt", "csr", "ext"))
        key, certificate, request, extensions = files
        extensions.write_text(f"{_EXTENSIONS}subjectAltName = {subject}\n")
        _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                 "-days", str(days), "-extfile", extensions, "-out", certificate)  # fmt: skip
        return Issued(certificate, key)


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
