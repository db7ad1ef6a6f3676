"""Logit losses for the logits of the tasks: chooses those that the spec leaves out, and checks the others.

Where tasks have no logits, soft labels that the spec leaves out are no term: their weight is 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from kdspec.api.component import Component, Strict
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.kinds.losses import LOGIT_KINDS, LogitKind, LogitLoss, Temperature
from kdspec.api.kinds.switched_off import switched_off
from kdspec.api.plan.needs import Needs
from kdspec.api.spec.spec import Spec
from kdspec.diagnostics.finding import Finding, Mark, SpecPath
from kdspec.registry.registry import Registry

_USUAL = MappingProxyType({"classes": "ce", "labels": "bce", "numbers": "mse", "scores": "ce"})
"""For each kind of logits its default loss."""
_SOFTENED = frozenset({"classes", "labels"})
"""The kinds of logits for which the default temperature is made: a teacher's classes are close to one-hot, its scores close
to equal, and numbers have no distribution."""


def fitted(spec: Spec, needs: Mapping[str, Needs], registry: Registry) -> tuple[Spec, tuple[Finding, ...]]:
    """The spec with default losses that fit its tasks, and findings for written losses that do not.

    Args:
        spec: the spec.
        needs: the needs of each stage's strategy, by the stage's name.
        registry: the registry of the losses.
    """
    fitting = _Fitting(spec, registry)
    stages = {}
    for name, stage in spec.stages.items():
        distiller = stage.distiller
        path = ("stages", name, "distiller", distiller.name)
        made = fitting.of(distiller, path, tuple(each.task or next(iter(spec.tasks)) for each in needs[name].tasks))
        stages[name] = stage if made is distiller else stage.model_copy(update={"distiller": made})
    changed = any(stages[name] is not stage for name, stage in spec.stages.items())
    return spec.model_copy(update={"stages": stages}) if changed else spec, tuple(fitting.found)


class _Fitting:
    def __init__(self, spec: Spec, registry: Registry) -> None:
        self.spec, self.registry = spec, registry
        self.found: list[Finding] = []

    def of(self, value: Any, path: SpecPath, tasks: tuple[str, ...]) -> Any:
        """The value with fitted losses inside it; the same object if nothing changes.

        Parameters below the name of a task belong to that task.
        """
        if isinstance(value, Strict):
            changes = dict(self._fields(value, path, tasks))
            return value.model_copy(update=changes) if changes else value
        made: Any = value
        if isinstance(value, list):
            made = [self.of(item, (*path, number), tasks) for number, item in enumerate(value)]
            return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
        if isinstance(value, dict):
            narrowed = {key: (key,) if key in tasks else tasks for key in value}
            made = {key: self.of(item, (*path, key), narrowed[key]) for key, item in value.items()}
            return made if any(made[key] is not value[key] for key in value) else value
        return value

    def _fields(self, group: Strict, path: SpecPath, tasks: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        loss = next((v for n in type(group).model_fields if isinstance(v := getattr(group, n), LogitLoss)), None)
        if loss is not None and not group.model_fields_set and not any(self.spec.tasks[t].has_logits() for t in tasks):
            weights = (n for n in type(group).model_fields if isinstance(getattr(group, n), Schedule))
            yield from ((name, self._constant("schedule", Schedule.from_plain(0.0))) for name in weights)
            return
        unused = loss is not None and switched_off(group) is not None
        for name, field in type(group).model_fields.items():
            value, place = getattr(group, name), (*path, field.alias or name)
            written = name in group.model_fields_set
            made: Any
            if unused and isinstance(value, (LogitLoss, Temperature)):
                made = value
            elif isinstance(value, LogitLoss):
                made = self._loss(value, place, tasks, written=written)
            elif isinstance(value, Temperature) and loss is not None:
                made = self._temperature(value, place, tasks, written=written)
                fits = self._kinds(tasks).keys() <= loss.compares
                if made is value and not written and loss.scaled_by_temperature and fits:
                    self._only_scales(loss, value, path)
            else:
                inside = (*place, value.name) if isinstance(value, Component) else place
                made = self.of(value, inside, tasks)
            if made is not value:
                yield name, made

    def _kinds(self, tasks: Collection[str]) -> dict[LogitKind, str]:
        """For each kind of logits a task that declares it."""
        kinds: dict[LogitKind, str] = {}
        for task in tasks:
            if (kind := self.spec.tasks[task].logits) is not None:
                kinds.setdefault(kind, task)
        return kinds

    def _loss(self, loss: LogitLoss, path: SpecPath, tasks: tuple[str, ...], *, written: bool) -> LogitLoss:
        kinds = self._kinds(tasks)
        wrong = [kind for kind in kinds if kind not in loss.compares]
        if not wrong:
            return loss
        kind, usual = wrong[0], _USUAL[wrong[0]]
        if not written and len(kinds) == 1:
            made: LogitLoss = self.registry.get("logit_loss", usual)()
            return made
        # a loss of classes is one of scores too, which says nothing about the mistake
        named = (loss.compares - {"scores"}) or loss.compares
        compared = " or ".join(LOGIT_KINDS[one] for one in _USUAL if one in named)
        message = f"`{loss.name}` compares {compared}; task `{kinds[kind]}` has {LOGIT_KINDS[kind]}"
        self._report(message, path, kinds[kind], f"write `loss: {usual}`", (loss.name, usual))
        return loss

    def _temperature(
        self, temperature: Temperature, path: SpecPath, tasks: tuple[str, ...], *, written: bool
    ) -> Temperature:
        one, kinds = self._one(), set(self._kinds(tasks))
        if not kinds or kinds & _SOFTENED or temperature == one:
            return temperature
        if not written:
            made: Temperature = one
            return made
        if kinds != {"numbers"}:
            return temperature
        message, text = (
            "a temperature cannot soften logits that are numbers: it only scales their loss",
            "makes the loss smaller",
        )
        if temperature.name == "sides":
            message, text = (
                "a temperature of each side changes the numbers that are learnt",
                "other numbers than the teacher's",
            )
        help_ = "leave it out, and scale the term by its `weight`"
        self.found.append(Finding("KD305", message, path, text, help=help_, severity="warning"))
        return temperature

    def _only_scales(self, loss: LogitLoss, temperature: Temperature, path: SpecPath) -> None:
        """Warn that the default temperature makes the loss smaller."""
        values = tuple(temperature.fixed() or ())
        if len(values) != 1 or values[0] == 1:
            return
        (value,) = values
        message = (
            f"the default temperature, {value:g}, softens nothing in `{loss.name}`: it divides the loss by {value**2:g}"
        )
        help_ = "write `temperature: 1`"
        at, text = (*path, "loss"), "scaled by the temperature"
        self.found.append(Finding("KD305", message, at, text, help=help_, severity="warning"))

    def _one(self) -> Temperature:
        """The temperature 1, which has no effect."""
        made: Temperature = self._constant("temperature", Temperature.from_plain(1.0))
        return made

    def _constant(self, kind: str, plain: tuple[str, dict[str, Any]] | None) -> Any:
        """The component of a number."""
        assert plain is not None, "a number is such a component"
        name, parameters = plain
        return self.registry.get(kind, name)(**parameters)

    def _report(self, message: str, path: SpecPath, task: str, help_: str, fix: tuple[str, str] | None) -> None:
        where = Mark(("tasks", task), f"has {LOGIT_KINDS[self.spec.tasks[task].logits or 'classes']}", key=True)
        self.found.append(Finding("KD313", message, path, "does not fit the task", also=(where,), help=help_, fix=fix))
