"""Where the head of a request ends, and how long its body is. Nothing here is believed of what it says."""

from __future__ import annotations

import re

UNKNOWN_LENGTH = -1
"""Of a body that ends where only a parser can tell, or whose length is too odd to go by."""

INCOMPLETE = 0
TOO_LARGE = -1
NOT_HTTP = -2
"""What `find_head` says of data that is not a head."""

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n"
"""How a client begins that speaks HTTP/2 only (RFC 9113 section 3.4): a parser would wait for more of it."""

_END = re.compile(rb"\n\r?\n")
_OVERLAP = 2
"""How much of the end of a head may have come before the rest."""

_OTHER_LINES = 2
"""Lines of a head besides its fields: the request line and the blank one."""

_FRAMING = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,9}[ \t]*")
_BEGIN = re.compile(rb"[A-Za-z]")


def find_head(data: bytes, scanned: int, *, max_bytes: int, max_fields: int) -> int:
    """Return where the first head in `data` ends, or INCOMPLETE, TOO_LARGE or NOT_HTTP.

    No end was found before in the first `scanned` bytes. A blank line that ends in a bare LF is an end as
    well: the parser then refuses the head at once.
    """
    found = _END.search(data, max(0, scanned - _OVERLAP))
    size = found.end() if found is not None else len(data)
    if size > max_bytes or data.count(b"\n", 0, size) > max_fields + _OTHER_LINES:
        return TOO_LARGE
    if not _BEGIN.match(data) or data.startswith(_HTTP2_PREFACE):
        return NOT_HTTP
    return size if found is not None else INCOMPLETE


def length_of_body(head: bytes) -> int:
    """Return how many bytes of body follow a head, or UNKNOWN_LENGTH.

    Anything but one Content-Length of digits is unknown, and the request then is the last of its connection:
    what is behind it must never be taken for another request (RFC 9112 section 6.3).
    """
    fields = _FRAMING.findall(head)
    if not fields:
        return 0
    if len(fields) > 1 or fields[0][0].lower() != b"content-length" or not _LENGTH.fullmatch(fields[0][1]):
        return UNKNOWN_LENGTH
    return int(fields[0][1])
