"""Renders the outline of a plan: written, default and derived settings, and those that are known only at run time."""
# ruff: noqa: RUF001, RUF002 - a multiplication sign is one

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdspec.render import rehearsal
from kdspec.render.clean import clean

MARKS: Mapping[str, str] = MappingProxyType({"written": "", "default": "~", "derived": "=", "unknown": "?"})
_STYLES: Mapping[str, str] = MappingProxyType({"written": "", "default": "dim", "derived": "cyan", "unknown": "yellow"})
TERM_COLUMNS = ("term", "loss", "teacher → student", "weight", "settings")
_BARE = re.compile(r"[^\s,=\[\](){}'\"]+(?: [^\s,=\[\](){}'\"]+)*")
_TRUSTING = "code that comes with models is run: `--trust-remote-code`"
_HEADING = "bold"
_NAME = "bold cyan"


def page(outline: Mapping[str, Any]) -> RenderableType:
    """The whole plan, with the results of its rehearsal if the outline has them."""
    found = outline.get("rehearsal", {"models": {}, "stages": {}})
    tasks = [(Text(clean(task["name"]), _NAME), setting(task["task"])) for task in outline["tasks"]]
    for (_, text), task in zip(tasks, outline["tasks"], strict=True):
        if varies := task.get("varies"):
            text.append(f"\n{clean(varies)}", "dim")
        classes = found.get("classes_assumed", {}).get(task["name"])
        if classes and "rows" not in outline:
            text.append(f"\nassumes {classes} classes; the data decides their number", _STYLES["unknown"])
    parts: list[RenderableType] = [
        _title(outline),
        "",
        Text("models", _HEADING),
        _grid(_models(outline, found["models"])),
        *([Text(_TRUSTING, "yellow")] if outline.get("trusts_code") else []),
    ]
    parts += ["", Text("tasks", _HEADING), _grid(tasks)]
    for number, stage in enumerate(outline["stages"], start=1):
        head = tuple(Text(name, "dim") for name in TERM_COLUMNS)
        parts += ["", stage_title(number, stage), _grid([head, *terms(stage)])]
        lines = dict(details(stage))
        if stage["name"] in found["stages"]:  # the rehearsal has the same lines with shapes
            lines |= rehearsal.details(found["stages"][stage["name"]], found["models"], stage["student"])
        parts += ["", _grid([(Text(name, "dim"), text) for name, text in lines.items()])]
    return Group(*parts, "", legend())


def setting(value: Mapping[str, Any]) -> Text:
    """A setting with its mark; values inside a default are unmarked."""
    return Text(MARKS[value["origin"]], _STYLES[value["origin"]]).append_text(_body(value, inside=False))


