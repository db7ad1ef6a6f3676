"""Where a transformers model comes from: exactly one of a path, a configuration, and another model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from kdspec.api.kinds.model import InputLimits, Model, ModelContext, ReadFiles
from kdspec.api.spec.file_fields import SpecFolderOrHub, SpecTokenizer, local_folder
from kdspec.api.spec.model_folders import has_tokenizer
from kdspec.diagnostics.fault import Fault
from kdspec.hf import configuration, families, loading, model_files, tokenizer_files
from kdspec.hf.embedding.sentence_folder import settings_files, tensor_files
from kdspec.hf.padding import Padding, asked_by
from kdspec.hf.read_files import read_files
from kdspec.hf.saved.remote_code import refuse_kernels
from kdspec.hf.weight_files import weight_files

_BESIDE_A_PATH = (
    "beside `path`, `config` describes that model as it is, and has its `model_type`; a new model of another shape has "
    "`like` in place of `path`"
)


def check_source(given: Mapping[str, Any], *, copies_from: str | None) -> None:
    """Raise the error of a model with no source, or with several.

    Args:
        given: `path`, `like`, `config`, `revision`, `labels` and `initialize`, None or empty where the spec has none.
        copies_from: the model that `initialize` names.

    Raises:
        ValidationError, PydanticCustomError: a missing key, or keys that exclude each other.
    """
    sources = [key for key in ("path", "like", "config") if given[key] is not None]
    known = isinstance((given["config"] or {}).get("model_type"), str)  # without it, the entries are changes
    if not sources:
        raise missing("path")
    if sources[0] == "path":
        others = [key for key in sources[1:] if key != "config" or not known]
        others += ["initialize"] if given["initialize"] is not None else []
        if others:
            raise _exclusive("path", others[0], help_=_BESIDE_A_PATH if others[0] == "config" else None)
    elif given["revision"] is not None:
        raise _exclusive("revision", sources[0])
    elif given["labels"]:
        raise _exclusive("labels", sources[0])
    if sources == ["config"] and not known:
        raise missing("model_type", "config")
    if given["initialize"] is not None and copies_from is None and given["like"] is None:
        raise missing("from", "initialize")


def missing(key: str, *at: str) -> ValidationError:
    """The error of a key that a mapping lacks."""
    error = PydanticCustomError("missing_key", "missing key `{key}`", {"key": key})
    return ValidationError.from_exception_data("spec", [InitErrorDetails(type=error, loc=at, input=None)])


def _exclusive(one: str, other: str, help_: str | None = None) -> PydanticCustomError:
    context = {"keys": [one, other], "one": one, "other": other, **({"help": help_} if help_ else {})}
    return PydanticCustomError("exclusive_keys", "`{one}` and `{other}` exclude each other", context)


class TransformersSource(Model):
    """The base class of models of transformers: configuration and tokenizer, from `path`, `config` or `like`."""

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

    def wrong_files(self, context: ModelContext) -> Iterator[Fault]:
        """The faults of the files of `path` and of the tokenizer."""
        yield from loading.bare_names({"path": self.path, "tokenizer": self.tokenizer_}, context.folder)
        if self.path is not None and (folder := local_folder(self.path, context.folder)) is not None:
            yield from model_files.check_model(folder, self.path, (self.config or {}).get("model_type"))
        owner = self._tokenizer_owner(context)
        if isinstance(owner, TransformersSource) and isinstance(place := owner.tokenizer_at(context)[0], Path):
            yield from model_files.check_vocabulary(place, (self.config or {}).get("vocab_size"))
            if owner is self and (self.tokenizer_ is not None or not self.completes(context)):
                yield from model_files.check_tokenizer(place, ("path" if self.tokenizer_ is None else "tokenizer",))

    def token_ids(self, context: ModelContext) -> str | None:
        """A checksum of `tokenizer.json`; None for a tokenizer on the hub."""
        if isinstance(owner := self._tokenizer_owner(context), TransformersSource):
            return tokenizer_files.token_ids(owner.tokenizer_at(context)[0])
        return None if owner is None else owner.token_ids(context)

    def input_limits(self, context: ModelContext) -> InputLimits:
        """Positions and tokens of the configuration."""
        return configuration.input_limits(self.configuration(context))

    def tokenizer(self, context: ModelContext) -> Any | None:
        """A fast tokenizer, or None if the model has none."""
        owner = self._tokenizer_owner(context)
        if not isinstance(owner, TransformersSource):
            return owner.tokenizer(context) if owner else None
        at = ("path",) if owner.tokenizer_ is None else ("tokenizer",)
        at = at if owner is self else ("like",)
        own = owner.tokenizer_ is None and owner.completes(context)
        config = owner.configuration(context) if own else None
        found = loading.fast_tokenizer(
            *owner.tokenizer_at(context), at,
            padding=self._padding(owner, context), trusts_code=context.trusts_code, config=config,
        )  # fmt: skip
        if (longest := self.longest(context)) is not None:
            found.model_max_length = longest
        return found

    def tokenizer_id(self, context: ModelContext) -> str | None:
        """A checksum of the tokenizer's files, or its name on the hub and the revision; and how it pads for this model."""
        if isinstance(owner := self._tokenizer_owner(context), TransformersSource):
            name = tokenizer_files.identity(*owner.tokenizer_at(context), self._padding(owner, context))
            longest = self.longest(context)
            return name if longest is None else f"{name}, at most {longest} tokens"
        return None if owner is None else owner.tokenizer_id(context)

    def longest(self, context: ModelContext) -> int | None:
        """The number of tokens to which its texts are truncated; None: as the tokenizer has it."""
        del context
        return None

    def _padding(self, owner: TransformersSource, context: ModelContext) -> Padding:
        """What this model asks of the owner's tokenizer."""
        written: dict[str, Any] = {}
        for model in reversed(self.line(context)):
            if isinstance(model, TransformersSource):
                written |= {**model.written_configuration(context), **(model.config or {})}
        return asked_by(written, families.written_at(*owner.tokenizer_at(context)))

    def weight_files(self, context: ModelContext) -> Collection[Path]:
        """The safetensors of `path`, those of dense layers too."""
        place = None if self.path is None else local_folder(self.path, context.folder)
        return (*weight_files(self.path, self.revision, context.folder), *(tensor_files(place) if place else ()))

    def read_files(self, context: ModelContext) -> Iterator[ReadFiles]:
        """Configuration and tokenizer of `path`, and the tokenizer of `tokenizer`."""
        if self.path is not None:
            place = local_folder(self.path, context.folder) or self.path
            own, code = self.tokenizer_ is None, context.trusts_code
            yield from read_files(place, self.revision, "path", model=True, tokenizer=own, code=code)
            if isinstance(place, Path) and (found := settings_files(place)):
                yield ReadFiles("path", "file", found)
        if self.tokenizer_ is not None:
            place, revision = self.tokenizer_at(context)
            code = context.trusts_code
            yield from read_files(place, revision, "tokenizer", model=False, tokenizer=True, code=code)

    def origin(self) -> tuple[str]:
        """The parameter that says where it comes from."""
        return ("path" if self.path is not None else "config" if self.config is not None else "like",)

    def at(self, context: ModelContext) -> str:
        """The folder of `path`, or its name on the hub."""
        return str(local_folder(self.path or "", context.folder) or self.path)

    def written_configuration(self, context: ModelContext) -> Mapping[str, Any]:
        """The configuration of `path`, from its folder or, for a hub model, from the download cache; empty without."""
        folder = None if self.path is None else local_folder(self.path, context.folder)
        return families.written(self.path, self.revision, folder)

    def line(self, context: ModelContext) -> list[Model]:
        """The chain of `like`: this model, its `like`, and so on."""
        line: list[Model] = [self]
        while isinstance(model := line[-1], TransformersSource) and model.like is not None:
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
        if self.like is None:
            return configuration.new(self.config or {})
        other = context.models.get(self.like)
        assert other is not None, f"the check has reported the unknown model {self.like}"
        if not isinstance(other, TransformersSource):
            message = f"`{self.like}` is not a transformers model, so it has no configuration"
            raise Fault(loading.CODE, message, ("like",))
        return configuration.new(self.config or {}, self.like, other.configuration(context))

    def completes(self, context: ModelContext) -> bool:
        """Whether the spec gives the family of a model whose own configuration does not."""
        told = self.path is not None and isinstance((self.config or {}).get("model_type"), str)
        return told and "model_type" not in (self.written_configuration(context) or {"model_type": ""})

    def _tokenizer_owner(self, context: ModelContext) -> Model | None:
        """The first model of the chain that sets a tokenizer, or None."""
        for model in self.line(context):
            if not isinstance(model, TransformersSource) or model.tokenizer_ is not None:
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
