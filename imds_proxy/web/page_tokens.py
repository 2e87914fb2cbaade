"""The tokens of the page: who shows one has read our page as that user, which no other site's page can."""

from __future__ import annotations

import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from functools import cache
from hashlib import blake2b

PAGE_TOKEN_LIFE = 12 * 3600
"""Seconds for which an open page can be used."""

_END_BYTES = 6
_SIGNATURE_BYTES = 24
_CHARACTERS = 40
_KEY_BYTES = 32


class PageTokens:
    """Signed, not stored: a keyed hash over the user and the end of life."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, user: str, now: float) -> str:
        """Return a token for `user` that is good for 12 hours from `now` (seconds UTC since 1970)."""
        end = (int(now) + PAGE_TOKEN_LIFE).to_bytes(_END_BYTES, "big")
        return urlsafe_b64encode(end + self._sign(end, user)).decode("ascii")

    def is_good(self, token: str, user: str, now: float) -> bool:
        """Tell whether `token` was issued to `user` and has not ended."""
        # The decoder takes the ordinary alphabet as well; a token has one spelling only.
        if len(token) != _CHARACTERS or "+" in token or "/" in token:
            return False
        try:
            raw = urlsafe_b64decode(token)
        except (Base64Error, ValueError):
            return False
        end, signature = raw[:_END_BYTES], raw[_END_BYTES:]
        if not hmac.compare_digest(self._sign(end, user), signature):
            return False
        remaining = int.from_bytes(end, "big") - now
        # A clock that was set back makes an old token look longer than any may be.
        return 0 < remaining <= PAGE_TOKEN_LIFE

    def _sign(self, end: bytes, user: str) -> bytes:
        return blake2b(
            end + user.encode("utf-8"), key=self._key, digest_size=_SIGNATURE_BYTES, person=b"page token"
        ).digest()


@cache
def process_page_tokens() -> PageTokens:
    """Return the tokens of this process: they outlive a reload, not a restart."""
    return PageTokens(os.urandom(_KEY_BYTES))
