"""`imds-proxy doctor`: what is well on this host and what is not, and what to do about it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imds_proxy.exit_statuses import EXIT_FAILED, EXIT_FAULTY
from imds_proxy.loading import config_option, path_of, socket_option
from imds_proxy.text import visible

if TYPE_CHECKING:
    from imds_proxy.doctor.findings import Finding
    from imds_proxy.errors import Fault


@click.command(short_help="Check this host, and say what to do.")
@click.option("--caller", metavar="ADDRESS", help="A machine whose name and role are tried as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
@socket_option
def doctor(caller: str | None, as_json: bool, path: Path | None, socket_path: Path | None) -> None:  # noqa: FBT001  click hands flags over as arguments
    """Check everything on this host that callers need for their credentials, and say what to do.

    Compares what is rendered with what is loaded, asks the name servers, and has the running daemon ask STS:
    GetCallerIdentity, and AssumeRole for one caller. Changes nothing. Root sees most.

    \b
    A line for each thing:  ok|warning|fault|skipped THING: fact
    and, where it is not well, a line with what to do.
    Exit status: 0 no fault (there may be warnings), 1 faults, 2 wrong usage or faulty configuration.
    """
    import asyncio
    import os

    from imds_proxy import registry
    from imds_proxy.admin_client import find_socket
    from imds_proxy.doctor.checkup import examine
    from imds_proxy.doctor.findings import fault, ok, warning
    from imds_proxy.model import canonical_address

    address = None
    if caller is not None:
        try:
            address = canonical_address(caller)
        except ValueError:
            raise click.BadParameter(f"{caller!r} is not an IP address", param_hint="--caller") from None
    path = path_of(path)
    loaded = registry.load(path, os.environ)
    findings = [
        (warning if one.is_warning else fault)(
            "configuration", _text_of(one), f"imds-proxy check --config {path}"
        )
        for one in loaded.faults
    ]
    configuration = loaded.configuration
    if configuration is None:
        _show(findings, as_json=as_json)
        sys.exit(EXIT_FAULTY)
    findings = findings or [ok("configuration", f"{path} is good")]
    settings = configuration.settings
    if not settings.aws.use_instance_metadata:
        # As the daemon does: on a gateway its own answers would be asked for a key.
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    socket = find_socket(socket_path, settings.admin.socket)
    progress = _Progress(is_shown=sys.stderr.isatty())
    findings += asyncio.run(examine(loaded, configuration, socket, address, progress.tell))
    progress.clear()
    _show(findings, as_json=as_json)
    sys.exit(EXIT_FAILED if any(one.level == "fault" for one in findings) else 0)


def _text_of(one: Fault) -> str:
    return str(replace(one, is_warning=False))  # the level says it


class _Progress:
    """A line on the terminal, for the seconds that name servers and STS may take."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown

    def tell(self, done: int, whole: int) -> None:
        """Show how many checks are done."""
        if self._is_shown:
            click.echo(f"\r{done} of {whole} checks done ", nl=False, err=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            click.echo("\r" + " " * 40 + "\r", nl=False, err=True)


def _show(findings: list[Finding], *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from imds_proxy.doctor.findings import describe, summarise

    if as_json:
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
        return
    for finding in findings:
        for line in describe(finding):
            click.echo(visible(line))
    click.echo(summarise(findings))
