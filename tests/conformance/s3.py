"""The receiving S3: gives an object to the session of the one role that may read it, and to nobody else.

Path style, GET and HEAD: objects (ranges, too), listings of a bucket, its location. Everything is
checked that real S3 checks of a request: see `signatures`, and `Gate` for the rest.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

from tests.conformance.signatures import Request, SignatureError, check_signature, read_claim
from tests.standins.daemon import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.standins.aws_process import IssuedSession

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_POLL = 0.02
"""Seconds after which it sees that it shall end."""
_MODIFIED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class StoredObject:
    """An object and the role that may read it."""

    body: bytes
    role_arn: str

    @property
    def etag(self) -> str:
        """As S3 makes it: the MD5 of the body, in quotes."""
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


@dataclass(frozen=True)
class Seen:
    """A request that came, and what became of it."""

    at: float
    method: str
    path: str
    signature: str | None
    """How it was signed (`v4`, `v2-query` ...); None: not at all."""
    access_key_id: str | None
    role_arn: str | None
    """The role whose session the key belongs to; None while that is not proved."""
    session_name: str | None
    outcome: str
    """`ok`, or the code of the error."""
    region: str | None = None
    """The one that the request is signed for; version 2 knows none."""
    agent: str = ""


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class S3:
    """Objects, what the clients asked, and the clock. Safe to use from any thread."""

    def __init__(self, ask_issued: Callable[[], list[IssuedSession]], region: str = REGION) -> None:
        self.endpoint = ""
        """Where it listens, as S3_ENDPOINT takes it."""
        self.region = region
        self._ask_issued = ask_issued
        self._sessions: dict[str, IssuedSession] = {}
        self._objects: dict[tuple[str, str], StoredObject] = {}
        self._requests: list[Seen] = []
        self._ahead = timedelta()
        self._lock = threading.Lock()

    def put(self, bucket: str, key: str, body: str, role_arn: str) -> None:
        """Keep an object that only sessions of this role may read."""
        with self._lock:
            self._objects[bucket, key] = StoredObject(body.encode(), role_arn)

    def set_clock_ahead(self, ahead: timedelta) -> None:
        """Judge times and expiries from now on as if it were so much later."""
        self._ahead = ahead

    def forget_requests(self) -> None:
        """Begin with an empty record."""
        with self._lock:
            self._requests.clear()

    @property
    def requests(self) -> list[Seen]:
        """What came since the last `forget_requests`, in the order of the answers."""
        with self._lock:
            return list(self._requests)

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request, and record it."""
        signature = access_key_id = region = None
        session: IssuedSession | None = None
        try:
            claim = read_claim(request)
            signature, access_key_id, region = claim.kind, claim.access_key_id, claim.region
            now = datetime.now(UTC) + self._ahead
            issued = self._find_session(access_key_id)
            check_signature(request, claim, issued.secret_access_key, now)
            if claim.session_token is None:
                raise SignatureError(403, "InvalidAccessKeyId", "A temporary key needs its session token")
            if claim.session_token != issued.session_token:
                raise SignatureError(
                    400, "InvalidToken", "The provided token is malformed or otherwise invalid"
                )
            if issued.expires_at <= now.timestamp():
                raise SignatureError(400, "ExpiredToken", "The provided token has expired")
            session = issued
            answer = self._serve(request, session, region)
            outcome = "ok"
        except SignatureError as error:
            answer, outcome = self._refuse(error), error.code
        seen = Seen(
            at=time.time(),
            method=request.method,
            path=unquote(request.raw_path),
            signature=signature,
            access_key_id=access_key_id,
            role_arn=session.role_arn if session else None,
            session_name=session.session_name if session else None,
            outcome=outcome,
            region=region,
            agent=request.headers.get("user-agent", ""),
        )
        with self._lock:
            self._requests.append(seen)
        return answer

    def _find_session(self, access_key_id: str) -> IssuedSession:
        if access_key_id not in self._sessions:
            self._sessions = {session.access_key_id: session for session in self._ask_issued()}
        try:
            return self._sessions[access_key_id]
        except KeyError:
            raise SignatureError(
                403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
            ) from None

    def _serve(self, request: Request, session: IssuedSession, region: str | None) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            raise SignatureError(405, "MethodNotAllowed", "The specified method is not allowed here.")
        bucket, _, key = unquote(request.raw_path).removeprefix("/").partition("/")
        query = dict(request.query)
        with self._lock:
            objects = dict(self._objects)
        if bucket not in {name for name, _ in objects}:
            raise SignatureError(404, "NoSuchBucket", "The specified bucket does not exist")
        if not key and "location" in query:  # the one question that may be asked from any region
            return self._location()
        if region not in {None, self.region}:
            raise SignatureError(
                400,
                "AuthorizationHeaderMalformed",
                f"The authorization header is malformed; the region '{region}' is wrong; "
                f"expecting '{self.region}'",
            )
        readable = {
            name: stored
            for (holder, name), stored in objects.items()
            if holder == bucket and stored.role_arn == session.role_arn
        }
        if not readable:
            raise SignatureError(403, "AccessDenied", "Access Denied")
        if not key:
            return self._list(bucket, readable, query)
        if key not in readable:
            code = "AccessDenied" if (bucket, key) in objects else "NoSuchKey"
            raise SignatureError(403 if code == "AccessDenied" else 404, code, code)
        return _give(readable[key], request.headers.get("range"))

    def _refuse(self, error: SignatureError) -> Answer:
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{error.code}</Code>'
            f"<Message>{escape(error.message)}</Message><Region>{self.region}</Region>"
            "<RequestId>0000000000000000</RequestId><HostId>stand-in</HostId></Error>"
        )
        return Answer(error.status, body.encode(), self._as_xml())

    def _as_xml(self) -> tuple[tuple[str, str], ...]:
        return (("Content-Type", "application/xml"), ("x-amz-bucket-region", self.region))

    def _location(self) -> Answer:
        text = f'<LocationConstraint xmlns="{_XMLNS}">{self.region}</LocationConstraint>'
        return Answer(200, text.encode(), self._as_xml())

    def _list(self, bucket: str, readable: Mapping[str, StoredObject], query: Mapping[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        contents, folders = [], set()
        for key, stored in sorted(readable.items()):
            below = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in below:
                folders.add(prefix + below.partition(delimiter)[0] + delimiter)
                continue
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_MODIFIED:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
                f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.body)}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        shown = "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(folders)
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<ListBucketResult xmlns="{_XMLNS}"><Name>{bucket}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><Delimiter>{escape(delimiter)}</Delimiter><MaxKeys>1000</MaxKeys>"
            f"<KeyCount>{len(contents) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
            f"{''.join(contents)}{shown}</ListBucketResult>"
        )
        return Answer(200, text.encode(), self._as_xml())


