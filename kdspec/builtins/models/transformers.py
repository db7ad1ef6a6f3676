"""Models of the transformers library: from a folder or the hub, from a configuration, or like another model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import model_validator

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.api.spec.file_fields import local_folder
from kdspec.diagnostics.fault import Fault
from kdspec.hf import configuration, families, heads, loading
from kdspec.hf.embedding.readout import HEADS, READING, Readout, ReadoutSettings
from kdspec.hf.embedding.saved_sentences import save_embedder
from kdspec.hf.embedding.sentence_folder import download, model_folder, read_readout
from kdspec.hf.head_rows import compared_head, fit_rows, misnamed, named_by, settle
from kdspec.hf.layer_copies import Initialize, copy, mistakes
from kdspec.hf.model_source import TransformersSource, check_source, missing
from kdspec.hf.saved.remote_code import Place, bring
from kdspec.hf.scoring.reads import HEAD, READING_HELP, UNKNOWN_READING, Reads, reads_of
from kdspec.hf.scoring.scorer_settings import ScoresCandidates

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.logits import OutputHead


class Transformers(ScoresCandidates, TransformersSource):
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
    labels: dict[str, str] = {}
    """With `path`: the name in the task for each class of the head in its files, `{NEG: negative, LABEL_1: positive}`. The
    logits are put in the task's order. Classes of a teacher with one name, `{joy: good, love: good, anger: bad}`, are merged:
    their probabilities add up. Default: the names are the same but for case, blanks, `_` and `-`, in the same
    order."""
    readout: ReadoutSettings | None = None
    """How one vector is made of a text, for tasks of embeddings."""
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
        check_source(given, copies_from=self.initialize.from_ if self.initialize else None)
        if self.tokenizer_revision is not None and self.tokenizer_ is None:
            raise missing("tokenizer")
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
        line = self.line(context)
        first = line[-1]
        if not isinstance(first, Transformers):
            known = first.facts(context)
        elif first.like is not None:  # an unknown model, or a circle
            return ModelFacts()
        else:
            known = families.facts({**(first.config or {}), **first.written_configuration(context)})
        for model in reversed(line):
            known = families.changed(known, (model.config if isinstance(model, Transformers) else None) or {})
        if isinstance(first, Transformers):
            known = replace(known, embedding=self._known_readout(context).width(known.width))
        if self.path is not None:
            return named_by(known, self.labels)
        # Whether copied layers have been trained is not known here.
        return replace(known, architecture=None if self.initialize is not None else "")

    def reads_as(self, context: ModelContext) -> Reads | None:
        """By the spec, or by the files of `path`."""
        if self.reads is not None or self.path is None:
            return self.reads
        written = self.written_configuration(context)
        return reads_of(written, families.facts(written), self._folder(context))

    def _folder(self, context: ModelContext) -> Path | None:
        return None if self.path is None else model_folder(self.path, self.revision, context.folder)

    def _known_readout(self, context: ModelContext) -> Readout:
        """The readout; the default for a folder with one that is not known, which only a task of embeddings needs."""
        try:
            return self.read_out(context)
        except Fault:
            return Readout()

    def read_out(self, context: ModelContext) -> Readout:
        """How one vector is made of a text: as the spec writes it, as its folder says, or as the model of `like` has it.

        Raises:
            Fault: KD503 if the folder has another readout than the known ones, or if the spec writes another one.
        """
        found = Readout()
        for model in reversed(self.line(context)):
            if not isinstance(model, Transformers):
                continue
            folder = model.path and model_folder(model.path, model.revision, context.folder)
            found = (read_readout(folder) if folder else None) or found.new()
            found = found.changed(model.readout)
        return found.projected(context.projection)

    def prompts(self, context: ModelContext) -> Mapping[str, str]:
        """The prompts of its readout, if a task has it."""
        return self._known_readout(context).by_use() if _reads(context) else {}

    def longest(self, context: ModelContext) -> int | None:
        """The limit of its readout, if a task has it."""
        return self._known_readout(context).max_length if _reads(context) else None

    def kept_projections(self, context: ModelContext) -> frozenset[Literal["keep", "fold"]]:
        """Both; a layer is folded into one without an activation."""
        foldable = self._known_readout(context).foldable()
        return frozenset({"keep", "fold"}) if foldable else frozenset({"keep"})

    def fetch(self, context: ModelContext) -> None:
        """Download the configuration of a hub model, and its readout where a task needs it."""
        if self.path is not None and not self.written_configuration(context):
            with loading.quiet():
                self.configuration(context)
        if self.path is not None and _reads(context) and local_folder(self.path, context.folder) is None:
            with loading.explained(("path",), f"the readout of `{self.path}` cannot be loaded", hub=self.path):
                download(self.path, self.revision)

    def check(self, context: ModelContext) -> Iterator[Fault]:
        """Check the files of `path`, the entries of `config` and the layers of `initialize`."""
        yield from self.wrong_files(context)
        if self.config is not None:
            for fault in configuration.mistakes(self.config, context.facts[context.name]):
                fault.at = ("config", *fault.at)
                yield fault
            if self.path is not None:
                yield from configuration.unexpected(self.path, self.config, self.written_configuration(context))
        if self.labels and (wrong := misnamed(families.facts(self.written_configuration(context)), self.labels)):
            yield wrong
        yield from self._wrong_readout(context)
        if self.initialize is not None:
            source = context.facts[self.initialize.from_ or self.like or ""]
            for fault in mistakes(self.initialize.layers, context.facts[context.name], source):
                fault.at = ("initialize", *fault.at)
                yield fault

    def _wrong_readout(self, context: ModelContext) -> Iterator[Fault]:
        if not _reads(context):
            if self.readout is not None and context.heads:
                kinds = ", ".join(f"`{head.kind}`" for head in context.heads.values())
                message = f"`readout` has no effect: its task needs a head for {kinds}, and reads no vector of a text"
                yield Fault("KD305", message, ("readout",), key=True)
            return
        if self.path is not None:  # a model with `like` reports it there
            try:
                self.read_out(context)
            except Fault as fault:
                yield fault

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
            written, reads = self.written_configuration(context), self.form(context)
            verdict = compared_head(context, written, self.labels, reads) if loaded else None
            with (
                nullcontext() if context.weights else no_init_weights(),
                loading.seeded(context.seed, "/".join(filter(None, (context.name, context.task)))),
                loading.explained(self.origin(), "the model cannot be built"),
            ):
                if verdict is None:
                    module = auto.from_config(config, **options)
                else:
                    fit_rows(config, verdict)
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
        if heads.is_embedder(module) and len(context.heads) < 2 and not context.task:
            module.freeze_unread()
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
        with loading.quiet(), loading.explained(self.origin(), "the model cannot be built"):
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
        config, reads = self.configuration(context), self.form(context)
        needed = "embedding" if kind == HEAD and reads == "each" else kind
        auto = configuration.auto_class(needed, config, self.origin(), trusts_code=context.trusts_code)
        if kind == HEAD:
            auto = self._scorer(auto, reads, context)
        elif kind in HEADS:
            from kdspec.hf.embedding.text_embedder import AutoEmbedder

            auto = AutoEmbedder(auto, self.read_out(context))
        if context.head is not None:
            trained = self.path is not None or self.initialize is not None
            tokenizer = self.tokenizer(context) if context.weights else None
            configuration.fit(config, replace(context.head, kind=needed), tokenizer, trained=trained)
        if not context.weights and getattr(config, "pad_token_id", 0) is None:
            config.pad_token_id = 0  # otherwise the tokenizer's
        return auto, config, options

    def _scorer(self, auto: Any, reads: str, context: ModelContext) -> Any:
        """What makes a model that scores candidates, in the place of the library's class."""
        from kdspec.hf.scoring.bi_encoder import BiEncoder
        from kdspec.hf.scoring.pair_scorer import AutoPairScorer

        if not reads:
            raise Fault(loading.CODE, UNKNOWN_READING.format(name=context.name), self.origin(), help=READING_HELP)
        if reads == "pair":
            return AutoPairScorer(auto)
        from kdspec.hf.embedding.text_embedder import AutoEmbedder

        comparison = self.comparison(self._folder(context))
        return AutoEmbedder(auto, self.read_out(context), partial(BiEncoder, comparison=comparison))

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
        heads.load(heads.parts(module), folder)

    def _save(self, module: nn.Module, folder: Any, context: ModelContext, own: Collection[str] | None = None) -> None:
        """Save without tensors that are not its `own`, such as a pooler that another task's head needs."""
        if heads.is_embedder(module):
            save_embedder(module, folder, own, self.tokenizer(context))
        else:
            loading.save(module, folder, own, self.tokenizer(context))
        if context.trusts_code:
            line = [model for model in self.line(context) if isinstance(model, Transformers)]
            places: list[Place] = [(m.at(context), m.revision) for m in line if m.path is not None]
            bring(folder, [*places, *(m.tokenizer_at(context) for m in line if m.tokenizer_ is not None)])

    def _loaded(self, auto: Any, config: Any, context: ModelContext, options: Mapping[str, Any]) -> tuple[Any, Any]:
        if self.path is not None and (folder := local_folder(self.path, context.folder)) is not None:
            loading.refuse_weights(folder, self.path)
        return loading.weights(auto, self.at(context), config, self.revision, options)


def _reads(context: ModelContext) -> bool:
    """Whether a task reads vectors of texts."""
    return any(head.kind in READING for head in context.heads.values())


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The models."""
    return [Transformers]
