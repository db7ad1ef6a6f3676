"""Converts pydantic errors to diagnostics; those of keys are in this module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kdspec.diagnostics.diagnostic import Diagnostic, Edit, Label, Span, closest, did_you_mean, near
from kdspec.diagnostics.place import in_order, without_values
from kdspec.registry.registry import Registry
from kdspec.source.document import Document, Path
from kdspec.source.foreign import silent
from kdspec.spec.check import components, values
from kdspec.spec.check.mistake import Mistake, known, listed

_CODE = frozenset({"trust_remote_code", "use_safetensors", "weights_only", "allow_pickle", "remote_code"})
"""Names in other tools for settings that allow code from a model's files, or pickles, which can run code too."""
_NO_CODE = "a spec runs no code and loads no pickle; a model of your own comes from `--plugin FILE` on the command line"
_TRUST = "a spec runs no code; if you trust the code in a model's files, add `--trust-remote-code` to the command"


def explain(errors: Sequence[Any], document: Document, registry: Registry) -> tuple[Diagnostic, ...]:
    """One diagnostic for each error, in the order of the text."""
    misspelt = {
        (tuple(e["loc"][:-1]), guess)
        for e in errors
        if e["type"] == "unknown_key" and (guess := closest(e["ctx"]["key"], e["ctx"]["candidates"]))
    }
    found = []
    for error in errors:
        loc = tuple(error["loc"])
        # A misspelt required key is one error, not a missing and an unknown key.
        if error["type"] == "missing" and (loc[:-1], loc[-1]) in misspelt:
            continue
        if error["type"] == "missing_key" and (loc, error["ctx"]["key"]) in misspelt:
            continue
        mistake = Mistake(error, document, registry)
        explained = _EXPLAINERS.get(error["type"], values.wrong_value)(mistake)
        found.append(without_values(explained, document, mistake.path))
    return in_order(silent(found, document.sources))


def _unknown_key(mistake: Mistake) -> Diagnostic:
    key, candidates = mistake.context["key"], mistake.context["candidates"]
    span, keys = mistake.owner(mistake.path), mistake.document.keys
    guesses = near(key, candidates)
    message, label = f"unknown key `{key}`", Label(span, "not a key here")
    if key in _CODE:
        return Diagnostic("KD101", message, label, help=_TRUST if "remote_code" in key else _NO_CODE)
    if not guesses:
        note = known(candidates) if candidates else f"`{mistake.path[-2]}` takes no parameters"
        return Diagnostic("KD101", message, label, notes=(note,), help=components.beside(mistake, key))
    if (*mistake.path[:-1], guesses[0]) in keys and not _by_set(span):
        return Diagnostic("KD101", message, label, help=f"`{guesses[0]}` is already given; remove `{key}`")
    edit = Edit(span, guesses[0]) if len(guesses) == 1 else None
    return Diagnostic("KD101", message, label, help=did_you_mean(guesses), edit=edit)


def _missing(mistake: Mistake) -> Diagnostic:
    context = mistake.context
    if mistake.type == "missing":
        keys, parent = [str(mistake.loc[-1])], mistake.document.locate(mistake.loc[:-1])
    else:
        keys, parent = [context["key"], *context.get("others", [])], mistake.path
    wanted = listed(keys, "or")
    where = f" in `{parent[-1]}`" if parent and isinstance(parent[-1], str) else ""
    if not parent and not mistake.document.keys:
        wanted = f"a mapping with {wanted}"
    label = Label(mistake.owner(parent), f"needs {wanted}")
    return Diagnostic("KD102", f"missing key {wanted}{where}", label, help=_set_beside(mistake, parent))


def _set_beside(mistake: Mistake, path: Path) -> str | None:
    """The key that is meant where `--set` has made an entry with a similar name beside it."""
    for end in range(1, len(path) + 1):
        span = mistake.document.keys.get(path[:end])
        if span is not None and _by_set(span):
            beside = [str(key[-1]) for key in mistake.document.keys if len(key) == end and key[:-1] == path[: end - 1]]
            guess = closest(str(path[end - 1]), [key for key in beside if key != path[end - 1]])
            return f"did you mean `{guess}`? `{path[end - 1]}` is new here" if guess else None
    return None


def _exclusive(mistake: Mistake) -> Diagnostic:
    keys: list[str] = mistake.context["keys"]
    spans = sorted(span for key in keys if (span := mistake.document.keys.get((*mistake.path, key))))
    message = mistake.message
    if len(keys) > 2:
        message = f"`{keys[0]}` excludes {listed(keys[1:], 'and')}"
    if not spans:
        return Diagnostic("KD107", message, mistake.value())
    others = tuple(Label(span, "given here") for span in spans[:-1])
    return Diagnostic(
        "KD107",
        message,
        Label(spans[-1], "conflicts with it"),
        others,
        help=mistake.context.get("help") or _taken_back(mistake, keys),
    )


def _taken_back(mistake: Mistake, keys: Sequence[str]) -> str | None:
    """How `--set` takes back what the file gives, where it gives another one of the keys."""
    places = {key: span for key in keys if (span := mistake.document.keys.get((*mistake.path, key)))}
    old = [key for key, span in places.items() if not _by_set(span)]
    if not old or len(old) == len(places):
        return None
    paths = (".".join(map(str, (*mistake.path, key))) for key in old)
    return f"the file gives {listed(old, 'and')}; take it back, too: " + " ".join(
        f"`--set {path}=null`" for path in paths
    )


def _by_set(span: Span) -> bool:
    return span.file.startswith("--set")


def _bad_name(mistake: Mistake) -> Diagnostic:
    of_key = mistake.loc[-1:] == ("[key]",)
    span = mistake.document.keys[mistake.path] if of_key else mistake.document.values[mistake.path]
    composed, rule = mistake.context["composed"], mistake.context["rule"]
    edit = Edit(span, composed) if composed else None
    return Diagnostic("KD308", mistake.message, Label(span, "not a name"), help=rule, edit=edit)


def _same_name(mistake: Mistake) -> Diagnostic:
    name, other = (mistake.document.keys[(*mistake.path, mistake.context[key])] for key in ("name", "other"))
    help_ = "both name files of the run, which some file systems cannot tell apart: give one another name"
    return Diagnostic("KD308", mistake.message, Label(name, "the second"), (Label(other, "the first"),), help=help_)


_EXPLAINERS: Mapping[str, Callable[[Mistake], Diagnostic]] = MappingProxyType(
    {
        "unknown_key": _unknown_key,
        "missing": _missing,
        "missing_key": _missing,
        "exclusive_keys": _exclusive,
        "bad_name": _bad_name,
        "same_name": _same_name,
        "unknown_component": components.unknown,
        "ambiguous_component": components.ambiguous,
        "component_shape": components.shapeless,
        "field_path": values.field_path,
        "file_not_found": values.file_not_found,
        "file_refused": values.file_refused,
        "literal_error": values.not_a_choice,
        "enum": values.not_a_choice,
    }
)
