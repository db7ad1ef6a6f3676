"""Every family of models is rehearsed without a weight: shapes and sizes are those of the model that is built."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional

from kdspec.api.working.batch import Batch
from kdspec.api.working.task import Head
from kdspec.engine.forward.attention.attention_weights import release
from kdspec.engine.forward.model_runner import frozen
from kdspec.engine.forward.models import Models
from kdspec.engine.step.build_models import StageModels

SMALL = "vocab_size: 40, hidden_size: 12, num_hidden_layers: 4, num_attention_heads: 2, intermediate_size: 24"
FAMILIES = {
    "bert": SMALL,
    "roberta": f"{SMALL}, max_position_embeddings: 34",
    "distilbert": "vocab_size: 40, dim: 12, n_layers: 4, n_heads: 2, hidden_dim: 24",
    "electra": f"{SMALL}, embedding_size: 8",
    "albert": f"{SMALL}, embedding_size: 8",
    "deberta-v2": f"{SMALL}, relative_attention: true, pos_att_type: [p2c, c2p], position_biased_input: false",
    "modernbert": f"{SMALL}, pad_token_id: 0",
    "mpnet": f"{SMALL}, max_position_embeddings: 34",
    "gpt2": "vocab_size: 40, n_embd: 12, n_layer: 4, n_head: 2, pad_token_id: 0",
    "llama": f"{SMALL}, num_key_value_heads: 1, pad_token_id: 0",
    "qwen2": f"{SMALL}, num_key_value_heads: 1, pad_token_id: 0",
    "qwen3": f"{SMALL}, num_key_value_heads: 1, head_dim: 6, pad_token_id: 0",
}
FIRST = ("bert", "albert", "deberta-v2", "qwen3")
"""An encoder, one whose layers share weights, one with an attention of its own, and a decoder. All of them together take ten
seconds, so the others are slow."""
SPEC = """\
kdspec: 1
name: small
tasks:
  reviews:
    sequence_classification:
      data: {csv: {train: rows.csv}}
      text: text
      label: label
      labels: [bad, fair, good]
      max_length: 16
models:
  teacher:
    transformers: {config: TEACHER}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 2}, initialize: {layers: [0, 2]}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: last}
          - {feature: hidden, loss: mmd, layers: {0: 0}}
          - {feature: attention, loss: attention_mse, layers: last}
    training: {epochs: 1, batch_size: 4}
