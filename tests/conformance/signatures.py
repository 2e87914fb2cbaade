"""What S3 checks of a signature, by hand: version 4 and 2, in a header or in the query.

Sources: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)" and "Signing and
Authenticating REST Requests" (version 2). Pure: the secret comes in, the verdict comes out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_SKEW = 15 * 60
"""Seconds between the request's time and ours."""

_AUTHORIZATION_4 = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<scope>[^,\s]+),\s*"
    r"SignedHeaders=(?P<signed>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_AUTHORIZATION_2 = re.compile(r"AWS (?P<key>[^:\s]+):(?P<signature>[A-Za-z0-9+/]{27}=)")
_HASH = re.compile(r"[0-9a-f]{64}")
_UNHASHED_PAYLOADS = frozenset(
    {
        "UNSIGNED-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    }
)
# "The list of sub-resources that must be included" and the response overrides.
_SIGNED_QUERY_2 = re.compile(
    r"acl|cors|delete|lifecycle|location|logging|notification|partNumber|policy|requestPayment|restore"
    r"|tagging|torrent|uploadId|uploads|versionId|versioning|versions|website|response-[a-z-]+"
)


@dataclass(frozen=True)
class SignatureError(Exception):
    """The request is refused; with S3's status and code."""

    status: int
    code: str
    message: str


@dataclass(frozen=True)
class Request:
    """A request as it came. Header names are in lower case."""

    method: str
    target: str
    """Path and query as they were sent."""
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def raw_path(self) -> str:
        """The path as it was sent."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's names and values, decoded, in the order in which they came."""
        return parse_qsl(self.target.partition("?")[2].replace("+", "%2B"), keep_blank_values=True)


@dataclass(frozen=True)
class Claim:
    """What a request says of itself before anything is checked."""

    kind: str
    """`v4`, `v4-query`, `v2` or `v2-query`."""
    access_key_id: str
    signature: str
    session_token: str | None
    region: str | None
    """Version 2 knows none."""
    scope: str = ""
    signed_headers: tuple[str, ...] = ()


def read_claim(request: Request) -> Claim:
    """Return the claim. Raises SignatureError when the request is unsigned, or signed in no known way."""
    query = dict(request.query)
    token = request.headers.get("x-amz-security-token", query.get("X-Amz-Security-Token"))
    authorization = request.headers.get("authorization", "")
    if match := _AUTHORIZATION_4.fullmatch(authorization):
        return _claim_4("v4", match["key"], match["scope"], match["signed"], match["signature"], token)
    if match := _AUTHORIZATION_2.fullmatch(authorization):
        return Claim("v2", match["key"], match["signature"], token, None)
    if authorization:
        raise SignatureError(400, "AuthorizationHeaderMalformed", "The authorization header is malformed")
    if query.get("X-Amz-Algorithm") == "AWS4-HMAC-SHA256":
        key, _, scope = query.get("X-Amz-Credential", "").partition("/")
        signed, signature = query.get("X-Amz-SignedHeaders", ""), query.get("X-Amz-Signature", "")
        return _claim_4("v4-query", key, scope, signed, signature, token)
    if "AWSAccessKeyId" in query and "Signature" in query:
        token = query.get("x-amz-security-token", token)
        return Claim("v2-query", query["AWSAccessKeyId"], query["Signature"], token, None)
    raise SignatureError(403, "AccessDenied", "Access Denied: the request is not signed")


def _claim_4(
    kind: str, access_key_id: str, scope: str, signed: str, signature: str, token: str | None
) -> Claim:
    parts = scope.split("/")
    if len(parts) != 4 or parts[2:] != ["s3", "aws4_request"]:
        raise SignatureError(400, "AuthorizationHeaderMalformed", f"The credential scope is wrong: {scope}")
    return Claim(kind, access_key_id, signature, token, parts[1], scope, tuple(signed.split(";")))


def check_signature(request: Request, claim: Claim, secret: str, now: datetime) -> None:
    """Return when the request was signed with this secret for this time. Raises SignatureError otherwise."""
    if claim.region is None:
        _check_time_2(request, claim, now)
        expected = _signature_2(request, claim, secret)
    else:
        amz_date = _check_time_4(request, claim, now)
        _check_signed_headers(request, claim)
        expected = _signature_4(request, claim, secret, amz_date, _payload_name(request, claim))
    if not hmac.compare_digest(expected, claim.signature):
        raise SignatureError(
            403, "SignatureDoesNotMatch", "The request signature we calculated does not match"
        )


def _check_time_4(request: Request, claim: Claim, now: datetime) -> str:
    query = dict(request.query)
    text = query.get("X-Amz-Date", "") if claim.kind == "v4-query" else request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureError(
            403, "AccessDenied", "AWS authentication requires a valid x-amz-date header"
        ) from None
    if claim.scope.partition("/")[0] != text[:8]:
        raise SignatureError(400, "AuthorizationHeaderMalformed", "The date in the scope is another")
    if claim.kind == "v4-query":
        age = (now - signed_at).total_seconds()
        if not -LARGEST_SKEW <= age <= int(query.get("X-Amz-Expires", "0")):
            raise SignatureError(403, "AccessDenied", "Request has expired")
    else:
        _check_skew(signed_at, now)
    return text


def _check_skew(signed_at: datetime, now: datetime) -> None:
    if abs((now - signed_at).total_seconds()) > LARGEST_SKEW:
        raise SignatureError(
            403, "RequestTimeTooSkewed", "The difference between the request time and ours is too large"
        )


def _check_signed_headers(request: Request, claim: Claim) -> None:
    must = {name for name in request.headers if name.startswith("x-amz-")} | {"host"}
    if claim.kind == "v4-query":
        must.discard("x-amz-content-sha256")
    if unsigned := must - set(claim.signed_headers):
        raise SignatureError(
            403, "AccessDenied", f"There were headers present which were not signed: {sorted(unsigned)}"
        )


def _payload_name(request: Request, claim: Claim) -> str:
    if claim.kind == "v4-query":
        return "UNSIGNED-PAYLOAD"
    name = request.headers.get("x-amz-content-sha256", "")
    if name in _UNHASHED_PAYLOADS:
        return name
    if not _HASH.fullmatch(name):
        raise SignatureError(400, "InvalidRequest", "x-amz-content-sha256 is missing or no hash")
    if name != hashlib.sha256(request.body).hexdigest():
        raise SignatureError(400, "XAmzContentSHA256Mismatch", "The body is another than was signed")
    return name


def _signature_4(request: Request, claim: Claim, secret: str, amz_date: str, payload: str) -> str:
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in request.query
        if not (claim.kind == "v4-query" and name == "X-Amz-Signature")
    )
    headers = [f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in claim.signed_headers]
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.raw_path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in query),
            "".join(headers),
            ";".join(claim.signed_headers),
            payload,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{amz_date}\n{claim.scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in claim.scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _check_time_2(request: Request, claim: Claim, now: datetime) -> None:
    if claim.kind == "v2-query":
        if int(dict(request.query).get("Expires", "0")) < now.timestamp():
            raise SignatureError(403, "AccessDenied", "Request has expired")
        return
    text = request.headers.get("x-amz-date", request.headers.get("date", ""))
    try:
        signed_at = parsedate_to_datetime(text)
    except ValueError:
        raise SignatureError(403, "AccessDenied", "AWS authentication requires a valid Date") from None
    _check_skew(signed_at if signed_at.tzinfo else signed_at.replace(tzinfo=UTC), now)


def _signature_2(request: Request, claim: Claim, secret: str) -> str:
    query = request.query
    amz = {name: value.strip() for name, value in request.headers.items() if name.startswith("x-amz-")}
    if claim.kind == "v2-query":
        amz |= {name.lower(): value for name, value in query if name.lower().startswith("x-amz-")}
        date = dict(query).get("Expires", "")
    else:
        date = "" if "x-amz-date" in amz else request.headers.get("date", "")
    resources = sorted((name, value) for name, value in query if _SIGNED_QUERY_2.fullmatch(name))
    to_sign = "\n".join(
        [
            request.method,
            request.headers.get("content-md5", ""),
            request.headers.get("content-type", ""),
            date,
            *(f"{name}:{amz[name]}" for name in sorted(amz)),
            request.raw_path
            + ("?" if resources else "")
            + "&".join(f"{name}={value}" if value else name for name, value in resources),
        ]
    )
    digest = hmac.digest(secret.encode(), to_sign.encode(), "sha1")
    return base64.b64encode(digest).decode()
