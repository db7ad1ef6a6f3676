"""The base class of text models that are not transformers: their tokenizer, and loading and saving."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from kdspec.api.kinds.model import Model, ModelContext, ModelFacts, ReadFiles
from kdspec.api.spec.file_fields import SpecFolderOrHub, SpecTokenizer, local_folder
from kdspec.api.working.task import Head
from kdspec.data import class_match
from kdspec.diagnostics.diagnostic import listed
from kdspec.diagnostics.fault import Fault
from kdspec.hf import families, loading, tokenizer_files
from kdspec.hf.configuration import PROBLEMS, architecture
from kdspec.hf.padding import asked_by
from kdspec.hf.read_files import read_files

if TYPE_CHECKING:
    from torch import nn

_FORMAT = 1


class TextModel(Model):
    """The base class of these models: tokenizer, loading and saving."""

    scope = "row"
    model_config = ConfigDict(serialize_by_alias=True)
    heads: ClassVar[frozenset[str]]
    """The kinds of head that it has."""

    path: SpecFolderOrHub | None = None
    """The folder of a student that a run has saved, with sizes, weights and tokenizer. It excludes all other
    parameters."""
    like: str | None = None
    """Name of the model of which it takes the tokenizer, usually its teacher."""
    tokenizer_: SpecTokenizer | None = Field(default=None, alias="tokenizer")
    """Instead of `like`: a tokenizer's folder, or its name on the hub."""
    tokenizer_revision: str | None = None
    """For a `tokenizer` on the hub: branch, tag or commit."""

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        fields = type(self).model_fields.items()
        written = [field.alias or name for name, field in fields if getattr(self, name) != field.default]
        if self.path is not None and len(written) > 1:
            other = next(key for key in written if key != "path")
            raise PydanticCustomError(
                "exclusive_keys",
                "`{one}` and `{other}` exclude each other",
                {"keys": ["path", other], "one": "path", "other": other},
            )
        if self.path is not None:
            return self
        needed = "like" if self.like is None else "tokenizer"
        if self.tokenizer_ is None and (self.like is None or self.tokenizer_revision is not None):
            error = PydanticCustomError("missing_key", "missing key `{key}`", {"key": needed})
            raise ValidationError.from_exception_data("spec", [InitErrorDetails(type=error, input=None)])
        if self.like is not None and self.tokenizer_ is not None:
            keys = {"keys": ["like", "tokenizer"], "one": "like", "other": "tokenizer"}
            raise PydanticCustomError("exclusive_keys", "`{one}` and `{other}` exclude each other", keys)
        return self

    @abstractmethod
    def sizes(self, kind: str, context: ModelContext) -> dict[str, Any]:
        """The network's arguments for this kind of head, but for vocabulary and classes."""

    @abstractmethod
    def shape(self, sizes: Mapping[str, Any]) -> tuple[int, int]:
        """The number of layers and the width of their states."""

    def facts(self, context: ModelContext) -> ModelFacts:
        """Facts from the sizes; the width is known only if embeddings and layers have the same one."""
        saved = self.saved(context)
        if self.path is not None and saved.get("network") != self.name:
            return ModelFacts()  # a folder of another network is reported when it is built
        sizes = saved.get("sizes") or self.sizes("", context)
        layers, width = self.shape(sizes)
        task = str(saved.get("task", ""))
        return ModelFacts(
            layers=layers,
            width=width if width == sizes["embedding"] else None,
            labels=tuple(saved.get("labels", ())),
            classes=(len(saved["labels"]) or None) if saved else None,
            problem=PROBLEMS.get(task),
            architecture=f"{type(self).__name__}For{architecture(task)}" if saved else "",
        )

    def uses(self) -> tuple[str, ...]:
        """`like`."""
        return () if self.like is None else (self.like,)

    def build(self, context: ModelContext) -> nn.Module:
        """The network on the CPU, initialised by the seed and its name."""
        from kdspec.networks import text_networks

        configuration = self._configuration(context)
        with loading.seeded(context.seed, context.name):
            module = text_networks.make(configuration)
        module.configuration = configuration  # type: ignore[assignment]  # read when it is saved
        if self.path is not None:
            fresh: frozenset[str] = frozenset()
            if context.weights:
                with loading.explained(("path",), f"the weights in `{self.path}` cannot be loaded"):
                    fresh = self.fill(module, context)
            context.on_initialised(fresh)
            return module
        known = self.begin(module, context) if context.weights else frozenset()
        context.on_initialised({name for name, _ in module.named_parameters()} - known)
        return module

    def fill(self, module: nn.Module, context: ModelContext) -> frozenset[str]:
        """Load the weights of `path`, and return the names of the parameters that it has not."""
        self.load(module, self.folder(context))
        return frozenset()

    def begin(self, module: nn.Module, context: ModelContext) -> frozenset[str]:
        """Give a new network the values that it begins with, and return the names of its parameters that none drew."""
        del module, context
        return frozenset()

    def tokenizer(self, context: ModelContext) -> Any | None:
        """That of `path`, `tokenizer` or `like`; None if the other model has none."""
        if self.like is not None:
            return context.models[self.like].tokenizer(context)
        at = ("tokenizer",) if self.path is None else ("path",)
        place, revision = self.place(context), self.tokenizer_revision or "main"
        padding = asked_by({}, families.written_at(place, revision))
        return loading.fast_tokenizer(place, revision, at, padding=padding, trusts_code=context.trusts_code)

    def tokenizer_id(self, context: ModelContext) -> str | None:
        """That of the other model, or a checksum of the files."""
        if self.like is not None:
            return context.models[self.like].tokenizer_id(context) if self.like in context.models else None
        place, revision = self.place(context), self.tokenizer_revision or "main"
        return tokenizer_files.identity(place, revision, asked_by({}, families.written_at(place, revision)))

    def weight_files(self, context: ModelContext) -> Collection[Path]:
        """The safetensors of `path`."""
        return () if self.path is None else (self.folder(context) / "model.safetensors",)

    def read_files(self, context: ModelContext) -> Iterator[ReadFiles]:
        """Configuration and tokenizer of `path`, or the tokenizer of `tokenizer`."""
        if self.path is not None or self.tokenizer_ is not None:
            saved = self.path is not None
            at, code = "path" if saved else "tokenizer", context.trusts_code
            place, revision = self.place(context), self.tokenizer_revision
            yield from read_files(place, revision, at, model=saved, tokenizer=True, code=code)

    def token_ids(self, context: ModelContext) -> str | None:
        """Those of the other model, or a checksum of `tokenizer.json`."""
        if self.like is not None:
            return context.models[self.like].token_ids(context) if self.like in context.models else None
        return tokenizer_files.token_ids(self.place(context))

    def save(self, module: nn.Module, folder: Any, context: ModelContext) -> None:
        """Write the network's configuration, safetensors and tokenizer, for `kdspec.networks.text_networks.load`."""
        super().save(module, folder, context)
        text = json.dumps(module.configuration, indent=2, ensure_ascii=False)
        (Path(folder) / "config.json").write_text(text + "\n", encoding="utf-8")
        with loading.quiet():
            self.own_tokenizer(context).save_pretrained(str(folder))

    def _configuration(self, context: ModelContext) -> dict[str, Any]:
        kind = (context.head and context.head.kind) or ""
        if context.head is None or kind not in self.heads:
            known = ", ".join(f"`{name}`" for name in sorted(self.heads))
            raise Fault(loading.CODE, f"`{self.name}` has no head for `{kind}`", help=f"it has one for {known}")
        if self.path is not None:
            return self.fitting(context, context.head)
        sizes = (
            self.sizes(kind, context)
            | self.of_tokenizer(context)
            | {"classes": len(context.head.labels)}
            | self.of_task(context)
        )
        labels = list(context.head.labels)
        return {"network": self.name, "format": _FORMAT, "task": kind, "labels": labels, "sizes": sizes}

    def fitting(self, context: ModelContext, head: Head) -> dict[str, Any]:
        """The configuration in the folder, if it is of such a network and has this head."""
        saved = dict(self.saved(context))
        if saved.get("network") != self.name or saved.get("format") != _FORMAT:
            raise Fault(loading.CODE, f"`{self.path}` has no `{self.name}` that a run has written", ("path",))
        if not context.weights:  # labels may be assumed until the rows are read
            return saved
        found = class_match.match(saved["labels"], head.labels)
        if saved["task"] == head.kind and found.relation == "order":
            message = f"the head in `{self.path}` has the classes of the task in another order: {listed(found.theirs)}"
            help_ = f"write `{class_match.line('labels', found.in_their_order())}` in the task"
            raise Fault("KD317", message, ("path",), help=help_)
        if saved["task"] != head.kind or (found.relation != "same" and (found.ours or found.theirs)):
            theirs, ours = ", ".join(saved["labels"]), ", ".join(head.labels)
            message = f"it was trained for `{saved['task']}` with {theirs}; the task is `{head.kind}` with {ours}"
            raise Fault(loading.CODE, message, ("path",), help="labels have the same names and the same order")
        return {**saved, "labels": list(head.labels)}

    def of_task(self, context: ModelContext) -> dict[str, Any]:
        """The network's other arguments that depend on the task."""
        del context
        return {}

    def of_tokenizer(self, context: ModelContext) -> dict[str, Any]:
        """The network's arguments that depend on the tokenizer."""
        return {"vocabulary": self._vocabulary(context)}

    def _vocabulary(self, context: ModelContext) -> int:
        """The size of the vocabulary. Without the tokenizer of `like`, shapes are taken from its embeddings."""
        try:
            return len(self.own_tokenizer(context))
        except Fault:
            like = context.models.get(self.like or "")
            known = like.facts(replace(context, name=self.like or "")).vocabulary if like is not None else None
            if context.weights or known is None:
                raise
            return known

    def own_tokenizer(self, context: ModelContext) -> Any:
        """The tokenizer; a fault if the model of `like` has none."""
        tokenizer = self.tokenizer(context)
        if tokenizer is None:
            message = f"`{self.like}` has no tokenizer"
            raise Fault(loading.CODE, message, ("like",), help="use `tokenizer` instead")
        return tokenizer

    def place(self, context: ModelContext) -> Path | str:
        """The folder with its tokenizer, or the name on the hub, if it is not that of `like`."""
        if self.path is not None:
            return self.folder(context)
        assert self.tokenizer_ is not None, "one of `path`, `like` and `tokenizer` is given"
        return local_folder(self.tokenizer_, context.folder) or self.tokenizer_

    def folder(self, context: ModelContext) -> Path:
        """The folder of `path`."""
        assert self.path is not None, "called only with a path"
        return context.folder / Path(self.path).expanduser()

    def saved(self, context: ModelContext) -> Mapping[str, Any]:
        """The configuration in the folder of `path`, empty without one."""
        return {} if self.path is None else families.written(self.path, None, self.folder(context))
