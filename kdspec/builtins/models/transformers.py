"""Models of the transformers library: from a folder or the hub, from a configuration, or like another model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, model_validator

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import InputLimits, Model, ModelContext, ModelFacts, ReadFiles
from kdspec.api.spec.file_fields import SpecFolderOrHub, SpecTokenizer, local_folder
from kdspec.api.spec.model_folders import has_tokenizer
from kdspec.diagnostics.fault import Fault
from kdspec.hf import configuration, families, heads, loading, model_files, model_source, tokenizer_files
from kdspec.hf.head_rows import compared_head, misnamed, named_by, settle
from kdspec.hf.layer_copies import Initialize, copy, mistakes
from kdspec.hf.padding import Padding, asked_by
from kdspec.hf.read_files import read_files
from kdspec.hf.saved.remote_code import Place, bring, refuse_kernels
from kdspec.hf.weight_files import weight_files

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.logits import OutputHead


class Transformers(Model):
    """A model of the transformers library.

    It comes from one of three places: `path` (its weights are loaded), `config` alone (randomly initialised), or `like`
    (another model's configuration with `config` as changes, randomly initialised). Head and labels come from the task.
    With a `path`, `config` states the configuration of that model, so that a hub model can be planned and rehearsed
    before it is downloaded; the downloaded one must agree. Only safetensors are read, and no code is taken from a
    folder or the hub without `--trust-remote-code`. Random initialisation depends on the seed and the model's name, and
    on nothing else in the spec.
    """

    name = "transformers"
    scope = "row"
    model_config = ConfigDict(serialize_by_alias=True)

    path: SpecFolderOrHub | None = None
    """A folder with `config.json` and safetensors, or a name on the hub such as `google/electra-small-discriminator`."""
    revision: str | None = None
    """For a hub model: branch, tag or commit."""
    config: dict[str, Any] | None = None
    """A configuration with its `model_type`, or with `like` the changes: `{num_hidden_layers: 2}`. With `path`, the
    expected configuration."""
    like: str | None = None
    """Name of the model of which it takes configuration and tokenizer."""
    tokenizer_: SpecTokenizer | None = Field(default=None, alias="tokenizer")
    """A tokenizer's folder or name on the hub. Default: the one with `path`, or that of `like`."""
    tokenizer_revision: str | None = None
    """For a `tokenizer` on the hub: branch, tag or commit."""
    labels: dict[str, str] = {}
    """With `path`: the name in the task for each class of the head in its files, `{NEG: negative, LABEL_1: positive}`. The
    logits are put in the task's order. Default: the names are the same but for case, blanks, `_` and `-`, in the same
    order."""
    initialize: Initialize | None = None
    """Layers to copy from another model."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    """The implementation of attention. Default: the library's choice."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type of the weights, whatever the checkpoint has. Default: float32, which training needs; mixed precision is
    separate."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = {key: getattr(self, key) for key in ("path", "like", "config", "revision", "labels", "initialize")}
        model_source.check(given, copies_from=self.initialize.from_ if self.initialize else None)
        if self.tokenizer_revision is not None and self.tokenizer_ is None:
            raise model_source.missing("tokenizer")
        return self

    def uses(self) -> tuple[str, ...]:
        """`like` and the source of `initialize`."""
        names = (self.like, self.initialize.from_ if self.initialize else None)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def copies(self, module: nn.Module, context: ModelContext) -> tuple[str, list[tuple[str, str]]] | None:
        """The copies of `initialize`."""
        how = self.initialize
        if how is None:
            return None
        return how.pairs(module, context, self.like)

    def facts(self, context: ModelContext) -> ModelFacts:
        """Facts from `config.json`, from `config`, or from those of `like` with the changes."""
        line = self._line(context)
        first = line[-1]
        if not isinstance(first, Transformers):
            known = first.facts(context)
        elif first.like is not None:  # an unknown model, or a circle
            return ModelFacts()
        else:
            known = families.facts({**(first.config or {}), **first.written_configuration(context)})
        for model in reversed(line):
            known = families.changed(known, (model.config if isinstance(model, Transformers) else None) or {})
        if self.path is not None:
            return named_by(known, self.labels)
        # Whether copied layers have been trained is not known here.
        return replace(known, architecture=None if self.initialize is not None else "")

    def fetch(self, context: ModelContext) -> None:
        """Download the configuration of a hub model."""
        if self.path is not None and not self.written_configuration(context):
            with loading.quiet():
                self.configuration(context)

    def check(self, context: ModelContext) -> Iterator[Fault]:
        """Check the files of `path`, the entries of `config` and the layers of `initialize`."""
        yield from self._wrong_files(context)
        if self.config is not None:
            for fault in configuration.mistakes(self.config, context.facts[context.name]):
                fault.at = ("config", *fault.at)
                yield fault
            if self.path is not None:
                yield from configuration.unexpected(self.path, self.config, self.written_configuration(context))
        if self.labels and (wrong := misnamed(families.facts(self.written_configuration(context)), self.labels)):
            yield wrong
        if self.initialize is not None:
            source = context.facts[self.initialize.from_ or self.like or ""]
            for fault in mistakes(self.initialize.layers, context.facts[context.name], source):
                fault.at = ("initialize", *fault.at)
                yield fault

    def _wrong_files(self, context: ModelContext) -> Iterator[Fault]:
        yield from loading.bare_names({"path": self.path, "tokenizer": self.tokenizer_}, context.folder)
        if self.path is not None and (folder := local_folder(self.path, context.folder)) is not None:
            yield from model_files.check_model(folder, self.path, (self.config or {}).get("model_type"))
        owner = self._tokenizer_owner(context)
        if isinstance(owner, Transformers) and isinstance(place := owner.tokenizer_at(context)[0], Path):
            yield from model_files.check_vocabulary(place, (self.config or {}).get("vocab_size"))
            if owner is self and (self.tokenizer_ is not None or not self.completes(context)):
                yield from model_files.check_tokenizer(place, ("path" if self.tokenizer_ is None else "tokenizer",))

    def build(self, context: ModelContext) -> nn.Module:
        """The module, on the CPU. A model of `like` or `initialize` must be in the context's `models` and `built`.

        Without weights it is built from the configuration alone, with uninitialised memory.
        """
        from transformers.initialization import no_init_weights

        if len(context.heads) > 1:
            return heads.several(context, self.build)
        with loading.quiet():
            auto, config, options = self._prepared(context)
            loaded = self.path is not None and context.weights
            verdict = compared_head(context, self.written_configuration(context), self.labels) if loaded else None
            with (
                nullcontext() if context.weights else no_init_weights(),
                loading.seeded(context.seed, "/".join(filter(None, (context.name, context.task)))),
                loading.explained(self._origin(), "the model cannot be built"),
            ):
                if verdict is None:
                    module = auto.from_config(config, **options)
                else:
                    module, report = self._loaded(auto, config, context, options)
                    wider = partial(loading.wider, auto, config, options)
                    context.on_initialised(settle(module, verdict, loading.check(module, report), wider))
        if not context.weights:
            module.tie_weights()  # skipped together with the initialisation of weights
        if not loaded:
            source, pairs = self.copies(module, context) or ("", [])
            if pairs and context.weights:
                copy(module, context.built[source], pairs)
            context.on_initialised({name for name, _ in module.named_parameters()} - {mine for mine, _ in pairs})
        return cast("nn.Module", module)

    def can_learn(self, head: str | None) -> bool:
        """The kinds of head that the library has."""
        return head is not None and head in configuration.AUTO_CLASSES

    def for_task(self, module: nn.Module, task: str, context: ModelContext) -> nn.Module:
        """The task's model, with the shared body."""
        del context
        return heads.part(module, task)[1]

    def output_head(self, module: nn.Module, context: ModelContext) -> OutputHead | None:
        """`get_output_embeddings` of the library, where it is a linear layer."""
        from kdspec.hf.output_head import output_head

        del context
        return output_head(module)

    def skeleton(self, context: ModelContext) -> nn.Module:
        """The module on the meta device, from the configuration alone."""
        import torch

        if len(context.heads) > 1:
            return heads.several(context, self.skeleton)
        with loading.quiet(), loading.explained(self._origin(), "the model cannot be built"):
            auto, config, options = self._prepared(context)
            with torch.device("meta"):
                return cast("nn.Module", auto.from_config(config, **options))

    def _prepared(self, context: ModelContext) -> tuple[Any, Any, dict[str, Any]]:
        """The library's class, the configuration with the task's head, and options."""
        import torch

        if (kind := context.head.kind if context.head else None) not in configuration.AUTO_CLASSES:
            raise Fault(loading.CODE, f"a transformers model has no head for `{kind}`")
        dtype = getattr(torch, self.dtype or "float32")
        options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": context.trusts_code}
        if self.attention is not None:
            options["attn_implementation"] = self.attention
        config = self.configuration(context)
        auto = configuration.auto_class(kind, config, self._origin(), trusts_code=context.trusts_code)
        if context.head is not None:
            trained = self.path is not None or self.initialize is not None
            tokenizer = self.tokenizer(context) if context.weights else None
            configuration.fit(config, context.head, tokenizer, trained=trained)
        if not context.weights and getattr(config, "pad_token_id", 0) is None:
            config.pad_token_id = 0  # otherwise the tokenizer's
        return auto, config, options

    def token_ids(self, context: ModelContext) -> str | None:
        """A checksum of `tokenizer.json`; None for a tokenizer on the hub."""
        if isinstance(owner := self._tokenizer_owner(context), Transformers):
            return tokenizer_files.token_ids(owner.tokenizer_at(context)[0])
        return None if owner is None else owner.token_ids(context)

    def input_limits(self, context: ModelContext) -> InputLimits:
        """Positions and tokens of the configuration."""
        return configuration.input_limits(self.configuration(context))

    def tokenizer(self, context: ModelContext) -> Any | None:
        """A fast tokenizer, or None if the model has none."""
        owner = self._tokenizer_owner(context)
        if not isinstance(owner, Transformers):
            return owner.tokenizer(context) if owner else None
        at = ("path",) if owner.tokenizer_ is None else ("tokenizer",)
        at = at if owner is self else ("like",)
        own = owner.tokenizer_ is None and owner.completes(context)
        config = owner.configuration(context) if own else None
        return loading.fast_tokenizer(
            *owner.tokenizer_at(context), at,
            padding=self._padding(owner, context), trusts_code=context.trusts_code, config=config,
        )  # fmt: skip

    def tokenizer_id(self, context: ModelContext) -> str | None:
        """A checksum of the tokenizer's files, or its name on the hub and the revision; and how it pads for this model."""
        if isinstance(owner := self._tokenizer_owner(context), Transformers):
            return tokenizer_files.identity(*owner.tokenizer_at(context), self._padding(owner, context))
        return None if owner is None else owner.tokenizer_id(context)

    def _padding(self, owner: Transformers, context: ModelContext) -> Padding:
        """What this model asks of the owner's tokenizer."""
        written: dict[str, Any] = {}
        for model in reversed(self._line(context)):
            if isinstance(model, Transformers):
                written |= {**model.written_configuration(context), **(model.config or {})}
        return asked_by(written, families.written_at(*owner.tokenizer_at(context)))

    def weight_files(self, context: ModelContext) -> Collection[Path]:
        """The safetensors of `path`."""
        return weight_files(self.path, self.revision, context.folder)

    def read_files(self, context: ModelContext) -> Iterator[ReadFiles]:
        """Configuration and tokenizer of `path`, and the tokenizer of `tokenizer`."""
        if self.path is not None:
            place = local_folder(self.path, context.folder) or self.path
            own, code = self.tokenizer_ is None, context.trusts_code
            yield from read_files(place, self.revision, "path", model=True, tokenizer=own, code=code)
        if self.tokenizer_ is not None:
            place, revision = self.tokenizer_at(context)
            code = context.trusts_code
            yield from read_files(place, revision, "tokenizer", model=False, tokenizer=True, code=code)

    def save(self, module: nn.Module, folder: Any, context: ModelContext) -> None:
        """Write configuration, safetensors and tokenizer for `from_pretrained`; one folder for each of several tasks."""
        if len(context.heads) > 1:
            for task in context.heads:
                (folder / task).mkdir()
                alone = heads.alone(context, task, context.on_initialised)
                own = set(self.skeleton(alone).state_dict())
                self._save(heads.part(module, task)[1], folder / task, alone, own)
            return
        self._save(module, folder, context)

    def load(self, module: nn.Module, folder: Any) -> None:
        """Load the files of `save`."""
        if len(tasks := heads.parts(module)) == 1:
            super().load(module, folder)
            return
        heads.load(tasks, folder)

    def _save(self, module: nn.Module, folder: Any, context: ModelContext, own: Collection[str] | None = None) -> None:
        """Save without tensors that are not its `own`, such as a pooler that another task's head needs."""
        loading.save(module, folder, own, self.tokenizer(context))
        if context.trusts_code:
            line = [model for model in self._line(context) if isinstance(model, Transformers)]
            places: list[Place] = [(m.at(context), m.revision) for m in line if m.path is not None]
            bring(folder, [*places, *(m.tokenizer_at(context) for m in line if m.tokenizer_ is not None)])

    def _origin(self) -> tuple[str]:
        return ("path" if self.path is not None else "config" if self.config is not None else "like",)

    def at(self, context: ModelContext) -> str:
        """The folder of `path`, or its name on the hub."""
        return str(local_folder(self.path or "", context.folder) or self.path)

    def _loaded(self, auto: Any, config: Any, context: ModelContext, options: Mapping[str, Any]) -> tuple[Any, Any]:
        if self.path is not None and (folder := local_folder(self.path, context.folder)) is not None:
            loading.refuse_weights(folder, self.path)
        return loading.weights(auto, self.at(context), config, self.revision, options)

    def written_configuration(self, context: ModelContext) -> Mapping[str, Any]:
        """The configuration of `path`, from its folder or, for a hub model, from the download cache; empty without."""
        folder = None if self.path is None else local_folder(self.path, context.folder)
        return families.written(self.path, self.revision, folder)

    def _line(self, context: ModelContext) -> list[Model]:
        """The chain of `like`: this model, its `like`, and so on."""
        line: list[Model] = [self]
        while isinstance(model := line[-1], Transformers) and model.like is not None:
            if (next_ := context.models.get(model.like)) is None or any(next_ is other for other in line):
                break
            line.append(next_)
        return line

    def configuration(self, context: ModelContext) -> Any:
        """The library's configuration object, before a task's head is known."""
        from transformers import AutoConfig

        written = self.written_configuration(context)
        if self.path is not None and self.completes(context):
            return configuration.completed(self.path, written, self.config or {})
        if self.path is not None and (context.weights or written or self.config is None):
            if not context.weights and not written:
                message = f"the configuration of `{self.path}` is not on this machine yet"
                raise Fault("KD401", message, ("path",), help="the run downloads it")
            with loading.explained(("path",), f"`{self.path}` cannot be loaded", hub=self.at(context)):
                loaded = AutoConfig.from_pretrained(
                    self.at(context), revision=self.revision or "main",
                    trust_remote_code=context.trusts_code, local_files_only=not context.weights,
                )  # fmt: skip
                refuse_kernels(self.written_configuration(context), trusts_code=context.trusts_code)
            for fault in configuration.unexpected(self.path, self.config or {}, loaded.to_dict()):
                raise fault
            return loaded
        changes = dict(self.config or {})
        if self.like is None:
            family = changes.pop("model_type")
            with loading.explained(("config", "model_type"), f"transformers has no model type `{family}`"):
                known = AutoConfig.for_model(family)
            before: dict[str, Any] = {}
        else:
            other = context.models.get(self.like)
            assert other is not None, f"the check has reported the unknown model {self.like}"
            if not isinstance(other, Transformers):
                raise Fault(
                    loading.CODE, f"`{self.like}` is not a transformers model, so it has no configuration", ("like",)
                )
            known = other.configuration(context)
            family = known.model_type
            if changes.pop("model_type", family) != family:
                raise Fault(loading.CODE, f"`{self.like}` is a {family} model", ("config", "model_type"))
            before = known.to_dict()
        changes = configuration.named(known, changes)
        for key in configuration.stale(known, changes):
            before.pop(key, None)
        with loading.explained(("config",), "the configuration is not valid"):
            return type(known).from_dict({**before, **changes})

    def completes(self, context: ModelContext) -> bool:
        """Whether the spec gives the family of a model whose own configuration does not."""
        told = self.path is not None and isinstance((self.config or {}).get("model_type"), str)
        return told and "model_type" not in (self.written_configuration(context) or {"model_type": ""})

    def _tokenizer_owner(self, context: ModelContext) -> Model | None:
        """The first model of the chain that sets a tokenizer, or None."""
        for model in self._line(context):
            if not isinstance(model, Transformers) or model.tokenizer_ is not None:
                return model
            if model.path is not None:
                folder = local_folder(model.path, context.folder)
                return model if folder is None or has_tokenizer(folder) else None
        return None

    def tokenizer_at(self, context: ModelContext) -> tuple[Path | str, str]:
        """The folder, or the name on the hub, of this model's own tokenizer, and the revision."""
        own = (self.tokenizer_, self.tokenizer_revision)
        name, revision = (self.path, self.revision) if self.tokenizer_ is None else own
        assert name is not None
        return local_folder(name, context.folder) or name, revision or "main"


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The models."""
    return [Transformers]
