"""What a plan shows of the rows of a ranking task before they are read."""

from __future__ import annotations

import pytest

from kdspec.data.ranking.ranked_rows import RankingColumns
from kdspec.data.ranking.ranking_examples import example
from kdspec.data.ranking.ranking_inputs import Limits

COLUMNS = RankingColumns(query="query", documents=["positive", "negatives"], positives="positive")
ROWS = {"query": ["a", "b"], "positive": ["x", "y"], "negatives": [["z"], []]}


@pytest.mark.parametrize(("first", "mined", "candidates"), [(ROWS, 0, 2), (ROWS, 4, 5), (ROWS, 1, 2), (None, 0, 2)])
def test_a_row_has_its_candidates_and_those_that_are_mined(first, mined, candidates):
    made = example(COLUMNS, first, Limits(), "each", 3, 16, mined=mined)
    assert made["candidates"].shape == (3, candidates)
    assert made["document.input_ids"].shape == (3 * candidates, 16)
