"""simple: fixed roles for fixed networks and workloads. It looks at address and token, never at DNS."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from imds_proxy import naming, provider
from imds_proxy.errors import Refusal
from imds_proxy.model import Grant
from imds_proxy.names import parse_workload

_MAPPED = IPv6Network("::ffff:0:0/96")
_LAN = 64
"""Bits of an IPv6 network in which one host can have any address."""


def _parse_network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("not a network such as 10.77.0.0/16")  # noqa: TRY004  pydantic reports ValueError only
    network = ip_network(value)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError(
            f"{value} is never a caller's address: an IPv4-mapped peer counts as IPv4, write it so"
        )
    return network


def _check_role(role: str) -> str:
    if not naming.is_role_name(role):
        raise ValueError(
            f"{role!r} is no role name: 1 to 64 of A-Z a-z 0-9 _ + = , . @ - (a path belongs under accounts)"
        )
    return role


def _parse_workload(name: str) -> str:
    parsed = parse_workload(name)
    if parsed is None:
        raise ValueError(
            f"{name!r} is no workload's name: it reads like a host name, such as web.pods.example"
        )
    return parsed


def _check_workloads(workloads: list[str]) -> list[str]:
    if not workloads:
        raise ValueError("empty: nobody would get this; leave the key out for callers without a token")
    return workloads


def _check_tags(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if not naming.is_instance_tag_key(key):
            raise ValueError(
                f"{key!r} is no tag's key: 1 to 128 of A-Z a-z 0-9 + - = . , _ : @,"
                " no number before an equals sign"
            )
        if not naming.is_instance_tag_value(value):
            raise ValueError(f"{key}: not a tag's value: one line of 256 characters at most")
    return tags


Workload = Annotated[str, AfterValidator(_parse_workload)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_parse_network)]


class Entry(BaseModel):
    """One entry of `grants`: who gets what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    callers: list[Network] = Field(
        default=[IPv4Network("0.0.0.0/0"), IPv6Network("::/0")],
        description="Networks or addresses; left out: everybody the listener lets in.",
    )
    workloads: Annotated[list[Workload], AfterValidator(_check_workloads)] | None = Field(
        default=None,
        description="Names of workloads, as their tokens prove them at a container endpoint with "
        "`identity: workload`; left out: callers that are known by their address alone.",
    )
    account: provider.AccountName = Field(description="The account, as named under accounts.")
    role: Annotated[str, AfterValidator(_check_role)] = Field(description="The role's name, without a path.")
    tags: Annotated[dict[str, str], AfterValidator(_check_tags)] = Field(
        default={}, description="What these callers find below tags/instance; as it stands, no placeholders."
    )

    session: Literal["address", "network"] = Field(
        default="address",
        description="Whose a role session is: `address`: each caller's own; `network`: all callers' of an "
        "IPv6 /64 together, named after it. IPv4 callers always have their own.",
    )

    @model_validator(mode="after")
    def _check_session(self) -> Entry:
        if self.session == "network" and self.workloads is not None:
            raise ValueError("session: network can't be combined with workloads; leave one of them out")
        return self

    def shared_network(self, caller: provider.Caller) -> IPv6Network | None:
        """Return the /64 whose callers share a role session with this one; None: it has its own."""
        if self.session != "network" or not isinstance(caller.address, IPv6Address):
            return None
        return IPv6Network((caller.address, _LAN), strict=False)

    def network_of(self, caller: provider.Caller) -> IPv4Network | IPv6Network | None:
        """Return the first of the networks that has the caller's address; None: the entry is not for it."""
        is_for_workloads = self.workloads is not None
        if caller.address is None or is_for_workloads != (caller.workload is not None):
            return None
        if self.workloads is not None and caller.workload not in self.workloads:
            return None
        return next((network for network in self.callers if caller.address in network), None)


def _check_grants(grants: list[Entry]) -> list[Entry]:
    if not grants:
        raise ValueError("empty: nobody would get anything")
    return grants


class Settings(provider.ProviderSettings):
    """What simple needs to know."""

    grants: Annotated[list[Entry], AfterValidator(_check_grants)] = Field(
        description="Who gets what; one caller matches one entry at most.", json_schema_extra={"minItems": 1}
    )


class Provider(provider.Provider[Settings]):
    """Gives a caller the role of the one entry that its address matches."""

    settings_model = Settings

    async def grants_for(self, caller: provider.Caller) -> frozenset[Grant]:
        """Return the grant of the entry that matches. Raises Refusal where none or more than one does."""
        who = f"{caller.workload} at {caller.address}" if caller.workload else str(caller.address)
        matches = [
            (position, entry, network)
            for position, entry in enumerate(self.settings.grants)
            if (network := entry.network_of(caller)) is not None
        ]
        if not matches:
            raise Refusal(f"no entry of grants matches {who}")
        if len(matches) > 1:
            listed = ", ".join(f"grants[{position}] ({network})" for position, _, network in matches)
            raise Refusal(f"more than one entry of grants matches {who}: {listed}")
        position, entry, network = matches[0]
        reason = f"{who} is in {network}, grants[{position}] gives {entry.role}"
        tags = tuple(sorted(entry.tags.items()))
        grant = Grant(entry.account, entry.role, reason, tags, network=entry.shared_network(caller))
        return frozenset({grant})
