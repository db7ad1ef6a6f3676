"""Rehearses one stage: its training step on fake tensors, with the parts that the engine trains with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kdspec.api.kinds.context import Input, OptimizerContext
from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.working.batch import Batch
from kdspec.api.working.logits import Logits
from kdspec.api.working.step import Features, Step, Term
from kdspec.api.working.task import BuiltTask
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.memory import size
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.shape_check import settle
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.step.build_models import StageModels
from kdspec.engine.step.optimization import parameter_groups, with_decay
from kdspec.engine.step.trainable import TrainableModule
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.objectives.reductions import reductions
from kdspec.ops.mean import Mean
from kdspec.registry.registry import Registry
from kdspec.rehearsal.cache_size import answer_bytes, row_bytes
from kdspec.rehearsal.examples import Examples, form_of, made_up, tokens_of
from kdspec.rehearsal.result import Flops, Lengths, Memory, RehearsedStage, Shape
from kdspec.rehearsal.watch import Watch
from kdspec.spec.teacher_cache import CacheFacts, decide, shown


@dataclass
class RehearsedStep:
    """The results so far; they are kept if a later part fails."""

    inputs: dict[str, Shape] = field(default_factory=dict)
    shapes: dict[str, dict[str, tuple[Shape, ...]]] = field(default_factory=dict)
    cache: dict[str, int] = field(default_factory=dict)
    """Bytes of a row for each teacher."""
    matches: tuple[PlannedMatch, ...] = ()
    groups: dict[str, int] = field(default_factory=dict)
    decayed: dict[str, int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    """Features of the student whose attention may have dropout in it."""
    ends: dict[str, str] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    row_tokens: int | None = None
    memory: Memory | None = None


class StageRehearsal:
    """Runs the step of a stage once; `found` has the results.

    Args:
        plan: the plan of the stage.
        stage: the stage, with one task.
        registry: the source of derived projections.
        models: builds the modules, on fake or real tensors.
        tasks: the stage's tasks; their rows are not needed.
        inputs: for each form of the models the tensors of a batch of the longest rows.
        typical: those of a batch of rows of the usual length, if they are not the same.
        lengths: the lengths of the rows, if they are known.
    """

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        *,
        registry: Registry,
        models: Models,
        tasks: Mapping[str, BuiltTask],
        inputs: Examples,
        typical: Examples | None = None,
        lengths: Lengths | None = None,
    ) -> None:
        self.plan, self.stage, self.registry, self.models, self.tasks = plan, stage, registry, models, tasks
        self.spec, self.inputs, self.typical, self.lengths = plan.spec, inputs, typical, lengths
        (self.task,) = stage.tasks.values()
        self.stage_models = StageModels(plan, stage, models, tasks, torch.device("cpu"))
        # The loss scaling of fp16 reads values, which fake tensors do not have; shapes and sizes are those of bf16.
        precision = "bf16" if stage.training.precision == "fp16" else stage.training.precision
        self.backend = SingleProcess("cpu", precision)
        self.found = RehearsedStep()
        self.watch = Watch(contents=True)
        self.batches: Mapping[str, Batch] = {}
        """By model; models of one form share theirs."""
        self.kept: dict[str, Features] = {}
        """The features of all models, until the losses are computed."""

    def run(self, *, contents: bool) -> None:
        """Forward, losses, backward and, on fake tensors, the optimizer's step, which gives the memory.

        Raises:
            FindingError: KD3xx, KD4xx and KD510 for mistakes; KD506 if a component raises.
        """
        runners = self.stage_models.runners(self.task)
        modules = [forward.module for forward in runners.values()]
        if not has_gpu():  # there a teacher waits in the memory of the host beside its copy in another precision
            modules += [self.models.module(name) for name in runners]
        held = {id(tensor): tensor for each in modules for tensor in (*each.parameters(), *each.buffers())}
        cached_teachers = list(held.values())
        self.batches = self._made_up(self.inputs)
        own = self.batches[self.task.student]
        self.found.inputs = {name: _shape(own.tensors[name]) for name in self.student_inputs}
        self.watch = Watch(contents=contents)
        given = [tensor for batch in self.batches.values() for tensor in batch.tensors.values()]
        self.watch.alive.leave_out([*given, *cached_teachers])
        with self.watch:
            self.kept = self._features(runners)
            self.found.matches = settle(self.spec, self.registry, self.task, self.kept)
            before = self.watch.alive.bytes
            trainable = self.stage_models.trainable(self.models.module(self.task.student), self.found.matches)
            added = self.watch.alive.bytes - before
            if trainable.objective.reads_teachers_by_matches:
                self.found.cache = {
                    name: self._cache(runners[name], self.batches[name], of, reduces=True)
                    for name, of in self.kept.items()
                }
            groups = parameter_groups(trainable, self.stage_models.path)
            self.found.groups = {group["name"]: sum(p.numel() for p in group["params"]) for group in groups}
            self._backward(trainable, self._loss(trainable))
            self.kept = {}
            self.found.unused = tuple(
                n for n, p in trainable.student.named_parameters() if p.requires_grad and p.grad is None
            )
            if not contents:
                groups = with_decay(groups, trainable, self.stage.training.optimizer)
                self.found.memory = self._memory(groups, size(cached_teachers), added)
            if self.typical is not None:
                self._again(runners, trainable, self.typical)

    @property
    def student_inputs(self) -> Mapping[str, Input]:
        """The tensors of a batch for the student."""
        return self.inputs[form_of(self.plan, self.task.student)]

    def _made_up(self, inputs: Examples) -> dict[str, Batch]:
        made = {form: made_up(example) for form, example in inputs.items()}
        return {name: made[form_of(self.plan, name)] for name in self.task.models}

    def _again(self, runners: Mapping[str, ModelRunner], trainable: TrainableModule, inputs: Examples) -> None:
        """Cost and cache for rows of these inputs, in place of those for the longest."""
        batches, features, before = self._made_up(inputs), {}, dict(self.found.flops)
        for name, forward in runners.items():
            is_teacher = name != self.task.student
            mode = frozen(forward.module) if is_teacher else nullcontext()
            with mode, self.backend.autocast(), self._counted(name):
                features[name] = forward(batches[name])
        try:
            terms = self.terms(trainable, features, batches[self.task.student]).values()
            self._backward(trainable, _weighed(terms))
        except FindingError:  # a loss that takes other rows: the cost is that of the longest
            self.found.flops = before
            return
        self.found.row_tokens = tokens_of(inputs[form_of(self.plan, self.task.student)])
        reduces = trainable.objective.reads_teachers_by_matches
        self.found.cache = {
            name: self._cache(runners[name], batches[name], of, reduces=reduces) for name, of in features.items()
        }

    def _features(self, runners: Mapping[str, ModelRunner]) -> dict[str, Features]:
        """Every model's features, the student's in training mode and with its graph."""
        features: dict[str, Features] = {}
        mistakes: list[Finding] = []
        for name in (*self.task.teachers, self.task.student):
            forward, batch = runners[name], self.batches[name]
            is_teacher = name != self.task.student
            forward.module.train(not is_teacher)
            try:
                with frozen(forward.module), self.backend.autocast():
                    forward.shorten(_first_row(batch))
                mode = frozen(forward.module) if is_teacher else nullcontext()
                with mode, self.backend.autocast(), self._counted(name):
                    features[name] = forward(batch)
            except FindingError as error:
                if unclear(error):
                    raise
                mistakes += error.findings
                continue
            self.found.dropped |= forward.dropped
            if forward.ends is not None:
                self.found.ends[name] = forward.ends.layer
            self.found.shapes[name] = _shapes(features[name])
            self.found.cache[name] = self._cache(forward, batch, features[name], reduces=False)
        if mistakes:
            raise FindingError(*mistakes)
        return features

    def _loss(self, trainable: TrainableModule) -> Tensor:
        """The weighted sum of the terms. The micro-batch is the whole step, so no term is scaled."""
        return _weighed(self.terms(trainable, self.kept, self.batches[self.task.student]).values())

    def terms(self, trainable: TrainableModule, features: Mapping[str, Features], batch: Batch) -> dict[str, Term]:
        """The strategy's terms for these features of a batch."""
        teachers = {name: features[name] for name in self.task.teachers}
        step = Step(student=features[self.task.student], teachers=teachers, task=self.task.task, batch=batch)
        with (
            self.backend.autocast(),
            error_context(self.stage_models.path, "the objective"),
            self._counted("losses"),
        ):
            terms = trainable.objective(step)
            if trainable.objective.compares_steps:
                terms = terms | trainable.objective.relate(trainable.objective.views(step), step.progress)
        if not terms:
            raise FindingError(
                Finding("KD306", f"stage `{self.stage.name}` has no term at its start", self.stage_models.path)
            )
        return terms

    def _backward(self, trainable: TrainableModule, loss: Tensor) -> None:
        if not loss.requires_grad:
            message = f"no term of stage `{self.stage.name}` depends on a parameter that is trained"
            raise FindingError(Finding("KD306", message, self.stage_models.path))
        trainable.check_reached(loss, self.stage_models.path)
        with error_context(self.stage_models.path, "the backward pass"), self._counted("backward"):
            self.backend.backward(loss)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        before = self.watch.flops
        yield
        self.found.flops[name] = self.watch.flops - before

    def _memory(self, groups: list[dict[str, Any]], models: int, added: int) -> Memory | None:
        """The peak memory of a step after the first, when the optimizer has its state."""
        training = self.stage.training
        learning = [p for group in groups for p in group["params"] if p.grad is not None]
        gradients = size(p.grad for p in learning)
        forward_backward = self.watch.alive.peak - added
        self.watch.alive.mark()
        options = [{key: value for key, value in group.items() if key != "name"} for group in groups]
        try:
            optimizer = training.optimizer.build(OptimizerContext())(options)
            self.found.decayed = _decayed(optimizer, [group["name"] for group in groups])
            limit = None if training.max_grad_norm is None else training.max_grad_norm.value
            self.backend.clip(optimizer, learning, limit)
            optimizer.step()
        except Exception:  # noqa: BLE001 - an optimizer that reads values: its memory stays unknown
            return None
        state = size(v for values in optimizer.state.values() for v in values.values() if isinstance(v, Tensor))
        peak = max(forward_backward + state, self.watch.alive.peak - added)
        lanes = self.stage.training.lanes  # each lane has its own gradients
        return Memory(
            models=models + added, gradients=gradients * lanes, optimizer=state, activations=peak - gradients - state
        )  # fmt: skip

    def result(self) -> RehearsedStage:
        """The result, per row for sizes that grow with the rows."""
        found, rows = self.found, self.stage.training.batch_size
        given = min((shape.shape[0] for shape in found.inputs.values()), default=rows)
        flops = self._flops(given)
        cache = {name: found.cache[name] for name in self.task.teachers if name in found.cache}
        return RehearsedStage(
            name=self.stage.name,
            rows=given,
            lengths=self.lengths,
            row_tokens=found.row_tokens or tokens_of(self.student_inputs),
            inputs=found.inputs,
            features=found.shapes,
            matches=found.matches,
            groups=found.groups,
            decayed=found.decayed,
            unused=found.unused,
            ends=found.ends,
            flops=flops,
            memory=found.memory,
            cache=cache,
            caching={name: self._kept(cache[name], flops.teachers[name] if flops else None) for name in cache},
        )

    def _kept(self, size: int, flops: int | None) -> str:
        """Whether the teacher will be cached, and why."""
        training = self.stage.training
        varies = next((why for task in self.stage.tasks if (why := self.spec.tasks[task].varies()) is not None), None)
        facts = CacheFacts(obstacle=varies, epochs=training.epochs, flops=flops, row_bytes=size)
        decision = decide(training.teacher_cache, facts, "cuda" if has_gpu() else "cpu")
        cached = f"cached in {shown(training.teacher_cache)}"
        return f"{cached} {decision.reason}" if decision.use else f"not cached: {decision.reason}"

    def _flops(self, rows: int) -> Flops | None:
        flops = {name: total // rows for name, total in self.found.flops.items()}
        if "backward" not in flops:
            return None
        return Flops(
            teachers={name: flops[name] for name in self.task.teachers},
            forward=flops[self.task.student],
            losses=flops["losses"],
            backward=flops["backward"],
        )

    def _cache(self, forward: ModelRunner, batch: Batch, features: Features, *, reduces: bool) -> int:
        """Bytes of a row in a cache: the features that come from the model, not from the batch."""
        name = forward.name
        enough = reductions(self.task.matches, name) if reduces else ()
        codecs = CodecChoice.of(self.stage.training.teacher_cache, self.task.needs.logits.get(name))
        if name != self.task.student and (answers := answer_bytes(forward, batch, len(batch.rows), codecs)) is not None:
            return answers
        kept = self.spec.tasks[self.task.task].logit_positions
        return row_bytes(features, self.task.features[name].values(), enough, codecs, kept)


def has_gpu() -> bool:
    """Whether the run is expected to train on a GPU."""
    return torch.cuda.is_available()


def _weighed(terms: Iterable[Term]) -> Tensor:
    parts = [(t.loss.value if isinstance(t.loss, Mean) else t.loss) * t.weight for t in terms]
    return sum(parts[1:], start=parts[0])


def unclear(error: FindingError) -> bool:
    """Whether the cause of the error may be the fake tensors instead of the spec."""
    return error.findings[0].code == "KD506"


def _decayed(optimizer: Optimizer, names: list[str]) -> dict[str, int]:
    """The number of parameters with weight decay in each group."""
    found: dict[str, int] = dict.fromkeys(names, 0)
    for name, group in zip(names, optimizer.param_groups, strict=True):
        if group.get("weight_decay"):
            found[name] += sum(parameter.numel() for parameter in group["params"])
    return found


def _first_row(batch: Batch) -> Batch:
    def first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[:1] for name, tensor in tensors.items()}

    inputs = {name: first(tensors) for name, tensors in batch.inputs.items()}
    return Batch(inputs=inputs, targets=first(batch.targets), rows=batch.rows[:1])


def _shape(value: Tensor | Logits, layer: int | None = None) -> Shape:
    sizes = (*value.shape, value.classes) if isinstance(value, Logits) else value.shape
    dtype = value.tensors[0].dtype if isinstance(value, Logits) else value.dtype
    return Shape(tuple(map(int, sizes)), str(dtype).removeprefix("torch."), layer)


def _shapes(features: Features) -> dict[str, tuple[Shape, ...]]:
    found = {}
    for name, value in features.items():
        layers = value.items() if isinstance(value, Mapping) else ((None, head) for head in features.heads(name))
        found[name] = tuple(_shape(value, layer) for layer, value in layers if isinstance(value, (Tensor, Logits)))
    return found
