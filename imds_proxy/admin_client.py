"""Where the running daemon's admin socket is, and a question to it."""

from __future__ import annotations

import http.client
from pathlib import Path

from imds_proxy.errors import Trouble
from imds_proxy.unix_http import UnixConnection

USUAL_SOCKET = Path("/run/imds-proxy/admin.sock")
"""Where the unit has it: its $RUNTIME_DIRECTORY is not known outside."""

_PATIENCE = 30.0


def find_socket(*named: Path | None, usual: Path = USUAL_SOCKET) -> Path | None:
    """Return the first socket that is named, or else the unit's where that is running; None without any."""
    return next((path for path in named if path is not None), usual if usual.exists() else None)


def ask(
    path: Path | None, method: str, page: str, order: str | None = None, *, patience: float = _PATIENCE
) -> tuple[int, bytes]:
    """Return status and body of an answer of the daemon that listens at `path`.

    `order` is JSON; each step may take `patience` seconds. Raises Trouble when nobody answers there.
    """
    if path is None:
        raise Trouble(f"admin.socket is not set and {USUAL_SOCKET} is not there: no daemon to ask")
    connection = UnixConnection(path, timeout=patience)
    headers = {} if order is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, page, order, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Trouble(f"no daemon answers on {path} ({error})") from error
    finally:
        connection.close()
