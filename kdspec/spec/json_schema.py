"""The JSON Schema of a spec with all components of a registry, for editors and other programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from inspect import cleandoc
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

from kdspec.api.component import Component
from kdspec.api.spec.spec import Spec
from kdspec.registry.registry import KINDS, Registry, RegistryEntry

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest dialect that every editor's YAML support understands."""

SHORT_FORMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "schedule": ("constant", "value"),
        "temperature": ("constant", "value"),
        "layer_map": ("explicit", "pairs"),
        "adaptor": ("paths", "features"),
    }
)
"""For each kind with a short form: the component and the parameter that the short form sets."""
UNNAMED: Mapping[str, str] = MappingProxyType({"temperature": "sides"})
"""For each kind with a component that is also written without its name: the component."""

_Schema = dict[str, Any]
_REFERENCES = "#/definitions/"
_PARTIAL = "partial."
# `${VAR}` in a scalar is replaced before the spec is read, so a schema of the text must let it pass.
_VARIABLE = r"\$\{"
_INTEGER_KEY = "^-?[0-9]+$"
_NOUNS = MappingProxyType({"integer": "an integer", "number": "a number", "boolean": "`true` or `false`"})
_IN_MAPPINGS = ("properties", "patternProperties", "definitions")
_IN_LISTS = ("anyOf", "oneOf", "allOf")
_ALONE = ("items", "additionalProperties", "propertyNames", "if", "then", "else")


def json_schema(registry: Registry) -> _Schema:
    """The schema of a spec as written, before composition: `extends` and `${VAR}` included.

    Only `check` refuses a component with several names, since a schema that does so disables completion in editors. A spec
    that extends another one may leave out required keys.
    """
    entries = [entry for entry in registry.entries if _describable(entry)]
    definitions = {name: _refined(model) for name, model in _models(entries).items()}
    definitions |= {kind.kind: _kind(kind, registry, entries, definitions) for kind in KINDS}
    spec = definitions["Spec"]
    spec["properties"] = {"extends": dict(_EXTENDS), **spec["properties"]}
    definitions |= _partial(definitions)
    return {
        "$schema": DIALECT,
        "description": spec["description"],
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"{_REFERENCES}{_PARTIAL}Spec"},
        "else": {"$ref": f"{_REFERENCES}Spec"},
        "definitions": dict(sorted(definitions.items())),
    }


def text(registry: Registry) -> str:
    """The schema as the text of a file."""
    return json.dumps(json_schema(registry), indent=1, ensure_ascii=False) + "\n"


_EXTENDS: Mapping[str, Any] = MappingProxyType(
    {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Spec on which this one builds, or a list of them: mappings are merged, anything else replaced.",
    }
)


