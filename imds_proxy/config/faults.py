"""What pydantic finds wrong, as faults with file, line and key, in the words of somebody who writes YAML."""

from __future__ import annotations

import difflib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from imds_proxy.config import old_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

NO_VALUE = "has no value; leave the key out for the default, or write [] for an empty list"

_IS_NO_MAP = "must be a map (KEY: VALUE)"
_IS_NO_LIST = "must be a list"
_IS_NO_NUMBER = "must be a whole number"
_IS_NO_SWITCH = "must be true or false"
_TEXTS = {
    "missing": "is required",
    "model_type": _IS_NO_MAP,
    "model_attributes_type": _IS_NO_MAP,
    "dict_type": _IS_NO_MAP,
    "mapping_type": _IS_NO_MAP,
    "list_type": _IS_NO_LIST,
    "tuple_type": _IS_NO_LIST,
    "set_type": _IS_NO_LIST,
    "frozen_set_type": _IS_NO_LIST,
    "string_type": "must be a text",
    "bool_type": _IS_NO_SWITCH,
    "bool_parsing": _IS_NO_SWITCH,
    "int_type": _IS_NO_NUMBER,
    "int_parsing": _IS_NO_NUMBER,
    "int_parsing_size": _IS_NO_NUMBER,
    "int_from_float": _IS_NO_NUMBER,
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "greater_than": "must be more than {gt}",
    "less_than": "must be less than {lt}",
    "too_short": "is too short: it needs {min_length} or more",
    "too_long": "is too long: {max_length} at most",
    "string_too_short": "is too short: it needs {min_length} characters or more",
    "string_too_long": "is too long: {max_length} characters at most",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


def describe(
    error: ValidationError,
    source: Source,
    model: type[BaseModel],
    path: KeyPath = (),
    other_keys: Collection[str] = (),
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Fault]:
    """Return the faults that `model` found in what stands at `path`.

    `other_keys` are allowed beside the model's own: someone else reads them. `elsewhere` says of keys that
    are not allowed here, whose they are.
    No text has a value in it that the model did not put there: it may be a secret.
    """
    for details in error.errors(include_url=False, include_input=False):
        place = _place(details, source, model, path)
        if _is_about_broken_items(details, source, place):
            continue
        if details["type"] == "extra_forbidden" and (old := old_keys.explain(source, place)):
            yield from old
            continue
        if details["type"] == "extra_forbidden":
            is_top = len(details["loc"]) == 1
            known = {*_keys_at(model, details["loc"][:-1]), *(other_keys if is_top else ())}
            text = describe_unknown_key(str(details["loc"][-1]), known, elsewhere if is_top else {})
        elif place in source.positions and source.value(place) is None:
            text = NO_VALUE
        else:
            text = _describe(details)
        yield source.fault(place, text)


def describe_unknown_key(
    key: str, known: Collection[str], elsewhere: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the text of a fault: that nobody reads this key here, and what may have been meant."""
    if key in elsewhere:
        return f"unknown key here: it is a setting of {elsewhere[key]}"
    close = difflib.get_close_matches(key, sorted(known), n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key; known here: {', '.join(sorted(known))}" if known else "unknown key"


def sort(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults in the order of files and lines, each once."""

    def place(fault: Fault) -> tuple[str, int]:
        file, _, line = fault.where.rpartition(":")
        return (file, int(line)) if line.isdigit() else (fault.where, 0)

    return tuple(sorted(dict.fromkeys(faults), key=place))


def _describe(details: ErrorDetails) -> str:
    context: dict[str, Any] = details.get("ctx", {})
    if details["type"] in {"value_error", "assertion_error"}:
        return str(context.get("error", details["msg"]))
    if context.get("actual_length") == 0:
        return "must not be empty"
    text = _TEXTS.get(details["type"])
    return text.format_map(context) if text else details["msg"]


def _place(details: ErrorDetails, source: Source, model: type[BaseModel], path: KeyPath) -> KeyPath:
    """Return the key path that is meant. Besides keys pydantic's `loc` has marks such as a union's branch."""
    loc = details["loc"]
    for part in loc:
        if (*path, part) in source.positions:
            path = (*path, part)
    is_left_out = bool(loc) and loc[-1] in _keys_at(model, loc[:-1]) and path[-1:] != loc[-1:]
    return (*path, loc[-1]) if is_left_out else path


def _is_about_broken_items(details: ErrorDetails, source: Source, place: KeyPath) -> bool:
    """Tell whether a list counts as too short only because its items have faults of their own."""
    value = source.value(place)
    return (
        details["type"] == "too_short"
        and isinstance(value, list | dict)
        and len(value) >= details.get("ctx", {}).get("min_length", 0)
    )


def _keys_at(model: type[BaseModel], loc: Iterable[int | str]) -> set[str]:
    models = [model]
    for part in loc:
        fields = [_fields(each)[part] for each in models if isinstance(part, str) and part in _fields(each)]
        if fields:
            models = [found for annotation in fields for found in _models_in(annotation)]
    return {key for each in models for key in _fields(each)}


def _fields(model: type[BaseModel]) -> dict[str, object]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
