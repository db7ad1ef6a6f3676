"""What is told of the rows of a plan: labels, lengths, what is cut, repeated rows, and the first row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.engine.preflight.facts import TaskFacts, dumps, loads
from kdspec.engine.preflight.planned_rows import PlannedRows, look_at_rows
from kdspec.engine.preflight.repeated_rows import in_train
from kdspec.testing import plan, registry

SPEC = """\
kdspec: 1
name: rows
tasks:
  t: {task}
models:
  teacher: {{transformers: {{path: ./teacher}}}}
  student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}}}}}
stages:
  s:
    distiller: {{general: {{teacher: teacher, student: student}}}}
    training: {{epochs: 1}}
"""
FILES = "csv: {train: train.csv, validation: validation.csv, test: test.csv}"
ONE = f"{{sequence_classification: {{data: {{{FILES}}}, text: text, label: label}}}}"


@pytest.fixture
def look(tmp_path, new_model, new_tokenizer):
    """Looks at the rows of a task whose files are given as lists of lines."""

    def looked(task: str, auto: str = "AutoModelForSequenceClassification", **files: list[str]) -> PlannedRows:
        new_model("teacher", auto=auto)
        new_tokenizer("teacher")
        for split, lines in files.items():
            (tmp_path / f"{split}.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return look_at_rows(plan(SPEC.format(task=task), registry(), folder=tmp_path))

    return looked


def rows(*pairs: tuple[str, str]) -> list[str]:
    return ["text,label", *map(",".join, pairs)]


GOOD = [("good film", "x"), ("bad film", "y"), ("the plot was dull", "y"), ("nice", "x")]


def only(looked: PlannedRows) -> TaskFacts:
    (facts,) = looked.tasks
    return facts


def told(looked: PlannedRows) -> list[tuple[str, str]]:
    return [(found.severity, found.message) for found in looked.findings]


def test_rows_labels_and_lengths_are_counted(look):
    looked = look(ONE, train=rows(*GOOD), validation=rows(("bad", "y"), ("good", "")), test=rows(("dull", "x")))
    facts = only(looked)
    train, validation = facts.splits["train"], facts.splits["validation"]
    assert (train.rows, train.labelled, train.labels) == (4, 4, {"x": 2, "y": 2})
    assert (validation.rows, validation.labelled, validation.labels) == (2, 1, {"x": 0, "y": 1})
    assert (train.reads[0].models, train.reads[0].longest, train.reads[0].cut) == (("student", "teacher"), 6, 0)
    assert told(looked) == []


def test_the_first_row_is_shown_as_the_models_read_it(look):
    shown = only(look(ONE, train=rows(*GOOD), validation=rows(*GOOD[:2]), test=rows(("dull", "x")))).shown
    assert [(each.models, each.tokens) for each in shown] == [
        (("student", "teacher"), ("[CLS]", "good", "film", "[SEP]"))
    ]
    assert shown[0].labels == {"labels": ("x",)}


def test_test_texts_that_stand_in_train_are_told(look):
    looked = look(ONE, train=rows(*GOOD), validation=rows(("was", "x")), test=rows(*GOOD[:2], ("new", "x")))
    assert only(looked).splits["test"].in_train == 2
    assert told(looked) == [("warning", "2 of 3 test texts stand in `train` as they are")]


def test_a_pair_stands_in_train_only_if_both_texts_do(look):
    task = f"{{sequence_classification: {{data: {{{FILES}}}, text: [one, two], label: label}}}}"
    train = ["one,two,label", "good,bad,x", "bad,film,y"]
    looked = look(task, train=train, validation=[train[0], "good,film,x"], test=[*train])
    assert [only(looked).splits[split].in_train for split in ("validation", "test")] == [0, 2]


def test_few_repeated_rows_are_a_note(look):
    many = [(f"good {'bad ' * n}", "xy"[n % 2]) for n in range(40)]
    new = [(f"nice {'film ' * n}", "xy"[n % 2]) for n in range(39)]
    looked = look(ONE, train=rows(*many), validation=rows(("was", "x")), test=rows(*new, many[0]))
    assert told(looked) == [("note", "1 of 40 test texts stand in `train` as they are")]


def test_rows_that_max_length_cuts_are_counted(look):
    task = f"{{sequence_classification: {{data: {{{FILES}}}, text: text, label: label, max_length: 4}}}}"
    looked = look(task, train=rows(*GOOD), validation=rows(("was", "x")), test=rows(("a b c", "x")))
    # Two words fit: only `the plot was dull` is cut, and `good film` has the same length without being cut.
    assert [only(looked).splits[split].reads[0].cut for split in ("train", "validation", "test")] == [1, 0, 1]


def test_many_cut_rows_are_a_warning_at_the_limit(look):
    task = f"{{sequence_classification: {{data: {{{FILES}}}, text: text, label: label, max_length: 3}}}}"
    (found,) = look(task, train=rows(*GOOD), validation=rows(("was", "x")), test=rows(("a", "x"))).findings
    assert (found.severity, found.message) == (
        "warning",
        "75% of the rows of `train` are cut at 3 tokens for `student` and `teacher`",
    )
    assert found.at == ("tasks", "t", "sequence_classification", "max_length")


def test_a_label_column_with_a_value_for_each_row_is_told(look):
    looked = look(
        ONE, train=rows(*((text, f"id{n}") for n, (text, _) in enumerate(GOOD * 3))),
        validation=rows(("was", "id1")), test=rows(("a", "id2")),
    )  # fmt: skip
    assert ("warning", "the 12 labelled rows of `train` have 12 different labels") in told(looked)


def test_tensors_are_compared_by_what_models_read(tmp_path):
    text = """\
