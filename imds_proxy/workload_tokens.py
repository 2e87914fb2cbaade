"""Tokens of workloads: signed, not stored, so they live through restarts and on every replica.

A token is `imds-proxy-workload-` and, in URL-safe base64 without padding:

    6 bytes       end of life, whole seconds UTC since 1970, big-endian
    4 bytes       random, so that no two tokens are equal
    1 + n bytes   the workload's name: how long it is, and the name
    1 byte        how many networks follow; none: good from anywhere
    6 or 18 each  a network: 4 or 6, its prefix length, its address
    32 bytes      BLAKE2b keyed with the token key over all before

`person` (RFC 7693 section 2.8) keeps its signatures apart from those of other tokens under the same key.
"""

from __future__ import annotations

import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from imds_proxy.imds_tokens import fit_key
from imds_proxy.names import parse_workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imds_proxy.model import IPAddress

PREFIX = "imds-proxy-workload-"
"""By which people and secret scanners know what they have found."""

SHORTEST_LIFE = 60
LONGEST_LIFE = 365 * 86400
"""Seconds."""

MOST_NETWORKS = 16

_PERSON = b"workload token"
_END_BYTES = 6
_STAMP_BYTES = 10
_SIGNATURE_BYTES = 32
_PACKED_BYTES = {4: 4, 6: 16}
_LONGEST_NAME = 253
_MOST_BYTES = _STAMP_BYTES + 1 + _LONGEST_NAME + 1 + MOST_NETWORKS * 18 + _SIGNATURE_BYTES
LONGEST_TOKEN = len(PREFIX) + -(-_MOST_BYTES * 4 // 3)
"""Characters."""

IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: which workload shows it, from where it may, until when (seconds UTC since 1970)."""

    workload: str
    networks: tuple[IPNetwork, ...]
    """Empty: from anywhere."""
    end: int


class WorkloadTokens:
    """The keys of workloads' tokens. The first signs, all verify, so that keys can be changed in peace."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("at least one token key is needed")
        self._keys = [fit_key(key) for key in keys]

    def issue(self, claims: Claims) -> str:
        """Return a token. Raises ValueError for a name that is no workload's, or too many networks."""
        if parse_workload(claims.workload) != claims.workload:
            raise ValueError(f"{claims.workload!r} is no workload's name")
        if len(claims.networks) > MOST_NETWORKS:
            raise ValueError(f"{len(claims.networks)} networks, {MOST_NETWORKS} at most")
        name = claims.workload.encode("ascii")
        stamp = claims.end.to_bytes(_END_BYTES, "big") + os.urandom(_STAMP_BYTES - _END_BYTES)
        networks = b"".join(
            bytes((network.version, network.prefixlen)) + network.network_address.packed
            for network in claims.networks
        )
        body = b"".join((stamp, bytes((len(name),)), name, bytes((len(claims.networks),)), networks))
        return PREFIX + _encode(body + _sign(self._keys[0], body))

    def workload_of(self, token: str, address: IPAddress, now: float) -> str | None:
        """Return which workload shows `token` from `address` at `now`; None when it is not good there."""
        claims = self._claims_of(token)
        if claims is None or now >= claims.end:
            return None
        if claims.networks and not any(address in network for network in claims.networks):
            return None
        return claims.workload

    def _claims_of(self, token: str) -> Claims | None:
        if len(token) > LONGEST_TOKEN or not token.startswith(PREFIX):
            return None
        raw = _decode(token[len(PREFIX) :])
        body, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if not any(hmac.compare_digest(_sign(key, body), signature) for key in self._keys):
            return None
        return _read_claims(body)


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    """Return what `text` stands for, b"" for what `_encode` would not write: a token has one spelling."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return b""
    return raw if _encode(raw) == text else b""


def _sign(key: bytes, body: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_SIGNATURE_BYTES, person=_PERSON).digest()


def _read_claims(body: bytes) -> Claims:
    """Return the claims in a body that our own key has signed, so it is as `issue` wrote it."""
    end = int.from_bytes(body[:_END_BYTES], "big")
    start = _STAMP_BYTES + 1
    stop = start + body[_STAMP_BYTES]
    workload = body[start:stop].decode("ascii")
    networks: list[IPNetwork] = []
    rest = body[stop + 1 :]
    while rest:
        version, length = rest[0], rest[1]
        packed, rest = rest[2 : 2 + _PACKED_BYTES[version]], rest[2 + _PACKED_BYTES[version] :]
        networks.append(IPv4Network((packed, length)) if version == 4 else IPv6Network((packed, length)))
    return Claims(workload, tuple(networks), end)
