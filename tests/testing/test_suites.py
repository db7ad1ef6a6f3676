"""The suites for tasks, data sets, models and strategies: ours pass, and each kind of a bad one fails with its reason."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kdspec import (
    BuildContext,
    Component,
    Dataset,
    Distiller,
    FeatureLoss,
    Head,
    Model,
    Needs,
    Strict,
    TaskNeeds,
    Term,
    hookimpl,
)
from kdspec.builtins.datasets.conll import Conll
from kdspec.builtins.datasets.files import Csv, Json
from kdspec.testing import check_dataset, check_model, check_strategy, check_task, registry, tiny
from kdspec.testing.component_suite import check_class

FINE = "a fine film,yes,1.5\n" * 3 + "a dull one,no,0.5\n" * 3
TASKS = {
    "sequence_classification": {"text": "text", "label": "label"},
    "multi_label": {"text": "text", "label": "label", "separator": ";"},
    "regression": {"text": "text", "label": "score"},
    "masked_lm": {"text": "text"},
}
TOYS = Path(__file__).parent.parent / "shared" / "toys.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("suites")
    (made / "rows.csv").write_text(f"text,label,score\n{FINE}")
    (made / "rows.jsonl").write_text("\n".join(json.dumps({"text": text, "n": 1}) for text in ("a", "b")))
    (made / "rows.conll").write_text("Ann B-PER\nleft O\n\nBob B-PER\nslept O\n")
    tiny(made / "model")
    return made


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / "model")


@pytest.mark.parametrize("made", [Csv(train=["rows.csv"]), Json(train=["rows.jsonl"]), Conll(train=["rows.conll"])])
def test_our_data_sets_pass(made, folder):
    check_dataset(made, folder)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_our_tasks_pass(name, folder, tokenizer):
    known = registry()
    parameters = {"data": {"csv": {"train": "rows.csv", "validation": "rows.csv"}}, **TASKS[name]}
    task = known.get("task", name).model_validate(parameters, context={"registry": known})
    check_task(task, tokenizer=tokenizer, folder=folder)


@pytest.mark.slow
def test_our_models_pass(folder):
    known = registry()
    head = Head(kind="sequence_classification", labels=("no", "yes"))
    check_model(known.get("model", "transformers")(path="./model"), head, folder)
    check_model(known.get("model", "bigru")(tokenizer="./model"), head, folder)


class Rows(Dataset):
    """Two rows."""

    name = "rows"
    fault: str = ""
    """What is wrong with it."""

    def has_split(self, split: str) -> bool:
        return split == ("test" if self.fault == "splits" else "train")

    def column_names(self, context: BuildContext) -> Any:
        return {"train": ["text"] if self.fault != "names" else ["txt"]}

    def first(self, context: BuildContext, rows: int) -> Any:
        return {"text": ["a", "b"][:rows] if self.fault != "first" else ["c"]}

    def build(self, context: BuildContext) -> Any:
        import datasets

        if self.fault == "list":
            return [{"text": "a"}]
        texts = {"none": [], "random": [str(id(object()))]}.get(self.fault, ["a", "b"])
        split = {"train": datasets.Dataset.from_dict({"text": texts})}
        return datasets.DatasetDict(split | ({"dev": split["train"]} if self.fault == "dev" else {}))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("list", "returns a list"),
        ("none", "has no rows"),
        ("dev", "there is no split `dev`"),
        ("splits", "`has_split('train')` is False"),
        ("names", "`column_names` has ['txt']"),
        ("first", "`first` gives other rows"),
    ],
)
def test_a_bad_data_set_is_told_why(fault, told):
    check_dataset(Rows())
    with pytest.raises(AssertionError) as caught:
        check_dataset(Rows(fault=fault))
    assert told in str(caught.value)


DRAWS = count()


class Line(Model):
    """One linear layer."""

    name = "line"
    fault: str = ""
    """What is wrong with it."""

    def build(self, context: Any) -> Any:
        import torch
        from torch import nn

        module = nn.Linear(2, 3 if self.fault != "skeleton" or context.weights else 4)
        if self.fault == "random":
            with torch.no_grad():
                module.bias.fill_(next(DRAWS))
        return module

    def load(self, module: Any, folder: Any) -> None:
        if self.fault != "load":
            super().load(module, folder)


@pytest.mark.parametrize(
    ("fault", "told"), [("random", "differs from time to time"), ("load", "is not what `save` has written")]
)
def test_a_bad_model_is_told_why(fault, told):
    check_model(Line())
    with pytest.raises(AssertionError) as caught:
        check_model(Line(fault=fault))
    assert told in str(caught.value)


class Own(Distiller):
    """The squared difference of logits."""

    name = "own"
    teacher: str
    """The teacher."""
    student: str
    """The student."""
    fault: str = ""
    """What is wrong with it."""

    def needs(self) -> Needs:
        reads = {model: frozenset({"logits"}) for model in (self.student, self.teacher)}
        terms = () if self.fault == "terms" else _terms()
        return Needs(student=self.student, tasks=(TaskNeeds(teachers=(self.teacher,), reads=reads, terms=terms),))

    def build(self, context: Any) -> Any:
        from kdspec import Objective

        fault, teacher = self.fault, self.teacher

        class Squared(Objective):
            steps = 0

            def forward(self, step: Any) -> dict[str, Term]:
                (mine,), (theirs,) = step.student.logits, step.teachers[teacher].logits
                self.steps += fault == "state"
                return {"squared": Term((mine.dense() - theirs.dense() - self.steps).square().mean())}

        return Squared()


def _terms() -> Any:
    from kdspec import DeclaredTerm

    return (DeclaredTerm(name="squared"),)


class Plugin:
    @hookimpl
    def kdspec_components(self) -> list[type[Component]]:
        return [Own]


SPEC = """\
kdspec: 1
name: toy
tasks: {rows: {tensors: {data: {ragged: {}}, labels: label}}}
models: {teacher: {toy: {width: 6}}, student: {toy: {dropout: 0.1}}}
adaptors:
  teacher: {logits: output.logits}
  student: {logits: output.logits, labels: batch.label}
stages:
  distil:
    distiller: {STRATEGY}
    training: {epochs: 1, batch_size: 2}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("general: {teacher: teacher, student: student}", None),
        ("supervised: {model: student}", None),
        ("own: {teacher: teacher, student: student}", None),
        ("own: {teacher: teacher, student: student, fault: state}", "is another one after a stop"),
        ("own: {teacher: teacher, student: student, fault: terms}", "the plan does not show the term `squared`"),
    ],
)
def test_strategies_are_told_what_users_would_meet(strategy, told):
    text = SPEC.replace("STRATEGY", strategy)
    if told is None:
        check_strategy(text, TOYS, Plugin(), stage="distil")
        return
    with pytest.raises(AssertionError) as caught:
        check_strategy(text, TOYS, Plugin(), stage="distil")
    assert told in str(caught.value)


class Group(Strict):
    """Parts in a list and in a mapping."""

    loss: FeatureLoss
    """A loss."""


class Holder(FeatureLoss):
    """A loss of other losses, in groups of parameters, a list and a mapping."""

    name = "holder"

    groups: list[Group] = []
    """Groups."""
    more: dict[str, FeatureLoss] = {}
    """Losses by name."""

    def build(self, context: Any) -> Any:
        raise NotImplementedError


class Inner(FeatureLoss):
    """A loss of a plugin."""

    name = "inner"

    def build(self, context: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("made", [Holder(groups=[Group(loss=Inner())]), Holder(more={"one": Inner()})])
def test_components_of_a_plugin_within_lists_and_groups_are_known(made):
    check_class(made)
