"""Whether a password is somebody's, for HTTP Basic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.directory.settings import DirectorySettings


def verify(settings: DirectorySettings, user: str, password: str) -> str | None:
    """Return the login name as the directory spells it if `password` is that of `user`, else None.

    None for a wrong password, an unknown user and a name that several entries have; an empty user or password
    never reaches a server (RFC 4513 section 5.1.2: it would be a bind as nobody, which succeeds). Blocks for
    `settings.timeout` seconds at most. Raises ProviderError when no server answers or the settings don't fit.
    """
    raise NotImplementedError
