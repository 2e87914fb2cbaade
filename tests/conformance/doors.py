"""A client's way to the daemon: the metadata address of its own network, passed on byte by byte, and watched.

The daemon sees each client come from an address of its own. On the way a door counts requests, and can
do what a restart does: lead elsewhere, or nowhere, once the first request is answered.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.lab.namespaces import Namespace

Address = tuple[str, int]

_CHUNK = 65536
_PATIENCE = 60
"""Seconds without a byte after which a connection is given up."""
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CONTINUE = b"HTTP/1.1 100 "
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Passed:
    """A line that went through: a request (`PUT /latest/api/token`) or an answer's status (`200`)."""

    text: str
    is_answer: bool


class Door:
    """Listens in a namespace; safe to use from any thread."""

    def __init__(self, namespace: Namespace, near: Address, source: str) -> None:
        self.near = near
        """Where the client knocks, inside."""
        self.addresses = [f"{near[0]}:{near[1]}"]
        """The one address, as a daemon would name it."""
        self._namespace = namespace
        self._source = source
        self._far: Address | None = None
        self._after_first: Callable[[], None] | None = None
        self._passed: list[Passed] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None

    @property
    def endpoint(self) -> str:
        """As a URL, without a slash at its end."""
        return f"http://{self.addresses[0]}"

    @property
    def requests(self) -> list[str]:
        """The requests that came since `open`."""
        with self._lock:
            return [passed.text for passed in self._passed if not passed.is_answer]

    @property
    def statuses(self) -> list[str]:
        """The statuses that went back since `open`."""
        with self._lock:
            return [passed.text for passed in self._passed if passed.is_answer]

    def open(self, far: Address, then: Address | None = None, *, is_restarted: bool = False) -> None:
        """Lead to `far`, or with `is_restarted` for one answer alone: from then on to `then`, or nowhere."""
        self.close()
        with self._lock:
            self._passed.clear()
            self._far = far
            self._after_first = (lambda: self._move(then)) if is_restarted else None
        self._listen()

    def reopen(self, far: Address) -> None:
        """Lead to `far` from now on, whatever became of the door; what was counted stays."""
        self._move(far)
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        """Refuse connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which a mere close leaves waiting
            listener.close()

    def _move(self, far: Address | None) -> None:
        with self._lock:
            self._far = far
            self._after_first = None
        if far is None:
            self.close()

    def _listen(self) -> None:
        with self._namespace.entered():  # a socket belongs to where it was made; threads stay outside
            self._listener = socket.create_server(self.near, backlog=64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            near.settimeout(_PATIENCE)
            with self._lock:
                far_address = self._far
            if far_address is None:
                return
            try:
                far = socket.create_connection(
                    far_address, timeout=_PATIENCE, source_address=(self._source, 0)
                )
            except OSError:
                return
            with far:
                asking = threading.Thread(target=self._copy_requests, args=(near, far), daemon=True)
                asking.start()
                self._copy_answers(far, near)
                asking.join()

    def _copy_requests(self, near: socket.socket, far: socket.socket) -> None:
        rest = b""
        try:
            while data := near.recv(_CHUNK):
                *lines, rest = (rest + data).split(b"\r\n")
                self._note(_REQUEST, lines, is_answer=False)
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
        except OSError:
            _end(near, far)

    def _copy_answers(self, far: socket.socket, near: socket.socket) -> None:
        rest = whole = b""
        try:
            while data := far.recv(_CHUNK):
                *lines, rest = (rest + data).split(b"\r\n")
                self._note(_STATUS, lines, is_answer=True)
                with self._lock:
                    after_first = self._after_first
                if after_first is None:
                    near.sendall(data)
                    continue
                whole += data
                while whole.startswith(_CONTINUE) and b"\r\n\r\n" in whole:
                    head, _, whole = whole.partition(b"\r\n\r\n")
                    near.sendall(head + b"\r\n\r\n")  # the client sends the rest of its request first
                if _is_complete(whole):
                    after_first()
                    near.sendall(whole)
                    break
            near.shutdown(socket.SHUT_WR)
            if whole:
                _end(far)  # a daemon that stops closes what is open; the client has its answer
        except OSError:
            _end(near, far)

    def _note(self, pattern: re.Pattern[bytes], lines: list[bytes], *, is_answer: bool) -> None:
        # An answer without a line end at its end is followed by the next one's status.
        matches = [match for match in map(pattern.search, lines) if match]
        texts = [b" ".join(match.groups()).decode("latin-1") for match in matches]
        with self._lock:
            self._passed += [Passed(text, is_answer) for text in texts]


def _is_complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and len(body) >= (int(length.group(1)) if length else 0)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def closing_door(namespace: Namespace, near: Address, source: str) -> Iterator[Door]:
    """Return a door that is closed, now and at the end of the block. `source` is whom the daemon sees."""
    door = Door(namespace, near, source)
    try:
        yield door
    finally:
        door.close()
