"""The settings of the people's listener: where it listens, for whom, and how it knows who is asking."""

from __future__ import annotations

from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from imds_proxy.config import fields
from imds_proxy.config.section import LEFT_OUT, Section, fill_in_callers, fill_in_provider, hide_default

SECRET_HEADER = "X-Imds-Proxy-Secret"  # noqa: S105  a header's name


class TLSSettings(Section):
    """A listener's certificate."""

    certificate: fields.FilePath = Field(
        description="PEM file: our certificate and those between it and the root."
    )
    key: fields.FilePath = Field(description="PEM file with the certificate's private key.")
    client_ca: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the authorities whose client certificates prove a trusted proxy.",
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

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.address is None) == (self.unix is None):
            raise ValueError("needs either address or unix")
        given = self.model_fields_set
        wrong = {"tls", "callers", "callers_except", "hosts"} if self.unix else {"mode", "group"}
        for key in sorted(wrong & given):
            raise ValueError(f"{key} is not for {'a unix socket' if self.unix else 'an address'}")
        if self.address is not None and not self.address.ip.is_loopback and self.tls is None:
            raise ValueError(f"tls is required for {self.address}: credentials go over it")
        return self


class IdentitySettings(Section):
    """How the listener knows who is asking: exactly one of header, peer and ldap."""

    header: fields.HeaderName | None = Field(
        default=None, description="The header in which a trusted proxy names the user."
    )
    trusted: tuple[fields.Trusted, ...] = Field(
        default=(),
        description="Who may send it: addresses and networks, and over a unix socket users or uids.",
    )
    secret_file: fields.FilePath | None = Field(
        default=None, description="A file with the secret that such a proxy shows in secret_header."
    )
    secret_header: fields.HeaderName = Field(
        default=SECRET_HEADER, description="The header with that secret."
    )
    peer: bool = Field(default=False, description="Whether the user is whoever opened the unix socket.")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        ways = [name for name in ("header", "peer", "ldap") if getattr(self, name, None)]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            raise ValueError(f"needs exactly one of header, peer and ldap; has {found}")
        for key in sorted({"trusted", "secret_file", "secret_header"} & self.model_fields_set):
            if self.header is None:
                raise ValueError(f"{key} belongs to header")
        if self.header is not None and not self.trusted:
            raise ValueError("trusted is required: who may say who is asking")
        if self.header is not None and self.header.lower() == self.secret_header.lower():
            raise ValueError("header and secret_header must differ")
        return self


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
    identity: IdentitySettings = Field(description="How it knows who is asking.")

    @field_validator("provider", mode="before")
    @classmethod
    def _fill_in_provider(cls, provider: object, info: ValidationInfo) -> object:
        return fill_in_provider(provider, info)

    @model_validator(mode="after")
    def _check_identity(self) -> Self:
        has_unix = any(one.unix for one in self.listen)
        has_address = any(one.address for one in self.listen)
        if self.identity.peer and has_address:
            raise ValueError("identity.peer knows users of unix sockets only, but listen has an address")
        users = [one for one in self.identity.trusted if isinstance(one, int)]
        if self.identity.header and has_unix and not users:
            raise ValueError("identity.trusted names no user who may send the header over the unix socket")
        shows_nothing = any(not (one.tls and one.tls.client_ca) for one in self.listen if one.address)
        if self.identity.header and self.identity.secret_file is None and shows_nothing:
            raise ValueError(
                "identity.secret_file (or tls.client_ca) is required: an address proves too little"
            )
        return self
