"""The tokens of prompts: for each row one tree of the prompts of all orders of the options, and where answers are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdspec.api.kinds.context import Input
from kdspec.data.prompted.question import ClassQuestion, joined
from kdspec.data.prompted.token_tree import TokenTree, common, told_apart
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

FORM = "prompt"
"""How a model reads rows whose reader has a `PromptTokenizer` (`Reader.form`)."""
CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts without content, whose answers are the prior of the options (Zhao et al. 2021)."""
NOWHERE = -1
"""The place of an answer's token that there is not."""
_ROWS_AT_ONCE = 64
_SPARE = 8
"""Tokens that a text may have more beside a prompt than alone."""


class PromptTokenizer:
    """Writes the prompts of rows and encodes them, in the place of a tokenizer.

    An encoded row has the tree of its prompts, `input_ids` and `ends` (see `TokenTree`), and the tokens of the answers:
    `answer_ids`, and `answers_at`, the place before each. An answer has as many tokens as distinguish it from the others; its
    probability is their product. They are in the order (token of an answer, order of the options, class), so that rows
    whose answers take more tokens can be padded behind.

    Args:
        tokenizer: the fast tokenizer of the model.
        question: what is asked.
        positions: the number of tokens that the model can read; None for no limit.
    """

    mask_token = None
    mask_token_id = None

    def __init__(self, tokenizer: Any, question: ClassQuestion, positions: int | None) -> None:
        self.question, self.positions = question, positions
        self.padding_side = "right"
        self._tokenizer = tokenizer
        self._beginning = [] if question.chat else _beginning(tokenizer)
        longest, depth = self._measured()
        self._texts = None if positions is None else positions - longest - _SPARE
        self._depth = depth

    @property
    def pad_token_id(self) -> int | None:
        """That of the tokenizer."""
        found: int | None = self._tokenizer.pad_token_id
        return found

    @property
    def unk_token_id(self) -> int | None:
        """That of the tokenizer."""
        found: int | None = self._tokenizer.unk_token_id
        return found

    @property
    def all_special_ids(self) -> Sequence[int]:
        """Those of the tokenizer."""
        found: Sequence[int] = self._tokenizer.all_special_ids
        return found

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """As the tokenizer does it."""
        return self._tokenizer.convert_ids_to_tokens(ids)

    def content_free(self) -> list[dict[str, list[int]]]:
        """Rows whose texts have no content."""
        return self.rows(dict.fromkeys(self.question.template.columns, CONTENT_FREE), None)

    def rows(self, columns: Mapping[str, Sequence[str]], longest: int | None) -> list[dict[str, list[int]]]:
        """The encoded rows.

        Args:
            columns: the texts of each column, one for each row.
            longest: the number of tokens of a row's texts, above which the longer of them is cut; None for no other
                limit than the model's. The prompt itself is never cut.

        Raises:
            Fault: KD502 if the answers cannot be distinguished.
        """
        named = {name: columns[name] for name in self.question.template.columns}
        number = len(next(iter(columns.values())))
        made: list[dict[str, list[int]]] = []
        for start in range(0, number, _ROWS_AT_ONCE):
            part = {name: list(texts[start : start + _ROWS_AT_ONCE]) for name, texts in named.items()}
            cut = self._cut(part, longest)
            count = min(_ROWS_AT_ONCE, number - start)
            made += self._encoded([{name: texts[row] for name, texts in cut.items()} for row in range(count)])
        return made

    def row_tokens(self, longest: int) -> int:
        """The number of tokens that a row of a batch takes, whose texts have so many: those of its prompts without the
        beginning that all rows share, which is read once for the batch.
        """
        name, *others = self.question.template.columns
        texts = {name: [" ".join(["a"] * longest), ""]} | {other: ["", ""] for other in others}
        one, empty = self.rows(texts, longest)
        # A token that only some of the prompts have ends a tree's common beginning.
        whole = [number for number, end in enumerate(one["ends"]) if end < len(one["ends"])]
        shared = min(common(one["input_ids"], empty["input_ids"]), *whole, len(one["input_ids"]) - 1)
        return len(one["input_ids"]) - shared

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Rows as tensors: `input_ids`, `attention_mask` and `ends`, `(rows, longest)`; `answer_ids` and `answers_at`."""
        import torch

        def padded(key: str, value: int) -> Tensor:
            most = max(len(row[key]) for row in rows)
            return torch.tensor([[*row[key], *[value] * (most - len(row[key]))] for row in rows])

        ends = padded("ends", 0)
        return {
            "input_ids": padded("input_ids", self.pad_token_id or 0),
            "attention_mask": (ends > 0).long(),
            "ends": ends,
            "answer_ids": padded("answer_ids", 0),
            "answers_at": padded("answers_at", NOWHERE),
        }

    def _encoded(self, rows: Sequence[Mapping[str, str]]) -> Iterator[dict[str, list[int]]]:
        texts = [
            joined(prompt, answer)
            for values in rows
            for order in self.question.orders
            for prompt in (self._written(values, order),)
            for answer in self.question.answers(order)
        ]
        tokens = iter(self._tokens(texts))
        classes = len(self.question.classes)
        for _ in rows:
            yield self._row([[next(tokens) for _ in range(classes)] for _ in self.question.orders])

    def _row(self, orders: Sequence[Sequence[Sequence[int]]]) -> dict[str, list[int]]:
        """A row, of the tokens of its prompt with each answer, by order and class."""
        scored = []
        for sequences in orders:
            shared, needed = told_apart(sequences)
            if needed is None or not shared:
                raise self._alike(sequences)
            scored += [(tuple(tokens[:end]), shared) for tokens, end in zip(sequences, needed, strict=True)]
        tree = TokenTree.of(tokens[:-1] for tokens, _ in scored)
        depth = max(self._depth, *(len(tokens) - shared for tokens, shared in scored))
        ids, places = [0] * (depth * len(scored)), [NOWHERE] * (depth * len(scored))
        for number, (tokens, shared) in enumerate(scored):
            at = tree.places[tokens[:-1]]
            for step, token in enumerate(tokens[shared:]):
                ids[step * len(scored) + number], places[step * len(scored) + number] = token, at[shared + step - 1]
        return {"input_ids": tree.tokens, "ends": tree.ends, "answer_ids": ids, "answers_at": places}

    def _written(self, values: Mapping[str, str], order: Sequence[int]) -> str:
        prompt = self.question.prompt(values, order)
        if not self.question.chat:
            return prompt
        said = [{"role": "user", "content": prompt}]
        return str(self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [[*self._beginning, *ids] for ids in found["input_ids"]]

    def _measured(self) -> tuple[int, int]:
        """The number of tokens of the longest prompt without texts, and of the longest answer."""
        self._depth = 1
        empty = dict.fromkeys(self.question.template.columns, "")
        (row,) = self._encoded([empty])
        prompts = (self._written(empty, order) for order in self.question.orders)
        longest = max(map(len, self._tokens(list(prompts))))
        depth = len(row["answer_ids"]) // (len(self.question.orders) * len(self.question.classes))
        return longest + depth, depth

    def _cut(self, columns: dict[str, list[str]], longest: int | None) -> dict[str, list[str]]:
        """The texts, of which the longer one of a row is cut where they have too many tokens."""
        limits = [limit for limit in (longest, self._texts) if limit is not None]
        if not limits or not columns:
            return columns
        most, starts = max(1, min(limits)), dict[str, list[list[int]]]()
        for name, texts in columns.items():
            found = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            starts[name] = [[start for start, _ in offsets] for offsets in found["offset_mapping"]]
        for row in range(len(next(iter(columns.values())))):
            kept = {name: len(offsets[row]) for name, offsets in starts.items()}
            while (over := sum(kept.values()) - most) > 0:
                name, *others = sorted(kept, key=kept.__getitem__, reverse=True)
                beside = kept[others[0]] if others else 0
                kept[name] -= min(over, max(1, kept[name] - beside))
            for name, number in kept.items():
                if number < len(starts[name][row]):
                    columns[name][row] = columns[name][row][: starts[name][row][number]]
        return columns

    def _alike(self, sequences: Sequence[Sequence[int]]) -> Fault:
        """The fault of answers of which one begins another, or that begin with the first token of a prompt."""
        texts, tokens = self.question.texts, [tuple(each) for each in sequences]
        for number, one in enumerate(tokens):
            for other in range(len(tokens)):
                if number != other and tokens[other][: len(one)] == one:
                    message = f"to the tokenizer the answer {texts[number]!r} begins the answer {texts[other]!r}"
                    return Fault("KD502", message, ("options",), help="write answers of which none begins another")
        return Fault("KD502", "the prompt has no token before its answers", ("prompt",), help="write more before them")


def prompt_example(texts: Mapping[str, Input], tokens: int | None = None) -> dict[str, Input]:
    """The inputs that `collate` makes of rows, each with one answer: of so many tokens, or as many as the texts have."""
    rows, length = texts["input_ids"].shape
    shape = (rows, tokens or length)
    return {
        **{name: replace(texts[name], shape=shape) for name in ("input_ids", "attention_mask")},
        "ends": Input(shape),
        "answer_ids": Input((rows, 1)),
        "answers_at": Input((rows, 1), value=0),
    }


def _beginning(tokenizer: Any) -> list[int]:
    """The special tokens with which the tokenizer begins each text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, marks = encoded["input_ids"], encoded["special_tokens_mask"]
    return ids[: marks.index(0)] if 0 in marks else []
