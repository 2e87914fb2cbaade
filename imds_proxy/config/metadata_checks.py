"""What no single setting of the metadata tree shows: keys that mean the same, ids that all would share.

As in `checks`, all work on the tree as it was written. Each fault sits at the key that is wrong.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from imds_proxy.config import files, metadata_values, values
from imds_proxy.config.written import parse_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

T = TypeVar("T")

DOMAINS = ("metadata", "domains")
HOSTS = ("metadata", "hosts")
USER_DATA = ("metadata", "user_data")


def check(source: Source) -> Iterator[Fault]:
    """Return the faults of the `metadata` section as its settings stand to each other."""
    yield from _check_twice(source, DOMAINS, metadata_values.parse_domain, "domain")
    yield from _check_twice(source, HOSTS, values.parse_address_or_name, "host")
    yield from _check_ids(source)
    yield from _check_folder(source)


def _keys(source: Source, path: KeyPath) -> list[str]:
    value = source.value(path)
    return list(value) if isinstance(value, dict) else []


def _check_twice(source: Source, path: KeyPath, parse: Callable[[str], T], what: str) -> Iterator[Fault]:
    """One domain or host in two spellings has two entries: which of them counts is not guessed."""
    seen: dict[T, KeyPath] = {}
    for key in _keys(source, path):
        try:
            first = seen.setdefault(parse(key), (*path, key))
        except ValueError:
            continue
        if first != (*path, key):
            yield source.fault((*path, key), f"is the {what} of {source.where(first)}")


def _check_ids(source: Source) -> Iterator[Fault]:
    """Hosts with the same instance id are one host to whatever reads it."""
    yield from _check_id(source, ("metadata", "defaults"), {"name", "address"})
    for domain in _keys(source, DOMAINS):
        # In one domain no two hosts have the same host part; below a domain they may.
        telling = {"name", "address"} if domain.startswith("*.") else {"name", "address", "host"}
        yield from _check_id(source, (*DOMAINS, domain), telling)


def _check_id(source: Source, level: KeyPath, telling: set[str]) -> Iterator[Fault]:
    path = (*level, "instance_id")
    template = parse_at(source, path, metadata_values.parse_value("instance_id"))
    if template is not None and not template.placeholders & telling:
        listed = " or ".join(f"{{{name}}}" for name in sorted(telling))
        yield source.fault(path, f"would be the same for several callers: it needs {listed}")


def _check_folder(source: Source) -> Iterator[Fault]:
    folder = parse_at(source, USER_DATA, values.parse_path)
    if folder is None:
        return
    try:
        with os.scandir(folder):
            opening = files.find_opening(folder)
        if opening is not None:  # machines run what is in there
            yield source.fault(USER_DATA, str(opening), is_warning=not opening.is_for_all)
    except OSError as error:
        yield source.fault(USER_DATA, f"{folder} can't be read as a folder: {error.strerror}")
