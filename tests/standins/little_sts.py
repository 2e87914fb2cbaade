"""An STS in this process: real HTTP and XML for boto3, with answers that a test sets and calls it counts.

It looks at no signature and knows no role: what AWS would say to a request is `aws.py`'s business, here only
the daemon's side is under test.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST_HOLD = 30
_SUCCESS = """\
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><Arn>{arn}</Arn><AssumedRoleId>AROAEXAMPLE:{session}</AssumedRoleId></AssumedRoleUser>
<Credentials><AccessKeyId>{key.access_key}</AccessKeyId><SecretAccessKey>{key.secret_key}</SecretAccessKey>
<SessionToken>{key.session_token}</SessionToken><Expiration>{expiration}</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>
</AssumeRoleResponse>"""
_ERROR = """\
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>{code}</Code>
<Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"""


@dataclass(frozen=True)
class IssuedKey:
    """What one AssumeRole gave, and to which session of which role."""

    role: str
    session_name: str
    access_key: str
    secret_key: str
    session_token: str


class LittleSts:
    """The answers from now on, the calls so far. Safe to use from any thread."""

    def __init__(self) -> None:
        self.url = ""
        self.issued: list[IssuedKey] = []
        self._lock = threading.Lock()
        self._calls: list[dict[str, str]] = []
        self._refusal: tuple[int, str] | None = None
        self._is_released = threading.Event()
        self._is_released.set()

    @property
    def calls(self) -> list[dict[str, str]]:
        """The parameters of the AssumeRole calls, in the order of arrival."""
        with self._lock:
            return list(self._calls)

    def refuse(self, status: int, code: str) -> None:
        """Answer every call with an error from now on."""
        self._refusal = (status, code)

    def accept(self) -> None:
        """Give credentials again."""
        self._refusal = None

    def hold(self) -> None:
        """Answer nothing until `release`."""
        self._is_released.clear()

    def release(self) -> None:
        """Answer what waits, and the rest at once."""
        self._is_released.set()

    def answer(self, body: str) -> tuple[int, str]:
        """Return status and XML for the body of an AssumeRole."""
        form = dict(parse_qsl(body, keep_blank_values=True))
        with self._lock:
            self._calls.append(form)
            number = len(self._calls)
        self._is_released.wait(_LONGEST_HOLD)
        request_id = f"00000000-0000-4000-8000-{number:012d}"
        if self._refusal is not None:
            status, code = self._refusal
            return status, _ERROR.format(code=code, message=f"told to say {code}", request_id=request_id)
        arn, session = form["RoleArn"], form["RoleSessionName"]
        role = arn.rpartition("/")[2]
        key = IssuedKey(
            role,
            session,
            access_key=f"ASIA{number:016d}",
            secret_key=f"secret/{number:08d}/of/{role}",
            session_token=f"session-token/{number:08d}/of/{role}//" + "Z" * 300,
        )
        with self._lock:
            self.issued.append(key)
        end = datetime.now(UTC) + timedelta(seconds=int(form["DurationSeconds"]))
        expiration = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, _SUCCESS.format(
            arn=arn, session=session, key=key, expiration=expiration, request_id=request_id
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, sts: LittleSts) -> None:
        self.sts = sts
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        status, text = self.server.sts.answer(self.rfile.read(length).decode())
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_little_sts(certificate: Path | None = None) -> Iterator[LittleSts]:
    """Run an STS on a free loopback port for the length of the block; with TLS if it has a PEM file."""
    sts = LittleSts()
    with _Server(sts) as server:
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        sts.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="little STS", daemon=True)
        thread.start()
        try:
            yield sts
        finally:
            sts.release()
            server.shutdown()
            thread.join(10)
