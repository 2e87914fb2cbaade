"""Answers for people: their headers, JSON, errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from imds_proxy.web.answer import Answer, Page, Reply
from imds_proxy.web.page import CONTENT_SECURITY_POLICY, CONTENT_TYPE, render_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imds_proxy.model import Credentials
    from imds_proxy.web.page import Row

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

_ON_EVERY_ANSWER = (
    "Cache-Control: no-store",
    f"Content-Security-Policy: {CONTENT_SECURITY_POLICY}",
    "Cross-Origin-Opener-Policy: same-origin",
    "Cross-Origin-Resource-Policy: same-origin",
    "Referrer-Policy: no-referrer",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
)

STRICT_TRANSPORT = b"Strict-Transport-Security: max-age=31536000\r\n"
"""Header line for answers over TLS (RFC 6797): for a year the browser asks this host by https alone."""

# What a header may hold as it is; the percent sign is escaped too, so that the name can be read back.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class Denial(Exception):
    """An error as the answer. `message` is for the caller: what helps them, no reasons of ours."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        ends_connection: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
        self.ends_connection = ends_connection


def answer_with(
    status: int,
    body: bytes | None,
    content_type: str,
    *,
    user: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return an answer with the headers that all have; `body` None where a HEAD leaves it unmade."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *_ON_EVERY_ANSWER]
    lines.append(f"Content-Type: {content_type}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if user is not None:
        lines.append(f"X-Username: {quote(user, safe=_PLAIN)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = "\r\n".join(lines).encode("ascii") + b"\r\n"
    return Answer(Reply(Page(status, head, body or b"")))


def answer_with_json(values: object, *, user: str | None = None) -> Answer:
    """Return values as JSON, with 200."""
    return answer_with(200, json.dumps(values).encode("ascii"), JSON, user=user)


def answer_to_denial(denial: Denial, *, user: str | None = None, is_page: bool = False) -> Answer:
    """Return an error as JSON in the form that `afp` reads, or as a page to look at."""
    status = HTTPStatus(denial.status)
    if is_page:
        body, content_type = render_problem(status.phrase, denial.message), CONTENT_TYPE
    else:
        values = {"status": int(status), "error": f"{int(status)} {status.phrase}", "message": denial.message}
        body, content_type = json.dumps(values).encode("ascii"), JSON
    answer = answer_with(status, body, content_type, user=user, headers=denial.headers)
    if denial.ends_connection:
        answer.force_close()
    return answer


def accounts_document(rows: Iterable[Row], *, with_id: bool, with_reason: bool) -> dict[str, Any]:
    """Return the roles of each account: the AWS Federation Proxy's list of names, or what else was asked for.

    With the id an account is `{"id": ..., "roles": [...]}`. With the reasons, which the AWS Federation Proxy
    does not tell, it has the id, too, and each role is `{"role": ..., "reason": ...}`.
    """
    accounts: dict[str, list[Row]] = {}
    for row in rows:
        accounts.setdefault(row.account, []).append(row)
    if not (with_id or with_reason):
        return {account: [row.role for row in its_rows] for account, its_rows in accounts.items()}
    return {
        account: {
            "id": its_rows[0].account_id,
            "roles": [
                {"role": row.role, "reason": row.reason} if with_reason else row.role for row in its_rows
            ],
        }
        for account, its_rows in accounts.items()
    }


def credential_document(credentials: Credentials) -> dict[str, str | None]:
    """Return credentials as the AWS Federation Proxy has them: one flat object."""
    received = datetime.fromtimestamp(credentials.received, UTC)
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key,
        "SecretAccessKey": credentials.secret_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expiration,
        "LastUpdated": received.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
