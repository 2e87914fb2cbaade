"""The commands. What takes time to import is imported by the command that needs it."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imds_proxy import (
    __version__,
    doctor_command,
    forget_command,
    people_commands,
    render_command,
    token_command,
)
from imds_proxy.errors import ConfigurationError, FederationError
from imds_proxy.exit_statuses import EXIT_FAILED, EXIT_FAULTY, EXIT_REFUSED, EXIT_TROUBLE
from imds_proxy.loading import admin_socket, config_option, load, path_of, socket_option
from imds_proxy.private_memory import keep_memory_private
from imds_proxy.text import visible, visible_lines

if TYPE_CHECKING:
    from imds_proxy.explain import Explanation

_STDERR = 2

_EXIT_OF_OUTCOME = {"granted": 0, "refused": EXIT_REFUSED, "trouble": EXIT_TROUBLE}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imds-proxy")
def main() -> None:
    """Give machines outside EC2 their AWS role credentials, as EC2's metadata service would.

    \b
    Try it:          imds-proxy demo
    A first config:  imds-proxy check --config my.yaml && imds-proxy serve --config my.yaml
    Why (not)?       imds-proxy explain 10.0.0.5
    What is wrong?   imds-proxy doctor
    For containers:  imds-proxy token web.pods.example --from 10.88.0.0/16
    For the host:    imds-proxy render systemd
    For people:      imds-proxy accounts
    """
    # Before anything secret is read.
    try:
        keep_memory_private()
    except OSError as error:
        click.echo(f"imds-proxy: cannot forbid core dumps: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)


for _command in (
    render_command.render,
    token_command.token,
    forget_command.forget,
    doctor_command.doctor,
    *people_commands.COMMANDS,
):
    main.add_command(_command)


@main.command()
@config_option
def serve(path: Path | None) -> None:
    """Run the daemon in the foreground.

    \b
    Prints "listening ADDRESS:PORT" on stderr for each listener once it accepts.
    SIGHUP    reads the configuration again, all of it or, if it is faulty, nothing
    SIGTERM   finishes what is under way and ends, within 5 seconds; twice: at once
    SIGABRT   writes the stack of each thread to stderr and ends at once, without a core dump
    Exit status: 0 after SIGTERM, 1 cannot start, 2 faulty configuration.
    """
    # Until the daemon can reload, a SIGHUP must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Nothing that is imported is garbage: to look for it is a sixth of the start. The server does, later.
    gc.disable()
    _fill_standard_streams()
    # SIGABRT, by which a watchdog ends us, writes where each thread is to stderr: lines of code, no values.
    faulthandler.enable()
    from imds_proxy import log, server

    path = path_of(path)
    loaded = load(path)
    assert loaded.configuration is not None
    listener = log.start_log(loaded.configuration.settings.log.level)
    status = 0
    try:
        server.serve(path, os.environ, loaded)
    except ConfigurationError as error:
        click.echo(visible_lines(str(error)), err=True)
        status = EXIT_FAULTY
    except FederationError as error:
        click.echo(visible_lines(f"imds-proxy: {error}"), err=True)
        status = EXIT_FAILED
    listener.stop()
    sys.stdout.flush()
    sys.stderr.flush()
    # Python would wait at its end for threads that wait for STS; nobody needs their answer any more.
    os._exit(status)


@main.command()
@config_option
def check(path: Path | None) -> None:
    """Check the configuration offline and show all faults at once.

    \b
    Each fault is a line FILE:LINE: KEY: text on stderr.
    Exit status: 0 good (there may be warnings), 2 faulty.
    """
    from imds_proxy.config.network_checks import warn_of_system_nameservers

    path = path_of(path)
    loaded = load(path)
    assert loaded.configuration is not None
    settings = loaded.configuration.settings
    for warning in warn_of_system_nameservers(loaded.configuration.source):
        click.echo(str(warning), err=True)
    listeners = len(settings.listen) + (len(settings.people.listen) if settings.people else 0)
    click.echo(
        f"{path}: good ({_count(listeners, 'listener')}, {_count(len(loaded.providers), 'provider')}, "
        f"{_count(len(settings.accounts), 'account')})"
    )


@main.command(short_help="Show every setting and where it comes from.")
@config_option
@click.option("--schema", "shows_schema", is_flag=True, help="Print a JSON schema for editors instead.")
def config(path: Path | None, shows_schema: bool) -> None:
    """Show every setting with its value and where it comes from; secrets are masked.

    \b
    Exit status: 0, or 2 faulty configuration.
    """
    import json

    if shows_schema:
        from imds_proxy.report_schema import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    from imds_proxy import report

    loaded = load(path_of(path))
    assert loaded.configuration is not None
    for line in report.describe(loaded.configuration, loaded.providers):
        click.echo(line)


@main.command(short_help="Show how a caller's role is decided.")
@click.argument("address")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--workload", metavar="NAME", help="Who shows this workload's token from there.")
@click.option("--assume", "assumes", is_flag=True, help="Really call STS, and say what it answers.")
@click.option(
    "--offline", is_flag=True, help="Decide by the configuration here instead of asking the daemon."
)
@socket_option
def explain(
    address: str,
    path: Path | None,
    as_json: bool,
    workload: str | None,
    assumes: bool,
    offline: bool,
    socket_path: Path | None,
) -> None:
    """Show every step of the decision about the caller at ADDRESS and why it ends where it does.

    Asks the running daemon, which sees what its callers see and holds the key for STS.

    \b
    Exit status: 0 granted, 1 refused, 2 faulty configuration, 3 trouble (DNS, STS, no daemon).
    """
    from imds_proxy import explain_client
    from imds_proxy.model import canonical_address
    from imds_proxy.names import parse_workload

    try:
        caller = canonical_address(address)
    except ValueError:
        raise click.BadParameter(f"{address!r} is not an IP address", param_hint="ADDRESS") from None
    if workload is not None and (workload := parse_workload(workload)) is None:
        raise click.BadParameter("reads like a host name, such as web.pods.example", param_hint="--workload")
    try:
        if offline:
            loaded = load(path_of(path))
            explanation = explain_client.explain_offline(caller, loaded, workload=workload, assumes=assumes)
        else:
            explanation = explain_client.ask_daemon(
                caller, admin_socket(socket_path, path), workload=workload, assumes=assumes
            )
    except FederationError as error:
        click.echo(visible_lines(f"imds-proxy: {error}"), err=True)
        sys.exit(EXIT_TROUBLE)
    _show(explanation, as_json=as_json, assumes=assumes)
    sys.exit(_EXIT_OF_OUTCOME[explanation.outcome])


@main.command(short_help="Show the whole thing on loopback.")
@click.option("--once", is_flag=True, help="Run one client, show what it got, and end.")
def demo(once: bool) -> None:
    """Show the whole thing on loopback, with an embedded AWS and an embedded name server.

    \b
    Needs the extra demo: pip install 'imds-proxy[demo]'
    Exit status: 0 only if all that was shown was real.
    """
    from imds_proxy.demo import run_demo

    sys.exit(run_demo(once=once))


def _fill_standard_streams() -> None:
    """Put /dev/null where a parent has closed stdin, stdout or stderr.

    Else the next file or socket that is opened takes that number, and whoever writes to stdout writes there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003  it takes no keyword
    os.close(descriptor)
    # Python has no stream objects for what was closed when it started.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115  stays open
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115  likewise


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _show(explanation: Explanation, *, as_json: bool, assumes: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        fields = asdict(explanation)
        if not assumes:
            del fields["access_key_id"], fields["expiration"]
        click.echo(json.dumps(fields, indent=2))
        return
    for number, step in enumerate(explanation.steps, 1):
        click.echo(visible(f"{number:2}. {step}"))
    click.echo(visible(f"{explanation.outcome}: {explanation.reason}"))
