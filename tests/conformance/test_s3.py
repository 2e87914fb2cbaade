"""The receiving S3 is a judge: it takes what botocore signs with good credentials, and nothing else."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from botocore.auth import BaseSigner, HmacV1Auth, HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.conformance.s3 import S3, running_s3
from tests.standins.aws_process import IssuedSession
from tests.standins.daemon import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET, KEY, BODY = "some-bucket", "some folder/a+b=c ä.txt", "what is in it"
QUOTED_KEY = "some%20folder/a%2Bb%3Dc%20%C3%A4.txt"
ROLE_ARN = "arn:aws:iam::000123456789:role/reader"
READER = IssuedSession(
    "ASIAREADER", "secret-of-reader", "token/of+reader==", time.time() + 6 * 3600, ROLE_ARN, "host1"
)
FOREIGNER = replace(
    READER, access_key_id="ASIAFOREIGN", role_arn="arn:aws:iam::000123456789:role/other", session_token="t2"
)
EXPIRED = replace(READER, access_key_id="ASIAEXPIRED", expires_at=time.time() - 1)

_DIRECT = build_opener(ProxyHandler({}))

KINDS: dict[str, Callable[[Credentials, str], BaseSigner]] = {
    "v4": lambda credentials, region: S3SigV4Auth(credentials, "s3", region),
    "v4-query": lambda credentials, region: S3SigV4QueryAuth(credentials, "s3", region),
    "v2": lambda credentials, _: HmacV1Auth(credentials),
    "v2-query": lambda credentials, _: HmacV1QueryAuth(credentials),
}


@pytest.fixture
def s3() -> Iterator[S3]:
    with running_s3(lambda: [READER, FOREIGNER, EXPIRED]) as s3:
        s3.put(BUCKET, KEY, BODY, ROLE_ARN)
        s3.put(BUCKET, "of-another.txt", "not for the reader", FOREIGNER.role_arn)
        yield s3


def sign(
    s3: S3,
    session: IssuedSession = READER,
    *,
    kind: str = "v4",
    path: str = f"/{BUCKET}/{QUOTED_KEY}",
    method: str = "GET",
    region: str = REGION,
    headers: dict[str, str] | None = None,
) -> Request:
    """Return a request that botocore has signed with a session."""
    token = session.session_token or None
    credentials = Credentials(session.access_key_id, session.secret_access_key, token)
    request = AWSRequest(method, s3.endpoint + path, headers={"X-Amz-Meta-Note": "a  b", **(headers or {})})
    if not kind.startswith("v2"):  # version 2 signs the resource; what botocore adds for 4 is not its own
        request.context["payload_signing_enabled"] = True
    KINDS[kind](credentials, region).add_auth(request)
    prepared = request.prepare()
    return Request(prepared.url, headers=dict(prepared.headers.items()), method=method)


def send(request: Request) -> tuple[int, str]:
    """Return the status, and the body or the code of the error."""
    try:
        with _DIRECT.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            found = re.search("<Code>(.*)</Code>", error.read().decode())
        return error.code, found.group(1) if found else ""


@pytest.mark.parametrize("kind", KINDS)
def test_good_signature_is_taken(s3: S3, kind: str) -> None:
    """The object comes, and the record says whose session asked and how."""
    assert send(sign(s3, kind=kind)) == (200, BODY)
    (seen,) = s3.requests
    assert (seen.signature, seen.outcome, seen.path) == (kind, "ok", f"/{BUCKET}/{KEY}")
    assert (seen.access_key_id, seen.role_arn, seen.session_name) == ("ASIAREADER", ROLE_ARN, "host1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("session", "refusal"),
    [
        (replace(READER, secret_access_key="secret-of-readeR"), (403, "SignatureDoesNotMatch")),
        (replace(READER, session_token="token/of+nobody=="), (400, "InvalidToken")),
        (replace(READER, session_token=FOREIGNER.session_token), (400, "InvalidToken")),
        (replace(READER, session_token=""), (403, "InvalidAccessKeyId")),
        (replace(READER, access_key_id="ASIANOBODY"), (403, "InvalidAccessKeyId")),
        (EXPIRED, (400, "ExpiredToken")),
        (FOREIGNER, (403, "AccessDenied")),
    ],
    ids=["secret", "token", "token of another", "no token", "unknown key", "expired", "foreign role"],
)
def test_bad_credentials_are_refused(
    s3: S3, kind: str, session: IssuedSession, refusal: tuple[int, str]
) -> None:
    """Each part of the credentials counts, however they are used."""
    assert send(sign(s3, session, kind=kind)) == refusal
    assert [seen.outcome for seen in s3.requests] == [refusal[1]]


def test_unsigned_request_is_refused(s3: S3) -> None:
    assert send(Request(f"{s3.endpoint}/{BUCKET}/{QUOTED_KEY}")) == (403, "AccessDenied")
    assert [seen.signature for seen in s3.requests] == [None]


@pytest.mark.parametrize("kind", KINDS)
def test_signature_holds_for_one_path(s3: S3, kind: str) -> None:
    """A signature for one object is none for another."""
    request = sign(s3, FOREIGNER, kind=kind)
    request.full_url = request.full_url.replace(QUOTED_KEY, "of-another.txt")
    assert send(request) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("kind", "minutes", "refusal"),
    [
        ("v4", 15, (403, "RequestTimeTooSkewed")),
        ("v2", 15, (403, "RequestTimeTooSkewed")),
        ("v4-query", 60, (403, "AccessDenied")),
        ("v2-query", 60, (403, "AccessDenied")),
    ],
)
def test_signature_holds_for_its_time(s3: S3, kind: str, minutes: int, refusal: tuple[int, str]) -> None:
    """A request holds for a quarter of an hour, a URL for as long as it says, an hour here."""
    request = sign(s3, kind=kind)
    s3.set_clock_ahead(timedelta(minutes=minutes - 1))
    assert send(request) == (200, BODY)
    s3.set_clock_ahead(timedelta(minutes=minutes + 1))
    assert send(request) == refusal


@pytest.mark.parametrize("kind", KINDS)
def test_keys_end_with_the_clock(kind: str) -> None:
    """Keys that were good end at their time, whatever is signed with them."""
    session = replace(READER, expires_at=time.time() + 600)
    with running_s3(lambda: [session]) as s3:
        s3.put(BUCKET, KEY, BODY, ROLE_ARN)
        assert send(sign(s3, session, kind=kind)) == (200, BODY)
        s3.set_clock_ahead(timedelta(minutes=11))
        assert send(sign(s3, session, kind=kind)) == (400, "ExpiredToken")


def test_header_that_is_not_signed_is_refused(s3: S3) -> None:
    request = sign(s3)
    request.add_header("x-amz-acl", "public-read")
    assert send(request) == (403, "AccessDenied")


def test_body_must_be_the_signed_one(s3: S3) -> None:
    request = sign(s3)
    request.data = b"something"
    assert send(request) == (400, "XAmzContentSHA256Mismatch")


@pytest.mark.parametrize("kind", ["v4", "v4-query"])
def test_other_region_is_refused_and_told(s3: S3, kind: str) -> None:
    """As S3 does: the error has the right region, and the location may be asked from any."""
    assert send(sign(s3, kind=kind, region="us-east-1")) == (400, "AuthorizationHeaderMalformed")
    status, text = send(sign(s3, kind=kind, region="us-east-1", path=f"/{BUCKET}?location="))
    assert (status, REGION in text) == (200, True)


def test_listing_shows_what_the_role_may_read(s3: S3) -> None:
    _, text = send(sign(s3, path=f"/{BUCKET}?delimiter=%2F&list-type=2&prefix=some%20folder%2F"))
    assert re.findall("<Key>(.*?)</Key>", text) == [KEY]
    _, text = send(sign(s3, path=f"/{BUCKET}?delimiter=%2F&prefix="))
    assert re.findall("<Key>(.*?)</Key>", text) == []
    assert re.findall("<CommonPrefixes><Prefix>(.*?)</Prefix>", text) == ["some folder/"]


@pytest.mark.parametrize(
    ("wanted", "part"), [("bytes=0-3", "what"), ("bytes=8-", "in it"), ("bytes=-2", "it")]
)
def test_range_is_served(s3: S3, wanted: str, part: str) -> None:
    assert send(sign(s3, headers={"Range": wanted})) == (206, part)


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("GET", f"/{BUCKET}/nothing", (404, "NoSuchKey")),
        ("GET", f"/{BUCKET}/of-another.txt", (403, "AccessDenied")),
        ("GET", "/no-bucket/x", (404, "NoSuchBucket")),
        ("DELETE", f"/{BUCKET}/{QUOTED_KEY}", (405, "MethodNotAllowed")),
        ("HEAD", f"/{BUCKET}/nothing", (404, "")),
    ],
)
def test_what_is_not_there_is_said(s3: S3, method: str, path: str, refusal: tuple[int, str]) -> None:
    assert send(sign(s3, method=method, path=path)) == refusal
