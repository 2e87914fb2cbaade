"""Providers of the old, blocking shape, as a site may have them: what works, and all that can be wrong."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from imds_proxy_providers import by_ip
from imds_proxy_providers.by_groups import ProviderByGroups
from imds_proxy_providers.by_host_name import ProviderByIP
from pydantic import SecretStr

from imds_proxy.base_provider import BaseProvider
from imds_proxy.errors import Refusal
from imds_proxy.model import Grant
from imds_proxy.provider import AccountName, Caller, Provider, ProviderSettings
from tests.standins.site_providers import Good

Roles = Mapping[str, Iterable[tuple[str, str]]]


class Sets(BaseProvider):
    """Answers with sets, as the old manual says."""

    def get_accounts_and_roles(self) -> Roles:
        """Return two roles in one account, one in another."""
        return {"main": {("a", f"{self.user} may"), ("b", "so it is")}, "other": {("a", "as well")}}


class Lists(BaseProvider):
    """Answers with lists, and has a logger."""

    def get_accounts_and_roles(self) -> Roles:
        """Return one role."""
        self.logger.info("%s asks", self.user)
        return {"main": [("a", f"{self.user} may")]}


class Aliases(Lists):
    """Knows users by several names."""

    def get_login_names(self) -> Any:
        """Return the names, or what the settings say."""
        if "names" in self.config and self.config["names"] is None:
            raise PermissionError("no names for you")
        return self.config.get("names", [self.user, "Joseph"])


class Stranger:
    """Has the shape and no base of ours."""

    def __init__(self, user: str, config: Mapping[str, Any], logger: logging.Logger) -> None:
        self.user, self.config, self.logger = user, config, logger

    def get_accounts_and_roles(self) -> Roles:
        """Return one role, its reason a setting."""
        return {"main": {("a", f"{self.user}: {self.config['motto']}")}}


class Curious(BaseProvider):
    """Tells what its settings are, in the reason."""

    def get_accounts_and_roles(self) -> Roles:
        """Return one role."""
        return {"main": {("a", repr(self.config))}}


class Spoiling(BaseProvider):
    """Changes its own settings."""

    def get_accounts_and_roles(self) -> Roles:
        """Return one role, its reason how often this was done."""
        assert isinstance(self.config, dict)
        self.config["times"] = self.config.get("times", 0) + 1
        return {"main": {("a", str(self.config["times"]))}}


class Saying(BaseProvider):
    """Answers with, or raises, what the test has put here."""

    answer: ClassVar[object] = None

    def get_accounts_and_roles(self) -> Any:
        """Return or raise `answer`."""
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Waiting(BaseProvider):
    """Waits for the test, then gives one role."""

    may_go: ClassVar[threading.Event] = threading.Event()
    asked: ClassVar[list[str]] = []

    def get_accounts_and_roles(self) -> Roles:
        """Return one role when `may_go` is set, or after half a minute."""
        self.asked.append(self.user)
        self.may_go.wait(30)
        return {"main": {("a", self.user)}}


class SlowlyMade(Waiting):
    """Waits for the test when it is made."""

    def __init__(self, user: str, config: Mapping[str, Any], logger: logging.Logger | None = None) -> None:
        super().__init__(user, config, logger)
        self.may_go.wait(30)


class Named(BaseProvider):
    """Has the host part of its confirmed name for a role."""

    roles: ClassVar[dict[str, str]] = {}
    client_fqdn = ""

    @classmethod
    def wanted_domains(cls, config: Mapping[str, Any]) -> list[str]:
        """Return what the settings say."""
        domains: list[str] = config["domains"]
        return domains

    def get_accounts_and_roles(self) -> Roles:
        """Return the role of the name; a host called `nobody` is refused."""
        host = self.client_fqdn.partition(".")[0]
        if host == "nobody":
            raise Refusal("nobody is refused")
        return {"main": {(self.roles.get(host, host), self.client_fqdn)}}


class Groups(ProviderByGroups):
    """Reads a setting of its own."""

    def get_group_list(self) -> list[str] | None:
        """Return the user's groups as the settings have them, None for who has none."""
        groups: dict[str, list[str]] = self.config["members"]
        return groups.get(self.user)


class HostRole(ProviderByIP):
    """Sets the role's name, as the old manual says."""

    def _get_role_name(self) -> None:
        self.role_name = f"{self.role_prefix}{self.client_host}"


class ReturnedRole(ProviderByIP):
    """Returns the role's name."""

    def _get_role_name(self) -> str:
        return f"{self.role_prefix}{self.client_host}-{self.config['stage']}"


class Strict(BaseProvider):
    """Has a model."""

    class Model(ProviderSettings):
        """What it takes."""

        account: AccountName
        levels: tuple[int, ...] = (1, 2)
        password: SecretStr | None = None

    settings_model = Model

    def get_accounts_and_roles(self) -> Roles:
        """Return one role, its reason a setting."""
        return {self.config["account"]: {("a", repr(self.config["levels"]))}}


# --- what can be wrong ----------------------------------------------------------------------------------


class NoAnswer(BaseProvider):
    """Lacks the one method."""


class NoGroups(ProviderByGroups):
    """Lacks the groups."""


class Coroutine(BaseProvider):
    """Mixes the shapes."""

    async def get_accounts_and_roles(self) -> Roles:  # type: ignore[override]
        """Return nothing, later."""
        return {}


class TwoArguments(BaseProvider):
    """Can't be made as the program makes it."""

    def __init__(self, user: str, config: Mapping[str, Any]) -> None:
        super().__init__(user, config)

    def get_accounts_and_roles(self) -> Roles:
        """Return nothing."""
        return {}


class BadModel(Sets):
    """Has a model that is none of ours."""

    settings_model = dict  # type: ignore[assignment]


class BadAudience(Sets):
    """Serves a text."""

    serves = "people"  # type: ignore[assignment]


class Failing(Sets):
    """Can't be made."""

    def __init__(self, user: str, config: Mapping[str, Any], logger: logging.Logger | None = None) -> None:
        super().__init__(user, config, logger)
        raise ConnectionError(f"no answer for {config['password']}")


class Leaving(Sets):
    """Ends the program, or would."""

    def get_accounts_and_roles(self) -> Roles:
        """Leave."""
        sys.exit(3)


class NewWithGroups(Provider[Good]):
    """Has a rule that nobody would ask."""

    settings_model = Good

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return a grant."""
        return frozenset({Grant("main", "a", str(caller.address))})

    def get_group_list(self) -> list[str]:
        """Return what nobody asks for."""
        return []


class NewWithRoleName(by_ip.Provider):
    """Extends by_ip as one extended the old ProviderByIP."""

    def _get_role_name(self) -> None:
        raise NotImplementedError
