"""Tokens of workloads: signed, not stored, so they live through restarts and on every replica.

A token is `imds-proxy-workload2-`, its id as 16 hex digits, `-` and, in URL-safe base64 without padding:

    6 bytes       end of life, whole seconds UTC since 1970, big-endian
    1 + n bytes   the workload's name: how long it is, and the name
    1 byte        how many networks follow; none: good from anywhere
    6 or 18 each  a network: 4 or 6, its prefix length, its address
    32 bytes      BLAKE2b keyed with the key of workloads' tokens over the id's 8 bytes and all before

`person` (RFC 7693 section 2.8) keeps its signatures apart from those of other tokens under the same key.

A token of the old kind is `imds-proxy-workload-` and the same without an id: 4 random bytes follow its end.
It was signed with the key of IMDS tokens, verifies for a while, and is not made any more.
"""

from __future__ import annotations

import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, replace
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

from imds_proxy.imds_tokens import fit_key
from imds_proxy.names import parse_workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from imds_proxy.model import IPAddress

PREFIX = "imds-proxy-workload2-"
"""By which people and secret scanners know what they have found."""

OLD_PREFIX = "imds-proxy-workload-"

SHORTEST_LIFE = 60
LONGEST_LIFE = 365 * 86400
"""Seconds."""

MOST_NETWORKS = 16

_PERSON = b"workload token 2"
_OLD_PERSON = b"workload token"
_END_BYTES = 6
_OLD_RANDOM_BYTES = 4
_ID_BYTES = 8
ID_DIGITS = 2 * _ID_BYTES
_SIGNATURE_BYTES = 32
_PACKED_BYTES = {4: 4, 6: 16}
_LONGEST_NAME = 253
_MOST_BYTES = _END_BYTES + 1 + _LONGEST_NAME + 1 + MOST_NETWORKS * 18 + _SIGNATURE_BYTES
LONGEST_TOKEN = len(PREFIX) + ID_DIGITS + 1 + -(-_MOST_BYTES * 4 // 3)
"""Characters."""

IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: which workload shows it, from where it may, until when (seconds UTC since 1970)."""

    workload: str
    networks: tuple[IPNetwork, ...]
    """Empty: from anywhere."""
    end: int
    id: str | None = None
    """None: a token of the old kind, or one that is not made yet."""

    @property
    def is_for_anywhere(self) -> bool:
        """Whether all addresses of a family may show the token."""
        return not self.networks or any(network.prefixlen == 0 for network in self.networks)


class WorkloadTokens:
    """The keys of workloads' tokens, and what else decides whether a token counts.

    The first key signs, all verify, so that keys can be changed in peace.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        old_keys: Sequence[bytes] = (),
        old_until: float = 0.0,
        any_network: bool = False,
        revoked: AbstractSet[str] = frozenset(),
    ) -> None:
        """`old_keys` verify tokens of the old kind before `old_until` (seconds UTC since 1970).

        With `any_network` a token may be good from anywhere. `revoked` are ids of tokens.
        """
        if not keys:
            raise ValueError("at least one token key is needed")
        self._keys = [fit_key(key) for key in keys]
        self._old_keys = [fit_key(key) for key in old_keys]
        self._old_until = old_until
        self._any_network = any_network
        self._revoked = revoked

    def issue(self, claims: Claims) -> str:
        """Return a token with an id of its own. Raises ValueError for claims that no token may have."""
        if parse_workload(claims.workload) != claims.workload:
            raise ValueError(f"{claims.workload!r} is no workload's name")
        if len(claims.networks) > MOST_NETWORKS:
            raise ValueError(f"{len(claims.networks)} networks, {MOST_NETWORKS} at most")
        claims = replace(claims, networks=_join(claims.networks))
        if claims.is_for_anywhere and not self._any_network:
            raise ValueError(
                "networks: a token needs those from which it is good (--from NETWORK, all of them together "
                "less than everything), unless tokens.any_network is true"
            )
        token_id = os.urandom(_ID_BYTES)
        body = claims.end.to_bytes(_END_BYTES, "big") + _pack(claims)
        signature = _sign(self._keys[0], token_id + body, _PERSON)
        return f"{PREFIX}{token_id.hex()}-{_encode(body + signature)}"

    def claims_of(self, token: str, address: IPAddress, now: float) -> Claims | None:
        """Return what `token` says, shown from `address` at `now`; None when it is not good there."""
        if len(token) > LONGEST_TOKEN:
            return None
        claims = self._read(token) if token.startswith(PREFIX) else self._read_old(token, now)
        if claims is None or now >= claims.end:
            return None
        if claims.id is not None and claims.is_for_anywhere and not self._any_network:
            return None
        if claims.networks and not any(address in network for network in claims.networks):
            return None
        return claims

    def is_revoked(self, claims: Claims) -> bool:
        """Tell whether a token was taken back before its end."""
        return claims.id in self._revoked

    def _read(self, token: str) -> Claims | None:
        written_id, _, text = token[len(PREFIX) :].partition("-")
        token_id = _parse_id(written_id)
        body = None if token_id is None else _verify(text, self._keys, _PERSON, token_id)
        return None if body is None else _unpack(body, skipped=0, token_id=written_id)

    def _read_old(self, token: str, now: float) -> Claims | None:
        if not token.startswith(OLD_PREFIX) or now >= self._old_until:
            return None
        body = _verify(token[len(OLD_PREFIX) :], self._old_keys, _OLD_PERSON)
        return None if body is None else _unpack(body, skipped=_OLD_RANDOM_BYTES, token_id=None)


