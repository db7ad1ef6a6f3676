"""Preflight as a line and as rows of a table."""

from __future__ import annotations

from dataclasses import replace

from kdspec.engine.preflight.facts import AloneFacts, AnswerFacts, ReadFacts, SeenModel, SplitFacts, TaskFacts, as_data
from kdspec.events import Preflight
from kdspec.render.preflight import preflight_line, preflight_rows

READ = ReadFacts(models=("teacher", "student"), longest=128, mean=20.5, cut=6)
TRAIN = SplitFacts(rows=280, encoded=280, labelled=280, labels={"a": 200, "b": 80}, reads=(READ,))
TEST = SplitFacts(rows=10, encoded=10, labelled=10, in_train=3)
TEACHER = SeenModel(
    alone=AloneFacts(difference=2e-7, allowed=1e-3),
    answers=AnswerFacts(
        split="validation", rows=100, metrics={"accuracy": 0.97}, primary="accuracy",
        classes=2, answers=100, right=97, most_frequent=71,
    ),
)  # fmt: skip
STUDENT = SeenModel(left_out=("rows alone and together: all have the same length",))
TASK = TaskFacts(
    task="t", classes=("a", "b"), splits={"train": TRAIN, "test": TEST}, models={"teacher": TEACHER, "student": STUDENT}
)


def event(*tasks: TaskFacts, cached: bool = False) -> Preflight:
    return Preflight("distil", cached, 1.23, as_data(tasks))


def test_a_line_has_rows_classes_cuts_the_teacher_and_the_time():
    assert preflight_line(event(TASK)) == (
        "distil: 280 rows, 2 classes, 2.1 % cut at 128, 3 test rows stand in train; "
        "teacher accuracy 0.97 (majority 0.71) on 100 validation rows; rows alone as in a batch; 1.2 s"
    )


def test_rows_without_labels_that_a_stage_trains_on_are_counted():
    splits = {"train": TRAIN, "unlabelled": SplitFacts(rows=10_000, encoded=10_000, labelled=0)}
    assert preflight_line(event(replace(TASK, splits=splits))).startswith(
        "distil: 280 rows and 10,000 unlabelled, 2 classes,"
    )


def test_an_earlier_look_is_called_cached():
    assert preflight_line(event(TASK, cached=True)).endswith("; cached")


def test_several_tasks_are_named():
    line = preflight_line(event(TASK, replace(TASK, task="u", models={})))
    assert "; u 280 rows, 2 classes" in line


def test_another_metric_is_shown_beside_accuracy():
    answers = replace(TEACHER.answers, metrics={"f1": 0.5}, primary="f1")
    line = preflight_line(event(replace(TASK, models={"teacher": replace(TEACHER, answers=answers)})))
    assert "teacher f1 0.5, accuracy 0.97 (majority 0.71)" in line


def test_the_sample_that_a_teacher_was_asked_is_counted():
    def line(**facts):
        splits = {"train": TRAIN, "validation": SplitFacts(rows=2000, encoded=2000, **facts)}
        return preflight_line(event(replace(TASK, splits=splits)))

    assert "(majority 0.71) on 100 of 1,500 validation rows;" in line(labelled=1500)
    assert "(majority 0.71) on all 100 validation rows;" in line(labelled=100)
    assert "(majority 0.71) on 100 of 2,000 validation rows;" in line()
    numbers = replace(TEACHER.answers, metrics={"mse": 0.5}, primary="mse", classes=0, answers=0)
    scores = replace(TASK, models={"teacher": replace(TEACHER, answers=numbers)})
    assert "teacher mse 0.5 on 100 validation rows;" in preflight_line(event(scores))


def test_a_difference_that_is_no_rounding_is_shown():
    alone = replace(TEACHER, alone=AloneFacts(difference=4e-4, allowed=1e-3))
    assert "rows alone and in a batch differ by 0.0004" in preflight_line(
        event(replace(TASK, models={"teacher": alone}))
    )


def test_a_table_has_a_row_for_each_model():
    assert list(preflight_rows(event(TASK)))[1:] == [
        ("teacher", "", "accuracy 0.97 (majority 0.71) on 100 validation rows", "2e-07"),
        ("student", "rows alone and together: all have the same length", "", ""),
    ]
