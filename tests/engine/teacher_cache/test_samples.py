"""Rows as samples: keys of what is read of a row, and blocks that are a function of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.engine.teacher_cache import samples as module
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.samples import Samples

MASKS = Masks(Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False), None)


class Rows:
    """Rows of token ids, padded to the longest of a batch, with labels that the teacher does not read."""

    def __init__(self, *rows, label=0):
        self._rows, self.label = rows, label
        self.rows = len(rows)
        self.collated = []

    def lengths_for(self, model):
        return np.array([len(row) for row in self._rows])

    def batch(self, model, rows):
        self.collated.append([len(self._rows[row]) for row in rows])
        longest = max(len(self._rows[row]) for row in rows)
        ids, mask = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest)
        for place, row in enumerate(rows):
            ids[place, : len(self._rows[row])] = torch.tensor(self._rows[row])
            mask[place, : len(self._rows[row])] = 1
        labels = torch.full((len(rows),), self.label)
        return Batch(inputs={"": {"input_ids": ids, "attention_mask": mask}}, targets={"labels": labels})


def taken(batch):
    return batch.inputs[""]


def made(*rows, label=0):
    return Samples(Rows(*rows, label=label), "teacher", taken, MASKS)


def keys(samples):
    return [samples.keys[number] for number in samples.of_row]


SHORT, LONG, OTHER = [1, 2], [1, 2, 0, 0, 5], [3, 4]


def test_a_key_depends_on_its_row_alone():
    alone, among = made(SHORT), made(LONG, OTHER, SHORT, LONG)
    assert keys(among)[2] == keys(alone)[0]
    assert len(set(keys(among))) == 3
    assert keys(among)[0] == keys(among)[3]


def test_tokens_that_are_padding_elsewhere_are_not_padding_where_they_are_read():
    assert keys(made([1, 2, 0])) != keys(made([1, 2]))


def test_inputs_that_the_teacher_does_not_read_do_not_change_the_key():
    assert keys(made(SHORT, label=1)) == keys(made(SHORT))


def test_rows_that_are_collated_for_their_keys_have_no_padding():
    samples = made(*([1] * length for length in (5, 3, 5, 4, 3, 3)))
    assert samples.loader.collated == [[3, 3, 3], [4], [5, 5]]


def test_blocks_are_of_similar_length_and_a_function_of_the_rows(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 3)
    rows = [[number] * length for number, length in enumerate((5, 3, 5, 4, 3, 9, 1), 1)]
    samples, reordered = made(*rows), made(*reversed(rows))
    assert [
        [len(samples.batch([s]).named["input_ids"][0]) for s in samples.block(b)] for b in range(samples.blocks)
    ] == [
        [1, 3, 3],
        [4, 5, 5],
        [9],
    ]
    assert {frozenset(samples.keys[s] for s in samples.block(b)) for b in range(3)} == {
        frozenset(reordered.keys[s] for s in reordered.block(b)) for b in range(3)
    }


@pytest.mark.parametrize("tokens", [10, 6])
def test_blocks_have_no_more_tokens_than_fit(tokens, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", tokens)
    samples = made(*([number] * 4 for number in range(1, 6)))
    assert [len(samples.block(block)) for block in range(samples.blocks)] == {10: [2, 2, 1], 6: [1] * 5}[tokens]


def test_counts_are_of_samples():
    samples = made(LONG, SHORT, OTHER, SHORT)
    assert samples.counts["inputs"].tolist() == [2, 2, 5]
