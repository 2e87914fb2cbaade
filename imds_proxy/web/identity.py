"""What the ways to know who is asking have in common: the contract, the no, what a login name may be."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from imds_proxy.errors import Refusal
from imds_proxy.web.controls import has_controls

if TYPE_CHECKING:
    from aiohttp import web

    from imds_proxy.web.edge.connection import Connection

LONGEST_USER = 256


class LoginFailure(StrEnum):
    """Reason why it is not known who is asking, for counting."""

    WRONG_PASSWORD = "wrong_password"
    LOCKED = "locked"
    THROTTLED = "throttled"
    WRONG_PROOF = "wrong_proof"
    OTHER = "other"


class NotIdentified(Refusal):
    """Nobody knows who is asking; the text is the reason, for the audit log.

    `challenge` is what WWW-Authenticate says, if anything. `is_attempt` tells a failed try from a request
    that claims nothing, such as a browser's first.
    """

    def __init__(
        self,
        reason: str,
        *,
        user: str | None = None,
        challenge: str | None = None,
        is_attempt: bool = True,
        failure: LoginFailure = LoginFailure.OTHER,
    ) -> None:
        super().__init__(reason)
        self.user = user
        """The login name that was claimed, if it can be one."""
        self.challenge = challenge
        self.is_attempt = is_attempt
        self.failure = failure


class SignOn(Protocol):
    """A way to know who is asking."""

    async def user_of(self, request: web.BaseRequest, connection: Connection) -> str:
        """Return the login name. Raises NotIdentified, or Trouble where that can't be told now."""


def check_user(user: str) -> str:
    """Return `user` if it can be a login name: 1 to 256 characters, none of them a control.

    Raises NotIdentified.
    """
    if not user:
        raise NotIdentified("the login name is empty")
    if len(user) > LONGEST_USER:
        raise NotIdentified(f"the login name has {len(user)} characters, {LONGEST_USER} at most")
    if has_controls(user):
        raise NotIdentified("the login name has control characters or is no UTF-8")
    return user