"""
HEAD = Head(kind="sequence_classification", labels=("bad", "fair", "good"))


EACH = [pytest.param(family, marks=[pytest.mark.slow] * (family not in FIRST)) for family in FAMILIES]


@pytest.mark.slow
@pytest.mark.parametrize("family", EACH)
def test_shapes_and_sizes_are_those_of_the_real_model(rehearsed, family):
    change = [("TEACHER", f"{{model_type: {family}, {FAMILIES[family]}}}")]
    if family == "albert":  # its layers share their weights
        change.append((", initialize: {layers: [0, 2]}", ""))
    outcome = rehearsed(SPEC, change=change)
    assert outcome.codes == []
    models = Models(outcome.plan, {"reviews": HEAD}, {})
    tokens = torch.ones(4, 16, dtype=torch.long)
    for name in ("teacher", "student"):
        real = models.prepared(name, torch.device("cpu"), trains=False, eager=True)
        assert_size(outcome.found.models[name], real)
        output = real(input_ids=tokens, attention_mask=tokens, output_hidden_states=True, output_attentions=True)
        features = outcome.stage.features[name]
        assert {s.layer: s.shape for s in features["hidden"]}.items() <= layers(output.hidden_states).items()
        assert {s.layer: s.shape for s in features["attention"]}.items() <= layers(output.attentions).items()
        (logits,) = features["logits"]
        assert (logits.shape, logits.dtype) == (output.logits.shape, "float32")
    assert outcome.stage.unused == ()


SHORT = f"""\
{SPEC[: SPEC.index("        soft_labels:")]}        soft_labels: {{weight: 0}}
        matches:
          - {{feature: hidden, loss: mmd, layers: {{0: 0}}}}
          - {{feature: hidden, loss: hidden_mse, layers: {{2: 1}}}}
    training: {{epochs: 1, batch_size: 4}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", EACH)
def test_a_teacher_ends_after_the_deepest_layer_that_is_read(family, rehearsed):
    """What is left is the same to the bit."""
    change = [("TEACHER", f"{{model_type: {family}, {FAMILIES[family]}}}")]
    if family == "albert":
        change.append((", initialize: {layers: [0, 2]}", ""))
    outcome = rehearsed(SHORT, change=change)
    assert outcome.codes == []
    (end,) = outcome.stage.ends.values()
    forward, tokens = real(outcome.plan)["teacher"], batch()
    with frozen(forward.module):
        first = forward(tokens)
        forward.shorten(half(tokens))
        second = forward(tokens)
    assert forward.ends.layer == end
    assert first["hidden"].keys() == second["hidden"].keys() == {0, 2}
    assert all(torch.equal(first["hidden"][i], second["hidden"][i]) for i in (0, 2))


def real(plan):
    """The models of the only stage, with weights."""
    models, (stage,) = Models(plan, {"reviews": HEAD}, {}), plan.stages
    tasks = {"reviews": plan.spec.tasks["reviews"].without_rows()}
    return StageModels(plan, stage, models, tasks, torch.device("cpu")).runners(next(iter(stage.tasks.values())))


def batch(padding=3):
    """Four rows, one of them shorter."""
    tokens = {"input_ids": torch.randint(1, 40, (4, 9)), "attention_mask": torch.ones(4, 9, dtype=torch.long)}
    tokens["attention_mask"][1, 9 - padding :] = 0
    return Batch(inputs={"": tokens})


def half(tokens):
    """The first two of the rows."""
    return Batch(inputs={"": {name: value[:2] for name, value in tokens.named.items()}})


def alike(one, other, mask):
    """Whether hidden states, or attention by its queries, are the same at the tokens that count, up to rounding."""
    kept = [(each.transpose(1, 2) if each.ndim == 4 else each)[mask] for each in (one, other)]
    return torch.allclose(*kept, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_layers_whose_attention_is_read_compute_its_weights(family, planned, monkeypatch):
    """The others take the faster implementation where the family has one; the values are the same up to rounding."""
    change = [
        ("TEACHER", f"{{model_type: {family}, {FAMILIES[family]}}}"),
        (", initialize: {layers: [0, 2]}", ""),
        ("layers: last", "layers: {2: 1}"),
        ("loss: attention_mse, layers: last", "loss: attention_mse, layers: {2: 1}"),
    ]
    fast, runners = [], real(planned(SPEC, change=change)[0])
    original = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a, **k: fast.append(1) or original(*a, **k))
    for name, layers in (("teacher", 4), ("student", 2)):
        forward = runners[name]
        for padding in (0, 3):
            tokens = batch(padding)
            with frozen(forward.module):
                first = forward(tokens)
                fast.clear()
                forward.shorten(half(tokens))
                assert not fast
                second = forward(tokens)
            assert len(fast) == (0 if family in ("albert", "mpnet", "deberta-v2") else layers - 1)
            for feature in ("hidden", "attention"):
                assert first[feature].keys() == second[feature].keys()
                pairs = zip(first[feature].values(), second[feature].values(), strict=True)
                assert all(alike(*pair, tokens.named["attention_mask"].bool()) for pair in pairs)
            assert torch.allclose(first["logits"].dense(), second["logits"].dense(), rtol=0, atol=1e-6)
            release(forward.module)
            forward._shorter = None


def test_what_a_teacher_leaves_out_is_not_counted(rehearsed):
    change = [("TEACHER", f"{{model_type: bert, {FAMILIES['bert']}}}")]
    whole, short = (rehearsed(spec, change=change).stage.flops.teachers["teacher"] for spec in (SPEC, SHORT))
    assert 0.4 * whole < short < 0.6 * whole


def assert_size(size, real):
    assert size.parameters == sum(parameter.numel() for parameter in real.parameters())
    assert size.bytes == sum(
        tensor.numel() * tensor.element_size()
        for tensor in {id(t): t for t in (*real.parameters(), *real.buffers())}.values()
    )


def layers(tensors):
    return {index: tuple(tensor.shape) for index, tensor in enumerate(tensors)}


@pytest.mark.slow
def test_the_encoder_of_an_encoder_decoder(rehearsed, tmp_path):
    """The classifier of T5 counts tokens and takes the last one: shapes that depend on contents."""
    config = {
        "model_type": "t5", "vocab_size": 40, "d_model": 12, "d_kv": 6, "d_ff": 24, "num_layers": 4, "num_heads": 2,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text(json.dumps(config))
    adaptor = "logits: output.logits, hidden: output.encoder_hidden_states, attention: output.encoder_attentions"
    change = [
        ("{config: TEACHER}", "{path: t5}"),
        (", initialize: {layers: [0, 2]}", ""),
        (
            "stages:",
            f"adaptors:\n  teacher: &t5 {{{adaptor}, inputs_mask: batch.attention_mask}}\n  student: *t5\nstages:",
        ),
        ("layers: last", "layers: {4: 2}"),
        ("layers: last", "layers: {3: 1}"),
    ]
    outcome = rehearsed(SPEC, change=change)
    assert outcome.codes == []
    hidden = outcome.stage.features["teacher"]["hidden"]
    assert [(shape.layer, shape.shape) for shape in hidden] == [(0, (4, 16, 12)), (4, (4, 16, 12))]


@pytest.mark.slow
def test_copied_tensors_are_counted(rehearsed):
    change = [("TEACHER", f"{{model_type: bert, {FAMILIES['bert']}}}"), ("[0, 2]}", "[0, 2], embeddings: false}")]
    outcome = rehearsed(SPEC, change=change)
    made = outcome.found.models["student"].initialization
    assert made.source == "teacher"
    assert all(name.startswith("bert.embeddings.") for name in made.new)
    assert ("bert.encoder.layer.1.output.dense.weight", "bert.encoder.layer.2.output.dense.weight") in made.copied
    assert any(name.startswith("bert.encoder.layer.1.") for name in made.unused)
    embeddings = 40 * 12 + 512 * 12 + 2 * 12 + 2 * 12
    assert made.copied_parameters == outcome.found.models["student"].parameters - embeddings


def test_no_weight_is_read(rehearsed, tmp_path):
    """A folder with a configuration alone is enough."""
    (tmp_path / "bert").mkdir()
    config = {"model_type": "bert", "hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 4}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    outcome = rehearsed(SPEC, change=[("{config: TEACHER}", "{path: bert}")])
    assert outcome.codes == []
    assert outcome.stage.flops.total > 0


def test_a_model_of_the_hub_that_is_not_here_is_a_note(rehearsed):
    outcome = rehearsed(
        SPEC,
        change=[
            ("{config: TEACHER}", "{path: nobody/nothing}"),
            ("layers: last", "layers: {4: 2}"),
            ("layers: last", "layers: {3: 1}"),
        ],
    )
    assert set(outcome.codes) == {"KD401"}
    assert not outcome.found.failed
    assert "is not on this machine yet" in outcome.found.findings[0].message
