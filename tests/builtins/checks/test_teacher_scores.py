"""Recorded scores are looked at before a run."""

from __future__ import annotations

import json
import random
import re

import pytest
from toy_scorers import ToyScorer

from kdspec.testing import check, tiny

SPEC = """\
kdspec: 1
name: search
tasks:
  search:
    ranking: {data: {json: {train: train.jsonl}}, documents: documents}
models:
  teacher: {recorded: {scores: scores}}
  student: {toy_scorer: {path: tiny}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl}
    training: {epochs: 1, evaluate: null}
"""
SOFT = "stages.distil.distiller.general.soft_labels"


@pytest.fixture
def home(tmp_path):
    tiny(tmp_path / "tiny")
    return tmp_path


def write(folder, rows):
    drawn = random.Random(5)
    lines = []
    for row in rows:
        documents = [f"{place} {drawn.random()}" for place in range(len(row or [0, 0]))]
        lines.append(json.dumps({"query": "a", "documents": documents, "scores": row}) + "\n")
    (folder / "train.jsonl").write_text("".join(lines))


def scores(factor=1.0, rows=60):
    drawn = random.Random(3)
    return [[factor * drawn.gauss(0, 1) for _ in range(8)] for _ in range(rows)]


def found(folder, *sets):
    return check(SPEC, ToyScorer, folder=folder, sets=sets).diagnostics


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize(
    "soft", ["{loss: kl}", "{loss: ce, temperature: {student: 0.05}}", "{loss: kl, temperature: 2}"]
)
def test_the_advised_temperature_works(home, factor, soft):
    write(home, scores(factor))
    [warning] = found(home, f"{SOFT}={soft}")
    assert (warning.code, warning.severity) == ("KD316", "warning")
    advised = re.match(r"`temperature: (.*)` gives a mean entropy of 1\.[123] of 2\.1 nats", warning.help)
    loss = "ce" if "ce" in soft else "kl"
    assert not found(home, f"{SOFT}={{loss: {loss}, temperature: {advised.group(1)}}}")


def test_good_scores_and_rows_without_any_are_nothing_to_tell(home):
    write(home, [*scores(), None, None])
    assert not found(home)


@pytest.mark.parametrize("loss", ["margin_mse", "mse", "ranknet", "list_mle"])
def test_losses_without_a_softmax_over_candidates_are_not_judged_by_it(home, loss):
    write(home, scores(0.01))
    assert not found(home, f"{SOFT}={{loss: {loss}}}")


def test_scores_that_are_not_numbers_are_an_error(home):
    write(home, [*scores(), [1.0, float("nan")]])
    [error] = found(home)
    assert (error.code, error.severity) == ("KD502", "error")
    assert "NaN or infinite scores in 1 of 61 rows" in error.message


def test_only_the_first_rows_are_read(home):
    write(home, [*scores(rows=1000), *[[1.0, 1.0]] * 500])
    assert not found(home)
