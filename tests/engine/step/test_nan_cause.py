"""What a loss that is not finite comes from, and that the advice is about it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdspec import LogitLoss, Model
from kdspec.diagnostics.finding import FindingError

GENERAL, TRAINING = "stages.distil.distiller.general", "stages.distil.training"
PLAIN = (f"{GENERAL}.matches=[]", f"{TRAINING}.teacher_cache=off")
SLOWER = "lower the learning rate or clip the gradient"


class Spoilt(Model):
    """A classifier on numbers; something in it is not finite."""

    name = "spoilt"
    weight: float = 1.0
    """Of the embedding of one token."""
    factor: float = 1.0
    """Of its logits."""
    nan: bool = False
    """Whether its logits are NaN for rows with one token, its weights aside."""
    flat: bool = False
    """Whether it gives one number a row."""

    def build(self, context: Any) -> Any:
        weight, factor, nan, flat = self.weight, self.factor, self.nan, self.flat

        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.emb = nn.Embedding(11, 5)
                self.out = nn.Linear(5, 5)
                with torch.no_grad():
                    self.emb.weight.fill_(0.5)[3, 2] = float("nan") if weight == 2 else weight

            def forward(self, ids, mask, label=None, given=None):
                logits = factor * self.out(self.emb(ids).mean(1))
                logits = logits if given is None else logits + given.mean()
                if flat:
                    return {"logits": logits[:, 0]}
                return {"logits": logits.masked_fill((mask.sum(1) == 1)[:, None] & nan, float("nan"))}

        return Module().float()


class Odd(LogitLoss):
    """A loss with a fault at the n-th call."""

    name = "odd"
    at: int = 1
    """In which call, counted from 1."""
    root: bool = False
    """Whether only the gradient is not finite."""

    def build(self, context: Any) -> Any:
        calls = iter(range(1, 10**6))

        def loss(student, teacher, *, temperature):
            value = (student - teacher.detach()).square().mean()
            if next(calls) < self.at:
                return value
            return value + (0 * value).sqrt() if self.root else value * float("nan")

        return loss


@pytest.fixture
def found(session):
    """The finding of a run with the toy student and these changes."""

    def run(*sets, plugins=(Spoilt, Odd)):
        with pytest.raises(FindingError) as caught:
            session(*PLAIN, *sets, plugins=list(plugins)).run()
        (finding,) = caught.value.findings
        assert finding.code == "KD501"
        return finding

    return run


def spoilt(model="teacher", **settings):
    given = ", ".join(f"{key}: {value}" for key, value in settings.items())
    return f"models.{model}={{spoilt: {{{given}}}}}", f"adaptors.{model}={{logits: output.logits, labels: batch.label}}"


def test_a_teacher_with_a_weight_of_nan_needs_other_weights(found):
    made = found(*spoilt(weight=2))
    assert made.at == ("models", "teacher")
    assert [mark.at for mark in made.also] == [("stages", "distil", "distiller", "general", "soft_labels")]
    assert "the weight `emb.weight` of teacher `teacher` is not finite" in made.notes
    assert (
        made.help == "give `teacher` other weights: stage `distil` does not train it, so no setting of the stage helps"
    )


def test_with_other_weights_of_the_teacher_it_runs(launch):
    assert launch(*PLAIN, *spoilt(weight=1), plugins=[Spoilt]).result.table


def test_a_teacher_of_finite_weights_that_gives_nan_leads_to_the_rows(found):
    made = found(*spoilt(nan="true"))
    assert made.at == ("models", "teacher")
    assert "`logits` of teacher `teacher` has NaN" in made.notes
    assert "its weights are finite" in made.help
    assert "saved batch" in made.help


def test_a_teacher_that_overflows_in_half_precision_needs_a_wider_one(found, launch):
    sets = (*spoilt(factor=1e9), f"{GENERAL}.soft_labels={{loss: kl, temperature: 1}}")
    made = found(*sets, f"{TRAINING}.teacher_precision=fp16")
    assert "`logits` of teacher `teacher` has" in " ".join(made.notes)
    assert made.help.startswith("set `teacher_precision: fp32`: numbers above 65,504 overflow in `fp16`")
    assert launch(*PLAIN, *sets, f"{TRAINING}.teacher_precision=fp32", plugins=[Spoilt]).result.table


def test_a_student_that_begins_with_nan_needs_other_weights(found):
    made = found(*spoilt("student", weight=2), "models.teacher={toy: {single: true}}")
    assert made.at == ("models", "student")
    assert "the weight `emb.weight` of `student` is not finite from the start" in made.notes
    assert made.help == "give `student` other weights"
    assert not any("checkpoint" in note for note in made.notes)


def test_weights_that_have_become_infinite_are_of_an_earlier_step(found, launch):
    optimizer = f"{TRAINING}.optimizer"
    sgd = (
        f"{optimizer}={{sgd: {{lr: 10000}}}}",
        f"{TRAINING}.max_grad_norm=null",
        "models.student={toy: {single: true}}",
    )
    sets = (*sgd, "models.teacher={toy: {single: true}}", f"{GENERAL}.soft_labels={{loss: mse, weight: 1e9}}")
    made = found(*sets, f"{TRAINING}.epochs=40")
    assert made.help.startswith(SLOWER)
    assert "step 1 " not in made.message
    calm = (
        *sets[:-1],
        f"{GENERAL}.soft_labels={{loss: mse}}",
        f"{optimizer}={{sgd: {{lr: 0.01}}}}",
        f"{TRAINING}.max_grad_norm=1",
    )
    assert launch(*PLAIN, *calm, f"{TRAINING}.epochs=4").result.table


def test_a_loss_that_fails_on_finite_outputs_is_to_blame_and_not_the_learning_rate(found):
    made = found(f"{GENERAL}.soft_labels={{loss: odd}}")
    assert made.at == ("stages", "distil", "distiller", "general", "soft_labels")
    assert "the outputs of the models are finite" in made.notes
    assert made.help.startswith("look at the loss of the term")


def test_a_loss_without_a_finite_gradient_in_the_first_step_is_to_blame(found):
    made = found(f"{GENERAL}.soft_labels={{loss: {{odd: {{root: true}}}}}}")
    assert made.message.startswith("the gradient of the term `soft_labels` is not finite in step 1")
    assert (
        made.help == "the loss of `soft_labels` has no finite gradient here, as a root has none at 0: take another loss"
    )


def test_a_gradient_of_a_later_step_may_be_one_of_the_learning_rate(found):
    made = found(f"{GENERAL}.soft_labels={{loss: {{odd: {{root: true, at: 9}}}}}}")
    assert made.help.startswith(SLOWER)


@pytest.mark.parametrize("column", ["given", "label"])
def test_nan_in_the_rows_is_named_with_its_rows(found, tmp_path, column):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 6
    columns = {
        "ids": [[n % 5, 2] for n in range(rows)],
        "mask": [[1, 1]] * rows,
        "given": [0.5] * rows,
        "label": [1.0] * rows,
    }
    columns[column][4] = float("nan")
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    sets = (
        "tasks.rows={tensors: {data: {parquet: {train: rows.parquet}}, labels: label}}",
        *spoilt("student", flat="true"), *spoilt("teacher", flat="true"), f"{GENERAL}.soft_labels.weight=0", f"{TRAINING}.shuffle=false",
    )  # fmt: skip
    made = found(*sets)
    assert made.at == ("tasks", "rows")
    assert f"`{column}` has NaN in the rows 4, counted from 0" in made.notes
    assert made.help.startswith("correct these rows in the data")
