"""sssd: the groups that a user would have at a login, as NSS tells them, for SSSD and its like."""

from __future__ import annotations

from imds_proxy import nss
from imds_proxy.provider import PEOPLE
from imds_proxy_providers.by_groups import ProviderByGroups, Settings


class Provider(ProviderByGroups):
    """Asks for one user's groups (initgroups), so the directory need not list all of them."""

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
        names = {gid: nss.find_group_name(gid) for gid in nss.group_ids(person)}
        nameless = [gid for gid, name in names.items() if name is None]
        if nameless:
            self.logger.warning("%s: groups without a name: %s", self.user, ", ".join(map(str, nameless)))
        return [name for name in names.values() if name is not None]
