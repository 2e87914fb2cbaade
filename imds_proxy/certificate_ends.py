"""When a certificate or a CRL ends. The standard library tells that of authorities only: DER is read here.

RFC 5280 section 4.1: Certificate ::= SEQUENCE { tbsCertificate ::= SEQUENCE { [0] version, serialNumber,
signature, issuer, validity ::= SEQUENCE { notBefore, notAfter } ... } ... }

Section 5.1: CertificateList ::= SEQUENCE { tbsCertList ::= SEQUENCE { version OPTIONAL, signature, issuer,
thisUpdate, nextUpdate OPTIONAL, ... } ... }
"""

from __future__ import annotations

import base64
import re
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CRL = re.compile("-----BEGIN X509 CRL-----(.+?)-----END X509 CRL-----", re.DOTALL)
_SEQUENCE, _VERSION, _INTEGER, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x02, 0x17, 0x18
_LONG_FORM = 0x80


class _Element(NamedTuple):
    tag: int
    content: bytes
    rest: bytes


def read_end(pem: str) -> float:
    """Return when the first certificate of a PEM file ends, seconds UTC. Raises ValueError."""
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("has no certificate in PEM")
    try:
        certificate = _take(ssl.PEM_cert_to_DER_cert(match.group()), _SEQUENCE)
        fields = _take(certificate.content, _SEQUENCE).content
        if fields[:1] == bytes([_VERSION]):
            fields = _take(fields).rest
        for _ in ("serialNumber", "signature", "issuer"):
            fields = _take(fields).rest
        return _read_time(_take(_take(_take(fields, _SEQUENCE).content).rest))
    except (IndexError, ValueError) as error:
        raise ValueError("has a certificate that can't be read") from error


def read_crl_end(pem: str) -> float | None:
    """Return when the first of the CRLs in a PEM file ends, seconds UTC; None: none says when.

    Raises ValueError.
    """
    found = _CRL.findall(pem)
    if not found:
        raise ValueError("has no CRL in PEM")
    try:
        ends = [_read_next_update(base64.b64decode(text)) for text in found]
    except (IndexError, ValueError) as error:
        raise ValueError("has a CRL that can't be read") from error
    return min((end for end in ends if end is not None), default=None)


def _read_next_update(der: bytes) -> float | None:
    fields = _take(_take(der, _SEQUENCE).content, _SEQUENCE).content
    if fields[0] == _INTEGER:
        fields = _take(fields).rest
    for _ in ("signature", "issuer", "thisUpdate"):
        fields = _take(fields).rest
    has_end = fields[:1] in (bytes([_UTC_TIME]), bytes([_GENERALIZED_TIME]))
    return _read_time(_take(fields)) if has_end else None


def _read_time(element: _Element) -> float:
    text = element.content.decode("ascii")
    if element.tag == _UTC_TIME:  # two digits: 50 to 99 are of the last century (section 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _take(data: bytes, tag: int | None = None) -> _Element:
    """Return the first element of DER (X.690 section 8.1) and what follows it."""
    if tag is not None and data[0] != tag:
        raise ValueError("another element")
    length, start = data[1], 2
    if length & _LONG_FORM:
        start += length & ~_LONG_FORM
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut short")
    return _Element(data[0], data[start : start + length], data[start + length :])
