"""The class that a provider's section names, of the new shape or the old, or the fault that keeps it away."""

from __future__ import annotations

import importlib.util
import inspect
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imds_proxy.base_provider import BaseProvider
from imds_proxy.file_access import find_opening
from imds_proxy.provider import MACHINES, PEOPLE, Provider, ProviderSettings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from imds_proxy.config import ProviderSection
    from imds_proxy.errors import Fault

GROUP = "imds_proxy.providers"
"""The entry-point group that a distribution names its providers in."""

_BASES: tuple[object, ...] = (Provider, BaseProvider)
"""These are in every module that imports them."""

_OLD_METHODS = {
    "get_accounts_and_roles": "derive from imds_proxy.base_provider.BaseProvider instead",
    "get_group_list": "derive from imds_proxy_providers.by_groups.ProviderByGroups instead",
    "_get_role_name": "override role_for, or derive from imds_proxy_providers.by_host_name.ProviderByIP",
}
"""What the old shape calls and the new one does not: a rule that nobody asks must not go unnoticed."""


class UnusableError(Exception):
    """A provider can't be had."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of the providers by name; more than one only where distributions clash."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        found.setdefault(entry_point.name, {})[entry_point.value] = entry_point
    return {name: tuple(found[name].values()) for name in sorted(found)}


def find_class(section: ProviderSection) -> type[Any]:
    """Return the class that a section names: a subclass of Provider, or one of the shape of BaseProvider.

    It is ready to be built. Raises UnusableError for every reason there may be.
    """
    key, found = _find_object(section)
    try:
        problem = _describe_problem(found)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a metaclass may do anything
        problem = f"can't be looked at: {type(error).__name__}: {error}"
    if problem is not None:
        raise UnusableError(section.fault(f"{name_of(found)} {problem}", key))
    assert isinstance(found, type)
    return found


def name_of(found: object) -> str:
    """Return a class by its module and name, anything else by its type."""
    if isinstance(found, type):
        return f"{found.__module__}.{found.__qualname__}"
    return f"a {type(found).__name__}"


def _find_object(section: ProviderSection) -> tuple[str, object]:
    """Return what should be a provider's class, and the key that named it."""
    if section.type is not None:
        return "type", _load_entry_point(section, section.type)
    assert section.module is not None  # a section has one of the two
    _check_closed(section, section.module)
    try:
        module = importlib.import_module(section.module)
        found = getattr(module, section.class_name, None)  # which a module may import only now
    except (Exception, SystemExit) as error:
        text = f"can't import {section.module}: {type(error).__name__}: {error}"
        raise UnusableError(section.fault(text, "module")) from error
    if found is None or found in _BASES:
        text = f"module {section.module} has no class {section.class_name} of its own"
        raise UnusableError(section.fault(text, "class"))
    return "class", found


def _check_closed(section: ProviderSection, module: str) -> None:
    """Raise UnusableError for a module that any user can change: once imported, it runs beside our key."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is None:
            return
        places = [*(spec.submodule_search_locations or ()), *((spec.origin,) if spec.has_location else ())]
        openings = [find_opening(Path(place)) for place in places if place is not None]
    except (ImportError, OSError, ValueError):
        return  # the import says what is wrong
    for opening in openings:
        if opening is not None and opening.is_for_all:
            raise UnusableError(section.fault(str(opening), "module"))


def _load_entry_point(section: ProviderSection, name: str) -> object:
    known = installed()
    candidates = known.get(name, ())
    if not candidates:
        text = f"no provider {name!r} is installed; known: {', '.join(known) or 'none'}"
        raise UnusableError(section.fault(text, "type"))
    if len(candidates) > 1:
        text = f"several are installed as {name}: {', '.join(sorted(each.value for each in candidates))}"
        raise UnusableError(section.fault(text, "type"))
    try:
        return candidates[0].load()
    except (Exception, SystemExit) as error:
        text = f"can't import {candidates[0].value}: {type(error).__name__}: {error}"
        raise UnusableError(section.fault(text, "type")) from error


def _describe_problem(found: object) -> str | None:
    """Return what keeps an object from being a provider's class, None if nothing does."""
    if isinstance(found, type) and issubclass(found, Provider):
        return _describe_new_shape(found)
    if isinstance(found, type) and hasattr(found, "get_accounts_and_roles"):
        return _describe_old_shape(found)
    return "is not a subclass of imds_proxy.provider.Provider, nor has it get_accounts_and_roles"


def _describe_new_shape(found: type[Provider[Any]]) -> str | None:
    for method, advice in _OLD_METHODS.items():
        if hasattr(found, method):
            return f"has {method}, which nobody calls in a subclass of imds_proxy.provider.Provider: {advice}"
    if inspect.isabstract(found):
        return f"lacks {', '.join(sorted(found.__abstractmethods__))}"
    if not _is_model(getattr(found, "settings_model", None)):
        return "has no settings_model, a subclass of imds_proxy.provider.ProviderSettings"
    return None


def _describe_old_shape(found: type) -> str | None:
    missing = [
        name for name in dir(found) if getattr(getattr(found, name, None), "__isabstractmethod__", False)
    ]
    if missing:
        return f"lacks {', '.join(sorted(missing))}"
    method = getattr(found, "get_accounts_and_roles", None)
    if not callable(method):
        return "has a get_accounts_and_roles that can't be called"
    if inspect.iscoroutinefunction(method):
        return "has a coroutine get_accounts_and_roles; coroutines belong into imds_proxy.provider.Provider"
    model = getattr(found, "settings_model", None)
    if model is not None and not _is_model(model):
        return "has a settings_model that is no subclass of imds_proxy.provider.ProviderSettings"
    serves = getattr(found, "serves", frozenset({MACHINES}))
    if not isinstance(serves, frozenset) or not serves or serves - {MACHINES, PEOPLE}:
        return f"has a serves that is not a frozenset of {MACHINES!r} and {PEOPLE!r}"
    try:
        inspect.signature(found).bind(user="", config={}, logger=None)
    except TypeError as error:
        return f"can't be made with user, config and logger: {error}"
    except ValueError:  # made in C, perhaps: nothing is known of its arguments
        return None
    return None


def _is_model(model: object) -> bool:
    return isinstance(model, type) and issubclass(model, ProviderSettings)
