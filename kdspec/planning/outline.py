"""A plan as plain data, for `kdspec plan --json`, `plan.json`, the terminal and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from kdspec.api.component import Component, Strict
from kdspec.api.kinds.losses import LogitLoss
from kdspec.api.kinds.switched_off import switched_off
from kdspec.api.plan.needs import HARD_LABELS, DeclaredTerm
from kdspec.api.plan.plan import Feature, Plan, StagePlan, TaskPlan
from kdspec.api.spec.match import PlannedMatch, match_keys
from kdspec.diagnostics.finding import SpecPath
from kdspec.planning.micro_batching import BatchingPlan, batches

FORMAT = 1
"""The version of the format; it changes if programs that read the data must change."""

FACTS = ("layers", "width", "heads", "family")

ValueOrigin = Literal["written", "default", "derived", "unknown"]
"""The origin of a value: the spec, a default, the plan, or not known before the run."""

_WORDS = ("written", "default", "derived", "unknown", "trained", "changed", "frozen", "match")
"""Words of the outline itself, which stay as they are where a variable has the same."""

Setting = dict[str, Any]
"""A value as `{value, origin}`, a component as `{component, parameters, origin}`, a mapping as `{parameters, origin}`.

The parameters are settings by name.
"""


def outline(plan: Plan) -> dict[str, Any]:
    """The plan as data for JSON.

    Keys: `format` (1), `name`, `trusts_code` (true if models may run their own code, else left out), `seed`, `tasks`,
    `models` and `stages`.

    - A task has `name`, `task` and `varies` (why its training rows differ from epoch to epoch, or null).
    - A model has `name`, `model`, `facts` (`layers`, `width`, `heads`, `family`; null if unknown; for a task that reads
      vectors of texts `embedding`, their width, which the saved model has) and `stages`: for each stage `trained`, `changed` (by the strategy, without gradients) or `frozen`.
    - A stage has `name`, `distiller`, `student`, `teachers`, `tasks`, `settings` (of the strategy, besides its terms),
      `terms`, `reads` (for each model the field paths and layers of its features), `training` and `batching` (`name`,
      `tokens` and `why`).
    - A term has `name`, `kind` (`match` or the strategy's own key), `active` and `settings`; a match also has `feature`,
      `teacher` and `student` (`model`, `layers`, `width`).
    - A stage of several tasks has `parts`, each with `task`, `teachers`, `settings`, `reads` and `batching`; its own
      `reads` is empty, and its `batching` is that of the first task.
    """
    spec = plan.spec
    of = _Origins(plan)
    # After the settings, which have their places: texts that were made of them.
    hide = plan.source.variables.knowing(_WORDS).hide_in
    shown: dict[str, Any] = hide(
        {
            "format": FORMAT,
            "name": spec.name,
            **({"trusts_code": True} if plan.source.trusts_code else {}),
            "seed": of.setting(spec.seed, ("seed",)),
            "tasks": [
                {"name": name, "task": of.setting(task, ("tasks", name)), "varies": task.varies()}
                for name, task in spec.tasks.items()
            ],
            "models": [
                {
                    "name": name,
                    "model": of.setting(model, ("models", name)),
                    "facts": {key: getattr(plan.facts[name], key) for key in (*FACTS, *_of_vectors(plan, name))},
                    "stages": {
                        stage.name: "trained"
                        if name == stage.needs.student
                        else "changed"
                        if name in stage.needs.changing
                        else "frozen"
                        for stage in plan.stages
                        if name in stage.models
                    },
                }
                for name, model in spec.models.items()
            ],
            "stages": [_stage(stage, of) for stage in plan.stages],
        }
    )
    return shown


def _of_vectors(plan: Plan, model: str) -> Iterator[str]:
    """The width of its vectors of texts, where a task reads them."""
    if any("embedding" in plan.spec.tasks[task].adaptor() for task in plan.tasks_of.get(model, ())):
        yield "embedding"


def _stage(stage: StagePlan, of: _Origins) -> dict[str, Any]:
    path: SpecPath = ("stages", stage.name)
    whole = of.setting(stage.distiller, (*path, "distiller"))
    tasks = {name: _task(stage, task, of) for name, task in stage.tasks.items()}
    first = next(iter(stage.tasks.values()))
    made = batches(of.plan, first)
    settings = of.setting(stage.training, (*path, "training"))["parameters"]
    head = {
        "name": stage.name,
        "distiller": {"component": stage.distiller.name, "origin": whole["origin"]},
        "student": stage.student,
        "teachers": list(stage.teachers),
        "tasks": list(stage.tasks),
    }
    trained = {"training": _training(settings, made), "batching": _batching(made)}
    if not stage.several:
        (task,) = tasks.values()
        return {**head, **{key: task[key] for key in ("settings", "terms", "reads")}, **trained}
    roots = {task.needs.at[0] for task in stage.tasks.values() if task.needs.at}
    return {
        **head,
        "settings": {
            name: setting
            for name, setting in whole.get("parameters", {}).items()
            if name not in roots and not _names(setting, {*stage.models})
        },
        "terms": [term for task in tasks.values() for term in task.pop("terms")],
        "reads": {},
        "parts": list(tasks.values()),
        **trained,
    }


def _task(stage: StagePlan, task: TaskPlan, of: _Origins) -> dict[str, Any]:
    """A strategy's settings and terms for one task: of all its parameters, or of the part for this task."""
    written = task.needs.within(task.distiller)
    parameters: dict[str, Setting] = {}
    if task.needs.at or not stage.several:
        place = task.at if task.needs.at else ("stages", stage.name, "distiller")
        parameters = of.setting(written, place).get("parameters", {})
    groups = _groups(written, parameters) if isinstance(written, Strict) else {}
    declared = {source for term in task.needs.terms for source in term.parameters.values()}
    off = {
        *groups,
        *declared,
        *match_keys(written),
        *(name for name in parameters if _names(parameters[name], {*task.models})),
    }
    return {
        "task": task.task,
        "teachers": list(task.teachers),
        "settings": {name: setting for name, setting in parameters.items() if name not in off},
        "terms": _terms(stage, task, of, groups, parameters),
        "reads": _reads(task),
        "batching": _batching(batches(of.plan, task)),
    }


def _batching(made: BatchingPlan) -> dict[str, Any]:
    return {"name": made.name, "tokens": made.tokens, "why": made.why}


def _groups(written: Strict, parameters: Mapping[str, Setting]) -> dict[str, Strict]:
    """The parameters that are mappings: each is a term, or a group of settings."""
    return {
        name: value
        for name, value in _fields(written)
        if name in parameters and isinstance(value, Strict) and not isinstance(value, Component)
    }


def _terms(
    stage: StagePlan, task: TaskPlan, of: _Origins, groups: Mapping[str, Strict], parameters: Mapping[str, Setting]
) -> list[dict[str, Any]]:
    prefix = f"{task.task}." if stage.several else ""
    if task.needs.terms:
        declared = [_declared(prefix, term, parameters) for term in task.needs.terms]
        return [*declared, *(_match(match, of) for match in task.matches)]
    # Without a teacher, a group that compares logits is not a term.
    in_use = {name: value for name, value in groups.items() if task.teachers or not _compares_logits(value)}
    terms = [_term(prefix, name, parameters[name], value) for name, value in in_use.items()]
    if task.needs.hard_labels and HARD_LABELS not in groups:
        weight: Setting = {"value": None, "origin": "unknown"}
        settings = {"weight": weight}
        terms.append({"name": f"{prefix}{HARD_LABELS}", "kind": HARD_LABELS, "active": True, "settings": settings})
    return [*terms, *(_match(match, of) for match in task.matches)]


def _declared(prefix: str, term: DeclaredTerm, parameters: Mapping[str, Setting]) -> dict[str, Any]:
    settings = {name: parameters[source] for name, source in term.parameters.items()}
    if "weight" not in settings and term.weight != 1:
        origin: ValueOrigin = "unknown" if term.weight is None else "derived"
        settings["weight"] = {"value": term.weight, "origin": origin}
    return {"name": f"{prefix}{term.name}", "kind": term.name, "active": term.active, "settings": settings}


def _reads(task: TaskPlan) -> dict[str, Any]:
    return {
        model: {name: _read(feature) for name, feature in features.items()} for model, features in task.features.items()
    }


def _fields(model: Strict) -> Iterator[tuple[str, Any]]:
    """Names as a spec writes them, and values."""
    for name, field in type(model).model_fields.items():
        yield field.alias or name, getattr(model, name)


def _compares_logits(parameters: Strict) -> bool:
    return any(isinstance(value, LogitLoss) for _, value in _fields(parameters))


def _names(setting: Setting, models: set[str]) -> bool:
    """Whether the value of a strategy's parameter is only names of models."""
    value = setting.get("value")
    named = value if isinstance(value, list) else [value]
    return bool(named) and all(isinstance(name, str) and name in models for name in named)


def _term(prefix: str, name: str, setting: Setting, value: Strict) -> dict[str, Any]:
    return {
        "name": prefix + name,
        "kind": name,
        "active": switched_off(value) is None,
        "settings": setting.get("parameters", {}),
    }


def _match(match: PlannedMatch, of: _Origins) -> dict[str, Any]:
    preset = of.source.has((*match.path, "preset"))
    settings = {
        "loss": of.setting(match.loss, (*match.path, "loss")),
        "weight": of.setting(match.weight, (*match.path, "weight")),
    }
    if preset:
        settings["loss"]["origin"] = "derived"
    if match.projection_origin == "unknown":
        settings["projection"] = {"value": None, "origin": "unknown"}
    elif match.kept is not None:
        written = of.source.has((*match.path, "projection"))
        settings["projection"] = of.setting(match.kept, (*match.path, "projection"))
        settings["projection"]["origin"] = "written" if written else "derived"
    elif match.projection is not None:
        settings["projection"] = of.setting(match.projection, (*match.path, "projection"))
        if match.projection_origin == "derived":
            settings["projection"]["origin"] = "derived"
    return {
        "name": match.term,
        "kind": "match",
        "active": not match.weight.always_zero(),
        "feature": match.feature,
        "teacher": {"model": match.teacher, "layers": list(match.teacher_layers), "width": match.teacher_width},
        "student": {"model": match.student, "layers": list(match.student_layers), "width": match.student_width},
        "layers": {"origin": _layers_origin(match, of, preset=preset)},
        "settings": settings,
    }


def _layers_origin(match: PlannedMatch, of: _Origins, *, preset: bool) -> ValueOrigin:
    """`written` for pairs in the spec; `derived` for those of a layer map, a preset or a strategy."""
    layers, pairs = (of.source.at((*match.path, key)) for key in ("layers", "pairs"))
    numbered = isinstance(layers, dict) and all(isinstance(key, int) for key in layers)
    whole = not match.teacher_layers
    return "written" if not preset and (whole or numbered or pairs is not None) else "derived"


def _read(feature: Feature) -> dict[str, Any]:
    layers = None if feature.layers is None else list(feature.layers)
    return {"paths": [str(path) for path in feature.paths], "layers": layers}


def _training(settings: dict[str, Setting], made: BatchingPlan) -> dict[str, Setting]:
    """The settings with implicit defaults: evaluation and checkpoints once per epoch, selection by the task's metric."""
    if made.chosen:
        settings["batching"] = {"value": made.name, "origin": "derived"}
    for key in ("evaluate", "checkpoint"):
        parts = settings[key].get("parameters")
        if parts is None:
            continue
        if parts["every_steps"]["value"] is None and parts["every_epochs"]["value"] is None:
            parts["every_epochs"] = {"value": 1.0, "origin": "default"}
        if "metric" in parts and parts["metric"]["value"] is None:
            parts["metric"] = {"value": None, "origin": "unknown"}
    return settings


class _Origins:
    """Settings with their origins, found by looking them up in the text of the spec."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.spec, self.source = plan, plan.spec, plan.source

    def setting(self, value: Any, path: SpecPath) -> Setting:
        """A value with its origin, and those of its parts."""
        origin: ValueOrigin = "written" if self.source.has(path) else "default"
        insertion = self.source.variables.places.get(path)
        if insertion is not None and not (isinstance(value, Component) and value.to_plain() is None):
            return {"value": insertion.written, "origin": origin}
        if isinstance(value, Component):
            plain = value.to_plain()
            if plain is not None:
                return {"value": _plain(plain), "origin": origin}
            below = (*path, self._key(path, value.name))
            return {"component": value.name, "parameters": self._parameters(value, below), "origin": origin}
        if isinstance(value, Strict):
            written = self.source.at(path)
            if written is not None and not isinstance(written, dict):
                return {"value": _plain(self.source.variables.as_written(written, path)), "origin": origin}
            return {"parameters": self._parameters(value, path), "origin": origin}
        if isinstance(value, dict) and value and all(isinstance(item, Strict) for item in value.values()):
            return {
                "parameters": {key: self.setting(item, (*path, key)) for key, item in value.items()},
                "origin": origin,
            }
        return {"value": _plain(self._written(value, path)), "origin": origin}

    def _written(self, value: Any, path: SpecPath) -> Any:
        """A list or mapping of plain values with the variables in it."""
        if not any(at[: len(path)] == path for at in self.source.variables.places):
            return value
        return self.source.variables.as_written(value, path)

    def _parameters(self, model: Strict, path: SpecPath) -> dict[str, Setting]:
        return {name: self.setting(value, (*path, name)) for name, value in _fields(model)}

    def _key(self, path: SpecPath, name: str) -> str:
        """A component's key in the text: its name, alone or qualified by its package."""
        written = self.source.at(path)
        return next(iter(written)) if isinstance(written, dict) and len(written) == 1 else name


def _plain(value: Any) -> Any:
    match value:
        case Component():
            return value.written()
        case Strict():
            return value.model_dump(mode="json", by_alias=True)
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case str():
            return str(value)
    return value
