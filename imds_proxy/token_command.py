"""`imds-proxy token`: a token with which a container shows which workload it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from imds_proxy.errors import FederationError, Refusal
from imds_proxy.exit_statuses import EXIT_FAILED, EXIT_TROUBLE
from imds_proxy.loading import admin_socket, config_option, socket_option

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@click.command(short_help="Make a token for a container's workload.")
@click.argument("name")
@config_option
@click.option(
    "--from",
    "networks",
    multiple=True,
    metavar="NETWORK",
    help="From where alone it is good: 10.77.0.0/16 or an address; may be given again. Required unless the "
    "setting tokens.any_network is true.",
)
@click.option(
    "--duration",
    default="12h",
    show_default=True,
    metavar="TIME",
    help="How long it is good, such as 45m, 12h or 30d: 1m to 365d.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there, mode 0600, in place of what is there now.  [default: stdout]",
)
@socket_option
def token(
    name: str,
    path: Path | None,
    networks: tuple[str, ...],
    duration: str,
    output: Path | None,
    socket_path: Path | None,
) -> None:
    """Make a token with which a container shows that it is the workload NAME (such as web.pods.example).

    The running daemon signs it and keeps nothing. SDKs send it to a listener that has `container`:

    \b
        imds-proxy token web.pods.example --from 172.17.0.0/16 --output /run/tokens/web/token
        AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.2/v1/credentials
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/run/tokens/web/token

    Whoever has the token is the workload, within its networks, until the token ends or its id, which is told
    here and stands in the token, is in tokens.revoked. Put a new one into the file before that: SDKs
    read it each time they need credentials. It has no newline at its end, which they would send along.

    \b
    Exit status: 0 made, 1 not made, 2 wrong usage or faulty configuration, 3 trouble (no daemon).
    """
    from imds_proxy import token_client
    from imds_proxy.config.values import parse_network

    workload = _convert(_parse_workload, name, "NAME")
    origins = [str(_convert(parse_network, network, "--from")) for network in networks]
    seconds = _convert(_parse_life, duration, "--duration")
    socket = admin_socket(socket_path, path)
    try:
        minted = token_client.mint(socket, workload, origins, seconds)
        if output is not None:
            token_client.write_token(minted.token, output)
    except (Refusal, OSError) as error:
        click.echo(f"imds-proxy: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except FederationError as error:
        click.echo(f"imds-proxy: {error}", err=True)
        sys.exit(EXIT_TROUBLE)
    click.echo(f"imds-proxy: the token {minted.id} is good until {minted.expiration}", err=True)
    for warning in minted.warnings:
        click.echo(f"imds-proxy: warning: {warning}", err=True)
    if output is None:
        click.echo(minted.token, nl=sys.stdout.isatty())


def _convert(parse: Callable[[str], T], text: str, hint: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


def _parse_workload(text: str) -> str:
    from imds_proxy.names import parse_workload

    name = parse_workload(text)
    if name is None:
        raise ValueError(f"{text!r} does not read like a host name, such as web.pods.example")
    return name


def _parse_life(text: str) -> int:
    from imds_proxy.config.values import parse_duration
    from imds_proxy.workload_tokens import LONGEST_LIFE, SHORTEST_LIFE

    seconds = int(parse_duration(text))
    if not SHORTEST_LIFE <= seconds <= LONGEST_LIFE:
        raise ValueError(f"{text} is not between 1m and 365d")
    return seconds
