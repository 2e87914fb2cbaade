"""Whether a password is somebody's, for HTTP Basic."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

from imds_proxy.directory.connection import BindRefused, SizeLimitExceeded, Unreachable
from imds_proxy.directory.people import find_person, is_possible_name
from imds_proxy.directory.servers import DEFAULT_MEANS, ask
from imds_proxy.errors import ProviderError, Refusal

if TYPE_CHECKING:
    from imds_proxy.directory.people import Person
    from imds_proxy.directory.servers import Desk, Means
    from imds_proxy.directory.settings import DirectorySettings


class AccountLocked(Refusal):
    """The directory has locked the account: it did not look at the password."""


_LOCKED_AT = "pwdAccountLockedTime"
_NOBODY = "cn=imds-proxy-nobody"

_log = logging.getLogger(__name__)


def verify(settings: DirectorySettings, user: str, password: str, means: Means = DEFAULT_MEANS) -> str | None:
    """Return the login name as the directory spells it if `password` is that of `user`, else None.

    None for a wrong password, an unknown user and a name that several entries have. For all of these a bind
    is tried, so that neither the answer nor its way tells them apart. An empty user or password never
    reaches a server (RFC 4513 section 5.1.2: it would be a bind as nobody, which succeeds). Blocks for
    `settings.timeout` seconds at most. Raises AccountLocked when the directory says so, and ProviderError
    when no server answers or the settings don't fit the directory.
    """
    if not (is_possible_name(user) and _is_possible_password(password)):
        return None

    def question(desk: Desk) -> str | None:
        try:
            person = find_person(desk.connection, settings, user)
        except Refusal as refusal:
            _log.warning("LDAP: nobody can log in as %r: %s", user, refusal)
            person = None
        return _login(desk, person, settings, password)

    return ask(settings, question, means)


def _login(desk: Desk, person: Person | None, settings: DirectorySettings, password: str) -> str | None:
    dn = f"{_NOBODY},{settings.user_base}" if person is None else person.dn
    with closing(desk.reconnect()) as connection:
        try:
            connection.bind(dn, password)
        except BindRefused as error:
            if person is None:
                return None
            if error.is_locked or _is_locked(desk, person):
                raise AccountLocked(f"the directory has locked the account of {person.login!r}") from None
            _log.info("LDAP: wrong password for %r: %s", person.login, error)
            return None
    return None if person is None else person.login


def _is_locked(desk: Desk, person: Person) -> bool:
    """Tell whether an entry has the mark of draft-behera-ldap-password-policy, where it may be read."""
    try:
        entries = desk.connection.search(person.dn, "(objectClass=*)", _LOCKED_AT, most=1)
    except (SizeLimitExceeded, ProviderError, Unreachable):
        return False  # the answer is a no either way: another server must not be tried for it
    return any(entry.texts(_LOCKED_AT) for entry in entries)


def _is_possible_password(password: str) -> bool:
    """Tell whether `password` may be tried. A server might take one with a NUL for a shorter one, or none."""
    return is_possible_name(password) and "\0" not in password
