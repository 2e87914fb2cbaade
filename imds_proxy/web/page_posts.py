"""What the page posts: which role it wants, and the token that shows that it is the page."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web

from imds_proxy.web.edge.handover import BodyTooLargeError
from imds_proxy.web.people_answers import Denial

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BODY_BYTES = 16 << 10
BODY_SECONDS = 10.0
"""For which a body may take to arrive."""

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_FIELDS = ("account", "role", "token")


async def read_post(request: web.BaseRequest) -> Mapping[str, str]:
    """Return the fields account, role and token of a request. Raises Denial."""
    kind = request.content_type
    if kind not in (_FORM, _JSON) or "Content-Encoding" in request.headers:
        raise Denial(415, f"The body must be {_FORM} or {_JSON}")
    body = await _read_body(request)
    try:
        return parse_post(body, is_json=kind == _JSON)
    except ValueError:
        raise Denial(400, f"The body must have {', '.join(_FIELDS)}, each once") from None


def parse_post(body: bytes, *, is_json: bool) -> Mapping[str, str]:
    """Return the fields of a body. Raises ValueError unless all of them are there, once, as texts."""
    pairs = _json_pairs(body) if is_json else _form_pairs(body)
    fields = {name: value for name, value in pairs if isinstance(value, str)}
    if len(pairs) != len(_FIELDS) or set(fields) != set(_FIELDS):
        raise ValueError("other fields")
    return fields


def _form_pairs(body: bytes) -> list[tuple[str, object]]:
    text = body.decode("ascii")
    return [*parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=len(_FIELDS))]


def _json_pairs(body: bytes) -> list[tuple[str, object]]:
    try:
        # As pairs, so that a field that comes twice is seen.
        found: object = json.loads(body.decode("utf-8"), object_pairs_hook=tuple)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, tuple):
        raise ValueError("no object")  # noqa: TRY004  whatever is wrong with a body is a ValueError
    return [*found]


async def _read_body(request: web.BaseRequest) -> bytes:
    too_long = Denial(413, f"The body has more than {MOST_BODY_BYTES} bytes", ends_connection=True)
    if (request.content_length or 0) > MOST_BODY_BYTES:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MOST_BODY_BYTES:
                    raise too_long
    except BodyTooLargeError:
        raise too_long from None
    except TimeoutError:
        raise Denial(408, "The body did not come in time", ends_connection=True) from None
    except web.RequestPayloadError:
        raise Denial(400, "The body can't be read", ends_connection=True) from None
    return bytes(body)