def _give(stored: StoredObject, wanted: str | None) -> Answer:
    headers = (
        ("Content-Type", "text/plain"),
        ("ETag", stored.etag),
        ("Last-Modified", _MODIFIED.strftime("%a, %d %b %Y %H:%M:%S GMT")),
        ("Accept-Ranges", "bytes"),
    )
    size = len(stored.body)
    match = _RANGE.fullmatch(wanted or "")
    if match is None or match.groups() == ("", ""):
        return Answer(200, stored.body, headers)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise SignatureError(416, "InvalidRange", "The requested range is not satisfiable")
    ranged = ("Content-Range", f"bytes {start}-{end}/{size}")
    return Answer(206, stored.body[start : end + 1], (*headers, ranged))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, s3: S3) -> None:
        self.s3 = s3
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known},{value}"
        answer = self.server.s3.answer(Request(self.command, self.path, headers, body))
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("x-amz-request-id", "0000000000000000")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815  names that http.server calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in http.server
        """Say nothing: the record has it."""


@contextmanager
def running_s3(ask_issued: Callable[[], list[IssuedSession]]) -> Iterator[S3]:
    """Run an S3 on a free port of loopback, on threads of this process, for the length of the block.

    `ask_issued` returns what STS has issued so far; it is asked when an unknown key comes.
    """
    s3 = S3(ask_issued)
    server = _Server(s3)
    s3.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(_POLL,), name="S3", daemon=True)
    thread.start()
    try:
        yield s3
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
