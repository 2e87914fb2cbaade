"""Tokens of workloads of the old kind, as releases before the key of their own have made them."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.workload_tokens import Claims


def issue_old_token(key: bytes, claims: Claims, *, person: bytes = b"workload token") -> str:
    """Return a token of the old kind, signed with `key`."""
    name = claims.workload.encode()
    body = claims.end.to_bytes(6, "big") + b"rand" + bytes((len(name),)) + name
    body += bytes((len(claims.networks),))
    for network in claims.networks:
        body += bytes((network.version, network.prefixlen)) + network.network_address.packed
    signed = body + blake2b(body, key=key, digest_size=32, person=person).digest()
    return "imds-proxy-workload-" + urlsafe_b64encode(signed).decode().rstrip("=")
