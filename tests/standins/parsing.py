"""aiohttp's own parser, under the settings that the daemon gives it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from imds_proxy.web.edge.budgets import MAX_FIELD_BYTES

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage


def parse_with_aiohttp(head: bytes) -> RawRequestMessage | None:
    """Return the one request that a head is to aiohttp, None if it takes it for none, or for several."""
    loop = asyncio.new_event_loop()
    try:
        parser = cast("Any", HttpRequestParser)(
            BaseProtocol(loop),
            loop,
            2**16,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            auto_decompress=False,
        )
        messages, _, _ = parser.feed_data(head)
    except HttpProcessingError:
        return None
    finally:
        loop.close()
    return messages[0][0] if len(messages) == 1 else None
