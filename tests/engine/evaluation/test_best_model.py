"""Evaluation while a stage trains: it changes nothing, and chooses the best student."""

from __future__ import annotations

import math
from types import SimpleNamespace

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdspec import Batch, BuiltTask, Dataset, Evaluator, Mean, Metric, Task
from kdspec.api.working.evaluator import LOSS
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.best_model import BestModelTracker, EvaluatedTask, EvaluationProgress
from kdspec.engine.run.triggers import Triggers, total_steps
from kdspec.events import Evaluated, StageFinished, StepDone

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
ROWS = "tasks.rows.tensors.data.ragged={train: 11, validation: 6}"
EVERY = f"{TRAINING}.evaluate={{every_steps: 1}}"


def test_evaluation_does_not_change_training(launch, same):
    """Not with dropout, and not where it draws random numbers."""
    dropout = "models.student.toy.dropout=0.3"
    without = launch(ROWS, dropout, folder="without")
    evaluated = launch(ROWS, dropout, EVERY, folder="evaluated")
    assert same.bits(without.checkpoint(6), evaluated.checkpoint(6))
    assert [e.loss for e in without.of(StepDone)] == [e.loss for e in evaluated.of(StepDone)]


def test_by_the_loss_the_lowest_is_the_best(launch):
    ran = launch(ROWS, EVERY, f"{TRAINING}.optimizer={{sgd: {{lr: 30}}}}")
    losses = {e.step: e.metrics["loss"] for e in ran.of(Evaluated)}
    (end,) = ran.of(StageFinished)
    assert end.best_step == min(losses, key=losses.get)
    assert end.metrics["loss"] == min(losses.values())
    assert ran.result.table[0].metrics.keys() == {"accuracy", "loss"}


class Scripted(Task):
    """Rows with metrics from a list."""

    name = "scripted"
    values: list[float | str]
    """The metric at each evaluation; `nan` is not a number."""
    higher: bool = True
    """Whether it is better when higher."""
    counted: dict[str, int] = {"validation": 4}
    """How many of the four rows of each split the metrics count."""

    def adaptor(self):
        return {"logits": "output.logits", "labels": "batch.label"}

    def build(self, context):
        values, higher, counted = iter(self.values), self.higher, self.counted

        class Rows(BuiltTask):
            def rows(self, split):
                return 4 if split in ("train", *counted) else 0

            def labelled(self, split):
                return counted.get(split, 0)

            def encode(self, split, readers):
                return [[{"row": row} for row in range(4)]]

            def collate(self, rows, reader):
                ones = torch.ones(len(rows), 2, dtype=torch.long)
                return Batch(inputs={"": {"ids": ones, "mask": ones}}, targets={"label": ones[:, 0]})

            def hard_loss(self, features, batch):
                logits, labels = features.logits[0].dense(), batch.targets["label"]
                total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                return {"labels": Mean(total, float(len(labels)))}

            def evaluator(self, split):
                return Score()

        class Score(Evaluator):
            primary = Metric("score", higher_is_better=higher)

            def add(self, features, batch):
                return {}

            def merge(self, states):
                return {"score": float(next(values, 0.0)), "other": 0.25}

        return Rows()


def scripted(launch, values, higher, *sets):
    """A run whose student has these values, one for each evaluation; the first is the teacher's, before the stage."""
    task = f"tasks={{rows: {{scripted: {{values: [0, {values[1:]}, higher: {str(higher).lower()}}}}}}}"
    changes = (task, "adaptors={}", f"{GENERAL}.matches=[]", f"{TRAINING}.steps=4", f"{TRAINING}.epochs=null", EVERY)
    ran = launch(*changes, *sets, plugins=[Scripted])
    return ran, ran.of(StageFinished)[0]


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ("[1, 3, 2, 2]", True, 2),
        ("[3, 1, 2, 2]", False, 2),
        ("[nan, 1, nan, 0.5]", True, 2),
        ("[1, 2, 3, 4]", True, 4),
        ("[nan, nan, nan, nan]", True, None),
    ],
)
def test_the_metric_has_a_direction(values, higher, best, launch):
    """NaN is never the best."""
    ran, end = scripted(launch, values, higher)
    assert end.best_step == best
    if best is not None:
        assert end.metrics["score"] == ran.of(Evaluated)[best - 1].metrics["score"]
    assert {event.lower_is_better for event in ran.of(Evaluated)} == {not higher}
    assert ran.of(Evaluated)[0].best == (not math.isnan(float(values[1:-1].split(",")[0])))


