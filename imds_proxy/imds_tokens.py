"""IMDS tokens: signed, not stored, so they live through restarts and on every replica with the same key.

A token is 42 bytes, written as 56 characters of URL-safe base64 as EC2's are:

    6 bytes   end of life, whole seconds UTC since 1970, big-endian
    4 bytes   counted on from a random number, so that no two tokens are equal
    32 bytes  BLAKE2b keyed with the token key over the ten bytes before and the caller's address

Nothing can be evicted by whoever asks for many, and a token is worthless from another address.
"""

from __future__ import annotations

import hmac
import os
from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imds_proxy.model import IPAddress

SHORTEST_LIFE = 1
LONGEST_LIFE = 21600
"""Six hours, in seconds: AWS, "Instance Metadata Service Version 2"."""

_MOST_DIGITS = 20
TOKEN_CHARACTERS = 56
_STAMP_BYTES = 10
_END_BYTES = 6
_SERIAL_BYTES = _STAMP_BYTES - _END_BYTES
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_LONGEST_BLAKE2B_KEY = 64


def parse_life(text: str) -> int | None:
    """Return the seconds that a TTL header asks for, or None when EC2 would answer 400.

    Only ASCII digits: `int()` would take `+5`, ` 5`, `5_0` and Arabic digits as well.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        return None
    life = int(text)
    return life if SHORTEST_LIFE <= life <= LONGEST_LIFE else None


def fit_key(key: bytes) -> bytes:
    """Return the key as BLAKE2b takes it: 64 bytes at most (RFC 7693 section 2.1)."""
    return key if len(key) <= _LONGEST_BLAKE2B_KEY else blake2b(key).digest()


class TokenKeys:
    """The keys of IMDS tokens. The first signs, all verify, so that keys can be changed without a break."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("at least one token key is needed")
        self._keys = [fit_key(key) for key in keys]
        self._serials = count(int.from_bytes(os.urandom(_SERIAL_BYTES), "big"))

    def issue(self, address: IPAddress, life: int, now: float) -> str:
        """Return a token for the caller at `address`, good for `life` seconds from `now`."""
        serial = next(self._serials) % (1 << 8 * _SERIAL_BYTES)
        stamp = (int(now) + life).to_bytes(_END_BYTES, "big") + serial.to_bytes(_SERIAL_BYTES, "big")
        raw = stamp + _sign(self._keys[0], stamp, address)
        return b2a_base64(raw, newline=False).translate(_TO_URL_SAFE).decode("ascii")

    def end_of(self, token: str, address: IPAddress) -> int | None:
        """Return when a token of `address` ends (seconds UTC since 1970); None: it is not one of ours."""
        # The ordinary alphabet of base64 is not taken as well: a token has one spelling only.
        if len(token) != TOKEN_CHARACTERS or "+" in token or "/" in token:
            return None
        try:
            raw = a2b_base64(token.replace("-", "+").replace("_", "/"), strict_mode=True)
        except ValueError:
            return None
        stamp, signature = raw[:_STAMP_BYTES], raw[_STAMP_BYTES:]
        for key in self._keys:
            if hmac.compare_digest(_sign(key, stamp, address), signature):
                return int.from_bytes(stamp[:_END_BYTES], "big")
        return None

    def remaining_life(self, token: str, address: IPAddress, now: float) -> int | None:
        """Return how many seconds the token is still good from `address`; None when it is not."""
        end = self.end_of(token, address)
        return None if end is None else remaining_life(end, now)


def remaining_life(end: int, now: float) -> int | None:
    """Return how many seconds a token is still good that ends at `end`; None when it has ended."""
    remaining = end - int(now)
    # A clock that was set back makes an old token look longer than any may be.
    return min(remaining, LONGEST_LIFE) if remaining > 0 else None


def _sign(key: bytes, stamp: bytes, address: IPAddress) -> bytes:
    return blake2b(stamp + address.packed, key=key, digest_size=32).digest()
