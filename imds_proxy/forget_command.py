"""`imds-proxy forget`: the running daemon forgets what it knows of a host."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import click

from imds_proxy import admin_client
from imds_proxy.errors import FederationError, Trouble
from imds_proxy.exit_statuses import EXIT_TROUBLE
from imds_proxy.loading import admin_socket, config_option, socket_option
from imds_proxy.text import visible_lines

if TYPE_CHECKING:
    from pathlib import Path

_NOUNS = (("identities", "identity"), ("verdicts", "verdict"), ("sessions", "session"))


@click.command(short_help="Have the daemon forget what it knows of a host.")
@click.argument("host")
@config_option
@socket_option
def forget(host: str, path: Path | None, socket_path: Path | None) -> None:
    """Have the running daemon forget what it knows of HOST, an address or a confirmed name.

    Its names, the verdicts of all providers, and the credentials that nobody else shares with it: the next
    request asks DNS, the provider and STS anew. For a record that was corrected a moment ago, or a role whose
    policies have changed. A name stands for all addresses that have it, an address for all that come from
    there, workloads too.

    It takes nothing away: who may have a role gets it again, and what was handed out, AWS honours until it
    ends. To cut a host off write it under deny: and reload.

    \b
    Exit status: 0, also when nothing was known; 2 wrong usage or faulty configuration; 3 trouble (no daemon).
    """
    from imds_proxy.model import canonical_address
    from imds_proxy.names import parse_host_name

    try:
        host = str(canonical_address(host))
    except ValueError:
        name = parse_host_name(host)
        if name is None:
            text = f"{host!r} is no address and no host name"
            raise click.BadParameter(text, param_hint="HOST") from None
        host = name
    try:
        counts = ask_daemon(admin_socket(socket_path, path), host)
    except FederationError as error:
        click.echo(visible_lines(f"imds-proxy: {error}"), err=True)
        sys.exit(EXIT_TROUBLE)
    for line in describe(host, counts):
        click.echo(line)


def ask_daemon(path: Path | None, host: str) -> dict[str, int]:
    """Return how much of what was forgotten. Raises Trouble without a daemon at `path`."""
    status, body = admin_client.ask(path, "POST", "/forget", json.dumps({"host": host}))
    try:
        if status != HTTPStatus.OK:
            raise ValueError(status)
        counts = json.loads(body)
        return {key: int(counts[key]) for key in (*(plural for plural, _ in _NOUNS), "kept")}
    except (ValueError, TypeError, KeyError) as error:
        raise Trouble(f"the daemon on {path} did not forget ({status}); is it another version?") from error


def describe(host: str, counts: dict[str, int]) -> list[str]:
    """Return the lines that say what became of a host."""
    parts = [f"{counts[plural]} {singular if counts[plural] == 1 else plural}" for plural, singular in _NOUNS]
    forgotten = f"forgotten: {', '.join(parts)}"
    lines = [forgotten if any(counts.values()) else f"nothing known of {host}"]
    if kept := counts["kept"]:
        lines.append(f"kept: {kept} {'session' if kept == 1 else 'sessions'} that other callers share")
    return lines