def test_another_metric_can_choose(launch):
    """It is always the same here, so that the falling loss decides; by the task's own metric the first would be the best."""
    _, end = scripted(launch, "[4, 3, 2, 1]", True, f"{TRAINING}.evaluate.metric=other")
    assert end.best_step == 4


def test_a_metric_that_the_task_lacks_is_reported(launch):
    with pytest.raises(FindingError) as caught:
        scripted(launch, "[1, 2, 3, 4]", True, f"{TRAINING}.evaluate.metric=othr")
    (found,) = caught.value.findings
    assert found.code in {"KD502", "KD204"}
    assert "`othr`" in found.message
    assert found.help == "did you mean `other`?"


def test_an_unknown_metric_is_found_before_anything_is_trained(session):
    changes = (ROWS, f"{TRAINING}.evaluate={{metric: acuracy}}")
    with pytest.raises(DiagnosticError, match="`acuracy`"):
        session(*changes)
    assert "StepDone" not in (log.read_text() if (log := session().folder / "events.jsonl").exists() else "")


def test_without_validation_rows_the_last_student_is_kept_and_that_is_noted(launch, same):
    ran = launch(f"{TRAINING}.evaluate={{}}", f"{TRAINING}.early_stopping={{patience: 1}}")
    assert ran.notes == [
        "stage `distil` has no validation rows: the last state of `student` is kept, and it does not stop early"
    ]
    assert ran.of(StageFinished)[0].best_step is None
    student = {name.removeprefix("student."): t for name, t in ran.checkpoint(6).items() if name.startswith("student.")}
    assert same.bits(ran.weights, student)


def test_without_labels_the_last_student_is_kept(launch):
    changes = (ROWS, f"{TRAINING}.evaluate={{}}", "adaptors.student={logits: output.logits, hidden: output.hidden}")
    changes = (*changes, "tasks.rows.tensors.labels=null", "tasks.rows.tensors.columns=[ids, mask]")
    ran = launch(*changes, f"{GENERAL}.hard_labels.weight=0")
    assert ran.notes == ["stage `distil` has no labels to evaluate on: the last state of `student` is kept"]
    (teacher, student) = ran.result.table
    assert (student.metrics, student.split) == ({}, "validation")
    assert teacher.latency_ms > 0


LABELLED = "tasks.rows.scripted.counted"


def test_a_validation_split_without_labels_keeps_the_last_student(launch):
    ran, end = scripted(
        launch, "[1, 2, 3, 4]", True, f"{LABELLED}={{validation: 0}}", f"{TRAINING}.evaluate.metric=score"
    )
    told = [note for note in ran.notes if "labels" in note]
    assert told == ["stage `distil` has no labels to evaluate on: the last state of `student` is kept"]
    assert (end.best_step, ran.of(Evaluated)) == (None, [])
    assert [(row.split, row.rows, row.labelled) for row in ran.result.table] == [("validation", 4, 0)] * 2


@pytest.mark.parametrize(
    ("labelled", "split", "notes"),
    [
        ("{validation: 4, test: 1}", ("test", 1), []),
        (
            "{validation: 3, test: 0}",
            ("validation", 3),
            ["no test row of task `rows` has a label: the table is of the validation rows"],
        ),
    ],
)
def test_the_table_is_of_the_first_split_with_labels(labelled, split, notes, launch):
    ran, _ = scripted(launch, "[1, 2, 3, 4]", True, f"{LABELLED}={labelled}")
    assert [(row.split, row.labelled) for row in ran.result.table] == [split] * 2
    assert all("score" in row.metrics for row in ran.result.table)
    assert [note for note in ran.notes if "label" in note] == notes


class Unlabelled(Scripted):
    """A task without labels, which has metrics."""

    name = "no_labels"

    def has_labels(self):
        return False


def test_a_task_without_labels_is_evaluated_by_its_metrics(launch):
    task = "tasks={rows: {no_labels: {values: [1, 3, 2, 0]}}}"
    changes = (task, "adaptors={}", f"{GENERAL}.matches=[]", f"{TRAINING}.steps=4", f"{TRAINING}.epochs=null", EVERY)
    ran = launch(*changes, f"{GENERAL}.hard_labels.weight=0", plugins=[Unlabelled])
    scores = {event.step: event.metrics["score"] for event in ran.of(Evaluated)}
    assert ran.of(StageFinished)[0].best_step == max(scores, key=scores.get)
    assert ran.result.table[1].metrics["other"] == 0.25


