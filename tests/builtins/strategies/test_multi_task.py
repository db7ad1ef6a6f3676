"""`multi_task`: what it needs of each task, and the mistakes that one can make with it."""

from __future__ import annotations

import pytest

from kdspec import load_registry
from kdspec.builtins.strategies.multi_task import MultiTask
from kdspec.testing import check

SPEC = """\
kdspec: 1
name: together
tasks:
  films: {sequence_classification: {data: {csv: {train: rows.csv, validation: rows.csv}}, text: text, label: label}}
  topics: {sequence_classification: {data: {csv: {train: rows.csv, validation: rows.csv}}, text: text, label: label}}
  columns: {tensors: {data: {csv: {train: rows.csv}}, columns: [label], labels: label}}
models:
  one: {transformers: {config: {model_type: bert}, tokenizer: org/words}}
  two: {transformers: {config: {model_type: bert}, tokenizer: org/words}}
  student: {transformers: {like: one, config: {num_hidden_layers: 2}}}
stages:
  first: {distiller: {supervised: {model: one, task: films}}, training: {steps: 1}}
  second: {distiller: {supervised: {model: two, task: topics}}, training: {steps: 1}}
  distil:
    distiller:
      multi_task:
        student: student
        tasks: {films: {teacher: one}, topics: {teacher: two}}
    training: {steps: 1}
"""
BOTH = "tasks: {films: {teacher: one}, topics: {teacher: two}}"
FINE = "films: {teacher: one}"
MATCH = "{feature: hidden, loss: hidden_mse, layers: {2: 1}}"


