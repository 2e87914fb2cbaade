"""The files that the settings name: who may read and write them, their disk, the end of certificates."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.certificate_ends import read_crl_end, read_end
from imds_proxy.config import TLSSettings
from imds_proxy.doctor.findings import Finding, fault, ok, skipped, warning
from imds_proxy.file_access import find_opening
from imds_proxy.token_keys import IMDS_KEY_FILE, WORKLOAD_KEY_FILE
from imds_proxy.yaml_source import files_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imds_proxy.config import CertificateSettings, Configuration
    from imds_proxy.file_access import Opening

_OWN_KEY_FILE = Path("/etc/imds-proxy/aws-credentials")
"""What the unit's LoadCredential= names."""
_USUAL_AUDIT = Path("/var/log/imds-proxy/audit.jsonl")
"""The unit's, whose $LOGS_DIRECTORY is not known outside."""
_STATE_KEY_FILES = tuple(Path("/var/lib/imds-proxy") / name for name in (IMDS_KEY_FILE, WORKLOAD_KEY_FILE))
_FEW_DAYS = 14
_FEW_HOURS = 24
_LITTLE_SPACE = 100 << 20
_NO_SPACE = 4 << 20


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file or folder, how others can get at it (None: they can't), and whether this user can tell."""

    path: Path
    opening: Opening | None = None
    is_known: bool = True
    is_strict: bool = False
    """Nobody but root and the daemon may change it. Other files may be meant for another owner or group."""


def read_files(configuration: Configuration) -> list[FileFact]:
    """Return what there is of the files of a configuration: its own, those with secrets, those of TLS."""
    settings = configuration.settings
    path = configuration.source.path
    is_secret_inside = settings.aws.secret_key is not None
    facts = [_look_at(one, is_secret=is_secret_inside and one.is_file()) for one in (path, *files_of(path))]
    facts += [_look_at(one, is_secret=True) for one in _secret_files(configuration)]
    facts += [replace(_look_at(one), is_strict=True) for one in configuration.workload_secrets]
    facts += [_look_at(settings.metadata.user_data)] if settings.metadata.user_data else []
    facts += [_look_at(one, is_secret=True) for one in (_OWN_KEY_FILE, *_STATE_KEY_FILES) if _is_there(one)]
    return list(dict.fromkeys(facts))


def _secret_files(configuration: Configuration) -> Iterator[Path]:
    settings = configuration.settings
    people = settings.people
    named = [settings.aws.secret_key_file, settings.tokens.key_file]
    named += [settings.tokens.workload_key_file]
    named += [people.identity.secret_file] if people else []
    named += [one.tls.key for one in settings.listen if one.tls]
    named += [one.tls.key for one in people.listen if one.tls] if people else []
    yield from dict.fromkeys(Path(one) for one in named if one is not None)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _look_at(path: Path, *, is_secret: bool = False) -> FileFact:
    try:
        return FileFact(path, find_opening(path, is_secret=is_secret), is_strict=is_secret)
    except OSError:
        return FileFact(path, is_known=False)


def judge_files(facts: Iterable[FileFact]) -> list[Finding]:
    """Return the findings on who may read and write the files."""
    title = "files"
    findings, count = [], 0
    for fact in facts:
        if not fact.is_known:
            findings.append(
                skipped(title, f"{fact.path} can't be looked at by this user", "sudo imds-proxy doctor")
            )
        elif fact.opening is not None:
            level = fault if fact.is_strict or fact.opening.is_for_all else warning
            findings.append(level(title, fact.opening.text, fact.opening.remedy))
        else:
            count += 1
    if not findings:
        findings.append(ok(title, f"{count} looked at: others can't write them, nor read a secret"))
    return findings


def examine_certificates(configuration: Configuration, now: float) -> list[Finding]:
    """Return until when the certificates of the listeners are good; `now` is seconds UTC."""
    settings = configuration.settings
    used: list[CertificateSettings | None] = [one.tls for one in settings.listen]
    used += [one.tls for one in settings.people.listen] if settings.people else []
    files = dict.fromkeys(one.certificate for one in used if one is not None)
    crls = dict.fromkeys(one.crl for one in used if isinstance(one, TLSSettings) and one.crl is not None)
    findings = []
    for file in map(Path, files):
        try:
            findings.append(judge_certificate(file, read_end(file.read_text("ascii", "replace")), now))
        except (OSError, ValueError) as error:
            findings.append(skipped(f"certificate {file}", _reason_of(error)))
    for file in map(Path, crls):
        try:
            findings.append(judge_crl(file, read_crl_end(file.read_text("ascii", "replace")), now))
        except (OSError, ValueError) as error:
            findings.append(skipped(f"CRL {file}", _reason_of(error)))
    return findings


def _reason_of(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def judge_certificate(file: Path, end: float, now: float) -> Finding:
    """Return whether a certificate is good for a while; both times are seconds UTC."""
    title = f"certificate {file}"
    until = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if end <= now:
        return fault(title, f"ended {until}", "put a new one in its place: the daemon reads it by itself")
    if end - now < _FEW_DAYS * 86400:
        text = f"ends {until}, in {(end - now) / 86400:.0f} days"
        return warning(title, text, "put a new one in its place: the daemon reads it by itself")
    return ok(title, f"good until {until}")


def find_audit(configuration: Configuration, usual: Path = _USUAL_AUDIT) -> str:
    """Return the setting `audit.file`, or the unit's file where it is left out and the unit has run."""
    is_left_out = configuration.source.value(("audit", "file")) is None
    is_there = is_left_out and os.access(usual.parent, os.X_OK)
    return str(usual) if is_there else configuration.settings.audit.file


def judge_crl(file: Path, end: float | None, now: float) -> Finding:
    """Return whether a CRL is good for a while; both times are seconds UTC, None: it has no end."""
    title = f"CRL {file}"
    if end is None:
        return ok(title, "does not say when it ends")
    until = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
    remedy = "put the authority's new one in its place: the daemon reads it by itself"
    if end <= now:
        return fault(title, f"ended {until}: no client certificate counts", remedy)
    if end - now < _FEW_HOURS * 3600:
        text = f"ends {until}, in {(end - now) / 3600:.0f} h; no client certificate counts then"
        return warning(title, text, remedy)
    return ok(title, f"good until {until}")


def examine_audit(file: str) -> Finding:
    """Return whether there is room for the audit; `file` is where it goes."""
    title = "audit"
    if not file.startswith("/"):
        return ok(title, f"goes to {'stdout' if file == '-' else file}")
    path = Path(file)
    try:
        # A FIFO or a device has no disk that could be full.
        if path.exists() and not path.is_file():
            return ok(title, f"goes to {path}, which is no file")
        state = os.statvfs(path if path.exists() else path.parent)
    except OSError as error:
        return fault(
            title, f"{path}: {error.strerror}", f"mkdir -p {path.parent} && chown imds-proxy {path.parent}"
        )
    is_read_only = bool(state.f_flag & os.ST_RDONLY)
    return judge_disk(path, state.f_bavail * state.f_frsize, is_read_only=is_read_only)


def judge_disk(path: Path, free: int, *, is_read_only: bool) -> Finding:
    """Return whether a file can grow where it is; `free` is in bytes."""
    title = "audit"
    consequence = "no key is handed out that can't be recorded"
    if is_read_only:
        return fault(title, f"{path} is on a read-only file system: {consequence}", f"df -h {path.parent}")
    if free < _NO_SPACE:
        return fault(title, f"the disk of {path} is full: {consequence}", f"df -h {path.parent}")
    if free < _LITTLE_SPACE:
        text = f"{free >> 20} MiB are left for {path}"
        return warning(title, text, "rotate it: see docs/configuration.md, audit")
    return ok(title, f"goes to {path}, {free >> 20} MiB are left there")
