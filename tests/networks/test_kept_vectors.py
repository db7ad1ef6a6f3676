"""Vectors of tokens are computed once for a model with these weights, and damage is not read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec.networks import kept_vectors

ROWS = [[1, 2], [3, 4], [5, 6]]


@pytest.fixture
def vectors(tmp_path, monkeypatch):
    """Calls `kept`, and returns the vectors and whether they were computed."""
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path))
    monkeypatch.setattr(kept_vectors, "LEAST", 2)
    torch.manual_seed(0)
    module = nn.Linear(3, 2)

    def call(rows=ROWS, width=2, module=module):
        made = []

        def make():
            made.append(torch.arange(len(rows) * width, dtype=torch.float32).reshape(len(rows), width))
            return made[0]

        return kept_vectors.kept(module, rows, width, make), bool(made)

    return call


def files(tmp_path):
    return sorted((tmp_path / "vectors").glob("*.safetensors"))


def test_they_are_computed_once(vectors):
    first, computed = vectors()
    again, other = vectors()
    assert (computed, other) == (True, False)
    assert torch.equal(first, again)


def test_other_weights_rows_or_widths_are_computed_anew(vectors):
    vectors()
    changed = nn.Linear(3, 2)
    assert vectors(module=changed)[1]
    assert not vectors(module=changed)[1]
    with torch.no_grad():
        changed.bias[0] += 1
    assert vectors(module=changed)[1]
    assert vectors(rows=[[1, 2], [3, 4]])[1]
    assert vectors(width=1)[1]


def test_a_damaged_file_is_computed_anew_and_replaced(vectors, tmp_path):
    vectors()
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-3], b"", b"{}"):
        file.write_bytes(damaged)
        assert vectors()[1]
        assert file.read_bytes() == whole


def test_few_tokens_are_not_kept_and_many_make_room(vectors, tmp_path, monkeypatch):
    assert vectors(rows=[[1, 2]])[1]
    assert files(tmp_path) == []
    vectors()
    (first,) = files(tmp_path)
    monkeypatch.setattr(kept_vectors, "MOST", 1.5 * first.stat().st_size)
    vectors(width=1)
    assert len(files(tmp_path)) == 1
    assert not first.exists()


def test_they_are_made_where_the_disk_fails(vectors, tmp_path):
    (tmp_path / "vectors").write_text("")
    assert vectors()[1]
    assert vectors()[1]
