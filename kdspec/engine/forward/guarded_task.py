"""A task whose every mistake is told at its place in the spec, whoever asks it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from kdspec.api.context import BuildContext
from kdspec.api.plan import Plan
from kdspec.api.spec import Spec
from kdspec.api.task import BuiltTask
from kdspec.engine.forward.error_context import error_context


def guarded(spec: Spec, name: str, task: BuiltTask) -> BuiltTask:
    """The same task; what one of its methods raises becomes a diagnostic about task `name`."""
    return cast("BuiltTask", _Guarded(spec, name, task))


def built(plan: Plan, name: str) -> BuiltTask:
    """A task of a plan, built and guarded."""
    component = plan.spec.tasks[name]
    with error_context(("tasks", name, component.name), f"task `{name}`"):
        task = component.build(BuildContext(folder=plan.source.folder, seed=plan.spec.seed))
    return guarded(plan.spec, name, task)


class _Guarded:
    def __init__(self, spec: Spec, name: str, task: BuiltTask) -> None:
        self._spec, self._name, self._task = spec, name, task

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._task, attribute)
        if not callable(value):
            return value
        guard = self._guard(value)
        setattr(self, attribute, guard)  # found without this method from now on
        return guard

    def _guard(self, method: Callable[..., Any]) -> Callable[..., Any]:
        path = ("tasks", self._name, self._spec.tasks[self._name].name)
        guard = error_context(path, f"task `{self._name}`")

        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            with guard:
                return method(*args, **options)

        return call
