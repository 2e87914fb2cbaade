"""The daemon as the benchmark runs it: settings written to a folder of its own, stand-ins behind it."""

from __future__ import annotations

import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from bench.callers import DOMAIN, HOST_PATTERN, ROLE_PREFIX
from bench.loops import Loop
from bench.name_server import NameServer, name_server
from bench.processes import ServerProcess, running
from bench.sts_stand_in import SecurityTokenService, security_token_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

Session = Literal["shared", "per-caller"]

BY_IP: Mapping[str, object] = {
    "type": "by_ip",
    "allowed_domains": [DOMAIN],
    "account_name": "main",
    "role_prefix": ROLE_PREFIX,
    "rule": {"pattern": HOST_PATTERN, "role": "{role}"},
}

NO_LIMITS: Mapping[str, int] = {
    "connections": 10_000,
    "requests_per_second": 1_000_000,
    "new_connections_per_second": 1_000_000,
    "tls_handshakes_per_second": 1_000_000,
}
"""The `limits` of every item that measures without them, so high that they limit nobody."""

DEFAULT_LIMITS: Mapping[str, int] = {}
"""The `limits` that the daemon has when the configuration names none."""

LOOPBACK: Sequence[Mapping[str, object]] = ({"address": "127.0.0.1:0", "callers": ["127.0.0.0/8"]},)
"""The `listen` of every item without listeners of its own."""


@dataclass(frozen=True, slots=True)
class StandIns:
    """What the daemon asks: DNS and STS, both in this process, on the load's core."""

    names: NameServer
    sts: SecurityTokenService


@asynccontextmanager
async def stand_ins() -> AsyncIterator[StandIns]:
    """Run the stand-ins until the block ends."""
    async with name_server() as names, security_token_service() as sts:
        yield StandIns(names, sts)


@asynccontextmanager
async def daemon(
    behind: StandIns,
    *,
    session: Session = "per-caller",
    loop: Loop = "uvloop",
    provider: Mapping[str, object] = BY_IP,
    limits: Mapping[str, int] = NO_LIMITS,
    listen: Sequence[Mapping[str, object]] = LOOPBACK,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[ServerProcess]:
    """Run `imds-proxy serve` in front of the stand-ins until the block ends.

    The daemon takes uvloop by itself where it is installed; `loop="asyncio"` says not to.
    """
    variables = dict(environment or {})
    if loop == "asyncio":
        variables["IMDS_PROXY_EVENT_LOOP"] = "asyncio"
    with tempfile.TemporaryDirectory(prefix="imds-proxy-bench-") as name:
        folder = Path(name)
        settings = _settings(folder, behind, session) | {
            "providers": {"machines": dict(provider)},
            "limits": dict(limits),
            "listen": [dict(listener) for listener in listen],
        }
        config = folder / "imds-proxy.yaml"
        config.touch(mode=0o600)  # it has a secret in it; the daemon refuses one that others can read
        config.write_text(yaml.safe_dump(settings, sort_keys=False))
        variables |= {"STATE_DIRECTORY": name, "RUNTIME_DIRECTORY": name}
        command = [_program(), "serve", "--config", str(config)]
        async with running(
            "imds-proxy", command, log=folder / "log", environment=variables, listeners=len(listen)
        ) as server:
            yield server


def _program() -> str:
    return str(Path(sys.executable).with_name("imds-proxy"))


def _settings(folder: Path, behind: StandIns, session: Session) -> dict[str, object]:
    return {
        "accounts": {"main": {"id": "000123456789"}},
        "aws": {
            "region": "eu-central-1",
            "session": session,
            "access_key": "AKIABENCHBENCHBENCH0",
            "secret_key": "0" * 40,
            "sts_endpoint": f"http://127.0.0.1:{behind.sts.port}",
        },
        "dns": {"nameservers": [f"127.0.0.1:{behind.names.port}"]},
        "audit": {"file": str(folder / "audit.jsonl")},
    }
