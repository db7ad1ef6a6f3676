"""Students with one vector a token: `static`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import Model, ModelContext, ModelFacts, ReadFiles
from kdspec.api.spec.bounds import LARGEST_WIDTH
from kdspec.api.spec.file_fields import SpecEmbedderFolder, local_folder
from kdspec.api.working.task import Head
from kdspec.diagnostics.fault import Fault
from kdspec.hf import loading
from kdspec.networks import kept_vectors, static_files, token_vectors
from kdspec.networks.text_model import TextModel

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kdspec.networks.static_embeddings import StaticEmbeddings

_SIF = 1e-4
_WIDTH = 256
_EMBEDDING = "embedding"
"""The kind of head that is none."""


class StaticTextModel(TextModel):
    """One vector a token: the embedding of a text is their mean, so that a look-up is all that it computes.

    With `like` the vectors begin as Model2Vec's: each token of the teacher's vocabulary goes through the teacher alone,
    pooled as its readout does it; principal components make the vectors `width` wide; and frequent tokens count less
    (`sif`). A teacher that an earlier stage trains is taken as trained. Special tokens and `[unused...]` have the vector 0,
    and special and unknown tokens are not counted in the mean. With `tokenizer` the vectors are random.

    It has 0 layers: `hidden_states` is the vectors of the tokens. For classification and regression the head is on the
    embedding.
    Papers: Arora et al. 2017 (https://openreview.net/forum?id=SyK00v5xx) for the weights; Model2Vec
    (https://github.com/MinishLab/model2vec).
    """

    name = "static"
    path: SpecEmbedderFolder | None = None
    """A folder with such vectors: of a run, of Model2Vec, or of sentence-transformers. Whether embeddings have length 1 is
    said there. It excludes all other parameters."""
    heads = frozenset({"embedding", "sequence_classification", "multi_label", "regression"})

    width: int | None = Field(default=None, gt=0, le=LARGEST_WIDTH)
    """Width of the vectors; with `like` at most that of the teacher's. Default: 256, or the teacher's if that is less."""
    sif: float | None = Field(default=_SIF, gt=0, le=1)
    """With `like`: a vector is multiplied by a/(a + p), where a is this number and p the token's share of a text by
    Zipf's law and its rank in the vocabulary. Null: vectors as they are."""
    weights: bool = False
    """Whether each token has a trained weight beside its vector; with `like` it begins as that of `sif`."""
    normalize: bool = True
    """Whether embeddings have length 1."""

    @model_validator(mode="after")
    def _sif_of_a_teacher(self) -> Self:
        if self.tokenizer_ is not None and self.sif != _SIF:
            keys = {"keys": ["tokenizer", "sif"], "one": "tokenizer", "other": "sif"}
            raise PydanticCustomError("exclusive_keys", "`{one}` and `{other}` exclude each other", keys)
        return self

    def sizes(self, kind: str, context: ModelContext) -> dict[str, Any]:
        """The arguments of `StaticEmbeddings`."""
        has_head, width = kind != _EMBEDDING, self._width(context)
        return {"embedding": width, "normalize": self.normalize, "weights": self.weights, "head": has_head}

    def _width(self, context: ModelContext) -> int:
        if self.width is not None:
            return self.width
        teacher = context.models.get(self.like or "")
        known = None if teacher is None else teacher.facts(replace(context, name=self.like or ""))
        return min(_WIDTH, (known and (known.embedding or known.width)) or _WIDTH)

    def facts(self, context: ModelContext) -> ModelFacts:
        """Facts from the sizes; a folder of embeddings has no classes."""
        known = super().facts(context)
        if self.saved(context).get("task") == _EMBEDDING:
            known = replace(known, architecture=type(self).__name__)
        return replace(known, embedding=known.width)

    def saved(self, context: ModelContext) -> Mapping[str, Any]:
        """The configuration of the network in the folder of `path`; empty without one."""
        found = None if self.path is None else static_files.look(self.folder(context))
        return {} if found is None else found.configuration

    def fitting(self, context: ModelContext, head: Head) -> dict[str, Any]:
        """The configuration in the folder. Vectors without a head get a new one, and an embedding needs none."""
        found = static_files.read(self.folder(context))
        saved = dict(found.configuration)
        if not found.own and context.weights:
            tokenizer = self.own_tokenizer(context)
            unknown = token_vectors.unknown(tokenizer) if found.unknown else None
            ignored = [number for number in token_vectors.special(tokenizer) if number != unknown]
            saved["sizes"] = {**saved["sizes"], "ignored": ignored}
        if _EMBEDDING not in (saved["task"], head.kind):
            return super().fitting(context, head)
        sizes = {
            **saved["sizes"],
            "head": head.kind != _EMBEDDING,
            "classes": len(head.labels),
            **self.of_task(context),
        }
        return {**saved, "task": head.kind, "labels": list(head.labels), "sizes": sizes}

    def of_tokenizer(self, context: ModelContext) -> dict[str, Any]:
        """The number of tokens, and those that are not counted; where only shapes are needed, the tokenizer may be missing."""
        found = super().of_tokenizer(context)
        try:
            tokenizer = self.own_tokenizer(context)
        except Fault:
            return found
        return {"vocabulary": max(tokenizer.get_vocab().values()) + 1, "ignored": token_vectors.special(tokenizer)}

    def of_task(self, context: ModelContext) -> dict[str, Any]:
        """The width of a projection that the plan gives it."""
        return {} if context.projection is None else {"projected": context.projection.width}

    def kept_projections(self, context: ModelContext) -> frozenset[Literal["keep", "fold"]]:
        """Both, which are the same here: the vectors of tokens are multiplied by it when they are saved."""
        del context
        return frozenset({"keep", "fold"})

    def shape(self, sizes: Mapping[str, Any]) -> tuple[int, int]:
        """No layers, and the vectors."""
        return 0, sizes["embedding"]

    def check(self, context: ModelContext) -> Iterator[Fault]:
        """Check the folder of `path`, and that the teacher's vectors are as wide as these."""
        if self.path is not None:
            yield from self._wrong_folder(self.path, context)
        if (teacher := context.models.get(self.like or "")) is not None:
            yield from self._wrong_teacher(teacher, context)

    def _wrong_teacher(self, teacher: Model, context: ModelContext) -> Iterator[Fault]:
        name, help_ = self.like or "", "write `tokenizer` in place of `like`, for random vectors"
        embeds = any(head.kind == _EMBEDDING for head in context.heads.values())
        why = None
        if teacher.tokenizer_id(replace(context, name=name)) is None:
            why = "has no tokens, so no vectors of them"
        elif isinstance(teacher, TextModel) and teacher.name != self.name and context.heads and not embeds:
            why = "has classes and no vector of a text, from which a token could have its own"
        if why is not None:
            yield Fault(static_files.CODE, f"`{name}` {why}", ("like",), help=help_)
            return
        known = context.facts.get(name)
        widest = None if known is None else known.embedding or known.width
        if widest is not None and (self.width or 0) > widest:
            yield self._too_wide(f"the vectors of `{name}` are {widest} wide, these {self.width}", widest)

    def _wrong_folder(self, path: str, context: ModelContext) -> Iterator[Fault]:
        if local_folder(path, context.folder) is None:
            message = f"`{path}` is a name on the hub, and a `{self.name}` is read from a folder"
            help_ = f"download it with `hf download {path} --local-dir {Path(path).name}`, and write `path: ./{Path(path).name}`"
            yield Fault(static_files.CODE, message, ("path",), help=help_)
            return
        try:
            static_files.read(self.folder(context))
        except Fault as fault:
            yield fault

    def fill(self, module: nn.Module, context: ModelContext) -> frozenset[str]:
        """Load the vectors, and the head if the folder has that of this task."""
        return static_files.load(cast("StaticEmbeddings", module), static_files.read(self.folder(context)))

    def tokenizer(self, context: ModelContext) -> Any | None:
        """That of `path`, `tokenizer` or `like`; of a folder of Model2Vec or sentence-transformers with a token to pad with."""
        found = super().tokenizer(context)
        if self.path is not None and found is not None and found.pad_token_id is None:
            # Any one will do, since padding is masked; a new one would have no vector.
            number = next(iter(token_vectors.special(found)), None)
            if number is None:
                message = f"the tokenizer of `{self.path}` has no special token, with which rows could be padded"
                raise Fault(
                    static_files.CODE, message, ("path",), help="add one to `added_tokens` of its `tokenizer.json`"
                )
            found.pad_token = found.convert_ids_to_tokens(number)
        return found

    def place(self, context: ModelContext) -> Path | str:
        """The folder with its tokenizer, or the name on the hub, if it is not that of `like`."""
        found = None if self.path is None else static_files.look(self.folder(context))
        return super().place(context) if found is None else found.folder

    def weight_files(self, context: ModelContext) -> Collection[Path]:
        """The safetensors of `path`."""
        found = None if self.path is None else static_files.look(self.folder(context))
        return () if found is None else (found.folder / static_files.WEIGHTS,)

    def read_files(self, context: ModelContext) -> Iterator[ReadFiles]:
        """Configuration, modules and tokenizer of `path`, or the tokenizer of `tokenizer`."""
        yield from super().read_files(context)
        if self.path is not None:
            modules = self.folder(context) / static_files.MODULES
            yield ReadFiles("path", "file", (modules,) if modules.is_file() else ())

    def save(self, module: nn.Module, folder: Any, context: ModelContext) -> None:
        """Write a folder that kdspec, Model2Vec and sentence-transformers read; a head for classes is beside the vectors."""
        made = cast("StaticEmbeddings", module)
        with loading.quiet():
            static_files.write(made, made.configuration, self.own_tokenizer(context), Path(folder))

    def load(self, module: nn.Module, folder: Any) -> None:
        """Load what `save` has written."""
        static_files.load(cast("StaticEmbeddings", module), static_files.read(Path(folder)))

    def begin(self, module: nn.Module, context: ModelContext) -> frozenset[str]:
        """Take the vectors of the teacher's tokens, if there is one."""
        import torch

        if self.like is None:
            return frozenset()
        made = cast("StaticEmbeddings", module)
        tokenizer, limits = self.own_tokenizer(context), context.models[self.like].input_limits(context)
        tokens = token_vectors.real_tokens(tokenizer, limits.vocabulary)
        vectors = self._vectors(
            context.built[self.like], token_vectors.rows_of_one(tokenizer, tokens), self._width(context)
        )
        weights = token_vectors.frequency_weights(len(tokens), self.sif)
        with torch.no_grad():
            made.embeddings.weight.zero_()
            if made.weights is None:
                made.embeddings.weight[tokens] = vectors * weights[:, None]
                return frozenset({"embeddings.weight"})
            made.embeddings.weight[tokens], made.weights[tokens] = vectors, weights
        return frozenset({"embeddings.weight", "weights"})

    def _vectors(self, teacher: nn.Module, rows: list[list[int]], width: int) -> torch.Tensor:
        """The principal components of the vectors of rows, computed once for a teacher as it is trained."""
        module = token_vectors.with_readout(teacher)

        def make() -> torch.Tensor:
            found = token_vectors.embedded(module, rows)
            most = min(found.shape[1], len(rows) - 1)
            if width > most:
                message = f"{len(rows):,} tokens with vectors of `{self.like}` of width {found.shape[1]} have {most} components"
                raise self._too_wide(message, most)
            return token_vectors.principal(found, width)

        return kept_vectors.kept(module, rows, width, make)

    def _too_wide(self, message: str, most: int) -> Fault:
        at = "width" if "width" in self.model_fields_set else "like"
        return Fault("KD302", message, (at,), help=f"write `width: {most}`, or less")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The models."""
    return [StaticTextModel]
