"""A provider's section to a provider: finds the class, checks the settings, builds. Faults, never tracebacks.

An unknown type, a module that can't be had, bad settings, a constructor that fails: four different messages.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from imds_proxy.config import faults as fault_texts
from imds_proxy.config import read_configuration
from imds_proxy.config.checks import check_secrecy
from imds_proxy.provider import Provider, ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from imds_proxy.config import Configuration, ProviderSection
    from imds_proxy.errors import Fault

GROUP = "imds_proxy.providers"
"""The entry-point group that a distribution names its providers in."""

AnyProvider = Provider[Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a path: a configuration with its providers, or None and the faults that say why."""

    configuration: Configuration | None
    providers: Mapping[str, AnyProvider]
    """By name; all of them only where there is a configuration."""
    faults: tuple[Fault, ...]
    """Errors and warnings in the order of files and lines."""


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
    """Return the providers by name, and the faults of those that can't be had.

    `accounts` are the names that the providers' settings may name.
    """
    providers: dict[str, AnyProvider] = {}
    faults: list[Fault] = []
    for name, section in sections.items():
        try:
            providers[name] = _build(section, accounts)
        except _UnbuildableError as error:
            faults += error.faults
    return providers, faults


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of the providers by name; more than one only where distributions clash."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        found.setdefault(entry_point.name, {})[entry_point.value] = entry_point
    return {name: tuple(found[name].values()) for name in sorted(found)}


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


class _UnbuildableError(Exception):
    """A provider can't be had."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults


def _build(section: ProviderSection, accounts: Collection[str]) -> AnyProvider:
    provider_class = _find_class(section)
    settings = _validate(section, provider_class, accounts)
    try:
        return provider_class(settings)
    except (Exception, SystemExit) as error:
        text = f"{_name(provider_class)} can't be built: {_describe(error)}"
        raise _UnbuildableError(section.fault(text)) from error


def _find_class(section: ProviderSection) -> type[AnyProvider]:
    """Return the class that a section names, ready to be built. Raises for every reason there may be."""
    key, found = _find_object(section)
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise _UnbuildableError(
            section.fault(f"{_name(found)} is not a subclass of imds_proxy.provider.Provider", key)
        )
    missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
    if inspect.isabstract(found):
        raise _UnbuildableError(section.fault(f"{_name(found)} lacks {missing}", key))
    model = getattr(found, "settings_model", None)
    if not (isinstance(model, type) and issubclass(model, ProviderSettings)):
        text = f"{_name(found)} has no settings_model, a subclass of imds_proxy.provider.ProviderSettings"
        raise _UnbuildableError(section.fault(text, key))
    return found


def _find_object(section: ProviderSection) -> tuple[str, object]:
    """Return what should be a provider's class, and the key that named it."""
    if section.type is not None:
        return "type", _load_entry_point(section, section.type)
    assert section.module is not None  # a section has one of the two
    try:
        module = importlib.import_module(section.module)
    except (Exception, SystemExit) as error:
        text = f"can't import {section.module}: {_describe(error)}"
        raise _UnbuildableError(section.fault(text, "module")) from error
    found = getattr(module, section.class_name, None)
    if found is None or found is Provider:  # the base is in every module that imports it
        text = f"module {section.module} has no class {section.class_name} of its own"
        raise _UnbuildableError(section.fault(text, "class"))
    return "class", found


def _load_entry_point(section: ProviderSection, name: str) -> object:
    known = installed()
    candidates = known.get(name, ())
    if not candidates:
        text = f"no provider {name!r} is installed; known: {', '.join(known) or 'none'}"
        raise _UnbuildableError(section.fault(text, "type"))
    if len(candidates) > 1:
        text = f"several are installed as {name}: {', '.join(sorted(each.value for each in candidates))}"
        raise _UnbuildableError(section.fault(text, "type"))
    try:
        return candidates[0].load()
    except (Exception, SystemExit) as error:
        text = f"can't import {candidates[0].value}: {_describe(error)}"
        raise _UnbuildableError(section.fault(text, "type")) from error


def _validate(
    section: ProviderSection, provider_class: type[AnyProvider], accounts: Collection[str]
) -> ProviderSettings:
    model = provider_class.settings_model
    try:
        settings = model.model_validate(dict(section.settings), context={"accounts": frozenset(accounts)})
    except ValidationError as error:
        raise _UnbuildableError(
            *fault_texts.describe(error, section.source, model, section.path, ("type", "module", "class"))
        ) from error
    except Exception as error:
        text = f"the settings of {_name(provider_class)} can't be checked: {_describe(error)}"
        raise _UnbuildableError(section.fault(text)) from error
    open_secrets = [
        fault
        for key in _secret_keys(settings)
        for fault in check_secrecy(section.source, (*section.path, key))
    ]
    if open_secrets:
        raise _UnbuildableError(*open_secrets)
    return settings


def _secret_keys(settings: ProviderSettings) -> Iterator[str]:
    """Yield the keys of secrets that stand in the file itself."""
    for name, field in type(settings).model_fields.items():
        if name in settings.model_fields_set and isinstance(getattr(settings, name), SecretStr):
            yield field.alias or name


def _name(found: object) -> str:
    if isinstance(found, type):
        return f"{found.__module__}.{found.__qualname__}"
    return f"a {type(found).__name__}"


def _describe(error: BaseException) -> str:
    """Return an exception in words. pydantic's own text would show the values that are wrong."""
    if isinstance(error, ValidationError):
        return "; ".join(each["msg"] for each in error.errors(include_input=False))
    return f"{type(error).__name__}: {error}"
