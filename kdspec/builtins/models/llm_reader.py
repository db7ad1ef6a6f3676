"""The model `llm_reader`: a causal language model that answers a prompt with one of the classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import InputLimits, ModelContext, ModelFacts, ReadFiles
from kdspec.api.spec.file_fields import SpecFolderOrHub, local_folder
from kdspec.data.prompted.prompt_tokenizer import PromptTokenizer
from kdspec.diagnostics.fault import Fault
from kdspec.hf import families, loading, model_files, tokenizer_files
from kdspec.hf.padding import asked_by
from kdspec.hf.prompted.prompted_model import PromptedModel
from kdspec.hf.read_files import read_files
from kdspec.hf.saved.remote_code import refuse_kernels
from kdspec.hf.weight_files import weight_files

if TYPE_CHECKING:
    from torch import nn

_DECODERS = ("ForCausalLM", "LMHeadModel")
"""How classes of the library with a head for the next token are named."""


class LlmReader(PromptedModel):
    """A causal language model as a teacher of classes, by its answer to a prompt with the row's texts.

    The probability of a class is that of the tokens with which its answer begins, as many as distinguish it from the others; so
    nothing is generated. They are normalised over the classes. Answers are read in one pass for all orders of the options,
    and kept by the teacher cache. It can only teach, and it needs no labels.

    The task's `max_length` holds for the texts alone, in tokens of this model, and so does the limit of the model: the prompt
    around them is never cut.
    """

    name = "llm_reader"
    scope = "row"

    path: SpecFolderOrHub
    """A folder with `config.json`, safetensors and a tokenizer, or a name on the hub."""
    revision: str | None = None
    """For a hub model: branch, tag or commit."""

    def facts(self, context: ModelContext) -> ModelFacts:
        """Layers and widths from `config.json`, and the classes of `options`."""
        known, names = families.facts(self._written(context)), tuple(self.options)
        return ModelFacts(
            layers=known.layers, width=known.width, heads=known.heads, family=known.family, vocabulary=known.vocabulary,
            classes=len(names) or None, labels=names, by_name=bool(names),
        )  # fmt: skip

    def check(self, context: ModelContext) -> Iterator[Fault]:
        """Check the files of `path`, the prompt and the options."""
        yield from loading.bare_names({"path": self.path}, context.folder)
        yield from self.wrong_question(context)
        if (folder := local_folder(self.path, context.folder)) is None:
            return
        yield from model_files.check_model(folder, self.path, None)
        yield from model_files.check_tokenizer(folder, ("path",))
        own = families.facts(self._written(context)).architecture
        if own is not None and not own.endswith(_DECODERS):
            message = f"the files of `{self.path}` are of a `{own}`, which has no head for the next token"
            yield Fault(loading.CODE, message, ("path",), help="name a causal language model, a `...ForCausalLM`")

    def build(self, context: ModelContext) -> nn.Module:
        """The language model with its answers as logits of classes, on the CPU in float32."""
        import torch

        from kdspec.hf.prompted.answer_reader import AnswerReader, Answers

        auto, config, options = self._prepared(context)
        if not context.weights:
            return self.skeleton(context)
        with loading.quiet(), loading.explained(("path",), f"`{self.path}` cannot be loaded", hub=self._at(context)):
            if (folder := local_folder(self.path, context.folder)) is not None:
                loading.refuse_weights(folder, self.path)
            module, report = loading.weights(auto, self._at(context), config, self.revision, options)
            if loading.check(module, report):
                message = f"the files of `{self.path}` have no head for the next token"
                raise Fault(loading.CODE, message, ("path",), help="name a causal language model, a `...ForCausalLM`")
        tokenizer = self.tokenizer(context)
        free = None
        if self.prior == "contextual":
            free = {name: torch.as_tensor(rows) for name, rows in tokenizer.collate(tokenizer.content_free()).items()}
        asked = tokenizer.question
        context.on_initialised(())
        return AnswerReader(module.eval(), Answers(len(asked.classes), len(asked.orders), free, asked.digest))

    def skeleton(self, context: ModelContext) -> nn.Module:
        """The module on the meta device, from the configuration alone."""
        import torch

        from kdspec.hf.prompted.answer_reader import AnswerReader, Answers

        auto, config, options = self._prepared(context)
        with loading.quiet(), loading.explained(("path",), "the model cannot be built"), torch.device("meta"):
            module = auto.from_config(config, **options)
        return AnswerReader(module, Answers(len(context.head.labels) if context.head else 0, 1), shapes=True)

    def tokenizer(self, context: ModelContext) -> PromptTokenizer:
        """What writes and encodes the prompts."""
        written = self._written(context)
        place, revision = local_folder(self.path, context.folder) or self.path, self.revision or "main"
        found = loading.fast_tokenizer(
            place, revision, ("path",), padding=asked_by({}, written), trusts_code=context.trusts_code
        )
        if self.chat and not found.chat_template:
            message = f"the tokenizer of `{self.path}` has no chat template"
            raise Fault(loading.CODE, message, ("chat",), help="leave `chat` out")
        chat = bool(found.chat_template) if self.chat is None else self.chat
        numbers = [written.get(key) for key in ("max_position_embeddings", "n_positions")]
        positions = next((number for number in numbers if type(number) is int), None)
        return PromptTokenizer(found, self.question(context, chat=chat), positions)

    def tokenizer_id(self, context: ModelContext) -> str | None:
        """That of the files, with a checksum of what it is asked."""
        place = local_folder(self.path, context.folder) or self.path
        name = tokenizer_files.identity(place, self.revision or "main", asked_by({}, self._written(context)))
        return f"{name}, asked {self.asked(context)}"

    def input_limits(self, context: ModelContext) -> InputLimits:
        """The tokens that it has; a row has several prompts, of which each is cut to its positions."""
        return InputLimits(vocabulary=families.facts(self._written(context)).vocabulary)

    def weight_files(self, context: ModelContext) -> Collection[Path]:
        """The safetensors of `path`."""
        return weight_files(self.path, self.revision, context.folder)

    def read_files(self, context: ModelContext) -> Iterator[ReadFiles]:
        """Configuration and tokenizer of `path`, and the file of the prompt."""
        place = local_folder(self.path, context.folder) or self.path
        code = context.trusts_code
        yield from read_files(place, self.revision, "path", model=True, tokenizer=True, code=code)
        if (file := self.prompt_file(context)) is not None:
            yield ReadFiles("prompt", "file", (file,))

    def fetch(self, context: ModelContext) -> None:
        """Download the configuration of a hub model."""
        if not self._written(context):
            with loading.quiet():
                self._configuration(context)

    def _written(self, context: ModelContext) -> Mapping[str, Any]:
        return families.written(self.path, self.revision, local_folder(self.path, context.folder))

    def _at(self, context: ModelContext) -> str:
        return str(local_folder(self.path, context.folder) or self.path)

    def _configuration(self, context: ModelContext) -> Any:
        from transformers import AutoConfig

        if not context.weights and not self._written(context):
            message = f"the configuration of `{self.path}` is not on this machine yet"
            raise Fault("KD401", message, ("path",), help="the run downloads it")
        with loading.explained(("path",), f"`{self.path}` cannot be loaded", hub=self._at(context)):
            found = AutoConfig.from_pretrained(
                self._at(context), revision=self.revision or "main",
                trust_remote_code=context.trusts_code, local_files_only=not context.weights,
            )  # fmt: skip
        refuse_kernels(self._written(context), trusts_code=context.trusts_code)
        return found

    def _prepared(self, context: ModelContext) -> tuple[Any, Any, dict[str, Any]]:
        """The library's class, the configuration, and options."""
        import torch
        from transformers import AutoModelForCausalLM

        with loading.quiet():
            config = self._configuration(context)
        return AutoModelForCausalLM, config, {"dtype": torch.float32, "trust_remote_code": context.trusts_code}


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The model."""
    return [LlmReader]
