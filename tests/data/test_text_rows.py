"""Rows of texts, and what augmentations make of them in an epoch."""

from __future__ import annotations

import copy
from random import Random

import datasets
import pytest
import transformers

from kdspec.api.kinds.kinds import Augmentation
from kdspec.data.text_rows import TextRows
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny

TEXTS = ["a good film", "dull  but long", "nice"]


class Upper(Augmentation):
    """Masks the second word of every second text."""

    name = "upper"
    masks = True

    def build(self, context):
        return lambda words, generator: [words[0], "[MASK]", *words[2:]] if generator.random() < 0.5 else words


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("tiny"), layers=1))


def rows(*augment, columns=("text",), max_length=None):
    splits = {"train": datasets.Dataset.from_dict({"text": TEXTS, "other": TEXTS[::-1]})}
    return TextRows(splits, columns, max_length=max_length, augment=augment, unlabelled=-100)


def drawn(made, tokenizer, seeds=(0, 1, 2), *, taught=True):
    examples = made.encode("train", tokenizer, [0, 1, 0])
    return examples, made.draw(examples, [Random(seed) for seed in seeds], tokenizer, taught=taught)


def test_a_row_that_changes_has_no_label(tokenizer):
    examples, changed = drawn(rows(Upper()), tokenizer)
    seeds = [Random(seed).random() < 0.5 for seed in range(3)]
    assert seeds == [False, True, False]
    assert changed[0] is examples[0]
    assert (changed[1]["labels"], examples[1]["labels"]) == (-100, 1)
    assert tokenizer.mask_token_id in changed[1]["input_ids"]
    assert tokenizer.decode(changed[1]["input_ids"], skip_special_tokens=True) == "dull long"


def test_rows_without_a_teacher_are_not_augmented(tokenizer):
    examples, changed = drawn(rows(Upper()), tokenizer, taught=False)
    assert changed is examples


def test_each_text_of_a_pair_is_augmented(tokenizer):
    examples, changed = drawn(rows(Upper(), columns=("text", "other")), tokenizer, seeds=(1, 1, 1))
    masks = [row["input_ids"].count(tokenizer.mask_token_id) for row in changed]
    assert max(masks) == 2 or masks.count(1) > 1
    assert examples[0]["texts"] == ("a good film", "nice")


def test_an_augmented_text_keeps_to_the_limit(tokenizer):
    _, changed = drawn(rows(Upper(), max_length=4), tokenizer, seeds=(1, 1, 1))
    assert max(len(row["input_ids"]) for row in changed) == 4


def test_a_tokenizer_without_a_mask_is_reported_at_the_augmentation(tokenizer):
    class Plain(Upper):
        """The same without masks."""

        name = "plain"
        masks = False

    maskless = copy.deepcopy(tokenizer)
    maskless.mask_token = None
    with pytest.raises(Fault, match="no mask token") as caught:
        drawn(rows(Plain(), Upper()), maskless)
    assert caught.value.at == ("augment", 1)


def test_texts_are_kept_only_where_they_are_augmented(tokenizer):
    examples, same = drawn(rows(), tokenizer)
    assert "texts" not in examples[0]
    assert same is examples
