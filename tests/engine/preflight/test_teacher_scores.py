"""The scores of a teacher are looked at before it teaches."""

from __future__ import annotations

import json
import random
import re

import pytest
from toy_scorers import ToyScorer

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.engine.run.event_log import read
from kdspec.events import Note, Preflight
from kdspec.render.preflight import preflight_line
from kdspec.testing import run, tiny

SPEC = """\
kdspec: 1
name: search
tasks:
  search: {ranking: {data: {json: {train: train.jsonl}}, documents: documents}}
models:
  teacher: {toy_scorer: {path: tiny, factor: 1}}
  student: {toy_scorer: {path: tiny}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: kl, temperature: 1}}}
    training: {steps: 1, batch_size: 4, evaluate: null, optimizer: {adamw: {lr: 0.01}}}
"""
WORDS = ["ab", "cd", "ef", "gh", "ij", "kl", "good", "bad", "film", "plot", "a", "b", "c", "d", "e", "f"]
SOFT = "stages.distil.distiller.general.soft_labels"


@pytest.fixture
def home(tmp_path):
    tiny(tmp_path / "tiny")
    drawn = random.Random(4)
    rows = [
        {"query": drawn.choice(WORDS), "documents": [" ".join(drawn.sample(WORDS, 3)) for _ in range(6)]}
        for _ in range(20)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def looked(home, *sets):
    result = run(SPEC, home / "runs", ToyScorer, folder=home, sets=sets, restart=True)
    events = [each.event for each in read(result.folder / "events.jsonl")]
    told = [each.text for each in events if isinstance(each, Note) and "spread over" in each.text]
    return told, next(each for each in events if isinstance(each, Preflight))


@pytest.mark.parametrize(("factor", "state"), [(0.1, "flat"), (1e4, "one-hot")])
def test_the_advised_temperature_of_a_live_teacher_works(home, factor, state):
    [note], _ = looked(home, f"models.teacher.toy_scorer.factor={factor}")
    assert state in note
    advised = re.search(r"`temperature: (.*?)` gives a mean entropy of 1.[012] of 1\.8 nats", note)
    told, event = looked(home, f"models.teacher.toy_scorer.factor={factor}", f"{SOFT}.temperature={advised.group(1)}")
    assert told == []
    assert event.tasks["search"]["models"]["teacher"]["scores"]["rows"] == 20
    assert re.search(r"teacher scores over .* in a row, entropy 1.[012] of 1\.8 nats", preflight_line(event))


def test_each_temperature_has_a_look_of_its_own(home):
    told, _ = looked(home, "models.teacher.toy_scorer.factor=0.1")
    again, _ = looked(home, "models.teacher.toy_scorer.factor=0.1")
    assert told == again
    other, _ = looked(home, "models.teacher.toy_scorer.factor=0.1", f"{SOFT}.temperature={{teacher: 2}}")
    assert "at temperature 2 " in other[0]


def test_scores_that_are_not_finite_stop_the_run(home):
    with pytest.raises(DiagnosticError, match="teacher `teacher` has NaN or infinite scores in 20 of 20 rows"):
        looked(home, "models.teacher.toy_scorer.factor=1.0e+39")


def test_recorded_scores_that_the_plan_has_seen_are_not_looked_at_again(home):
    rows = [json.loads(line) for line in (home / "train.jsonl").read_text().splitlines()]
    lines = (json.dumps({**row, "scores": [0.0, 0.001, 0, 0, 0, 0]}) + "\n" for row in rows)
    (home / "train.jsonl").write_text("".join(lines))
    told, event = looked(home, "models.teacher={recorded: {scores: scores}}")
    assert told == []
    assert event.tasks["search"]["models"]["teacher"]["scores"] is None


def test_a_test_query_that_stands_in_train_is_told_whatever_its_candidates_are(home):
    trained = json.loads((home / "train.jsonl").read_text().splitlines()[0])["query"]
    rows = [{"query": query, "documents": ["x y", "z"]} for query in (trained, "never asked", "nor this")]
    (home / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(
        SPEC, home / "runs", ToyScorer, folder=home, restart=True,
        sets=("tasks.search.ranking.data={json: {train: train.jsonl, validation: validation.jsonl}}",),
    )  # fmt: skip
    events = [each.event for each in read(result.folder / "events.jsonl")]
    told = [each.text for each in events if isinstance(each, Note)]
    assert any("1 of 3 validation texts stand in `train` as they are" in text for text in told)
