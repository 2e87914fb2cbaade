"""grp: groups that list a user as a member, and the user's primary group, as NSS lists them."""

from __future__ import annotations

from imds_proxy import nss
from imds_proxy.provider import PEOPLE
from imds_proxy_providers.by_groups import ProviderByGroups, Settings


class Provider(ProviderByGroups):
    """Goes through all groups of the system. A directory that does not list its groups needs `sssd`."""

    settings_model = Settings
    serves = frozenset({PEOPLE})

    def get_login_names(self) -> list[str]:
        """Return the login name as NSS writes it; none for a user whom NSS does not know. Raises OSError."""
        person = nss.find_person(self.user)
        return [] if person is None else [person.name]

    def get_group_list(self) -> list[str]:
        """Return the names of the user's groups; none for a user whom NSS does not know. Raises OSError."""
        person = nss.find_person(self.user)
        if person is None:
            self.logger.debug("%s: no such user", self.user)
            return []
        primary = nss.find_group_name(person.gid)
        if primary is None:
            self.logger.warning("%s: groups without a name: %d", self.user, person.gid)
        return [*nss.member_groups(person), *([] if primary is None else [primary])]
