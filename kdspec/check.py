"""Text and registry to a spec, or to diagnostics: every mistake of shape at once, each at its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kdspec.diagnostics import Diagnostic, Edit, Label, closest
from kdspec.registry import Registry
from kdspec.source import Document, Path
from kdspec.spec import Spec


@dataclass(frozen=True)
class Checked:
    """What a check found: a spec unless there are errors."""

    document: Document
    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that forbid a run."""
        return tuple(d for d in self.diagnostics if d.severity == "error")


def check(document: Document, registry: Registry) -> Checked:
    """Validate a document: its shape and names first; then, if these hold, the rules that plugins add."""
    context = {"registry": registry, "folder": document.folder}
    if document.data is None:
        empty = Diagnostic("KD102", "the spec is empty", _root(document), help="a spec begins with `kdspec: 1`")
        return Checked(document, None, (empty,))
    try:
        spec = Spec.model_validate(document.data, context=context)
    except ValidationError as error:
        return Checked(document, None, _explain_all(error.errors(include_url=False), document, registry))
    spec.attach(document)
    return Checked(document, spec, _in_order(_rules(spec, registry)))


def _rules(spec: Spec, registry: Registry) -> Iterable[Diagnostic]:
    for answer in registry.plugins.call("kdspec_check", spec=spec, registry=registry):
        if answer.error is not None:
            who = f"{answer.plugin.distribution} ({answer.plugin.origin})"
            yield Diagnostic(
                "KD203",
                f"the check of {who} raised {type(answer.error).__name__}: {answer.error}",
                severity="warning",
                help="its other rules were not applied; tell the plugin's author",
            )
        yield from answer.result or ()


def _in_order(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda d: (d.primary is None, d.primary.span if d.primary else ())))


def _explain_all(errors: Sequence[Any], document: Document, registry: Registry) -> tuple[Diagnostic, ...]:
    misspelt = {
        (tuple(e["loc"][:-1]), guess)
        for e in errors
        if e["type"] == "unknown_key" and (guess := closest(e["ctx"]["key"], e["ctx"]["candidates"]))
    }
    found = []
    for error in errors:
        loc = tuple(error["loc"])
        # A required key that is misspelt is one mistake, not a missing and an unknown key.
        if error["type"] == "missing" and (loc[:-1], loc[-1]) in misspelt:
            continue
        if error["type"] == "missing_key" and (loc, error["ctx"]["key"]) in misspelt:
            continue
        found.append(_explain(error, document, registry))
    return _in_order(found)


def _explain(error: Any, document: Document, registry: Registry) -> Diagnostic:
    type_, loc, context = error["type"], tuple(error["loc"]), dict(error.get("ctx") or {})
    path = document.locate(loc)
    match type_:
        case "unknown_key":
            return _unknown_key(path, context, document)
        case "missing":
            return _missing(str(loc[-1]), [], document.locate(loc[:-1]), document)
        case "missing_key":
            return _missing(context["key"], context.get("others", []), path, document)
        case "unknown_component":
            return _unknown_component(path, context, document, registry)
        case "ambiguous_component":
            names = " or ".join(f"`{name}`" for name in context["candidates"])
            return Diagnostic("KD202", error["msg"], _name_label(path, context["name"], document), help=f"write {names}")
        case "component_shape":
            return _component_shape(path, error, context, document)
        case "field_path":
            span = document.inside(path, context["offset"], context["offset"] + max(1, context["length"]))
            return Diagnostic("KD106", f"bad field path: {error['msg']}", Label(span, "here"), help=context.get("help"))
        case "exclusive_keys":
            return _exclusive(error, path, context["keys"], document)
        case "file_not_found":
            near = context.get("near")
            guess = f"did you mean `{near}`?" if near else "a relative path starts at the folder of the spec"
            return Diagnostic("KD310", error["msg"], _value(path, document, "not found"), help=guess)
        case "bad_name":
            span = document.keys[path] if loc[-1:] == ("[key]",) else document.values[path]
            rule = "a name has up to 100 letters, digits, `.`, `_` or `-`, and does not begin with a dot"
            return Diagnostic("KD308", error["msg"], Label(span, "not a name"), help=rule)
        case "literal_error" | "enum":
            return _not_a_choice(path, error, context, document)
    return _value_error(type_, path, error, context, document)


def _root(document: Document) -> Label | None:
    return Label(document.values[()]) if () in document.values else None


def _value(path: Path, document: Document, text: str = "") -> Label:
    return Label(document.values[path], text)


def _unknown_key(path: Path, context: dict[str, Any], document: Document) -> Diagnostic:
    key, candidates = context["key"], context["candidates"]
    span = document.keys.get(path) or document.values[path]
    guess = closest(key, candidates)
    label = Label(span, "not a key here")
    if guess is None:
        return Diagnostic("KD101", f"unknown key `{key}`", label, notes=(_known(candidates),))
    taken = any(p[:-1] == path[:-1] and p[-1] == guess for p in document.keys if p)
    if taken:
        return Diagnostic("KD101", f"unknown key `{key}`", label, help=f"`{guess}` is given already; remove `{key}`")
    return Diagnostic("KD101", f"unknown key `{key}`", label, help=f"did you mean `{guess}`?", edit=Edit(span, guess))


def _missing(key: str, others: Sequence[str], parent: Path, document: Document) -> Diagnostic:
    span = document.keys.get(parent) or document.values[parent]
    wanted = " or ".join(f"`{name}`" for name in (key, *others))
    where = f" in `{parent[-1]}`" if parent and isinstance(parent[-1], str) else ""
    if not parent and not document.keys:
        wanted = f"a mapping with {wanted}"
    return Diagnostic("KD102", f"missing key {wanted}{where}", Label(span, f"needs {wanted}"))


