"""A metadata client with its own source address: what an SDK sends, step by step, and whose the keys are."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

LIST_PATH = "/latest/meta-data/iam/security-credentials/"
_ANSWER_TIME = 30


@dataclass(frozen=True)
class Answer:
    """An answer's status and text."""

    status: int
    text: str

    @property
    def document(self) -> dict[str, str]:
        """The text as JSON. Raises AssertionError when the status is not 200."""
        assert self.status == 200, self
        content: dict[str, str] = json.loads(self.text)
        return content


@dataclass
class MetadataClient:
    """One caller: its requests come from its own address over connections of its own."""

    http: ClientSession
    endpoint: str

    async def fetch_token(self, seconds: int = 21600) -> str:
        """Return an IMDS token. Raises AssertionError for any other answer than 200."""
        header = {"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)}
        async with self.http.put(f"{self.endpoint}/latest/api/token", headers=header) as response:
            text = await response.text()
            assert response.status == 200, (response.status, text)
            return text

    async def get(self, path: str, token: str) -> Answer:
        """Return what a path answers to a token, whatever the status."""
        url = URL(self.endpoint + path, encoded=True)
        async with self.http.get(url, headers={"X-aws-ec2-metadata-token": token}) as response:
            return Answer(response.status, await response.text())

    async def list_role(self, token: str | None = None) -> Answer:
        """Return the answer to LIST, after a TOKEN of its own when none is given."""
        return await self.get(LIST_PATH, token or await self.fetch_token())

    async def fetch_credentials(self, token: str | None = None) -> dict[str, str]:
        """Return the credential document after TOKEN, LIST, ROLE. Raises AssertionError for any error."""
        token = token or await self.fetch_token()
        role = await self.list_role(token)
        assert role.status == 200, role
        return (await self.get(LIST_PATH + role.text, token)).document


@asynccontextmanager
async def metadata_client(
    daemon: Daemon, source: str = "127.0.0.1", listener: int = 0
) -> AsyncIterator[MetadataClient]:
    """Connect to one of a daemon's listeners from a loopback address."""
    connector = TCPConnector(local_addr=(source, 0))
    timeout = ClientTimeout(total=_ANSWER_TIME)
    async with ClientSession(connector=connector, timeout=timeout) as http:
        yield MetadataClient(http, f"http://{daemon.addresses[listener]}")


@asynccontextmanager
async def hanging_up(step: str, daemon: Daemon, source: str) -> AsyncIterator[None]:
    """Send TOKEN, or after it LIST, from an address; close at the end of the block without reading a byte."""
    host, _, port = daemon.addresses[0].rpartition(":")
    lines = [
        "PUT /latest/api/token HTTP/1.1",
        "X-aws-ec2-metadata-token-ttl-seconds: 60",
        "Content-Length: 0",
    ]
    if step == "LIST":
        async with metadata_client(daemon, source) as caller:
            token = await caller.fetch_token()
        lines = [f"GET {LIST_PATH} HTTP/1.1", f"X-aws-ec2-metadata-token: {token}"]
    _, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    writer.write("\r\n".join([*lines, f"Host: {host}:{port}", "", ""]).encode())
    await writer.drain()
    yield
    writer.close()
    await writer.wait_closed()


async def caller_identity(aws: Aws, document: dict[str, str]) -> str:
    """Return the ARN that AWS knows the keys of a credential document by."""

    def ask() -> str:
        sts: Any = boto3.session.Session(
            aws_access_key_id=document["AccessKeyId"],
            aws_secret_access_key=document["SecretAccessKey"],
            aws_session_token=document["Token"],
            region_name="eu-central-1",
        ).client("sts", endpoint_url=aws.url)
        return str(sts.get_caller_identity()["Arn"])

    return await asyncio.to_thread(ask)
