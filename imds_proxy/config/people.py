"""The settings of the people's listener: where it listens, for whom, and how it knows who is asking.

What needs or excludes each other is in `people_checks`, which can blame the key that is wrong.
"""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from imds_proxy.config import fields
from imds_proxy.config.listen import CertificateSettings
from imds_proxy.config.section import (
    LEFT_OUT,
    SECRET_HEADER,
    Section,
    fill_in_callers,
    fill_in_provider,
    hide_default,
)
from imds_proxy.directory.settings import LoginDirectorySettings


class TLSSettings(CertificateSettings):
    """A listener's certificate, and whose certificates its clients may show."""

    client_ca: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the authorities whose client certificates prove a trusted proxy.",
    )
    crl: fields.FilePath | None = Field(
        default=None,
        description="PEM file of those authorities' CRLs: client certificates that were revoked.",
    )


class PeopleListenSettings(Section):
    """One address or one unix socket for people."""

    address: fields.PeopleAddress | None = Field(
        default=None, description="ADDRESS[:PORT], IPv6 in brackets; port 443 if left out."
    )
    unix: fields.SocketPath | None = Field(default=None, description="A unix socket instead of an address.")
    tls: TLSSettings | None = Field(default=None, description="Required unless the address is loopback.")
    callers: tuple[fields.Network, ...] = Field(
        default=LEFT_OUT,
        validate_default=True,
        json_schema_extra=hide_default,
        description="Networks that may talk to it; [] allows nobody. May be left out for loopback.",
    )
    callers_except: tuple[fields.Network, ...] = Field(
        default=(), description="Addresses inside those networks that may not."
    )
    hosts: tuple[fields.AddressOrName, ...] = Field(
        default=(), description="Names and addresses allowed in Host besides the address and public_url's."
    )
    mode: fields.SocketMode = Field(default=0o600, description="The socket's mode, in octal digits.")
    group: fields.GroupName | None = Field(default=None, description="The socket's group.")

    @field_validator("callers", mode="before")
    @classmethod
    def _fill_in_callers(cls, callers: object, info: ValidationInfo) -> object:
        if callers is LEFT_OUT and info.data.get("address") is None:
            return ()
        return fill_in_callers(callers, info)


class IdentitySettings(Section):
    """How the listener knows who is asking: exactly one of header, peer and ldap."""

    header: fields.HeaderName | None = Field(
        default=None, description="The header in which a trusted proxy names the user."
    )
    trusted: tuple[fields.Trusted, ...] = Field(
        default=(),
        min_length=1,
        json_schema_extra=hide_default,
        description="Who may send it: addresses and networks, and over a unix socket users or uids.",
    )
    secret_file: fields.FilePath | None = Field(
        default=None, description="A file with the secret that such a proxy shows in secret_header."
    )
    secret_header: fields.HeaderName = Field(
        default=SECRET_HEADER, description="The header with that secret."
    )
    peer: bool = Field(default=False, description="Whether the user is whoever opened the unix socket.")
    ldap: LoginDirectorySettings | None = Field(
        default=None, description="The directory that confirms name and password of HTTP Basic."
    )


class PeopleSettings(Section):
    """HTTP for people: their accounts, credentials and console URLs."""

    listen: tuple[PeopleListenSettings, ...] = Field(min_length=1, description="Where to listen, for whom.")
    base_path: fields.BasePath | None = Field(default=None, description="What all paths begin with.")
    public_url: fields.PublicUrl | None = Field(
        default=None,
        description="The URL under which people see it: AWS sends them there when a session ends.",
    )
    provider: fields.Text = Field(
        default=LEFT_OUT,
        validate_default=True,
        json_schema_extra=hide_default,
        description="The provider, as named under providers; may be left out when there is only one.",
    )
    callback_urls: tuple[fields.PublicUrl, ...] = Field(
        default=(), description="URLs, by scheme, host, port and the beginning of the path, for callbackurl."
    )
    deny: tuple[fields.Text, ...] = Field(
        default=(), description="Login names that get nothing from now on, whatever their case."
    )
    identity: IdentitySettings = Field(description="How it knows who is asking.")

    @field_validator("provider", mode="before")
    @classmethod
    def _fill_in_provider(cls, provider: object, info: ValidationInfo) -> object:
        return fill_in_provider(provider, info)
