"""systemd units from the settings: the sockets of all listeners, and what they ask of the service."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.rendering.files import RenderedFile, RenderingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imds_proxy.config import PeopleListenSettings, Settings, SocketAddress

BACKLOG = 1024
"""Connections that wait in the kernel for the daemon; it lets no more of them wait either."""

_SOCKET = "imds-proxy.socket"
_PACKAGED_PROGRAM = "/opt/imds-proxy/bin/imds-proxy"
_SPECIAL = frozenset("%\"'\\$;")

_HEAD = (
    "# Made from imds-proxy's configuration by `imds-proxy render systemd`: change that, and render again.\n"
)

_UNIT = """\
[Unit]
Description={description}
Documentation=https://github.com/imds-proxy/imds-proxy

[Socket]
{listen}
{options}Backlog={backlog}
# However often the service ends, the socket stays: whoever asks meanwhile waits.
TriggerLimitIntervalSec=0
Service=imds-proxy.service

[Install]
WantedBy=sockets.target
"""

_DROP_IN = """\
[Unit]
{dependencies}
[Service]
{sockets}\
# In a user namespace everybody at a unix socket would look like nobody.
PrivateUsers=no
"""


def render(settings: Settings) -> tuple[RenderedFile, ...]:
    """Return the socket units of all listeners, and a drop-in for the service where people come by a socket.

    Names are below /etc/systemd/system. Raises RenderingError for what a unit can't say.
    """
    addresses = [listen.address for listen in settings.listen]
    people = settings.people.listen if settings.people is not None else ()
    addresses += [listen.address for listen in people if listen.address is not None]
    unix = [listen for listen in people if listen.unix is not None]
    # The service requires the first by its name.
    names = [_SOCKET] * (not addresses) + ["imds-proxy-people.socket"]
    names += [f"imds-proxy-people-{number}.socket" for number in range(2, len(unix) + 2)]
    rendered = [RenderedFile(_SOCKET, _HEAD + _tcp_unit(addresses))] if addresses else []
    rendered += [
        RenderedFile(name, _HEAD + _unix_unit(listen)) for name, listen in zip(names, unix, strict=False)
    ]
    if unix:
        others = [file.name for file in rendered if file.name != _SOCKET]
        rendered.append(RenderedFile("imds-proxy.service.d/people.conf", _HEAD + _drop_in(others)))
    return tuple(rendered)


def render_service() -> RenderedFile:
    """Return the service for this installation of the program, where no package has brought one.

    Raises RenderingError when no unit could start it.
    """
    program = Path(sys.executable).with_name("imds-proxy")
    if not program.is_file() or any(each.isspace() or each in _SPECIAL for each in str(program)):
        raise RenderingError(f"{program}: no program that a unit can start")
    return RenderedFile(
        "imds-proxy.service", shipped("imds-proxy.service").replace(_PACKAGED_PROGRAM, str(program))
    )


def shipped(name: str) -> str:
    """Return a file of the folder systemd/, which a wheel has inside the package and a checkout beside it.

    Raises RenderingError when it is missing.
    """
    package = Path(str(files("imds_proxy")))
    for folder in (package / "systemd", package.parent / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text()
    raise RenderingError(f"{name} is missing from this installation")


def _tcp_unit(addresses: Sequence[SocketAddress]) -> str:
    if any(address.port == 0 for address in addresses):
        raise RenderingError("listen: port 0 stands for any port: a socket unit needs one")
    takes_both = any(address.ip.version == 6 and address.ip.is_unspecified for address in addresses)
    return _UNIT.format(
        description="Where imds-proxy is reached",
        listen="\n".join(f"ListenStream={address}" for address in addresses),
        options=f"BindIPv6Only={'both' if takes_both else 'ipv6-only'}\n"
        "# The socket may be there before its address is.\n"
        "FreeBind=yes\n",
        backlog=BACKLOG,
    )


def _unix_unit(listen: PeopleListenSettings) -> str:
    path = str(listen.unix)
    if any(each.isspace() or each == "\\" for each in path):
        raise RenderingError(
            f"people.listen: {path!r}: a unit can't name a socket with blanks or backslashes in its path"
        )
    # ListenStream=8080 is a TCP port on all addresses, @x an abstract socket.
    if not path.startswith("/"):
        raise RenderingError(f"people.listen: {path!r}: a unit needs the whole path of a socket, from / on")
    group = f"SocketGroup={listen.group}\n" if listen.group else ""
    return _UNIT.format(
        description="Where people reach imds-proxy",
        listen=f"ListenStream={path.replace('%', '%%')}",
        options=f"SocketMode={listen.mode:04o}\n{group}RemoveOnStop=yes\n",
        backlog=BACKLOG,
    )


def _drop_in(sockets: Sequence[str]) -> str:
    if not sockets:
        return _DROP_IN.format(dependencies="", sockets="")
    names = " ".join(sockets)
    return _DROP_IN.format(
        dependencies=f"Requires={names}\nAfter={names}\n",
        sockets=f"# Else a start of the service alone leaves them behind.\nSockets={_SOCKET} {names}\n",
    )
