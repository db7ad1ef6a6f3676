"""Numbers of a rehearsal against those of a real step: operations, parameters, memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Step
from kdspec.api.working.task import Head
from kdspec.engine.forward.model_runner import frozen
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.shape_check import settle
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.step.build_models import StageModels
from kdspec.engine.step.optimization import parameter_groups
from kdspec.testing import registry

NETS = Path(__file__).parent / "nets.py"
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
      max_length: 32
models:
  teacher:
    transformers:
      config: {model_type: bert, vocab_size: 400, hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 256}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 2, hidden_size: 32, intermediate_size: 128}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl}
        hard_labels: {weight: 0.5}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: uniform}
          - {feature: hidden, loss: mmd, layers: {4: 2}}
          - {feature: attention, loss: attention_mse, layers: {3: 1}}
    training: {epochs: 1, batch_size: 8, optimizer: {adamw: {lr: 0.01}}}
"""
BERT = "model_type: bert, vocab_size: 400, hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4"
LLAMA = f"{BERT.replace('bert', 'llama')}, num_key_value_heads: 2, pad_token_id: 0"
MATCHES = SPEC[SPEC.index("        matches:") : SPEC.index("    training:")]
DIFFERENT = {
    "an encoder with matches": (),
    "a decoder with soft labels alone": ((BERT, LLAMA), (MATCHES, ""), ("batch_size: 8", "batch_size: 24")),
    "long rows and activations made twice": (
        ("max_length: 32", "max_length: 256"),
        ("batch_size: 8", "batch_size: 4, gradient_checkpointing: true"),
    ),
}
"""Specs whose memory goes into different things."""
EACH = [
    pytest.param(change, id=name, marks=[pytest.mark.slow] * name.startswith("long"))
    for name, change in DIFFERENT.items()
]
HEAD = Head(kind="sequence_classification", labels=("bad", "fair", "good"))


class RealStep:
    """The step of a stage with contents, in the parts that the engine has; `watch` is what surrounds each part."""

    def __init__(self, plan, inputs):
        self.stage = plan.stages[-1]
        (task,) = self.stage.tasks.values()
        tasks = {task.task: plan.spec.tasks[task.task].without_rows()}
        self.stage_models = StageModels(
            plan, self.stage, Models(plan, {"reviews": HEAD}, {}), tasks, torch.device("cpu")
        )
        self.runners = self.stage_models.runners(task)
        made = {name: torch.ones(shape.shape, dtype=torch.long) for name, shape in inputs.items()}
        if "token_type_ids" in made:
            made["token_type_ids"] *= 0
        targets = {"labels": made.pop("labels")}
        self.batch = Batch(inputs={"": made}, targets=targets)
        self.spec = plan.spec
        with torch.no_grad():
            features = {name: forward(self.batch) for name, forward in self.runners.items()}
        matches = settle(self.spec, registry(), task, features)
        self.student = self.runners["student"].module.train()
        self.trainable = self.stage_models.trainable(self.student, matches)

    def run(self):
        """Yield the name of each part when it is done."""
        teacher = self.runners["teacher"]
        with frozen(teacher.module):
            taught = teacher(self.batch)
        yield "teacher"
        learnt = self.runners["student"](self.batch)
        yield "forward"
        terms = self.trainable.objective(
            Step(student=learnt, teachers={"teacher": taught}, task="reviews", batch=self.batch)
        )
        loss = sum(getattr(term.loss, "value", term.loss) * term.weight for term in terms.values())
        yield "losses"
        loss.backward()
        yield "backward"

    def optimize(self):
        groups = parameter_groups(self.trainable, ("stages",))
        options = [{key: value for key, value in group.items() if key != "name"} for group in groups]
        optimizer = torch.optim.AdamW(options, lr=0.01)
        while True:
            SingleProcess().clip(optimizer, self.trainable.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            yield optimizer


@pytest.mark.slow
@pytest.mark.parametrize("change", EACH)
def test_operations_are_those_of_the_real_step(change, rehearsed):
    outcome = rehearsed(SPEC, change=change)
    assert outcome.codes == []
    flops = outcome.stage.flops
    step = RealStep(outcome.plan, outcome.stage.inputs)
    real, before = {}, 0
    # torch's counter leaves out the fused attention of the CPU: two products forward, and five backward with one made anew.
    fused = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, *_, **__: product(q, k, 2),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda _, q, k, *__, **___: product(
            q, k, 5
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        for part in step.run():
            real[part] = counter.get_total_flops() - before
            before += real[part]
    told = {"teacher": flops.teachers["teacher"], "forward": flops.forward}
    told |= {"losses": flops.losses, "backward": flops.backward}
    for part, count in told.items():
        assert outcome.stage.rows * count == pytest.approx(real[part], rel=0.03), part
    assert flops.total == sum(told.values())


def product(query, key, times):
    """So many products of every query with every key; both `(batch, heads, length, width)`."""
    rows, heads, length, width = query
    return times * 2 * rows * heads * length * key[2] * width


def test_the_groups_of_the_optimizer_are_the_real_ones(rehearsed):
    outcome = rehearsed(SPEC)
    step = RealStep(outcome.plan, outcome.stage.inputs)
    groups = parameter_groups(step.trainable, ("stages",))
    assert outcome.stage.groups == {group["name"]: sum(p.numel() for p in group["params"]) for group in groups}
    assert sum(outcome.stage.groups.values()) == sum(p.numel() for p in step.trainable.parameters())


def test_the_parameters_with_weight_decay_are_counted_by_group(rehearsed):
    outcome = rehearsed(SPEC)
    step = RealStep(outcome.plan, outcome.stage.inputs)
    matrices = {
        name: sum(p.numel() for p in group["params"] if p.ndim > 1)
        for group in parameter_groups(step.trainable, ("stages",))
        for name in [group["name"]]
    }
    assert outcome.stage.decayed == matrices
    everything = rehearsed(SPEC, change=(("lr: 0.01", "lr: 0.01, decay: all"),)).stage
    assert everything.decayed == everything.groups
    none = rehearsed(SPEC, change=(("lr: 0.01", "lr: 0.01, weight_decay: 0"),)).stage
    assert set(none.decayed.values()) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("change", EACH)
def test_memory_is_near_that_of_the_real_step(change, rehearsed):
    """The profiler hears of every allocation from torch's allocator; what is held before it begins is added."""
    outcome = rehearsed(SPEC, change=change)
    memory = outcome.stage.memory
    step = RealStep(outcome.plan, outcome.stage.inputs)
    optimizer = step.optimize()
    for _ in step.run():
        pass
    made = next(optimizer)  # makes the optimizer's state
    cached_teachers = [
        *step.trainable.parameters(),
        *step.trainable.buffers(),
        *step.runners["teacher"].module.parameters(),
    ]
    cached_teachers += step.runners["teacher"].module.buffers()
    models = sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in cached_teachers}.values())
    assert memory.models == models
    state = sum(v.numel() * v.element_size() for values in made.state.values() for v in values.values())
    assert memory.optimizer == state
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for _ in step.run():
            pass
        next(optimizer)
    assert memory.peak == pytest.approx(models + state + most(profile), rel=0.25)


