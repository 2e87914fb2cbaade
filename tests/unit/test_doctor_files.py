"""The doctor on files, certificates, the audit's disk, the daemon's limits."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imds_proxy.config import read_configuration
from imds_proxy.doctor.certificates import read_end
from imds_proxy.doctor.daemon import judge_connections, judge_readiness, judge_renewals
from imds_proxy.doctor.own_files import (
    FileFact,
    examine_audit,
    find_audit,
    judge_certificate,
    judge_disk,
    judge_files,
)
from tests.standins.certificates import make_certificate

LEAST = """
listen: [{address: 127.0.0.1:0}]
provider: {type: simple}
aws: {region: eu-central-1}
"""

FILE = Path("/etc/imds-proxy/a.yaml")


@pytest.mark.parametrize(
    ("mode", "has_secret", "level"),
    [
        (0o100644, False, "ok"),
        (0o100640, True, "ok"),
        (0o100644, True, "fault"),
        (0o100666, False, "fault"),
        (0o100602, True, "fault"),
        (0o040755, False, "ok"),
        (0o041777, False, "ok"),
        (0o040777, False, "fault"),
        (None, True, "skipped"),
    ],
)
def test_files(*, mode: int | None, has_secret: bool, level: str) -> None:
    """Nobody else may write the settings, nor read a secret; the sticky bit of a folder is enough."""
    (found,) = judge_files([FileFact(FILE, mode, has_secret=has_secret)])
    assert found.level == level
    if level == "fault":
        assert found.remedy is not None
        assert str(FILE) in found.remedy


def test_certificate_s_end(tmp_path: Path) -> None:
    """The end is what openssl says it is, also behind a private key in one file."""
    own = make_certificate(tmp_path)
    command = ["openssl", "x509", "-enddate", "-noout", "-in", str(own.authority)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wanted = datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert read_end(own.pem.read_text()) == wanted.timestamp()


def test_certificate_after_2050(tmp_path: Path) -> None:
    """From 2050 on dates have four digits for the year (RFC 5280 section 4.1.2.5)."""
    key, file = tmp_path / "key", tmp_path / "crt"
    make_certificate(tmp_path)  # skips without openssl
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    more = ["-nodes", "-subj", "/CN=a", "-days", "36500", "-keyout", str(key), "-out", str(file)]
    subprocess.run([*request, *more], check=True, capture_output=True)
    assert datetime.fromtimestamp(read_end(file.read_text()), UTC).year > 2100


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIF\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate(pem: str) -> None:
    """It is a ValueError, whatever is there instead."""
    with pytest.raises(ValueError, match="certificate"):
        read_end(pem)


@pytest.mark.parametrize(("days", "level"), [(90, "ok"), (5, "warning"), (0, "fault"), (-3, "fault")])
def test_certificate(days: int, level: str) -> None:
    """One that ends soon is a warning, one that has ended a fault."""
    assert judge_certificate(FILE, 1e9 + days * 86400, 1e9).level == level


@pytest.mark.parametrize(
    ("free", "is_read_only", "level"),
    [(1 << 40, False, "ok"), (50 << 20, False, "warning"), (0, False, "fault"), (1 << 40, True, "fault")],
)
def test_disk(*, free: int, is_read_only: bool, level: str) -> None:
    """A full disk stops hand-outs, and one that is nearly full is told of before."""
    assert judge_disk(Path("/var/log/a"), free, is_read_only=is_read_only).level == level


def test_audit(tmp_path: Path) -> None:
    """A stream is well; a file is looked at where it is or will be; a folder that lacks is a fault."""
    assert examine_audit("-").level == "ok"
    assert examine_audit("stderr").level == "ok"
    assert "MiB" in examine_audit(str(tmp_path / "audit.log")).fact
    assert examine_audit(str(tmp_path / "no" / "audit.log")).level == "fault"


def test_where_the_audit_goes(tmp_path: Path) -> None:
    """The setting; where it is left out the unit's file, if the unit has a folder here."""
    file = tmp_path / "imds-proxy.yaml"
    usual = tmp_path / "logs" / "audit.jsonl"

    def found(text: str = "") -> str:
        file.write_text(LEAST + text)
        reading = read_configuration(file, {})
        assert reading.configuration is not None
        return find_audit(reading.configuration, usual)

    assert found() == "-"
    usual.parent.mkdir()
    assert found() == str(usual)
    assert found("audit: {file: '-'}\n") == "-"
    assert found("audit: {file: /x}\n") == "/x"


def test_connections() -> None:
    """All connections have to fit under the limit on open files."""
    assert judge_connections(None, 20_000, None) is None
    good = judge_connections(524_288, 20_000, 523_776)
    bad = judge_connections(4096, 20_000, 3584)
    assert good is not None
    assert bad is not None
    assert (good.level, bad.level) == ("ok", "warning")
    assert bad.remedy is not None
    assert "LimitNOFILE=20512" in bad.remedy


def test_readiness() -> None:
    """What /readyz says, whatever is there instead."""
    for status, body, level in (
        (200, b'{"status": "ready"}', "ok"),
        (503, b"{}", "fault"),
        (404, b"x", "fault"),
    ):
        assert judge_readiness(FILE, status, body).level == level


def test_renewals() -> None:
    """Renewals that STS refuses are told of."""
    assert (judge_renewals(0).level, judge_renewals(2).level) == ("ok", "warning")
