"""The models of a run: each is built once, when first needed, or loaded from a finished stage."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from kdspec.api.kinds.model import ModelContext
from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import BuiltTask, Head, Reader
from kdspec.engine.batches.sampler import fold, isolated_random, reseed
from kdspec.engine.forward.device import placed
from kdspec.engine.forward.error_context import OTHER_DEVICE, Asks, error_context
from kdspec.engine.run.durable_files import cannot_write
from kdspec.hf.saved import remote_code


class Models:
    """The modules and tokenizers of a plan by model name.

    Args:
        plan: the plan.
        heads: the head of each task, once its labels are known.
        trained: folders of models that finished stages have trained.
        weights: whether the modules need weights; otherwise only their shapes are used.
    """

    def __init__(
        self, plan: Plan, heads: Mapping[str, Head], trained: dict[str, Path], *, weights: bool = True
    ) -> None:
        self.plan, self.heads, self.trained, self.weights = plan, heads, trained, weights
        self._modules: dict[str, nn.Module] = {}
        self.initialised: dict[str, frozenset[str]] = {}
        """The randomly initialised parameters of each model that has been built: neither loaded nor copied."""
        self._attention: dict[str, str] = {}
        self._fixed: dict[str, frozenset[str]] = {}
        self._tokenizers: dict[str, Any] = {}
        self._tokenizer_ids: dict[str, str | None] = {}

    def module(self, name: str) -> nn.Module:
        """The current model: trained by an earlier stage, or built from the spec."""
        if name not in self._modules:
            component = self.plan.spec.models[name]
            asks = Asks(f"building model `{name}`", OTHER_DEVICE)
            with error_context(self.path(name), f"model `{name}`", asks), isolated_random():
                # A model may be initialised from the global generators: its weights must not depend on their earlier use.
                reseed(fold(self.plan.spec.seed, "model", name), 0, 0, 0)
                with warnings.catch_warnings():
                    # A head for labels that only the rows name, before these are read.
                    warnings.filterwarnings("ignore", "Initializing zero-element tensors")
                    module = component.build(self.context(name))
                if name in self.trained:
                    component.load(module, self.trained[name])
            self._modules[name] = module
            self._fixed[name] = frozenset(key for key, p in module.named_parameters() if not p.requires_grad)
            self._attention[name] = next(filter(None, map(_attention, self._views(name))), "")
        return self._modules[name]

    def put(self, name: str, module: nn.Module) -> None:
        """Replace a model's module by an equal one."""
        self._modules[name] = module

    def forget(self, name: str) -> None:
        """Drop a module, so that it is built again when needed: as it was trained, or from the spec."""
        self._modules.pop(name, None)

    def prepared(self, name: str, device: torch.device, *, trains: bool, eager: bool) -> nn.Module:
        """The model as a stage needs it, whatever earlier stages did: on the device, trainable or frozen.

        Parameters that the model itself freezes stay frozen. `eager`: attention returns its weights, which the faster
        implementations silently omit.
        """
        module = placed(self.module(name), device)
        views = self._views(name)
        for key, parameter in module.named_parameters():
            parameter.requires_grad_(trains and key not in self._fixed[name])
        wanted = "eager" if eager else self._attention[name]
        for view in views:
            if _attention(view) != wanted and self._attention[name]:
                view.set_attn_implementation(wanted)  # type: ignore[operator]  # transformers models have it
            turn_off = checkpointing(view, "disable")
            if turn_off is not None and any(getattr(m, "gradient_checkpointing", False) for m in view.modules()):
                turn_off()
        return module.eval() if not trains else module

    def chooses(self, name: str) -> bool:
        """Whether the model uses SDPA, which may then be used in layers without matched attention weights."""
        return self._attention.get(name) == "sdpa"

    def view(self, name: str, task: str) -> nn.Module:
        """The part of the model for a task: the whole model, or of several heads that task's head with the body."""
        module = self.module(name)
        if len(self.plan.tasks_of.get(name, ())) < 2:
            return module
        with error_context(self.path(name), f"model `{name}`"):
            return self.plan.spec.models[name].for_task(module, task, self.context(name))

    def _views(self, name: str) -> list[nn.Module]:
        views = [self.view(name, task) for task in self.plan.tasks_of.get(name, ())]
        return list(dict.fromkeys(views)) or [self.module(name)]

    def reader(self, name: str) -> Reader:
        """How the model reads rows; equal for models that share their tokenizer and their prompts."""
        component, context = self.plan.spec.models[name], self.context(name)
        with error_context(self.path(name), f"the tokenizer of model `{name}`"):
            key, form, prompts = self.tokenizer_id(name), component.form(context), component.prompts(context)
            if key is not None and key not in self._tokenizers:
                self._tokenizers[key] = component.tokenizer(context)
        return Reader(None if key is None else self._tokenizers[key], form, prompts)

    def readers(self, names: Iterable[str], teachers: Collection[str], task: BuiltTask) -> dict[str, Reader]:
        """How models read the training rows of a task, if these of them teach it."""
        return {
            name: replace(self.reader(name), side="teacher") if task.sides and name in teachers else self.reader(name)
            for name in names
        }

    def tokenizer_id(self, name: str) -> str | None:
        """The identity of the tokenizer, equal for models that share it; None for a model without one."""
        if name not in self._tokenizer_ids:
            with error_context(self.path(name), f"the tokenizer of model `{name}`"):
                self._tokenizer_ids[name] = self.plan.spec.models[name].tokenizer_id(self.context(name))
        return self._tokenizer_ids[name]

    def save(self, name: str, folder: Path) -> None:
        """Write the model to a folder from which it can be loaded without kdspec. Raises KD508 if it cannot be written."""
        asks = Asks(f"saving model `{name}`", OTHER_DEVICE)
        with error_context(self.path(name), f"saving model `{name}`", asks):
            try:
                self.plan.spec.models[name].save(self.module(name), folder, self.context(name))
                remote_code.settle(folder, trusts_code=self.plan.source.trusts_code)
            except (OSError, SafetensorError) as error:
                raise cannot_write(folder, error) from error

    def context(self, name: str) -> ModelContext:
        """The context in which the model is built."""
        tasks = self.plan.tasks_of.get(name) or self._tasks_through(name)
        heads = {task: self.heads[task] for task in tasks if task in self.heads}

        def on_initialised(names: Collection[str]) -> None:
            self.initialised[name] = frozenset(names)

        return replace(
            self.plan.context(name), head=next(iter(heads.values()), None), heads=heads,
            built=_Lazily(self), weights=self.weights, on_initialised=on_initialised,
        )  # fmt: skip

    def path(self, name: str) -> tuple[str, ...]:
        """The path of the model's parameters in the spec."""
        return ("models", name, self.plan.spec.models[name].name)

    def _tasks_through(self, name: str) -> tuple[str, ...]:
        """A model in no stage has the head of a model that is built from it; of several heads the first."""
        users = (m for m, component in self.plan.spec.models.items() if name in component.uses())
        return next((self.plan.tasks_of[user][:1] for user in users if user in self.plan.tasks_of), ())


def checkpointing(module: nn.Module, what: Literal["enable", "disable"]) -> Any:
    """The method of a transformers model that switches gradient checkpointing, or None."""
    names = (f"activation_checkpointing_{what}", f"gradient_checkpointing_{what}")  # older versions have the latter
    return next((found for name in names if (found := getattr(module, name, None)) is not None), None)


def _attention(module: nn.Module) -> str:
    """The attention implementation of a transformers model; empty for other models."""
    return str(getattr(getattr(module, "config", None), "_attn_implementation", None) or "")


class _Lazily(Mapping[str, nn.Module]):
    """All models of the spec by name, built on access."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def __getitem__(self, name: str) -> nn.Module:
        return self._models.module(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._models.plan.spec.models)

    def __len__(self) -> int:
        return len(self._models.plan.spec.models)
