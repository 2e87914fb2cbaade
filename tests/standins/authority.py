"""A certificate authority, made by openssl: certificates for any name or address, expired ones too."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
        self._revoked = folder / f"{name}.index"
        self._revoked.touch()
        self._settings = folder / f"{name}.cnf"
        number = folder / f"{name}.number"
        number.write_text("01\n")
        self._settings.write_text(
            f"[ca]\ndefault_ca = own\n[own]\ndatabase = {self._revoked}\n"
            f"default_md = sha256\ncrlnumber = {number}\n"
        )
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

    def revoke(self, issued: Issued) -> None:
        """Let the CRLs from now on name a certificate."""
        self._ca("-revoke", issued.certificate)

    def write_crl(self, path: Path, *, seconds: int = 86400) -> None:
        """Put a CRL at `path`, all at once. It ends in so many seconds; negative: it has ended."""
        now = datetime.now(UTC)
        begin, end = (f"{now + timedelta(seconds=each):%Y%m%d%H%M%SZ}" for each in (-2 * 86400, seconds))
        new = path.with_name(f"{path.name}.new")
        self._ca("-gencrl", "-crl_lastupdate", begin, "-crl_nextupdate", end, "-out", new)
        new.rename(path)

    def _ca(self, *words: str | Path) -> None:
        _openssl("ca", "-config", self._settings, "-cert", self.certificate, "-keyfile", self._key, *words)


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
