"""Providers whose answers are fixed: for tests, demos and first steps."""

from __future__ import annotations

from imds_proxy.base_provider import BaseProvider
from imds_proxy_providers.by_groups import ProviderByGroups

_REASON = "this is a sample"


class SimpleTestProvider(BaseProvider):
    """Gives everybody one role in each of two accounts."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return the two roles."""
        return {"testaccount": {("testrole", _REASON)}, "testaccount1": {("testrole2", _REASON)}}


class GroupTestProvider(ProviderByGroups):
    """Has everybody in three groups; with `(?P<account>.*)-(?P<role>.*)` it answers as SimpleTestProvider."""

    def get_group_list(self) -> list[str]:
        """Return the three groups."""
        return ["testaccount-testrole", "testaccount1-testrole2", "foobar"]


class SingleAccountSingleRoleProvider(BaseProvider):
    """Gives everybody one role: what a machine needs."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return the one role."""
        return {"the_only_account": {("the_only_role", _REASON)}}


class NoAccountNoRoleProvider(BaseProvider):
    """Gives nobody anything."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return nothing."""
        return {}
