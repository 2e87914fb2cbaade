"""Every setting: its key, its type, its default. A key that is not here is a fault.

What a provider takes is in the provider's own model. Everything is frozen; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from imds_proxy.config import aws_values, fields
from imds_proxy.config.listen import ListenSettings
from imds_proxy.config.metadata import MetadataSettings
from imds_proxy.config.network import NetworkSettings
from imds_proxy.config.people import PeopleSettings
from imds_proxy.config.section import LEFT_OUT, Section, fill_in_callers, hide_default
from imds_proxy.model import Account


class AccountSettings(Section):
    """An AWS account and what its roles are assumed with."""

    id: fields.AccountId = Field(description="12 digits.")
    path: fields.RolePath = Field(default="/", description="The IAM path of the roles.")
    external_id: fields.ExternalId | None = Field(
        default=None, repr=False, description="What the roles' trust policies ask for as sts:ExternalId."
    )
    session_tags: Mapping[fields.TagKey, fields.TagValue] = Field(
        default={}, description="Tags of every session; {name} and {address} stand for the caller's."
    )
    source_identity: bool = Field(
        default=False, description="Whether sessions carry the caller's name as their source identity."
    )
    policy: fields.Policy | None = Field(
        default=None, description="A session policy that narrows every role, as a map or JSON text."
    )

    def named(self, name: str) -> Account:
        """Return the account as the rest of the program knows it."""
        return Account(
            name=name,
            id=self.id,
            path=self.path,
            external_id=self.external_id,
            session_tags=tuple(self.session_tags.items()),
            policy=self.policy,
            has_source_identity=self.source_identity,
        )

    @field_validator("source_identity", mode="after")
    @classmethod
    def _check_source_identity(cls, is_wanted: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  pydantic's
        if is_wanted and (info.context or {}).get("session") == "shared":
            raise ValueError("with `session: shared` all callers share a session: it would be nobody's")
        return is_wanted

    @field_validator("session_tags", mode="after")
    @classmethod
    def _check_session_tags(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        aws_values.check_tag_keys(tags)
        return tags


class AWSSettings(Section):
    """How STS is reached and whose key signs."""

    region: fields.Region = Field(
        default="us-east-1", description="Default: $AWS_REGION, then $AWS_DEFAULT_REGION, then us-east-1."
    )
    session_duration: fields.SessionDuration = Field(default=3600, description="50m .. 12h.")
    session: Literal["per-caller", "shared"] = Field(
        default="per-caller", description="One session per caller, named after it, or one per grant."
    )
    access_key: fields.Text | None = Field(
        default=None, description="Our own access key id; without it boto3's own search, never an IMDS."
    )
    secret_key: fields.Secret | None = Field(default=None, min_length=1, description="The key's secret.")
    secret_key_file: fields.FilePath | None = Field(
        default=None, description="A file with the secret, instead of secret_key."
    )
    profile: fields.Text | None = Field(default=None, description="A profile of the AWS configuration files.")
    partition: fields.Partition = Field(
        default=LEFT_OUT,
        validate_default=True,
        json_schema_extra=hide_default,
        description="Default: the region's.",
    )
    sts_endpoint: fields.Endpoint | None = Field(
        default=None, description="URL of STS. Default: the region's."
    )
    https_proxy: fields.Proxy | None = Field(
        default=None, repr=False, description="URL of the proxy by which STS is reached."
    )
    ca_bundle: fields.FilePath | None = Field(
        default=None, description="PEM file of the authorities that may vouch for STS."
    )
    signin_endpoint: fields.Endpoint | None = Field(
        default=None, description="URL that gives sign-in tokens for the console. Default: the partition's."
    )
    console_endpoint: fields.Endpoint | None = Field(
        default=None, description="URL of the console. Default: the partition's."
    )
    console_duration: fields.ConsoleDuration | None = Field(
        default=None,
        description="15m .. 12h: how long a console session lasts, with a user's key of our own.",
    )
    use_instance_metadata: bool = Field(
        default=False, description="Whether our own key may come from EC2's instance metadata service."
    )

    @field_validator("partition", mode="before")
    @classmethod
    def _fill_in_partition(cls, partition: object, info: ValidationInfo) -> object:
        return partition or aws_values.partition_of(info.data.get("region", ""))


class DNSSettings(Section):
    """How names are looked up and how long they count."""

    nameservers: Annotated[tuple[fields.Nameserver, ...], Field(min_length=1)] | None = Field(
        default=None, description="ADDRESS[:PORT] of name servers, in order. Default: the system's."
    )
    attempt_timeout: fields.TryTime = Field(default=0.3, description="For one question to one server.")
    deadline: fields.TryTime = Field(default=2.0, description="For one whole look-up.")
    recheck: fields.MemoryTime = Field(
        default=5.0, description="Age at which a token request looks an identity up again."
    )
    stale: fields.MemoryTime = Field(
        default=900.0, description="How long the last confirmed name counts on while DNS fails."
    )


OLD_WORKLOAD_TOKENS_UNTIL = date(2027, 6, 1)
MOST_REVOKED = 10_000


class TokenSettings(Section):
    """What signs IMDS tokens and workloads' tokens, and which of the latter count."""

    key_file: fields.FilePath | None = Field(
        default=None,
        description="Lines of base64, 32 bytes each; the first signs. Default: $STATE_DIRECTORY/token.key.",
    )
    workload_key_file: fields.FilePath | None = Field(
        default=None,
        description="The same for workloads' tokens, with other keys. "
        "Default: $STATE_DIRECTORY/workload-token.key.",
    )
    any_network: bool = Field(
        default=False, description="Whether a workload's token may be good from anywhere."
    )
    revoked: tuple[fields.TokenId, ...] = Field(
        default=(),
        max_length=MOST_REVOKED,
        description="Ids of workloads' tokens that count no more.",
    )
    old_workload_tokens_until: fields.Date = Field(
        default=OLD_WORKLOAD_TOKENS_UNTIL,
        description="The day (UTC) from which workloads' tokens that key_file signs count no more.",
    )


