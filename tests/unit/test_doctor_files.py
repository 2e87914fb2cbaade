"""The doctor on files, certificates, the audit's disk, the daemon's limits."""

from __future__ import annotations

import base64
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imds_proxy.certificate_ends import read_crl_end, read_end
from imds_proxy.config import read_configuration
from imds_proxy.doctor.daemon import judge_connections, judge_readiness, judge_renewals
from imds_proxy.doctor.own_files import (
    FileFact,
    examine_audit,
    find_audit,
    judge_certificate,
    judge_crl,
    judge_disk,
    judge_files,
    read_files,
)
from imds_proxy.file_access import Opening
from tests.standins.authority import Authority
from tests.standins.certificates import make_certificate

LEAST = """
listen: [{address: 127.0.0.1:0}]
provider: {type: simple}
aws: {region: eu-central-1}
"""

FILE = Path("/etc/imds-proxy/a.yaml")


def test_files() -> None:
    """Each opening is a fault with its remedy; what this user can't look at is told of."""
    by_all = Opening("others can write it", f"chmod o-w {FILE}", is_for_all=True)
    by_group = Opening("the group 7 can write it", f"chmod g-w {FILE}")
    for fact, level in (
        (FileFact(FILE), "ok"),
        (FileFact(FILE, is_known=False), "skipped"),
        (FileFact(FILE, by_all), "fault"),
        (FileFact(FILE, by_group), "warning"),
        (FileFact(FILE, by_group, is_strict=True), "fault"),
    ):
        (found,) = judge_files([FileFact(FILE), fact])
        assert found.level == level
        assert fact.opening is None or found.remedy == fact.opening.remedy


@pytest.mark.parametrize("name", ["a.yml", "token.key", "workloads", "user-data"])
def test_all_files_are_looked_at(name: str, tmp_path: Path) -> None:
    """The settings' own, those with secrets, the folders: one that becomes open is found."""
    for folder in ("workloads", "user-data"):
        (tmp_path / folder).mkdir(mode=0o755)
    (tmp_path / "token.key").touch(mode=0o600)
    (tmp_path / "token.key").write_text("a" * 43 + "=\n")
    (tmp_path / "a.yml").write_text(f"""
listen: [{{address: "127.0.0.1:0", container: {{secrets: {tmp_path}/workloads}}}}]
tokens: {{key_file: {tmp_path}/token.key}}
metadata: {{user_data: {tmp_path}/user-data}}
provider: {{type: simple, grants: []}}
accounts: {{main: {{id: "123456789012"}}}}
""")
    configuration = read_configuration(tmp_path, {}).configuration
    assert configuration is not None
    (tmp_path / name).chmod(0o777)
    found = [one for one in judge_files(read_files(configuration)) if str(tmp_path) in one.fact]
    assert [one.level for one in found] == ["fault"]
    assert str(found[0].remedy).endswith(f" {tmp_path / name}")


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


def test_a_crl_s_end(tmp_path: Path) -> None:
    """Of several the first end counts; one may have no end, or no version; what is none is a ValueError."""
    authority, file = Authority(tmp_path), tmp_path / "crl.pem"
    texts = []
    for seconds in (7200, 600):
        authority.write_crl(file, seconds=seconds)
        texts.append(file.read_text())
    command = ["openssl", "crl", "-nextupdate", "-noout", "-in", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wanted = datetime.strptime(said.strip(), "nextUpdate=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert read_crl_end("".join(texts)) == read_crl_end(texts[1]) == wanted.timestamp()
    (tmp_path / "authority.cnf").write_text(
        (tmp_path / "authority.cnf").read_text().replace("crlnumber", "#")
    )
    authority.write_crl(file, seconds=7200)
    assert (read_crl_end(file.read_text()) or 0) > wanted.timestamp()
    # tbsCertList of signature, issuer and thisUpdate alone
    least = bytes.fromhex("3015 3013 3000 3000 170d") + b"261201000000Z"
    pem = base64.b64encode(least).decode()
    assert read_crl_end(f"-----BEGIN X509 CRL-----\n{pem}\n-----END X509 CRL-----\n") is None
    for garbage in ("", "MAA=", "MIIF", "!!!!"):
        with pytest.raises(ValueError, match="CRL"):
            read_crl_end(f"-----BEGIN X509 CRL-----\n{garbage}\n-----END X509 CRL-----\n")
    with pytest.raises(ValueError, match="no CRL"):
        read_crl_end("")


@pytest.mark.parametrize(("hours", "level"), [(None, "ok"), (30, "ok"), (5, "warning"), (0, "fault")])
def test_crl(hours: int | None, level: str) -> None:
    """One that ends soon is a warning, one that has ended a fault; one without an end is neither."""
    end = None if hours is None else 1e9 + hours * 3600
    assert judge_crl(FILE, end, 1e9).level == level


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
