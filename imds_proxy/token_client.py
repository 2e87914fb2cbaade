"""How `imds-proxy token` gets a workload's token from the running daemon, and where it puts it."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy import admin_client
from imds_proxy.errors import Refusal, Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token, and what the daemon says of it."""

    token: str = field(repr=False)
    id: str
    """By which it can be revoked."""
    expiration: str
    """`YYYY-MM-DDTHH:MM:SSZ`."""
    warnings: tuple[str, ...]


def mint(path: Path | None, workload: str, networks: Sequence[str], seconds: int) -> MintedToken:
    """Return a new token. Raises Trouble without a daemon at `path`, Refusal when it makes no such one."""
    order = json.dumps({"workload": workload, "networks": list(networks), "seconds": seconds})
    status, body = admin_client.ask(path, "POST", "/token", order)
    if status == HTTPStatus.BAD_REQUEST:
        raise Refusal(body.decode(errors="replace").strip())
    try:
        if status != HTTPStatus.OK:
            raise ValueError(status)
        fields = json.loads(body)
        return MintedToken(fields["token"], fields["id"], fields["expiration"], tuple(fields["warnings"]))
    except (ValueError, TypeError, KeyError) as error:
        raise Trouble(f"the daemon on {path} gave no token ({status}); is it another version?") from error


def write_token(token: str, path: Path) -> None:
    """Put a token into a file of mode 0600, all at once, without a newline.

    Whoever owns the file that is replaced owns the new one: a container's user may be another than ours. A
    link is replaced, not followed: who can write in the folder must not choose what root overwrites. Raises
    OSError, also in place of what is no regular file.
    """
    before = None
    with suppress(FileNotFoundError):
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):  # /dev/null would be gone for the whole host
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(token.encode("ascii"))
            stream.flush()
            os.fsync(stream.fileno())
            own = os.fstat(stream.fileno())
            if before is not None and (before.st_uid, before.st_gid) != (own.st_uid, own.st_gid):
                os.fchown(stream.fileno(), before.st_uid, before.st_gid)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
