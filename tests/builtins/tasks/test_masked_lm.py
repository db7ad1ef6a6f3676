"""The task of guessing masked tokens."""

from __future__ import annotations

import math
from random import Random

import datasets
import pytest
import torch
import transformers
from task_batches import agreement_of, batch_of, encoded, loss_of, metrics_of

from kdspec.api.kinds.context import BuildContext, TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.evaluator import Metric
from kdspec.api.working.task import Reader
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
    return MaskedLm(**{"data": Rows(splits=splits), "text": "text", **fields}).build(TaskContext())


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
    rows = encoded(built(), "train", tokenizer)
    assert [whole(row) for row in rows] == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert all(row["labels"][0] == row["labels"][-1] == IGNORE for row in rows)


def test_evaluation_masks_the_same_tokens_always_and_an_epoch_others(tokenizer):
    task = built()
    rows, again = (encoded(task, "train", tokenizer) for _ in range(2))
    plain = [{key: row[key] for key in ("input_ids", "labels")} for row in rows]
    assert plain == [{key: row[key] for key in ("input_ids", "labels")} for row in again]
    drawn = task.draw(rows[:], [Random(seed) for seed in range(3)], Reader(tokenizer), taught=True)
    assert [whole(row) for row in drawn] == [whole(row) for row in rows]
    assert [row["labels"] for row in drawn] != [row["labels"] for row in plain]


def test_grouped_texts_fill_rows_and_lose_nothing(tokenizer):
    rows = encoded(built(group=True, max_length=10), "train", tokenizer)
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
    for row in encoded(task, "train", tokenizer):
        states = [label != IGNORE for label in row["labels"][1:-1]]
        assert states in ([True] * 4 + [False] * 5, [False] * 4 + [True] * 5)


@pytest.mark.parametrize("words", [["ab", "cde"], "ab cde", [2, 3]])
def test_words_of_a_column_are_masked_together(words, tokenizer):
    task = built({"text": ["a b-c d e".replace("-", " ")] * 10, "words": [words] * 10}, segmented="words")
    for row in encoded(task, "train", tokenizer):
        states = [label != IGNORE for label in row["labels"][1:-1]]
        assert states in ([True] * 2 + [False] * 3, [False] * 2 + [True] * 3)


@pytest.mark.parametrize(
    ("rows", "fields", "at", "message"),
    [
        ({"text": [None]}, {}, ("text",), "no text"),
        ({"text": [""]}, {}, ("text",), "no text"),
        ({"text": ["\u200b"]}, {}, ("text",), "no tokens"),
        ({"text": ["a"]}, {"text": "txt"}, ("text",), "no column `txt`"),
        ({"text": ["a"]}, {"segmented": "w"}, ("segmented",), "no column `w`"),
        ({"text": ["a b"], "w": ["a"]}, {"segmented": "w"}, ("segmented",), "words of 1 characters"),
        ({"text": ["a b"], "w": [None]}, {"segmented": "w"}, ("segmented",), "no words"),
        ({"text": ["a b"], "w": [[1.5]]}, {"segmented": "w"}, ("segmented",), "no words"),
    ],
)
def test_wrong_rows_are_reported_at_their_place(rows, fields, at, message, tokenizer):
    with pytest.raises(Fault, match=message) as caught:
        encoded(built(rows, **fields), "train", tokenizer)
    assert caught.value.at == at


def test_a_tokenizer_must_have_a_mask_and_be_the_same_for_all(folder, tokenizer, tmp_path):
    other = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(built().encode("train", [Reader(tokenizer), Reader(other)])) == 2
    other.backend_tokenizer.normalizer = None
    with pytest.raises(Fault, match="different tokens"):
        built({"text": ["A Good film"]}).encode("train", [Reader(tokenizer), Reader(other)])
    other.mask_token = None
    with pytest.raises(Fault, match="no mask token"):
        encoded(built(), "train", other)


def test_a_batch_has_the_inputs_of_the_plan(tokenizer):
    task = built()
    batch = batch_of(task, encoded(task, "train", tokenizer)[:], tokenizer)
    planned = MaskedLm(data=Rows(splits={}), text="text").example(BuildContext(), 3, None)
    labels, inputs = batch.targets["labels"], batch.inputs[""]
    assert [*inputs, *batch.targets] == list(planned)
    assert [name for name in planned if planned[name].target] == ["labels"]
    assert labels.shape == inputs["input_ids"].shape
    assert set(labels[inputs["attention_mask"] == 0].tolist()) == {IGNORE}


def test_loss_and_metrics_are_those_of_the_masked_tokens(tokenizer):
    task = built()
    batch = batch_of(task, encoded(task, "train", tokenizer)[:], tokenizer)
    labels = batch.targets["labels"]
    logits = torch.randn((*labels.shape, len(tokenizer)), generator=torch.Generator().manual_seed(0))
    masked = labels != IGNORE
    expected = torch.nn.functional.cross_entropy(logits[masked], labels[masked])
    loss = loss_of(task, logits, labels)
    assert (loss.value.item(), int(loss.count)) == (pytest.approx(expected.item()), int(masked.sum()))
    parts = (slice(1), slice(1, 3))
    found = metrics_of(task, [logits[part] for part in parts], [labels[part] for part in parts])
    assert found["loss"] == pytest.approx(expected.item(), rel=1e-5)
    other = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).where(
        labels[..., None] % 2 == 0, logits
    )
    sides = ([each[part] for part in parts] for each in (logits, other))
    alike = (logits.argmax(-1) == other.argmax(-1))[masked].double().mean().item()
    assert agreement_of(task, *sides, [labels[part] for part in parts]) == alike
    assert 0 < alike < 1
    assert found["perplexity"] == pytest.approx(math.exp(expected.item()), rel=1e-4)
    assert found["accuracy"] == (logits[masked].argmax(-1) == labels[masked]).double().mean().item()
    assert task.evaluator("train").primary == Metric("perplexity", higher_is_better=False)
    assert built(metric="accuracy").evaluator("train").primary == Metric("accuracy")
    assert not built(metric="accuracy").evaluator("train").metric("perplexity").higher_is_better
