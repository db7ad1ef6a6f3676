"""The task of guessing masked tokens."""

from __future__ import annotations

import math
from random import Random

import datasets
import pytest
import torch
import transformers

from kdspec.api.answers import Answers
from kdspec.api.context import BuildContext
from kdspec.api.kinds import Dataset
from kdspec.builtins.tasks.masked_lm import MaskedLm
from kdspec.data.masking import IGNORE
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny

TEXTS = ["a good film", "dull", "the plot was thin, and long"]


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in self.splits.items()})


def built(rows=None, **fields):
    splits = {"train": {"text": TEXTS} if rows is None else rows}
    return MaskedLm(**{"data": Rows(splits=splits), "text": "text", **fields}).build(BuildContext())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("tiny"), layers=1)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def whole(example):
    """The tokens before they were masked."""
    return [
        token if label == IGNORE else label
        for token, label in zip(example["input_ids"], example["labels"], strict=True)
    ]


def test_each_text_is_a_row_and_loses_nothing_but_the_masked(tokenizer):
    rows = built().encode("train", tokenizer)
    assert [whole(row) for row in rows] == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert all(row["labels"][0] == row["labels"][-1] == IGNORE for row in rows)


def test_evaluation_masks_the_same_tokens_always_and_an_epoch_others(tokenizer):
    task = built()
    rows, again = (task.encode("train", tokenizer) for _ in range(2))
    plain = [{key: row[key] for key in ("input_ids", "labels")} for row in rows]
    assert plain == [{key: row[key] for key in ("input_ids", "labels")} for row in again]
    drawn = task.draw(rows[:], [Random(seed) for seed in range(3)], tokenizer, taught=True)
    assert [whole(row) for row in drawn] == [whole(row) for row in rows]
    assert [row["labels"] for row in drawn] != [row["labels"] for row in plain]


def test_grouped_texts_fill_rows_and_lose_nothing(tokenizer):
    rows = built(group=True, max_length=10).encode("train", tokenizer)
    assert [len(row["input_ids"]) for row in rows][:-1] == [10] * (len(rows) - 1)
    inside = [token for row in rows for token in whole(row)[1:-1]]
    texts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert inside == [*texts[0], tokenizer.sep_token_id, *texts[1], tokenizer.sep_token_id, *texts[2]]
    assert {(row["input_ids"][0], row["input_ids"][-1]) for row in rows} == {(2, 3)}
    separators = [
        label for row in rows for token, label in zip(whole(row), row["labels"], strict=True) if token in (2, 3)
    ]
    assert set(separators) == {IGNORE}


def test_the_pieces_of_a_word_are_masked_together(tokenizer):
    task = built({"text": ["good films"] * 20}, whole_words=True)
    for row in task.encode("train", tokenizer):
        states = [label != IGNORE for label in row["labels"][1:-1]]
        assert states in ([True] * 4 + [False] * 5, [False] * 4 + [True] * 5)


@pytest.mark.parametrize("words", [["ab", "cde"], "ab cde", [2, 3]])
def test_words_of_a_column_are_masked_together(words, tokenizer):
    task = built({"text": ["a b-c d e".replace("-", " ")] * 10, "words": [words] * 10}, segmented="words")
    for row in task.encode("train", tokenizer):
        states = [label != IGNORE for label in row["labels"][1:-1]]
        assert states in ([True] * 2 + [False] * 3, [False] * 2 + [True] * 3)


@pytest.mark.parametrize(
    ("rows", "fields", "at", "message"),
    [
        ({"text": [None]}, {}, ("text",), "no text"),
        ({"text": [""]}, {}, ("text",), "no tokens"),
        ({"text": ["a"]}, {"text": "txt"}, ("text",), "no column `txt`"),
        ({"text": ["a"]}, {"segmented": "w"}, ("segmented",), "no column `w`"),
        ({"text": ["a b"], "w": ["a"]}, {"segmented": "w"}, ("segmented",), "words of 1 characters"),
        ({"text": ["a b"], "w": [None]}, {"segmented": "w"}, ("segmented",), "no words"),
        ({"text": ["a b"], "w": [[1.5]]}, {"segmented": "w"}, ("segmented",), "no words"),
    ],
)
def test_wrong_rows_are_told_at_their_place(rows, fields, at, message, tokenizer):
    with pytest.raises(Fault, match=message) as caught:
        built(rows, **fields).encode("train", tokenizer)
    assert caught.value.at == at


def test_a_tokenizer_must_have_a_mask_and_be_the_same_for_all(folder, tokenizer, tmp_path):
    other = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(built().encode_together("train", [tokenizer, other])) == 2
    other.backend_tokenizer.normalizer = None
    with pytest.raises(Fault, match="different tokens"):
        built({"text": ["A Good film"]}).encode_together("train", [tokenizer, other])
    other.mask_token = None
    with pytest.raises(Fault, match="no mask token"):
        built().encode("train", other)


def test_a_batch_has_the_inputs_of_the_plan(tokenizer):
    task = built()
    batch = task.collate(task.encode("train", tokenizer)[:], tokenizer)
    planned = MaskedLm(data=Rows(splits={}), text="text").example(BuildContext(), 3, None)
    assert batch.keys() == planned.keys()
    assert batch["labels"].shape == batch["input_ids"].shape
    assert set(batch["labels"][batch["attention_mask"] == 0].tolist()) == {IGNORE}


def test_loss_and_metrics_are_those_of_the_masked_tokens(tokenizer):
    task = built()
    batch = task.collate(task.encode("train", tokenizer)[:], tokenizer)
    labels = batch["labels"]
    logits = torch.randn((*labels.shape, len(tokenizer)), generator=torch.Generator().manual_seed(0))
    masked = labels != IGNORE
    expected = torch.nn.functional.cross_entropy(logits[masked], labels[masked])
    loss = task.loss(logits, labels)
    assert (loss.value.item(), int(loss.count)) == (pytest.approx(expected.item()), int(masked.sum()))
    condensed = [task.condense(logits[part], labels[part]) for part in (slice(1), slice(1, 3))]
    said, right = zip(*condensed, strict=True)
    found = task.metrics(Answers(split="test", rows=(), examples=(), logits=[said], labels=[right]))
    assert found["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected.item()), rel=1e-4)
    assert found["accuracy"] == (logits[masked].argmax(-1) == labels[masked]).double().mean().item()
    assert set(task.lower_is_better) == {"perplexity"}
