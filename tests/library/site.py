"""Classes of the old shape as sites have written them, and what a test's user may have by them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from aws_federation_proxy.provider.base_provider import BaseProvider, ProviderByGroups
from aws_federation_proxy.provider.provider_by_ip import ProviderByIP
from imds_proxy import AWSFederationProxy

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE = "tests.library.site"
ACCOUNT = "main"
ACCOUNT_ID = "000123456789"
ACCOUNTS = {ACCOUNT: {"id": ACCOUNT_ID}}


class Roles(BaseProvider):
    """Gives what its settings have: `roles`."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return the roles."""
        return {ACCOUNT: {(role, f"{self.user} was told so") for role in self.config["roles"]}}


class Stranger:
    """Has the shape and derives from nothing of ours; answers with lists."""

    def __init__(self, user: str, config: Mapping[str, Any], logger: object = None) -> None:
        self.user = user
        self.config = config
        self.logger = logger

    def get_accounts_and_roles(self) -> dict[str, list[tuple[str, str]]]:
        """Return one role."""
        return {ACCOUNT: [("list-role", f"{self.user} in a list")]}


class Groups(ProviderByGroups):
    """Has the groups of its settings; None stands for a user without any."""

    def get_group_list(self) -> list[str] | None:
        """Return the groups."""
        groups: list[str] | None = self.config.get("groups")
        return groups


class Machines(ProviderByIP):
    """Names roles after hosts."""

    def _get_role_name(self) -> None:
        self.role_name = f"{self.role_prefix}{self.client_host}"


class Broken(BaseProvider):
    """Fails when it is asked."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Raise what a directory that is down would."""
        raise LookupError("the directory is down")


class Indiscreet(BaseProvider):
    """Fails, and quotes its password."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Raise what a careless client library would."""
        raise LookupError(f"the directory refuses {self.config['password']}")


class Unmakable(BaseProvider):
    """Fails when it is made."""

    def __init__(self, user: str, config: Mapping[str, Any], logger: Any = None) -> None:
        super().__init__(user, config, logger)
        raise LookupError("no directory is set")

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return nothing."""
        return {}


class Hanging(BaseProvider):
    """Hangs when it is asked, for longer than anybody waits."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return nothing, late."""
        time.sleep(60)
        return {}


class Exiting(BaseProvider):
    """Ends the program, it thinks."""

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Raise SystemExit."""
        raise SystemExit(3)


class Counted(Roles):
    """Counts how often it is asked, and how many are asked at once."""

    lock = threading.Lock()
    asked = 0

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return the roles."""
        with self.lock:
            Counted.asked += 1
        return super().get_accounts_and_roles()


def proxy_for(
    *roles: str,
    user: str = "alice",
    class_name: str = "Roles",
    accounts: Mapping[str, object] = ACCOUNTS,
    password: str = "",
    **config: object,
) -> AWSFederationProxy:
    """Return the library's object for a user who is granted these roles in the account `main`."""
    provider = {"module": MODULE, "class": class_name, "roles": list(roles), "password": password}
    return AWSFederationProxy(user, {"provider": provider, **config}, accounts)
