"""The registry of clients: what each is, how it is had, and what it can do in each mode."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.conformance.modes import Mode
from tests.standins.client_venvs import ClientUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "ASKS_WITH_TOKEN",
    "LANGUAGES",
    "RELATIVE_WITHOUT_TOKEN",
    "Cannot",
    "Client",
    "ClientUnavailableError",
    "Works",
    "all_clients",
    "tried_clients",
    "usual_modes",
]

LANGUAGES = ("python", "javascript", "go", "java", "rust", "debian")
"""In the order of the page; each is a module in `builds`."""


@dataclass(frozen=True)
class Works:
    """The client is tried in this mode and must be green."""

    what_to_set: str | None = None
    """For the page, in Markdown; None: what WHAT_TO_SET says of the mode."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the mode's variables. `{endpoint}` (of the metadata service, no slash at the end), `{host}`,
    `{port}`, `{region}` and `{token_file}` (it has the workload's token) in values are filled in."""
    without: frozenset[str] = frozenset()
    """Variables of the mode that this client must not see."""
    port: int = 0
    """The only port that the client can be led to, in a mode where it is not 80 anyhow; 0: any."""
    listener: Mapping[str, object] = field(default_factory=dict)
    """What the daemon's listener must have besides what the mode says; keys of `container` one by one."""


@dataclass(frozen=True)
class Cannot:
    """The client is tried in this mode, and must get nothing."""

    reason: str
    """For the page, in Markdown, one sentence without its full stop."""


@dataclass(frozen=True)
class Client:
    """A client, unmodified, in a small program that asks S3 with it (docs/testing.md has its contract)."""

    name: str
    """As its registry or its makers call it; unique."""
    language: str
    """One of LANGUAGES."""
    prepare: Callable[[], Sequence[str]]
    """Makes the program if it isn't there and returns its command line; `--version` added to it prints the
    client's version. Raises ClientUnavailableError, with the reason, where it can't be made."""
    modes: Mapping[Mode, Works | Cannot]
    reads_s3: bool = True
    """False: the client has no S3; its program prints `ok ROLE` for the role that the service named."""

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ValueError(f"{self.name}: unknown language {self.language!r}")
        if missing := set(Mode) - set(self.modes):
            raise ValueError(f"{self.name} says nothing about {sorted(missing)}")


RELATIVE_WITHOUT_TOKEN = Works(
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, to which it sends no token; in the daemon "
    "`container: {token: false}`",
    listener={"container": {"token": False}},
)
"""CONTAINER_RELATIVE for a client that asks as on ECS, where the URI itself is the secret."""


ASKS_WITH_TOKEN = Cannot("it asks with a token")
"""V1 for a client that needs none of it: it is not tried there, for its token would be taken."""


def usual_modes(exceptions: Mapping[Mode, Works | Cannot] | None = None) -> dict[Mode, Works | Cannot]:
    """Return what holds for an SDK of today, which finds the service in each mode by itself."""
    usual: dict[Mode, Works | Cannot] = dict.fromkeys(Mode, Works())
    usual[Mode.V1] = ASKS_WITH_TOKEN
    return usual | dict(exceptions or {})


def all_clients() -> tuple[Client, ...]:
    """Return the clients of every language. Raises ValueError for a name used twice."""
    clients: list[Client] = []
    for language in LANGUAGES:
        clients += importlib.import_module(f"tests.conformance.builds.{language}").CLIENTS
    names = [client.name for client in clients]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"used twice: {sorted(twice)}")
    return tuple(clients)


def tried_clients() -> tuple[Client, ...]:
    """Return those of the languages that CONFORMANCE_LANGUAGES names, or all where it is empty.

    Raises ValueError for a language that there isn't.
    """
    wanted = os.environ.get("CONFORMANCE_LANGUAGES", "").split() or LANGUAGES
    if unknown := set(wanted) - set(LANGUAGES):
        raise ValueError(f"unknown languages {sorted(unknown)}; known: {', '.join(LANGUAGES)}")
    return tuple(client for client in all_clients() if client.language in wanted)
