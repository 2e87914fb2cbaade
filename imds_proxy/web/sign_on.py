"""From the identity settings to a way of knowing who is asking, and what of it outlives a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.directory.verify import verify
from imds_proxy.web.basic import BasicSignOn
from imds_proxy.web.identity import NotIdentified, SignOn
from imds_proxy.web.local_user import LocalUser
from imds_proxy.web.login_throttle import Bound, LoginThrottle
from imds_proxy.web.trusted_proxy import TrustedProxy

if TYPE_CHECKING:
    from imds_proxy.clock import Clock
    from imds_proxy.config.people import IdentitySettings

__all__ = ["NotIdentified", "SignOn", "SignOnState", "build_sign_on"]

THREADS = 8
"""Questions to NSS and LDAP at a time."""

_LONGEST_LINE = 64
_LDAP_GRACE = 1.0
"""Seconds beyond the directory's own `timeout` until it is given up from outside."""


class SignOnState:
    """What outlives a reload: the threads that may hang, who has guessed how often."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.threads = DaemonThreads("who is asking", most=THREADS, longest_line=_LONGEST_LINE)
        self.throttle = LoginThrottle(clock)


def build_sign_on(identity: IdentitySettings, secret: str | None, *, state: SignOnState) -> SignOn:
    """Return the one way that the settings name; `secret` is what a trusted proxy shows."""
    if identity.header is not None:
        return TrustedProxy(
            identity.header,
            trusted=identity.trusted,
            secret=secret,
            secret_header=identity.secret_header,
            clock=state.clock,
            throttle=state.throttle,
        )
    directory = identity.ldap
    if directory is not None:
        return BasicSignOn(
            lambda user, password: verify(directory, user, password),
            patience=directory.timeout + _LDAP_GRACE,
            threads=state.threads,
            throttle=state.throttle,
            lockout=Bound(directory.lockout_threshold - 1, directory.lockout_window),
            clock=state.clock,
        )
    return LocalUser(state.threads)
