"""The groups of a person, with the groups that those groups are in, if the settings say so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from imds_proxy.directory.connection import SizeLimitExceeded
from imds_proxy.directory.filters import escape
from imds_proxy.directory.people import find_person, is_possible_name
from imds_proxy.directory.servers import DEFAULT_MEANS, ask
from imds_proxy.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imds_proxy.directory.connection import Connection, Entry
    from imds_proxy.directory.people import Person
    from imds_proxy.directory.servers import Desk, Means
    from imds_proxy.directory.settings import DirectorySettings

MEMBERS_AT_A_TIME = 50
"""Groups whose own groups one search of `nested: walk` asks for."""

# https://learn.microsoft.com/windows/win32/adsi/search-filter-syntax: LDAP_MATCHING_RULE_IN_CHAIN
_IN_CHAIN = ":1.2.840.113556.1.4.1941:"

_log = logging.getLogger(__name__)


def groups_of(settings: DirectorySettings, user: str, means: Means = DEFAULT_MEANS) -> tuple[str, ...] | None:
    """Return the names of the groups that `user` is in, sorted; None when the directory knows no such user.

    Blocks. Raises Refusal where several entries have the name, ProviderError when no server answers in
    `settings.timeout` seconds, when the settings don't fit the directory, and for more than `max_groups`
    groups: a list that was cut might lack the one that matters.
    """
    if not is_possible_name(user):
        return None

    def question(desk: Desk) -> tuple[str, ...] | None:
        person = find_person(desk.connection, settings, user)
        if person is None:
            return None
        groups = _Search(desk.connection, settings).groups_of(person)
        names = {name for group in groups if (name := _name(group, settings.group_name_attribute))}
        return tuple(sorted(names))

    return ask(settings, question, means)


def logins_of(settings: DirectorySettings, user: str, means: Means = DEFAULT_MEANS) -> tuple[str, ...]:
    """Return all login names of the entry that `user` means; none where the directory knows no such user.

    Blocks. Raises as `groups_of` does.
    """
    if not is_possible_name(user):
        return ()

    def question(desk: Desk) -> tuple[str, ...]:
        person = find_person(desk.connection, settings, user)
        return () if person is None else person.logins

    return ask(settings, question, means)


class _Search:
    """The searches for one person, and what they have found so far."""

    def __init__(self, connection: Connection, settings: DirectorySettings) -> None:
        self._connection = connection
        self._settings = settings
        self._found: dict[str, Entry] = {}

    def groups_of(self, person: Person) -> Sequence[Entry]:
        """Return all groups that count."""
        if self._settings.has_login_names:
            self._add_groups_with([person.login])
        elif self._settings.nested == "ad":
            self._add_groups_with([person.dn], _IN_CHAIN)
        else:
            level = self._add_groups_with([person.dn])
            while level and self._settings.nested == "walk":
                level = [dn for part in _parts(level) for dn in self._add_groups_with(part)]
        return tuple(self._found.values())

    def _add_groups_with(self, members: Sequence[str], rule: str = "") -> list[str]:
        """Find the groups that have one of `members`, and return the DNs of those not found before.

        Whoever is in a cycle of groups comes by each of them once.
        """
        attribute = self._settings.member_attribute
        conditions = "".join(f"({attribute}{rule}={escape(member)})" for member in members)
        new = []
        for group in self._search(f"(&{self._settings.group_filter}(|{conditions}))"):
            key = group.dn.casefold()
            if key not in self._found:
                self._found[key] = group
                new.append(group.dn)
            if len(self._found) > self._settings.max_groups:
                raise self._too_many()
        return new

    def _search(self, filter_: str) -> Iterator[Entry]:
        settings = self._settings
        assert settings.group_base is not None  # the provider's settings require it
        cookie = b""
        while True:
            try:
                page = self._connection.search_page(
                    settings.group_base,
                    filter_,
                    settings.group_name_attribute,
                    size=settings.page_size,
                    cookie=cookie,
                )
            except SizeLimitExceeded:
                text = "LDAP: the server gives bind_dn no more groups; raise its size limit for paged results"
                raise ProviderError(text) from None
            yield from page.entries
            cookie = page.cookie
            if not cookie:
                return

    def _too_many(self) -> ProviderError:
        return ProviderError(f"LDAP: more than max_groups ({self._settings.max_groups}) groups")


def _parts(members: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(members), MEMBERS_AT_A_TIME):
        yield members[start : start + MEMBERS_AT_A_TIME]


def _name(group: Entry, attribute: str) -> str | None:
    """Return what a group is called: of several values the one that its DN has. None: it has no one name."""
    names = group.texts(attribute)
    if len(names) > 1:
        names = tuple(name for name in names if _begins_with(group.dn, attribute, name))
    if len(names) != 1:
        _log.warning("LDAP group %r has not exactly one %s: it counts for nobody", group.dn, attribute)
        return None
    return names[0]


def _begins_with(dn: str, attribute: str, value: str) -> bool:
    """Tell whether the DN begins with this. Values with special characters are spelled differently there."""
    return dn.casefold().startswith(f"{attribute}={value},".casefold())
