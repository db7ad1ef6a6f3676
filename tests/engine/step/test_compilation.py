"""Layers that `torch.compile` has: the numbers of a run without it, layer by layer, or a note why not."""

from __future__ import annotations

import functools
import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdspec import Distiller, FeatureLoss, Needs, Objective, TaskNeeds, Term
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.step.compilation import Compilation, parts
from kdspec.events import CacheState, StepDone
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: texts
tasks:
  texts:
    sequence_classification:
      data: {json: {train: rows.jsonl, validation: rows.jsonl}}
      text: text
      label: label
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {path: student, tokenizer: teacher}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        hard_labels: {weight: 0.5}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {2: 1}, projection: linear}
    training: {steps: 2, batch_size: 4, optimizer: {adamw: {lr: 0.01}}, log_every: 1, evaluate: null, compile: true}
"""
TRAINING = "stages.distil.training"
MATCHES = "stages.distil.distiller.general.matches"
PLAIN = f"{TRAINING}.compile=false"
NEVER = f"{TRAINING}.teacher_cache=off"
WORDS = ("a good film", "dull", "the plot was thin, and long", "nice", "very bad indeed", "good", "so so so so", "x y")
ON_A_CPU = "stage `distil`: a CPU is seldom faster with `compile: true`; compare the speed with and without it"


class Endless(FeatureLoss):
    """A loss with a finite value and a NaN gradient."""

    name = "endless"

    def build(self, context):
        return lambda student, teacher, *, mask: (student - student.detach()).abs().sqrt().sum() + 0 * teacher.sum()


@pytest.fixture(autouse=True)
def quiet(caplog):
    """torch writes down all that it does while somebody listens."""
    caplog.set_level("WARNING", "torch")


@pytest.fixture
def graphs(monkeypatch):
    """What the compiler is given. It runs as it is, since a machine need not have a C++ compiler."""
    given = []

    def as_it_is(graph, inputs):
        given.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=as_it_is))
    return given


@pytest.fixture
def texts(launch, session, tmp_path):
    """Runs the spec with tiny models without dropout, because compiled code may sample other masks."""
    tiny(tmp_path / "teacher", layers=2, width=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    tiny(tmp_path / "student", layers=1, width=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    rows = [{"text": text, "label": ("neg", "pos")[number % 2]} for number, text in enumerate(WORDS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *sets, text=SPEC, **options: launch(*sets, text=text, **options)


def effects(ran):
    return [note for note in ran.notes if "compile" in note and note != ON_A_CPU]


def losses(ran):
    return [step.loss for step in ran.of(StepDone)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        (NEVER,),
        (f"{TRAINING}.gradient_checkpointing=true", f"{TRAINING}.evaluate={{}}"),
        (f"{TRAINING}.precision=bf16",),
    ],
    ids=["teacher run in each step", "activations computed again, and an evaluation", "bf16"],
)
def test_a_compiled_run_has_the_numbers_of_one_that_is_not(changes, texts, graphs, same):
    plain, found = texts(PLAIN, *changes, folder="plain"), []
    assert not graphs
    found = texts(*changes, folder="compiled")
    assert graphs
    assert losses(found) == pytest.approx(losses(plain), rel=1e-5)
    assert same.close(found.weights, plain.weights, 1e-5)


@pytest.mark.slow
def test_more_steps_are_compiled_for_no_more_often(texts, graphs):
    texts(NEVER)
    few = len(graphs)
    graphs.clear()
    texts(NEVER, f"{TRAINING}.steps=6", folder="longer")
    assert len(graphs) == few


class Two(nn.Module):
    """Two layers of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.GELU())


class Stack(nn.Module):
    """A list of these, and something behind it."""

    def __init__(self):
        super().__init__()
        self.layers, self.head = nn.ModuleList([Two(), nn.ModuleList([Two()])]), Two()


@pytest.mark.parametrize(
    ("module", "watched", "expected"),
    [
        (Two(), (), [""]),
        (Two(), ("",), [""]),
        (Two(), ("first",), ["second"]),
        (Two(), ("second.0",), []),
        (nn.Linear(2, 2), (), []),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), (), [""]),
        (Stack(), ("layers.0",), ["layers.0", "layers.1.0"]),
        (Stack(), ("head.first",), ["layers.0", "layers.1.0"]),
        (Stack(), ("layers.0.first",), ["layers.0.second", "layers.1.0"]),
    ],
)
def test_parts_are_the_largest_modules_of_layers_with_nothing_taken_inside(module, watched, expected):
    names = {inner: name for name, inner in module.named_modules()}
    assert [names[part] for part in parts(SimpleNamespace(module=module, watched=watched))] == expected


def test_a_hook_that_is_there_already_parts_a_layer_too():
    module = Stack()
    module.layers[0].first.register_forward_hook(lambda *_: None)
    found = list(parts(SimpleNamespace(module=module, watched=())))
    assert found == [module.layers[0].second, module.layers[1][0]]