class AuditSettings(Section):
    """Where the record of decisions goes."""

    file: fields.Text = Field(
        default="-",
        description='A path, "-" (stdout) or "stderr". Left out: $LOGS_DIRECTORY/audit.jsonl, else "-".',
    )
    journal: bool = Field(
        default=False, description="Whether each record also goes to systemd's journal, with fields."
    )


class AdminSettings(Section):
    """Pages for operators and monitoring. Machines and people need none of them."""

    address: fields.AdminAddress | None = Field(
        default=None, description="ADDRESS[:PORT] of /healthz, /readyz and /metrics; port 9338 if left out."
    )
    socket: fields.SocketPath | None = Field(
        default=None, description="Unix socket for explain. Default: $RUNTIME_DIRECTORY/admin.sock."
    )
    callers: tuple[fields.Network, ...] = Field(
        default=LEFT_OUT,
        validate_default=True,
        json_schema_extra=hide_default,
        description="Networks that may talk to address; [] allows nobody. May be left out for loopback.",
    )
    hosts: tuple[fields.AddressOrName, ...] = Field(
        default=(), description="Names and addresses allowed in Host besides the address."
    )

    @field_validator("callers", mode="before")
    @classmethod
    def _fill_in_callers(cls, callers: object, info: ValidationInfo) -> object:
        if callers is LEFT_OUT and info.data.get("address") is None:
            return ()
        return fill_in_callers(callers, info)


class LimitSettings(Section):
    """Limits of one caller, and of all callers together.

    One caller is one IPv4 address or one IPv6 address (/128). All addresses of one IPv6 /64 together may use
    four times as much as one caller.
    """

    connections: int = Field(default=256, ge=1, le=1_000_000, description="Open connections.")
    requests_per_second: int = Field(default=2000, ge=1, le=1_000_000, description="Requests per second.")
    new_connections_per_second: int = Field(
        default=250, ge=1, le=1_000_000, description="New connections per second, saved up for one second."
    )
    tls_handshakes_per_second: int = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description="TLS handshakes per second, counted apart from new connections.",
    )
    all_connections: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Open connections of all callers; fewer where the limit on open files says so.",
    )


class LogSettings(Section):
    """The log, which goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least to log."
    )


class Settings(Section):
    """The whole configuration but for the providers."""

    listen: Annotated[tuple[ListenSettings, ...], Field(min_length=1)] = Field(
        default=(), description="Where machines are listened to, which ones. Required unless there is people."
    )
    people: PeopleSettings | None = Field(default=None, description="A listener for people.")
    accounts: Mapping[fields.Text, AccountSettings] = Field(default={}, description="Name -> AWS account.")
    aws: AWSSettings = Field(default_factory=AWSSettings)
    dns: DNSSettings = Field(default_factory=DNSSettings)
    hosts: Mapping[fields.Address, fields.HostName] = Field(
        default={}, description="Address -> name: asked before DNS, counts as confirmed."
    )
    deny: tuple[fields.AddressOrName, ...] = Field(
        default=(),
        description="Addresses and names that get nothing from now on. With a name, the PTR names of every "
        "caller that is granted a role are looked up.",
    )
    metadata: MetadataSettings = Field(default_factory=MetadataSettings)
    tokens: TokenSettings = Field(default_factory=TokenSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    log: LogSettings = Field(default_factory=LogSettings)