kdspec: 1
name: rows
tasks:
  t: {tensors: {data: {csv: {train: train.csv, test: test.csv}}, labels: label}}
models: {m: {toy: {}}}
stages:
  s: {distiller: {supervised: {model: m}}, training: {epochs: 1}}
"""
    from toys import Toy

    (tmp_path / "train.csv").write_text("a,b,label\n1,2,0\n3,4,1\n")
    (tmp_path / "test.csv").write_text("a,b,label\n1,2,1\n3,5,1\n")
    components = registry(Toy)
    facts = only(look_at_rows(plan(text, components, folder=tmp_path)))
    assert (facts.splits["test"].in_train, facts.splits["train"].labels) == (1, {"0": 1, "1": 1})
    assert facts.shown[0].tokens == ()


def test_an_error_of_a_task_is_among_the_findings(look):
    looked = look(ONE, train=rows(*GOOD), validation=rows(("was", "z")), test=rows(("a", "x")))
    assert (looked.tasks, [found.severity for found in looked.findings]) == ((), ["error"])


class Texts:
    """A task of texts alone, as far as repeated rows are concerned."""

    def __init__(self, **texts: list[tuple[str, ...]]) -> None:
        self.by_split = texts

    def texts(self, split: str) -> list[tuple[str, ...]]:
        return self.by_split[split]

    compared = texts


WORDS = st.lists(st.text("aé b", max_size=2), max_size=8)


@given(WORDS, WORDS)
def test_repeated_rows_are_those_of_a_set(train, test):
    by_text: Any = Texts(train=[(text,) for text in train], test=[(text,) for text in test])
    nothing: Any = Texts(train=[], test=[])
    encoded = {
        split: [{"x": text, "label": 1} for text in texts] for split, texts in (("train", train), ("test", test))
    }
    expected = sum(text in train for text in test)
    assert in_train(nothing, encoded, {"label"}).counts["test"] == expected
    if train:
        assert in_train(by_text, encoded, {"label"}).counts["test"] == expected


def test_facts_are_read_as_they_were_written(look):
    facts = only(look(ONE, train=rows(*GOOD), validation=rows(("was", "x")), test=rows(("a", "x"))))
    assert loads(dumps([facts])) == (facts,)
