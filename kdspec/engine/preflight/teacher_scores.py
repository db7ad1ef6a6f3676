"""Asks a teacher for its scores of the candidates of some rows, before it teaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from kdspec.api.plan.plan import Plan, TaskPlan
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.step import Features
from kdspec.api.working.task import BuiltTask
from kdspec.data.ranking.score_audit import ScoreFacts, audit
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.best_model import evaluated_features
from kdspec.engine.evaluation.evaluate import evaluate
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.preflight.sample import BATCH, affordable, sample
from kdspec.objectives.soft_labels import outputs

_MOST = 64


def score_facts(plan: Plan, part: TaskPlan, task: BuiltTask, teacher: ModelRunner, loader: Loader) -> ScoreFacts | None:
    """What the scores of a teacher for some training rows are like; None for other logits than scores.

    The teacher's own runner is left alone. Neither weights nor random numbers change.

    Raises:
        FindingError: as the model does for a batch.
    """
    collected = _Scores()
    features = evaluated_features(plan, teacher.name, part.task, collected)
    if plan.spec.tasks[part.task].logits != "scores" or not collected.reads <= features.keys():
        return None
    most = min(_MOST, affordable(teacher.module, loader, teacher.name))
    rows = sample(range(loader.rows), task, loader, plan.spec.seed, most)
    forward = ModelRunner(
        ModelFindings(plan.spec, teacher.name, part.task), teacher.module, features,
        chooses=teacher.accepted is not None, entire=teacher.entire, arithmetic=teacher.arithmetic,
    )  # fmt: skip
    evaluate(forward, task, loader, BATCH, rows, evaluator=collected)
    use = part.needs.logits.get(teacher.name)
    return audit(collected.rows, use.temperatures[0] if use is not None and len(use.temperatures) == 1 else None)


class _Scores(Evaluator):
    """Keeps the scores of each row that has some."""

    optional = frozenset({"logits_mask", "answered"})
    primary = Metric("scores")
    gives_loss = True

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def add(self, features: Features, batch: Batch) -> State:
        """The scores, -inf where a row has no candidate."""
        del batch
        scores = outputs(features)[0].dense().detach().double().cpu()
        for answered in features.heads("answered"):
            scores = scores[answered.cpu() != 0]
        return {"scores": scores}

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """No metric."""
        for row in (row for state in states for row in state["scores"]):
            self.rows.append(row[row != -torch.inf].tolist())
        return {}
