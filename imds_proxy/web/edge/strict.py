"""The strict form of a request: what unmodified SDKs send, and nothing else.

A whitelist, so that no two readers can understand such a request differently: one method, path and version,
known header fields, each at most once, printable ASCII, no body. All else is for aiohttp to read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from imds_proxy.web.edge.ask import AUTHORIZATION, HOST, LIFE_HEADER, TOKEN_HEADER, Ask

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_STRICT_BYTES = 2048
"""Longer requests are not of the strict form."""

_MAX_COMMON_BYTES = 64
"""Longer lines are not remembered: a token's line is longer."""

_REQUEST_LINE = re.compile(rb"(GET|PUT) (/[0-9A-Za-z/._~+=,@-]*) HTTP/1\.1")
_END = b"\r\n\r\n"


def _form(pattern: bytes) -> Callable[[bytes], object]:
    return re.compile(pattern).fullmatch


_TEXT = _form(rb"[!-~](?:[ -~]*[!-~])?")
_CLOSE, _LENGTH = "connection", "content-length"
_FORMS = {
    HOST: _form(rb"[0-9A-Za-z.:\[\]_-]+"),
    TOKEN_HEADER: _form(rb"[0-9A-Za-z_=-]+"),
    LIFE_HEADER: _form(rb"[0-9]+"),
    AUTHORIZATION: _form(rb"[!-~]+"),
    _CLOSE: _form(rb"(?i:keep-alive|close)"),
    _LENGTH: _form(rb"0"),
    "accept": _TEXT,
    "accept-encoding": _TEXT,
    "accept-language": _TEXT,
    "amz-sdk-invocation-id": _TEXT,
    "amz-sdk-request": _TEXT,
    "cache-control": _TEXT,
    "user-agent": _TEXT,
    "x-amz-user-agent": _TEXT,
}
_FIELDS = {name.lower().encode("ascii"): (name.lower(), form) for name, form in _FORMS.items()}
_HOST, _TOKEN, _LIFE = HOST.lower(), TOKEN_HEADER.lower(), LIFE_HEADER.lower()
_AUTHORIZATION = AUTHORIZATION.lower()


def parse_strict(head: bytes) -> Ask | None:
    """Return what a request asks if all of `head` is one request of the strict form, else None."""
    if len(head) > MAX_STRICT_BYTES or not head.endswith(_END):
        return None
    first, *lines = head[: -len(_END)].split(b"\r\n")
    line = _read_request_line(first)
    if line is None:
        return None
    values: dict[str, str] = {}
    for each in lines:
        # Most lines are the same in every request. Those that may hold a secret are not remembered.
        is_common = len(each) <= _MAX_COMMON_BYTES and each[:2].lower() != b"au"
        field = _read_common_field(each) if is_common else _read_field(each)
        if field is None or field[0] in values:
            return None
        values[field[0]] = field[1]
    host = values.get(_HOST)
    if host is None:
        return None
    token, life, authorization = values.get(_TOKEN), values.get(_LIFE), values.get(_AUTHORIZATION)
    return Ask(
        line[0],
        line[1],
        (host,),
        None,
        False,  # noqa: FBT003  in the order of the fields: by name, this takes twice as long
        () if token is None else (token,),
        () if life is None else (life,),
        () if authorization is None else (authorization,),
        _CLOSE in values and values[_CLOSE].lower() == "close",
    )


def _read_field(line: bytes) -> tuple[str, str] | None:
    """Return name and value of a known header field in its known form, else None."""
    name, _, value = line.partition(b": ")
    known = _FIELDS.get(name) or _FIELDS.get(name.lower())
    if known is None or not known[1](value):
        return None
    return known[0], value.decode()


_read_common_field = lru_cache(maxsize=512)(_read_field)


@lru_cache(maxsize=1024)
def _read_request_line(line: bytes) -> tuple[str, str] | None:
    found = _REQUEST_LINE.fullmatch(line)
    return None if found is None else (found[1].decode(), found[2].decode())
