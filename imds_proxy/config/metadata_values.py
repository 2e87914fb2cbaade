"""Texts of the `metadata` section to values. All raise ValueError saying what to write instead."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from imds_proxy import naming
from imds_proxy.config.aws_values import parse_region
from imds_proxy.metadata import entries
from imds_proxy.metadata.templates import literal, parse_template
from imds_proxy.names import AllowedDomains
from imds_proxy.yaml_source import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.metadata.templates import Template

_SAMPLE = {
    "name": "tuvfoo42.valid.example",
    "host": "tuvfoo42",
    "domain": "valid.example",
    "address": "10.77.3.9",
    "region": "eu-central-1",
    "role": "role",
    "account": "main",
    "account_id": "000123456789",
    "instance_id": "i-0123456789abcdef0",
}
"""What is put in to see whether the text around the placeholders is one that can be served."""

_MAC = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}")
_KEY_NAME = re.compile(r"[A-Za-z0-9+._,:@-]{1,255}")
_KEY_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+")
_LONGEST_KEY = 16_384
_HIGHEST_INDEX = 65_535


def parse_value(key: str) -> Callable[[str], Template]:
    """Return what reads the template of a level's `key`."""
    is_fit, rule = entries.rule_of(key)

    def parse(text: str) -> Template:
        template = parse_template(text)
        if key in template.placeholders:
            raise ValueError(f"{{{key}}} stands for what this is to say")
        sample = template.fill(_SAMPLE)
        if sample is None or not is_fit(sample):
            raise ValueError(f"{quoted(text)} is not fit for this: {rule}")
        return template

    return parse


def parse_metadata_region(text: str) -> Template:
    """Return the name of a region, which has no placeholders: the others are made of it."""
    return literal(parse_region(text))


def parse_launch_index(text: str) -> Template:
    """Return a number of 0 or more."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST_INDEX))):
        raise ValueError(f"{quoted(text)} is not a number such as 0")
    if int(text) > _HIGHEST_INDEX:
        raise ValueError(f"{text} is more than {_HIGHEST_INDEX}")
    return literal(str(int(text)))


def parse_life_cycle(text: str) -> Template:
    """Return one of the words that EC2 knows."""
    if text not in {"on-demand", "spot", "scheduled", "capacity-block"}:
        raise ValueError(f"{quoted(text)} is not one of on-demand, spot, scheduled and capacity-block")
    return literal(text)


def parse_mac(text: str) -> Template:
    """Return the address of a network card in lower case with colons, as Linux shows it."""
    lower = text.lower()
    if not _MAC.fullmatch(lower):
        raise ValueError(f"{quoted(text)} is not a MAC address such as 0e:49:61:0f:c3:11")
    return literal(lower.replace("-", ":"))


def parse_instance_tag_key(text: str) -> str:
    """Return the key of a tag below `tags/instance`."""
    if not naming.is_instance_tag_key(text):
        raise ValueError(
            f"{quoted(text)} is not a tag's key here: 1 to 128 of A-Z a-z 0-9 + - = . , _ : @, not . nor .."
            " nor _index, and no number before an equals sign, which cloud-init takes for a public key"
        )
    return text


def parse_instance_tag_value(text: str) -> Template:
    """Return the template of a tag's value, which may be empty."""
    template = parse_template(text)
    if not naming.is_instance_tag_value(template.fill(_SAMPLE) or ""):
        raise ValueError(f"{quoted(text)} is not a tag's value: one line of 256 characters at most")
    return template


def parse_key_name(text: str) -> str:
    """Return the name of a public key, which stands in a listing as `0=NAME`."""
    if not _KEY_NAME.fullmatch(text) or text in {".", ".."}:
        raise ValueError(f"{quoted(text)} is not a key's name: A-Z a-z 0-9 + . _ , : @ -")
    return text


def parse_public_key(text: str) -> str:
    """Return a public key as `authorized_keys` has it, without options before it."""
    kind, _, rest = text.partition(" ")
    encoded = rest.partition(" ")[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    # RFC 4253 section 6.6: a key begins with its own type.
    said = blob[4 : 4 + int.from_bytes(blob[:4])].decode("ascii", "replace")
    if len(text) > _LONGEST_KEY or not text.isprintable() or not _KEY_TYPE.fullmatch(kind) or said != kind:
        raise ValueError("is not a public key such as: ssh-ed25519 AAAAC3NzaC1lZDI1... COMMENT, on one line")
    return text


def parse_domain(text: str) -> str:
    """Return a domain, or `*.` and a domain, in lower case."""
    domains = AllowedDomains.parse([text])
    return next(iter(domains.exact), "") or f"*.{next(iter(domains.below))}"
