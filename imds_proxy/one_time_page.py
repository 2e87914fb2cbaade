"""Opens a browser at a URL that is a secret.

A browser takes its URL as an argument, which every user of the host can read. So it is started with the
address of a page on loopback that sends it on to the secret: once, and only if it is the user's own.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from imds_proxy.errors import Trouble

BROWSER_PATIENCE = 30.0
"""Seconds in which the browser has to come for the page."""

_LOOPBACK = "127.0.0.1"
_REQUEST_PATIENCE = 5.0
_CONNECTIONS = Path("/proc/net/tcp")


def open_in_browser(url: str, *, patience: float = BROWSER_PATIENCE) -> None:
    """Start the user's browser and return once it is on its way to `url`. Raises Trouble."""
    with _Server(url) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            if not _start_browser(f"http://{_LOOPBACK}:{server.server_port}{server.page}"):
                raise Trouble("there is no browser that can be started; without --open the URL is printed")
            if not server.is_done.wait(patience):
                raise Trouble(
                    f"the browser did not come within {patience:g} s; without --open the URL is printed"
                )
        finally:
            server.shutdown()


def _start_browser(url: str) -> bool:
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__((_LOOPBACK, 0), _Handler)
        self.page = f"/{secrets.token_urlsafe(24)}"
        self.is_done = threading.Event()
        self._url: str | None = url
        self._lock = threading.Lock()

    def take(self, path: str, peer: tuple[str, int]) -> str | None:
        """Return the URL to whoever may have it, once."""
        if not secrets.compare_digest(path.encode(), self.page.encode()):
            return None
        if not is_own(peer, (_LOOPBACK, self.server_port)):
            return None
        with self._lock:
            url, self._url = self._url, None
        return url


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_PATIENCE

    def do_GET(self) -> None:
        """Send the browser on."""
        url = self.server.take(self.path, self.client_address)
        self.send_response(HTTPStatus.NOT_FOUND if url is None else HTTPStatus.SEE_OTHER)
        if url is not None:
            self.send_header("Location", url)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()
        if url is not None:
            self.server.is_done.set()

    def log_message(self, *_: object) -> None:
        """Say nothing: the path is a secret."""


def is_own(peer: tuple[str, int], local: tuple[str, int]) -> bool:
    """Tell whether the other end of a connection on loopback is in our user's hands.

    proc(5), /proc/net/tcp. Where the system has no such file nobody can tell, and it counts as ours.
    """
    try:
        lines = _CONNECTIONS.read_text("ascii").splitlines()
    except OSError:
        return True
    wanted = [_in_proc(*peer), _in_proc(*local)]
    owners = [fields[7] for line in lines if (fields := line.split())[1:3] == wanted]
    return owners == [str(os.getuid())]


def _in_proc(host: str, port: int) -> str:
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