class _Generator(GenerateJsonSchema):
    """Allows any value where JSON Schema cannot describe the type, such as a plugin's own class."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> _Schema:
        del schema, error_info
        return {}


def _describable(entry: RegistryEntry) -> bool:
    try:
        entry.component.model_json_schema(schema_generator=_Generator)
    except (PydanticUserError, NameError, TypeError):  # fields of a plugin that pydantic cannot describe
        return False
    return True


def _models(entries: list[RegistryEntry]) -> dict[str, _Schema]:
    """The definitions of the spec, of all components as `<kind>.<distribution>.<name>`, and of the models in them."""
    wanted: list[tuple[type[BaseModel], Any]] = [(Spec, "validation")]
    wanted += [(entry.component, "validation") for entry in entries]
    references, shared = models_json_schema(wanted, ref_template=_REFERENCES + "{model}", schema_generator=_Generator)
    names = {_target(references[entry.component, "validation"]): _id(entry) for entry in entries}
    definitions: dict[str, _Schema] = shared["$defs"]
    for definition in definitions.values():
        for node in _nodes(definition):
            if "$ref" in node:
                node["$ref"] = _REFERENCES + names.get(_target(node), _target(node))
    return {names.get(name, name): definition for name, definition in definitions.items()}


def _kind(
    kind: type[Component], registry: Registry, entries: list[RegistryEntry], definitions: Mapping[str, _Schema]
) -> _Schema:
    """A component of the kind: its name, its name with parameters, or the short form."""
    shown = {name: entry for entry in entries if entry.component.kind == kind.kind for name in _names(entry, registry)}
    hidden = [e for e in entries if e.component.kind == kind.kind and e.qualified not in shown]
    bare = {name: entry for name, entry in shown.items() if not definitions[_id(entry)].get("required")}
    hidden_bare = [re.escape(e.qualified) for e in hidden if not definitions[_id(e)].get("required")]
    also = "|".join([_VARIABLE, *(f"^{name}$" for name in hidden_bare)])
    options: list[_Schema] = [
        {
            "type": "object",
            "properties": {name: {"$ref": _REFERENCES + _id(entry)} for name, entry in sorted(shown.items())},
            "patternProperties": {
                f"^{re.escape(entry.qualified)}$": {"$ref": _REFERENCES + _id(entry)} for entry in hidden
            },
            "additionalProperties": False,
            "minProperties": 1,
            "errorMessage": _expected(kind),
        },
        {
            "enum": sorted(bare),
            "markdownEnumDescriptions": [_summary(bare[name].component) for name in sorted(bare)],
        },
        {"type": "string", "pattern": also},
    ]
    component, parameter = SHORT_FORMS.get(kind.kind, (None, None))
    found = registry.find(kind.kind, component) if component is not None else []
    options += [_short_form(kind, definitions[_id(entry)]["properties"][parameter]) for entry in found]
    unnamed = registry.find(kind.kind, UNNAMED[kind.kind]) if kind.kind in UNNAMED else []
    options += [{**definitions[_id(entry)], "type": "object", "minProperties": 1} for entry in unnamed]
    return {"anyOf": [option for option in options if option.get("enum") != []]}


def _expected(kind: type[Component]) -> str:
    short = {"layer_map": ", or `{teacher: student}`", "adaptor": ", or `{feature: path}`"}
    also = short.get(kind.kind, ", or a number" if kind.kind in SHORT_FORMS else "")
    return f"unknown {kind.words()}; write a name, with or without parameters{also} (see `kdspec list {kind.kind}`)"


def _short_form(kind: type[Component], parameter: _Schema) -> _Schema:
    short = {key: value for key, value in parameter.items() if not key.lower().endswith("description")}
    if kind.kind == "layer_map":
        short["patternProperties"] = {_INTEGER_KEY: short.pop("additionalProperties")}
        short["additionalProperties"] = False
    return short


def _names(entry: RegistryEntry, registry: Registry) -> Iterator[str]:
    """The names to propose: the bare one if it is not ambiguous, and the qualified one for plugins."""
    if not entry.builtin:
        yield entry.qualified
    if registry.find(entry.component.kind, entry.component.name) == [entry]:
        yield entry.component.name


def _id(entry: RegistryEntry) -> str:
    return f"{entry.component.kind}.{entry.qualified}".replace("/", ".")


def _target(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).removeprefix(_REFERENCES)


def _summary(component: type[Component]) -> str:
    return _first_paragraph(cleandoc(component.__doc__ or ""))


def _first_paragraph(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


def _nodes(schema: Any) -> Iterator[_Schema]:
    """A schema and all schemas in it, outer ones first; without values that only look like one, such as a default."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key in _IN_MAPPINGS:
        for child in schema.get(key, {}).values():
            yield from _nodes(child)
    for key in _IN_LISTS:
        for child in schema.get(key, ()):
            yield from _nodes(child)
    for key in _ALONE:
        yield from _nodes(schema.get(key))


def _mapped(schema: _Schema, change: Callable[[Any], Any]) -> _Schema:
    """The schema with `change` applied to the schemas directly in it."""
    result = dict(schema)
    for key in _IN_MAPPINGS:
        if key in schema:
            result[key] = {name: change(child) for name, child in schema[key].items()}
    for key in _IN_LISTS:
        if key in schema:
            result[key] = [change(child) for child in schema[key]]
    for key in _ALONE:
        if key in schema:
            result[key] = change(schema[key])
    return result


