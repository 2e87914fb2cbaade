"""The commands for people: which roles they have, a role's credentials, a way into the console."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imds_proxy.errors import ConfigurationError, Refusal, Trouble
from imds_proxy.exit_statuses import EXIT_FAULTY, EXIT_REFUSED, EXIT_TROUBLE
from imds_proxy.text import visible

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from imds_proxy.people_client import PeopleClient

DEFAULT_SOCKET = Path("/run/imds-proxy/people.sock")


class _Name(click.ParamType[str]):
    """A name that fits between two slashes of a path."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in {"", ".", ".."}:
            self.fail(f"{value!r} is no name", param, ctx)
        return value


def _with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Hand a client to a command, and add the options that say where it leads and who is asking."""

    @wraps(command)
    def run(
        *,
        socket_path: Path | None,
        url: str | None,
        user: str | None,
        ca_file: Path | None,
        **its_own: object,
    ) -> None:
        client = _client(socket_path=socket_path, url=url, user=user, ca_file=ca_file)
        with _exits():
            command(client, **its_own)

    options = (
        click.option(
            "--socket",
            "socket_path",
            # Whether it may be opened is the kernel's to say; that takes no right to read it.
            type=click.Path(readable=False, path_type=Path),
            metavar="PATH",
            help=f"The daemon's unix socket for people.  [default: {DEFAULT_SOCKET}]",
        ),
        click.option(
            "--url",
            envvar="IMDS_PROXY_URL",
            show_envvar=True,
            metavar="URL",
            help="Go there instead, such as https://afp.example/afp-api/latest.",
        ),
        click.option("--user", metavar="NAME", help="With --url: who you are.  [default: your login name]"),
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="With --url: authorities to trust instead of the system's.  [$SSL_CERT_FILE]",
        ),
    )
    decorated: Callable[..., None] = run
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
@_with_client
def accounts(client: PeopleClient, *, as_json: bool) -> None:
    """List the roles that you may have, and why.

    \b
    A line for each: ACCOUNT, ROLE and REASON, with a tab between them.
    A character that would break a line or upset a terminal is shown as \\t, \\n, \\x1b ...

    \b
    By the socket of a daemon on this host you need no password: it knows your uid. With --url the password
    comes from netrc (~/.netrc or $NETRC: machine HOST login NAME password ...) or you are asked for it.

    \b
    Exit status: 0; 1 refused (one line on stderr, nothing on stdout); 2 wrong usage; 3 no answer:
    unreachable, or trouble with the provider.
    """
    roles = client.roles()
    if as_json:
        import json
        from dataclasses import asdict

        # DEL is the one control character that JSON may have in the open.
        click.echo(json.dumps([asdict(role) for role in roles], indent=2).replace("\x7f", "\\u007f"))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can show every name
    for role in roles:
        click.echo("\t".join(map(visible, (role.account, role.role, role.reason))))
    if not roles:
        click.echo("imds-proxy: you have no role", err=True)


@click.command(short_help="Print temporary credentials of a role.")
@click.argument("account", type=_Name())
@click.argument("role", type=_Name())
@_with_client
def credentials(client: PeopleClient, *, account: str, role: str) -> None:
    """Print temporary credentials of a role, as AWS SDKs read them from a credential_process.

    \b
    In ~/.aws/config:
      [profile ACCOUNT-ROLE]
      credential_process = imds-proxy credentials ACCOUNT ROLE
    Then:
      aws --profile ACCOUNT-ROLE sts get-caller-identity

    \b
    SDKs run it again when the credentials end. With --url put the password into netrc: see
    imds-proxy accounts --help.

    \b
    Exit status: 0; 1 refused (one line on stderr, nothing on stdout); 2 wrong usage; 3 no answer:
    unreachable, or trouble with the provider or AWS.
    """
    click.echo(client.keys(account, role).for_credential_process())


@click.command()
@click.argument("account", type=_Name())
@click.argument("role", type=_Name())
@click.option("--open", "opens", is_flag=True, help="Start the browser there and print nothing.")
@_with_client
def console(client: PeopleClient, *, account: str, role: str, opens: bool) -> None:
    """Print a URL that logs you into the AWS console with a role.

    Whoever opens it within 15 minutes is logged in: don't show it around.

    \b
    --open takes the browser that $BROWSER names, else the desktop's. The URL does not show in the list of
    processes: the browser is started with the address of a page of its own that leads to it once.

    \b
    Exit status: 0; 1 refused (one line on stderr, nothing on stdout); 2 wrong usage; 3 no answer:
    unreachable, trouble with the provider or AWS, or no browser.
    """
    url = client.console_url(account, role)
    if not opens:
        click.echo(url)
        return
    from imds_proxy.one_time_page import open_in_browser

    open_in_browser(url)


COMMANDS = (accounts, credentials, console)


def _client(
    *, socket_path: Path | None, url: str | None, user: str | None, ca_file: Path | None
) -> PeopleClient:
    """Return a client for where the options say. Raises click.UsageError."""
    from imds_proxy import people_client
    from imds_proxy.people_passwords import SignIn

    if socket_path is not None and url is not None:
        source = click.get_current_context().get_parameter_source("url")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("either --socket or --url")
        url = None
    if url is None:
        for option, value in (("--user", user), ("--ca-file", ca_file)):
            if value is not None:
                raise click.UsageError(f"{option} goes with --url")
        return people_client.PeopleClient(people_client.at_socket(socket_path or DEFAULT_SOCKET), None)
    if user is not None and (not user.isprintable() or not user or ":" in user):
        raise click.BadParameter("is no user's name", param_hint="--user")
    try:
        place = people_client.at_url(url, lambda: _tls(ca_file))
    except ValueError as error:
        raise click.BadParameter(visible(str(error)), param_hint="--url") from None
    sign_in = SignIn(people_client.host_of(url), user, os.environ, warn=_warn)
    return people_client.PeopleClient(place, sign_in)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise Trouble(f"the authorities in {ca_file or 'the system'} can't be read: {reason}") from None


@contextmanager
def _exits() -> Iterator[None]:
    """Turn what goes wrong into one line on stderr and an exit status."""
    try:
        yield
    except Refusal as error:
        _complain(str(error))
        sys.exit(EXIT_REFUSED)
    except ConfigurationError as error:
        _complain(str(error))
        sys.exit(EXIT_FAULTY)
    except Trouble as error:
        _complain(str(error))
        sys.exit(EXIT_TROUBLE)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click ends without a word
        # Python would try once more at its end, and say so at length.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _complain(f"the answer can't be written: {error.strerror}")
        sys.exit(EXIT_TROUBLE)


def _complain(text: str) -> None:
    click.echo(f"imds-proxy: {visible(text)}", err=True)


def _warn(text: str) -> None:
    _complain(f"warning: {text}")