@pytest.fixture(autouse=True)
def rows(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\ngood,1\nbad,0\n")


def found(tmp_path, written, training="training: {steps: 1}\n"):
    text = SPEC.replace(BOTH, written)
    start = text.rindex("training: {steps: 1}\n")
    return check(text[:start] + training + text[start + len("training: {steps: 1}\n") :], folder=tmp_path)


def test_it_is_valid_except_for_the_unused_task(tmp_path):
    (warning,) = found(tmp_path, BOTH).diagnostics
    assert warning.message == "task `columns` is not used"


def test_each_task_needs_what_its_terms_read():
    written = {
        "student": "s",
        "tasks": {
            "a": {"teacher": "t", "matches": [{"feature": "hidden", "loss": "cos", "layers": {1: 1}}]},
            "b": {"hard_labels": {"weight": 1}},
            "c": {"teacher": "u", "weight": 0},
        },
    }
    needs = MultiTask.model_validate(written, context={"registry": load_registry()}).needs()
    assert needs.teachers == ("t", "u")
    a, b, c = needs.tasks
    assert (a.task, b.task, c.task) == ("a", "b", "c")
    assert a.reads == {"s": {"logits"}, "t": {"logits"}}
    assert (a.at, a.hard_labels, len(a.matches)) == (("tasks", "a"), False, 1)
    assert (b.teachers, b.hard_labels, b.unlabelled) == ((), True, False)
    assert (c.reads, c.matches, c.hard_labels, c.learns) == ({}, (), False, False)


def test_the_plan_has_what_is_done_with_each_task(tmp_path):
    plan = found(tmp_path, f"tasks: {{{FINE[:-1]}, matches: [{MATCH}]}}, topics: {{teacher: two}}}}").plan
    stage = plan.stages[-1]
    assert list(stage.tasks) == ["films", "topics"]
    assert [match.term for match in stage.matches] == ["films.hidden.hidden_mse.2-1"]
    assert stage.matches[0].path[-4:] == ("tasks", "films", "matches", 0)
    assert plan.tasks_of == {"one": ("films",), "two": ("topics",), "student": ("films", "topics")}


@pytest.mark.parametrize(
    ("written", "code", "told"),
    [
        ("tasks: {films: {teacher: one}}", "KD104", "`tasks` must have at least 2 entries"),
        (f"tasks: {{{FINE}, topcs: {{teacher: two}}}}", "KD204", "unknown task `topcs`"),
        (f"tasks: {{{FINE}, topics: {{teacher: tow}}}}", "KD204", "unknown model `tow`"),
        (f"tasks: {{{FINE}, topics: {{teacher: student}}}}", "KD307", "cannot be its own teacher"),
        (f"tasks: {{{FINE}, topics: {{}}}}", "KD104", "is learnt from its labels"),
        (f"tasks: {{{FINE}, topics: {{matches: [{MATCH}]}}}}", "KD104", "`matches` need a `teacher`"),
        (f"tasks: {{{FINE}, topics: {{teacher: two, wieght: 2}}}}", "KD101", "unknown key `wieght`"),
        (f"{BOTH}\n        sampling: {{tau: -1}}", "KD104", "must be at least 0"),
        (f"{BOTH}\n        sampling: {{size: rows}}", "KD104", "expected `batches` or `examples`"),
        (f"{BOTH}\n        sampling: {{tau: 2, proportions: {{films: 1, topics: 1}}}}", "KD107", "exclude each other"),
        (f"{BOTH}\n        sampling: {{proportions: {{films: 1}}}}", "KD102", "missing key `topics` in `proportions`"),
        (
            f"{BOTH}\n        sampling: {{proportions: {{film: 1, films: 1, topics: 1}}}}",
            "KD204",
            "unknown task `film`",
        ),
    ],
)
def test_a_mistake_is_reported(tmp_path, written, code, told):
    (error,) = found(tmp_path, written).errors
    assert error.code == code
    assert told in error.message
    if "unknown task" in told or "unknown model" in told:
        assert error.help.startswith("did you mean")


def test_a_task_without_a_head_on_the_student_is_reported(tmp_path):
    checked = found(tmp_path, f"tasks: {{{FINE}, columns: {{hard_labels: {{weight: 1}}}}}}")
    (error,) = [error for error in checked.errors if error.code == "KD314"]
    assert error.message == "student `student` cannot have a head for task `columns`"
    assert [label.text for label in error.secondary] == ["`tensors` needs no head", "a model of `transformers`"]


@pytest.mark.parametrize("metric", ["mean", "films.f1", "topics.loss"])
def test_a_metric_of_a_task_or_their_mean_may_choose(tmp_path, metric):
    training = f"training: {{steps: 1, evaluate: {{metric: {metric}}}}}\n"
    assert not found(tmp_path, BOTH, training).errors


@pytest.mark.parametrize(("metric", "guess"), [("films.acuracy", "films.accuracy"), ("accuracy", None)])
def test_a_metric_of_no_task_is_reported(tmp_path, metric, guess):
    training = f"training: {{steps: 1, evaluate: {{metric: {metric}}}}}\n"
    (error,) = found(tmp_path, BOTH, training).errors
    assert error.message == f"unknown metric `{metric}`"
    if guess is not None:
        assert error.help == f"did you mean `{guess}`?"


def test_what_has_no_effect_is_reported(tmp_path):
    off = "topics: {teacher: two, weight: 0}"
    messages = [d.message for d in found(tmp_path, f"tasks: {{{FINE}, {off}}}").diagnostics]
    assert "task `topics` is sampled, but has no term" in messages
    unused = "topics: {teacher: two, soft_labels: {weight: 0, temperature: 2}, hard_labels: {weight: 1}}"
    messages = [d.message for d in found(tmp_path, f"tasks: {{{FINE}, {unused}}}").diagnostics]
    assert "`temperature` of `soft_labels` has no effect" in messages


def test_an_unknown_task_of_by_task_is_reported(tmp_path):
    written = BOTH + "\n"
    text = SPEC.replace(BOTH, written.rstrip()).replace(
        "stages:\n", "adaptors: {student: {by_task: {tasks: {flims: {logits: output.logits}}}}}\nstages:\n", 1
    )
    errors = check(text, folder=tmp_path).errors
    assert errors[0].message == "unknown task `flims`"
    assert errors[0].help == "did you mean `films`?"


def test_a_feature_that_the_adaptor_lacks_for_a_task_is_reported(tmp_path):
    adaptor = "adaptors: {student: {by_task: {tasks: {films: {logits: output.logits}}}}}\nstages:\n"
    errors = check(SPEC.replace("stages:\n", adaptor, 1), folder=tmp_path).errors
    assert [error.message for error in errors] == ["the adaptor of `student` has no feature `logits` for task `topics`"]