def id_of(token: str) -> str:
    """Return the id of a token that `issue` has made."""
    return token[len(PREFIX) :][:ID_DIGITS]


def _parse_id(text: str) -> bytes | None:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return raw if len(raw) == _ID_BYTES and raw.hex() == text else None


def _join(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Return the same addresses in as few networks as can be: two halves of everything are everything."""
    fours = collapse_addresses(one for one in networks if isinstance(one, IPv4Network))
    sixes = collapse_addresses(one for one in networks if isinstance(one, IPv6Network))
    return (*fours, *sixes)


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    """Return what `text` stands for, b"" for what `_encode` would not write: a token has one spelling."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return b""
    return raw if _encode(raw) == text else b""


def _sign(key: bytes, body: bytes, person: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_SIGNATURE_BYTES, person=person).digest()


def _verify(text: str, keys: Iterable[bytes], person: bytes, token_id: bytes = b"") -> bytes | None:
    """Return the body in `text`, None unless one of the keys has signed it together with the id."""
    raw = _decode(text)
    body, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
    if any(hmac.compare_digest(_sign(key, token_id + body, person), signature) for key in keys):
        return body
    return None


def _pack(claims: Claims) -> bytes:
    name = claims.workload.encode("ascii")
    networks = b"".join(
        bytes((network.version, network.prefixlen)) + network.network_address.packed
        for network in claims.networks
    )
    return b"".join((bytes((len(name),)), name, bytes((len(claims.networks),)), networks))


def _unpack(body: bytes, *, skipped: int, token_id: str | None) -> Claims:
    """Return the claims in a body that our own key has signed, so it is as we have written it."""
    end = int.from_bytes(body[:_END_BYTES], "big")
    start = _END_BYTES + skipped + 1
    stop = start + body[start - 1]
    workload = body[start:stop].decode("ascii")
    networks: list[IPNetwork] = []
    rest = body[stop + 1 :]
    while rest:
        version, length = rest[0], rest[1]
        packed, rest = rest[2 : 2 + _PACKED_BYTES[version]], rest[2 + _PACKED_BYTES[version] :]
        networks.append(IPv4Network((packed, length)) if version == 4 else IPv6Network((packed, length)))
    return Claims(workload, tuple(networks), end, token_id)
