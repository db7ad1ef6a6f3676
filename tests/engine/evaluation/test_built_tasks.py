"""Tasks whose rows are made with a model, and a corpus that models of a run search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.events import Evaluated, Note
from kdspec.testing import check, plan, registry, tiny

TOWERS = Path(__file__).parent.parent.parent / "shared" / "towers.py"
SPEC = """\
kdspec: 1
name: search
seed: 1
tasks:
  search:
    ranking:
      data: {json: {train: rows.jsonl, validation: rows.jsonl}}
      documents: [pos, neg]
      positives: pos
      without_text: leave_out
      retrieve: {corpus: corpus.jsonl, queries: queries.jsonl, relevant: relevant.tsv}
      mine: {model: finder, negatives: 2}
models:
  teacher: {tower: {reads: pair, seed: 1}}
  student: {tower: {seed: 2}}
  finder: {tower: {seed: 3}}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: kl}, hard_labels: {weight: 0.5}}
    training:
      epochs: 2
      batch_size: 2
      optimizer: {adamw: {lr: 0.01}}
      evaluate: {metric: retrieve.ndcg@10}
"""
ROWS = [
    {"query": "ab", "pos": "abc", "neg": []},
    {"query": "cd", "pos": "dcd", "neg": ["fff"]},
    {"query": "gh", "pos": "hgh", "neg": ["gg", "jh"]},
    {"query": "ef", "pos": "e", "neg": []},
]


@pytest.fixture(scope="module")
def towers():
    return registry(str(TOWERS))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    tiny(tmp_path / "letters", layers=1, width=4)
    lines(tmp_path / "rows.jsonl", ROWS)
    lines(
        tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": text} for n, text in enumerate(["abc", "dd", "ehf", "gg"])]
    )
    lines(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "ba"}, {"_id": "q2", "text": "fe"}])
    (tmp_path / "relevant.tsv").write_text("query-id\tcorpus-id\nq1\td0\nq2\td2\n")
    return tmp_path


def lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def planned(folder, towers, *sets):
    return plan(SPEC, towers, folder=folder, sets=sets)


def test_a_run_mines_and_searches(folder, towers):
    made = planned(folder, towers)
    session = Session(made, towers, output=folder / "runs", device="cpu")
    result = session.run()
    events = [record.event for record in read(session.folder / "events.jsonl")]
    notes = [event for event in events if isinstance(event, Note)]
    assert [note.level for note in notes if "`finder` has found" in note.text] == ["info"]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert {"retrieve.ndcg@10", "retrieve.map", "ndcg@10"} < evaluated[0].metrics.keys()
    of = {row.model: row for row in result.table}
    assert "retrieve.ndcg@10" in of["student"].metrics
    assert not any(name.startswith("retrieve") for name in of["teacher"].metrics), "it reads pairs"
    assert of["student"].selected_by == "retrieve.ndcg@10"


def test_rows_have_the_negatives_of_the_model_as_it_is_in_its_files(folder, towers):
    rows = built_tasks(planned(folder, towers))["search"].texts("train")
    assert [len(row) - 2 for row in rows] == [2, 2, 2, 2]
    again = built_tasks(planned(folder, towers))["search"].texts("train")
    assert again == rows
    other = built_tasks(planned(folder, towers, "models.finder.tower.seed=11"))["search"].texts("train")
    assert other != rows


def test_a_resumed_run_notices_another_model_that_mines(folder, towers):
    Session(planned(folder, towers), towers, output=folder / "runs", device="cpu").run()
    changed = Session(
        planned(folder, towers, "models.finder.tower.seed=11"), towers, output=folder / "runs", device="cpu"
    )
    with pytest.raises(FindingError, match="KD509"):
        changed.run()


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        (["tasks.search.ranking.mine.model=findr"], "KD204", "unknown model `findr`"),
        (["tasks.search.ranking.mine.model=teacher"], "KD319", "`teacher` gives no vectors of texts alone"),
        (["tasks.search.ranking.mine.model=student"], "KD319", "rows are made before stage `distil` trains it"),
        (["models.student.tower.reads=pair"], "KD319", "`retrieve.ndcg@10` cannot select `student`"),
        (["stages.distil.training.evaluate.metric=retrieve.ndcg@5"], "KD204", "unknown metric `retrieve.ndcg@5`"),
        (["tasks.search.ranking.mine.negatives=31"], "KD104", "31 negatives cannot be found among 30 candidates"),
        (["tasks.search.ranking.mine.margin=-1"], "KD104", "at least 0"),
        (["tasks.search.ranking.positives=null"], "KD104", "mined for rows with a positive"),
        (["tasks.search.ranking.retrieve.relevant=rows.csv"], "KD310", "no file `rows.csv`"),
        (["tasks.search.ranking.retrieve.corpus=letters/tokenizer.jsn"], "KD310", "no file"),
    ],
)  # fmt: skip
def test_a_wrong_spec(folder, sets, code, message):
    found = check(SPEC, str(TOWERS), folder=folder, sets=sets).diagnostics
    assert any(each.code == code and message in str(each) for each in found), [str(each) for each in found]


def test_a_student_that_cannot_search_is_named_in_a_warning(folder):
    sets = ["models.student.tower.reads=pair", "stages.distil.training.evaluate.metric=ndcg@10"]
    found = [each for each in check(SPEC, str(TOWERS), folder=folder, sets=sets).diagnostics if each.code == "KD319"]
    assert [each.severity for each in found] == ["warning"]
    assert "a corpus cannot be searched with `student`" in found[0].message


def test_a_teacher_of_pairs_beside_a_student_that_searches_is_nothing_to_tell(folder):
    assert not [each for each in check(SPEC, str(TOWERS), folder=folder).diagnostics if each.code == "KD319"]
