"""Answers as bytes: the head and the body are rendered once, a request adds what only it knows.

aiohttp's own Response renders its headers anew for every request, which costs as much as everything else that
this service does for one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

SERVER = "EC2ws"
"""What real instances say, and some clients look for."""

_PHRASES = {405: "Not Allowed"}
"""Where real instances say something else than RFC 9110."""


@dataclass(frozen=True, slots=True)
class Page:
    """A status, headers and body, ready to be sent; the head lacks the empty line at its end."""

    status: int
    head: bytes
    body: bytes

    def with_body(self, body: bytes) -> Page:
        """Return the same page with another body, which must be as long."""
        return Page(self.status, self.head, body)


def render_page(status: int, body: bytes = b"", **headers: str) -> Page:
    """Return a page; an underscore in a header's name stands for a hyphen."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status) or HTTPStatus(status).phrase}", f"Server: {SERVER}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return Page(status, "\r\n".join(lines).encode("ascii") + b"\r\n", body)


class Reply(NamedTuple):
    """A page for one client."""

    page: Page
    extra: bytes = b""
    """Further header lines, each with its end of line."""


def render_answer(
    page: Page, extra: bytes = b"", *, is_last: bool, is_old: bool = False, is_head: bool = False
) -> bytes:
    """Return an answer as it is sent. `is_last`: the connection ends; `is_old`: to HTTP/1.0.

    To a HEAD the head alone (RFC 9110 section 9.3.2).
    """
    connection = b"Connection: close\r\n" if is_last else b"Connection: keep-alive\r\n" if is_old else b""
    body = b"" if is_head else page.body
    return b"".join((page.head, extra, connection, _end_of_head(int(time.time())), body))


class Answer(web.StreamResponse):
    """A reply on its way through aiohttp."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status=reply.page.status)
        self._reply = reply
        self._is_kept: bool | None = None

    @property
    def page(self) -> Page:
        """What is sent."""
        return self._reply.page

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; None until the request has been looked at."""
        return self._is_kept

    def force_close(self) -> None:
        """End the connection after this answer."""
        self._is_kept = False

    def add_line(self, line: bytes) -> None:
        """Add a header line, with its end of line."""
        self._reply = Reply(self._reply.page, self._reply.extra + line)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Send everything."""
        if self._is_kept is None:
            self._is_kept = request.keep_alive
        page, extra = self._reply
        writer = request.writer
        await writer.write(
            render_answer(
                page,
                extra,
                is_last=not self._is_kept,
                is_old=request.version == HttpVersion10,
                is_head=request.method == "HEAD",
            )
        )
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has sent all."""


@lru_cache(maxsize=1)
def _end_of_head(second: int) -> bytes:
    """Return the Date header and the empty line; `second` is UTC since 1970."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n\r\n".encode("ascii")
