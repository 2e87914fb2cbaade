"""What the library is given as settings: Python values in the shape of the old program's YAML.

The sections that the daemon has as well (`aws`, `dns`, `hosts`, `deny`) mean the same here and are checked by
the same models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr, ValidationError

from imds_proxy import aws_parts
from imds_proxy.config import AccountSettings, AWSSettings, DNSSettings, Settings, faults, fields, files
from imds_proxy.config.section import Section
from imds_proxy.errors import ConfigurationError, Fault
from imds_proxy.model import Account
from imds_proxy.sts_settings import StsSettings
from imds_proxy.yaml_source import quoted, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.model import IPAddress
    from imds_proxy.yaml_source import Source

CONFIGURATION = "configuration"
ACCOUNTS = "account_config"
"""Where faults say that they are."""

OLD_KEYS = frozenset({"api", "logging_handler", "log_level", "log_format"})
"""What the old program's web part and its log read; nothing here does."""

_PROVIDER = "provider"
_CLASS_KEYS = ("type", "module")


class _Sections(Section):
    aws: AWSSettings = Field(default_factory=AWSSettings)
    dns: DNSSettings = Field(default_factory=DNSSettings)
    hosts: Mapping[fields.Address, fields.HostName] = Field(default={})
    deny: tuple[fields.AddressOrName, ...] = Field(default=())


_OTHERS = (frozenset(Settings.model_fields) | {"providers"}) - frozenset(_Sections.model_fields)


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """Settings without a fault, but for the provider's own, which only its class knows."""

    provider: Mapping[str, object] = field(repr=False)
    outsiders: frozenset[str]
    """Keys of `provider` that stand at the top level though `provider:` names the class: its model has to
    know them."""
    aws: AWSSettings
    secret_key: SecretStr | None
    dns: DNSSettings
    hosts: Mapping[IPAddress, str]
    deny: tuple[IPAddress | str, ...]
    accounts: Mapping[str, Account]
    """Those that have an id."""
    account_names: frozenset[str]
    warnings: tuple[Fault, ...]

    @property
    def sts(self) -> StsSettings:
        """Where STS is and whose key signs."""
        return aws_parts.sts_settings(self.aws, self.secret_key)


def read_settings(config: object, account_config: object, environ: Mapping[str, str]) -> LibrarySettings:
    """Return what the library's two arguments say. Raises ConfigurationError with all faults of both.

    Without `aws.region`, `$AWS_REGION` or `$AWS_DEFAULT_REGION` counts.
    """
    found: list[Fault] = []
    given = _checked_map(config, CONFIGURATION, found)
    provider, outsiders = _merge_provider(given, found)
    sections, secret_key = _read_sections(given, environ, found)
    named = _checked_map(account_config, ACCOUNTS, found)
    accounts = _read_accounts(named, found)
    old = sorted(OLD_KEYS & given.keys())
    if old:
        text = f"ignored, nothing here reads {'it' if len(old) == 1 else 'them'}"
        found.append(Fault(CONFIGURATION, ", ".join(old), text, is_warning=True))
    errors = [fault for fault in found if not fault.is_warning]
    if errors:
        raise ConfigurationError(errors)
    return LibrarySettings(
        provider=provider,
        outsiders=outsiders,
        aws=sections.aws,
        secret_key=secret_key,
        dns=sections.dns,
        hosts=sections.hosts,
        deny=sections.deny,
        accounts=accounts,
        account_names=frozenset(named),
        warnings=tuple(fault for fault in found if fault.is_warning),
    )


