"""ProviderByIP: by_ip as a class of the old shape, for sites whose own rules are subclasses of it.

A machine's host names are confirmed in DNS, both ways, before an object is asked; the old program believed
the PTR record alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from imds_proxy.base_provider import BaseProvider
from imds_proxy.errors import Refusal
from imds_proxy.names import AllowedDomains, split_host
from imds_proxy.provider import MACHINES, AccountName, ProviderSettings
from imds_proxy_providers.role_rules import loctyp


def _check_domain(text: str) -> str:
    AllowedDomains.parse((text,))
    return text


class Settings(ProviderSettings):
    """What ProviderByIP needs to know. A site's subclass may read further keys."""

    model_config = ConfigDict(extra="allow")

    allowed_domains: list[Annotated[str, AfterValidator(_check_domain)]] = Field(
        description="Domains whose names count; *.valid.example takes all below it. [] allows nobody."
    )
    account_name: AccountName = Field(description="The account, as named under accounts.")
    role_prefix: str = Field(default="", description="What a role's name begins with, if the rule heeds it.")


class ProviderByIP(BaseProvider):
    """Gives a machine one role in one account; a subclass says which role in `_get_role_name`.

    That method finds `client_fqdn`, `client_host`, `client_domain` and `role_prefix`. It sets `role_name`, or
    returns the name, and puts the prefix in front by itself.
    """

    settings_model: ClassVar[type[ProviderSettings] | None] = Settings
    serves = frozenset({MACHINES})

    client_fqdn = ""
    """The confirmed host name."""
    client_host = ""
    """Its first label."""
    client_domain = ""
    """All that follows."""
    role_prefix = ""
    role_name = ""

    @classmethod
    def wanted_domains(cls, config: Mapping[str, Any]) -> Sequence[str]:
        """Return the domains that the settings allow."""
        domains: Sequence[str] = config["allowed_domains"]
        return domains

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return the one role. Raises Refusal for a machine without an allowed name."""
        self.role_prefix = self.config.get("role_prefix", "")
        self.check_host_allowed()
        returned: object = self._get_role_name()
        role = self.role_name if returned is None else returned
        if not isinstance(role, str) or not role:
            raise TypeError(
                f"_get_role_name gave {self.client_fqdn} a {type(role).__name__}, not a role's name"
            )
        reason = f"{self.client_fqdn} is {self.user} (confirmed), {type(self).__name__} gives {role}"
        return {self.config["account_name"]: {(role, reason)}}

    def check_host_allowed(self) -> None:
        """Set `client_host` and `client_domain`. Raises Refusal for a name that does not count.

        A subclass may refuse more; names outside the settings' domains never get here.
        """
        if not self.client_fqdn:
            raise Refusal(f"{self.user} has no confirmed name: whoever asks an object has to set client_fqdn")
        self.client_host, self.client_domain = split_host(self.client_fqdn)
        if not AllowedDomains.parse(self.config["allowed_domains"]).allow(self.client_fqdn):
            raise Refusal(f"{self.user} ({self.client_fqdn}) is in no allowed domain")

    @abstractmethod
    def _get_role_name(self) -> str | None:
        """Return the role's name for the machine, or set `role_name`."""
        raise NotImplementedError


class Provider(ProviderByIP):
    """The rule `loctyp` of by_ip: the location and type in a host name of eight characters."""

    def check_host_allowed(self) -> None:
        """Raise Refusal for a host name that the rule does not fit, too."""
        super().check_host_allowed()
        if loctyp(self.client_host) is None:
            raise Refusal(f"{self.client_fqdn} has not eight characters before its domain")

    def _get_role_name(self) -> str | None:
        self.role_name = f"{self.role_prefix}{self._normalize_loctyp()}"
        return None

    def _normalize_loctyp(self) -> str:
        """Return what follows the prefix."""
        return loctyp(self.client_host) or ""