class Late(Dataset):
    """Rows of which the first ones for validation have no label."""

    name = "late"

    def build(self, context):
        rows = {"ids": [[1, 2, 3]] * 8, "mask": [[1, 1, 1]] * 8}
        known = [0, 1, 2, 3] * 2
        return datasets.DatasetDict(
            train=datasets.Dataset.from_dict({**rows, "label": known}),
            validation=datasets.Dataset.from_dict({**rows, "label": [-100] * 4 + known[:4]}),
        )


def test_a_metric_is_checked_on_rows_with_labels(launch):
    ran = launch("tasks.rows.tensors.data={late: {}}", EVERY, f"{TRAINING}.evaluate.metric=accuracy", plugins=[Late])
    assert all("accuracy" in event.metrics for event in ran.of(Evaluated))
    assert [(row.labelled, row.rows) for row in ran.result.table] == [(4, 8)] * 2


def test_a_metric_that_is_no_number_is_told_once(launch):
    ran, _ = scripted(launch, "[nan, nan, 1, 2]", True)
    assert [note for note in ran.notes if "nan" in note] == [
        "`score` of `student` is nan at step 1: a correlation needs predictions and labels that are not all equal"
    ]


def test_early_stopping_ends_after_patience(launch):
    ran, end = scripted(
        launch, "[2, 1, 1, 1]", True, f"{TRAINING}.steps=30", f"{TRAINING}.early_stopping={{patience: 2}}"
    )
    assert (end.best_step, end.step) == (1, 3)
    assert "stage `distil` stopped early, after 3 of 30 steps: nothing was better than step 1" in ran.notes


def test_a_models_own_loss_does_not_count_rows_without_labels(launch):
    rows = "tasks.rows.tensors.data.ragged={train: 11, validation: 7, gaps: 2}"
    own = "adaptors.student.losses=output.loss"
    per_row = launch(rows, own, EVERY, f"{TRAINING}.batch_size=1", f"{TRAINING}.accumulate=11", folder="rows")
    at_once = launch(rows, own, EVERY, f"{TRAINING}.batch_size=11", f"{TRAINING}.accumulate=1", folder="once")
    for one, other in zip(per_row.of(Evaluated), at_once.of(Evaluated), strict=True):
        assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], abs=1e-10)


def due(triggers):
    return [step for step in range(1, triggers.total + 1) if triggers.due(step)]


@pytest.mark.parametrize(
    ("options", "days"),
    [
        ({"every_steps": 3}, [3, 6, 9, 10]),
        ({"every_steps": 30}, [10]),
        ({"every_epochs": 1.0}, [5, 10]),
        ({"every_epochs": 0.5}, [2, 5, 7, 10]),
        ({"every_epochs": 0.01}, list(range(1, 11))),
        ({"every_epochs": 3.0}, [10]),
        ({}, [5, 10]),
    ],
)
def test_triggers_depend_only_on_the_step(options, days):
    assert due(Triggers(10, 5, **options)) == days


def test_a_third_of_an_epoch_is_rounded_down():
    """As TextBrewer's checkpoints: 10 steps an epoch and 3 times an epoch are 3, 6, 10, 13, 16, 20."""
    assert due(Triggers(20, 10, every_epochs=1 / 3)) == [3, 6, 10, 13, 16, 20]


def test_a_part_of_an_epoch_is_whole_steps():
    assert [total_steps(10, epochs, None) for epochs in (0.001, 0.26, 2.0)] == [1, 3, 20]
    assert total_steps(10, None, 7) == 7


class Judged(Evaluator):
    """With a metric for which higher or lower is better."""

    def __init__(self, metric, *, higher):
        self.primary = LOSS if metric is None else Metric(metric, higher_is_better=higher)

    def add(self, features, batch):
        return {}

    def merge(self, states):
        return {}


def several(*tasks):
    """A tracker of several tasks, each with its own metric and whether lower is better."""
    made = [
        EvaluatedTask(task=name, built=None, forward=None, loader=None, evaluator=Judged(metric, higher=not less))
        for name, metric, less in tasks
    ]  # fmt: skip
    evaluate = SimpleNamespace(metric=None)
    training = SimpleNamespace(evaluate=evaluate)
    stage = SimpleNamespace(name="distil", training=training, several=True, student="student")
    spec = SimpleNamespace(label=lambda path, text="", *, key=False: None)
    return BestModelTracker(SimpleNamespace(spec=spec), stage, made)


