"""A provider's section to a provider: finds the class, checks the settings, builds. Faults, never tracebacks.

An unknown type, a module that can't be had, bad settings, a constructor that fails: four different messages.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, ConfigDict, SecretStr, ValidationError

from imds_proxy.blocking import BlockingProvider, describe_error
from imds_proxy.config import CLASS_KEYS, provider_names, read_configuration, read_section
from imds_proxy.config import faults as fault_texts
from imds_proxy.config.checks import check_secrecy
from imds_proxy.errors import ConfigurationError, Fault
from imds_proxy.provider import MACHINES, PEOPLE, Provider, ProviderSettings
from imds_proxy.provider_classes import GROUP, UnusableError, find_class, installed, name_of
from imds_proxy.secret_settings import conceal, secret_paths
from imds_proxy.yaml_source import Source, source_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from imds_proxy.config import Configuration, ProviderSection
    from imds_proxy.yaml_nodes import KeyPath

__all__ = [
    "GROUP",
    "AnyProvider",
    "Loaded",
    "build_provider",
    "build_providers",
    "installed",
    "installed_models",
    "load",
]

AnyProvider = Provider[Any]

REHEARSAL_PATIENCE = 5.0
"""Seconds that an object of the old shape may take to be made, where it is made to see whether it can be."""

_NO_FILE = "configuration"
"""Where the settings of a program stand: `configuration: regex: is required`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a path: a configuration with its providers, or None and the faults that say why."""

    configuration: Configuration | None
    providers: Mapping[str, AnyProvider]
    """By name; all of them only where there is a configuration."""
    faults: tuple[Fault, ...]
    """Errors and warnings in the order of files and lines."""


class UncheckedSettings(ProviderSettings):
    """The settings of a class without a model, to be shown. What looks like a secret is one."""

    model_config = ConfigDict(extra="allow")


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Return what the file or folder `path` configures, with its providers. Never raises for what it has."""
    reading = read_configuration(path, environ)
    providers, provider_faults = build_providers(reading.providers, reading.account_names)
    faults = fault_texts.sort([*reading.faults, *provider_faults])
    is_good = all(fault.is_warning for fault in faults)
    return Loaded(reading.configuration if is_good else None, providers, faults)


def build_providers(
    sections: Mapping[str, ProviderSection], accounts: Collection[str]
) -> tuple[dict[str, AnyProvider], list[Fault]]:
    """Return the providers by name, and the faults of those that can't be had, or not for these callers.

    `accounts` are the names that the providers' settings may name.
    """
    providers: dict[str, AnyProvider] = {}
    faults: list[Fault] = []
    for name, section in sections.items():
        try:
            providers[name] = _build(section, accounts, logger=None)
        except UnusableError as error:
            faults += error.faults
    if sections:
        faults += _check_audiences(next(iter(sections.values())).source, providers)
    return providers, faults


def build_provider(
    settings: Mapping[str, object],
    accounts: Collection[str],
    *,
    user: str | None = None,
    logger: logging.Logger | None = None,
) -> tuple[str, AnyProvider]:
    """Return (a name for messages and metrics, the provider) for settings that a program has at hand.

    `settings` are those of one provider: `type`, or `module` and perhaps `class`, and what the provider
    takes. Their values may have any type; a class of the old shape gets them as they are. `accounts` are the
    names that settings may name. `logger` is for objects of the old shape.

    With `user` an object of the old shape is made once, on a thread, to see whether it can be: 5 s at most.

    Raises ConfigurationError, whose faults have `configuration` for a place and the settings' keys. Whether
    the provider `serves` people or machines is for the caller to see.
    """
    source = source_of(_NO_FILE, settings)
    section, faults = read_section(source, (), _name_in(settings))
    if section is None:
        raise ConfigurationError(faults)
    try:
        provider = _build(section, accounts, logger=logger)
        if user is not None and isinstance(provider, BlockingProvider):
            _rehearse(section, provider, user)
    except UnusableError as error:
        # What pydantic raises has the values that are wrong in its text, secrets included.
        cause = None if isinstance(error.__cause__, ValidationError) else error.__cause__
        raise ConfigurationError(error.faults) from cause
    return section.name, provider


def installed_models() -> dict[str, type[ProviderSettings]]:
    """Return the settings' models of all providers that can be imported, by type."""
    models = {}
    for name, (entry_point, *_) in installed().items():
        model = None
        with suppress(Exception, SystemExit):
            model = getattr(entry_point.load(), "settings_model", None)
        if isinstance(model, type) and issubclass(model, ProviderSettings):
            models[name] = model
    return models


