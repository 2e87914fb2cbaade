"""What came back on a connection, taken apart without mercy: whole answers in order, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.standins.wire import WireAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ([A-Za-z ]+)")
_HEADER_LINE = re.compile(rb"([A-Za-z0-9-]+): ([\x20-\x7e]*)")


def split_answers(received: bytes, methods: Sequence[str] = ()) -> list[WireAnswer]:
    """Return the answers in a stream; `methods` are those of the requests, as far as they are known.

    A 100 in front of an answer is dropped. Raises AssertionError for whatever is no whole answer of HTTP/1.1
    with a length, and for one whose length is not that of its body.
    """
    answers: list[WireAnswer] = []
    while received:
        received = received.removeprefix(CONTINUE)
        head, blank_line, received = received.partition(b"\r\n\r\n")
        assert blank_line, head
        answer = _read_head(head)
        is_head = len(answers) < len(methods) and methods[len(answers)] == "HEAD"
        wanted = 0 if is_head else int(answer.header("Content-Length") or "")
        body, received = received[:wanted], received[wanted:]
        assert len(body) == wanted, (head, body)
        answers.append(WireAnswer(answer.status, answer.reason, answer.headers, body))
    return answers


def _read_head(head: bytes) -> WireAnswer:
    status_line, *lines = head.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(status_line)
    assert found, head
    headers: list[tuple[str, str]] = []
    for line in lines:
        header = _HEADER_LINE.fullmatch(line)
        assert header, head
        headers.append((header[1].decode(), header[2].decode()))
    names = [name.lower() for name, _ in headers]
    assert len(set(names)) == len(names), head
    assert {"date", "content-length"} <= set(names), head
    assert "transfer-encoding" not in names, head
    return WireAnswer(int(found[1]), found[2].decode(), tuple(headers), b"")
