"""Asks a teacher for its answers to some labelled rows, before it teaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdspec.api.plan.plan import Plan
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.step import Features
from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.best_model import evaluated_features
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.preflight.chance import Confusion, by_class, other_order
from kdspec.engine.preflight.encoded_values import any_in_row, flat
from kdspec.engine.preflight.facts import AnswerFacts
from kdspec.engine.preflight.sample import BATCH, affordable, sample

_IGNORE = -100
_MOST_CLASSES = 1_000
_FEW_CLASSES = 12


def answers(plan: Plan, task_name: str, task: BuiltTask, teacher: ModelRunner, loader: Loader) -> AnswerFacts | str:
    """The answers of a teacher to labelled rows of the loader's split, or the reason why there are none.

    The teacher's own runner is left alone: evaluation reads other features. Neither weights nor random numbers change.

    Raises:
        FindingError: as the model does for a batch.
    """
    evaluator = task.evaluator(loader.split)
    features = evaluated_features(plan, teacher.name, task_name, evaluator)
    if not evaluator.reads <= features.keys():
        return "the task has no labels, or the model gives no answers to compare with them"
    rows = _labelled(task, loader, teacher.name)
    if not rows:
        return f"no row of `{loader.split}` has a label"
    asked = sample(rows, task, loader, plan.spec.seed, affordable(teacher.module, loader, teacher.name))
    forward = ModelRunner(
        ModelFindings(plan.spec, teacher.name, task_name), teacher.module, features,
        chooses=teacher.accepted is not None, entire=teacher.entire, arithmetic=teacher.arithmetic,
    )  # fmt: skip
    # The place of the right candidate is no class: a model that always names the first one has learnt nothing.
    has_classes = plan.spec.tasks[task_name].logits != "scores"
    counting = ConfusionEvaluator(evaluator, counts=has_classes)
    metrics = evaluate(forward, task, loader, BATCH, asked, evaluator=counting).metrics
    confusion, classes = counting.confusion, counting.classes
    truth = by_class(confusion)
    order = other_order(confusion, classes)
    return AnswerFacts(
        split=loader.split,
        rows=len(asked),
        metrics={name: round(value, 6) for name, value in metrics.items()},
        primary=evaluator.primary.name,
        higher_is_better=evaluator.primary.higher_is_better,
        classes=classes,
        answers=truth.total(),
        right=sum(times for (number, answer), times in confusion.items() if number == answer),
        most_frequent=max(truth.values(), default=0),
        order=order.places if order else (),
        right_in_order=order.right if order else 0,
        confusion=_table(confusion, classes) if classes <= _FEW_CLASSES else (),
    )


def _table(confusion: Confusion, classes: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(confusion.get((number, answer), 0) for answer in range(classes)) for number in range(classes))


class ConfusionEvaluator(Evaluator):
    """A task's evaluator that also counts the answers to each class, where a row or a token has one class as its label.

    Accuracy is computed from the counts: the libraries of other metrics take seconds to import.

    Args:
        evaluator: that of the task.
        counts: whether labels may be classes.
    """

    gives_loss = True

    def __init__(self, evaluator: Evaluator, *, counts: bool = True) -> None:
        self._evaluator, self._counts = evaluator, counts
        self.reads, self.optional, self.primary = evaluator.reads, evaluator.optional, evaluator.primary
        self.of_form = evaluator.of_form
        self.confusion: Confusion = {}
        self.classes = 0
        """0 if labels are no classes."""

    def add(self, features: Features, batch: Batch) -> State:
        """The evaluator's state, and the label and the answer of each labelled row or token."""
        state = {f"own.{name}": tensor for name, tensor in self._evaluator.add(features, batch).items()}
        found = _classes(features, batch) if self._counts else None
        if found is None:
            return state
        truth, logits, kept = found
        answer = logits.float().argmax(-1)[kept]
        return {**state, "truth": truth[kept], "answer": answer, "size": torch.tensor([logits.shape[-1], truth.ndim])}

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The evaluator's metrics, or accuracy alone if it selects the best student."""
        counted = [state for state in states if "truth" in state]
        if counted:
            classes, dimensions = counted[0]["size"].tolist()
            truth, answer = (torch.cat([state[name] for state in counted]) for name in ("truth", "answer"))
            if len(truth) and int(truth.min()) >= 0 and int(truth.max()) < classes:
                pairs, counts = torch.unique(truth * classes + answer, return_counts=True)
                found = zip(pairs.tolist(), counts.tolist(), strict=True)
                self.confusion, self.classes = {divmod(pair, classes): times for pair, times in found}, classes
                if dimensions == 1 and self.primary.name == "accuracy":
                    return {"accuracy": float((truth == answer).double().mean())}
        owns = ({name[4:]: tensor for name, tensor in state.items() if name.startswith("own.")} for state in states)
        return self._evaluator.merge([state for state in owns if state])


def _classes(features: Features, batch: Batch) -> tuple[Tensor, Tensor, Tensor] | None:
    """Labels, logits and the mask of what counts, if each row or token has one class."""
    logits, labels = features.logits, features.heads("labels") or tuple(batch.targets.values())
    if len(logits) != 1 or len(labels) != 1 or not 2 <= logits[0].classes <= _MOST_CLASSES:
        return None
    truth: Any = labels[0]
    dense = logits[0].dense()
    if not isinstance(truth, Tensor) or truth.is_floating_point() or truth.shape != dense.shape[:-1]:
        return None
    kept = truth != _IGNORE
    masks = features.heads("logits_mask")
    if masks and masks[0].shape == dense.shape:  # candidates, of which each row has its own
        return None
    if masks and masks[0].shape == truth.shape:
        kept &= masks[0] != 0
    return truth, dense, kept


def _labelled(task: BuiltTask, loader: Loader, model: str) -> list[int]:
    """The rows with a label; all of them if that is not known."""
    rows = loader.encoded(model)[loader.split]
    targets = list(task.collate([rows[0]], loader.readers[model]).targets) if len(rows) else []
    found = flat(rows, targets[0]) if targets else None
    if found is None:
        return list(range(len(rows)))
    values, lengths = found
    known = ~np.isnan(values) if values.dtype.kind == "f" else values != _IGNORE
    numbers: list[int] = np.flatnonzero(any_in_row(known, lengths)).tolist()
    return numbers