NAN = math.nan
KNOWN = st.sampled_from([0.5, 0.75, 1.0, NAN])


@given(values=st.lists(st.tuples(KNOWN, KNOWN), min_size=1, max_size=12), higher=st.booleans())
def test_ties_are_broken_by_the_loss_and_then_by_the_later_step(values, higher):
    best_model = several(("a", "score", not higher))
    progress, stopped = EvaluationProgress(), EvaluationProgress()
    chosen, since, top = None, 0, None
    for step, (score, loss) in enumerate(values, 1):
        best_model._metrics = lambda score=score, loss=loss: {"a.score": score, "a.loss": loss, "mean": score}
        # As a run that stops and resumes after each step.
        stopped = EvaluationProgress(**{**vars(stopped), "step": step})
        progress.step = step
        assert best_model(progress).best == best_model(stopped).best == (progress.best_step == step)
        signed = score if higher else -score
        better = not math.isnan(signed) and (top is None or signed > top)
        since = 0 if better else since + 1
        if better or (signed == top and not loss > chosen[1]):
            top, chosen = signed, (step, loss)
        assert progress.without_better == stopped.without_better == since
    assert progress.best_step == (None if chosen is None else chosen[0])


def test_a_tie_without_a_loss_goes_to_the_later_step(monkeypatch):
    best_model = several(("a", "score", False))
    progress = EvaluationProgress(step=1)
    for step in (1, 2):
        progress.step = step
        monkeypatch.setattr(best_model, "_metrics", lambda: {"a.score": 0.5, "mean": 0.5})
        assert best_model(progress).best
    assert (progress.best_step, progress.without_better) == (2, 1)


def test_ties_of_the_mean_are_broken_by_the_mean_of_the_losses(monkeypatch):
    best_model = several(("a", "score", False), ("b", "score", False))
    progress = EvaluationProgress()
    for step, losses in enumerate([(1.0, 1.0), (2.0, 0.5), (0.0, 1.5)], 1):
        progress.step = step
        metrics = {"mean": 0.5, "a.loss": losses[0], "b.loss": losses[1]}
        monkeypatch.setattr(best_model, "_metrics", lambda metrics=metrics: metrics)
        best_model(progress)
    assert progress.best_step == 3
    best_model.written = "b.score"
    monkeypatch.setattr(best_model, "_metrics", lambda: {"mean": 0.5, "b.score": 0.5, "a.loss": 9.0, "b.loss": 1.0})
    progress.best_metrics = {"mean": 0.5, "b.score": 0.5, "a.loss": 0.0, "b.loss": 1.5}
    assert best_model(progress).best


def test_a_collapsed_student_of_equal_accuracy_is_not_kept(launch):
    """The accuracy is the same all the time, and the loss falls."""
    ran, end = scripted(launch, "[0.5, 0.5, 0.5, 0.5]", True)
    losses = {event.step: event.metrics["loss"] for event in ran.of(Evaluated)}
    assert end.best_step == min(losses, key=lambda step: (losses[step], -step))
    assert end.best_step > 1


def test_a_run_that_resumes_with_another_metric_compares_by_it(monkeypatch):
    best_model = several(("a", "accuracy", False))
    best_model.written = "a.loss"
    progress = EvaluationProgress(step=2, best_step=1, best_metrics={"a.accuracy": 0.9, "a.loss": 1.5})
    monkeypatch.setattr(best_model, "_metrics", lambda: {"a.accuracy": 0.8, "a.loss": 1.2})
    assert best_model(progress).best
    assert progress.best_step == 2


def test_a_mean_of_metrics_that_go_the_same_way_chooses():
    several(("a", "accuracy", False), ("b", "f1", False)).check()
    several(("a", "mae", True), ("b", None, False)).check()  # a task without a metric is evaluated by its loss


def test_metrics_with_opposite_directions_have_no_mean():
    with pytest.raises(FindingError) as caught:
        several(("a", "accuracy", False), ("a.b", "mae", True)).check()
    (found,) = caught.value.findings
    assert found.message == "the metrics of the tasks of stage `distil` have no mean"
    assert found.notes == ("`accuracy` of `a`: higher is better", "`mae` of `a.b`: lower is better")
    assert found.help == "name the metric for model selection: `evaluate: {metric: a.accuracy}`"
