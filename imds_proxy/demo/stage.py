"""Everything the demo runs, on loopback: the embedded DNS and AWS, and the real daemon between them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import socket
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from imds_proxy.demo.children import Child, neutral_environment, python_command, running
from imds_proxy.demo.embedded_dns import make_zone, serve_dns
from imds_proxy.demo.machines import ACCOUNT_ID, ACCOUNT_NAME, DOMAIN, MACHINES, REGION, ROLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

_USUAL_PORT = 1338
_LISTENING = re.compile(r"listening (\S+:\d+)")


@dataclass(frozen=True, slots=True)
class EmbeddedAWS:
    """Where the embedded AWS answers, and the key that it made for the daemon."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs, and where."""

    home: Path
    """An empty folder, the home of every child."""
    config: Path
    metadata_url: str
    aws_url: str
    audit: asyncio.Queue[str]
    """The daemon's audit records as they come, one JSON text each."""
    children: tuple[Child, ...]


@asynccontextmanager
async def set_stage(*, port: int, tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Start everything and give where it is; end it all on the way out. Raises DemoError.

    `port` is the metadata service's; 0 takes any free one. `tell` gets the progress and the daemon's
    own log, line by line.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-proxy-demo-")))
        home = folder / "home"
        home.mkdir()
        environment = neutral_environment(home)

        dns_address = await stack.enter_async_context(serve_dns(make_zone(MACHINES)))
        tell(f"embedded DNS on {dns_address} (UDP)")

        aws_child, aws = await stack.enter_async_context(_run_aws(environment))
        tell(f"embedded AWS on {aws.endpoint} (moto; signatures and policies are enforced)")

        config = _write_settings(folder, aws, dns_address, port)
        audit: asyncio.Queue[str] = asyncio.Queue()
        # `explain --assume` asks IAM why a role was refused: the embedded one, not the real one.
        environment = {**environment, "AWS_ENDPOINT_URL_IAM": aws.endpoint}
        daemon, address = await stack.enter_async_context(_run_daemon(config, environment, audit, tell))
        yield Stage(home, config, f"http://{address}", aws.endpoint, audit, (aws_child, daemon))


def choose_port() -> int:
    """Return the port that the texts of this project name, 1338, or 0 when somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _USUAL_PORT))
        except OSError:
            return 0
    return _USUAL_PORT


@asynccontextmanager
async def _run_aws(environment: Mapping[str, str]) -> AsyncIterator[tuple[Child, EmbeddedAWS]]:
    facts: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    command = python_command("-m", "imds_proxy.demo.embedded_aws")
    async with running("the embedded AWS", command, environment, on_output=_once(facts)) as child:
        yield child, EmbeddedAWS(**json.loads(await child.wait_for(facts)))


@asynccontextmanager
async def _run_daemon(
    config: Path,
    environment: Mapping[str, str],
    audit: asyncio.Queue[str],
    tell: Callable[[str], None],
) -> AsyncIterator[tuple[Child, str]]:
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    take_address = _once(listening)

    def take_log_line(line: str) -> None:
        tell(f"imds-proxy: {line}")
        found = _LISTENING.search(line)
        if found:
            take_address(found[1])

    command = python_command("-m", "imds_proxy", "serve", "--config", str(config))
    async with running(
        "the daemon", command, environment, on_output=audit.put_nowait, on_error=take_log_line
    ) as child:
        yield child, await child.wait_for(listening)


def _once(future: asyncio.Future[str]) -> Callable[[str], None]:
    """Return a function that keeps the first line it is given."""

    def take(line: str) -> None:
        if not future.done():
            future.set_result(line)

    return take


def _write_settings(folder: Path, aws: EmbeddedAWS, dns_address: str, port: int) -> Path:
    """Write the daemon's settings, as an operator would, and return their file."""
    secret_key_file = folder / "secret-key"
    _write_private(secret_key_file, aws.secret_key)
    token_key_file = folder / "token.key"
    _write_private(token_key_file, base64.b64encode(secrets.token_bytes(32)).decode())
    settings = {
        "listen": [{"address": f"127.0.0.1:{port}"}],
        "providers": {
            "machines": {
                "type": "by_ip",
                "allowed_domains": [DOMAIN],
                "account_name": ACCOUNT_NAME,
                "role_prefix": ROLE_PREFIX,
            }
        },
        "accounts": {ACCOUNT_NAME: {"id": ACCOUNT_ID}},
        "aws": {
            "region": REGION,
            "sts_endpoint": aws.endpoint,
            "access_key": aws.access_key,
            "secret_key_file": str(secret_key_file),
        },
        "dns": {"nameservers": [dns_address]},
        "tokens": {"key_file": str(token_key_file)},
        "audit": {"file": "-"},
        "admin": {"socket": str(folder / "admin.sock")},
    }
    config = folder / "imds-proxy.yaml"
    _write_private(config, yaml.safe_dump(settings, sort_keys=False))
    return config


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
