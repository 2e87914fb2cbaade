"""AWS's sign-in endpoint, small: a token for whoever asks, a count, and a failure when a test wants one."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "sign-in-token"
_LONGEST_HOLD = 20


class LittleSignIn:
    """The status from now on, the requests so far."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.paths: list[str] = []
        self._go = threading.Event()
        self._go.set()

    def hold(self) -> None:
        """Answer nobody until `release`."""
        self._go.clear()

    def release(self) -> None:
        """Answer again, also those who wait."""
        self._go.set()

    def wait(self) -> None:
        """Wait until answers may go out, but not for ever."""
        self._go.wait(_LONGEST_HOLD)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, sign_in: LittleSignIn) -> None:
        self.sign_in = sign_in
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        sign_in = self.server.sign_in
        sign_in.paths.append(self.path)
        sign_in.wait()
        body = b'{"SigninToken": "%s"}' % TOKEN.encode()
        self.send_response(sign_in.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_little_sign_in() -> Iterator[LittleSignIn]:
    """Run the endpoint on a free loopback port for the length of the block."""
    sign_in = LittleSignIn()
    with _Server(sign_in) as server:
        sign_in.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="sign-in", daemon=True)
        thread.start()
        try:
            yield sign_in
        finally:
            server.shutdown()
            thread.join(10)