def _name_in(settings: Mapping[str, object]) -> str:
    if "type" in settings:
        return str(settings["type"])
    return f"{settings.get('module')}.{settings.get('class', 'Provider')}"


def _build(
    section: ProviderSection, accounts: Collection[str], *, logger: logging.Logger | None
) -> AnyProvider:
    found = find_class(section)
    model: type[ProviderSettings] | None = getattr(found, "settings_model", None)
    settings = _validate(section, name_of(found), model or UncheckedSettings, accounts)
    _check_secrecy(section, settings)
    try:
        if issubclass(found, Provider):
            provider: AnyProvider = found(settings)
            return provider
        config = _config_of(section, settings)
        return BlockingProvider(section.name, found, _shown(settings), config, logger=logger)
    except (Exception, SystemExit) as error:
        text = f"{name_of(found)} can't be built: {describe_error(error)}"
        raise UnusableError(section.fault(text)) from error


def _rehearse(section: ProviderSection, provider: BlockingProvider, user: str) -> None:
    try:
        provider.rehearse(user, REHEARSAL_PATIENCE)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        text = f"{name_of(provider.provider_class)} can't be made for {user}: {provider.describe(error)}"
        raise UnusableError(section.fault(text)) from error


def _config_of(section: ProviderSection, settings: ProviderSettings) -> dict[str, object]:
    """Return what an object of the old shape gets: the model's fields, and YAML's values for other keys."""
    fields = type(settings).model_fields
    known = {field.alias or name: getattr(settings, name) for name, field in fields.items()}
    return {key: section.typed[key] for key in settings.model_extra or {}} | known


def _shown(settings: ProviderSettings) -> ProviderSettings:
    """Return settings for `config` to show: where no model says so, what looks like a secret is one."""
    return settings.model_copy(update=conceal(settings.model_extra or {}))


def _validate(
    section: ProviderSection, class_name: str, model: type[ProviderSettings], accounts: Collection[str]
) -> ProviderSettings:
    try:
        return model.model_validate(dict(section.settings), context={"accounts": frozenset(accounts)})
    except ValidationError as error:
        raise UnusableError(
            *fault_texts.describe(
                error, section.source, model, section.path, CLASS_KEYS, elsewhere=_owners_of_keys()
            )
        ) from error
    except Exception as error:
        text = f"the settings of {class_name} can't be checked: {describe_error(error)}"
        raise UnusableError(section.fault(text)) from error


def _owners_of_keys() -> dict[str, str]:
    """Return which types of providers have a setting of a name, for one that stands at the wrong provider."""
    owners: dict[str, list[str]] = {}
    for name, model in installed_models().items():
        for key in _setting_names(model):
            owners.setdefault(key, []).append(name)
    return {key: f"type {' and '.join(names)}" for key, names in owners.items()}


def _setting_names(model: type[ProviderSettings]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        if isinstance(field.validation_alias, AliasChoices):
            yield from (str(choice) for choice in field.validation_alias.choices if choice != name)


def _check_secrecy(section: ProviderSection, settings: ProviderSettings) -> None:
    """Raise for secrets in a file that others can read."""
    if not section.source.is_of_files:
        return
    paths = [*_secret_fields(settings), *secret_paths(settings.model_extra or {})]
    faults = [fault for path in paths for fault in check_secrecy(section.source, (*section.path, *path))]
    if faults:
        raise UnusableError(*faults)


def _secret_fields(settings: ProviderSettings) -> Iterator[KeyPath]:
    for name, field in type(settings).model_fields.items():
        if name in settings.model_fields_set and isinstance(getattr(settings, name), SecretStr):
            yield (field.alias or name,)


def _check_audiences(source: Source, providers: Mapping[str, AnyProvider]) -> Iterator[Fault]:
    """Yield the faults of listeners whose callers their provider can't tell apart."""
    listen = source.value(("listen",))
    for index in range(len(listen) if isinstance(listen, list) else 0):
        yield from check_audience(source, ("listen", index), providers, MACHINES)
    if "people" in source.tree:
        yield from check_audience(source, ("people",), providers, PEOPLE)


def check_audience(
    source: Source, path: KeyPath, providers: Mapping[str, AnyProvider], audience: str
) -> Iterator[Fault]:
    """Yield the fault of the section at `path`, if its `provider` does not serve the `audience` let in."""
    key = (*path, "provider")
    name = source.value(key) or min(provider_names(source), default=None)
    provider = providers.get(name) if isinstance(name, str) else None
    if provider is not None and audience not in provider.serves:
        served = " and ".join(sorted(provider.serves))
        yield source.fault(key, f"{name} is a provider for {served}, not for {audience}")
