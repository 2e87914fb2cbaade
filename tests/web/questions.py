"""Well-formed requests of all kinds, each with the status that the manual promises for it.

How a request is spelled, framed and dressed is left to chance; what has to come back is known by a small
model of the manual's table of statuses, which shares no code with the service.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH, Header


@dataclass(frozen=True)
class Door:
    """What a listener's settings make of a request."""

    takes_v1: bool = False
    lists_openly: bool = False
    base: str = ""
    """The `base_path`; "" for none."""


@dataclass(frozen=True)
class Asker:
    """Who asks: what is its own, and what it may try."""

    role: str
    token: str
    worthless_tokens: tuple[str, ...]
    foreign_roles: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A request and what has to come back."""

    method: str
    data: bytes
    what: str
    """What it asks for: a key of `PATHS`, or ODD for a path that is not there."""
    status: int
    is_last: bool
    """Whether its answer ends the connection."""


ODD = "odd"
LAST = b"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nVia: this is the last one\r\nConnection: close\r\n\r\n"
"""Is answered with 403; then the connection ends, so that nobody has to wait for what may still come."""
PATHS = {
    "token": TOKEN_PATH,
    "dated token": "/2021-03-23/api/token",
    "list": ROLES_PATH,
    "role": ROLES_PATH,
    "foreign role": ROLES_PATH,
    "info": "/latest/meta-data/iam/info",
    "name": "/latest/meta-data/local-hostname",
    "region": "/latest/meta-data/placement/region",
    "root": "/",
    "metadata": "/latest/meta-data/",
}

# --- what it asks for --------------------------------------------------------------------------------

METHODS = st.sampled_from(
    [*(3 * ["GET", "PUT", "HEAD"]), "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "QUERY"]
)
_ODD_SEGMENTS = st.sampled_from(
    [
        *("..", ".", "%2e%2e", "%2E.", "..;", ";x=y", "%2F", "%2f..%2f", "%5c", "%00", "%0d%0aX:%20y"),
        *(
            "%c0%af",
            "%252e%252e",
            "%2561",
            "%ff",
            "%",
            "%zz",
            "~",
            "a:b@c",
            "*",
            "=",
            "x" * 3000,
            "%78" * 700,
        ),
    ]
)
_SLASHES = st.sampled_from(["/", "/", "/", "//", "///"])
_ENDS = st.sampled_from(["", "", "/", "//", "?", "?x=/y", "/?a=%2F../b#c", "?/latest/api/token", "#/x"])


@st.composite
def _targets(draw: st.DrawFn, what: str, door: Door, asker: Asker) -> str:
    """Draw a path that is there, or one that is not."""
    found = draw(st.sampled_from(list(PATHS))) if what == ODD else what
    path = PATHS[found]
    if found == "role":
        path += asker.role
    elif found == "foreign role":
        path += draw(st.sampled_from(asker.foreign_roles))
    if door.base and path.startswith(ROLES_PATH) and draw(st.booleans()):
        path = door.base + path.removeprefix("/latest")
    return draw(spelled(path, is_spoilt=what == ODD))


@st.composite
def spelled(draw: st.DrawFn, path: str, *, is_spoilt: bool) -> str:
    """Draw a spelling of a path, or of one that is not there: one odd segment spoils it."""
    parts = [draw(_spellings(part)) for part in path.split("/") if part]
    if is_spoilt:
        odd, is_appended = draw(_ODD_SEGMENTS), draw(st.booleans())
        if parts and is_appended:
            parts[draw(st.integers(0, len(parts) - 1))] += odd
        else:
            parts.insert(draw(st.integers(0, len(parts))), odd)
    return ("".join(draw(_SLASHES) + part for part in parts) or "/") + draw(_ENDS)


@st.composite
def _spellings(draw: st.DrawFn, part: str) -> str:
    """Draw a segment with at most one of its characters percent-encoded."""
    if draw(st.integers(0, 3)):
        return part
    where = draw(st.integers(0, len(part) - 1))
    escape = draw(st.sampled_from(["%%%02x", "%%%02X"])) % ord(part[where])
    return part[:where] + escape + part[where + 1 :]


# --- who says so --------------------------------------------------------------------------------------

_GOOD_LIVES = st.sampled_from(["1", "60", "21600", "00060"])
_BAD_LIVES: st.SearchStrategy[tuple[str, ...]] = st.sampled_from(
    [(), ("0",), ("21601",), ("-1",), ("+60",), ("6 0",), ("",), ("60", "60"), ("\u0666",), ("1" * 5000,)]
)
_HOSTS = st.sampled_from(["169.254.169.254", "127.0.0.1:80", "fd00:ec2::254", "IMDS.rz.example:8080"])
_FOREIGN_HOSTS = st.sampled_from(
    ["attacker.example", "169.254.169.254.attacker.example", "", "127.0.0.1:80@x", "127.0.0.9", "[::1"]
)
_PREFIXES = st.sampled_from(
    ["", "", "http://169.254.169.254", "HTTP://127.0.0.1:80", "http://[fd00:ec2::254]:80"]
)
_FOREIGN_PREFIXES = st.sampled_from(
    ["http://attacker.example", "http://x:y@169.254.169.254", "http://127.0.0.9:80", "http://127.0.0.1.x"]
)
_FORWARDED = st.sampled_from([("X-Forwarded-For", "10.0.0.1"), ("Via", "1.1 x"), ("forwarded", "")])
_HARMLESS_NAMES = st.sampled_from(
    [
        *(
            "Accept",
            "Accept-Encoding",
            "Authorization",
            "Content-Type",
            "Cookie",
            "If-None-Match",
            "Keep-Alive",
        ),
        *(
            "Proxy-Connection",
            "Range",
            "TE",
            "X-Forwarded-Host",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X-Y",
        ),
    ]
)
_VALUES = st.one_of(
    st.sampled_from(["", "*", "PUT", ROLES_PATH, "bytes=0-1", "x" * 8000, "127.0.0.2"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12),
)
_HARMLESS = st.lists(st.tuples(_HARMLESS_NAMES, _VALUES), max_size=3, unique_by=lambda header: header[0])


def _tokens(asker: Asker) -> st.SearchStrategy[tuple[str, ...]]:
    """Return what is said in the token's header, good or not."""
    token = asker.token
    faulty = [("",), (token, token), (token, "none"), (token + " x",), (token[:-1],), (token.swapcase(),)]
    worthless = [(other,) for other in asker.worthless_tokens]
    return st.one_of(st.just(()), st.just((token,)), st.just((token,)), st.sampled_from(faulty + worthless))


