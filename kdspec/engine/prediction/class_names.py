"""The classes of a model's head: from the files of a trained model, else from its task and its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from kdspec.api.plan.plan import Plan
from kdspec.api.spec.model_folders import read_json
from kdspec.api.working.task import Head
from kdspec.data.class_match import numbered
from kdspec.engine.forward.guarded_task import built
from kdspec.hf import families


def heads(plan: Plan, model: str, trained: Mapping[str, Path]) -> dict[str, Head]:
    """The head of each task of a model.

    The rows of a task are read only if nothing else has its labels.

    Args:
        plan: the plan.
        model: the model.
        trained: the folders of trained models, by name.

    Raises:
        FindingError: KD5xx if rows are read and cannot be.
    """
    return {task: _head(plan, task, model, trained) for task in plan.tasks_of[model]}


def _head(plan: Plan, task: str, model: str, trained: Mapping[str, Path]) -> Head:
    component = plan.spec.tasks[task]
    alone = component.without_rows()
    if alone is not None and (alone.head.labels or component.logits not in ("classes", "labels", "numbers")):
        return alone.head
    others = (name for name in trained if task in plan.tasks_of[name] and name != model)
    folders = [trained[name] for name in (model, *others) if name in trained]
    found = (labels for folder in folders for labels in _written(folder, task))
    labels = next(found, None)
    return built(plan, task).head if labels is None else Head(kind=component.head, labels=labels)


def _written(folder: Path, task: str) -> Iterator[tuple[str, ...]]:
    """The labels in the configuration of a saved model."""
    for place in (folder / task, folder):
        if labels := saved_labels(place):
            yield labels


def saved_labels(folder: Path) -> tuple[str, ...]:
    """The labels of the head in a model's folder, `LABEL_0` and so on if they have no names; empty if it has no classes."""
    configuration = read_json(folder / "config.json")
    if "network" in configuration:
        return tuple(map(str, configuration.get("labels") or ()))
    known = families.facts(configuration)
    return known.labels or numbered(known.classes or 0)
