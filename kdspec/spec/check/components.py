"""Diagnostics for errors in the name or form of a component."""

from __future__ import annotations

from typing import Any

from kdspec.diagnostics.diagnostic import Diagnostic, Edit, Label, did_you_mean, excerpt, near
from kdspec.registry.registry import KINDS
from kdspec.spec.check.mistake import Mistake, instead, known
from kdspec.spec.check.values import number


def unknown(mistake: Mistake) -> Diagnostic:
    """No component of the kind has this name."""
    context, registry = mistake.context, mistake.registry
    name, candidates, kind = context["name"], context["candidates"], context["kind"]
    quoted = _quoted_number(mistake)
    if quoted is not None:
        return quoted
    label = _at_name(mistake, f"no {kind} has this name")
    message = f"unknown {kind} `{name}`"
    elsewhere = [e for e in registry.entries if name in (e.component.name, e.qualified)]
    failed = [p for p in registry.problems if p.distribution == name.partition("/")[0] or "/" not in name]
    notes = [f"`{name}` is a {e.component.words()}" for e in elsewhere[:1]]
    notes += [f"plugin `{p.name}` of {p.distribution} could not be used: {p.reason}" for p in failed]
    if guesses := near(name, candidates):
        edit = Edit(label.span, guesses[0]) if len(guesses) == 1 else None
        return Diagnostic("KD201", message, label, notes=tuple(notes), help=did_you_mean(guesses), edit=edit)
    notes.append(known(candidates, context["kind_id"]))
    if _takes_numbers(context["kind_id"]):
        message = f"expected a number or a {kind}, not the string `{excerpt(name)}`"
        return Diagnostic("KD201", message, label, notes=tuple(notes))
    if elsewhere:
        return Diagnostic("KD201", message, label, notes=tuple(notes))
    package = f"install the package `{name.partition('/')[0]}`"
    anywhere = "install the package that provides it, or name its file with `--plugin FILE`"
    return Diagnostic("KD201", message, label, notes=tuple(notes), help=package if "/" in name else anywhere)


def ambiguous(mistake: Mistake) -> Diagnostic:
    """Several packages have a component of this name."""
    names = " or ".join(f"`{name}`" for name in sorted(mistake.context["candidates"]))
    label = _at_name(mistake, f"{len(mistake.context['candidates'])} packages have it")
    return Diagnostic("KD202", mistake.message, label, help=f"write {names}")


def shapeless(mistake: Mistake) -> Diagnostic:
    """Neither a name nor a mapping with one key."""
    keys, kind = mistake.context["keys"], mistake.context["kind"]
    if mistake.loc[-1:] == ("layers",) and (pairs := _as_pairs(mistake)) is not None:
        help_ = f"a pair is written `teacher: student`: `{pairs}`"
        return Diagnostic("KD105", instead(f"a {kind}", mistake.seen), mistake.value(f"needs a {kind}"), help=help_)
    rule = f"a {kind} is written as its name, or as a mapping from its name to its parameters"
    spans = [span for key in keys[:2] if (span := mistake.document.keys.get((*mistake.path, key)))]
    if len(spans) > 1:
        message = f"a {kind} has one name, not {len(keys)}"
        help_ = f"write the parameters below the name: `{{{keys[0]}: {{...}}}}`"
        other = (Label(spans[0], "the first name"),)
        return Diagnostic("KD105", message, Label(spans[1], "a second name"), other, notes=(rule,), help=help_)
    return Diagnostic("KD105", instead(f"a {kind}", mistake.seen), mistake.value(f"needs a {kind}"), notes=(rule,))


def beside(mistake: Mistake, key: str) -> str | None:
    """The fix for a parameter that is written next to its component, as in `{loss: mmd, scale: length}`."""
    siblings: Any = mistake.document.data
    for segment in mistake.path[:-1]:
        siblings = siblings[segment]
    for where, name in siblings.items() if isinstance(siblings, dict) else ():
        for entry in mistake.registry.entries:
            fields = entry.component.model_fields.items()
            if name == entry.component.name and key in {field.alias or own for own, field in fields}:
                return f"`{key}` is a parameter of `{name}`: write `{where}: {{{name}: {{{key}: ...}}}}`"
    return None


def _as_pairs(mistake: Mistake) -> str | None:
    """Layers that are written as a list, `[6, 2]` or `[[12, 4], [6, 2]]`, as the mapping that is meant."""
    seen = mistake.seen
    if not isinstance(seen, list) or not seen:
        return None
    pairs = [seen] if all(type(item) is int for item in seen) else seen
    if any(not isinstance(pair, list) or [type(item) for item in pair] != [int, int] for pair in pairs):
        return None
    return "{" + ", ".join(f"{teacher}: {student}" for teacher, student in pairs) + "}"


def _takes_numbers(kind_id: str) -> bool:
    """Whether a number is the short form of a component of this kind."""
    kind = next((kind for kind in KINDS if kind.kind == kind_id), None)
    return kind is not None and kind.from_plain(1.0) is not None


def _quoted_number(mistake: Mistake) -> Diagnostic | None:
    """For a quoted number, if the number without quotes is the short form of a component."""
    name, kind_id = mistake.context["name"], mistake.context["kind_id"]
    kind = next((kind for kind in KINDS if kind.kind == kind_id), None)
    value = number(name)
    if value is None or kind is None or kind.from_plain(value) is None:
        return None
    message = instead(f"a number or a {kind.words()}", name)
    edit = mistake.rewrite(name, name)
    return Diagnostic("KD103", message, mistake.value("must be a number"), help="remove the quotes", edit=edit)


def _at_name(mistake: Mistake, text: str) -> Label:
    """The key of a one-key mapping, or the scalar itself."""
    document, path = mistake.document, mistake.path
    return Label(document.keys.get((*path, mistake.context["name"])) or document.values[path], text)
