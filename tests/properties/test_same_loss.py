"""One batch has one loss and one gradient, however it is padded, cut, cached or packed: for every loss and every task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from kdspec.api.kinds.context import BuildContext
from kdspec.api.working.batch import Batch
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.batches import build_sampler
from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.step.normalization import Counted, Shares
from kdspec.engine.teacher_cache.cache import CacheUse
from kdspec.objectives.distillation import DistillationObjective
from kdspec.objectives.soft_labels import Soft
from kdspec.ops import unpad
from kdspec.ops.mean import Mean
from kdspec.ops.unpad import Packing
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import load_registry
from kdspec.source.extends import compose
from kdspec.testing import tiny

REGISTRY = load_registry()
"""What is installed is held to it too."""
LOGIT_LOSSES, FEATURE_LOSSES, TASKS = (REGISTRY.names(kind) for kind in ("logit_loss", "feature_loss", "task"))
TOLERANCE = 1e-5
LENGTH = 128
ROWS = 7

DATA = "data: {json: {train: rows.jsonl}}"
WRITTEN = {
    "sequence_classification": f"{{{DATA}, text: text, label: kind}}",
    "multi_label": f"{{{DATA}, text: text, label: topics}}",
    "regression": f"{{{DATA}, text: text, label: score}}",
    "token_classification": f"{{{DATA}}}",
    "question_answering": "{data: {squad: {train: asked.json}}}",
    "masked_lm": f"{{{DATA}, text: text}}",
}
"""Every task, with its parameters; but for those of `APART`."""
APART = {
    "ranking": "a row is several texts, which only a model that scores reads; its own tests compare",
    "embedding": "its models have no logits, which the spec of these tests compares",
    "tensors": "its rows are given as tensors of one shape: there is no padding, and without tokens no length to cut by",
}
DRAWN_ANEW = {"masked_lm": "other tokens are masked in each epoch, so that there are no answers to keep"}
"""Tasks without a cache."""
OF_THE_LONGEST = {
    "mmd": ({"scale": "length"}, "it is divided by the length of the longest row"),
    "nst": ({"scale": "length"}, "it is `mmd` by another name"),
}
"""Parameters with which a loss depends on how far its rows are padded, and why; from a cache it is the same."""
OF_STEPS = ("similarity_mse", "similarity_kl", "contrastive", "triplet_order", "cosent")
"""Losses that compare the rows of a step, computed apart from the others: `test_embedding_steps.py`."""
TEMPERATURES = ("flsw", "cwsm")
"""Rules that compare a row with the mean of its micro-batch: how rows are padded does not matter, how they are cut does."""

SPEC = """\
kdspec: 1
name: same
tasks: {main: {TASK}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student, tokenizer: teacher}}}
stages: {distil: {distiller: {supervised: {model: student}}, training: {TRAINING}}}
"""
TRAINING = f"steps: 2, batch_size: {ROWS}, shuffle: false, evaluate: null, batching: random, teacher_cache: off"
GENERAL = "{general: {teacher: teacher, student: student, hard_labels: {weight: 1}, matches: [MATCHES]}}"
EMD = "{emd: {teacher: teacher, student: student, hard_labels: {weight: 1}, attention: {loss: attention_mse}}}"


def matches():
    """Every feature loss on each kind of feature that it takes; one that reduces on layers too that no other one needs."""
    for name in FEATURE_LOSSES:
        loss = REGISTRY.get("feature_loss", name)
        if loss.feature == "embedding" or loss.vectors:
            yield from vectors(name)
        if loss.feature == "embedding":
            continue
        parameters = {"heads": 4} if "heads" in loss.model_fields else {}
        if loss.feature is None:
            yield match("relations", name, parameters, [0, 1], [0, 1])
        yield match(loss.feature or "hidden", name, parameters, [1, 2], [0, 1])
        if loss().reduces():
            yield match("hidden", name, parameters, [3, 0], [2, 0])
        if name in OF_THE_LONGEST:
            yield match("hidden", name, OF_THE_LONGEST[name][0], [1, 2], [0, 1])


def vectors(name):
    """The match of a loss between embeddings, here the states of the first token; none of one that compares rows."""
    if name not in OF_STEPS:
        parameters = {"loss": "cos", "widths": [4, 16]} if name == "matryoshka" else {}
        yield {"feature": "first", "loss": {name: parameters}}


def match(feature, name, parameters, teacher, student):
    arity = REGISTRY.get("feature_loss", name).arity
    pairs = [{"teacher": teacher[:arity], "student": student[:arity]}]
    return {"feature": feature, "loss": {name: parameters}, "pairs": pairs}


def soft(loss, temperature=lambda *_: 2.0, *, shift=False):
    return Soft(
        teachers=("teacher",), loss=loss.build(BuildContext()), needs_labels=loss.needs_labels,
        takes_labels=loss.takes_labels, temperature=temperature,
        weight=lambda _: 1.0, shift=shift,
    )  # fmt: skip


class EverySoft:
    """Soft labels by every loss that is made for these logits, in the place of those of an objective."""

    def __init__(self, kind):
        self.parts = {}
        for name in LOGIT_LOSSES:
            loss = REGISTRY.get("logit_loss", name)()
            if kind not in loss.compares:
                continue
            self.parts[name] = soft(loss)
            if kind == "classes":
                self.parts[f"{name} shifted"] = soft(loss, shift=True)
        for rule in TEMPERATURES:
            temperature = REGISTRY.get("temperature", rule)().build(BuildContext())
            self.parts[f"mse at {rule}"] = soft(REGISTRY.get("logit_loss", "mse")(), temperature)

    def weight(self, progress):
        return 1.0

    def losses(self, step):
        for name, part in self.parts.items():
            for head, loss, share in part.losses(step):
                yield f".{name}{head}", loss, share


@dataclass(frozen=True)
class Found:
    """A term of a step."""

    value: float
    gradient: torch.Tensor
    """Of all that trains, one after the other."""


def terms(loop):
    """Each term of the first step with its gradient, put together from the micro-batches as the engine does it."""
    drawn = loop._draw(0)
    shares = Shares([Counted(each.task, each.units) for each in drawn], "step")
    trained = list(loop.trainable.parameters())
    found = {}
    for micro, each in enumerate(drawn):
        for name, term in loop.terms(0, micro, each)[0].items():
            if not (share := shares.of(term.loss, micro).of_step):
                continue
            value = share * (term.loss.value if isinstance(term.loss, Mean) else term.loss)
            gradient = torch.autograd.grad(value, trained, retain_graph=True, allow_unused=True, materialize_grads=True)
            flat = torch.cat([part.flatten() for part in gradient]).double()
            before = found.get(name, Found(0.0, torch.zeros(())))
            found[name] = Found(before.value + value.item(), before.gradient + flat)
    return found


class Laboratory:
    """The batch of a task under each of the conditions."""

    def __init__(self, folder, task, strategy=GENERAL):
        self.folder = folder
        self.text = SPEC.replace("TASK", f"{task}: {WRITTEN[task]}").replace("TRAINING", TRAINING)
        self.strategy = strategy.replace("[MATCHES]", json.dumps(list(matches())))

    def loop(self, *changes):
        """The stage ready to run, with changes of its training."""
        adaptor = prepare(compose(self.text, "spec", self.folder), REGISTRY).spec.tasks["main"].adaptor()
        sets = [f"stages.distil.distiller={self.strategy}", *(f"stages.distil.training.{change}" for change in changes)]
        for model, layer in (("teacher", 1), ("student", 0)):
            of = f"bert.encoder.layer.{layer}.attention.self"
            first = f"output.hidden_states[{layer + 2}][:, 0]"
            relations = [f'modules["{of}.query"].output', f'modules["{of}.key"].output']
            sets.append(f"adaptors.{model}={json.dumps({**adaptor, 'relations': relations, 'first': first})}")
        made = prepare(compose(self.text, "spec", self.folder, sets, {}), REGISTRY)
        if made.plan is None:
            raise FindingError(*made.errors)
        loop = begun(made.plan, "main", REGISTRY, self.folder)
        if type(loop.trainable.objective) is DistillationObjective:
            loop.trainable.objective.soft = EverySoft(made.spec.tasks["main"].logits)
        return loop


def begun(plan, name, registry, folder):
    """The first stage ready to run."""
    task = built(plan, name)
    setup = StageSetup(
        plan=plan, stage=plan.stages[0], registry=registry, models=Models(plan, {name: task.head}, {}), tasks={name: task},
        folder=RunFolder(folder), backend=SingleProcess("cpu"),
    )  # fmt: skip
    return build_stage(setup, 1, warn=print).loop


TEXTS = ("a good film", "dull", "very bad indeed", "nice", "good", "a good plot", "thin and very long")
TOPICS = (["a", "b"], ["b"], [], ["c", "a"], None, ["c"], ["a"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A teacher, a student without dropout, and rows of different lengths, of which some have no label."""
    folder = tmp_path_factory.mktemp("same")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    shape = {"heads": 4, "initializer_range": 0.3, "max_position_embeddings": LENGTH}
    tiny(folder / "teacher", layers=3, width=24, seed=1, **shape, **still)
    tiny(folder / "student", layers=2, width=16, seed=2, **shape, **still)
    rows, asked = [], []
    for number, (text, topics) in enumerate(zip(TEXTS, TOPICS, strict=True)):
        words = text.split()
        tags = ["O" if place % 2 else "S-PER" for place, _ in enumerate(words)]
        kind = "xyz"[number % 3] if number != 1 else None
        rows.append({"text": text, "kind": kind, "topics": topics, "score": number / 7, "tokens": words, "tags": tags})
        answers = [{"text": words[-1], "answer_start": text.rindex(words[-1])}]
        asked.append({"context": text, "qas": [{"id": text, "question": "q", "answers": answers}]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "asked.json").write_text(json.dumps({"data": [{"paragraphs": asked}]}))
    return folder


@pytest.fixture(scope="module")
def laboratory(home):
    """The laboratory of each task, with what the batch gives where nothing is done to it."""

    @cache
    def made(task, strategy=GENERAL):
        laboratory = Laboratory(home, task, strategy)
        return laboratory, terms(laboratory.loop())

    return made


def pad(loop, monkeypatch):
    """Have the rows of a loop padded to 128 tokens: beside a row that is so long, which is taken away again."""
    task = loop.inputs_of["main"].loader.task
    collate = task.collate

    def padded(rows, reader):
        more = LENGTH - len(rows[0]["input_ids"])
        long = {
            key: [*v, *[v[-1]] * more] if isinstance(v, list) and len(v) == LENGTH - more else v
            for key, v in rows[0].items()
        }
        batch = collate([*rows, long], reader)
        assert batch.named["input_ids"].shape[1] == LENGTH
        inputs, targets = ({key: tensor[:-1] for key, tensor in of.items()} for of in (batch.inputs[""], batch.targets))
        return Batch(inputs={"": inputs}, targets=targets)

    monkeypatch.setattr(task, "collate", padded)


def cut(monkeypatch):
    """The settings of micro-batches of equal lengths."""
    monkeypatch.setattr(build_sampler, "split_cost", lambda *_: 0)
    return ("batching=sorted_micro_batches",)


def pack(monkeypatch):
    """Have tokens taken out of small layers too; gives the layers that they are taken from."""
    taken, of = [], Packing.of
    monkeypatch.setattr(unpad, "SMALL", 0)
    monkeypatch.setattr(Packing, "of", lambda self, layer: taken.append(layer) or of(self, layer))
    return taken


def differing(expected, found):
    """What is another value, or has another gradient."""
    assert found.keys() == expected.keys()
    return {
        name
        for name, one in expected.items()
        if found[name].value != pytest.approx(one.value, rel=TOLERANCE, abs=TOLERANCE**2)
        or (one.gradient - found[name].gradient).norm() > TOLERANCE * one.gradient.norm()
    }


def longer(expected):
    """The terms that depend on how far rows are padded: those with the parameters of `OF_THE_LONGEST`."""
    return {name for name in expected if name.endswith("#2")}


def together(expected):
    """The terms that compare the rows of a micro-batch."""
    return {name for name in expected if " at " in name}


def test_every_loss_and_task_is_here():
    assert {*WRITTEN, *APART} == {*TASKS}
    assert {each["loss"].popitem()[0] for each in matches()} | {*OF_STEPS} == {*FEATURE_LOSSES}
    kinds = {REGISTRY.get("task", task).logits for task in WRITTEN}
    made = {name for name in LOGIT_LOSSES if REGISTRY.get("logit_loss", name).compares & kinds}
    assert {name for kind in kinds for name in EverySoft(kind).parts} >= made
    assert {*TEMPERATURES, "constant", "sides"} == {*REGISTRY.names("temperature")}


@pytest.mark.slow
@pytest.mark.parametrize("task", WRITTEN)
def test_a_batch_may_be_padded_to_128(task, laboratory, monkeypatch):
    of, expected = laboratory(task)
    pad(loop := of.loop(), monkeypatch)
    assert differing(expected, terms(loop)) == longer(expected)


@pytest.mark.parametrize("task", WRITTEN)
def test_a_batch_may_be_split(task, laboratory, monkeypatch):
    of, expected = laboratory(task)
    loop = of.loop(*cut(monkeypatch))
    assert len(loop._draw(0)) > 2
    assert differing(expected, terms(loop)) <= longer(expected) | together(expected)


@pytest.mark.parametrize("task", WRITTEN)
def test_a_batch_may_be_without_padding(task, laboratory, monkeypatch):
    of, expected = laboratory(task)
    taken = pack(monkeypatch)
    assert differing(expected, terms(of.loop())) == set()
    assert taken


@pytest.mark.slow
@pytest.mark.parametrize("task", WRITTEN.keys() - DRAWN_ANEW.keys())
def test_teacher_outputs_may_come_from_a_cache_or_its_reductions(task, laboratory, monkeypatch, tmp_path):
    """Filled by the batch as it is, and read by one that is cut and packed: everything at once."""
    of, expected = laboratory(task)
    kept = f"teacher_cache={{use: on, folder: {tmp_path}}}"
    (filled,) = (loop := of.loop(kept)).caches
    assert differing(expected, terms(loop)) == set()
    assert filled.use == CacheUse(hits=ROWS, computed=ROWS)
    assert {"similarity of hidden 3, 0", "first of hidden 3"} <= {*filled.names}
    filled.close()
    pack(monkeypatch)
    (read,) = (loop := of.loop(kept, *cut(monkeypatch))).caches
    assert differing(expected, terms(loop)) <= longer(expected) | together(expected)
    assert read.use == CacheUse(hits=ROWS)
    read.close()


@pytest.mark.parametrize("task", DRAWN_ANEW)
def test_resampled_rows_have_no_cache(task, laboratory):
    with pytest.raises(FindingError, match="cannot be cached"):
        laboratory(task)[0].loop("teacher_cache=on")


def test_what_is_left_out_does_differ(laboratory, monkeypatch):
    of, expected = laboratory("sequence_classification")
    assert differing(expected, terms(of.loop(*cut(monkeypatch)))) == longer(expected) | together(expected)


def test_a_transport_of_layers_is_that_of_its_micro_batch_but_may_be_padded_and_cached(
    laboratory, monkeypatch, tmp_path
):
    """The plan of `emd` follows the costs of the batch as a whole, so that it is not cut where that is left open."""
    if "emd" not in REGISTRY.names("distiller"):
        pytest.skip("the plugin kdspec-emd is not installed")
    of, expected = laboratory("sequence_classification", EMD)
    assert {"emd.hidden", "emd.attention"} <= expected.keys()
    cost_nothing = cut(monkeypatch)
    assert len(of.loop("batching=auto")._draw(0)) == 1
    assert differing(expected, terms(of.loop(*cost_nothing))) <= {"emd.hidden", "emd.attention"}
    pad(loop := of.loop(), monkeypatch)
    assert differing(expected, terms(loop)) == set()
    for computed in (ROWS, 0):
        (cache,) = (loop := of.loop(f"teacher_cache={{use: on, folder: {tmp_path}}}")).caches
        assert differing(expected, terms(loop)) == set()
        assert cache.use.computed == computed
        cache.close()


def test_rows_of_tensors_may_be_split_and_cached(session, shared_registry, tmp_path):
    """The task of `APART`."""
    training = "stages.distil.training"

    def loop(*sets):
        changes = [f"{training}.{change}" for change in ("shuffle=false", "accumulate=1", *sets)]
        return begun(session(*changes).plan, "rows", shared_registry, tmp_path)

    expected = terms(loop("batch_size=6"))
    assert len(expected) == 4
    assert differing(expected, terms(loop("batch_size=2", "accumulate=3"))) == set()
    for computed in (11, 0):
        (cache,) = (cached := loop("batch_size=6", f"teacher_cache={{use: on, folder: {tmp_path}}}")).caches
        assert differing(expected, terms(cached)) == set()
        assert cache.use.computed == computed
        cache.close()
