"""A student's attention is compared before dropout, and its scores are those before the softmax."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.attention.attention_record import AttentionRecord, of_maps
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.models import checkpointing
from kdspec.engine.step.lanes.dropout import LaneDropout
from kdspec.ops.attention import attention_ce, attention_mse

SIZES = {"num_hidden_layers": 3, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 40}
PAD = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ATTENTION = {"attention_probs_dropout_prob": 0.5, "hidden_dropout_prob": 0.0}
FAMILIES = {
    "albert": {**ATTENTION, "embedding_size": 8},
    "bert": ATTENTION,
    "convbert": ATTENTION,
    "deberta-v2": {**ATTENTION, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 8, "n_layers": 3, "n_heads": 2, "hidden_dim": 16, "dropout": 0.0, "attention_dropout": 0.5},
    "electra": {**ATTENTION, "embedding_size": 8},
    "gpt2": {"n_embd": 8, "n_layer": 3, "n_head": 2, "attn_pdrop": 0.5, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "llama": {"attention_dropout": 0.5, "num_key_value_heads": 1},
    "modernbert": {"attention_dropout": 0.5},
    "mpnet": ATTENTION,
    "qwen3": {"attention_dropout": 0.5, "num_key_value_heads": 1, "head_dim": 4},
    "roberta": ATTENTION,
}


def model_of(family, **changes):
    import transformers

    config = transformers.AutoConfig.for_model(family, **{**SIZES, **PAD, **FAMILIES.get(family, {}), **changes})
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(config, attn_implementation="eager")


@dataclass(frozen=True)
class _Spec:
    adaptors: dict
    models: dict


def runner(module, feature="attention", path="output.attentions", *, layers=(0,), trains=True, selective=False):
    @dataclass(frozen=True)
    class Component:
        name: str = "transformers"

    features = {feature: Feature(name=feature, paths=(parse(path),), several=False, layers=layers)}
    findings = ModelFindings(_Spec({}, {"student": Component()}), "student", "texts")
    return ModelRunner(findings, module, features, chooses=True, trains=trains, selective=selective)


def batch(rows=3, length=7):
    ids = torch.arange(rows * length).reshape(rows, length) % 30 + 3
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return Batch(inputs={"": {"input_ids": ids, "attention_mask": mask}})


def of_evaluation(module, layer=0):
    was = module.training
    with torch.no_grad():
        maps = module.eval()(**batch().inputs[""], output_attentions=True).attentions[layer]
    module.train(was)
    return maps


@pytest.mark.parametrize("short", [False, True], ids=["whole", "after the first batch"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_attention_of_a_student_in_training_is_that_before_dropout(family, short):
    module = model_of(family).train()
    expected = of_evaluation(module)
    run = runner(module, selective=True)
    if short:
        with frozen(module):
            run.shorten(batch())
    found = run(batch())["attention"][0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.requires_grad
    assert not run.dropped
    # The maps that the model itself returns have zeros in them.
    module.set_attn_implementation("eager")
    returned = module(**batch().inputs[""], output_attentions=True).attentions[0]
    assert (returned[0] == 0).sum() > (expected[0] == 0).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_what_the_softmax_makes_attention_of_and_0_where_masked(family):
    module = model_of(family).train()
    expected = of_evaluation(module)
    for trains in (True, False):
        module.train(trains)
        found = runner(module, "attention_scores", "output.attention_scores", trains=trains)(batch())
        scores = found["attention_scores"][0]
        masked = expected == 0
        assert (scores[masked] == 0).all()
        assert masked[1, :, :4, 4:].all()
        made = scores.masked_fill(masked, -torch.inf).softmax(-1)
        kept = batch().inputs[""]["attention_mask"].bool()[:, None, :, None].expand_as(made)
        torch.testing.assert_close(made[kept], expected[kept], rtol=1e-4, atol=1e-5)


def test_a_student_that_is_its_teacher_has_the_teachers_entropy():
    """With p = 0.1 the cross-entropy was 6.08 where its minimum is 3.76, and the gradient has to flow."""
    module = model_of("bert", attention_probs_dropout_prob=0.1, num_hidden_layers=1).train()
    mask = batch().inputs[""]["attention_mask"]
    teacher = of_evaluation(module)
    student = runner(module)(batch())["attention"][0]
    least = attention_ce(teacher, teacher, mask).value
    loss = attention_ce(student, teacher, mask).value
    assert loss.item() == pytest.approx(least.item(), rel=1e-6)
    assert attention_mse(student, teacher, mask).value.item() == pytest.approx(0, abs=1e-12)
    other = model_of("bert", attention_probs_dropout_prob=0.1, num_hidden_layers=1, initializer_range=0.5).train()
    attention_ce(runner(other)(batch())["attention"][0], teacher, mask).value.backward()
    assert other.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


def test_dropout_takes_the_same_random_numbers_as_without_a_record():
    module = model_of("bert").train()
    torch.manual_seed(5)
    recorded = runner(module, "hidden", "output.hidden_states", layers=(3,))(batch())["hidden"][3]
    torch.manual_seed(5)
    run = runner(module)
    run(batch())
    after = torch.rand(())
    torch.manual_seed(5)
    plain = module(**batch().inputs[""], output_hidden_states=True).hidden_states[3]
    assert torch.equal(after, torch.rand(()))
    assert torch.equal(recorded, plain)


def test_layers_whose_attention_is_not_read_stay_on_sdpa(monkeypatch):
    module = model_of("bert").train()
    run = runner(module, layers=(1,), selective=True)
    with frozen(module):
        run.shorten(batch())
    calls = []
    own = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or own(*a, **k))
    run(batch())
    assert len(calls) == 2


def test_activations_that_are_computed_again_keep_the_gradient():
    gradients = []
    for again in (False, True):
        module = model_of("bert").train()
        if again:
            checkpointing(module, "enable")({"use_reentrant": False})
        torch.manual_seed(1)
        found = runner(module, layers=(0, 1, 2))(batch())["attention"]
        sum(maps.square().sum() for maps in found.values()).backward()
        gradients.append(module.encoder.layer[0].attention.self.query.weight.grad)
    torch.testing.assert_close(*gradients)


def test_lanes_and_half_precision_show_attention_before_dropout_too():
    module = model_of("bert").train()
    expected = of_evaluation(module)
    with LaneDropout():
        found = runner(module)(batch())["attention"][0]
    torch.testing.assert_close(found, expected)
    for feature, path in (("attention", "output.attentions"), ("attention_scores", "output.attention_scores")):
        with torch.autocast("cpu", torch.bfloat16):
            half = runner(module, feature, path)(batch())[feature][0].float()
        assert torch.isfinite(half).all()
        if feature == "attention":
            torch.testing.assert_close(half, expected, rtol=0.05, atol=0.02)


class Permuted(nn.Module):
    """Returns its maps in another order of axes, as XLNet."""

    def __init__(self, p=0.5):
        super().__init__()
        self.drop = nn.Dropout(p)
        self.weight = nn.Parameter(torch.randn(2, 2))

    def forward(self, input_ids):
        scores = self.weight.repeat(2, 2, 1, 1) + input_ids.sum()
        return {"attentions": [self.drop(scores.softmax(-1)).transpose(0, 1)]}


def test_maps_that_are_changed_after_dropout_are_named():
    module = Permuted().train()
    run = runner(module)
    run(Batch(inputs={"": {"input_ids": torch.ones(2, 2)}}))
    assert run.dropped == {"attention"}
    calm = runner(Permuted(p=0.0).train())
    calm(Batch(inputs={"": {"input_ids": torch.ones(2, 2)}}))
    assert not calm.dropped


def test_scores_that_cannot_be_found_are_an_error():
    module = model_of("gpt_oss", num_key_value_heads=1, head_dim=4, num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(FindingError) as caught:
        runner(module, "attention_scores", "output.attention_scores")(batch())
    (found,) = caught.value.findings
    assert found.code == "KD303"
    assert "compare `attention` instead" in found.help


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.floats(0, 0.9), st.booleans(), st.data())
def test_a_record_has_the_map_before_any_dropout(rows, heads, length, p, training, data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    scores = torch.randn(rows, heads, length, length, generator=generator) * data.draw(st.sampled_from([1.0, 30.0]))
    masked = torch.rand(scores.shape, generator=generator) < 0.3
    masked[..., 0] = False  # a query with no key at all has NaN
    given_scores = scores.masked_fill(masked, data.draw(st.sampled_from([-torch.inf, -1e4, torch.finfo().min])))
    softmax = data.draw(st.sampled_from([functional.softmax, torch.softmax, torch.Tensor.softmax]))
    record = AttentionRecord(scores=True)
    with record:
        hidden = functional.dropout(torch.ones(rows, length, 4), p, training)
        weights = softmax(given_scores, -1)
        returned = functional.dropout(weights.to(torch.float64), p, training)
    del hidden
    assert torch.equal(record.undropped(returned), weights.to(torch.float64))
    assert record.is_certain(returned)
    expected = scores.masked_fill(masked | (scores <= -100), 0.0)
    assert torch.equal(record.scores(returned), expected)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("output.attention_scores", "output.attentions"),
        ("output.attention_scores[1:]", "output.attentions[1:]"),
        ("output.encoder_attention_scores", "output.encoder_attentions"),
        ("output.body.attention_scores[0]", "output.body.attentions[0]"),
        ("output.attentions", None),
        ("batch.attention_scores", None),
        ('output["attention_scores"]', 'output["attentions"]'),
        ('modules["encoder"].output.attention_scores', None),
    ],
)
def test_the_path_of_scores_names_that_of_the_maps(written, read):
    assert of_maps(parse(written)) == (None if read is None else parse(read))
