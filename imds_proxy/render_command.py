"""`imds-proxy render`: what a gateway host needs around the daemon, from the daemon's own configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imds_proxy.errors import FederationError
from imds_proxy.exit_statuses import EXIT_FAILED
from imds_proxy.loading import config_option, load, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from imds_proxy.config import Settings
    from imds_proxy.rendering.files import RenderedFile
    from imds_proxy.rendering.network import Style

_NEXT_SYSTEMD = "systemctl daemon-reload && systemctl enable --now imds-proxy.socket imds-proxy.service"
_NEXT_SERVICE = "useradd --system --home-dir /var/lib/imds-proxy --shell /usr/sbin/nologin imds-proxy"
_NEXT_ONESHOT = "systemctl daemon-reload && systemctl enable --now imds-proxy-address.service"
_NEXT_NETWORKD = "networkctl reload"
_NEXT_NFTABLES = "nft -f {folder}/imds-proxy.nft"

_dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the files there, replacing those that differ.  [default: to stdout]",
)


@click.group(short_help="Make units, addresses and a firewall from the configuration.")
def render() -> None:
    """Make what a gateway host needs around the daemon from the daemon's own configuration.

    To be repeated whenever `listen`, `people.listen` or `network` has changed.

    \b
        imds-proxy render systemd  --dir /etc/systemd/system
        imds-proxy render network  --dir /etc/systemd/system
        imds-proxy render nftables --dir /etc/imds-proxy

    `imds-proxy doctor` compares all of it with what is loaded.

    \b
    Exit status: 0 done, 1 cannot be rendered or written, 2 faulty configuration.
    """


@render.command()
@config_option
@_dir_option
@click.option(
    "--service", "has_service", is_flag=True, help="The service, too, for this installation of the program."
)
def systemd(path: Path | None, folder: Path | None, has_service: bool) -> None:  # noqa: FBT001  click's
    """Make the socket units of all listeners: the daemon needs no privilege, a restart turns nobody away.

    \b
    They belong into /etc/systemd/system:
        imds-proxy render systemd --dir /etc/systemd/system
        systemctl daemon-reload && systemctl restart imds-proxy.socket imds-proxy.service
    Debian's package has the service; after `pip install` add --service.
    """
    from imds_proxy.rendering import systemd as units

    def make(settings: Settings) -> Iterable[RenderedFile]:
        return (*units.render(settings), *([units.render_service()] if has_service else []))

    _render(path, folder, make, *([_NEXT_SERVICE] if has_service else []), _NEXT_SYSTEMD)


@render.command()
@config_option
@_dir_option
@click.option(
    "--style",
    type=click.Choice(["oneshot", "networkd"]),
    default="oneshot",
    show_default=True,
    help="A unit that adds the addresses, whoever manages the interfaces; or files for systemd-networkd.",
)
@click.option(
    "--network-file",
    metavar="NAME",
    help="With networkd: the callers' interface's own file (networkctl status lan0), which gets a drop-in "
    "with the IPv6 addresses.",
)
def network(path: Path | None, folder: Path | None, style: Style, network_file: str | None) -> None:
    """Make what gives this host the metadata addresses.

    IPv4 goes on network.device, IPv6 on the first of network.interfaces.

    \b
    A unit belongs into /etc/systemd/system, what systemd-networkd reads into /etc/systemd/network:
        imds-proxy render network --dir /etc/systemd/system
        systemctl daemon-reload && systemctl enable --now imds-proxy-address.service
    \b
    Where networkd manages the interface of the callers, it would take the unit's IPv6 address away:
        imds-proxy render network --style networkd --network-file 10-lan0.network --dir /etc/systemd/network
        networkctl reload
    """
    from imds_proxy.rendering import network as addresses

    if network_file is not None and style != "networkd":
        raise click.UsageError("--network-file is for --style networkd")
    next_step = _NEXT_NETWORKD if style == "networkd" else _NEXT_ONESHOT
    _render(path, folder, lambda settings: addresses.render(settings, style, network_file), next_step)


@render.command()
@config_option
@_dir_option
def nftables(path: Path | None, folder: Path | None) -> None:
    """Make a firewall for the listeners for machines: a table of its own that touches nothing else.

    \b
        imds-proxy render nftables --dir /etc/imds-proxy
        nft -f /etc/imds-proxy/imds-proxy.nft
    """
    from imds_proxy.rendering import nftables as firewall

    _render(path, folder, firewall.render, _NEXT_NFTABLES.format(folder=folder))


def _render(
    path: Path | None,
    folder: Path | None,
    make: Callable[[Settings], Iterable[RenderedFile]],
    *next_steps: str,
) -> None:
    from imds_proxy.rendering.files import write_files

    loaded = load(path_of(path))
    assert loaded.configuration is not None
    try:
        files = tuple(make(loaded.configuration.settings))
        if folder is not None:
            for line in write_files(files, folder):
                click.echo(line)
    except FederationError as error:
        click.echo(f"imds-proxy: {error}", err=True)
        sys.exit(EXIT_FAILED)
    if folder is None:
        _show(files)
    if not files:
        click.echo("nothing to render: the configuration needs nothing of this", err=True)
    elif folder is not None:
        for step in next_steps:
            click.echo(f"next: {step}", err=True)


def _show(files: tuple[RenderedFile, ...]) -> None:
    for number, file in enumerate(files):
        if len(files) > 1:
            click.echo(f"{'' if number == 0 else chr(10)}# --- {file.name}")
        click.echo(file.text, nl=False)