@dataclass(frozen=True)
class Dress:
    """What stands around a request's own words."""

    headers: list[Header]
    host: str
    prefix: str
    """Of the target: empty, or scheme and authority."""
    is_refused: bool
    """Whether a guard turns it away."""


@st.composite
def dresses(draw: st.DrawFn, *, without: str = "") -> Dress:
    """Draw headers that change nothing, `without` one of them; sometimes one thing is not allowed."""
    headers = [header for header in draw(_HARMLESS) if header[0] != without]
    host, prefix = draw(_HOSTS), draw(_PREFIXES)
    fault = draw(st.sampled_from([*(12 * [""]), "host", "prefix", "forwarded"]))
    if fault == "host":
        host, prefix = draw(_FOREIGN_HOSTS), ""
    elif fault == "prefix":
        prefix = draw(_FOREIGN_PREFIXES)
    elif fault == "forwarded":
        headers.append(draw(_FORWARDED))
    return Dress(headers, host, prefix, is_refused=bool(fault))


@st.composite
def questions(draw: st.DrawFn, door: Door, asker: Asker) -> Question:
    """Draw a well-formed request of this caller, at this listener."""
    method, what = draw(METHODS), draw(st.sampled_from([*PATHS, ODD]))
    tokens = draw(_tokens(asker))
    has_good_life = draw(st.booleans())
    lives = (draw(_GOOD_LIVES),) if has_good_life else draw(_BAD_LIVES)
    said = [*((TOKEN_HEADER, token) for token in tokens), *((LIFE_HEADER, life) for life in lives)]
    dress = draw(dresses())
    data, is_last = draw(framed(method, draw(_targets(what, door, asker)), dress, said))
    is_open = door.takes_v1 or (door.lists_openly and what == "list")
    may_read = tokens == (asker.token,) or (is_open and not tokens)
    status = _status(method, what, may_read=may_read, has_good_life=has_good_life)
    return Question(method, data, what, 403 if dress.is_refused else status, is_last)