@pytest.mark.slow
def test_it_warns_that_the_cpu_is_seldom_faster(texts, graphs):
    assert ON_A_CPU in texts().notes
    assert "compile" not in " ".join(texts(PLAIN, folder="plain").notes)


@pytest.mark.slow
def test_a_teacher_that_is_cached_already_is_not_compiled(texts, graphs):
    def compiled(folder, *sets):
        ran = texts(f"{TRAINING}.teacher_cache=on", *sets, folder=folder)
        return [note.split("`")[3] for note in effects(ran)], ran.of(CacheState)[0].folder

    plain = compiled("plain", PLAIN)
    first, second = compiled("first"), compiled("second")
    assert [names for names, _ in (plain, first, second)] == [[], ["student", "teacher"], ["student"]]
    # Outputs of compiled layers differ in the last digits.
    assert plain[1] != first[1] == second[1]


@pytest.mark.slow
def test_features_from_within_a_layer_leave_the_modules_between_them_compiled(texts, graphs):
    within = f"{MATCHES}=[{{feature: attention, loss: attention_mse, layers: {{1: 0}}}}]"
    plain, compiled = texts(within, NEVER, PLAIN, folder="plain"), texts(within, NEVER)
    student, teacher = (int(note.split(": ")[1].split()[0]) for note in effects(compiled))
    assert 1 < student < teacher
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)


@pytest.mark.slow
def test_modules_of_ones_own_are_compiled_too(launch, session, graphs, same):
    plain = launch(folder="plain")
    found = launch(f"{TRAINING}.compile=true", folder="compiled")
    assert graphs
    assert len(effects(found)) == 2
    assert same.close(found.weights, plain.weights, 1e-5)


@pytest.mark.slow
def test_without_a_compiler_the_run_continues_and_reports_the_reason(texts, monkeypatch, same):
    def none(graph, inputs):
        raise RuntimeError("No working C++ compiler found.\nSearched: g++")

    plain = texts(PLAIN, folder="plain")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=none))
    ran = texts()
    assert effects(ran) == [
        f"`compile: true` of stage `distil` has no effect on `{name}`: RuntimeError: No working C++ compiler found"
        for name in ("student", "teacher")
    ]
    assert same.bits(ran.weights, plain.weights)


class Preparing(Distiller):
    """A strategy that makes batches of its own, and may do more with the modules that it is given for it."""

    name = "preparing"

    def needs(self):
        return Needs(student="student", tasks=(TaskNeeds(reads={"student": frozenset({"logits"})}),))

    def build(self, context):
        class OfItsOwn(Objective):
            makes_batches = True

            def forward(self, step):
                return {"size": Term(step.student["logits"].dense().square().mean())}

        return OfItsOwn()


@pytest.mark.slow
def test_there_are_no_lanes_beside_it(texts, graphs):
    why = "`lanes: 2` of stage `distil` has no effect: not with `compile: true`"
    assert why in texts(f"{TRAINING}.lanes=2").notes


def test_if_torch_cannot_compile_the_run_continues(texts, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    monkeypatch.setattr(torch, "compile", refuse)
    assert effects(texts())[0].endswith("RuntimeError: torch.compile is not supported on Python 3.99+")


def test_a_strategy_that_changes_modules_is_left_alone(texts, graphs):
    ran = texts("stages.distil.distiller={preparing: {}}", plugins=(Preparing,))
    assert effects(ran) == ["`compile: true` of stage `distil` has no effect: its strategy changes modules"]
    assert not graphs


@pytest.mark.slow
def test_a_non_finite_gradient_is_traced_to_its_term(texts, graphs):
    with pytest.raises(FindingError) as caught:
        texts(f"{MATCHES}=[{{feature: hidden, loss: endless, layers: {{2: 1}}, projection: linear}}]", NEVER,
              plugins=(Endless,))  # fmt: skip
    (found,) = caught.value.findings
    assert found.code == "KD501"
    assert "the gradient of the term `hidden.endless.2-1` is not finite" in found.message


@pytest.mark.slow
def test_modules_run_as_they_did_when_the_stage_is_over(texts, graphs, monkeypatch):
    closed = []
    monkeypatch.setattr(Compilation, "_undo", _seen(Compilation._undo, closed))
    texts()
    assert closed
    assert not any("forward" in module.__dict__ for module in closed)


def _seen(undo, closed):
    def seen(self, start):
        closed.extend(module for module, _ in self._kept)
        undo(self, start)

    return seen


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler")
def test_torchs_own_compiler_gives_the_same_losses_each_time(texts, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    tiny(tmp_path / "dropping", layers=1, width=8)
    plain, one = texts(PLAIN, folder="plain"), texts(folder="one")
    assert losses(one) == pytest.approx(losses(plain), rel=1e-4)
    first, second = (texts("models.student.transformers.path=dropping", folder=name) for name in ("first", "second"))
    assert losses(first) == losses(second)
    assert all(map(math.isfinite, losses(first)))
