"""What STS and IAM take: session tags, session policies, regions. A ValueError says what to write instead."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, NoReturn

from imds_proxy.yaml_source import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

PLACEHOLDERS = ("{name}", "{address}")
"""What a session tag's value may have in it: the caller's confirmed name and its address."""

# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html and
# https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html
MOST_SESSION_TAGS = 50
_LONGEST_TAG_KEY = 128
_LONGEST_TAG_VALUE = 256
_TAG_MARKS = frozenset("_.:/=+-@")
_TAG_CATEGORIES = frozenset("LZN")
"""Letters, separators, numbers: the first letter of Unicode's general category."""

# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, Policy
_LONGEST_POLICY = 2048
_LONGEST_POLICY_TEXT = 16 * _LONGEST_POLICY
"""Before the white space is gone; keeps a parser away from absurd texts."""


def parse_tag_key(text: str) -> str:
    """Return the key of a session tag."""
    if not 1 <= len(text) <= _LONGEST_TAG_KEY or not _has_tag_characters(text):
        raise ValueError(
            f"{quoted(text)} is not a tag's key: 1 to {_LONGEST_TAG_KEY} letters, digits, spaces,"
            " _ . : / = + - @"
        )
    if text.lower().startswith("aws:"):
        raise ValueError(f"{quoted(text)}: keys that begin with aws: are AWS's own")
    return text


def parse_tag_value(text: str) -> str:
    """Return the value of a session tag, placeholders as they stand."""
    if len(text) > _LONGEST_TAG_VALUE:
        raise ValueError(f"longer than the {_LONGEST_TAG_VALUE} characters that a tag's value can have")
    bare = text
    for placeholder in PLACEHOLDERS:
        bare = bare.replace(placeholder, "")
    if not _has_tag_characters(bare):
        raise ValueError(
            f"{quoted(text)} is not a tag's value: letters, digits, spaces, _ . : / = + - @,"
            f" and the placeholders {' and '.join(PLACEHOLDERS)}"
        )
    return text


def has_placeholder(value: str) -> bool:
    """Tell whether a tag's value differs from caller to caller."""
    return any(placeholder in value for placeholder in PLACEHOLDERS)


def check_tag_keys(keys: Iterable[str]) -> None:
    """Raise ValueError for too many tags or keys that differ in case only: STS takes them for one."""
    seen: dict[str, str] = {}
    for key in keys:
        other = seen.setdefault(key.lower(), key)
        if other != key:
            raise ValueError(f"{other} and {key} are one key to STS, which ignores case")
    if len(seen) > MOST_SESSION_TAGS:
        raise ValueError(f"{len(seen)} tags; STS takes {MOST_SESSION_TAGS} at most")


def _has_tag_characters(text: str) -> bool:
    return all(char in _TAG_MARKS or unicodedata.category(char)[0] in _TAG_CATEGORIES for char in text)


def parse_policy(value: object) -> str:
    """Return a session policy, written as JSON text or as a map, as compact JSON text."""
    policy = _parse_json(value) if isinstance(value, str) else value
    if not isinstance(policy, dict):
        raise ValueError("must be a policy: a map with Version and Statement, or the same as JSON text")  # noqa: TRY004  pydantic reports ValueError only
    text = json.dumps(policy, separators=(",", ":"))
    if len(text) > _LONGEST_POLICY:
        raise ValueError(f"{len(text)} characters of JSON; STS takes {_LONGEST_POLICY} at most")
    return text


def _parse_json(text: str) -> object:
    if len(text) > _LONGEST_POLICY_TEXT:
        raise ValueError(
            f"longer than {_LONGEST_POLICY_TEXT} characters; STS takes {_LONGEST_POLICY} at most"
        )
    try:
        parsed: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError("not a policy: too many levels") from None
    return parsed


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    policy = dict(pairs)
    if len(policy) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {quoted(twice)} is there twice")
    return policy


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


AWS_PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"))
_PARTITION = re.compile(r"aws(?:-[a-z]+)*", re.ASCII)
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2}", re.ASCII)


def parse_region(text: str) -> str:
    """Return the name of a region."""
    if not _REGION.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a region such as eu-central-1")
    return text


def parse_partition(text: str) -> str:
    """Return the name of a partition: a group of regions with accounts of its own."""
    if not _PARTITION.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a partition such as aws, aws-cn or aws-us-gov")
    return text


def partition_of(region: str) -> str:
    """Return the partition in which a region lies: China's and the US government's are their own."""
    return next((partition for prefix, partition in AWS_PARTITIONS if region.startswith(prefix)), "aws")
