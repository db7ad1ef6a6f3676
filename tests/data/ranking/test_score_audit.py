"""What is found out about a teacher's scores."""

from __future__ import annotations

import math
import random

import pytest

from kdspec.data.ranking.score_audit import audit, audit_findings

DRAWN = random.Random(3)
ROWS = [[DRAWN.gauss(0, 1) for _ in range(4 + row % 5)] for row in range(200)]


def scaled(factor, offset=0.0):
    return [[factor * score + offset for score in row] for row in ROWS]


def entropy(row, temperature):
    exponentials = [math.exp((score - max(row)) / temperature) for score in row]
    p = [each / sum(exponentials) for each in exponentials]
    return -sum(each * math.log(each) for each in p if each)


def messages(facts, **more):
    return [(each.severity, each.message) for each in audit_findings(facts, "t", **more)]


def test_scores_of_a_good_spread_are_nothing_to_tell():
    facts = audit(ROWS, 1.0)
    assert (facts.looked, facts.rows, facts.not_finite, facts.constant) == (200, 200, 0, 0)
    spreads = sorted(max(row) - min(row) for row in ROWS)
    assert facts.spread == pytest.approx((spreads[99] + spreads[100]) / 2)
    assert facts.entropy == pytest.approx(sum(entropy(row, 1.0) for row in ROWS) / 200)
    assert facts.largest_entropy == pytest.approx(sum(math.log(len(row)) for row in ROWS) / 200)
    assert facts.advised is None
    assert messages(facts) == []


@pytest.mark.parametrize(("factor", "state"), [(0.02, "flat"), (60.0, "one-hot"), (1e5, "one-hot")])
@pytest.mark.parametrize("offset", [0.0, 0.7, -1e3])
def test_a_temperature_that_leaves_no_signal_gets_one_that_does(factor, state, offset):
    facts = audit(scaled(factor, offset), 1.0)
    assert max(facts.flat, facts.one_hot) > 100
    [(severity, message)] = messages(facts)
    assert severity == "warning"
    assert f"spread over {facts.spread:.2g} within a row: at temperature 1 " in message
    assert state in message
    again = audit(scaled(factor, offset), facts.advised)
    assert messages(again) == []
    assert again.entropy == pytest.approx(facts.advised_entropy)
    assert 0.5 < again.entropy / again.largest_entropy < 0.7
    [advice] = [each.help for each in audit_findings(facts, "t")]
    assert advice.startswith(f"`temperature: {{teacher: {facts.advised:g}}}` gives a mean entropy of ")
    assert f" {facts.advised_entropy:.1f} of {facts.largest_entropy:.1f} nats" in advice
    [kept] = [each.help for each in audit_findings(facts, "t", student_temperature=0.05)]
    assert f"`temperature: {{student: 0.05, teacher: {facts.advised:g}}}`" in kept


def test_scores_below_the_least_temperature_are_to_be_multiplied():
    facts = audit(scaled(1e-5), 1.0)
    assert facts.advised is None
    [advice] = [each.help for each in audit_findings(facts, "t")]
    assert advice == "multiply the scores: no temperature from 0.001 on tells the candidates apart"
    assert not messages(audit(scaled(1e-5 * 1e5), 1.0))


def test_without_a_softmax_no_temperature_is_asked_for():
    facts = audit(scaled(1e-3), None)
    assert (facts.temperature, facts.flat, facts.advised) == (None, 0, None)
    assert messages(facts) == []


def test_rows_that_no_temperature_mends_get_no_advice():
    facts = audit([[0.0, 0.0, 0.0, 0.0, 1e9]] * 10, 1.0)
    assert facts.one_hot == 10
    [found] = audit_findings(facts, "t")
    assert found.help is None or audit([[0.0] * 4 + [1e9]] * 10, facts.advised).one_hot == 0


def test_values_that_are_not_finite_are_an_error():
    facts = audit([*ROWS, [1.0, math.nan], [math.inf, 0.0]], 1.0)
    assert (facts.looked, facts.rows, facts.not_finite) == (202, 200, 2)
    assert messages(facts) == [("error", "teacher `t` has NaN or infinite scores in 2 of 202 rows")]


@pytest.mark.parametrize(("count", "severity"), [(5, "note"), (50, "warning")])
def test_rows_of_equal_scores_teach_nothing(count, severity):
    facts = audit([*ROWS, *[[2.0, 2.0, 2.0]] * count], 1.0)
    said = f"teacher `t` has the same score for all candidates in {count} of {200 + count} rows: they teach nothing"
    assert messages(facts) == [(severity, said)]


def test_scores_scaled_to_0_and_1_are_told():
    rows = [[(score - min(row)) / (max(row) - min(row)) for score in row] for row in ROWS]
    facts = audit(rows, 0.25)
    assert facts.scaled == 200
    [(severity, message)] = messages(facts)
    assert severity == "note"
    assert "are scaled to 0 for the worst and 1 for the best candidate in 200 of 200 rows" in message


def test_scores_levelled_by_a_sigmoid_are_told():
    rows = [[1 / (1 + math.exp(-12 * score)) for score in row] for row in ROWS]
    facts = audit(rows, 0.3)
    assert facts.at_ends > 0.5
    found = [each for each in audit_findings(facts, "t") if "sigmoid" in each.message]
    assert [(each.severity, each.help) for each in found] == [("warning", "take the scores before the sigmoid")]
    assert f"{facts.at_ends:.0%} of them within 0.01 of an end" in found[0].message
    before = audit(scaled(12.0), 12.0)  # the advice
    assert not [each for each in audit_findings(before, "t") if "sigmoid" in each.message]


def test_no_rows_and_rows_of_one_candidate_say_nothing():
    for rows in ([], [[1.0], [2.0]]):
        assert messages(audit(rows, 1.0)) == []