def _checked_map(value: object, where: str, found: list[Fault]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        found.append(Fault(where, "", f"must be a map, not a {type(value).__name__}"))
        return {}
    wrong = [key for key in value if not isinstance(key, str) or not key]
    found += [Fault(where, repr(key), "a key must be a text that is not empty") for key in wrong]
    return {key: child for key, child in value.items() if key not in wrong}


def _merge_provider(given: Mapping[str, Any], found: list[Fault]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the provider's settings from both places, and the keys beside a `provider:` that is whole."""
    others = OLD_KEYS | {_PROVIDER} | _OTHERS | set(_Sections.model_fields)
    outer = {key: value for key, value in given.items() if key not in others}
    found += [
        Fault(CONFIGURATION, key, "is a setting of the daemon; the library has no use for it")
        for key in sorted(_OTHERS & given.keys())
    ]
    inner = given.get(_PROVIDER, {})
    if not isinstance(inner, Mapping):
        found.append(Fault(CONFIGURATION, _PROVIDER, f"must be a map, not a {type(inner).__name__}"))
        return outer, frozenset()
    found += [
        Fault(CONFIGURATION, key, f"is {_PROVIDER}.{key} too, and not the same")
        for key in sorted(outer.keys() & inner.keys())
        if outer[key] != inner[key]
    ]
    is_whole = any(key in inner for key in _CLASS_KEYS)
    outsiders = outer.keys() - inner.keys() - {*_CLASS_KEYS, "class"} if is_whole else ()
    return {**outer, **inner}, frozenset(outsiders)


def _read_sections(
    given: Mapping[str, Any], environ: Mapping[str, str], found: list[Fault]
) -> tuple[_Sections, SecretStr | None]:
    tree = {key: _as_texts(given[key]) for key in _Sections.model_fields if key in given}
    aws = tree.setdefault("aws", {})
    if isinstance(aws, dict):
        # The old program's own default was a key of None.
        aws = tree["aws"] = {key: value for key, value in aws.items() if value is not None}
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        if region:
            aws.setdefault("region", region)
    source = source_of(CONFIGURATION, tree)
    try:
        sections = _Sections.model_validate(tree)
    except ValidationError as error:
        found += faults.describe(error, source, _Sections)
        return _Sections(), None
    found += _check_own_key(sections.aws, source)
    return sections, _read_secret(sections.aws, source, found)


def _check_own_key(aws: AWSSettings, source: Source) -> Iterator[Fault]:
    has_secret = aws.secret_key is not None or aws.secret_key_file is not None
    if aws.access_key is not None and not has_secret:
        yield source.fault(("aws", "access_key"), "needs secret_key or secret_key_file beside it")
    if aws.access_key is None and has_secret:
        yield source.fault(("aws", "secret_key"), "needs access_key beside it")
    if aws.secret_key is not None and aws.secret_key_file is not None:
        yield source.fault(("aws", "secret_key_file"), "and secret_key can't both be given")
    if aws.profile is not None and aws.access_key is not None:
        yield source.fault(("aws", "profile"), "and access_key can't both be given")
    if aws.ca_bundle is not None:
        try:
            files.check_readable(aws.ca_bundle)
        except files.FileError as error:
            yield source.fault(("aws", "ca_bundle"), str(error))


def _read_secret(aws: AWSSettings, source: Source, found: list[Fault]) -> SecretStr | None:
    if aws.secret_key_file is None:
        return aws.secret_key
    try:
        return SecretStr(files.parse_secret_key(files.read_secret_file(aws.secret_key_file)))
    except ValueError as error:
        found.append(source.fault(("aws", "secret_key_file"), str(error)))
        return None


def _read_accounts(named: Mapping[str, Any], found: list[Fault]) -> dict[str, Account]:
    accounts = {}
    for name, given in named.items():
        if given is None or (isinstance(given, Mapping) and "id" not in given):
            continue  # a fault only for whoever is granted a role there
        account = _read_account(name, given, found)
        if account is not None:
            accounts[name] = account
    return accounts


def _read_account(name: str, given: object, found: list[Fault]) -> Account | None:
    if not isinstance(given, Mapping):
        found.append(
            Fault(ACCOUNTS, name, f"must be a map such as {{id: ...}}, not a {type(given).__name__}")
        )
        return None
    source = source_of(ACCOUNTS, {name: _as_texts(given)})
    shown = given["id"]
    if isinstance(shown, bool) or not isinstance(shown, int | str):
        found.append(source.fault((name, "id"), f"{quoted(repr(shown))} is not an account id: 12 digits"))
        return None
    try:
        settings = AccountSettings.model_validate(source.value((name,)))
    except ValidationError as error:
        found += faults.describe(error, source, AccountSettings, (name,))
        return None
    if len(str(shown)) < len(settings.id):
        text = f'read as "{settings.id}": an id has {len(settings.id)} digits, write the zeros in a text'
        found.append(source.fault((name, "id"), text, is_warning=True))
    return settings.named(name)


def _as_texts(value: object) -> Any:
    """Return a value as YAML would have it in its text, for models that read texts."""
    if isinstance(value, Mapping):
        return {str(key): _as_texts(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_texts(child) for child in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, int | float | Path | IPv4Address | IPv6Address):
        try:
            return str(value)
        except ValueError:  # Python writes no number of more than 4300 digits
            return "a number without end"
    return value
