"""A web server before the people's listener, as Apache is one: it checks passwords and names the user."""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.standins.authority import Issued

SECRET = "what-the-web-server-shows-to-the-daemon"
_SKIPPED = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


class BasicProxy:
    """Where it listens and leads, and what it knows."""

    def __init__(self, daemon: str, passwords: Mapping[str, str]) -> None:
        self.daemon = daemon
        """ADDRESS:PORT."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of each request that was passed on."""
        self.url = ""
        self._users = {
            "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode(): user
            for user, password in passwords.items()
        }

    def user_of(self, authorization: str | None) -> str | None:
        """Return who has logged in."""
        return self._users.get(authorization or "")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: BasicProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that don't believe the certificate."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        proxy = self.server.proxy
        user = proxy.user_of(self.headers["Authorization"])
        if user is None:
            self._send(401, [("WWW-Authenticate", 'Basic realm="afp"')], b"<html>401</html>")
            return
        proxy.asked.append((self.command, self.path))
        connection = http.client.HTTPConnection(proxy.daemon, timeout=60)
        headers = {"X-Remote-User": user, "X-Imds-Proxy-Secret": SECRET}
        try:
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _SKIPPED]
            self._send(answer.status, kept, answer.read())
        finally:
            connection.close()

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_basic_proxy(
    daemon: str, passwords: Mapping[str, str], certificate: Issued | None = None
) -> Iterator[BasicProxy]:
    """Run one before `daemon` (ADDRESS:PORT) on a free loopback port; by TLS if it has a certificate."""
    proxy = BasicProxy(daemon, passwords)
    with _Server(proxy) as server:
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate.certificate, certificate.key)
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        proxy.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/afp-api/latest"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="web server", daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join(10)
