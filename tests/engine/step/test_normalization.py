"""An optimizer step does not depend on how its rows were cut into micro-batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdspec import Batch, BuiltTask
from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.engine.step.normalization import Counted, Share, Shares, masks
from kdspec.events import StepDone
from kdspec.ops.mean import Mean

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
GAPS = "tasks.rows.tensors.data.ragged.gaps=3"
OWN_LOSS = "adaptors.student.losses=output.loss"
TERMS = {
    "rows": ("soft_labels={weight: 0}", "hard_labels={weight: 0}", "matches=[{feature: hidden, loss: pkd, layers: {3: 2}}]"),
    "tokens": ("soft_labels={weight: 0}", "hard_labels={weight: 0}", "matches=[{feature: hidden, loss: cos, layers: {3: 2}}]"),
    "pairs": ("soft_labels={weight: 0}", "hard_labels={weight: 0}", "matches=[{feature: hidden, loss: mmd, layers: {0: 0}}]"),
    "labels": ("soft_labels={loss: ce}", "hard_labels={weight: 0}", "matches=[]"),
    "labelled": ("soft_labels={weight: 0}", "hard_labels={weight: 1}", "matches=[]"),
    "all of them": (),
}  # fmt: skip


def cut(rows, accumulate):
    return (f"{TRAINING}.batch_size={rows}", f"{TRAINING}.accumulate={accumulate}")


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
def test_micro_batches_train_as_one_batch_does(terms, launch, same):
    """Ragged masks, rows without labels, and a remainder: 11 rows are steps of 8 and 3."""
    changes = [f"{GENERAL}.{term}" for term in terms]
    whole = launch(*changes, GAPS, *cut(8, 1), folder="whole")
    parts = launch(*changes, GAPS, *cut(2, 4), folder="parts")
    assert same.close(whole.weights, parts.weights)
    assert same.close(whole.checkpoint(4), parts.checkpoint(4))
    for one, other in zip(whole.of(StepDone), parts.of(StepDone), strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-12)
        assert one.terms == pytest.approx(other.terms, abs=1e-12)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-10)
        assert (one.rows, one.tokens) == (other.rows, other.tokens)


def test_a_models_own_loss_counts_the_rows_with_labels(launch, same):
    """A micro-batch without any is left out: its own loss would be the mean of nothing, NaN."""
    gaps = ("tasks.rows.tensors.data.ragged={train: 9, gaps: 3}", f"{TRAINING}.shuffle=false")
    whole = launch(OWN_LOSS, *gaps, *cut(9, 1), folder="whole")
    parts = launch(OWN_LOSS, *gaps, *cut(1, 9), folder="parts")
    assert same.close(whole.weights, parts.weights)


def test_a_step_without_any_labels_learns_what_else_there_is(launch):
    ran = launch(OWN_LOSS, "tasks.rows.tensors.data.ragged.gaps=1")
    assert all(step.terms["hard_labels"] == 0 for step in ran.of(StepDone))
    assert ran.of(StepDone)[0].grad_norm > 0


def test_the_mean_of_means_depends_on_the_split(launch, same):
    mode = f"{TRAINING}.normalize=micro_batch"
    whole = launch(mode, GAPS, *cut(8, 1), folder="whole")
    parts = launch(mode, GAPS, *cut(2, 4), folder="parts")
    assert not same.close(whole.weights, parts.weights, 1e-6)
    assert same.bits(whole.weights, launch(GAPS, *cut(8, 1), folder="step").weights)


def test_the_mean_of_means_is_that_of_the_micro_batches(launch):
    ran = launch(f"{TRAINING}.normalize=micro_batch", GAPS, *cut(2, 4))
    for step in ran.of(StepDone):
        assert step.loss == pytest.approx(sum(step.micro_losses) / len(step.micro_losses), abs=1e-12)


def test_no_row_is_dropped_at_the_end_of_an_epoch(launch):
    assert [step.rows for step in launch().of(StepDone)] == [4, 4, 3, 4, 4, 3]


def test_a_term_of_weight_0_for_now_waits(launch):
    """A growing weight begins with 0: then there may be nothing to learn in the first step."""
    ran = launch(
        f"{GENERAL}.soft_labels.weight=linear_growth", f"{GENERAL}.hard_labels.weight=0", f"{GENERAL}.matches=[]"
    )
    first, second, *_ = ran.of(StepDone)
    assert (first.terms, first.loss, first.grad_norm) == ({}, 0.0, 0.0)
    assert second.terms.keys() == {"soft_labels"}


def feature(name, path):
    return Feature(name=name, paths=(parse(path),), several=False)


def count(batch, features):
    class Rows(BuiltTask):
        def rows(self, split):
            return 0

        def encode(self, split, readers):
            return []

        def collate(self, rows, reader):
            return batch

    return Rows().units(batch, masks(batch, features))


def test_units_are_counted_in_the_inputs():
    batch = Batch(
        inputs={"": {"ids": torch.zeros(2, 3), "mask": torch.tensor([[2, 1, 0], [1, 0, 0]])}},
        targets={"label": torch.tensor([[1, -100, 0], [-100, -100, 2]])},
        rows=range(2),
    )
    named = {"inputs_mask": feature("inputs_mask", "batch.mask"), "logits_mask": feature("logits_mask", "batch.mask")}
    assert count(batch, named) == {"rows": 2, "labels": 3, "labelled": 3, "tokens": 3, "pairs": 5}
    assert count(batch, {}) == {"rows": 2, "labels": 6, "labelled": 3, "tokens": 6, "pairs": 18}
    assert count(Batch(inputs={"": {"x": torch.zeros(4)}}, rows=range(4)), {})["labelled"] == 4


def test_labels_that_are_values_are_all_there():
    batch = Batch(inputs={}, targets={"label": torch.tensor([0.5, -100.0])}, rows=range(2))
    assert count(batch, {})["labelled"] == 2


def test_a_plain_tensor_counts_by_rows():
    counts = [dict.fromkeys(("rows", "labels", "labelled", "tokens", "pairs"), number) for number in (1.0, 3.0)]
    shares = Shares([Counted("rows", each) for each in counts], "step")
    assert [shares.of(torch.ones(()), micro) for micro in (0, 1)] == [Share(0.25, 0.25), Share(0.75, 0.75)]
    assert shares.of(Mean(torch.ones(()), 2.0, "tokens"), 1).of_step == 0.75


UNITS = ("rows", "labels", "labelled", "tokens", "pairs")


def units(**given):
    return {unit: float(given.get(unit, given.get("rows", 0))) for unit in UNITS}


def test_a_row_of_one_task_is_never_weighed_against_a_word_of_another():
    """Two micro-batches of 4 rows each, and two of 40 words: every task has half of the step."""
    counts = [Counted("topics", units(rows=4)), Counted("names", units(rows=4, labelled=38))]
    counts += [Counted("topics", units(rows=4)), Counted("names", units(rows=4, labelled=42))]
    shares = Shares(counts, "step", of_tasks={"topics": 0.5, "names": 0.5})
    found = [shares.of(Mean(torch.ones(()), 1.0, "labelled"), micro) for micro in range(4)]
    assert [share.of_task for share in found] == [0.5, 38 / 80, 0.5, 42 / 80]
    assert [share.of_step for share in found] == [0.25, 0.5 * (38 / 80), 0.25, 0.5 * (42 / 80)]


TASKS = st.sampled_from(["a", "b", "c"])
COUNTS = st.fixed_dictionaries({unit: st.integers(0, 50) for unit in UNITS})


@given(step=st.lists(st.tuples(TASKS, COUNTS), min_size=1, max_size=8), mode=st.sampled_from(["step", "micro_batch"]))
def test_shares_of_a_task_sum_to_its_share_of_the_step(step, mode):
    counts = [Counted(*each) for each in step]
    tasks = [task for task, _ in step]
    of_tasks = {task: tasks.count(task) / len(tasks) for task in tasks}
    shares = Shares(counts, mode, of_tasks=of_tasks)
    for unit in UNITS:
        loss = Mean(torch.ones(()), 1.0, unit)
        for task, part in of_tasks.items():
            own = [micro for micro, each in enumerate(counts) if each.task == task]
            found = [shares.of(loss, micro) for micro in own]
            some = [micro for micro in own if counts[micro].units[unit]]
            assert shares.counts_anywhere(loss, own[0]) == bool(some)
            whole = float(bool(some)) if mode == "step" else len(some) / len(own)
            assert sum(share.of_task for share in found) == pytest.approx(whole)
            assert sum(share.of_step for share in found) == pytest.approx(whole * part)


def test_ranks_have_the_shares_of_one_process():
    counts = [Counted(task, units(rows=rows)) for task, rows in (("a", 4), ("b", 3), ("a", 2), ("b", 0))]
    own = [counts[:2], counts[2:]]
    of_tasks = {"a": 2 / 3, "b": 1 / 3}
    together = Shares(counts, "step", of_tasks=of_tasks)
    for rank, there in enumerate(own):
        shares = Shares(there, "step", everywhere=counts[:3], of_tasks=of_tasks)
        for micro in (0, 1):
            assert shares.of(torch.ones(()), micro) == together.of(torch.ones(()), 2 * rank + micro)


def test_labels_with_nan_are_counted_without_it():
    labels = torch.tensor([[0.0, 1.0], [1.0, torch.nan], [torch.nan, torch.nan]])
    counted = count(Batch(inputs={"": {"x": torch.zeros(3, 2)}}, targets={"labels": labels}, rows=range(3)), {})
    assert (counted["rows"], counted["labels"], counted["labelled"]) == (3, 3, 3)
