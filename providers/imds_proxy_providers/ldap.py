"""ldap: a user's groups in an LDAP directory, OpenLDAP, Active Directory or another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from imds_proxy.directory.groups import groups_of, logins_of
from imds_proxy.directory.settings import OLD_NAMES, DirectorySettings
from imds_proxy.directory.wire import check_library
from imds_proxy.provider import PEOPLE
from imds_proxy_providers import by_groups

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping


class Settings(DirectorySettings, by_groups.Settings):
    """A directory that has groups, and the expression for their names."""

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if self.group_base is None:
            raise ValueError("group_base is required")
        check_library()
        return self


class Provider(by_groups.ProviderByGroups):
    """Asks the directory at every question, on a connection of its own."""

    settings_model = Settings
    serves = frozenset({PEOPLE})

    def __init__(self, user: str, config: Mapping[str, Any], logger: logging.Logger | None = None) -> None:
        """Raises pydantic's ValidationError for settings that can't be used."""
        super().__init__(user, config, logger)
        known = {*Settings.model_fields, *OLD_NAMES} & config.keys()
        self._settings = Settings.model_validate({key: config[key] for key in known})

    def get_login_names(self) -> tuple[str, ...]:
        """Return all login names of the user's entry. Raises as `get_group_list` does."""
        return logins_of(self._settings, self.user)

    def get_group_list(self) -> list[str] | None:
        """Return the names of the user's groups; None for a user whom the directory does not know.

        Raises Refusal where several entries have the name, ProviderError when the directory does not answer.
        """
        groups = groups_of(self._settings, self.user)
        if groups is None:
            self.logger.debug("%s: no such user", self.user)
            return None
        return list(groups)
