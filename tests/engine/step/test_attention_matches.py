"""Runs that match attention: before dropout, and the scores before the softmax, as TinyBERT."""

from __future__ import annotations

import csv

import pytest
import torch

from kdspec.diagnostics.place import place
from kdspec.events import StepDone
from kdspec.ops.attention import attention_ce
from kdspec.planning.prepare import prepare
from kdspec.rehearsal.rehearse import rehearse
from kdspec.source.extends import compose
from kdspec.testing import tiny

TEXTS = ["a good film", "dull", "the plot was thin, and long", "nice", "very bad indeed", "good"]
SPEC = """\
kdspec: 1
name: attention
tasks:
  texts:
    sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}
models:
  teacher: {transformers: {path: model}}
  student: {transformers: {path: model}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {weight: 0}
        matches: [{feature: FEATURE, loss: LOSS, layers: {0: 0}}]
    training: {steps: 2, batch_size: 6, shuffle: false, batching: random, evaluate: null, log_every: 1}
"""
SQUEEZED = (
    "{model_type: squeezebert, vocab_size: 109, hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2, "
    "intermediate_size: 16, embedding_size: 8, q_groups: 1, k_groups: 1, v_groups: 1, post_attention_groups: 1, "
    "intermediate_groups: 1, output_groups: 1}"
)


@pytest.fixture
def rows(tmp_path):
    tiny(tmp_path / "model", layers=2, width=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.1)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, len(text) % 2) for text in TEXTS)])
    return tmp_path


def text_of(feature, loss):
    return SPEC.replace("FEATURE", feature).replace("LOSS", loss)


def maps_of(folder):
    """The attention of the first layer, and the mask."""
    from transformers import AutoModel, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(folder / "model")(TEXTS, padding=True, return_tensors="pt")
    module = AutoModel.from_pretrained(folder / "model", attn_implementation="eager").eval()
    with torch.no_grad():
        return module(**batch, output_attentions=True).attentions[0], batch["attention_mask"]


def scores_of(folder, name):
    """The products of queries and keys in the first layer, and the mask."""
    from transformers import AutoModel, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(folder / "model")(TEXTS, padding=True, return_tensors="pt")
    module, seen = AutoModel.from_pretrained(folder / name).eval(), []
    inner = module.encoder.layer[0].attention.self
    for part in (inner.query, inner.key):
        part.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        module(**batch)
    query, key = (each.unflatten(-1, (module.config.num_attention_heads, -1)).transpose(1, 2) for each in seen)
    return query @ key.mT / query.shape[-1] ** 0.5, batch["attention_mask"]


@pytest.mark.parametrize("more", [(), ("stages.distil.training.gradient_checkpointing=true",)], ids=["plain", "again"])
def test_a_student_that_is_its_teacher_begins_with_the_entropy_of_its_attention(more, launch, rows):
    maps, mask = maps_of(rows)
    entropy = attention_ce(maps, maps, mask).value.item()
    ran = launch(*more, text=text_of("attention", "attention_ce"))
    first = ran.of(StepDone)[0]
    assert first.terms["attention.attention_ce.0-0"] == pytest.approx(entropy, rel=1e-5)
    assert first.grad_norm == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("feature", ["attention", "attention_scores"])
def test_a_student_that_is_its_teacher_differs_by_nothing(feature, launch, rows):
    ran = launch(text=text_of(feature, "attention_mse"))
    first, second = ran.of(StepDone)
    assert first.terms[f"{feature}.attention_mse.0-0"] == pytest.approx(0, abs=1e-10)
    assert second.terms[f"{feature}.attention_mse.0-0"] < 1e-6


def test_scores_are_compared_as_in_the_authors_code(launch, rows):
    """TinyBERT's `task_distill.py`: scores of at most -100 become 0, then F.mse_loss. Here pairs with padding are left out."""
    tiny(rows / "other", layers=2, width=16, seed=5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.1)
    teacher, mask = scores_of(rows, "model")
    student, _ = scores_of(rows, "other")
    pairs = (mask[:, None, :, None] * mask[:, None, None, :]).bool().expand_as(teacher)
    expected = (student - teacher).square()[pairs].mean().item()
    ran = launch("models.student.transformers.path=other", text=text_of("attention_scores", "attention_mse"))
    assert ran.of(StepDone)[0].terms["attention_scores.attention_mse.0-0"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cache", ["exact", "float16", "int8"])
def test_cached_scores_are_those_of_the_teacher(cache, launch, rows):
    tiny(rows / "other", layers=2, width=16, seed=5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    sets = ("models.student.transformers.path=other", "stages.distil.training.steps=3")
    text = text_of("attention_scores", "attention_mse")
    plain = launch(*sets, "stages.distil.training.teacher_cache=off", text=text, folder="plain")
    cached = launch(
        *sets,
        f"stages.distil.training.teacher_cache={{use: 'on', dtype: {cache}, folder: c}}",
        text=text,
        folder="cached",
    )
    name = "attention_scores.attention_mse.0-0"
    found, expected = ([step.terms[name] for step in ran.of(StepDone)] for ran in (cached, plain))
    assert found == pytest.approx(expected, rel={"exact": 1e-6, "float16": 1e-3, "int8": 0.03}[cache])


def planned(folder, text, registry, *sets):
    document = compose(text, "spec.yaml", folder, sets, {})
    made = prepare(document, registry)
    return made, document


@pytest.mark.parametrize("layers", ["uniform", "last", "{1: 0}"])
def test_layers_of_scores_are_counted_as_those_of_attention(layers, rows, shared_registry):
    pairs = []
    for feature in ("attention", "attention_scores"):
        change = (
            f"stages.distil.distiller.general.matches=[{{feature: {feature}, loss: attention_mse, layers: {layers}}}]"
        )
        made, _ = planned(rows, SPEC, shared_registry, change)
        assert made.plan is not None, made.findings
        pairs.append([(m.teacher_layers, m.student_layers) for m in made.plan.stages[0].matches])
    assert pairs[0] == pairs[1] != []


@pytest.mark.parametrize(
    "loss", ["attention_ce", "{attention_ce: {from_scores: true}}", "attention_ce_mean", "hidden_mse"]
)
def test_losses_of_probabilities_do_not_take_scores(loss, rows, shared_registry):
    made, document = planned(rows, text_of("attention_scores", loss), shared_registry)
    (found,) = place(made.findings, document)
    assert found.code == "KD313"
    assert "is a loss for" in found.message


def test_a_family_whose_dropout_cannot_be_seen_is_named_by_the_plan(rows, shared_registry):
    text = text_of("attention", "attention_mse").replace(
        "student: {transformers: {path: model}}", f"student: {{transformers: {{config: {SQUEEZED}, tokenizer: model}}}}"
    )
    made, _ = planned(rows, text, shared_registry, "stages.distil.distiller.general.matches.0.loss=attention_mse_sum")
    assert made.plan is not None, made.findings
    rehearsed = rehearse(made.plan, shared_registry)
    found = [each for each in rehearsed.findings if each.code == "KD313"]
    assert [each.severity for each in found] == ["warning"]
    assert "`attention` of `student` has dropout in it" in found[0].message
    calm = "models.student.transformers.config.attention_probs_dropout_prob=0.0"
    made, _ = planned(
        rows, text, shared_registry, "stages.distil.distiller.general.matches.0.loss=attention_mse_sum", calm
    )
    assert not [each for each in rehearse(made.plan, shared_registry).findings if each.code == "KD313"]
