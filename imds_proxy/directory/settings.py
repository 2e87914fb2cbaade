"""The settings of a directory: servers, whose certificates count, where people and groups are found."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from imds_proxy.directory.filters import check_filter, parse_user_filter
from imds_proxy.directory.server import Server
from imds_proxy.provider import ProviderSettings
from imds_proxy.secret_file import check_readable, read_secret

if TYPE_CHECKING:
    from imds_proxy.directory.filters import UserFilter

LOGIN_NAMES = "memberuid"
"""The one attribute whose values are login names (RFC 2307, posixGroup); those of all others are DNs."""

OLD_NAMES = {
    "ldap_uri": "servers",
    "ldap_starttls": "start_tls",
    "ldap_bind_dn": "bind_dn",
    "ldap_base_users": "user_base",
    "ldap_base_groups": "group_base",
}
"""How the AWS Federation Proxy called a setting, and how it is called here."""

_EITHER = OLD_NAMES | {"ldap_bind_password": "bind_password_file"}

_WHAT_GROUPS_ARE_LIKE = {"nested", "user_filter", "group_filter", "member_attribute"}

_USER_FILTER = "(uid={user})"
_GROUP_FILTER = "(objectClass=*)"
# 803: of userAccountControl's bits 2 is set: the account is disabled.
_AD_USER_FILTER = (
    "(&(objectCategory=person)(objectClass=user)(sAMAccountName={user})"
    "(!(userAccountControl:1.2.840.113556.1.4.803:=2)))"
)
_AD_GROUP_FILTER = "(objectClass=group)"

_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?)\s*(ms|s)?", re.ASCII)
_LONG_DURATION = re.compile(r"([0-9]{1,6})\s*(s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _read_servers(value: object) -> object:
    """One text may have several, with spaces between them, as libldap takes them."""
    return value.split() if isinstance(value, str) else value


def _read_duration(value: object) -> object:
    return _parse_duration(value, _DURATION, "5s or 800ms")


def _read_long_duration(value: object) -> object:
    return _parse_duration(value, _LONG_DURATION, "30m or 2h")


def _parse_duration(value: object, pattern: re.Pattern[str], examples: str) -> object:
    if not isinstance(value, str):
        return value
    match = pattern.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is not a duration such as {examples}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _check_some(servers: tuple[str, ...]) -> tuple[str, ...]:
    if not servers:
        raise ValueError("must not be empty")
    return servers


def _check_uri(text: str) -> str:
    Server.parse(text)
    return text


def _check_dn(text: str) -> str:
    if "=" not in text or not text.isprintable():
        raise ValueError(f"{text!r} is not a distinguished name such as ou=people,dc=valid,dc=example")
    return text


def _check_bind_name(text: str) -> str:
    """Active Directory takes `name@domain` too."""
    if not text or not text.isprintable():
        raise ValueError("must be one line of text, not an empty one")
    return text


def _check_attribute(text: str) -> str:
    if not _ATTRIBUTE.fullmatch(text):
        raise ValueError(f"{text!r} is not an attribute's name such as cn")
    return text


def _check_user_filter(text: str) -> str:
    parse_user_filter(text)
    return text


def _check_ca_file(path: Path) -> Path:
    check_readable(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"{path} has no certificate (PEM)") from None
    return path


def _check_password_file(path: Path) -> Path:
    _read_password(path)
    return path


def _read_password(path: Path) -> str:
    """Return the one line of a file. Raises ValueError saying what is wrong, never what is in it."""
    try:
        password = read_secret(path).decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None
    if not password or not password.isprintable():
        raise ValueError(f"{path} must have the password on one line and nothing else")
    return password


DistinguishedName = Annotated[str, AfterValidator(_check_dn)]
Attribute = Annotated[str, AfterValidator(_check_attribute)]


def _named(name: str) -> AliasChoices:
    """Return a setting's own name and the AWS Federation Proxy's."""
    old = next(old for old, new in OLD_NAMES.items() if new == name)
    return AliasChoices(name, old)


class DirectorySettings(ProviderSettings):
    """Where the directory is, and how people and groups look in it. HTTP Basic does without the groups."""

    model_config = ConfigDict(hide_input_in_errors=True)

    servers: Annotated[
        tuple[Annotated[str, AfterValidator(_check_uri)], ...],
        BeforeValidator(_read_servers, json_schema_input_type=str | list[str]),
        AfterValidator(_check_some),
    ] = Field(
        validation_alias=_named("servers"),
        description="URIs, tried in turn: ldaps://HOST[:PORT], ldap://HOST[:PORT], ldapi://PATH.",
    )
    start_tls: bool = Field(
        default=True,
        validation_alias=_named("start_tls"),
        description="Whether ldap:// is encrypted by StartTLS; false for servers on loopback only.",
    )
    ca_file: Annotated[Path, AfterValidator(_check_ca_file)] | None = Field(
        default=None, description="The CAs that may have signed the servers' certificates (PEM)."
    )
    bind_dn: Annotated[str, AfterValidator(_check_bind_name)] | None = Field(
        default=None,
        validation_alias=_named("bind_dn"),
        description="Who searches: a DN, or what else the server takes for one; left out: an anonymous user.",
    )
    bind_password_file: Annotated[Path, AfterValidator(_check_password_file)] | None = Field(
        default=None, description="A file with the password of bind_dn, read at every question."
    )
    ldap_bind_password: SecretStr | None = Field(
        default=None, min_length=1, description="The password itself, as the AWS Federation Proxy has it."
    )
    user_base: DistinguishedName = Field(
        validation_alias=_named("user_base"), description="Below which entry people are."
    )
    user_filter: Annotated[str, AfterValidator(_check_user_filter)] = Field(
        default=_USER_FILTER, description="Which entry a login name means; {user} stands for the name."
    )
    group_base: DistinguishedName | None = Field(
        default=None, validation_alias=_named("group_base"), description="Below which entry groups are."
    )
    group_filter: Annotated[str, AfterValidator(check_filter)] = Field(
        default=_GROUP_FILTER, description="Which entries below group_base are groups."
    )
    group_name_attribute: Attribute = Field(default="cn", description="What has a group's name.")
    member_attribute: Attribute = Field(
        default="member",
        description="What has a group's members, as DNs; memberUid has them as login names.",
    )
    nested: Literal["none", "walk", "ad"] = Field(
        default="none",
        description="Whether groups in groups count: walk asks level by level, ad lets the server do it.",
    )
    page_size: int = Field(default=500, ge=1, le=10_000, description="Groups in one answer.")
    max_groups: int = Field(
        default=5000, ge=1, le=100_000, description="With more groups than these a user is an error."
    )
    timeout: Annotated[float, BeforeValidator(_read_duration, json_schema_input_type=str | float)] = Field(
        default=5.0, ge=0.1, le=60, description="For one question with all its servers and searches."
    )

    @property
    def user_assertion(self) -> UserFilter:
        """`user_filter`, taken apart."""
        return parse_user_filter(self.user_filter)

    @property
    def has_login_names(self) -> bool:
        """Whether groups have their members as login names."""
        return self.member_attribute.lower() == LOGIN_NAMES

    def addresses(self) -> tuple[Server, ...]:
        """Return the servers in their order."""
        return tuple(map(Server.parse, self.servers))

    def bind_password(self) -> str:
        """Return the password of `bind_dn`. Raises ValueError when its file has none any more."""
        if self.bind_password_file is not None:
            return _read_password(self.bind_password_file)
        assert self.ldap_bind_password is not None  # one of the two is there
        return self.ldap_bind_password.get_secret_value()

    @model_validator(mode="before")
    @classmethod
    def _check_spellings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for old, new in _EITHER.items():
            if values.get(old) is not None and values.get(new) is not None:
                raise ValueError(f"{old} and {new} can't both be given: they mean the same")
        return _with_defaults(values)

    @model_validator(mode="after")
    def _check_bind(self) -> Self:
        has_password = self.bind_password_file is not None or self.ldap_bind_password is not None
        if self.bind_dn is not None and not has_password:
            raise ValueError("bind_dn needs bind_password_file beside it")
        if has_password and self.bind_dn is None:
            raise ValueError("a password needs bind_dn beside it")
        return self

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        for server in self.addresses():
            if server.scheme == "ldap" and not self.start_tls and not server.is_local:
                raise ValueError(
                    f"{server} without StartTLS: who is on the way reads passwords and writes groups;"
                    " start_tls can be false for servers on loopback only"
                )
        return self

    @model_validator(mode="after")
    def _check_nesting(self) -> Self:
        if self.has_login_names and self.nested != "none":
            raise ValueError(f"{self.member_attribute} has login names: such groups have no groups in them")
        return self


class LoginDirectorySettings(DirectorySettings):
    """Directory that confirms passwords, and when it locks an account."""

    lockout_threshold: int = Field(
        default=4,
        ge=2,
        le=1000,
        description="Failures after which the directory locks an account: fewer of one user reach it.",
    )
    lockout_window: Annotated[
        float, BeforeValidator(_read_long_duration, json_schema_input_type=str | float)
    ] = Field(
        default=1800.0,
        ge=60,
        le=7 * 86400,
        description="How long after the last failure the directory forgets them.",
    )


def _with_defaults(values: dict[Any, Any]) -> dict[Any, Any]:
    """Return settings with those defaults that follow from others.

    The AWS Federation Proxy knew Active Directory only, so its settings mean that as they stand.
    """
    is_old = values.get("ldap_uri") is not None
    defaults = {"nested": "ad"} if is_old and not _WHAT_GROUPS_ARE_LIKE & values.keys() else {}
    if {**values, **defaults}.get("nested") == "ad":
        defaults |= {"user_filter": _AD_USER_FILTER, "group_filter": _AD_GROUP_FILTER}
    return {**defaults, **values}
