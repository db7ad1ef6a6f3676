"""The record of a sweep: read back, extended, and refused where it lacks something."""

from __future__ import annotations

import json

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.sweep.axis import grid_axis, range_axis
from kdspec.sweep.sweep_record import SampledPoint, axes_of, read_record, record_of, sampled_points

GRID = [grid_axis("t=2,4"), grid_axis("w=1,0.5")]


def test_it_is_read_back_as_it_was_written(tmp_path):
    record = record_of("kdspec: 1\n", [*GRID, range_axis("lr=1e-5..1e-3:log")], (1, 2), sample=3, sampler="random")
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    assert [axis.path for axis in axes_of(record)] == ["t", "w", "lr"]


def test_a_folder_without_one_has_none(tmp_path):
    assert read_record(tmp_path) is None


def test_more_values_and_seeds_extend_it_in_the_order_that_it_had(tmp_path):
    had = record_of("spec", GRID, (1, 2))
    wanted = record_of("other", [grid_axis("w=0.25,0.50,1.0"), grid_axis("t=8,4,2")], (3, 2, 1))
    found = had.extended(wanted, tmp_path)
    assert found.grid == {"t": ["2", "4", "8"], "w": ["1", "0.5", "0.25"]}
    assert (found.seeds, found.spec) == ([1, 2, 3], "spec")
    assert list(found.grid) == ["t", "w"]


@pytest.mark.parametrize(
    ("axes", "seeds", "lacks"),
    [
        ([grid_axis("t=2"), GRID[1]], (1, 2), "`t` had the values 2, 4; this command lacks 4"),
        ([GRID[0]], (1, 2), "`w` was swept and is not"),
        ([*GRID, grid_axis("x=1")], (1, 2), "`x` was not swept and is"),
        (GRID, (1,), "the seeds were 1, 2; this command lacks 2"),
    ],
)
def test_what_it_has_must_stay(axes, seeds, lacks, tmp_path):
    with pytest.raises(FindingError) as caught:
        record_of("spec", GRID, (1, 2)).extended(record_of("spec", axes, seeds), tmp_path)
    (finding,) = caught.value.findings
    assert (finding.code, lacks in finding.notes) == ("KD509", True)
    assert "--set name=other" in finding.help


@pytest.mark.parametrize(
    ("ranges", "sample", "sampler", "lacks"),
    [
        ("lr=1..2", 4, "random", "sampled values can be compared only if their ranges are the same"),
        ("lr=1..3", 3, "random", "4 points were to be sampled, and now 3"),
        ("lr=1..3", 4, "tpe", "the sampler was `random` and is `tpe`"),
    ],
)
def test_a_sample_keeps_its_ranges(ranges, sample, sampler, lacks, tmp_path):
    had = record_of("spec", [range_axis("lr=1..3")], (1,), sample=4, sampler="random")
    wanted = record_of("spec", [range_axis(ranges)], (1,), sample=sample, sampler=sampler)
    with pytest.raises(FindingError) as caught:
        had.extended(wanted, tmp_path)
    assert any(lacks in note for note in caught.value.findings[0].notes)


def test_a_larger_sample_keeps_its_points(tmp_path):
    record = record_of("spec", [range_axis("n=1..3")], (1,), sample=2, sampler="random")
    record.sampled.extend([SampledPoint(0, {"n": "1"}), SampledPoint(1, {"n": "1"}), SampledPoint(2, {"n": "3"})])
    wanted = record_of("spec", [range_axis("n=1..3")], (1,), sample=5, sampler="random")
    found = record.extended(wanted, tmp_path)
    assert (found.sample, len(found.sampled)) == (5, 3)
    assert [point.values for point in sampled_points(found)] == [{"n": "1"}, {"n": "3"}]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"seeds": []},
        {"grid": {"a": ["1", "1"]}},
        {"grid": {"a": []}},
        {"ranges": {"a": "3..1"}},
        {"sample": -1},
    ],
)
def test_a_damaged_record_is_refused(change, tmp_path):
    record_of("spec", GRID, (1,)).write(tmp_path)
    data = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(data | change))
    with pytest.raises(FindingError, match="KD003"):
        read_record(tmp_path)
