"""An excerpt of a spec that uses a component, ready to paste."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from kdspec.api.component import Component
from kdspec.api.kinds.kinds import Dataset
from kdspec.registry.registry import Registry

_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "logit_loss": "loss",
        "feature_loss": "loss",
        "schedule": "weight",
        "layer_map": "layers",
        "match_preset": "preset",
        "adaptor": "student",
        "model": "student",
        "dataset": "data",
        "task": "main",
        "augmentation": "augment",
    }
)
"""The key in a spec for components of a kind, if it is not the kind's name."""
# The short form without a component's name, for kinds that have one.
_SHORT_FORMS = (
    1.0,
    MappingProxyType({"logits": "output.logits"}),
    MappingProxyType({6: 2}),
    MappingProxyType({"student": 0.05, "teacher": 1.0}),
)
_TABLE = "csv"
# Each round may find another required key.
_ROUNDS = 8


def example(component: type[Component], registry: Registry) -> str | None:
    """The component under its key, with required and simple default parameters; None if that does not validate."""
    key = _KEYS.get(component.kind, component.kind)
    for short in _SHORT_FORMS:
        if (component.from_plain(short) or ("",))[0] == component.name:
            return _yaml({key: dict(short) if isinstance(short, Mapping) else short})
    schema = component.model_json_schema()
    definitions = schema.get("$defs", {})
    values = _filled(schema, definitions, registry)
    for _ in range(_ROUNDS):
        try:
            component.model_validate(values, context={"registry": registry})
        except ValidationError as error:
            if not _mend(values, schema, definitions, registry, error.errors(include_url=False)):
                return None
            continue
        return _yaml({key: {component.name: values} if values else component.name})
    return None


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _mend(
    values: dict[str, Any],
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    registry: Registry,
    errors: list[Any],
) -> bool:
    """Add keys that a validator across fields requires; returns whether anything was added."""
    for error in errors:
        name = str((error.get("ctx") or {}).get("key"))
        if error["type"] == "missing_key" and not error["loc"] and name in schema["properties"] and name not in values:
            values[name] = _value(schema["properties"][name], definitions, registry, name)
            return True
    return False


def _filled(schema: Mapping[str, Any], definitions: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    required = schema.get("required", ())
    values: dict[str, Any] = {}
    for name, child in schema.get("properties", {}).items():
        if name in required:
            values[name] = _value(child, definitions, registry, name)
        elif child.get("examples"):
            values[name] = child["examples"][0]
        elif isinstance(child.get("default"), (bool, int, float, str)):
            values[name] = child["default"]
    return values


def _value(schema: Mapping[str, Any], definitions: Mapping[str, Any], registry: Registry, name: str) -> Any:
    """A value that the schema allows; for a string, the key's name."""
    if "default" in schema and schema["default"] is not None:
        return schema["default"]
    for form in ("examples", "enum"):
        if schema.get(form):
            return schema[form][0]
    if "$ref" in schema:
        return _filled(definitions[schema["$ref"].rpartition("/")[2]], definitions, registry)
    if "x-kdspec-kind" in schema:
        return _component(str(schema["x-kdspec-kind"]), registry)
    for option in schema.get("anyOf") or schema.get("oneOf") or ():
        if option.get("type") != "null":
            return _value(option, definitions, registry, name)
    return _of_type(schema, definitions, registry, name)


def _of_type(schema: Mapping[str, Any], definitions: Mapping[str, Any], registry: Registry, name: str) -> Any:
    match schema.get("type"):
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "array":
            item = _value(schema.get("items") or {}, definitions, registry, name)
            return [item] * max(1, schema.get("minItems", 1))
        case "object":
            values = schema.get("additionalProperties")
            return {name: _value(values, definitions, registry, name)} if isinstance(values, dict) else {}
    return name


def _number(schema: Mapping[str, Any]) -> float:
    low: float | None = schema.get("minimum", schema.get("exclusiveMinimum"))
    high: float | None = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        return 1 if high is None else high - 1
    if high is None or low + 1 < high:
        return max(1, low + 1)
    return low if "minimum" in schema else (low + high) / 2


def _component(kind: str, registry: Registry) -> Any:
    """The first component of the kind without required parameters, else the simplest one with those parameters.

    Of data sets it is the one that most users have.
    """
    if kind == Dataset.kind and len(registry.find(kind, _TABLE)) == 1:
        return {_TABLE: {"train": f"train.{_TABLE}"}}
    entries = registry.of_kind(kind)
    schemas = [(entry.component.name, entry.component.model_json_schema()) for entry in entries]
    for name, schema in schemas:
        if not schema.get("required"):
            return name
    filled = [{name: _filled(schema, schema.get("$defs", {}), registry)} for name, schema in schemas]
    return min(filled, key=lambda made: len(next(iter(made.values()))), default=kind)
