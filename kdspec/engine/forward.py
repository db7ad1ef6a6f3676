"""One model's forward pass: the inputs it takes, what is captured on the way, and the features an adaptor finds."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdspec.diagnostics import Diagnostic, DiagnosticError, Label
from kdspec.fault import Fault
from kdspec.fieldpath import FieldPathError
from kdspec.plan import Feature
from kdspec.spec import Spec
from kdspec.step import Features

Batch = Mapping[str, Tensor]

_FLAGS = {"hidden_states": "output_hidden_states", "attentions": "output_attentions"}


class Forward:
    """Runs one model and gives its features, asking it for nothing that no feature needs.

    Args:
        name: the model's name in the spec.
        module: the model itself.
        features: what the stage reads of it.
        labels: batch keys of the labels, which a model is given only where its own loss is read.
        chooses: whether inputs that the model does not take are left out: the tokenizer's are, written columns are not.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        features: Mapping[str, Feature],
        *,
        labels: frozenset[str],
        chooses: bool,
        spec: Spec,
        task: str,
    ) -> None:
        self.name, self.module, self.features, self.spec, self.task = name, module, features, spec, task
        self.withheld = frozenset() if "losses" in features else labels
        paths = [path for feature in features.values() for path in feature.paths]
        self.modules = sorted({path.module for path in paths if path.module is not None})
        self.flags = _flags(module, paths)
        self.accepted = _accepted(module) if chooses else None
        if "output_attentions" in self.flags:
            _make_eager(module)

    def __call__(self, batch: Batch) -> Features:
        """The features of one batch.

        Raises:
            DiagnosticError: KD303 where a path leads nowhere, KD502 where the model does not take the batch's columns.
        """
        with self._captured() as captured:
            output = self._run(batch)
        return Features({name: self._feature(f, output, batch, captured) for name, f in self.features.items()})

    def _run(self, batch: Batch) -> Any:
        inputs = {key: value for key, value in batch.items() if key not in self.withheld}
        if self.accepted is not None:
            inputs = {key: value for key, value in inputs.items() if key in self.accepted}
        else:
            self._check_arguments(inputs)
        return self.module(**inputs, **self.flags)

    def _check_arguments(self, inputs: Batch) -> None:
        try:
            inspect.signature(self.module.forward).bind(**inputs)
        except TypeError as error:
            taken = ", ".join(f"`{name}`" for name in inspect.signature(self.module.forward).parameters)
            raise Fault(
                "KD502",
                f"model `{self.name}` does not take the columns {', '.join(f'`{k}`' for k in inputs)}: {error}",
                notes=(f"its forward takes {taken}",),
                help="choose the columns with `columns: [...]` in the task",
            ) from None

    @contextlib.contextmanager
    def _captured(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Inputs and outputs of the modules that a field path names, for one forward pass."""
        captured: dict[str, dict[str, Any]] = {}
        handles = []
        for path in self.modules:
            try:
                target = self.module.get_submodule(path)
            except AttributeError:
                raise self._no_module(path) from None
            handles.append(target.register_forward_hook(_recorder(captured, path), with_kwargs=True))
        try:
            yield captured
        finally:
            for handle in handles:
                handle.remove()

    def _feature(self, feature: Feature, output: Any, batch: Batch, modules: Mapping[str, Any]) -> Any:
        values = []
        for index, path in enumerate(feature.paths):
            try:
                values.append(path.evaluate(output=output, batch=batch, modules=modules))
            except FieldPathError as error:
                raise self._lost(feature, index, error) from None
        value = tuple(values) if feature.several else values[0]
        if feature.layers is None:
            return value
        missing = [i for i in feature.layers if not -len(value) <= i < len(value)]
        if missing:
            message = f"`{self.name}` returned {len(value)} of `{feature.name}`; there is no index {missing[0]}"
            raise DiagnosticError(Diagnostic("KD301", message, self._label(feature.name)))
        return {i: value[i] for i in feature.layers}

    def _lost(self, feature: Feature, index: int, error: FieldPathError) -> DiagnosticError:
        place = ("adaptors", self.name, feature.name, *((index,) if feature.several else ()))
        document = self.spec.document
        message = f"`{feature.name}` of `{self.name}` is not where its path says: {error.message}"
        if place in document.values:
            label = Label(document.inside(place, error.offset, error.offset + error.length), "not there")
        else:
            label = self._label(feature.name)
        return DiagnosticError(Diagnostic("KD303", message, label, notes=(f"the path is `{feature.paths[index]}`",)))

    def _no_module(self, path: str) -> DiagnosticError:
        names = [name for name, _ in self.module.named_modules() if name]
        from kdspec.diagnostics import closest

        near = closest(path, names)
        help_ = f"did you mean `{near}`?" if near else "`kdspec parameters MODEL` shows the modules"
        feature = next(f for f in self.features.values() if any(p.module == path for p in f.paths))
        message = f"model `{self.name}` has no module `{path}`"
        return DiagnosticError(Diagnostic("KD303", message, self._label(feature.name), help=help_))

    def _label(self, feature: str) -> Label:
        if self.name in self.spec.adaptors:
            return self.spec.label(("adaptors", self.name, feature))
        return self.spec.label(("tasks", self.task), f"its default adaptor is used for `{self.name}`", key=True)


def _recorder(captured: dict[str, dict[str, Any]], path: str) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        del module
        # A module called with keywords only has its inputs there, and nowhere else.
        captured[path] = {"input": args if args else tuple(kwargs.values()), "output": output}

    return record


def _flags(module: nn.Module, paths: list[Any]) -> dict[str, bool]:
    """The switches that make a transformers model return what is needed; another module is called as it is."""
    from transformers import PreTrainedModel

    if not isinstance(module, PreTrainedModel):
        return {}
    names = {name for path in paths if path.root == "output" for name in path.attributes}
    return {flag: True for name, flag in _FLAGS.items() if name in names}


def _accepted(module: nn.Module) -> frozenset[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _make_eager(module: nn.Module) -> None:
    """Only eager attention returns its weights: with the others they are silently empty."""
    config: Any = module.config
    if getattr(config, "_attn_implementation", "eager") != "eager":
        module.set_attn_implementation("eager")  # type: ignore[operator]


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and the former mode again afterwards."""
    training = module.training
    module.eval()
    try:
        # Not inference_mode: its tensors cannot be saved for the student's backward pass.
        with torch.no_grad():
            yield
    finally:
        module.train(training)
