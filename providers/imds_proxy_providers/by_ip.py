"""by_ip: a machine's role follows from its host name, which forward-confirmed reverse DNS proves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from imds_proxy import naming, provider
from imds_proxy.errors import ProviderError, Refusal
from imds_proxy.model import Grant
from imds_proxy.names import AllowedDomains, split_host
from imds_proxy_providers.role_rules import RuleSettings, make_rule, rule_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_PREFIX = 63


def _check_domain(text: str) -> str:
    AllowedDomains.parse((text,))
    return text


def _check_prefix(prefix: str) -> str:
    if prefix and not naming.is_role_name(prefix):
        raise ValueError(
            f"{prefix!r} can't begin a role name: A-Z a-z 0-9 _ + = , . @ - (a path belongs under accounts)"
        )
    return prefix


class Settings(provider.ProviderSettings):
    """What by_ip needs to know."""

    allowed_domains: list[Annotated[str, AfterValidator(_check_domain)]] = Field(
        description="Domains whose names count; *.valid.example takes all below it. [] allows nobody."
    )
    account_name: provider.AccountName = Field(description="The account, as named under accounts.")
    role_prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        max_length=_LONGEST_PREFIX, description="What every role's name begins with."
    )
    rule: RuleSettings = Field(
        default="loctyp", description="How a host part becomes the rest of the role's name."
    )


class Provider(provider.Provider[Settings]):
    """Gives each machine the one role that its confirmed host names lead to.

    A site with a scheme of its own overrides `role_for`; all other checks stay.
    """

    settings_model = Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._allowed = AllowedDomains.parse(settings.allowed_domains)
        self._rule = make_rule(settings.rule)

    def role_for(self, host: str) -> str | None:
        """Return the role's name without the prefix for a host part in lower case, or None: no role.

        Must not block. Whatever an override returns is checked: it can't leave the prefix.
        """
        return self._rule(host)

    async def grants_for(self, caller: provider.Caller) -> frozenset[Grant]:
        """Return the one grant on which all confirmed names agree. Raises Refusal where they don't."""
        if not self.settings.allowed_domains:
            raise Refusal("allowed_domains is empty: it allows nobody")
        names = await caller.confirmed_names(self._allowed)
        if not names:
            domains = ", ".join(self.settings.allowed_domains)
            raise Refusal(f"{caller.address} has no confirmed name in {domains}")
        role = self._agreed_role(names)
        suffix = role.removeprefix(self.settings.role_prefix)
        verb = "is" if len(names) == 1 else "are"
        who = f"{', '.join(names)} {verb} {caller.address} (confirmed)"
        reason = f"{who}, {self._rule_name()} gives {suffix}"
        return frozenset({Grant(account=self.settings.account_name, role=role, reason=reason)})

    def _agreed_role(self, names: Iterable[str]) -> str:
        roles = {name: self._full_role(name) for name in names}
        agreed = set(roles.values())
        if len(agreed) > 1:
            verdicts = ", ".join(f"{name} gives {role}" for name, role in roles.items())
            raise Refusal(f"the confirmed names disagree on the role: {verdicts}")
        return agreed.pop()

    def _full_role(self, name: str) -> str:
        """Return the role of one confirmed name, prefix included, acceptable to IAM."""
        host, _ = split_host(name)
        suffix = self.role_for(host)
        if suffix is None:
            raise Refusal(f"{self._rule_name()} gives {name} no role")
        if not isinstance(suffix, str):
            raise ProviderError(
                f"{self._rule_name()} gives {name} a {type(suffix).__name__}, not a role name"
            )
        prefix = self.settings.role_prefix
        role = "".join((prefix, suffix))
        if not suffix or not naming.is_role_name(role):
            raise Refusal(
                f"{self._rule_name()} gives {name} the role {role!r}, which is no role name for IAM"
            )
        return role

    def _rule_name(self) -> str:
        if type(self).role_for is not Provider.role_for:
            return f"{type(self).__module__}.{type(self).__qualname__}.role_for"
        return f"rule {rule_name(self.settings.rule)}"
