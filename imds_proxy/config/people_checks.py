"""What no single setting of the people's listener shows: keys that need or exclude each other, its files.

As in `checks`, all work on the tree as it was written. Each fault sits at the key that is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.config import listen_checks, people_values, tls_files, values
from imds_proxy.config.section import SECRET_HEADER
from imds_proxy.config.written import parse_at
from imds_proxy.directory.wire import check_library

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source, Tree

LISTEN = ("people", "listen")
IDENTITY = ("people", "identity")
PUBLIC_URL = ("people", "public_url")
SECRET_FILE = (*IDENTITY, "secret_file")
BIND_PASSWORD = (*IDENTITY, "ldap", "ldap_bind_password")

_WAYS = ("header", "peer", "ldap")
_OF_HEADER = ("trusted", "secret_file", "secret_header")
_OF_ADDRESS = ("tls", "callers", "callers_except", "hosts")
_OF_SOCKET = ("mode", "group")
_SWITCHED_OFF = frozenset({"false", "no", "off", "0", "n", "f"})
"""How a switch is written that is as good as left out."""


def check(source: Source) -> Iterator[Fault]:
    """Return the faults and warnings of the people's listener as its settings stand to each other."""
    if source.value(("people",)) is None:
        return
    for path in _listeners(source):
        yield from _check_kind(source, path)
        yield from _check_tls(source, path)
    yield from _check_public_url(source)
    yield from _check_sockets(source)
    yield from _check_identity(source)
    yield from _check_header(source)
    yield from _check_ldap(source)
    yield from _warn_of_the_unknowable(source)
    for path in _listeners(source):
        yield from listen_checks.warn_of_link_local(source, (*path, "callers"))
        yield from tls_files.check(source, (*path, "tls"))


def _listeners(source: Source) -> list[KeyPath]:
    """Return the paths of those entries of `people.listen` that are maps."""
    listen = source.value(LISTEN)
    count = len(listen) if isinstance(listen, list) else 0
    paths = [(*LISTEN, index) for index in range(count)]
    return [path for path in paths if isinstance(source.value(path), dict)]


def _map_at(source: Source, path: KeyPath) -> dict[str, Tree]:
    value = source.value(path)
    return value if isinstance(value, dict) else {}


def _check_kind(source: Source, path: KeyPath) -> Iterator[Fault]:
    entry = _map_at(source, path)
    if "address" in entry and "unix" in entry:
        yield source.fault((*path, "unix"), "and address can't both be given: make it an entry of its own")
        return
    if "address" not in entry and "unix" not in entry:
        yield source.fault((*path, "address"), "is required (or unix)")
        return
    foreign, text = (
        (_OF_ADDRESS, "is for an address, not for a unix socket")
        if "unix" in entry
        else (_OF_SOCKET, "is for a unix socket, not for an address")
    )
    for key in foreign:
        if key in entry:
            yield source.fault((*path, key), text)


def _check_tls(source: Source, path: KeyPath) -> Iterator[Fault]:
    entry = _map_at(source, path)
    address = parse_at(source, (*path, "address"), people_values.parse_people_address)
    if address is not None and not address.ip.is_loopback and "unix" not in entry and "tls" not in entry:
        yield source.fault((*path, "tls"), f"is required for {address}: passwords and keys go over it")
    client_ca = (*path, "tls", "client_ca")
    if source.value(client_ca) is not None and "header" not in _map_at(source, IDENTITY):
        yield source.fault(client_ca, "is for proxies that send identity.header, and there is none")
    crl = (*path, "tls", "crl")
    if source.value(crl) is not None and source.value(client_ca) is None:
        yield source.fault(crl, "needs client_ca beside it: the authorities whose certificates it revokes")


def _check_public_url(source: Source) -> Iterator[Fault]:
    """Browsers say which site is behind a request only over https, and to this host's loopback."""
    url = parse_at(source, PUBLIC_URL, people_values.parse_public_url)
    if url is None:
        return
    scheme, host, _ = people_values.origin_of(url)
    if scheme == "http" and not people_values.is_loopback(host):
        text = "must be https: over http others can read keys, and other sites' pages can ask for them"
        yield source.fault(PUBLIC_URL, text)


