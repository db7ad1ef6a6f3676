"""Losses between embeddings that compare the rows of a step: the same value and gradient however the step is cut.

One micro-batch of 64 rows, four of 16, lanes, and two processes of 32 rows, in float32, with and without dropout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdspec.api.kinds.losses import FeatureLoss
from kdspec.engine.batches import sampler
from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.event_log import read
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.step import training_loop
from kdspec.engine.step.normalization import Counted, Shares
from kdspec.engine.step.training_loop import DrawnStep
from kdspec.engine.step.whole_step import joined, over_whole_step
from kdspec.events import StepDone
from kdspec.testing import run, tiny

HERE = Path(__file__).parent
TRAINING = "stages.distil.training"
ROWS, STEPS, TOLERANCE = 64, 4, 1e-6
ROUNDING = 1e-7
"""Of a loss in float32: `similarity_kl` is a small difference of logarithms, each rounded in its seventh digit."""
SPEC = """\
kdspec: 1
name: toy
seed: 3
tasks: {rows: {tensors: {data: {ragged: {train: 256}}, labels: label}}}
models:
  teacher: {toy: {width: 6, depth: 3, single: true}}
  student: {toy: {single: true}}
adaptors:
  teacher: {embedding: output.embedding}
  student: {embedding: output.embedding, inputs_mask: batch.mask}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {weight: 0}
        matches: [{feature: embedding, loss: LOSS}]
    training: {steps: 4, batch_size: 64, optimizer: {sgd: {lr: 0.1}}, evaluate: null, log_every: 1}
