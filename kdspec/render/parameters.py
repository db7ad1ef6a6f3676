"""The parameters of a component, described from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdspec.api.component import Component

_LARGE = 10_000


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component; nested parameters follow it."""

    path: str
    """`soft_labels.weight`, or `matches[].feature` for a key of each list item."""
    type: str
    """Its type in words."""
    required: bool
    default: Any
    description: str

    @property
    def presence(self) -> str:
        """`required`, `optional`, or its default."""
        if self.required:
            return "required"
        return "optional" if self.default is None else f"default `{written(self.default)}`"


def parameters(component: type[Component]) -> list[Parameter]:
    """All parameters in the order in which the component declares them."""
    schema = component.model_json_schema()
    return list(_walk(schema, schema.get("$defs", {}), "", ()))


def written(value: Any) -> str:
    """A value as one line of YAML."""
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text.isprintable() or not text.strip() else text


def words(schema: Mapping[str, Any]) -> str:
    """The type of a value: `a number greater than 0`, `a logit loss`, `a list, each a string`."""
    if "x-kdspec-kind" in schema:
        return _with_article(str(schema["x-kdspec-kind"]).replace("_", " "))
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return _either([f"`{written(choice)}`" for choice in choices])
    if options := _options(schema):
        return _either(list(dict.fromkeys(words(option) for option in options)))
    simple = {"integer": "an integer", "number": "a number", "string": "a string", "boolean": "`true` or `false`"}
    match schema.get("type"):
        case "array":
            items = schema.get("items") or {}
            return f"{_counted(schema)}, each {words(items)}" if items else _counted(schema)
        case "object":
            values = schema.get("additionalProperties")
            return f"a mapping, each value {words(values)}" if isinstance(values, dict) and values else "a mapping"
        case type_ if type_ in simple:
            return simple[type_] + _bounds(schema)
    return "a mapping" if "$ref" in schema else "anything"


def _walk(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str, seen: tuple[str, ...]
) -> Iterator[Parameter]:
    required = schema.get("required", ())
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        description = " ".join(str(child.get("description", "")).split())
        yield Parameter(path, words(child), name in required, child.get("default"), description)
        for reference, suffix in _references(child):
            # A model may contain itself; it is described once.
            if reference not in seen:
                yield from _walk(definitions[reference], definitions, path + suffix + ".", (*seen, reference))


def _references(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2], ""
    for option in _options(schema):
        yield from _references(option)
    if isinstance(items := schema.get("items"), dict):
        yield from ((reference, f"[]{suffix}") for reference, suffix in _references(items))
    if isinstance(values := schema.get("additionalProperties"), dict):
        yield from ((reference, f".*{suffix}") for reference, suffix in _references(values))


def _options(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives of a value without null, since `presence` describes optional ones."""
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or []
    return [option for option in options if option.get("type") != "null"]


def _bounds(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {_figure(low)} to {_figure(high)}"
    parts = [
        f"greater than {_figure(above)}" if above is not None else "",
        f"{_figure(low)} or more" if low is not None else "",
    ]
    parts += [
        f"below {_figure(below)}" if below is not None else "",
        f"{_figure(high)} or less" if high is not None else "",
    ]
    text = " and ".join(part for part in parts if part)
    return f", {text}" if text else ""


def _figure(number: float) -> str:
    """A bound: a large one with commas between its thousands."""
    return f"{int(number):,}" if float(number).is_integer() and abs(number) >= _LARGE else written(number)


def _counted(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    return f"a list of {most}" if most is not None and least == most else "a list"


def _either(options: list[str]) -> str:
    return " or ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)


def _with_article(noun: str) -> str:
    # "an" before "lr", which is pronounced letter by letter.
    return f"{'an' if noun[0] in 'aeio' or noun.startswith('lr ') else 'a'} {noun}"