def _check_sockets(source: Source) -> Iterator[Fault]:
    seen: dict[Path, KeyPath] = {}
    for path in [("admin", "socket"), *((*path, "unix") for path in _listeners(source))]:
        socket = parse_at(source, path, values.parse_socket_path)
        if socket is None:
            continue
        if socket in seen:
            yield source.fault(path, f"{socket} is at {source.where(seen[socket])} too")
        seen.setdefault(socket, path)


def _check_identity(source: Source) -> Iterator[Fault]:
    identity = source.value(IDENTITY)
    if not isinstance(identity, dict):
        return
    ways = [way for way in _WAYS if way in identity and not _is_switched_off(way, identity[way])]
    if not ways:
        yield source.fault(IDENTITY, f"needs one of {', '.join(_WAYS[:-1])} and {_WAYS[-1]}")
    for way in ways[1:]:
        yield source.fault((*IDENTITY, way), f"and {ways[0]} can't both be given")
    for key in _OF_HEADER:
        if key in identity and "header" not in identity:
            yield source.fault((*IDENTITY, key), "needs header beside it")


def _is_switched_off(way: str, value: Tree) -> bool:
    return way == "peer" and isinstance(value, str) and value.lower() in _SWITCHED_OFF


def _check_header(source: Source) -> Iterator[Fault]:
    identity = _map_at(source, IDENTITY)
    header = identity.get("header")
    if not isinstance(header, str):
        return
    if "trusted" not in identity:
        text = "is required: who may say who is asking, such as [10.0.0.2]"
        yield source.fault((*IDENTITY, "trusted"), text)
    secret_header = identity.get("secret_header", SECRET_HEADER)
    if isinstance(secret_header, str) and header.lower() == secret_header.lower():
        text = f"header and secret_header can't both be {secret_header}"
        yield source.fault((*IDENTITY, "secret_header" if "secret_header" in identity else "header"), text)
    if "secret_file" not in identity:
        for path in _listeners(source):
            entry = _map_at(source, path)
            if "address" in entry and "client_ca" not in _map_at(source, (*path, "tls")):
                where = f"{source.value((*path, 'address'))} (or tls.client_ca there)"
                yield source.fault(
                    SECRET_FILE, f"is required for {where}: an address alone proves too little"
                )
                break


def _check_ldap(source: Source) -> Iterator[Fault]:
    path = (*IDENTITY, "ldap")
    if _map_at(source, path):
        try:
            check_library()
        except ValueError as error:
            yield source.fault(path, str(error))


def _warn_of_the_unknowable(source: Source) -> Iterator[Fault]:
    """A listener on which nobody can be known answers 401 to all: it is safe, and hardly meant."""
    identity = _map_at(source, IDENTITY)
    is_by_peer = "peer" in identity and not _is_switched_off("peer", identity["peer"])
    trusted = _trusted(source) if "header" in identity else []
    for path in _listeners(source):
        entry = _map_at(source, path)
        if "unix" in entry and trusted and not any(isinstance(one, int) for one in trusted):
            text = "identity.trusted has no user, who alone may send the header here: everybody gets 401"
            yield source.fault((*path, "unix"), text, is_warning=True)
        elif "address" in entry and is_by_peer:
            text = "identity.peer knows users of unix sockets only: here everybody gets 401"
            yield source.fault((*path, "address"), text, is_warning=True)
        elif "address" in entry and trusted and all(isinstance(one, int) for one in trusted):
            text = "identity.trusted has no address, which alone may send the header here: everybody gets 401"
            yield source.fault((*path, "address"), text, is_warning=True)


def _trusted(source: Source) -> list[values.IPNetwork | int]:
    """Return who is trusted; nobody where that can't be told because of a fault."""
    trusted = source.value((*IDENTITY, "trusted"))
    count = len(trusted) if isinstance(trusted, list) else 0
    parsed = [
        parse_at(source, (*IDENTITY, "trusted", index), people_values.parse_trusted) for index in range(count)
    ]
    return [one for one in parsed if one is not None] if None not in parsed else []
