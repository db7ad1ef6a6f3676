"""Runs one model: selects its inputs, captures tensors inside it, and evaluates its adaptor."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from kdspec.api.paths.field_path import FieldPathError
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.api.working.pieces import PutsTogether
from kdspec.api.working.step import Features
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.forward.attention.attention_record import AttentionRecord, of_maps
from kdspec.engine.forward.attention.attention_weights import choose, release
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.forward_hooks import HookPoint, HookSet, Trace, each
from kdspec.engine.forward.large_head import LargeHead
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.requested_outputs import is_of_transformers, named_modules_of, reads_attention, switches
from kdspec.engine.forward.teacher_precision import TeacherPrecision


@dataclass(frozen=True)
class ShortRun:
    """A forward pass that captures features at hook points."""

    hook_set: HookSet
    rest: Mapping[str, Feature]
    """Features that are still read from the output and the batch."""
    flags: Mapping[str, bool]
    """Keyword arguments that make the model return more outputs."""
    head: LargeHead | None = None
    """The head whose input is taken in place of the logits."""


class ModelRunner:
    """Runs one model and returns its features; it requests only outputs that a feature needs.

    Args:
        findings: composes what is wrong with the model, and knows its name.
        module: the model itself.
        features: what the stage reads of it.
        chooses: whether inputs that the model does not take are left out: the tokenizer's are, written columns are not.
        trains: whether the model trains, so that all of it is run.
        selective: whether attention may take another implementation in layers whose weights are not read.
        entire: whether every forward pass runs to its end, as a sharded model's must.
        arithmetic: of a frozen model that has its own.
        head: a large head, which is left to the losses.
    """

    def __init__(
        self,
        findings: ModelFindings,
        module: nn.Module,
        features: Mapping[str, Feature],
        *,
        chooses: bool,
        trains: bool = False,
        selective: bool = False,
        entire: bool = False,
        arithmetic: TeacherPrecision | None = None,
        head: LargeHead | None = None,
    ) -> None:
        self.name, self.module, self.features = findings.name, module, features
        self._findings = findings
        self.trains, self.selective, self.entire, self.arithmetic = trains, selective, entire, arithmetic
        self.head = head
        self.modules = named_modules_of(features)
        self.flags = switches(module, [path for feature in features.values() for path in feature.paths])
        self.accepted = _accepted(module) if chooses else None
        self._attention = frozenset(name for name, feature in features.items() if reads_attention({name: feature}))
        self._scores = {
            name: replace(feature, paths=tuple(of_maps(path) or path for path in feature.paths))
            for name, feature in features.items()
            if is_of_transformers(module) and any(map(of_maps, feature.paths))
        }
        """The features with attention scores, with the paths of the maps that are computed from them."""
        self.dropped: set[str] = set()
        """The features with attention maps that may be as dropout has left them: the model does not show them before."""
        self._guard = error_context(findings.component, f"model `{self.name}`")
        self._bound: set[tuple[str, ...]] = set()
        """Combinations of columns that the model has accepted."""
        self.ends: HookPoint | None = None
        """The hook point after which the forward pass stops, if it stops early."""
        self._shorter: ShortRun | None = None

    def __call__(self, batch: Batch) -> Features:
        """The features of one batch.

        Raises:
            FindingError: KD303 if a field path has no value, KD502 if the model does not take the batch's columns, KD405 if
                its rows are too long for it, KD506 if it raises.
        """
        inputs = self.inputs(batch)
        if self._shorter is not None and (found := self._taken(self._shorter, inputs, batch)) is not None:
            return found
        record = self._record()
        output, captured = self._run(inputs, record)
        return self._made(self._values(self.features, output, batch, captured), record)

    def shorten(self, batch: Batch) -> Features:
        """The features of a batch; from now on hooks capture them, and the model computes no more than they need.

        A frozen model ends there where nothing else is read. Of one that trains nothing is left out but the weights of
        attention in layers where they are not read, and a large head.

        Raises:
            FindingError: as for a call.
        """
        trace, record = Trace(), self._record()
        with trace.of(self.module):
            output, captured = self._run(self.inputs(batch), record)
        values = self._values(self.features, output, batch, captured)
        made = {
            name: feature for name, feature in self.features.items() if any(p.root != "batch" for p in feature.paths)
        }
        attention = {name: feature for name, feature in made.items() if reads_attention({name: feature})}
        if (headless := self._without_head(trace, values, made, batch)) is not None:
            return headless
        wanted = {}
        for name in attention if self.trains else made:
            with contextlib.suppress(LookupError):  # not an input or output of a module, such as a slice
                wanted[name] = trace.hook_set(values[name])
        spared = self.selective and attention.keys() <= wanted.keys() and self._spare(wanted, attention)
        stops = wanted.keys() == made.keys() and not self.trains and not self.entire
        ends = trace.last(list(each(wanted))) if wanted and stops else None
        if wanted and (spared or (not self.trains and (self.flags or ends is not None))):
            rest = {name: feature for name, feature in self.features.items() if name not in wanted}
            # Without `choose` the flag stays: some models compute attention weights only if they return them.
            flags = {} if spared else {name: True for name in self.flags if name == "output_attentions"}
            flags |= switches(self.module, [path for feature in rest.values() for path in feature.paths])
            self.ends, self._shorter = ends, ShortRun(HookSet(self.module, wanted, stops=stops), rest, flags)
        return self._made(values, record)

    def _without_head(
        self, trace: Trace, values: Mapping[str, Any], made: Mapping[str, Feature], batch: Batch
    ) -> Features | None:
        """The features with a large head left to the losses, from now on; None where it cannot be left out."""
        if self.head is None or self.entire or "logits" not in made:
            return None
        wanted: dict[str, Any] = {"logits": self.head.input}
        try:
            wanted |= {name: trace.hook_set(values[name]) for name in made if name != "logits"}
        except LookupError:  # made of what comes up nowhere
            return None
        if self.head.behind(wanted):
            return None
        attention = {name: made[name] for name in made if reads_attention({name: made[name]})}
        rest = {name: feature for name, feature in self.features.items() if name not in wanted}
        flags = {name: True for name in self.flags if attention and name == "output_attentions"}
        flags |= switches(self.module, [path for feature in rest.values() for path in feature.paths])
        shorter = ShortRun(HookSet(self.module, wanted, stops=True), rest, flags, self.head)
        found = self._taken(shorter, self.inputs(batch), batch)
        if found is None or not self.head.gives(found["logits"], values["logits"]):
            return None
        if self.selective and attention and self._spare(wanted, attention):
            shorter = replace(shorter, flags={name: True for name in flags if name != "output_attentions"})
        self._shorter = shorter
        return found

    def of(self, module: nn.Module) -> ModelRunner:
        """The same runner for a copy of the module."""
        made = copy.copy(self)
        made.module = module
        if (shorter := self._shorter) is not None:
            hook_set = HookSet(module, shorter.hook_set.wanted, stops=shorter.hook_set.stops)
            made._shorter = replace(shorter, hook_set=hook_set)  # noqa: SLF001 - of its own class
        return made

    @property
    def watched(self) -> frozenset[str]:
        """The modules with hooks in a forward pass."""
        if (shorter := self._shorter) is None:
            return frozenset(self.modules)
        return frozenset(named_modules_of(shorter.rest)) | {tap.module for tap in each(shorter.hook_set.wanted)}

    def _record(self) -> AttentionRecord | None:
        """What a forward pass has to record of its attention, if its maps may be dropped or their scores are read."""
        if self._scores or (self._attention and self.module.training):
            return AttentionRecord(scores=bool(self._scores))
        return None

    def _made(self, values: Mapping[str, Any], record: AttentionRecord | None) -> Features:
        found = dict(values)
        if record is not None:
            found |= {name: tree_map(partial(self._map, name, record), found[name]) for name in self._attention}
        return Features(found if self.arithmetic is None else self.arithmetic.widened(found))

    def _map(self, name: str, record: AttentionRecord, value: Any) -> Any:
        """An attention map before dropout, or its scores."""
        if not isinstance(value, Tensor):
            return value
        if name not in self._scores:
            if not record.is_certain(value):
                self.dropped.add(name)
            return record.undropped(value)
        try:
            return record.scores(value)
        except LookupError:
            raise self._findings.no_scores(name) from None

    def _spare(self, wanted: Mapping[str, Any], attention: Iterable[str]) -> bool:
        hook_set = [tap for name in attention for tap in each(wanted[name])]
        outputs = all(tap.side == "output" for tap in hook_set)
        return bool(hook_set) and outputs and choose(self.module, {tap.module for tap in hook_set})

    def _taken(self, shorter: ShortRun, inputs: Mapping[str, Any], batch: Batch) -> Features | None:
        """The captured features; None if one was not reached, and from then on they are read from the output."""
        record = self._record()
        try:
            with self._guard, self._captured(named_modules_of(shorter.rest)) as captured, record or nullcontext():
                output, found = shorter.hook_set.run(lambda: self._call(inputs, shorter.flags))
        except FindingError as error:
            if (why := self._findings.too_long(self.module, inputs)) is not None:
                raise why from error
            raise
        if found is None:
            self._shorter = self.ends = None
            release(self.module)
            return None
        if shorter.head is not None:
            found["logits"] = shorter.head.logits(self.module, found["logits"])
        values = found | self._values(shorter.rest, output, batch, captured)
        return self._made({name: values[name] for name in self.features}, record)

    def _run(
        self, inputs: Mapping[str, Any], record: AttentionRecord | None
    ) -> tuple[Any, Mapping[str, dict[str, Any]]]:
        """The model's output, and the captured inputs and outputs of its modules."""
        try:
            with self._guard, self._captured(self.modules) as captured, record or nullcontext():
                return self._call(inputs, self.flags), captured
        except FindingError as error:
            if (why := self._findings.too_long(self.module, inputs)) is not None:
                raise why from error
            raise

    def _call(self, inputs: Mapping[str, Any], flags: Mapping[str, bool]) -> Any:
        if self.arithmetic is None:
            return self.module(**inputs, **flags)
        return self.arithmetic.run(self.module, inputs, flags)

    def answers(self, batch: Batch) -> Any:
        """What the model answers for pieces of rows, such as single texts: `answers` of its output; see `PutsTogether`.

        Raises:
            FindingError: as for a call.
        """
        output, _ = self._run(self.inputs(batch), None)
        found = {"answers": output["answers"]}
        return (found if self.arithmetic is None else self.arithmetic.widened(found))["answers"]

    def put_together(self, batch: Batch, answers: Tensor, mask: Tensor | None) -> Features:
        """The features of rows, of the answers for their pieces.

        Raises:
            FindingError: KD303 if a feature is not made of answers.
        """
        assert isinstance(self.module, PutsTogether), "asked only of such modules"
        with self._guard:
            output = self.module.put_together(answers, mask, **self.inputs(batch))
        return Features(self._values(self.features, output, batch, {}))

    def of_batch(self, batch: Batch, names: Iterable[str]) -> dict[str, Any]:
        """Features that an adaptor reads from the batch alone, without running the model."""
        return self._values(names, None, batch, {})

    def _values(self, names: Iterable[str], output: Any, batch: Batch, captured: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lost: list[Finding] = []
        named = batch.named
        for name in names:
            try:
                values[name] = self._feature(self._scores.get(name, self.features[name]), output, named, captured)
            except FindingError as error:
                lost += error.findings
        if lost:
            raise FindingError(*lost)
        return values

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """What the model is given of a batch: the labels only where its own loss is read.

        A field with a name is one mapping of tensors: `query={"input_ids": ..., "attention_mask": ...}`.
        """
        fields = {name: dict(tensors) for name, tensors in batch.inputs.items() if name}
        inputs = {**fields, **batch.inputs.get("", {}), **(batch.targets if "losses" in self.features else {})}
        if self.accepted is not None:
            return {key: value for key, value in inputs.items() if key in self.accepted}
        if (columns := tuple(inputs)) not in self._bound:
            with error_context(("models", self.name), f"model `{self.name}`"):
                self._check_arguments(inputs)
            self._bound.add(columns)
        return inputs

    def _check_arguments(self, inputs: Mapping[str, Any]) -> None:
        try:
            inspect.signature(self.module.forward).bind(**inputs)
        except TypeError as error:
            accepted = inspect.signature(self.module.forward).parameters
            raise self._findings.wrong_columns(inputs, accepted, error) from None

    @contextlib.contextmanager
    def _captured(self, modules: Sequence[str]) -> Iterator[dict[str, dict[str, Any]]]:
        """Inputs and outputs of these modules, for one forward pass."""
        captured: dict[str, dict[str, Any]] = {}
        targets = {path: self._submodule(path) for path in modules}
        handles = [
            target.register_forward_hook(_recorder(captured, path), with_kwargs=True)
            for path, target in targets.items()
        ]
        try:
            yield captured
        finally:
            for handle in handles:
                handle.remove()

    def _submodule(self, path: str) -> nn.Module:
        try:
            return self.module.get_submodule(path)
        except AttributeError:
            feature = next(f for f in self.features.values() if any(p.module == path for p in f.paths))
            raise self._findings.no_module(self.module, path, feature.name) from None

    def _feature(self, feature: Feature, output: Any, batch: Mapping[str, Any], modules: Mapping[str, Any]) -> Any:
        values = []
        for index, path in enumerate(feature.paths):
            try:
                values.append(path.evaluate(output=output, batch=batch, modules=modules))
            except FieldPathError as error:
                raise self._findings.not_found(feature, index, error) from None
        value = tuple(values) if feature.several else values[0]
        return value if feature.layers is None else self._layers(feature, feature.layers, value)

    def _layers(self, feature: Feature, layers: Sequence[int], value: Any) -> dict[int, Any]:
        """The selected layers. A single tensor is refused: indexing it would select rows."""
        if not isinstance(value, (tuple, list)):
            raise self._findings.no_layers(feature.name, value)
        missing = [i for i in layers if not -len(value) <= i < len(value)]
        if missing:
            raise self._findings.no_layer(feature.name, missing, len(value))
        return {i: value[i] for i in layers}


def _recorder(captured: dict[str, dict[str, Any]], path: str) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        del module
        # A module that is called with keywords only has no positional inputs.
        captured[path] = {"input": args or tuple(kwargs.values()), "output": output}

    return record


def _accepted(module: nn.Module) -> frozenset[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """A context of evaluation mode without gradients; the former mode is restored."""
    training = module.training
    if training:  # eval() visits all modules, which takes longer than a small model's forward pass
        module.eval()
    try:
        # Not inference_mode: its tensors cannot be saved for the student's backward pass.
        with torch.no_grad():
            yield
    finally:
        if training:
            module.train()