def most(profile):
    """The largest sum of allocations at any moment of a profile."""
    alive = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


@pytest.mark.slow
def test_checkpointing_trades_operations_for_memory(rehearsed):
    plain = rehearsed(SPEC).stage
    saved = rehearsed(SPEC, sets=["stages.distil.training.gradient_checkpointing=true"]).stage
    assert saved.memory.activations < plain.memory.activations
    assert saved.flops.backward > plain.flops.backward
    assert saved.flops.forward == plain.flops.forward


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_mixed_precision_halves_what_is_kept(rehearsed, precision):
    plain = rehearsed(SPEC).stage
    mixed = rehearsed(SPEC, sets=[f"stages.distil.training.precision={precision}"]).stage
    assert mixed.memory.activations < plain.memory.activations
    assert mixed.memory.models == plain.memory.models


@pytest.mark.slow
def test_a_teacher_in_half_precision_is_beside_its_copy_of_half_the_size(rehearsed):
    plain = rehearsed(SPEC).stage
    short = rehearsed(SPEC, sets=["stages.distil.training.teacher_precision=bf16"]).stage
    teacher = plain.memory.models - plain.memory.gradients  # the student's weights take what its gradients take
    assert short.memory.models == plain.memory.models + teacher / 2
    assert short.features["teacher"]["hidden"][0].dtype == "float32"
    assert short.flops == plain.flops


@pytest.mark.slow
def test_a_student_in_another_type_has_projections_of_that_type(rehearsed):
    outcome = rehearsed(SPEC, change=[("{like: teacher,", "{like: teacher, dtype: bfloat16,")])
    assert outcome.codes == []
    assert outcome.stage.features["student"]["hidden"][0].dtype == "bfloat16"
    assert outcome.stage.groups["projection"] == 3 * (32 * 64 + 64)


@pytest.mark.slow
def test_rows_cost_the_same_in_any_batch(rehearsed):
    one, eight = (rehearsed(SPEC, sets=[f"stages.distil.training.batch_size={size}"]).stage for size in (1, 8))
    assert one.flops == eight.flops
    assert one.cache == eight.cache
    # hidden of the layers 0, 2 and 4, attention of one layer, logits
    assert one.cache == {"teacher": 4 * (3 * 32 * 64 + 4 * 32 * 32 + 3)}


def test_parameters_without_a_gradient_are_unused(rehearsed):
    change = [("soft_labels: {loss: kl}", "soft_labels: {weight: 0}"), ("weight: 0.5", "weight: 0")]
    stage = rehearsed(SPEC, change=change).stage
    assert set(stage.unused) == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


@pytest.mark.slow
def test_a_loss_with_parameters_has_a_group(rehearsed):
    outcome = rehearsed(SPEC, NETS, change=[("soft_labels: {loss: kl}", "soft_labels: {loss: learns}")])
    assert outcome.codes == []
    assert outcome.stage.groups["objective"] == 3
