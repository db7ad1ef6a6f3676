"""Rehearses a plan: runs each stage's step from configurations alone, before weights or rows are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.parts import fields
from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.working.logits import HeadLogits, Logits
from kdspec.api.working.step import Features
from kdspec.api.working.task import BuiltTask, Head
from kdspec.data.prompted.prompt_tokenizer import FORM
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.memory import size
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.position_limit import positions
from kdspec.engine.forward.teacher_precision import TYPES
from kdspec.engine.run.task_heads import conflicts
from kdspec.hf import heads
from kdspec.registry.registry import Registry
from kdspec.rehearsal.alike import Alike
from kdspec.rehearsal.convertible import convertible
from kdspec.rehearsal.examples import Examples, examples, made_up, tokens_of
from kdspec.rehearsal.lengths import ROWS, measured
from kdspec.rehearsal.result import Initialization, Lengths, ModelSize, Rehearsal, RehearsedStage, together
from kdspec.rehearsal.stage_rehearsal import StageRehearsal, has_gpu, unclear

CLASSES = 2
"""Classes that are assumed if neither the task nor the models give a number."""
SMALL = 30_000_000
"""Maximum parameters of models that are built with real weights after a rehearsal on fake tensors has failed."""
FEW = 2
"""Rows of a batch of real numbers."""
ALLOWED = 512
"""Tokens of a row at most, where the spec has no limit and the rows are not known."""
MANY = 50_000_000
"""Maximum elements of features that are sampled for losses that need real numbers."""


def rehearse(plan: Plan, registry: Registry) -> Rehearsal:
    """Run the training step of every stage on fake tensors, which have shapes but no contents.

    Mistakes in the spec are not raised: they are in `findings`, with severity error, warning or note.
    """
    return _Rehearsing(plan, registry).rehearsal()


class _Rehearsing:
    def __init__(self, plan: Plan, registry: Registry) -> None:
        self.plan, self.registry, self.spec = plan, registry, plan.spec
        self.findings: list[Finding] = []
        self.assumed: dict[str, int] = {}
        names = dict.fromkeys(task for stage in plan.stages for task in stage.tasks)
        self.tasks = {name: self._task(name) for name in names}
        self.heads = {name: head for name in names if (head := self._head(name)) is not None}
        self.models = Models(plan, self.heads, {}, weights=False)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.broken: set[str] = set()
        self.alike = Alike()
        self.lengths: dict[tuple[str, str], Lengths | None] = {}
        """The lengths of the rows of a task, by task and tokenizer."""

    def rehearsal(self) -> Rehearsal:
        """All stages, with the findings."""
        known = {name: head for name, head in self.heads.items() if name not in self.assumed}
        self.findings += conflicts(self.plan, known)
        if any(finding.severity == "error" for finding in self.findings):
            return Rehearsal(classes_assumed=self.assumed, findings=tuple(dict.fromkeys(self.findings)))
        with isolated_random():
            sizes = {name: found for name in self._used() if (found := self._size(name)) is not None}
            stages = tuple(self._stage(stage, sizes) for stage in self.plan.stages)
        return Rehearsal(
            models=sizes,
            stages=stages,
            classes_assumed=self.assumed,
            findings=tuple(dict.fromkeys(self.findings)),
        )

    def _used(self) -> list[str]:
        """The models of the stages, each after those from which it is built."""
        models = self.spec.models
        found: list[str] = []

        def add(name: str) -> None:
            for source in models[name].uses():
                add(source)
            if name not in found:
                found.append(name)

        for stage in self.plan.stages:
            for name in stage.models:
                add(name)
        return found

    def _task(self, name: str) -> BuiltTask | None:
        component = self.spec.tasks[name]
        try:
            with error_context(("tasks", name, component.name), f"task `{name}`"):
                return component.without_rows()
        except FindingError as error:
            self.findings += error.findings
            return None

    def _head(self, task: str) -> Head | None:
        """The head of the task; its labels are numbered if only its rows have their names."""
        built, component = self.tasks[task], self.spec.tasks[task]
        head = built.head if built is not None else Head(kind=component.head)
        if component.head is None:
            return head if built is not None else None
        if not head.labels and component.labelled:
            stages = [stage for stage in self.plan.stages if task in stage.tasks]
            models = [name for stage in stages for name in (*stage.teachers, stage.student)]
            known = (self.plan.facts[name].classes for name in models)
            self.assumed[task] = classes = next((number for number in known if number), CLASSES)
            head = replace(head, labels=tuple(str(number) for number in range(classes)))
        return head

    def _size(self, name: str) -> ModelSize | None:
        if self.broken & set(self.spec.models[name].uses()):
            self.broken.add(name)
            return None
        try:
            with convertible(self.mode):
                module = self.models.module(name)
                initialization = self._initialization(name, module)
        except FindingError as error:
            self.broken.add(name)
            if unclear(error):
                message = f"the shapes of model `{name}` are checked at the first batch"
                reason = f"without weights, {error.findings[0].message}"
                self._note(message, Mark(("models", name), key=True), (reason,))
            else:
                notes = (replace(d, severity="note") if d.code == "KD401" else d for d in error.findings)
                self.findings += notes
            return None
        tensors = [*module.parameters(), *module.buffers()]
        parameters = sum(parameter.numel() for parameter in module.parameters())
        return ModelSize(parameters=parameters, bytes=size(tensors), initialization=initialization)

    def _initialization(self, name: str, module: nn.Module) -> Initialization | None:
        with error_context(self.models.path(name), f"model `{name}`"):
            found = self.spec.models[name].copies(module, self.models.context(name))
            if found is None:
                return None
            source, pairs = found
            mine, theirs = heads.tensors(module), heads.tensors(self.models.module(source))
        copied, taken = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
        return Initialization(
            source=source,
            copied=tuple(pairs),
            new=tuple(tensor for tensor in mine if tensor not in copied),
            unused=tuple(tensor for tensor in theirs if tensor not in taken),
            # tied weights are one tensor with several names, so it is counted once
            copied_parameters=sum(p.numel() for tensor, p in module.named_parameters() if tensor in copied),
        )

    def _stage(self, stage: StagePlan, sizes: Mapping[str, ModelSize]) -> RehearsedStage:
        known = {name: made for name in stage.tasks if (made := self.tasks[name]) is not None}
        found = {name: self._task_of(stage.only(name), known, sizes) for name in stage.tasks}
        if not stage.several:
            return next(iter(found.values()))
        return together(stage.name, found, self._bytes(stage, sizes))

    def _bytes(self, stage: StagePlan, sizes: Mapping[str, ModelSize]) -> int:
        """Bytes of all models of a stage, with the copies of teachers in another precision."""
        total = sum(sizes[name].bytes for name in stage.models if name in sizes)
        precision = stage.training.teacher_precision
        teachers = [sizes[name] for name in stage.teachers if name in sizes and name != stage.student]
        if precision is not None:
            copies = [(each, each.parameters * TYPES[precision].itemsize) for each in teachers]
            total += sum(copy - (each.bytes if has_gpu() else 0) for each, copy in copies if copy < each.bytes)
        return total

    def _task_of(
        self, stage: StagePlan, known: Mapping[str, BuiltTask], sizes: Mapping[str, ModelSize]
    ) -> RehearsedStage:
        """A stage with one of its tasks, from an earlier one that is like it where there is one.

        `known` has the tasks that could be built.
        """
        if (found := self.alike.find(stage, known)) is not None:
            result, findings = found
            self.findings += findings
            return result
        before = len(self.findings)
        result = self._rehearsed(stage, known, sizes)
        self.alike.keep(stage, known, result, self.findings[before:])
        return result

    def _rehearsed(
        self, stage: StagePlan, known: Mapping[str, BuiltTask], sizes: Mapping[str, ModelSize]
    ) -> RehearsedStage:
        rows, task = stage.training.batch_size, next(iter(stage.tasks))
        empty = RehearsedStage(name=stage.name, rows=rows)
        if self.broken & set(stage.models):
            return empty
        try:
            lengths = self._lengths(stage)
            built, inputs = self.tasks[task], self._inputs(stage, rows, lengths)
            typical = self._typical(stage, rows, lengths)
        except FindingError as error:
            self.findings += error.findings
            return empty
        if built is None or inputs is None:
            message = f"the shapes of stage `{stage.name}` are checked at the first batch"
            why = "what a batch of this task looks like is not known before its rows are read"
            self._note(message, Mark(("tasks", task), key=True), (why,))
            return empty
        first = self._rehearsing(stage, self.models, known, inputs, typical, lengths)
        try:
            with self.mode, error_context(first.stage_models.path, f"stage `{stage.name}`"):
                first.run(contents=False)
        except FindingError as error:
            if not unclear(error):
                self.findings += error.findings
            elif first.kept:
                self._losses_with_contents(first, error)
            else:
                return self._with_contents(first, sizes, error)
        finally:
            self.models.module(stage.student).zero_grad()
        self._warn_of_dropout(stage, first.found.dropped)
        return first.result()

    def _rehearsing(
        self, stage: StagePlan, models: Models, tasks: Mapping[str, BuiltTask], inputs: Examples,
        typical: Examples | None = None, lengths: Lengths | None = None,
    ) -> StageRehearsal:  # fmt: skip
        return StageRehearsal(
            self.plan, stage, registry=self.registry, models=models, tasks=tasks, inputs=inputs,
            typical=typical, lengths=lengths,
        )  # fmt: skip

    def _lengths(self, stage: StagePlan) -> Lengths | None:
        """The lengths of the task's rows, where these and the student's tokenizer are on the disk."""
        name, model = next(iter(stage.tasks)), stage.student
        try:
            identity = self.models.tokenizer_id(model)
            if identity is None or ("@" in identity and not Path(identity).is_absolute()):  # a name on the hub
                return None
            if (name, identity) not in self.lengths:
                self.lengths[name, identity] = self._measured(name, model)
            return self.lengths[name, identity]
        except FindingError:  # the run reports it
            return None

    def _measured(self, name: str, model: str) -> Lengths | None:
        task = self.spec.tasks[name]
        with error_context(("tasks", name, task.name), f"task `{name}`"):
            columns = task.sample(BuildContext(folder=self.plan.source.folder, seed=self.spec.seed), ROWS)
        tokenizer = self.models.reader(model).tokenizer if columns else None
        if columns is None or tokenizer is None:
            return None
        with error_context(("models", model), f"the tokenizer of model `{model}`"):
            return measured(columns, tokenizer, dict(fields(task)).get(task.length_limit or ""))

    def _typical(self, stage: StagePlan, rows: int, lengths: Lengths | None) -> Examples | None:
        """A batch of rows of median length, if that is not the maximum."""
        if lengths is None or lengths.median == lengths.longest:
            return None
        return examples(self.plan, stage, rows, lengths.median, self.heads, self.models.reader)

    def _inputs(self, stage: StagePlan, rows: int, lengths: Lengths | None) -> Examples | None:
        """A batch of rows of maximum length: of the rows, or else of what the task and the models allow."""
        name = next(iter(stage.tasks))
        task, inputs = self.spec.tasks[name], examples(self.plan, stage, rows, None, self.heads, self.models.reader)
        texts = (tokens_of(each) or 0 for form, each in (inputs or {}).items() if form != FORM)
        longest = max(texts, default=0)
        if not longest:
            return inputs
        with error_context(("tasks", name, task.name), f"task `{name}`"):
            places = {model: found for model in stage.models if (found := positions(self.models.module(model)))}
            limit = task.length_limit
            written = limit is not None and self.plan.source.has(("tasks", name, task.name, limit))
            short = [model for model, found in places.items() if found < longest]
            # Without a limit in the spec, a run takes the maximum length of the tokenizer, which fits its model.
            if written and short and limit is not None:
                self._too_long(name, limit, longest, {model: places[model] for model in short})
            allowed = longest if written or not places else ALLOWED
            most = allowed if lengths is None else lengths.longest
        return examples(self.plan, stage, rows, min((most, *places.values())), self.heads, self.models.reader)

    def _too_long(self, task: str, limit: str, length: int, places: Mapping[str, int]) -> None:
        fewest = min(places, key=places.__getitem__)
        message = f"rows may have {length} tokens, but model `{fewest}` has {places[fewest]} positions"
        label = Mark(("tasks", task, self.spec.tasks[task].name, limit), f"{length} tokens")
        where = tuple(Mark(("models", m), f"{n} positions", key=True) for m, n in places.items())
        help_ = f"write `{limit}: {places[fewest]}`; a row that is longer stops the run"
        self.findings.append(Finding("KD405", message, *label, also=where, help=help_, severity="warning"))

    def _with_contents(
        self, first: StageRehearsal, sizes: Mapping[str, ModelSize], error: FindingError
    ) -> RehearsedStage:
        """Rehearse the stage again with real weights and numbers, if its models are small."""
        stage, reason = first.stage, error.findings[0]
        notes = (f"without contents, {reason.message}",)
        if sum(sizes[name].parameters for name in stage.models) > SMALL:
            message = f"the shapes of stage `{stage.name}` are checked at the first batch"
            self._note(message, Mark(reason.at or (), reason.label, reason.key), notes)
            return first.result()
        inputs = {
            form: {name: replace(given, shape=(FEW, *given.shape[1:])) for name, given in example.items()}
            for form, example in first.inputs.items()
        }
        models = Models(self.plan, self.heads, {}, weights=False)
        second = self._rehearsing(stage, models, first.tasks, inputs, lengths=first.lengths)
        try:
            with error_context(second.stage_models.path, f"stage `{stage.name}`"):
                second.run(contents=True)
        except FindingError as again:
            # A model may refuse the made-up values for a reason that no real row has, so this is only a warning.
            made_up = "the inputs were made up"
            self.findings += (
                replace(d, severity="warning", notes=(*d.notes, made_up)) if d.code == "KD506" else d
                for d in again.findings
            )
            return second.result()
        message = f"stage `{stage.name}` was rehearsed with {FEW} rows of real numbers; its memory is not known"
        self._note(message, Mark(reason.at or (), reason.label, reason.key), notes)
        return second.result()

    def _losses_with_contents(self, first: StageRehearsal, error: FindingError) -> None:
        """Compute the losses again on random numbers, to distinguish a mistake from a loss that needs real numbers."""
        stage, reason = first.stage, error.findings[0]
        notes = (f"without contents, {reason.message}",)
        numbers = sum(_numbers(value) for features in first.kept.values() for value in features.values())
        if numbers > MANY:
            message = f"the losses of stage `{stage.name}` are checked at the first batch"
            self._note(message, Mark(reason.at or (), reason.label, reason.key), notes)
            return
        features = {name: _random(features) for name, features in first.kept.items()}
        try:
            trainable = first.stage_models.trainable(nn.Linear(1, 1), first.found.matches)
            first.terms(trainable, features, made_up(first.student_inputs))
        except FindingError as again:
            self.findings += again.findings
            return
        message = f"the losses of stage `{stage.name}` were rehearsed on random numbers; their cost is not known"
        self._note(message, Mark(reason.at or (), reason.label, reason.key), notes)

    def _warn_of_dropout(self, stage: StagePlan, features: Collection[str]) -> None:
        """Warnings of matches that compare the student's attention with dropout in it."""
        for match in stage.matches:
            if match.feature in features:
                message = f"`{match.feature}` of `{match.student}` has dropout in it while the student trains"
                note = "its family returns attention in a form in which its values before dropout are not found"
                help_ = f"set the dropout of attention to 0 in the `config` of `{match.student}`"
                mark = Mark((*match.path, "feature"), "not as the teacher's")
                self.findings.append(Finding("KD313", message, *mark, notes=(note,), help=help_, severity="warning"))

    def _note(self, message: str, label: Mark, notes: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding("KD401", message, *label, notes=notes, severity="note"))


def _random(features: Features) -> Features:
    """Random numbers in the shapes of features, and what is no floating point as ones."""

    def made(value: Any) -> Any:
        match value:
            case Tensor() if value.is_floating_point():
                return torch.rand(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
            case Tensor():
                return torch.ones(value.shape, dtype=value.dtype)
            case HeadLogits():
                return HeadLogits(made(value.hidden), made(value.weight), made(value.bias), value.post)
            case Logits():
                return value.mapped(made)
            case Mapping():
                return {key: made(item) for key, item in value.items()}
            case tuple() | list():
                return tuple(made(item) for item in value)
        return value

    return Features({name: made(value) for name, value in features.items()})


def _numbers(value: Any) -> int:
    """The number of elements of a feature."""
    match value:
        case Tensor():
            return value.numel()
        case Logits():
            return sum(tensor.numel() for tensor in value.tensors)
        case Mapping():
            return sum(map(_numbers, value.values()))
        case tuple() | list():
            return sum(map(_numbers, value))
    return 0
