"""HTTP/1.1 as bytes: requests made once, answers read no further than needed."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
LIST_PATH = "/latest/meta-data/iam/security-credentials/"
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    body: bytes


def token_request(port: int) -> bytes:
    """Return the bytes of a TOKEN request, good for six hours, as boto3 sends it."""
    return token_head(f"127.0.0.1:{port}") + b"Content-Length: 0\r\n\r\n"


def token_head(authority: str) -> bytes:
    """Return a TOKEN request without the header of its body and the blank line that ends the head."""
    return (
        f"PUT {TOKEN_PATH} HTTP/1.1\r\nHost: {authority}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"
    ).encode()


def get_request(port: int, path: str, token: bytes | None) -> bytes:
    """Return the bytes of a GET; without a token it is an IMDSv1 request."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
    return head + (b"x-aws-ec2-metadata-token: " + token + b"\r\n\r\n" if token else b"\r\n")


def parse_answer(data: bytes) -> Answer | None:
    """Return the answer that `data` holds, None while some of it is missing.

    Chunked bodies are not understood: neither the daemon nor the bare server sends any.
    """
    end = data.find(_HEAD_END)
    if end < 0:
        return None
    body = data[end + len(_HEAD_END) :]
    length = _content_length(data[:end].lower())
    return Answer(int(data[9:12]), body) if len(body) >= length else None


def _content_length(lower_head: bytes) -> int:
    start = lower_head.find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    value, _, _ = lower_head[start + len(b"\r\ncontent-length:") :].partition(b"\r\n")
    return int(value)
