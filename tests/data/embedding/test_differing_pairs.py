"""The pairs of texts whose cosines differ between two models."""

from __future__ import annotations

import json
import math

import pytest
import torch

from kdspec.data.embedding.differing_pairs import ComparedPairs, differing_pairs
from kdspec.data.embedding.unique_texts import Vectors

TEXTS = ["zero", "one", "two", "three"]
SETS = {"sts": ComparedPairs([0, 1, 0], [1, 2, 3], [0.5, 4.0, 5.0])}


def vectors(*angles: float, width: int = 2) -> Vectors:
    """Vectors at these angles in degrees, of different lengths; None is unknown."""
    table = torch.zeros(len(angles), width)
    for place, angle in enumerate(angles):
        table[place, :2] = (1 + place) * torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    table[torch.tensor(angles).isnan()] = math.nan
    return Vectors(table, ~torch.tensor(angles).isnan())


def test_the_pair_with_the_largest_difference_comes_first():
    found = differing_pairs(vectors(0, 90, 90, 60), vectors(0, 0, 90, 60, width=3), SETS, TEXTS)
    assert (found["compared"], found["differ"], found["counted"]) == (3, None, "pairs")
    assert found["differing"] == [
        {
            "row": place, "texts": texts, "about": "sts, cosines 1.000 apart",
            "answers": [["", [label], *answers]], "right": [[None, None]],
        }
        for place, texts, label, answers in (
            (0, ["zero", "one"], "0.5", ["0.000", None, "1.000", None]),
            (1, ["one", "two"], "4", ["1.000", None, "0.000", None]),
        )
    ]  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_pairs_without_scores_and_those_that_are_no_rows():
    sets = {"a": ComparedPairs([0], [1]), "b": ComparedPairs([0], [3], (1,), are_rows=False)}
    first, second = differing_pairs(vectors(0, 0, 0, 80), vectors(0, 20, 0, 0), sets, TEXTS)["differing"]
    assert (first["row"], first["answers"][0][1], first["about"].partition(",")[0]) == (None, ["1"], "b")
    assert (second["row"], second["answers"][0][1], second["about"].partition(",")[0]) == (0, None, "a")


def test_a_pair_without_a_vector_is_not_compared():
    found = differing_pairs(vectors(0, math.nan, 0, 0), vectors(0, 0, 0, 45), SETS, TEXTS)
    assert found["compared"] == 1
    assert [each["row"] for each in found["differing"]] == [2]


@pytest.mark.parametrize("sets", [{}, {"none": ComparedPairs([], [])}, {"unknown": ComparedPairs([1], [1])}])
def test_nothing_to_compare(sets):
    assert differing_pairs(vectors(0, math.nan), vectors(0, 0), sets, TEXTS) == {}


def test_many_pairs_are_compared_in_parts():
    many = {"sts": ComparedPairs([0] * 9000, [1] * 8999 + [3])}
    found = differing_pairs(vectors(0, 10, 0, 90), vectors(0, 10, 0, 0), many, TEXTS)
    assert found["compared"] == 9000
    assert [each["row"] for each in found["differing"]] == [8999]
