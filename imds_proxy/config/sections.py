"""The sections of the providers before any is imported: their names, their classes, their raw settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imds_proxy.config.faults import NO_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source, Tree

ONLY_PROVIDER = "provider"
"""The key, and the name, of a provider that is the only one."""

KEYS = frozenset({ONLY_PROVIDER, "providers"})
CLASS_KEYS = ("type", "module", "class")
DEFAULT_CLASS = "Provider"

_EXAMPLE = "such as {type: by_ip, ...}"


@dataclass(frozen=True, slots=True)
class ProviderSection:
    """What the configuration says about one provider: `type`, or `module` and `class`, and its settings."""

    name: str
    path: KeyPath
    source: Source = field(repr=False)
    type: str | None
    module: str | None
    class_name: str
    settings: Mapping[str, Tree] = field(repr=False)
    """Texts as they stand in the file; the provider's model makes values of them."""
    typed: Mapping[str, object] = field(repr=False)
    """The same with the types that YAML knows, for a class without a model."""

    def fault(self, text: str, *keys: str) -> Fault:
        """Return a fault of this section, or of a key in it."""
        return self.source.fault((*self.path, *keys), text)


def names(source: Source) -> frozenset[str]:
    """Return the names of all providers, those with faults too."""
    providers = source.tree.get("providers")
    only = {ONLY_PROVIDER} if ONLY_PROVIDER in source.tree else set()
    return frozenset(only | (providers.keys() if isinstance(providers, dict) else set()))


def read_sections(source: Source) -> tuple[dict[str, ProviderSection], list[Fault]]:
    """Return the sections without a fault by name, and the faults of the others."""
    sections: dict[str, ProviderSection] = {}
    faults = list(_check_shape(source))
    for name in sorted(names(source)):
        is_only = name == ONLY_PROVIDER and ONLY_PROVIDER in source.tree
        path = (ONLY_PROVIDER,) if is_only else ("providers", name)
        section, section_faults = read_section(source, path, name)
        faults += section_faults
        if section is not None:
            sections[name] = section
    return sections, faults


def read_section(source: Source, path: KeyPath, name: str) -> tuple[ProviderSection | None, list[Fault]]:
    """Return the section at `path`, or None and its faults."""
    faults = list(_check_section(source, path))
    return (None if faults else _section(source, path, name)), faults


def _check_shape(source: Source) -> Iterator[Fault]:
    if not KEYS & source.tree.keys():
        yield source.fault(("providers",), f"is required: a map of names and providers, {_EXAMPLE}")
    if source.tree.keys() >= KEYS:
        yield source.fault((ONLY_PROVIDER,), "and providers can't both be given")
    if "providers" in source.tree:
        providers = source.tree["providers"]
        if not isinstance(providers, dict):
            yield source.fault(("providers",), f"must be a map of names and providers, {_EXAMPLE}")
        elif not providers:
            yield source.fault(("providers",), f"is empty; it needs a provider, {_EXAMPLE}")


def _check_section(source: Source, path: KeyPath) -> Iterator[Fault]:
    section = source.value(path)
    if not isinstance(section, dict):
        yield source.fault(path, f"must be a map, {_EXAMPLE}")
        return
    for key in CLASS_KEYS:
        if key in section and not section[key]:
            yield source.fault((*path, key), NO_VALUE)
        elif key in section and not isinstance(section[key], str):
            yield source.fault((*path, key), "must be a text")
    if "type" in section and "module" in section:
        yield source.fault((*path, "module"), "and type can't both be given")
    elif "type" not in section and "module" not in section:
        yield source.fault((*path, "type"), "is required (or module)")
    if "class" in section and "module" not in section:
        yield source.fault((*path, "class"), "needs module beside it")


def _section(source: Source, path: KeyPath, name: str) -> ProviderSection:
    def text(key: str) -> str | None:
        value = source.value((*path, key))
        return value if isinstance(value, str) else None

    section, typed = source.value(path), source.typed_value(path)
    assert isinstance(section, dict)
    assert isinstance(typed, dict)
    return ProviderSection(
        name=name,
        path=path,
        source=source,
        type=text("type"),
        module=text("module"),
        class_name=text("class") or DEFAULT_CLASS,
        settings={key: value for key, value in section.items() if key not in CLASS_KEYS},
        typed={key: value for key, value in typed.items() if key not in CLASS_KEYS},
    )
