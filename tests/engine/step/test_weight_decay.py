"""Weight decay leaves out biases and norms, as the trainers of the field do."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdspec import ModelContext
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.event_log import read
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.step.weight_decay import split_groups, undecayed
from kdspec.events import StepDone

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
PLAIN = (
    "stages.distil.distiller={supervised: {model: student}}",
    f"{TRAINING}={{steps: 20, batch_size: 11, shuffle: false, batching: random, max_grad_norm: null, evaluate: null}}",
    f"{TRAINING}.optimizer={{adamw: {{lr: 0.01, weight_decay: 0.3}}}}",
    f"{TRAINING}.lr_schedule=constant",
)
FAMILIES = {
    "albert": {},
    "bert": {},
    "convbert": {},
    "deberta-v2": {"position_biased_input": False, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "distilbert": {"n_layers": 2, "dim": 8, "n_heads": 2, "hidden_dim": 16},
    "electra": {"embedding_size": 8},
    "funnel": {"block_sizes": [1, 1], "d_model": 8, "n_head": 2, "d_head": 4, "d_inner": 16},
    "gemma2": {"head_dim": 4, "num_key_value_heads": 2},
    "gpt2": {"n_layer": 2, "n_embd": 8, "n_head": 2},
    "llama": {"num_key_value_heads": 2},
    "mobilebert": {"embedding_size": 8, "intra_bottleneck_size": 8},
    "modernbert": {},
    "mpnet": {},
    "nystromformer": {},
    "qwen3": {"head_dim": 4, "num_key_value_heads": 2},
    "roberta": {},
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2},
    "xlnet": {"d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 16},
}

CLASSES = {"funnel": "FunnelBaseModel", "t5": "T5EncoderModel"}


def module_of(family):
    import transformers

    sizes = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    changes = FAMILIES[family] if "block_sizes" in FAMILIES[family] else sizes | FAMILIES[family]
    config = transformers.AutoConfig.for_model(family, vocab_size=40, pad_token_id=0, **changes)
    if family in CLASSES:
        return getattr(transformers, CLASSES[family])(config)
    return transformers.AutoModel.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_that_do_not_decay_are_those_of_the_trainer_of_transformers(family):
    from transformers import Trainer

    module = module_of(family)
    left_out = undecayed(module)
    theirs = set(Trainer.get_decay_parameter_names(None, module))
    every = dict(module.named_parameters(remove_duplicate=False))
    decays = {name for name, p in every.items() if id(p) not in left_out}
    assert decays <= theirs
    vectors = {name for name, p in every.items() if p.ndim < 2}
    assert theirs - decays <= vectors, "vectors and scalars are as biases"
    assert any("embed" in name or "word" in name or "wte" in name for name in decays), "embeddings decay"


def test_norms_and_biases_with_more_than_one_dimension_do_not_decay():
    class HeadsRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 4))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm((3, 4))
            self.heads_norm = HeadsRMSNorm()
            self.relative_bias = nn.Embedding(5, 2)
            self.r_w_bias = nn.Parameter(torch.ones(2, 2))
            self.linear = nn.Linear(4, 4)
            self.scale = nn.Parameter(torch.ones(()))
            self.act = nn.PReLU()
            self.gru = nn.GRU(4, 4, bidirectional=True)

    module = Wrapped()
    left_out = undecayed(module)
    decays = {name for name, p in module.named_parameters() if id(p) not in left_out}
    assert decays == {"linear.weight", *(name for name, _ in module.named_parameters() if "gru.weight" in name)}


def test_a_shared_parameter_that_is_a_bias_somewhere_does_not_decay():
    module = nn.ModuleDict({"weight": nn.Linear(3, 3), "norm": nn.LayerNorm((3, 3))})
    module["norm"].weight = module["weight"].weight
    assert undecayed(module) == {id(p) for p in module.parameters()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_splitting_keeps_every_parameter_once_in_its_order_with_its_options(data):
    params = [nn.Parameter(torch.zeros(data.draw(st.sampled_from([(2,), (2, 3), ()])))) for _ in range(8)]
    left_out = frozenset(id(p) for p in params if p.ndim < 2)
    cut = data.draw(st.integers(0, 8))
    rate = data.draw(st.sampled_from([{}, {"lr": 0.5}, {"weight_decay": 0.2}]))
    groups = [{"name": "student", "params": params[:cut]}, {"name": "projection", "params": params[cut:], **rate}]
    asked = data.draw(st.booleans())
    found = split_groups(groups, left_out, lambda options: asked)
    for name, before in (("student", params[:cut]), ("projection", params[cut:])):
        parts = [group for group in found if group["name"] == name]
        kept = [p for group in parts for p in group["params"]]
        assert {id(p) for p in kept} == {id(p) for p in before}
        assert len(kept) == len(before)
        for group in parts:
            order = [next(i for i, p in enumerate(before) if p is each) for each in group["params"]]
            assert order == sorted(order)
            assert {key: value for key, value in group.items() if key == "lr"} == (
                {"lr": 0.5} if name == "projection" and "lr" in rate else {}
            )
            if asked:
                assert (group.get("weight_decay") == 0.0) == any(id(p) in left_out for p in group["params"])
            elif name == "student":
                assert "weight_decay" not in group


def reference(toys, decay, steps=20):
    """The same training in a plain loop: adamw on two groups, or on one."""
    module = toys.Toy().build(ModelContext(name="student"))
    rows = [toys._row(number, 0) for number in range(11)]
    ids, mask, label = (torch.tensor([row[key] for row in rows]) for key in ("ids", "mask", "label"))
    without = [p for p in module.parameters() if p.ndim < 2 and decay == "weights"]
    weights = [p for p in module.parameters() if not any(p is each for each in without)]
    groups = [{"params": weights}, *([{"params": without, "weight_decay": 0.0}] if without else [])]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3)
    for _ in range(steps):
        module(ids, mask, label)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return module.state_dict()


@pytest.mark.parametrize("decay", ["weights", "all"])
def test_a_run_comes_to_the_weights_of_a_plain_loop_with_these_groups(decay, launch, toys, same):
    ran = launch(*PLAIN, *([f"{TRAINING}.optimizer.adamw.decay=all"] if decay == "all" else []))
    other = "all" if decay == "weights" else "weights"
    assert same.close(ran.weights, reference(toys, decay))
    assert not same.close(ran.weights, reference(toys, other), tolerance=1e-5)


def groups_of(result):
    """The optimizer groups in the last checkpoint."""
    manifest = max((result.folder / "checkpoints" / "distil").iterdir()) / "manifest.json"
    return json.loads(manifest.read_text())["meta"]["optimizer"]["groups"]


def test_biases_of_projections_and_parameters_of_losses_do_not_decay_either(session):
    own = "{feature: hidden, loss: hidden_mse, layers: {3: 2}, projection: {linear: {weight_decay: 0.5}}}"
    shared = "{feature: hidden, loss: hidden_mse, layers: {1: 1}}"
    result = session(f"{GENERAL}.soft_labels={{loss: scaled}}", f"{GENERAL}.matches=[{own}, {shared}]").run()
    found = {name: g["options"]["weight_decay"] for g in groups_of(result) for name in g["parameters"]}
    decayed = {name: value for name, value in found.items() if value}
    projections = {name for name in decayed if "projection" in name}
    assert sorted(decayed[name] for name in projections) == [0.01, 0.5]
    assert all(name.endswith("weight") for name in projections)
    assert decayed.keys() - projections == {
        name for name in found if name.startswith("student.") and not name.endswith("bias")
    }
    assert found["objective.soft_loss.factor"] == 0.0
    step = next(r.event for r in read(result.folder / "events.jsonl") if isinstance(r.event, StepDone))
    assert step.lr.keys() == {"student", "projection.hidden.hidden_mse.3-2", "projection", "objective"}


def test_without_weight_decay_a_group_stays_whole(session):
    result = session(f"{TRAINING}.optimizer={{adamw: {{weight_decay: 0}}}}").run()
    assert [len(group["parameters"]) for group in groups_of(result)] == [7, 2]


def test_a_run_that_began_with_decay_of_all_is_refused_and_resumes_on_request(session, toys):
    before = f"{TRAINING}.optimizer.adamw.decay=all"
    with pytest.raises(Interrupted):
        session(before, plugins=[toys.StopAt(3)]).run()
    with pytest.raises(FindingError) as caught:
        session().run()
    (found,) = caught.value.findings
    assert found.code == "KD509"
    assert any('adamw.decay` was `"all"` and is `"weights"`' in note for note in found.notes)
    made = session()
    made.resume = True
    result = made.run()
    steps = [r.event.step for r in read(result.folder / "events.jsonl") if isinstance(r.event, StepDone)]
    assert steps == list(range(1, 7))
