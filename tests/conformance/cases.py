"""Which clients are put into trouble, and how they find the daemon there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.clients import Works, all_clients
from tests.conformance.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.clients import Client

_IN_CONTAINERS = ("boto3", "AWS SDK for Go 2")
"""Clients that are tried at a container endpoint as well."""


def _find_cases() -> Iterator[tuple[str, tuple[Client, Mode]]]:
    for client in all_clients():
        for mode in (Mode.NAMESPACE, Mode.V1):
            if isinstance(client.modes[mode], Works):
                yield client.name, (client, mode)
                break
        if client.name in _IN_CONTAINERS:
            yield f"{client.name}, container", (client, Mode.CONTAINER_TOKEN)


CASES = dict(_find_cases())
"""Each client in its plainest mode; one that works in none of these is left out."""