def _status(method: str, what: str, *, may_read: bool, has_good_life: bool) -> int:
    """Return what the manual's table says of who gets past the guards: the first line that fits counts."""
    if what == "dated token" and method == "PUT":
        return 403
    if method not in (("PUT", "OPTIONS") if what == "token" else ("GET", "HEAD")):
        return 405
    if what == "token":
        return 200 if method == "OPTIONS" or has_good_life else 400
    if not may_read:
        return 401
    return 404 if what in (ODD, "dated token", "foreign role") else 200


# --- how it is put into bytes ---------------------------------------------------------------------------

_MAX_SKIPPED = 64
"""Bytes of a body after which the connection goes on."""

_SMUGGLED = f"GET {ROLES_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
_BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\r\n\r\n", _SMUGGLED * 2, b"0\r\n\r\n" + _SMUGGLED, b"x" * 9_000]),
)
_EXTENSIONS = st.sampled_from([b"", b"", b";a=b", b';a="b;c"', b";x"])
_TRAILERS = st.sampled_from(
    [
        *(b"", b"X-Y: z\r\n", b"Host: attacker.example\r\n", b"X-Forwarded-For: 10.0.0.1\r\n"),
        *(f"{name}: 60\r\n".encode() for name in (TOKEN_HEADER, LIFE_HEADER)),
    ]
)
_CASES = st.sampled_from(["swapcase", "lower", "upper", "title"])
_BLANKS = st.sampled_from(["", " ", " ", "\t "])
_SPACES = st.sampled_from(["", "", "  "])
"""Behind a value. No tab: the parser takes none there behind `chunked`."""


@st.composite
def framed(draw: st.DrawFn, method: str, path: str, dress: Dress, said: list[Header]) -> tuple[bytes, bool]:
    """Draw version, connection, body; return the request, and whether its answer is the last."""
    target = dress.prefix + path
    said = [*dress.headers, *said]
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    connection = draw(st.sampled_from([*(5 * [""]), "keep-alive", "close", "Upgrade"]))
    framing = draw(st.sampled_from([*(3 * [""]), "length", "chunks"]))
    headers = [*said, ("Connection", connection)] if connection else list(said)
    if connection == "Upgrade":
        headers.append(("Upgrade", draw(st.sampled_from(["h2c", "websocket", "TLS/1.0"]))))
    body = b""
    if framing == "length":
        body = draw(_BODIES)
        headers.append(("Content-Length", str(len(body))))
    elif framing == "chunks" and version == "1.1":
        body = draw(_chunked())
        headers.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
    if framing and version == "1.1" and draw(st.booleans()):
        headers.append(("Expect", "100-continue"))
    headers.insert(draw(st.integers(0, len(headers))), ("Host", dress.host))
    lines = [draw(_lines(name, value)) for name, value in headers]
    head = "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("utf-8", "surrogatepass")
    is_last = (
        connection in ("close", "Upgrade")
        or (framing == "chunks" and version == "1.1")
        or len(body) > _MAX_SKIPPED
        or (version == "1.0" and connection != "keep-alive")
    )
    return draw(st.sampled_from([b"", b"", b"\r\n"])) + head + body, is_last


@st.composite
def _lines(draw: st.DrawFn, name: str, value: str) -> str:
    cased = getattr(name, draw(_CASES))()
    return f"{cased}:{draw(_BLANKS)}{value}{draw(_SPACES)}"


@st.composite
def _chunked(draw: st.DrawFn) -> bytes:
    chunks = draw(st.lists(_BODIES.filter(bool), max_size=2))
    text = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), draw(_EXTENSIONS), chunk) for chunk in chunks)
    return text + b"0" + draw(_EXTENSIONS) + b"\r\n" + draw(_TRAILERS) + b"\r\n"
