"""Rows as samples: keys of what is read of a row, and blocks that are a function of the rows."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.engine.teacher_cache import samples as module
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.samples import Samples
from kdspec.engine.teacher_cache.slots import Uncacheable

MASKS = Masks(Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False), None)


class Rows:
    """Rows of token ids, padded to the longest of a batch, with labels that the teacher does not read."""

    def __init__(self, *rows, label=0):
        self._rows, self.label = rows, label
        self.rows = len(rows)
        self.collated = []

    @property
    def lengths(self):
        return np.array([len(row) for row in self._rows])

    def of(self, rows):
        return np.asarray(rows, np.int64)

    def batch(self, rows):
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
    return Samples(Rows(*rows, label=label), taken, MASKS)


def keys(samples):
    return [samples.keys[number] for number in samples.of(range(samples.answered.rows))]


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
    assert samples.answered.collated == [[3, 3, 3], [4], [5, 5]]


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


def one_by_one(inputs, kept):
    """The key of one row, as caches on disk have it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(inputs.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for mask, positions in kept.items():
        digest.update(f"{mask} {len(positions)}\n".encode())
        digest.update(np.packbits(positions).tobytes())
    return digest.digest()[:16]


class Given:
    """Batches of any tensors, all rows of one length."""

    def __init__(self, **columns):
        self.columns, self.rows = columns, len(next(iter(columns.values())))

    @property
    def lengths(self):
        return np.full(self.rows, 9)

    def of(self, rows):
        return np.asarray(rows, np.int64)

    def batch(self, rows):
        return Batch(inputs={"": {name: column[rows] for name, column in self.columns.items()}}, targets={})


@pytest.mark.parametrize(
    "columns",
    [
        {"number": torch.arange(7.0), "flag": torch.tensor([True, False] * 3 + [True])},
        {"image": torch.arange(7 * 12).reshape(7, 3, 4).transpose(1, 2), "half": torch.arange(7).bfloat16()},
        {"none": torch.empty(7, 0, 3), "ids": torch.arange(70).reshape(7, 10) % 5},
        {"attention_mask": torch.arange(63).reshape(7, 9) % 3, "b": torch.arange(7) * 1j},
    ],
)
def test_keys_of_many_rows_are_those_of_single_rows(columns):
    samples = Samples(Given(**columns), taken, MASKS)
    for row in range(7):
        one = {name: column[row] for name, column in columns.items()}
        kept = {"inputs": (one["attention_mask"] != 0).numpy()} if "attention_mask" in one else {}
        assert samples.keys[int(samples.of([row])[0])] == one_by_one(one, kept)


@pytest.mark.parametrize("lengths", [[5] * 3_000, [1 + row % 3 for row in range(3_000)], [600] * 100])
def test_rows_are_collated_many_at_once_and_not_too_many(lengths):
    samples = made(*([row % 900] * length for row, length in enumerate(lengths)))
    tokens = [sum(each) for each in samples.answered.collated]
    assert len(tokens) <= 6
    assert max(tokens) <= 32_768
    assert len(samples.of(range(len(lengths)))) == len(lengths)


def test_rows_of_unknown_length_are_collated_alone():
    samples = Samples(Unknown([1, 2], [1, 2], [3, 4]), taken, MASKS)
    assert samples.answered.collated == [[2]] * 3
    assert len(samples.keys) == 2


class Unknown(Rows):
    @property
    def lengths(self):
        return np.zeros(self.rows, np.int64)


def test_a_sample_is_found_by_its_key():
    samples = made(*([row, row + 1] for row in range(50)))
    assert [samples.keys.number(key) for key in samples.keys] == list(range(50))
    assert samples.keys.number(b"absent".ljust(16)) is None
    assert samples.keys.number(b"\xff" * 16) is None


def test_inputs_of_a_field_with_a_name_are_part_of_the_key():
    def fields(batch):
        return {"query": batch.inputs[""], "rows": torch.zeros(len(batch.inputs[""]["input_ids"]))}

    one, other = (Samples(Rows(SHORT, row), fields, MASKS) for row in (OTHER, LONG))
    assert keys(one)[0] == keys(other)[0] != keys(one)[1]
    assert keys(one)[1] != keys(other)[1] != keys(made(LONG))[0]


def test_an_input_with_other_entries_than_rows_is_not_cached():
    with pytest.raises(Uncacheable, match=r"its input `query\.input_ids` does not have one entry a row"):
        Samples(Rows(SHORT, OTHER), lambda batch: {"query": {"input_ids": torch.zeros(5, 2)}}, MASKS)
