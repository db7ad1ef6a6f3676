"""A plan's figures are of rows as they are: of the usual length for cost and cache, of the longest for memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.planning.prepare import prepare
from kdspec.rehearsal.lengths import measured
from kdspec.rehearsal.rehearse import rehearse
from kdspec.rehearsal.result import as_data
from kdspec.render.rehearsal import details
from kdspec.source.extends import compose
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: small
tasks:
  reviews:
    sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label, labels: [bad, good]LIMIT}
models:
  teacher: {transformers: {path: model}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1, hidden_size: 8, intermediate_size: 16}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl}
        matches: [{feature: hidden, loss: hidden_mse, layers: {2: 1}}]
    training: {epochs: 2, batch_size: 4TRAINING}
"""
COUNTS = [3, 5, 5, 5, 9, 40]
"""Words of the rows; two more tokens each."""


def rows(folder, counts=COUNTS):
    lines = [f"{' '.join(['a'] * count)},{('bad', 'good')[count % 2]}" for count in counts]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")


@pytest.fixture
def stage(tmp_path, shared_registry):
    """The rehearsal of the stage, with a limit or without and further training settings."""
    tiny(tmp_path / "model", layers=2, width=16, max_position_embeddings=512)
    rows(tmp_path)

    def rehearsed(limit="", training="", sets=()):
        text = SPEC.replace("LIMIT", limit and f", max_length: {limit}").replace("TRAINING", training)
        made = prepare(compose(text, "spec.yaml", tmp_path, sets, {}), shared_registry)
        assert made.plan is not None, made.findings
        found = rehearse(made.plan, shared_registry)
        assert not found.failed, found.findings
        return found.stages[-1], as_data(found)

    return rehearsed


def lines(data):
    return {name: text.plain for name, text in details(data["stages"]["distil"], data["models"])}


def test_cost_and_cache_are_of_a_row_of_median_length_and_memory_of_the_longest(stage, tmp_path):
    found, data = stage(limit=64)
    assert (found.lengths.median, found.lengths.longest, found.lengths.rows) == (7, 42, 6)
    assert found.inputs["input_ids"].shape == (4, 42)
    shown = lines(data)
    assert shown["rows"] == "as in 6 rows of `train`: median 7, longest 42 tokens"
    assert "a row of 7 tokens" in shown["cost"]
    assert "for 4 rows of 42 tokens" in shown["memory"]
    assert "a row of 7 tokens" in shown["teacher cache"]
    rows(tmp_path, [5, 5])
    usual, _ = stage(limit=64)
    rows(tmp_path, [40, 40])
    longest, _ = stage(limit=64)
    assert (found.flops, found.cache) == (usual.flops, usual.cache)
    assert found.flops.total < longest.flops.total / 4
    assert found.memory == longest.memory
    assert found.cache["teacher"] == pytest.approx(7 * 16 * 4 + 2 * 4, abs=64)


def test_rows_are_truncated_as_in_a_run(stage):
    found, data = stage(limit=16)
    assert (found.lengths.median, found.lengths.longest) == (7, 16)
    assert "for 4 rows of 16 tokens" in lines(data)["memory"]


def test_without_a_limit_rows_are_as_they_are(stage):
    found, _ = stage()
    assert (found.lengths.longest, found.row_tokens) == (42, 7)


def test_rows_that_are_not_read_are_as_long_as_the_models_allow(stage, tmp_path):
    (tmp_path / "rows.csv").unlink()
    (tmp_path / "rows.csv").write_text("text,label\n")
    found, data = stage()
    assert found.lengths is None
    positions = found.inputs["input_ids"].shape[1]
    assert positions == found.row_tokens > 128
    assert lines(data)["rows"] == f"not read: each of {positions} tokens"
    limited, _ = stage(limit=20)
    assert limited.inputs["input_ids"].shape == (4, 20)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_memory_has_the_teacher_and_its_copy_in_another_precision(precision, stage, monkeypatch):
    plain, data = stage(limit=64)
    teacher, student = (data["models"][name] for name in ("teacher", "student"))
    added = plain.memory.models - teacher["bytes"] - student["bytes"]
    with_copy, _ = stage(limit=64, training=f", teacher_precision: {precision}")
    copy = with_copy.memory.models - plain.memory.models
    assert copy == teacher["bytes"] - teacher["parameters"] * 2, "parameters of two bytes, and buffers of integers"
    assert with_copy.memory.models == teacher["bytes"] + student["bytes"] + added + copy
    # A GPU has the copy alone, and the teacher waits in the memory of the host.
    monkeypatch.setattr("kdspec.rehearsal.stage_rehearsal.has_gpu", lambda: True)
    on_gpu, _ = stage(limit=64, training=f", teacher_precision: {precision}")
    assert on_gpu.memory.models == with_copy.memory.models - teacher["bytes"]


class Words:
    """A tokenizer of words, with two tokens more for each row."""

    model_max_length = 10**30

    def num_special_tokens_to_add(self, *, pair):
        return 3 if pair else 2

    def __call__(self, *columns, truncation, max_length, return_attention_mask):
        assert not return_attention_mask
        special = self.num_special_tokens_to_add(pair=len(columns) == 2)
        counts = [sum(len(text.split()) for text in row) + special for row in zip(*columns, strict=True)]
        return {"input_ids": [[0] * (min(count, max_length) if truncation else count) for count in counts]}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.one_of(st.none(), st.integers(4, 40)), st.booleans())
def test_median_and_longest_are_those_of_the_rows(counts, limit, pair):
    columns = [[" ".join(["word"] * count) for count in counts]] * (2 if pair else 1)
    special = 3 if pair else 2
    tokens = sorted(min(len(columns) * count + special, limit or 10**9) for count in counts)
    found = measured(columns, Words(), limit)
    middle = (tokens[len(tokens) // 2] + tokens[(len(tokens) - 1) // 2]) / 2
    assert (found.median, found.longest, found.rows) == (round(middle), tokens[-1], len(counts))


def test_of_many_rows_a_part_is_tokenised_and_the_longest_is_found():
    counts = [random.Random(n).randrange(5, 15) for n in range(15_000)]
    counts[7] = 300
    texts = [" ".join(["word"] * count) for count in counts]
    asked = []

    class Counting(Words):
        def __call__(self, *columns, **options):
            asked.append(len(columns[0]))
            return super().__call__(*columns, **options)

    found = measured([texts], Counting(), None)
    assert found.longest == 302
    assert found.median in {11, 12}
    assert asked[0] < 10_000


def test_rows_that_leave_no_place_for_a_text_are_left_to_the_run():
    assert measured([["a"]], Words(), 2) is None
    assert measured([[]], Words(), 20) is None


def test_a_model_without_a_limit_of_positions_is_rehearsed_too(tmp_path, shared_registry):
    tiny(tmp_path / "model", family="llama", layers=2, width=16)
    rows(tmp_path)
    text = SPEC.replace("LIMIT", "").replace("TRAINING", "").replace(", intermediate_size: 16", "")
    made = prepare(compose(text, "spec.yaml", tmp_path, (), {}), shared_registry)
    found = rehearse(made.plan, shared_registry)
    assert not found.failed, found.findings
