"""The settings in effect, one line each, with where each comes from: what `imds-proxy config` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from imds_proxy.config.fields import HIDDEN
from imds_proxy.directory.settings import OLD_NAMES
from imds_proxy.yaml_source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from imds_proxy.config import Configuration, ProviderSection
    from imds_proxy.provider import Provider
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

Shown: TypeAlias = "str | float | Sequence[Shown] | Mapping[str, Shown] | None"
"""What pydantic makes of settings for JSON, and what stands in a file."""

Line: TypeAlias = "tuple[KeyPath, Shown]"

_DIRECTORY = ("people", "identity", "ldap")

_OLD_SPELLINGS: Mapping[str | int, str] = {name: old for old, name in OLD_NAMES.items()}

_BY_HOST = (("metadata", "domains"), ("metadata", "hosts"))

_PYDANTIC_HIDDEN = "**********"
"""What pydantic shows of a secret."""


def describe(configuration: Configuration, providers: Mapping[str, Provider[Any]]) -> Iterator[str]:
    """Yield `KEY: VALUE    # FILE:LINE` for every setting; `# default` or `# $VARIABLE` where no file has it.

    Account ids have their 12 digits, secrets are `********`. `providers` are the built ones by name.
    """
    source = configuration.source
    lines = list(_flatten(configuration.settings.model_dump(mode="json"), ()))
    for name, section in configuration.providers.items():
        lines += _describe_provider(section, providers[name])
    for path, value in lines:
        yield f"{dotted(path)}: {_show(value)}    # {_origin(source, path)}"


def _describe_provider(section: ProviderSection, provider: Provider[Any]) -> Iterator[Line]:
    if section.type is not None:
        yield (*section.path, "type"), section.type
    else:
        yield (*section.path, "module"), section.module
        yield (*section.path, "class"), section.class_name
    try:
        known = provider.settings.model_dump(mode="json", by_alias=True, fallback=str)
    except Exception:  # noqa: BLE001  a site's default may be anything
        # A site's own serializer failed: what is a secret isn't known, so everything may be one.
        known = dict.fromkeys(section.settings, HIDDEN)
    for name, old in _OLD_SPELLINGS.items():
        if name in known and old in section.settings and old not in known:
            known = {old if key == name else key: value for key, value in known.items()}
    if section.settings or known:
        yield from _merge(dict(section.settings), known, section.path)


def _merge(written: Shown, known: Shown, path: KeyPath) -> Iterator[Line]:
    """Yield what is written, as it is written, and the defaults of what is not: models change shapes."""
    if isinstance(written, dict) and isinstance(known, dict) and known and written.keys() <= known.keys():
        for key, value in known.items():
            if key in written:
                yield from _merge(written[key], value, (*path, key))
            else:
                yield from _flatten(value, (*path, key))
    elif isinstance(written, list) and isinstance(known, list) and 0 < len(written) == len(known):
        for index, (item, value) in enumerate(zip(written, known, strict=True)):
            yield from _merge(item, value, (*path, index))
    elif any(value == HIDDEN for _, value in _flatten(known, ())):
        yield path, HIDDEN
    else:
        yield from _flatten(written, path)


def _flatten(value: Shown, path: KeyPath) -> Iterator[Line]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _flatten(child, (*path, key))
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            yield from _flatten(child, (*path, index))
    else:
        yield path, HIDDEN if value == _PYDANTIC_HIDDEN else value


def _origin(source: Source, path: KeyPath) -> str:
    # An address among the hosts is shown in its canonical form, which may not be how the file has it.
    is_host = (path[0] == "hosts" and len(path) > 1) or (path[:2] in _BY_HOST and len(path) > 2)
    for spelled in (path, _old_spelling(path)):
        if is_host or spelled in source.positions or _is_part_of_a_text(source, spelled):
            return source.where(spelled)
    return "default"


def _old_spelling(path: KeyPath) -> KeyPath:
    """Return the path by which the AWS Federation Proxy's name of a directory's setting leads to it."""
    place = len(_DIRECTORY)
    if path[:place] != _DIRECTORY or len(path) == place:
        return path
    return (*_DIRECTORY, _OLD_SPELLINGS.get(path[place], path[place]), *path[place + 1 :])


def _is_part_of_a_text(source: Source, path: KeyPath) -> bool:
    """Tell whether the settings have a list where the file has a text."""
    return isinstance(path[-1], int) and isinstance(source.value(path[:-1]), str)


def _show(value: Shown) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    is_plain = text.isprintable() and text == text.strip() != "" and " #" not in text
    return text if is_plain else repr(text)
