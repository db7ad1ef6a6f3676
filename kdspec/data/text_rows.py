"""Text rows, shared by the tasks on whole texts: columns, encoding and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import Augmentation
from kdspec.api.working.batch import Batch
from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.data import texts, word_split
from kdspec.data.prompted.prompt_tokenizer import PromptTokenizer
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

VARIES = "its texts are augmented differently in each epoch"
"""The return value of `Task.varies` for a task with augmentations."""


class TextRows:
    """Texts of rows as model inputs, with augmentation.

    Args:
        splits: rows by split; empty if only the shapes are needed.
        text: the column of the texts, or two columns of pairs.
        max_length: the task's limit; None for the tokenizer's.
        augment: the task's augmentations.
        unlabelled: the value of `labels` for a row without a label.
    """

    def __init__(
        self,
        splits: Mapping[str, Any],
        text: Sequence[str],
        *,
        max_length: int | None,
        augment: Sequence[Augmentation],
        unlabelled: Any,
    ) -> None:
        self.splits, self.text, self.max_length = splits, text, max_length
        self.unlabelled = unlabelled
        for split, rows in splits.items():
            for number, column in enumerate(text):
                texts.check_column(rows, split, column, ("text", number))
        self._augment = [component.build(BuildContext()) for component in augment]
        self._masks = next((number for number, component in enumerate(augment) if component.masks), None)

    def rows(self, split: str) -> int:
        """Number of rows of the split."""
        return len(self.splits[split]) if split in self.splits else 0

    def encode(self, split: str, tokenizer: Any | None, labels: Sequence[Any]) -> list[dict[str, Any]]:
        """The rows of a split with their `labels`, and with their texts if these are augmented.

        Raises:
            Fault: KD502 for a row without a text or a limit that is too low, KD503 for a missing tokenizer or mask token.
        """
        if texts.present(tokenizer).mask_token is None and self._masks is not None:
            message = "the tokenizer of a model has no mask token"
            raise Fault("KD503", message, ("augment", self._masks), help="leave out this augmentation, or `deleting`")
        columns = self._columns(split)
        examples = self._encoded(columns, tokenizer)
        for example, label in zip(examples, labels, strict=True):
            example["labels"] = label
        if self._augment:
            for example, written in zip(examples, zip(*columns, strict=True), strict=True):
                example["texts"] = written
        return examples

    def texts(self, split: str) -> list[tuple[str, ...]]:
        """The texts of each row."""
        return list(zip(*self._columns(split), strict=True))

    def uncut(self, split: str, rows: Sequence[int], tokenizer: Any) -> list[int] | None:
        """The number of tokens of some rows without a limit; None for prompts, of which the texts alone have one."""
        if not rows or isinstance(tokenizer, PromptTokenizer):
            return None if rows else []
        columns = [[column[row] for row in rows] for column in self._columns(split)]
        encoded = texts.present(tokenizer)(*columns, truncation=False, return_attention_mask=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _columns(self, split: str) -> list[list[str]]:
        rows = self.splits[split]
        return [texts.read(rows, split, name, ("text", number)) for number, name in enumerate(self.text)]

    def draw(
        self, examples: Sequence[Mapping[str, Any]], generators: Sequence[Random], tokenizer: Any, *, taught: bool
    ) -> Sequence[Mapping[str, Any]]:
        """The examples with augmented texts. A changed example has no label: it is learnt from the teacher's outputs.

        Without a teacher, rows are not augmented, since a changed row would have no target.
        """
        if not (self._augment and taught):
            return examples
        result = list(examples)
        changed: dict[int, tuple[str, ...]] = {}
        for number, (example, generator) in enumerate(zip(examples, generators, strict=True)):
            made = tuple(augmented(text, self._augment, generator) for text in example["texts"])
            if made != example["texts"]:
                changed[number] = made
        if changed:
            columns = list(zip(*(map(_masked(tokenizer), made) for made in changed.values()), strict=True))
            for number, example in zip(changed, self._encoded(columns, tokenizer), strict=True):
                result[number] = {**example, "labels": self.unlabelled}
        return result

    def collate(self, rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, Tensor]:
        """The inputs of a batch of examples."""
        if isinstance(tokenizer, PromptTokenizer):
            return tokenizer.collate(rows)
        return texts.collate(rows, tokenizer)

    def _encoded(self, columns: Sequence[Sequence[str]], tokenizer: Any) -> list[dict[str, Any]]:
        if isinstance(tokenizer, PromptTokenizer):
            return tokenizer.rows(dict(zip(self.text, columns, strict=True)), self.max_length)
        longest = texts.limit(tokenizer, self.max_length, pair=len(columns) == 2)
        return texts.encode(columns, tokenizer, longest)


class LabelledTexts(BuiltTask):
    """The base of tasks on whole texts with `labels` of `dtype`; subclasses have the loss and the metrics."""

    def __init__(self, rows: TextRows, labels: Mapping[str, Sequence[Any]], dtype: str) -> None:
        self._texts, self._labels, self._dtype = rows, labels, dtype

    def rows(self, split: str) -> int:
        """Number of rows of the split."""
        return self._texts.rows(split)

    def labelled(self, split: str) -> int:
        """Number of rows with a label; of rows with several labels, with any of them."""
        unlabelled = self._texts.unlabelled
        several = isinstance(unlabelled, list)
        return sum(
            any(value == value for value in label) if several else label != unlabelled  # noqa: PLR0124 - NaN differs from itself
            for label in self._labels.get(split, ())
        )

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Any]]]:
        """Lists of token ids, token types if the tokenizer returns them, and the labels."""
        labels = self._labels[split]
        return [
            self._texts.encode(split, reader.tokenizer, labels)
            if reader.answers_of is None
            else [{"labels": label} for label in labels]
            for reader in readers
        ]

    def draw(self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool) -> Sequence[Row]:
        """The rows with their texts augmented."""
        return self._texts.draw(rows, generators, reader.tokenizer, taught=taught)

    def column(self, split: str, name: str) -> Sequence[Any] | None:
        """The values of a column that the rows have."""
        return texts.column(self._texts.splits[split], name)

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The text of each row, or its two texts."""
        return self._texts.texts(split)

    def uncut(self, split: str, rows: Sequence[int], reader: Reader) -> Sequence[int] | None:
        """The number of tokens of rows without `max_length`."""
        return self._texts.uncut(split, rows, reader.tokenizer)

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Pad to the longest row, with the tokenizer's padding side and values; `labels` has one entry per row."""
        import torch

        labels = torch.tensor([each["labels"] for each in rows], dtype=getattr(torch, self._dtype))
        inputs = self._texts.collate(rows, reader.tokenizer) if reader.answers_of is None else {}
        return Batch(inputs={"": inputs}, targets={"labels": labels})


def augmented(text: str, functions: Sequence[Callable[[list[str], Random], list[str]]], generator: Random) -> str:
    """The text after all augmentations in turn; unchanged, spaces included, if no word changes."""
    found = before = word_split.split(text)
    for function in functions:
        found = function(list(found), generator)
    return text if found == before else word_split.join(found)


def _masked(tokenizer: Any) -> Callable[[str], str]:
    token = tokenizer.mask_token
    return lambda text: text if token is None else text.replace(word_split.MASK, token)