def plain(value: Any) -> str:
    """A value on one line, nearly as a spec writes it."""
    match value:
        case None | bool():
            return json.dumps(value)
        case float():
            return f"{value:g}"
        case list():
            return "[" + ", ".join(map(plain, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{plain(key)}: {plain(item)}" for key, item in value.items()) + "}"
        case str() if not _BARE.fullmatch(value):
            return clean(json.dumps(value, ensure_ascii=False))
    return clean(str(value))


def _body(value: Mapping[str, Any], *, inside: bool) -> Text:
    """A setting without its mark; `inside` a value that is not written, defaults have no marks either."""
    if "parameters" not in value:
        return Text() if _is_open(value) else Text(plain(value["value"]))
    parts = joined(value["parameters"], inside=inside or value["origin"] != "written")
    if "component" not in value:
        return parts
    name = Text(clean(value["component"]))
    return name.append("(").append_text(parts).append(")") if parts else name


def joined(settings: Mapping[str, Mapping[str, Any]], *, inside: bool = False) -> Text:
    """Settings on one line, marks before their names; defaults that disable a feature or are empty are omitted."""
    parts = []
    for name, value in settings.items():
        origin = value["origin"]
        if origin == "default" and _is_nothing(value):
            continue
        text = Text("" if inside and origin == "default" else MARKS[origin], _STYLES[origin]).append(clean(name))
        body = _body(value, inside=inside)
        if "parameters" in value and "component" not in value:
            text.append("(").append_text(body).append(")")
        elif not _is_open(value):
            text.append("=").append_text(body)
        parts.append(text)
    return Text(", ").join(parts)


def _is_nothing(value: Mapping[str, Any]) -> bool:
    return ("value" in value and value["value"] in (None, [], {})) or value.get("value") is False


def _is_open(value: Mapping[str, Any]) -> bool:
    return value["origin"] == "unknown" and value.get("value") is None


def _title(outline: Mapping[str, Any]) -> Text:
    text = Text(clean(outline["name"]), _HEADING)
    return text.append("   seed ", "dim").append_text(setting(outline["seed"]))


def stage_title(number: int, stage: Mapping[str, Any]) -> Text:
    """The stage's number, name, strategy, models and tasks."""
    text = Text(f"stage {number}  ", _HEADING).append(clean(stage["name"]), _NAME)
    text.append(f"  {clean(stage['distiller']['component'])}: ")
    teachers = ", ".join(map(clean, stage["teachers"]))
    text.append(f"{teachers} → {clean(stage['student'])}" if teachers else clean(stage["student"]))
    return text.append(f"  ({', '.join(map(clean, stage['tasks']))})", "dim")


def size(facts: Mapping[str, Any]) -> str:
    """`bert 6 × 384, 12 heads, vectors of 384`: layers, width, heads and the vector of a text; `?` for unknown ones."""
    layers, width, heads = ("?" if facts[key] is None else str(facts[key]) for key in ("layers", "width", "heads"))
    family = f"{clean(facts['family'])} " if facts["family"] else ""
    # A model with known layers and unknown heads has no attention.
    attention = "" if facts["layers"] is not None and facts["heads"] is None else f", {heads} heads"
    vectors = "" if facts.get("embedding") is None else f", vectors of {facts['embedding']}"
    return f"{family}{layers} × {width}{attention}{vectors}"


def roles(model: Mapping[str, Any]) -> str:
    """The roles of a model by stage."""
    return ", ".join(f"{role} in {clean(stage)}" for stage, role in model["stages"].items()) or "not used"


def terms(stage: Mapping[str, Any]) -> Iterator[tuple[Text, ...]]:
    """A row for each term of a stage, under `TERM_COLUMNS`."""
    several = len(stage["teachers"]) > 1
    for term in stage["terms"]:
        settings = dict(term["settings"])
        loss, weight = settings.pop("loss", None), settings.pop("weight", None)
        name = Text(clean(term["name"]))
        weighs = setting(weight) if weight else Text("1")
        if not term["active"]:
            name.stylize("dim")
            yield name, Text("off", "dim"), Text(), weighs, Text()
        elif term["kind"] == "match":
            yield name, setting(loss), _layers(term, several=several), weighs, _projection(term)
        else:
            own = "the task's own" if term["kind"] == "hard_labels" else ""
            yield name, setting(loss) if loss else Text(own), Text(), weighs, joined(settings)


def details(stage: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    """The other settings of a stage: the strategy's, the features that are read, and training."""
    if settings := joined(stage["settings"]):
        yield "settings", settings
    yield from _parts(stage.get("parts", ()))
    for model, features in stage["reads"].items():
        named = ", ".join(_feature(name, feature) for name, feature in features.items())
        if named:
            yield f"reads of {clean(model)}", Text(named)
    training = dict(stage["training"])
    why = stage.get("batching", {}).get("why")  # older plans do not have it
    batching = training.pop("batching") if why else None
    written = {name: value for name, value in training.items() if value["origin"] != "default"}
    yield "training", joined(written)
    if batching is not None:
        yield "batching", setting(batching).append(f": {why}", "dim")
    if defaults := joined({name: value for name, value in training.items() if name not in written}):
        yield "by default", defaults


def _parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Text]]:
    """The settings of each of several tasks."""
    sampled = "each micro-batch samples a task; an epoch has as many micro-batches as all tasks together"
    for number, part in enumerate(parts):
        if not number:
            yield "tasks", Text(sampled)
        text = Text(", ".join(map(clean, part["teachers"])) or "no teacher")
        if settings := joined(part["settings"]):
            text.append(", ").append_text(settings)
        yield f"task {clean(part['task'])}", text
        for model, features in part["reads"].items():
            if named := ", ".join(_feature(name, feature) for name, feature in features.items()):
                yield f"{clean(part['task'])} reads of {clean(model)}", Text(named)


def legend() -> Text:
    """The legend of the marks."""
    text = Text("as written", "dim")
    for origin, meaning in (("default", "default"), ("derived", "derived"), ("unknown", "known when it runs")):
        text.append("   ").append(f"{MARKS[origin]} {meaning}", _STYLES[origin])
    return text


def _models(outline: Mapping[str, Any], sizes: Mapping[str, Any]) -> Iterator[tuple[Text, ...]]:
    for model in outline["models"]:
        line = Text(f"{size(model['facts'])}   ").append(roles(model), "" if model["stages"] else "yellow")
        if model["name"] in sizes:
            line.append("\n").append_text(rehearsal.model(sizes[model["name"]]))
        yield Text(clean(model["name"]), _NAME), line.append("\n").append_text(setting(model["model"]))


def _layers(term: Mapping[str, Any], *, several: bool) -> Text:
    teacher, student = term["teacher"], term["student"]
    origin = term["layers"]["origin"]
    text = Text(f"{clean(teacher['model'])} " if several else "")
    if not teacher["layers"]:
        return text.append(f"{clean(term['feature'])}, whole")
    sides = (", ".join(map(str, dict.fromkeys(side["layers"]))) for side in (teacher, student))
    return text.append(f"{MARKS[origin]}{clean(term['feature'])} " + " → ".join(sides), _STYLES[origin])


def _projection(term: Mapping[str, Any]) -> Text:
    projection = term["settings"].get("projection")
    if projection is None:
        return Text("")
    if projection["origin"] == "unknown":
        return Text("?projection", _STYLES["unknown"])
    text = setting(projection)
    widths = [term[side]["width"] for side in ("student", "teacher")]
    return text if None in widths else text.append(f" {widths[0]} → {widths[1]}")


def _feature(name: str, feature: Mapping[str, Any]) -> str:
    return clean(name) + ("" if feature["layers"] is None else plain(feature["layers"]))


def _grid(rows: Iterable[tuple[Text, ...]]) -> RenderableType:
    table = Table.grid(padding=(0, 3, 0, 0))
    for row in rows:
        while len(table.columns) < len(row):
            table.add_column(overflow="fold")
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2), expand=False)
