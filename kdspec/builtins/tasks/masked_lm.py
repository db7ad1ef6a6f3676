"""The task `masked_lm`: masked language modelling for pre-training and task-agnostic distillation."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, overload

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.kinds.losses import LogitKind
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import BuiltTask, Head, Reader, Row
from kdspec.data import texts
from kdspec.data.answers.same_answers import share_of_same
from kdspec.data.answers.standalone_answers import of_masks
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.masking import IGNORE, NO_WORD, Masking, word_of_each
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_CODE = "KD502"
_ROWS_AT_ONCE = 1000


class MaskedLm(Task):
    """Masked language modelling on texts without labels: pretraining and task-agnostic distillation.

    80 % of the selected tokens become the mask token, 10 % a random one, and 10 % are unchanged. The tokens are sampled
    again in each epoch, and are always the same in evaluation. Losses on logits use the selected tokens only. The hard
    loss is the cross-entropy. Papers: Devlin et al. 2019 (https://arxiv.org/abs/1810.04805); for the distillation Sanh
    et al. 2019 (https://arxiv.org/abs/1910.01108) and Jiao et al. 2020 (https://arxiv.org/abs/1909.10351).
    """

    name = "masked_lm"
    scope = "position"
    head: ClassVar[str | None] = "masked_lm"
    length_limit: ClassVar[str | None] = "max_length"
    logits: ClassVar[LogitKind | None] = "classes"

    data: Dataset
    """The rows."""
    text: str
    """The column of the texts."""
    without_text: texts.WithoutText = "error"
    """For a row whose text is empty or null: an error, or `leave_out`, which reports their number."""
    max_length: int | None = Field(default=None, ge=3, le=LONGEST_ROW)
    """Maximum number of tokens of a row. Default: the tokenizer's limit."""
    group: bool = False
    """Whether texts are concatenated and split into rows of `max_length` tokens, without padding and without loss.
    Otherwise each text is a row, truncated if it is too long."""
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens that is masked, at least one of each row."""
    whole_words: bool = False
    """Whether all tokens of a word are masked together. A word is what the tokenizer splits into tokens; in Chinese
    that is a character, see `segmented`."""
    segmented: str | None = None
    """For whole words in a language without spaces: a column with the segmented text (a list of words, or a text with
    spaces between them) or with a list of the lengths of its words. No word is split by the mask then."""
    metric: Literal["perplexity", "accuracy"] = "perplexity"
    """The metric that selects the best student; lower perplexity is better."""

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model; `logits_mask` selects the masked tokens."""
        return {**texts.ADAPTOR, "logits_mask": "batch.labels != -100"}

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, and a label for each."""
        del context
        inputs = texts.example(rows, self.max_length, longest)
        return {**inputs, "labels": Input(inputs["input_ids"].shape, value=0, target=True)}

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        # Texts that are concatenated become rows of `max_length`.
        return None if self.group else texts.sample(self.data, context, [self.text], rows)

    def without_rows(self) -> MaskedRows:
        return MaskedRows(self, {})

    def varies(self) -> str | None:
        """Always."""
        return "its tokens are masked differently in each epoch"

    def logit_positions(self, tokens: int) -> int:
        """The number of masked tokens."""
        return max(1, round(self.probability * tokens))

    def metric_names(self) -> Collection[str]:
        """Those of `metric`."""
        return ("perplexity", "accuracy")

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns."""
        columns: dict[ColumnPlace, str] = {("text",): self.text}
        if self.segmented is not None:
            columns["segmented",] = self.segmented
        yield from missing(texts.columns_of(self.data, context), columns, {}, named(self))

    def build(self, context: TaskContext) -> MaskedRows:
        """Read the rows and check their columns."""
        return MaskedRows(
            self,
            texts.splits_of(
                self.data, context, (self.segmented,), inputs={("text",): self.text}, without_text=self.without_text
            ),
        )


class MaskedRows(BuiltTask):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: MaskedLm, splits: Mapping[str, Any]) -> None:
        self.head = Head(kind=task.head)
        self._task, self._splits = task, splits
        for split, rows in splits.items():
            texts.check_column(rows, split, task.text, ("text",))
            if task.segmented is not None:
                texts.check_column(rows, split, task.segmented, ("segmented",))

    def rows(self, split: str) -> int:
        """Number of texts of the split."""
        return len(self._splits[split]) if split in self._splits else 0

    def encode(self, split: str, readers: Sequence[Reader]) -> list[MaskedTexts]:
        """Rows of tokens and labels, masked as in evaluation, each with a function that masks it again.

        The tokenizers must split texts into the same tokens.
        """
        made = [self._rows(split, reader.tokenizer) for reader in readers]
        if any(other.ids != made[0].ids for other in made[1:]):
            help_ = "give the models one tokenizer: `tokenizer: ...` in the student"
            raise Fault(
                "KD503", "the models split texts into different tokens, and `masked_lm` needs equal ones", help=help_
            )
        return made

    def _rows(self, split: str, tokenizer: Any | None) -> MaskedTexts:
        tokenizer = texts.present(tokenizer)
        if tokenizer.mask_token_id is None:
            raise Fault("KD503", "the tokenizer of a model has no mask token", help="`masked_lm` is for encoders only")
        longest = texts.limit(tokenizer, self._task.max_length)
        if self._task.group and longest is None:
            message = "the tokenizer has no limit, and rows of `group` need one"
            raise Fault(_CODE, message, ("group",), help="write `max_length`")
        made = MaskedTexts(split, Masking(tokenizer, self._task.probability))
        made.types = "token_type_ids" in tokenizer.model_input_names
        for ids, words in (
            self._packed(split, tokenizer, longest or 0)
            if self._task.group
            else self._tokens(split, tokenizer, longest, special=True)
        ):
            made.add(ids, words)
        if not len(made):
            raise Fault(_CODE, f"the texts of `{split}` have no tokens", ("text",))
        return made

    def draw(
        self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool
    ) -> list[dict[str, Any]]:
        """The rows with other tokens masked."""
        del reader, taught
        return [{**row, **row["mask"](generator)} for row, generator in zip(rows, generators, strict=True)]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Pad to the longest row; tokens that are not predicted have the label -100."""
        labels = texts.padded([row["labels"] for row in rows], IGNORE, reader.tokenizer)
        return Batch(inputs={"": texts.collate(rows, reader.tokenizer)}, targets={"labels": labels})

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The texts."""
        return [(text,) for text in texts.read(self._splits[split], split, self._task.text, ("text",))]

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The cross-entropy over the masked tokens."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import cross_entropy

        def loss(logits: Tensor, labels: Tensor) -> Mean:
            masked = labels != IGNORE  # a vocabulary is large, so the loss of the other tokens would be slow
            return cross_entropy(logits[masked], labels[masked], IGNORE)

        return by_head(features, batch, loss)

    def evaluator(self, split: str) -> Evaluator:
        """Perplexity, accuracy and loss over the masked tokens."""
        del split
        return TokenMetrics(self._task.metric)

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The most probable tokens in the place of a mask."""
        del module
        return of_masks(reader.tokenizer, self._task.max_length)

    def _tokens(
        self, split: str, tokenizer: Any, longest: int | None, *, special: bool
    ) -> Iterator[tuple[list[int], list[int]]]:
        """The token ids of each text, and the word number of each token."""
        rows, task = self._splits[split], self._task
        written = texts.read(rows, split, task.text, ("text",))
        segments = self._segments(split, written) if task.segmented is not None else None
        for start in range(0, len(written), _ROWS_AT_ONCE):
            part = written[start : start + _ROWS_AT_ONCE]
            encoded = tokenizer(
                part,
                add_special_tokens=special,
                truncation=longest is not None,
                max_length=longest,
                return_attention_mask=False,
                return_special_tokens_mask=True,
                return_offsets_mapping=True,
            )
            for number, ids in enumerate(encoded["input_ids"]):
                marks = encoded["special_tokens_mask"][number]
                if segments is not None:
                    offsets = encoded["offset_mapping"][number]
                    words = _by_segment(part[number], segments[start + number], offsets)
                elif task.whole_words:
                    words = encoded.word_ids(number)
                else:
                    words = list(range(len(ids)))
                yield ids, [NO_WORD if mark or word is None else word for mark, word in zip(marks, words, strict=True)]

    def _packed(self, split: str, tokenizer: Any, longest: int) -> Iterator[tuple[list[int], list[int]]]:
        """Blocks of concatenated texts, with separators between the texts and special tokens around each block."""
        before, behind = _marks(tokenizer)
        size = longest - len(before) - len(behind)

        def whole(ids: list[int], words: list[int]) -> tuple[list[int], list[int]]:
            return [*before, *ids, *behind], [NO_WORD] * len(before) + words + [NO_WORD] * len(behind)

        ids: list[int] = []
        words: list[int] = []
        between = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        last = 0
        for of_text, of_words in self._tokens(split, tokenizer, None, special=False):
            if ids and of_text and between is not None:
                ids, words = [*ids, between], [*words, NO_WORD]
            ids += of_text
            words += [word if word == NO_WORD else last + word for word in of_words]
            last += max(of_words, default=0) + 1
            while len(ids) >= size:
                yield whole(ids[:size], words[:size])
                ids, words = ids[size:], words[size:]
        if any(word != NO_WORD for word in words):
            yield whole(ids, words)

    def _segments(self, split: str, written: Sequence[str]) -> list[list[int]]:
        assert self._task.segmented is not None, "read only if there is a column of words"
        found = []
        for row, (text, value) in enumerate(zip(written, self._splits[split][self._task.segmented][:], strict=True), 1):
            parts = value.split() if isinstance(value, str) else value
            lengths = None
            if isinstance(parts, list) and all(isinstance(part, (int, str)) for part in parts):
                lengths = [part if isinstance(part, int) else sum(not c.isspace() for c in part) for part in parts]
            words = None if lengths is None else word_of_each(text, lengths)
            if words is None:
                what = "no words" if lengths is None else f"words of {sum(lengths)} characters"
                count = sum(not letter.isspace() for letter in text)
                message = f"row {row} of `{split}` has {what} in `{self._task.segmented}`, and a text of {count}"
                raise Fault(_CODE, message, ("segmented",), help="rows are counted from 1; spaces are not counted")
            found.append(words)
        return found


class TokenMetrics(Evaluator):
    """Perplexity, accuracy and loss over the masked tokens.

    Args:
        metric: the one that selects the best student.
    """

    others = (Metric("perplexity", higher_is_better=False),)
    gives_loss = True
    agrees_on = "masked tokens with the same prediction"
    agrees_by_token = True

    def __init__(self, metric: str) -> None:
        self.primary = self.others[0] if metric == "perplexity" else Metric(metric)

    def add(self, features: Features, batch: Batch) -> State:
        """For each masked token its row, its predicted token, the logarithm of its probability, and whether it is right."""
        import torch

        from kdspec.objectives.hard_labels import labels
        from kdspec.objectives.soft_labels import outputs

        logits, right = outputs(features)[0], labels(features, batch)[0]
        masked = right != IGNORE
        rows = torch.tensor(batch.rows)[masked.nonzero()[:, 0].cpu()]
        chosen = [torch.zeros(0, dtype=torch.long, device=right.device)]
        right, found = right[masked][:, None], [torch.zeros(0, 2, device=right.device)]
        for part in logits.select(masked).chunks():
            predicted, here, right = part.dense(), right[: part.positions], right[part.positions :]
            probable = predicted.double().log_softmax(-1).gather(-1, here)
            best = predicted.argmax(-1, keepdim=True)
            chosen.append(best[:, 0])
            found.append(torch.cat([probable, best == here], -1).float())
        return {"tokens": torch.cat(found), "rows": rows, "chosen": torch.cat(chosen)}

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """The loss is the negative mean of the logarithms, and the perplexity its exponential."""
        import torch

        found = torch.cat([state["tokens"] for state in states]).double()
        loss = -found[:, 0].mean().item()
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"perplexity": perplexity, "accuracy": found[:, 1].mean().item(), "loss": loss}

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of masked tokens with the same prediction; the tokens of a row are in order."""
        return share_of_same(states, reference, "chosen")


class MaskedTexts(Sequence[Mapping[str, Any]]):
    """Rows of a split, stored in flat arrays, and masked when they are read."""

    def __init__(self, split: str, masking: Masking) -> None:
        self.split, self.masking, self.types = split, masking, False
        self.ids, self._words, self._ends = array("i"), array("i"), array("q", [0])

    def add(self, ids: Sequence[int], words: Sequence[int]) -> None:
        """Append a row, unless it has no token that can be masked."""
        if any(word != NO_WORD for word in words):
            self.ids.extend(ids)
            self._words.extend(words)
            self._ends.append(len(self.ids))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, row: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, row: slice) -> list[Mapping[str, Any]]: ...
    def __getitem__(self, row: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        number = row % len(self)
        ids, words = (values[self._ends[number] : self._ends[number + 1]] for values in (self.ids, self._words))

        def mask(generator: Random) -> dict[str, list[int]]:
            masked, labels = self.masking(ids, words, generator)
            return {"input_ids": masked, "labels": labels}

        types = {"token_type_ids": [0] * len(ids)} if self.types else {}

        return {**mask(Random(f"{self.split} {number}")), **types, "mask": mask}  # noqa: S311 - not used for security


def _by_segment(text: str, segments: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word of each token: that of its first character that is not a space."""
    words = []
    for start, end in offsets:
        first = next((place for place in range(start, end) if not text[place].isspace()), start)
        words.append(segments[first] if first < end else NO_WORD)
    return words


def _marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokenizer's special tokens before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, inside = encoded["input_ids"], [place for place, mark in enumerate(encoded["special_tokens_mask"]) if not mark]
    return ids[: inside[0]], ids[inside[-1] + 1 :]


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [MaskedLm]
