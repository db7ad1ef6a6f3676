"""Limits of queries and documents."""

from __future__ import annotations

from kdspec.data.ranking.ranking_inputs import Limits
from kdspec.data.ranking.text_limits import TextLimits, limits_of


def test_one_limit_is_for_all_and_two_add_up_in_a_pair():
    assert limits_of(None) == Limits()
    assert limits_of(9) == Limits(9, 9, 9)
    assert limits_of(TextLimits(query=4, document=6)) == Limits(4, 6, 10)
    assert limits_of(TextLimits(query=4)) == Limits(4, None, None)
