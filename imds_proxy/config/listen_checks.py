"""What no single setting of a listener for machines shows: keys that need or exclude each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from imds_proxy.config import tls_files, values
from imds_proxy.config.written import parse_at
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source, Tree

_OF_METADATA = ("imds_v1", "credentials", "list_without_token", "base_path", "hop_limit")
_OF_CREDENTIALS = ("list_without_token", "base_path")
_PLAIN_HTTP_ADDRESSES = frozenset(
    canonical_address(text) for text in ("169.254.170.2", "169.254.170.23", "fd00:ec2::23")
)
"""Besides loopback: where SDKs fetch container credentials by plain http."""

_BOOLEAN = TypeAdapter(bool)
"""As the settings themselves are read: `off`, `No` and `0` are false, too."""


def check(source: Source) -> Iterator[Fault]:
    """Return the faults and warnings of the listeners for machines as their settings stand to each other."""
    listen = source.value(("listen",))
    for index, one in enumerate(listen if isinstance(listen, list) else ()):
        if isinstance(one, dict):
            yield from _warn_of_base_path(source, ("listen", index), one)
            yield from warn_of_link_local(source, ("listen", index, "callers"))
            yield from tls_files.check(source, ("listen", index, "tls"))
            yield from _check_credentials(source, ("listen", index), one)
            container = one.get("container")
            if isinstance(container, dict):
                yield from _check_container(source, ("listen", index), one, container)


def _check_credentials(source: Source, path: KeyPath, listener: dict[str, Tree]) -> Iterator[Fault]:
    if parse_at(source, (*path, "credentials"), _BOOLEAN.validate_python) is False:
        for key in _OF_CREDENTIALS:
            if key in listener:
                yield source.fault((*path, key), "has no meaning with `credentials: false`")


def _check_container(
    source: Source, path: KeyPath, listener: dict[str, Tree], container: dict[str, Tree]
) -> Iterator[Fault]:
    for key in _OF_METADATA:
        if key in listener:
            yield source.fault((*path, key), "has no meaning beside container: no metadata is served here")
    if parse_at(source, (*path, "container", "token"), _BOOLEAN.validate_python) is False:
        at = (*path, "container")
        if "secrets" in container:
            yield source.fault((*at, "secrets"), "has no meaning with `token: false`")
        if container.get("identity") == "workload":
            yield source.fault((*at, "identity"), "workload needs a token that proves which one it is")
    address = parse_at(source, (*path, "address"), values.parse_listen_address)
    if address is None or "tls" in listener or address.ip.is_unspecified:
        return
    if not address.ip.is_loopback and address.ip not in _PLAIN_HTTP_ADDRESSES:
        text = (
            f"SDKs fetch container credentials by plain http from loopback, 169.254.170.2, 169.254.170.23 "
            f"and [fd00:ec2::23] only, not from {address.ip}: set tls beside it"
        )
        yield source.fault((*path, "address"), text, is_warning=True)


def _warn_of_base_path(source: Source, path: KeyPath, listener: dict[str, Tree]) -> Iterator[Fault]:
    if "base_path" in listener and "imds_v1" not in listener and "container" not in listener:
        text = "its clients (alppaca, boto 2) know no token and get 401: set imds_v1 beside it"
        yield source.fault((*path, "base_path"), text, is_warning=True)


def warn_of_link_local(source: Source, path: KeyPath) -> Iterator[Fault]:
    """Return a warning for each link-local network in the list of callers at `path`."""
    callers = source.value(path)
    for index in range(len(callers) if isinstance(callers, list) else 0):
        network = parse_at(source, (*path, index), values.parse_network)
        if network is not None and network.version == 6 and network.is_link_local:
            text = "link-local: refused all the same, as a machine on another link may have the same address"
            yield source.fault((*path, index), text, is_warning=True)
