"""The settings of the listeners for machines: instance metadata, or container credentials."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from imds_proxy.config import fields
from imds_proxy.config.section import LEFT_OUT, Section, fill_in_callers, fill_in_provider, hide_default


class CertificateSettings(Section):
    """A listener's certificate."""

    certificate: fields.FilePath = Field(
        description="PEM file: our certificate and those between it and the root."
    )
    key: fields.FilePath = Field(description="PEM file with the certificate's private key.")


class ContainerSettings(Section):
    """Container credentials: what `AWS_CONTAINER_CREDENTIALS_FULL_URI` and `_RELATIVE_URI` lead to."""

    path: fields.ContainerPath = Field(default="/v1/credentials", description="The path of the credentials.")
    token: bool = Field(
        default=True, description="Whether a workload has to show its token in the Authorization header."
    )
    secrets: fields.FilePath | None = Field(
        default=None,
        description="A folder with a file per workload, named after it: what it may show instead of a token "
        "that imds-proxy has signed.",
    )
    identity: Literal["address", "workload"] = Field(
        default="address",
        description="Whose name counts: the caller address's, or the workload's, which its token proves.",
    )


class ListenSettings(Section):
    """One address to listen on, and who may talk to it."""

    address: fields.ListenAddress = Field(
        description="ADDRESS[:PORT], IPv6 in brackets; port 80 if left out."
    )
    tls: CertificateSettings | None = Field(default=None, description="HTTPS instead of HTTP.")
    callers: tuple[fields.Network, ...] = Field(
        default=LEFT_OUT,
        validate_default=True,
        json_schema_extra=hide_default,
        description="Networks that may talk to it; [] allows nobody. May be left out for loopback.",
    )
    callers_except: tuple[fields.Network, ...] = Field(
        default=(), description="Proxies, NAT boxes and load balancers inside those networks."
    )
    provider: fields.Text = Field(
        default=LEFT_OUT,
        validate_default=True,
        json_schema_extra=hide_default,
        description="The provider, as named under providers; may be left out when there is only one.",
    )
    imds_v1: bool = Field(default=False, description="Whether requests without a token are answered.")
    credentials: bool = Field(
        default=True, description="Whether a caller gets its role here, or the metadata alone."
    )
    list_without_token: bool = Field(
        default=False, description="Whether the role's name, and that alone, is told without a token."
    )
    base_path: fields.BasePath | None = Field(
        default=None, description="Where alppaca and old boto set-ups find the role's credentials as well."
    )
    hop_limit: int = Field(
        default=1, ge=1, le=64, description="IP TTL (hop limit) of the packets with a token."
    )
    hosts: tuple[fields.AddressOrName, ...] = Field(
        default=(), description="Names and addresses allowed in Host besides the addresses listened on."
    )
    container: ContainerSettings | None = Field(
        default=None, description="Serve container credentials here, as ECS and EKS do, and no metadata."
    )

    @field_validator("callers", mode="before")
    @classmethod
    def _fill_in_callers(cls, callers: object, info: ValidationInfo) -> object:
        return fill_in_callers(callers, info)

    @field_validator("provider", mode="before")
    @classmethod
    def _fill_in_provider(cls, provider: object, info: ValidationInfo) -> object:
        return fill_in_provider(provider, info)
