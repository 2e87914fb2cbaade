"""What the running daemon tells over its admin socket, and the kernel about its process."""

from __future__ import annotations

import json
import re
import socket
import struct
from http import HTTPStatus
from pathlib import Path

from imds_proxy import admin_client
from imds_proxy.doctor.findings import Finding, fault, ok, warning
from imds_proxy.doctor.programs import UnavailableError
from imds_proxy.errors import Trouble
from imds_proxy.model import OwnKey

OWN_KEY_PATIENCE = 15.0
"""Seconds: the daemon waits for STS for 12 at most."""

_PATIENCE = 4.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_REFUSED_RENEWALS = re.compile(r"^imds_proxy_renewals_refused_total (\S+)$", re.MULTILINE)
_MOST_FILES = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)


def read_pid(path: Path) -> int:
    """Return the process that listens on the admin socket. Raises UnavailableError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(str(path))
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError as error:
        raise UnavailableError(f"no daemon answers on {path} ({error.strerror or error})") from error
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid


def ask(path: Path, page: str, patience: float = _PATIENCE) -> tuple[int, bytes]:
    """Return status and body of a page of the admin socket. Raises UnavailableError."""
    try:
        return admin_client.ask(path, "GET", page, patience=patience)
    except Trouble as error:
        raise UnavailableError(str(error)) from error


def read_own_key(path: Path) -> OwnKey:
    """Return what STS tells the daemon of its key. Raises UnavailableError."""
    status, body = ask(path, "/own-key", OWN_KEY_PATIENCE)
    try:
        if status != HTTPStatus.OK:
            raise ValueError(status)
        return OwnKey(**json.loads(body))
    except (ValueError, TypeError) as error:
        raise UnavailableError(
            f"the daemon does not say whose key it has ({status}); is it another version?"
        ) from error


def examine_readiness(path: Path) -> Finding:
    """Return whether the daemon serves. Raises UnavailableError."""
    status, body = ask(path, "/readyz")
    return judge_readiness(path, status, body)


def judge_readiness(path: Path, status: int, body: bytes) -> Finding:
    """Return what /readyz says."""
    try:
        state = str(json.loads(body)["status"])
    except (ValueError, KeyError, TypeError):
        state = f"status {status}"
    if status == HTTPStatus.OK:
        return ok("daemon", f"{state}, asked over {path}")
    return fault("daemon", state, "journalctl -u imds-proxy -n 50")


def examine_renewals(path: Path) -> Finding:
    """Return whether STS has refused to renew keys that callers hold. Raises UnavailableError."""
    _, body = ask(path, "/metrics")
    match = _REFUSED_RENEWALS.search(body.decode("utf-8", "replace"))
    return judge_renewals(float(match.group(1)) if match else 0.0)


def judge_renewals(refused: float) -> Finding:
    """Return what the counter of refused renewals says, which counts since the daemon's start."""
    if not refused:
        return ok("renewals", "STS has refused none since the daemon's start")
    text = f"STS has refused {refused:.0f} since the daemon's start: those callers lose their keys"
    return warning("renewals", text, "journalctl -u imds-proxy | grep 'served to their end'")


def read_most_files(pid: int) -> int | None:
    """Return how many files a process may have open at once; None where the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text("ascii")
    except OSError:
        return None
    match = _MOST_FILES.search(text)
    return int(match.group(1)) if match else None


def judge_connections(most_files: int | None, wanted: int, fitting: int | None) -> Finding | None:
    """Return whether `limits.all_connections` fits under the limit on open files; `fitting` is what does."""
    if most_files is None or fitting is None:
        return None
    text = f"limits.all_connections is {wanted}; {fitting} fit under its limit of {most_files} open files"
    if fitting < wanted:
        remedy = (
            f"LimitNOFILE={wanted + most_files - fitting} in imds-proxy.service (systemctl edit imds-proxy)"
        )
        return warning("connections", text, remedy)
    return ok("connections", text)
