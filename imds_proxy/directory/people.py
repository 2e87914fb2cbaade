"""A login name to the one entry that it means."""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.directory.connection import SizeLimitExceeded
from imds_proxy.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imds_proxy.directory.connection import Connection
    from imds_proxy.directory.settings import DirectorySettings

_ENOUGH = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the directory knows."""

    dn: str
    login: str
    """As the directory spells it: `Alice` and `alice` are one person, and have one name here."""
    logins: tuple[str, ...] = ()
    """All names of the entry."""


def is_possible_name(user: str) -> bool:
    """Tell whether a directory can be asked about `user`: not about nothing, nor about what is no Unicode."""
    return bool(user) and _is_unicode(user)


def find_person(connection: Connection, settings: DirectorySettings, user: str) -> Person | None:
    """Return whom the login name `user` means, or None. Raises Refusal where several entries have it.

    Servers compare by rules of their own, some of which ignore accents or spaces. Here an entry counts only
    if the name that it has is the one that was asked for, but for upper and lower case.
    """
    assertion = settings.user_assertion
    try:
        entries = connection.search(
            settings.user_base, assertion.for_user(user), assertion.attribute, most=_ENOUGH
        )
    except SizeLimitExceeded:
        raise Refusal(f"{user!r} is the name of several entries below {settings.user_base}") from None
    if not entries:
        return None
    if len(entries) > 1:
        raise Refusal(f"{user!r} is the name of {entries[0].dn} and of {entries[1].dn}")
    values = entries[0].texts(assertion.attribute)
    names = tuple(_bare_names(values, assertion.before, assertion.after))
    alike = [name for name in names if _fold(name) == _fold(user)]
    if not alike or not entries[0].dn:
        text = "LDAP: %r was looked for and %r found, whose %s is another one, or hidden from bind_dn"
        _log.info(text, user, entries[0].dn, assertion.attribute)
        return None
    return Person(entries[0].dn, user if user in alike else min(alike), names)


def _bare_names(values: Iterable[str], before: str, after: str) -> Iterable[str]:
    """Yield the names in the values of an attribute, without what the filter has around {user}."""
    for value in values:
        name = value[len(before) : len(value) - len(after)]
        if _fold(before + name + after) == _fold(value):
            yield name


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
