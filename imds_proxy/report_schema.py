"""A JSON schema of the whole configuration, the installed providers' settings included, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import models_json_schema

from imds_proxy import registry
from imds_proxy.config import Settings, format_duration
from imds_proxy.config.fields import DURATION_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from imds_proxy.provider import ProviderSettings

Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NULL = {"type": "null"}
_FROM_MODULE: Schema = {
    "type": "object",
    "description": "A provider of your own: a class of any module that can be imported.",
    "properties": {"module": {"type": "string"}, "class": {"type": "string", "default": "Provider"}},
    "required": ["module"],
}


def json_schema() -> Schema:
    """Return what a user may write, as JSON schema of draft 2020-12.

    Of a provider that can't be imported, or can't be described, nothing but its name is known.
    """
    models = {name: model for name, model in registry.installed_models().items() if _is_describable(model)}
    inputs: list[tuple[type[BaseModel], Literal["validation"]]] = [(Settings, "validation")]
    inputs += [(model, "validation") for model in models.values()]
    references, schema = models_json_schema(inputs)
    definitions: Schema = schema["$defs"]
    variants: list[Schema] = [_FROM_MODULE]
    for model, names in _names_by_model(models).items():
        reference = references[model, "validation"]
        key = _key(reference)
        definitions[key] = _with_type(names, definitions[key])
        variants.append(dict(reference))
    variants += [
        _with_type([name], {"type": "object"}) for name in registry.installed() if name not in models
    ]
    root: Schema = definitions.pop(_key(references[Settings, "validation"]))
    provider: Schema = {"anyOf": variants}
    root["properties"] |= {
        "provider": provider | {"description": "The only provider."},
        "providers": {
            "type": "object",
            "description": "Name -> provider.",
            "minProperties": 1,
            "additionalProperties": provider,
        },
    }
    root["oneOf"] = [{"required": ["provider"]}, {"required": ["providers"]}]
    tidy: Schema = _tidy(root | {"$defs": definitions, "title": "imds-proxy"})
    return {"$schema": DIALECT, **tidy}


def _is_describable(model: type[ProviderSettings]) -> bool:
    try:
        model.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return False
    return True


def _key(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _names_by_model(models: Mapping[str, type[ProviderSettings]]) -> dict[type[ProviderSettings], list[str]]:
    """Return the types of providers that share a model."""
    names: dict[type[ProviderSettings], list[str]] = {}
    for name, model in models.items():
        names.setdefault(model, []).append(name)
    return names


def _with_type(names: list[str], model: Schema) -> Schema:
    allowed = {"const": names[0]} if len(names) == 1 else {"enum": names}
    properties = {"type": allowed, **model.get("properties", {})}
    return model | {"properties": properties, "required": ["type", *model.get("required", [])]}


def _tidy(node: Any) -> Any:
    """Return a schema of what users write: no null (that is a fault), durations with their units."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items()}
    if tidy.get("default", "") is None:
        del tidy["default"]
    if _NULL in tidy.get("anyOf", []):
        others = [variant for variant in tidy.pop("anyOf") if variant != _NULL]
        tidy |= others[0] if len(others) == 1 else {"anyOf": others}
    if tidy.get("pattern") == DURATION_PATTERN and isinstance(tidy.get("default"), int | float):
        tidy["default"] = format_duration(tidy["default"])
    return tidy
