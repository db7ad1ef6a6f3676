"""Negatives from the whole step: the loss and its gradient do not depend on micro-batches, lanes or processes."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.event_log import read
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.session import Session
from kdspec.engine.step.normalization import Counted, Shares
from kdspec.engine.step.training_loop import DrawnStep
from kdspec.engine.step.whole_step import over_whole_step
from kdspec.events import StepDone
from kdspec.planning.micro_batching import batches
from kdspec.planning.prepare import prepare
from kdspec.source.extends import compose
from kdspec.testing import plan, registry, tiny

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "shared" / "ranking_models.py"
SPEC = """\
kdspec: 1
name: negatives
tasks:
  search:
    ranking:
      data: {json: {train: rows.jsonl}}
      documents: [pos, neg]
      positives: pos
      negatives: step
models: {student: {two_towers: {}}}
stages:
  train:
    distiller: {supervised: {model: student}}
    training: {steps: 2, batch_size: 64, optimizer: {sgd: {lr: 0.5}}, evaluate: null, log_every: 1}
"""
TRAINING = "stages.train.training"
ROWS = 64


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Rows of which some name the same documents, have the same query, or have no positive."""
    folder = tmp_path_factory.mktemp("negatives")
    tiny(folder / "letters", layers=1, width=4)
    letters = "abcdefgh"
    rows = [
        {
            "query": letters[n % 8] + letters[n // 8 % 7],
            "pos": None if n % 9 == 4 else letters[n % 5 : n % 5 + 3] + letters[n % 7],
            "neg": [letters[(n + k) % 8] * (1 + n % 3) for k in range(1 + n % 3)],
        }
        for n in range(ROWS)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def known():
    return registry(PLUGIN)


@pytest.fixture
def ran(home, known, tmp_path):
    """Runs the spec with changes, and gives the steps and the weights."""

    def run(name, *sets):
        Session(plan(SPEC, known, folder=home, sets=sets), known, output=tmp_path / name, device="cpu").run()
        return left(tmp_path / name)

    return run


def left(output):
    """The steps of a run, and the weights that it came to."""
    steps = [each.event for each in read(output / "negatives" / "events.jsonl") if isinstance(each.event, StepDone)]
    return steps, load_file(output / "negatives" / "student" / "model.safetensors")


def cut(batch_size, accumulate):
    return f"{TRAINING}.batch_size={batch_size}", f"{TRAINING}.accumulate={accumulate}"


def same(one, other, tolerance=1e-6):
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert theirs.terms == pytest.approx(mine.terms, rel=tolerance)
        assert theirs.loss == pytest.approx(mine.loss, rel=tolerance)
    assert one[1].keys() == other[1].keys()
    for name, weights in one[1].items():
        torch.testing.assert_close(other[1][name], weights, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cuts", [(16, 4), (8, 8)])
def test_micro_batches_change_nothing(cuts, ran):
    whole = ran("whole")
    same(whole, ran("parts", *cut(*cuts)))
    assert whole[0][0].terms.keys() == {"hard_labels"}


def test_lanes_change_nothing(ran):
    same(ran("one", *cut(16, 4)), ran("lanes", *cut(16, 4), f"{TRAINING}.lanes=2"))


def test_negatives_of_a_micro_batch_depend_on_it(ran):
    alone = "tasks.search.ranking.negatives=micro_batch"
    whole, parts = ran("whole", alone), ran("parts", alone, *cut(8, 8))
    assert parts[0][0].loss < whole[0][0].loss
    same(whole, ran("step"))


@pytest.mark.parametrize("similarity", ["cos", "dot", "maxsim"])
def test_micro_batches_change_nothing_for_a_transformers_model(similarity, ran):
    still = "config: {hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}"
    scale = 1 if similarity == "dot" else 5
    model = (
        f"{{like: towers, reads: each, similarity: {similarity}, scale: {scale}, initialize: {{layers: [0]}}, {still}}}"
    )
    sets = [
        "models.towers={transformers: {path: letters, reads: each}}",
        f"models.student={{transformers: {model}}}",
        f"{TRAINING}.optimizer={{sgd: {{lr: 0.01}}}}",
    ]
    same(ran("whole", *sets), ran("parts", *sets, *cut(16, 4)), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_two_processes_come_to_the_same(backend, ran, home, tmp_path):
    job = {"text": SPEC, "sets": cut(16, 2), "output": f"two-{backend}", "backend": backend}
    start = {"folder": str(home), "world": 2, "jobs": [job]}
    (tmp_path / "starts.json").write_text(json.dumps([start]))
    subprocess.run([sys.executable, str(HERE / "ranks.py"), str(tmp_path / "starts.json")], check=True, timeout=600)
    assert json.loads((home / "codes.json").read_text()) == [0, 0], [*map(Path.read_text, home.glob("errors-*.txt"))]
    same(ran("one", *cut(16, 4)), left(home / f"two-{backend}"))


def test_with_dropout_the_gradient_is_that_of_one_graph_over_the_step(home, known, tmp_path):
    """The reference keeps the graphs of all micro-batches, each with its own random numbers."""
    made = plan(SPEC, known, folder=home, sets=[*cut(16, 4), "models.student.two_towers.dropout=0.4"])
    task = built(made, "search")
    loop = build_stage(
        StageSetup(
            plan=made, stage=made.stages[0], registry=known, models=Models(made, {"search": task.head}, {}),
            tasks={"search": task}, folder=RunFolder(tmp_path), backend=SingleProcess("cpu"),
        ), 1, warn=print,
    ).loop  # fmt: skip
    loop.trainable.train()
    drawn = loop._draw(0)
    ats = [loop.at(0, micro, each, None, loop.teacher_features(0, micro, each)) for micro, each in enumerate(drawn)]
    views = [loop.trainable.objective.views(at)["hard_labels"] for at in ats]
    value = reference(views)
    weights = [p for p in loop.trainable.parameters() if p.requires_grad]
    expected = torch.autograd.grad(value, weights, allow_unused=True)
    shares = Shares([Counted(each.task, each.units) for each in drawn], "step")
    features, whole = over_whole_step(loop, 0, drawn, shares.of_tasks)
    loop._one_by_one(DrawnStep(number=0, drawn=drawn, shares=shares, teacher_features=features, whole=whole))
    torch.testing.assert_close(whole["hard_labels"].value, value.detach(), rtol=1e-10, atol=0)
    for weight, gradient in zip(weights, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-8, atol=1e-12)
    assert any(gradient is not None and gradient.any() for gradient in expected)


def reference(views):
    """The loss of all rows, one by one, from the graphs of all micro-batches."""
    queries = torch.cat([view.student[0] for view in views])
    vectors = torch.cat([view.student[1] for view in views])
    numbers = [*chain.from_iterable(view.teacher[0].tolist() for view in views)]
    place = {number: numbers.index(number) for number in numbers}
    positives, known = (
        [[each for each in row if each] for view in views for row in view.teacher[side].tolist()] for side in (1, 2)
    )
    losses = []
    for query, right, never in zip(queries, positives, known, strict=True):
        negatives = [place[number] for number in place if number not in {*right, *never}]
        if right:
            ones = [vectors[[place[number], *negatives]] @ query for number in right]
            losses.append(torch.stack([functional.cross_entropy(one, torch.tensor(0)) for one in ones]).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("negatives", "split"), [("none", True), ("step", True), ("micro_batch", False)])
def test_batches_are_split_by_length_where_that_changes_nothing(negatives, split, home, known):
    made = plan(SPEC, known, folder=home, sets=[f"tasks.search.ranking.negatives={negatives}"])
    found = batches(made, made.stages[0].tasks["search"])
    assert found.splits == split
    assert ("`ranking` may compute on several rows together" in found.why) != split


def test_what_runs_a_student_otherwise_the_second_time_is_refused(home, known):
    found = prepare(compose(SPEC, "spec", home, [f"{TRAINING}.precision=fp16"], {}), known)
    (error,) = found.errors
    assert error.code == "KD516"
    assert [mark.at for mark in error.also] == [("tasks", "search")]


def test_a_student_that_reads_pairs_is_refused(home, known):
    (error,) = prepare(compose(SPEC, "spec", home, ["models.student.two_towers.pairs=true"], {}), known).errors
    assert (error.code, error.at) == ("KD313", ("tasks", "search", "ranking", "negatives"))
    without = ["models.student.two_towers.pairs=true", "tasks.search.ranking.negatives=none"]
    assert not prepare(compose(SPEC, "spec", home, without, {}), known).errors


def test_another_student_of_the_task_may_read_pairs(home, known, tmp_path):
    """A cross-encoder has the negatives of its rows, and a bi-encoder those of the step."""
    training = "{steps: 1, batch_size: 64, optimizer: {sgd: {lr: 0.5}}, evaluate: null, log_every: 1}"
    sets = [
        "models.cross={two_towers: {pairs: true}}",
        f"stages.first={{distiller: {{supervised: {{model: cross}}}}, training: {training}}}",
    ]
    Session(plan(SPEC, known, folder=home, sets=sets), known, output=tmp_path / "both", device="cpu").run()
    events = read(tmp_path / "both" / "negatives" / "events.jsonl")
    losses = {each.event.stage: each.event.loss for each in events if isinstance(each.event, StepDone)}
    alone = [*sets, "tasks.search.ranking.negatives=none"]
    Session(plan(SPEC, known, folder=home, sets=alone), known, output=tmp_path / "alone", device="cpu").run()
    events = read(tmp_path / "alone" / "negatives" / "events.jsonl")
    without = {each.event.stage: each.event.loss for each in events if isinstance(each.event, StepDone)}
    assert losses["first"] == without["first"]
    assert losses["train"] > without["train"]