def _refined(schema: Any) -> Any:
    """Pydantic's schema, adapted for editors: kinds resolved, one type list for simple unions, Markdown."""
    if not isinstance(schema, dict):
        return schema
    names = schema.get("propertyNames")
    schema = _mapped({key: value for key, value in schema.items() if key != "title"}, _refined)
    if names is not None:
        schema["propertyNames"] = names  # keys have no variables
    if (kind := schema.pop("x-kdspec-kind", None)) is not None:
        partial = _PARTIAL if schema.pop("x-kdspec-partial", False) else ""  # with its required keys left out
        schema["$ref"] = _REFERENCES + partial + kind
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")
    _fold(schema)
    _let_variables_pass(schema)
    if schema.get("type") == "object" and "properties" in schema and not schema.get("required"):
        schema["type"] = ["object", "null"]  # `soft_labels:` without a value is an empty mapping
    _describe(schema)
    if schema.get("default", ...) is None:
        del schema["default"]
    if "$ref" in schema and len(schema) > 1:  # draft-07 ignores keys next to a reference
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    return schema


def _fold(schema: _Schema) -> None:
    """Make `anyOf` of a scalar and null, as pydantic writes it, a list of types: editors then show one thing."""
    options = schema.get("anyOf", ())
    others = [option for option in options if option != {"type": "null"}]
    if len(options) != 2 or len(others) != 1 or not ({"type", "enum"} & others[0].keys()):
        return
    (only,) = others
    if "enum" in only:
        folded = {**only, "enum": [*only["enum"], None]}
        folded.pop("type", None)
    else:
        folded = {**only, "type": [*_types(only), "null"]}
    del schema["anyOf"]
    schema.update({key: value for key, value in folded.items() if key not in schema})


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _let_variables_pass(schema: _Schema) -> None:
    types = [type_ for type_ in _types(schema) if type_ != "null"]
    if "enum" in schema and all(isinstance(value, (str, type(None))) for value in schema["enum"]):
        choice = {key: schema.pop(key) for key in ("enum", "type", "markdownEnumDescriptions") if key in schema}
        schema["anyOf"] = [choice, {"type": "string", "pattern": _VARIABLE}]
    elif "pattern" in schema:
        if _VARIABLE not in schema["pattern"]:
            schema["pattern"] = f"{schema['pattern']}|{_VARIABLE}"
    elif len(types) == 1 and types[0] in _NOUNS and "const" not in schema:
        schema["type"] = [*_types(schema), "string"]
        schema["pattern"] = _VARIABLE
        schema["errorMessage"] = f"expected {_NOUNS[types[0]]}"


def _describe(schema: _Schema) -> None:
    """A plain first paragraph for all editors, and the whole text with the default for those that show Markdown."""
    whole = schema.get("description")
    if whole is None:
        return
    schema["description"] = _first_paragraph(whole)
    default = schema.get("default")
    if default is not None:
        whole += f"\n\nDefault: `{default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)}`"
    if whole != schema["description"] or "`" in whole:
        schema["markdownDescription"] = whole


def _partial(definitions: Mapping[str, _Schema]) -> dict[str, _Schema]:
    """Copies, without `required`, of the definitions that require keys or contain one that does; for `extends`."""
    changed = {name for name, schema in definitions.items() if any("required" in node for node in _nodes(schema))}
    while True:
        more = {
            name
            for name, schema in definitions.items()
            if any("$ref" in node and _target(node) in changed for node in _nodes(schema))
        }
        if more <= changed:
            break
        changed |= more

    def loosened(schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        loose = _mapped({key: value for key, value in schema.items() if key != "required"}, loosened)
        if "$ref" in loose and _target(loose) in changed:
            loose["$ref"] = _REFERENCES + _PARTIAL + _target(loose)
        return loose

    return {_PARTIAL + name: loosened(definitions[name]) for name in changed}