"""
LOSSES = {
    "similarity_mse": "similarity_mse",
    "similarity_kl": "similarity_kl",
    "similarity_kl with the diagonal": "{similarity_kl: {temperature: 2.0, diagonal: true}}",
    "contrastive": "contrastive",
    "contrastive with a queue": "{contrastive: {queue: 150}}",
    "triplet_order": "triplet_order",
    "cosent": "cosent",
    "matryoshka": "{matryoshka: {loss: {contrastive: {queue: 150}}, widths: [3, 6], weights: [0.5, 1.0]}}",
    "matryoshka of similarities": "{matryoshka: {loss: similarity_mse, widths: [2, 4]}}",
}
"""Every loss of the scope `step`; the queues have the vectors of two steps of 64 rows."""
BACKENDS = [(loss, "ddp") for loss in LOSSES] + [(loss, "fsdp") for loss in ("contrastive with a queue", "matryoshka")]
"""Losses with the backends of two processes; FSDP2 is tried with those that have a state."""
DROPOUT = ("models.student.toy.dropout=0.3",)


def cut(rows, accumulate, *more):
    return (f"{TRAINING}.batch_size={rows}", f"{TRAINING}.accumulate={accumulate}", *more)


def of(loss):
    return SPEC.replace("LOSS", LOSSES[loss])


@pytest.fixture
def begun(session):
    """A stage ready to run."""

    def made(loss, *sets):
        at = session(*sets, text=of(loss))
        task = built(at.plan, "rows")
        setup = StageSetup(
            plan=at.plan, stage=at.plan.stages[0], registry=at.registry, models=Models(at.plan, {"rows": task.head}, {}),
            tasks={"rows": task}, folder=RunFolder(at.plan.source.folder / "begun"), backend=SingleProcess("cpu"),
        )  # fmt: skip
        loop = build_stage(setup, 1, warn=print).loop
        loop.trainable.train()
        return loop

    return made


def taken(loop, step):
    """The value of the loss in a step and the gradient of all that is trained, as the engine computes them."""
    drawn = loop._draw(step)
    shares = Shares([Counted(each.task, each.units) for each in drawn], "step")
    known, whole = over_whole_step(loop, step, drawn, shares.of_tasks)
    trained = [each for each in loop.trainable.parameters() if each.requires_grad]
    for each in trained:
        each.grad = None
    loop._one_by_one(DrawnStep(number=step, drawn=drawn, shares=shares, teacher_features=known, whole=whole))
    (term,) = whole.values()
    return term.value, torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained]
    )


def in_one_graph(loop, step):
    """The same by one graph over all micro-batches, each with its own random numbers."""
    drawn = loop._draw(step)
    features = [loop.teacher_features(step, micro, each) for micro, each in enumerate(drawn)]
    ats = [loop.at(step, micro, each, None, features[micro]) for micro, each in enumerate(drawn)]
    objective = loop.trainable.objective
    views = [next(iter(objective.views(at).values())) for at in ats]
    student = torch.cat([view.student[0] for view in views])
    value = objective.step_matches["0"].loss(student, joined(views).teacher[0], mask=None)
    trained = [each for each in loop.trainable.parameters() if each.requires_grad]
    found = torch.autograd.grad(value, trained, allow_unused=True, materialize_grads=True)
    return value.detach(), torch.cat([each.flatten() for each in found])


def assert_same(one, other):
    """The gradients by their distance: float32 has seven digits of their largest numbers."""
    torch.testing.assert_close(one[0], other[0], rtol=TOLERANCE, atol=TOLERANCE)
    assert (one[1] - other[1]).norm() <= TOLERANCE * one[1].norm()


def test_every_loss_over_a_step_is_here(shared_registry):
    found = {
        entry.component for entry in shared_registry.of_kind("feature_loss") if entry.component.feature == "embedding"
    }
    steps = {each.name for each in found if issubclass(each, FeatureLoss) and each.scope == "step"}
    assert {name.split()[0] for name in LOSSES} == {*steps, "matryoshka"}


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_one_micro_batch_and_four_have_the_same_value_and_gradient(loss, begun):
    whole, parts = begun(loss, *cut(ROWS, 1)), begun(loss, *cut(16, 4))
    for step in range(STEPS):
        one = taken(whole, step)
        assert_same(one, taken(parts, step))
        assert one[1].any()


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cuts", [(ROWS, 1), (16, 4)], ids=["one of 64 rows", "four of 16 rows"])
def test_with_dropout_value_and_gradient_are_those_of_one_graph_over_the_step(loss, cuts, begun):
    replayed, reference = begun(loss, *cut(*cuts, *DROPOUT)), begun(loss, *cut(*cuts, *DROPOUT))
    for step in range(STEPS):
        one = taken(replayed, step)
        assert_same(one, in_one_graph(reference, step))
        assert one[1].any()


@pytest.mark.slow
def test_dropout_matters_in_these_tests(begun):
    plain, dropped = (taken(begun("cosent", *cut(16, 4, *more)), 0) for more in ((), DROPOUT))
    assert (plain[1] - dropped[1]).abs().max() > 100 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["contrastive with a queue", "triplet_order"])
def test_lanes_change_nothing(loss, launch, same):
    one = launch(*cut(16, 4), folder="one", text=of(loss))
    lanes = launch(*cut(16, 4, f"{TRAINING}.lanes=2"), folder="lanes", text=of(loss))
    assert same.close(one.checkpoint(STEPS), lanes.checkpoint(STEPS), TOLERANCE)
    for mine, other in zip(one.of(StepDone), lanes.of(StepDone), strict=True):
        assert mine.terms == pytest.approx(other.terms, rel=TOLERANCE, abs=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["contrastive with a queue", "matryoshka"])
def test_a_run_with_a_queue_resumes_bit_for_bit(loss, session, launch, same, toys):
    whole = launch(*cut(16, 4, *DROPOUT), folder="whole", text=of(loss))
    with pytest.raises(Interrupted):
        session(*cut(16, 4, *DROPOUT), folder="parts", text=of(loss), plugins=[toys.StopAt(3)]).run()
    resumed = launch(*cut(16, 4, *DROPOUT), folder="parts", text=of(loss))
    assert same.bits(whole.checkpoint(STEPS), resumed.checkpoint(STEPS))
    queues = [tensor for name, tensor in resumed.checkpoint(STEPS).items() if name.endswith(".steps")]
    assert queues
    for steps in queues:
        assert sorted(set(steps.tolist())) == [0, 3, 4]
        assert (steps > 0).sum() == 2 * ROWS


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes of 32 rows each come to, by loss and backend, with and without dropout."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs = [
        {"text": of(loss), "output": f"{loss}, {backend}, {len(more)}", "sets": cut(32, 1, *more), "backend": backend}
        for loss, backend in BACKENDS
        for more in ((), DROPOUT)
    ]
    (folder / "starts.json").write_text(json.dumps([{"folder": str(folder / "two"), "world": 2, "jobs": jobs}]))
    subprocess.run([sys.executable, str(HERE / "ranks.py"), str(folder / "starts.json")], check=True, timeout=600)
    told = (path.read_text() for path in sorted((folder / "two").glob("errors-*.txt")))
    assert json.loads((folder / "two" / "codes.json").read_text()) == [0, 0], "\n".join(told)
    return folder / "two"


def left(folder):
    """The weights with projections and queues, and the values of the loss."""
    return load_file(next(folder.glob("checkpoints/distil/*4/weights.safetensors"))), terms_of(folder)


def terms_of(folder):
    """The values of the loss in each step."""
    return [record.event.terms for record in read(folder / "events.jsonl") if isinstance(record.event, StepDone)]


def ordered(weights):
    """The rows of queues in one order: their order within a step is that of the cut."""
    return {name: each.sort(0).values if name.endswith("vectors") else each for name, each in weights.items()}


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), DROPOUT], ids=["without dropout", "with dropout"])
@pytest.mark.parametrize(("loss", "backend"), BACKENDS)
def test_two_processes_of_32_rows_have_the_values_and_weights_of_one(
    loss, backend, more, two, launch, same, monkeypatch
):
    """With dropout, one process takes the random numbers of two: those of micro-batch n are those of process n."""
    if more:
        for module in (training_loop, sampler):
            reseed = module.reseed
            monkeypatch.setattr(module, "reseed", lambda seed, step, micro, _, of=reseed: of(seed, step, 0, micro))
    alone = launch(*cut(32, 2, *more) if more else cut(ROWS, 1), text=of(loss))
    weights, terms = left(two / f"{loss}, {backend}, {len(more)}" / "toy")
    expected, expected_terms = left(alone.folder)
    for one, other in zip(terms, expected_terms, strict=True):
        assert one == pytest.approx(other, rel=TOLERANCE, abs=ROUNDING)
    assert same.close(ordered(weights), ordered(expected), TOLERANCE)


TEXTS = """\
kdspec: 1
name: texts
tasks: {sentences: {embedding: {data: {csv: {train: rows.csv}}, text: sentence}}}
models:
  teacher: {transformers: {path: ./teacher}}
  student: {transformers: {path: ./student, tokenizer: teacher}}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: LOSS}]}
    training: {steps: 2, batch_size: 64, optimizer: {sgd: {lr: 0.1}}, evaluate: null, log_every: 1}
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two transformers models without dropout, and texts of 1 to 9 words."""
    folder = tmp_path_factory.mktemp("texts")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
    tiny(folder / "teacher", layers=2, width=24, heads=4, seed=1, **still)
    tiny(folder / "student", layers=1, width=16, heads=4, seed=2, **still)
    words = ["a", "good", "film", "dull", "very", "bad", "indeed", "nice", "plot", "thin", "and", "long"]
    rows = [
        " ".join(words[(3 * row + 5 * at + row * at) % len(words)] for at in range(1 + row % 9)) for row in range(128)
    ]
    (folder / "rows.csv").write_text("\n".join(["sentence", *rows, ""]))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["similarity_kl", "contrastive with a queue", "triplet_order", "cosent"])
def test_texts_sorted_by_length_into_micro_batches_have_the_value_and_gradient_of_one_batch(
    loss, texts, tmp_path, same
):
    text, found = TEXTS.replace("LOSS", LOSSES[loss]), []
    for rows, accumulate in ((64, 1), (16, 4)):
        result = run(text, tmp_path / str(rows), folder=texts, sets=cut(rows, accumulate))
        found.append((load_file(result.folder / "student" / "model.safetensors"), terms_of(result.folder)))
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one == pytest.approx(other, rel=TOLERANCE, abs=ROUNDING)
    assert same.close(found[0][0], found[1][0], TOLERANCE)