def _name_label(path: Path, name: str, document: Document, text: str = "") -> Label:
    """The component's name: the key of its one-key mapping, or the scalar itself."""
    return Label(document.keys.get((*path, name)) or document.values[path], text)


def _unknown_component(path: Path, context: dict[str, Any], document: Document, registry: Registry) -> Diagnostic:
    name, candidates, kind = context["name"], context["candidates"], context["kind"]
    label = _name_label(path, name, document, f"no {kind} has this name")
    message = f"unknown {kind} `{name}`"
    elsewhere = [e for e in registry.entries if name in (e.component.name, e.qualified)]
    failed = [p for p in registry.problems if p.distribution == name.partition("/")[0] or "/" not in name]
    notes = [f"`{name}` is a {e.component.words()}" for e in elsewhere[:1]]
    notes += [f"plugin `{p.name}` of {p.distribution} could not be used: {p.reason}" for p in failed]
    guess = closest(name, candidates)
    if guess is not None:
        help_ = f"did you mean `{guess}`?"
        return Diagnostic("KD201", message, label, notes=tuple(notes), help=help_, edit=Edit(label.span, guess))
    if "/" in name:
        help_ = f"install the package `{name.partition('/')[0]}`"
    else:
        help_ = "install the package that provides it, or name its file with `--plugin FILE`"
    return Diagnostic("KD201", message, label, notes=(*notes, _known(candidates)), help=help_)


def _component_shape(path: Path, error: Any, context: dict[str, Any], document: Document) -> Diagnostic:
    keys = context["keys"]
    label = _value(path, document, f"{len(keys)} keys" if len(keys) > 1 else f"{_seen(error['input'])}")
    if len(keys) > 1:
        second = document.keys.get((*path, keys[1]))
        label = Label(second, "a second key") if second else label
        first = next(iter(keys))
        return Diagnostic(
            "KD105",
            error["msg"],
            label,
            help=f"write the parameters below the name: `{{{first}: {{...}}}}`",
        )
    return Diagnostic("KD105", error["msg"], label)


def _exclusive(error: Any, path: Path, keys: Sequence[str], document: Document) -> Diagnostic:
    spans = [span for key in keys if (span := document.keys.get((*path, key)))]
    if not spans:
        return Diagnostic("KD107", error["msg"], _value(path, document))
    others = tuple(Label(span, "and this") for span in spans[:-1])
    return Diagnostic("KD107", error["msg"], Label(spans[-1], "one of them must go"), others)


def _not_a_choice(path: Path, error: Any, context: dict[str, Any], document: Document) -> Diagnostic:
    choices = [part.strip().strip("'") for part in str(context["expected"]).replace(" or ", ", ").split(", ")]
    seen = error["input"]
    listed = " or ".join([", ".join(f"`{c}`" for c in choices[:-1]), f"`{choices[-1]}`"][not choices[:-1] :])
    guess = closest(seen, choices) if isinstance(seen, str) else None
    label = _value(path, document, "not one of these")
    edit = Edit(label.span, guess) if guess else None
    message = f"expected {listed}, not {_seen(seen)}"
    return Diagnostic("KD104", message, label, help=f"did you mean `{guess}`?" if guess else None, edit=edit)


_EXPECTED = (
    (("int_type", "int_parsing", "int_from_float"), "a whole number"),
    (("float_type", "float_parsing"), "a number"),
    (("string_type", "string_sub_type"), "text"),
    (("bool_type", "bool_parsing"), "`true` or `false`"),
    (("list_type", "tuple_type", "iterable_type"), "a list"),
    (("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), "a mapping"),
)


def _value_error(type_: str, path: Path, error: Any, context: dict[str, Any], document: Document) -> Diagnostic:
    seen = error["input"]
    for types, wanted in _EXPECTED:
        if type_ in types:
            return Diagnostic(
                "KD103",
                f"expected {wanted}, not {_seen(seen)}",
                _value(path, document, f"must be {wanted}"),
                help=_unquote(wanted, seen),
            )
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    if type_ in bounds:
        short = bounds[type_]
        text = f"must be {words[short]} {context[short]}"
        return Diagnostic("KD104", f"{_seen(seen)} {text}", _value(path, document, text))
    if type_ == "finite_number":
        return Diagnostic("KD104", "a number must be finite", _value(path, document, "not finite"))
    if type_ in ("too_short", "too_long", "string_too_short", "string_too_long"):
        return Diagnostic("KD104", _lower(error["msg"]), _value(path, document, "here"))
    return Diagnostic("KD104", _lower(str(context.get("error") or error["msg"])), _value(path, document, "here"))


def _unquote(wanted: str, seen: Any) -> str | None:
    if isinstance(seen, str) and wanted in ("a number", "a whole number"):
        try:
            float(seen)
        except ValueError:
            return None
        return "remove the quotes"
    if isinstance(seen, str) and wanted == "`true` or `false`" and seen.lower() in ("yes", "no", "on", "off"):
        return f"write `{'true' if seen.lower() in ('yes', 'on') else 'false'}`: {seen} is text in YAML 1.2"
    if wanted == "text" and isinstance(seen, (int, float)):
        return f'write "{seen}" with quotes' if not isinstance(seen, bool) else f'write "{str(seen).lower()}" with quotes'
    return None


def _seen(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value}`"
    if isinstance(value, str):
        return f"the text `{value}`" if len(value) <= 60 else f"a text of {len(value)} characters"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else type(value).__name__


def _known(candidates: Sequence[str]) -> str:
    return "known here: " + ", ".join(f"`{name}`" for name in candidates) if candidates else "none is known here"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
