"""The configuration as commands take it: --config, its faults on stderr, the daemon's admin socket."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imds_proxy.exit_statuses import EXIT_FAULTY

if TYPE_CHECKING:
    from imds_proxy.registry import Loaded

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A YAML file, or a folder of them.  [default: $IMDS_PROXY_CONFIG, then /etc/imds-proxy]",
)

socket_option = click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The daemon's admin socket.  [default: admin.socket of the configuration, then the unit's]",
)


def path_of(path: Path | None) -> Path:
    """Return where the configuration is: `path`, or what --config says of its default."""
    from imds_proxy.config import default_path

    return path or default_path(os.environ)


def load(path: Path) -> Loaded:
    """Return what `path` configures; show its faults and end the program when it can't be used."""
    from imds_proxy import registry

    loaded = registry.load(path, os.environ)
    for fault in loaded.faults:
        click.echo(str(fault), err=True)
    if loaded.configuration is None:
        sys.exit(EXIT_FAULTY)
    return loaded


def admin_socket(socket_path: Path | None, path: Path | None) -> Path | None:
    """Return `socket_path`, or else `admin.socket` of the configuration at `path`, or else the unit's."""
    from imds_proxy.admin_client import find_socket

    if socket_path is not None:
        return socket_path
    loaded = load(path_of(path))
    assert loaded.configuration is not None
    return find_socket(loaded.configuration.settings.admin.socket)
