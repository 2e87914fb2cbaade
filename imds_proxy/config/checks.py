"""What no single setting shows: keys that need or exclude each other, files that must be there, warnings.

All work on the tree as it was written, so they find their faults whatever else is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imds_proxy.config import (
    files,
    listen_checks,
    metadata_checks,
    network_checks,
    old_keys,
    people_checks,
    people_values,
    values,
)
from imds_proxy.config.faults import NO_VALUE
from imds_proxy.config.written import parse_at
from imds_proxy.errors import Fault
from imds_proxy.model import canonical_address, is_link_local
from imds_proxy.yaml_source import files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_proxy.file_access import Opening
    from imds_proxy.model import IPAddress
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source, Tree

SECRET_KEY = ("aws", "secret_key")
SECRET_KEY_FILE = ("aws", "secret_key_file")
TOKEN_KEY_FILE = ("tokens", "key_file")
WORKLOAD_KEY_FILE = ("tokens", "workload_key_file")
"""The settings that have or name a secret."""

_OF_ADMIN_ADDRESS = ("callers", "hosts")
"""Keys of `admin` that apply to its address and not to its socket."""


def check(source: Source) -> Iterator[Fault]:
    """Return the faults and warnings of the settings (not of the providers') as they stand to each other."""
    yield from _check_listeners(source)
    yield from _check_empty(source)
    yield from _check_addresses(source)
    yield from _check_hosts(source)
    yield from _check_own_key(source)
    yield from _check_own_files(source)
    yield from _check_open_secrets(source)
    yield from _check_ca_bundle(source)
    yield from listen_checks.check(source)
    yield from _check_admin(source)
    yield from metadata_checks.check(source)
    yield from network_checks.check(source)
    yield from people_checks.check(source)
    yield from old_keys.check(source)
    yield from _warn_of_short_ids(source)
    yield from _warn_of_region(source)
    yield from _warn_of_plain_http(source)
    yield from _warn_of_deadline(source)


def _check_empty(source: Source) -> Iterator[Fault]:
    """A key without a value is a line somebody meant to finish: `callers:` must not mean the default."""

    def find(value: Tree, path: KeyPath) -> Iterator[KeyPath]:
        if value is None:
            yield path
        elif isinstance(value, dict):
            for key, child in value.items():
                yield from find(child, (*path, key))
        elif isinstance(value, list):
            for index, child in enumerate(value):
                yield from find(child, (*path, index))

    for key, value in source.tree.items():
        if key not in {"provider", "providers"}:
            for path in find(value, (key,)):
                yield source.fault(path, NO_VALUE)


def _check_listeners(source: Source) -> Iterator[Fault]:
    if "listen" not in source.tree and "people" not in source.tree:
        yield source.fault(("listen",), "is required (or people)")


def _check_addresses(source: Source) -> Iterator[Fault]:
    seen: dict[values.SocketAddress, KeyPath] = {}
    paths: list[tuple[KeyPath, Callable[[str], values.SocketAddress]]] = [
        (("admin", "address"), values.parse_admin_address)
    ]
    parsers: dict[KeyPath, Callable[[str], values.SocketAddress]] = {
        ("people", "listen"): people_values.parse_people_address,
        ("listen",): values.parse_listen_address,
    }
    for at, parse in parsers.items():
        listen = source.value(at)
        count = len(listen) if isinstance(listen, list) else 0
        paths[:0] = [((*at, index, "address"), parse) for index in range(count)]
    for path, parse in paths:
        address = parse_at(source, path, parse)
        if address is None or address.port == 0:
            continue
        if address in seen:
            yield source.fault(path, f"{address} is at {source.where(seen[address])} too")
        seen.setdefault(address, path)


def _check_admin(source: Source) -> Iterator[Fault]:
    admin = source.value(("admin",))
    if not isinstance(admin, dict):
        return
    for key in _OF_ADMIN_ADDRESS:
        if key in admin and "address" not in admin:
            text = "has no effect without `address`: add admin.address, or remove this key"
            yield source.fault(("admin", key), text)
    yield from listen_checks.warn_of_link_local(source, ("admin", "callers"))


def _check_hosts(source: Source) -> Iterator[Fault]:
    """`10.0.0.5` and `::ffff:10.0.0.5` are one address: which name it has is not guessed."""
    seen: dict[IPAddress, KeyPath] = {}
    hosts = source.value(("hosts",))
    for key in hosts if isinstance(hosts, dict) else ():
        try:
            address = values.parse_address(key)
        except ValueError:
            continue
        first = seen.setdefault(address, ("hosts", key))
        if first != ("hosts", key):
            yield source.fault(("hosts", key), f"is the address of {source.where(first)}")
        elif is_link_local(address):
            text = "link-local: no such caller is let in, so this entry has no effect"
            yield source.fault(("hosts", key), text, is_warning=True)


def _check_own_key(source: Source) -> Iterator[Fault]:
    aws = source.value(("aws",))
    if not isinstance(aws, dict):
        return
    has_secret = "secret_key" in aws or "secret_key_file" in aws
    if "access_key" in aws and not has_secret:
        yield source.fault(("aws", "access_key"), "needs secret_key or secret_key_file beside it")
    for name in ("secret_key", "secret_key_file"):
        if name in aws and "access_key" not in aws:
            yield source.fault(("aws", name), "needs access_key beside it")
    if "secret_key" in aws and "secret_key_file" in aws:
        yield source.fault(SECRET_KEY_FILE, "and secret_key can't both be given")
    if "profile" in aws and "access_key" in aws:
        yield source.fault(("aws", "profile"), "and access_key can't both be given")


def _check_own_files(source: Source) -> Iterator[Fault]:
    """Who writes the settings has every role: a fault where all users can, a warning where some can."""
    openings: dict[Opening, Path] = {}
    try:
        for file in (source.path, *files_of(source.path)):
            if (opening := files.find_opening(file)) is not None:
                openings.setdefault(opening, file)
    except OSError as error:  # gone since it was read
        yield Fault(str(source.path), "", f"can't be read: {error.strerror}")
    for opening, file in openings.items():
        yield Fault(str(file), "", str(opening), is_warning=not opening.is_for_all)


def _check_open_secrets(source: Source) -> Iterator[Fault]:
    """The files that settings name are judged where they are read; this is the YAML itself."""
    proxy = source.value(("aws", "https_proxy"))
    paths: list[KeyPath] = [SECRET_KEY] if source.value(SECRET_KEY) is not None else []
    if isinstance(proxy, str) and "@" in proxy:
        paths.append(("aws", "https_proxy"))
    if source.value(people_checks.BIND_PASSWORD) is not None:
        paths.append(people_checks.BIND_PASSWORD)
    for path in paths:
        yield from check_secrecy(source, path)


def check_secrecy(source: Source, path: KeyPath) -> Iterator[Fault]:
    """Return the fault of a secret at `path` in a YAML file that others can read."""
    file = Path(source.where(path).rpartition(":")[0])
    try:
        files.check_closed(file, is_secret=True)
    except files.FileError as error:
        yield source.fault(path, str(error))


def _check_ca_bundle(source: Source) -> Iterator[Fault]:
    path = ("aws", "ca_bundle")
    bundle = parse_at(source, path, values.parse_path)
    if bundle is not None:
        try:
            files.check_readable(bundle)
        except files.FileError as error:
            yield source.fault(path, str(error))


def _warn_of_short_ids(source: Source) -> Iterator[Fault]:
    accounts = source.value(("accounts",))
    for name in accounts if isinstance(accounts, dict) else ():
        path = ("accounts", name, "id")
        full = parse_at(source, path, values.parse_account_id)
        if full is not None and full != source.value(path):
            text = f'read as "{full}": an id has 12 digits, write the zeros'
            yield source.fault(path, text, is_warning=True)


def _warn_of_region(source: Source) -> Iterator[Fault]:
    if isinstance(source.tree.get("aws", {}), dict) and ("aws", "region") not in source.positions:
        text = "not set, neither here nor in $AWS_REGION or $AWS_DEFAULT_REGION: us-east-1"
        yield source.fault(("aws", "region"), text, is_warning=True)


def _warn_of_plain_http(source: Source) -> Iterator[Fault]:
    for path in (("aws", "sts_endpoint"), ("aws", "signin_endpoint")):
        endpoint = parse_at(source, path, values.parse_endpoint)
        url = urlsplit(endpoint or "")
        if url.scheme == "http" and not _is_loopback(url.hostname or ""):
            text = "plain http: whoever is on the way reads the credentials"
            yield source.fault(path, text, is_warning=True)


def _is_loopback(host: str) -> bool:
    try:
        return canonical_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warn_of_deadline(source: Source) -> Iterator[Fault]:
    path = ("dns", "attempt_timeout")
    attempt = parse_at(source, path, values.parse_duration)
    deadline = parse_at(source, ("dns", "deadline"), values.parse_duration)
    if attempt is not None and attempt > (2.0 if deadline is None else deadline):
        text = "longer than dns.deadline: no second server is ever asked"
        yield source.fault(path, text, is_warning=True)
