"""A people's listener that says what a test tells it to, on a unix socket or on loopback, also with TLS."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.authority import Issued

ACCESS_KEY, SECRET_KEY, TOKEN = "ASIAEXAMPLEEXAMPLE00", "secret/of/the/session", "session//token=="
EXPIRATION = "2126-11-23T17:13:10Z"
CREDENTIALS: dict[str, str] = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "AccessKeyId": ACCESS_KEY,
    "SecretAccessKey": SECRET_KEY,
    "Token": TOKEN,
    "Expiration": EXPIRATION,
    "LastUpdated": "2026-11-23T16:13:10Z",
}
CONSOLE_URL = "https://signin.example/federation?Action=login&SigninToken=of%2Fthe%2Fconsole"
ACCOUNTS: dict[str, Any] = {
    "spare": {"id": None, "roles": [{"role": "reader", "reason": "everybody may"}]},
    "main": {
        "id": "000123456789",
        "roles": [
            {"role": "writer", "reason": "alice is in writers"},
            {"role": "admin", "reason": "alice is in admins"},
        ],
    },
}


@dataclass(frozen=True)
class Asked:
    """A request: its target and its header Authorization."""

    target: str
    authorization: str | None


@dataclass(frozen=True)
class Reply:
    """What is answered, by an ordinary server."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def error(status: int, message: str) -> Reply:
    """Return an error as imds-proxy tells it."""
    said = {"status": status, "error": f"{status} whatever", "message": message}
    return Reply(status, json.dumps(said).encode())


class PeopleApi:
    """The answers from now on, the requests so far."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.replies: dict[str, Reply] = {}
        """By the end of the path; the first that fits counts. Else the usual ones."""
        self.raw: bytes | None = None
        """Sent as it is instead of an answer, and then the end of the connection."""
        self.login: str | None = None
        """`user:password` that is asked for."""
        self.names_user = True
        """Whether answers say who is asking."""
        self.released = threading.Event()
        """Nothing is answered before it is set."""
        self.released.set()

    def reply_to(self, target: str, authorization: str | None) -> Reply:
        """Return the answer to a request."""
        path = target.partition("?")[0]
        if self.login is not None:
            right = "Basic " + base64.b64encode(self.login.encode()).decode()
            if authorization != right:
                challenge = ("WWW-Authenticate", 'Basic realm="people", charset="UTF-8"')
                return Reply(401, error(401, "say who you are").body, headers=(challenge,))
        for end, reply in self.replies.items():
            if path.endswith(end):
                return reply
        if path.endswith("/account"):
            return Reply(200, json.dumps(ACCOUNTS).encode())
        if path.endswith("/credentials"):
            return Reply(200, json.dumps(CREDENTIALS).encode())
        if path.endswith("/consoleurl"):
            return Reply(200, CONSOLE_URL.encode(), "text/plain; charset=utf-8")
        return error(404, "there is no such path")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _TcpServer | _UnixServer

    def do_GET(self) -> None:
        api = self.server.api
        authorization = self.headers["Authorization"]
        api.asked.append(Asked(self.path, authorization))
        api.released.wait(30)
        if api.raw is not None:
            self.wfile.write(api.raw)
            self.close_connection = True
            return
        reply = api.reply_to(self.path, authorization)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        if reply.status != 401 and api.names_user:
            self.send_header("X-Username", "alice")
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _TcpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: PeopleApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client may go away."""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, api: PeopleApi, path: Path) -> None:
        self.api = api
        super().__init__(str(path), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client may go away."""


@contextmanager
def running_people_api(
    *, socket: Path | None = None, certificate: Issued | None = None
) -> Iterator[PeopleApi]:
    """Run one for the block: on `socket`, else on a free port; by TLS if it has a certificate."""
    api = PeopleApi()
    server: _TcpServer | _UnixServer
    if socket is not None:
        server = _UnixServer(api, socket)
    else:
        server = _TcpServer(api)
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate.certificate, certificate.key)
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        api.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/afp-api/latest"
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="people's API", daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.released.set()
            server.shutdown()
            thread.join(10)
