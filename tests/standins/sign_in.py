"""AWS's sign-in endpoint: real HTTP that gives tokens for keys which STS has really issued, and no others.

Rules: AWS, IAM user guide, "Enable custom identity broker access to the AWS console".
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.aws_process import Aws

_LONGEST_HOLD = 30
_DRIP_SECONDS = 0.5
_SHORTEST_DURATION = 900
_LONGEST_DURATION = 43200


@dataclass(frozen=True)
class TokenRequest:
    """One request for a token: whose keys it had, None where they are nobody's."""

    session_arn: str | None
    duration: int | None
    token: str | None


class SignIn:
    """The answers from now on, the requests so far. Safe to use from any thread."""

    def __init__(self, aws: Aws) -> None:
        self.url = ""
        self.requests: list[TokenRequest] = []
        self.strayed: list[str] = []
        """Paths of requests that went where only a redirect leads."""
        self._aws = aws
        self._answer: tuple[int, bytes] | None = None
        self._is_dripping = False
        self._is_released = threading.Event()
        self._is_released.set()

    @property
    def tokens(self) -> list[str]:
        """All tokens that were given."""
        return [request.token for request in self.requests if request.token]

    def behave(self) -> None:
        """Give tokens again, at once."""
        self._answer, self._is_dripping = None, False
        self._is_released.set()

    def answer_with(self, status: int, body: bytes = b"") -> None:
        """Answer every request so from now on; a redirect leads to `/elsewhere`."""
        self._answer = (status, body)

    def drip(self) -> None:
        """Answer a byte at a time."""
        self._is_dripping = True

    def hold(self) -> None:
        """Answer nothing until `behave`."""
        self._is_released.clear()

    def respond(self, handler: _Handler) -> None:
        """Answer one request."""
        url = urlsplit(handler.path)
        if url.path != "/federation":
            self.strayed.append(url.path)
            handler.send(404, b"")
            return
        status, body = self._decide(parse_qs(url.query, keep_blank_values=True, strict_parsing=True))
        self._is_released.wait(_LONGEST_HOLD)
        status, body = self._answer or (status, body)
        handler.send(status, body, drips=self._is_dripping)

    def _decide(self, query: dict[str, list[str]]) -> tuple[int, bytes]:
        assert set(query) <= {"Action", "Session", "SessionDuration"}, sorted(query)
        assert all(len(values) == 1 for values in query.values())
        duration = int(query["SessionDuration"][0]) if "SessionDuration" in query else None
        arn, is_chained = self._look_up(json.loads(query["Session"][0]))
        is_good = query["Action"] == ["getSigninToken"] and arn is not None
        if duration is not None:
            is_good = is_good and not is_chained and _SHORTEST_DURATION <= duration <= _LONGEST_DURATION
        token = secrets.token_urlsafe(300) if is_good else None
        self.requests.append(TokenRequest(arn, duration, token))
        return (200, json.dumps({"SigninToken": token}).encode()) if token else (400, b"")

    def _look_up(self, keys: dict[str, str]) -> tuple[str | None, bool]:
        """Return whose keys these are, and whether a role's key got them. Only a right secret can sign."""
        if set(keys) != {"sessionId", "sessionKey", "sessionToken"}:
            return None, False
        sts = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=self._aws.url,
            aws_access_key_id=keys["sessionId"],
            aws_secret_access_key=keys["sessionKey"],
            aws_session_token=keys["sessionToken"],
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        try:
            arn = sts.get_caller_identity()["Arn"]
        except (ClientError, BotoCoreError):
            return None, False
        calls = {call.access_key_id: call for call in self._aws.calls()}
        call = calls.get(keys["sessionId"])
        if call is None or ":assumed-role/" not in arn:
            return None, False
        return arn, call.signer.startswith("ASIA")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, sign_in: SignIn) -> None:
        self.sign_in = sign_in
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.sign_in.respond(self)

    def send(self, status: int, body: bytes, *, drips: bool = False) -> None:
        """Send an answer, a byte at a time if it `drips`."""
        self.send_response(status)
        if status in {301, 302, 303, 307, 308}:
            self.send_header("Location", f"{self.server.sign_in.url}/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not drips:
            self.wfile.write(body)
            return
        for byte in body:
            self.wfile.write(bytes([byte]))
            threading.Event().wait(_DRIP_SECONDS)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_sign_in(aws: Aws, certificate: Path | None = None) -> Iterator[SignIn]:
    """Run the endpoint on a free loopback port for the block; with TLS if it has a PEM file.

    `aws` says whose keys are whose.
    """
    sign_in = SignIn(aws)
    with _Server(sign_in) as server:
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        sign_in.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="sign-in", daemon=True)
        thread.start()
        try:
            yield sign_in
        finally:
            sign_in.behave()
            server.shutdown()
            thread.join(10)
