"""Diagnostics for errors in single values: types, ranges, choices, field paths, files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from kdspec.diagnostics.diagnostic import Diagnostic, Edit, Label, did_you_mean, near
from kdspec.spec.check.mistake import Mistake, instead, listed, shown

_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "int_type": "an integer",
        "int_parsing": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "float_parsing": "a number",
        "string_type": "a string",
        "string_sub_type": "a string",
        "bool_type": "`true` or `false`",
        "bool_parsing": "`true` or `false`",
        "list_type": "a list",
        "tuple_type": "a list",
        "iterable_type": "a list",
        "dict_type": "a mapping",
        "mapping_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
        "dataclass_type": "a mapping",
    }
)
_BOUNDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "greater_than": ("gt", "greater than"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "less than"),
        "less_than_equal": ("le", "at most"),
    }
)
_PER_CENT = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%")
_TRUE, _FALSE = frozenset({"yes", "on", "y", "true"}), frozenset({"no", "off", "n", "false"})


def wrong_value(mistake: Mistake) -> Diagnostic:
    """A value of another type, or out of range."""
    if mistake.type in _EXPECTED:
        return _wrong_type(mistake, _EXPECTED[mistake.type])
    if mistake.type in _BOUNDS:
        key, words = _BOUNDS[mistake.type]
        bound = mistake.context[key]
        text = f"must be {words} {f'{int(bound):,}' if float(bound).is_integer() else bound}"
        return Diagnostic("KD104", f"{shown(mistake.seen)} {text}", mistake.value(text))
    if mistake.type == "finite_number":
        return Diagnostic("KD104", "a number must be finite", mistake.value("not finite"))
    if mistake.type in {"too_short", "too_long"}:
        return _wrong_length(mistake)
    message = str(mistake.context.get("error") or mistake.message)
    return Diagnostic("KD104", message[:1].lower() + message[1:].rstrip("."), mistake.value("here"))


def not_a_choice(mistake: Mistake) -> Diagnostic:
    """Not one of the allowed values."""
    expected = str(mistake.context["expected"]).replace(" or ", ", ")
    choices = [part.strip().strip("'") for part in expected.split(", ")]
    wanted, seen = listed(choices, "or"), mistake.seen
    guesses = near(seen, choices) if isinstance(seen, str) else ()
    label = mistake.value("not one of these" if len(choices) > 1 else f"must be {wanted}")
    edit = mistake.rewrite(seen, guesses[0]) if len(guesses) == 1 else None
    return Diagnostic("KD104", instead(wanted, seen), label, help=did_you_mean(guesses), edit=edit)


def field_path(mistake: Mistake) -> Diagnostic:
    """An invalid field path, at the character of the error."""
    offset, length = mistake.context["offset"], max(1, mistake.context["length"])
    label = Label(mistake.document.inside(mistake.path, offset, offset + length), "here")
    message, _, guess = mistake.message.removeprefix("not a field path: ").partition("; did you mean ")
    help_, edit = mistake.context.get("help"), None
    if guess:
        help_ = f"did you mean {guess}"
        # Only if the label covers just the wrong part: else the edit would replace the whole path.
        if label.span.end_column - label.span.column == length:
            edit = Edit(label.span, guess.strip("`?"))
    return Diagnostic("KD106", f"bad field path: {message}", label, help=help_, edit=edit)


def file_refused(mistake: Mistake) -> Diagnostic:
    """A path that must not be read."""
    return Diagnostic("KD310", mistake.message, mistake.value("not read"), help=mistake.context.get("help"))


def file_not_found(mistake: Mistake) -> Diagnostic:
    """A path that does not exist, or a folder without a needed file."""
    near, help_ = (mistake.context.get(key) for key in ("near", "help"))
    if help_ is not None:
        return Diagnostic("KD310", mistake.message, mistake.value("not a model's files"), help=str(help_))
    if mistake.message.startswith("the folder "):
        return Diagnostic("KD310", mistake.message, mistake.value("is this the right folder?"))
    label = mistake.value("not found")
    if (share := _share(mistake)) is not None:
        help_ = f"a share of the rows of `train` is a number: write `{share:g}`"
        return Diagnostic("KD310", mistake.message, label, help=help_)
    if not near:
        rule = "a relative path starts at the folder of the spec"
        return Diagnostic("KD310", mistake.message, label, help=rule)
    # Not an edit: another file of a similar name may be meant.
    return Diagnostic("KD310", mistake.message, label, help=f"did you mean `{near}`?")


def _share(mistake: Mistake) -> float | None:
    """The share of `train` that a split written in per cent means."""
    found = _PER_CENT.fullmatch(str(mistake.context["path"]))
    share = float(found[1]) / 100 if found and "train" not in mistake.path[-2:] else 0.0
    return share if 0 < share < 1 else None


def number(text: str) -> float | None:
    """The finite number that a string would be without quotes."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _wrong_type(mistake: Mistake, wanted: str) -> Diagnostic:
    help_, edit = _requoted(mistake, wanted)
    if (field := mistake.context.get("field")) is not None:
        help_ = f"write `{{{field}: {json.dumps(mistake.seen, ensure_ascii=False)}}}`"
    label = mistake.value(f"must be {wanted}")
    return Diagnostic("KD103", instead(wanted, mistake.seen), label, help=help_, edit=edit)


def _requoted(mistake: Mistake, wanted: str) -> tuple[str | None, Edit | None]:
    """The fix for a value that is only wrong in its quotes, or is a boolean of YAML 1.1."""
    seen = mistake.seen
    if isinstance(seen, str) and wanted in {"a number", "an integer"} and number(seen) is not None:
        return "remove the quotes", mistake.rewrite(seen, seen)
    if isinstance(seen, str) and wanted == "`true` or `false`" and seen.lower() in _TRUE | _FALSE:
        meant = "true" if seen.lower() in _TRUE else "false"
        return f"write `{meant}`: `{seen}` is a string here", mistake.rewrite(seen, meant)
    if wanted == "a string" and isinstance(seen, (int, float)):
        text = str(seen).lower() if isinstance(seen, bool) else str(seen)
        return f'put it in quotes: `"{text}"`', mistake.rewrite(text, f'"{text}"')
    return None, None


def _wrong_length(mistake: Mistake) -> Diagnostic:
    short = mistake.type == "too_short"
    count = mistake.context["min_length" if short else "max_length"]
    has = mistake.context["actual_length"]
    name = f"`{mistake.path[-1]}` " if mistake.path and isinstance(mistake.path[-1], str) else ""
    message = f"{name}must have at {'least' if short else 'most'} {count} {'entry' if count == 1 else 'entries'}"
    return Diagnostic("KD104", message, mistake.value(f"has {has or 'none'}"))
