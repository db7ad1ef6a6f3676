"""Hard negatives of training rows."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import torch
import transformers
from frozen_models import OneModel
from pydantic import ValidationError
from ranking_models import Scorer

from kdspec.api.kinds.context import TaskContext
from kdspec.api.working.task import Reader
from kdspec.builtins.datasets.files import Json
from kdspec.builtins.tasks.ranking import Ranking
from kdspec.data.ranking.mining import FOLDER, Mine
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny

ROWS = [
    {"query": "ab", "pos": "abc", "neg": []},
    {"query": "cd", "pos": "dcd", "neg": ["fff"]},
    {"query": "ab", "pos": "ba b", "neg": []},
    {"query": "gh", "pos": None, "neg": ["hg", "gg"]},
    {"query": "ef", "pos": "e", "neg": ["f", "fe", "ee"]},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("letters"), layers=1, width=4))


@pytest.fixture
def model(tokenizer):
    return OneModel(Scorer(len(tokenizer), seed=1), tokenizer)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))


def built(folder, model, rows=ROWS, told=None, **mine):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model": "teacher", "candidates": 30, "negatives": 2, **mine}
    task = Ranking(
        data=Json(train=["rows.jsonl"]),
        documents=["pos", "neg"],
        positives="pos",
        mine=settings,
        without_text="leave_out",
    )
    tell = (lambda fault: None) if told is None else told.append
    return task.build(TaskContext(folder=folder, frozen=model, tell=tell))


def documents(made):
    return [row[1:] for row in made.texts("train")]


def by_hand(model, rows, margin, negatives, candidates=30):
    """The negatives of each row by all scores, pair by pair."""

    def vector(text):
        return model.module.vectors(torch.tensor([model.tokenizer(text)["input_ids"]]))[0].detach().double().mean(0)

    given = [[text for text in [row["pos"], *row["neg"]] if text] for row in rows]
    corpus = list(dict.fromkeys(text for of in given for text in of))
    found = []
    for row, own in zip(rows, given, strict=True):
        right = {each["pos"] for each in rows if each["query"] == row["query"]} - {None}
        if row["pos"] is None:
            found.append(own)
            continue
        score = {text: float(vector(row["query"]) @ vector(text)) for text in corpus}
        limit = min(score[text] for text in right) - margin
        order = sorted(corpus, key=lambda text: -score[text])[:candidates]
        allowed = [text for text in order if text not in right and text not in own and score[text] < limit]
        found.append([*own, *allowed[: max(0, negatives - len(own) + 1)]])
    return [tuple(of) for of in found]


@pytest.mark.parametrize(("margin", "negatives", "candidates"), [(0.0, 2, 30), (0.05, 3, 5), (0.0, 1, 8), (0.3, 2, 30)])
def test_it_takes_the_best_documents_that_are_no_positive_and_below_the_margin(
    tmp_path, model, margin, negatives, candidates
):
    made = built(tmp_path, model, margin=margin, negatives=negatives, candidates=candidates)
    assert documents(made) == by_hand(model, ROWS, margin, negatives, candidates)
    assert documents(made) != [row[1:] for row in built(tmp_path, None).texts("train")]


def test_the_first_candidate_stays_the_positive(tmp_path, model, tokenizer):
    made = built(tmp_path, model)
    (encoded,) = made.encode("train", [Reader(tokenizer, "each")])
    assert [row["labels"] for row in encoded] == [0, 0, 0, -100, 0]


def test_it_is_the_same_whatever_the_batches(tmp_path, model, monkeypatch):
    found = documents(built(tmp_path, model))
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "other"))
    model.at_once, model.backwards = 50, True
    assert documents(built(tmp_path, model)) == found


def test_the_result_is_kept_by_its_content(tmp_path, model, tokenizer):
    first = documents(built(tmp_path, model))
    assert documents(built(tmp_path, model)) == first
    assert model.asked == ["teacher"], "the second time nothing is searched"
    for changed in (
        {"negatives": 1},
        {"margin": 0.1},
        {"candidates": 3},
        {"rows": [*ROWS, {"query": "zz", "pos": "z", "neg": []}]},
    ):
        before = len(model.asked)
        with suppress(Fault):  # where nothing is found
            built(tmp_path, model, **changed)
        assert len(model.asked) == before + 1, changed
    other = OneModel(Scorer(len(tokenizer), seed=2), tokenizer)
    with suppress(Fault):
        built(tmp_path, other)
    assert other.asked == ["teacher"]


@pytest.mark.parametrize(
    "damage", ["", "{", '{"checksum": "a", "negatives": [[1]], "passed_over": 0}', '{"negatives": []}']
)
def test_a_damaged_result_is_made_again(tmp_path, model, damage):
    found = documents(built(tmp_path, model))
    (file,) = (tmp_path / "cache" / FOLDER).iterdir()
    file.write_text(damage)
    assert documents(built(tmp_path, model)) == found
    assert json.loads(file.read_text())["negatives"]


def test_a_disk_that_cannot_be_written_costs_the_cache_alone(tmp_path, model, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "file"))
    assert documents(built(tmp_path, model)) == by_hand(model, ROWS, 0.0, 2)


def test_a_corpus_of_its_own(tmp_path, model):
    lines = (json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(["abc", "z", "yy", "xw"]))
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    made = built(tmp_path, model, corpus="corpus.jsonl", negatives=30)
    for row, found in zip(ROWS, documents(made), strict=True):
        new = set(found) - {row["pos"], *row["neg"]}
        assert new <= {"z", "yy", "xw"} | ({"abc"} if row["query"] != "ab" else set())
    assert any("z" in found for found in documents(made))


def test_it_tells_how_many_it_has_found(tmp_path, model):
    told = []
    built(tmp_path, model, told=told, margin=0.05, negatives=7)
    (note,) = [fault for fault in told if fault.at == ("mine",)]
    assert (note.code, note.severity) == ("KD316", "note")
    expected = by_hand(model, ROWS, 0.05, 7)
    new = sum(len(of) for of in expected) - sum(len([t for t in [row["pos"], *row["neg"]] if t]) for row in ROWS)
    assert note.message.startswith(f"`teacher` has found {new} negatives for 4 rows of `train`; ")
    assert "2 rows have fewer than 7" in note.message
    assert "too close to a positive" in note.message


def test_no_negative_at_all_is_an_error(tmp_path, model):
    with pytest.raises(Fault, match="finds no negative") as found:
        built(tmp_path, model, margin=1000)
    assert (found.value.code, found.value.at) == ("KD502", ("mine",))


def test_rows_without_positives(tmp_path, model):
    with pytest.raises(Fault, match="no row of `train` has a positive"):
        built(tmp_path, model, rows=[{"query": "a", "pos": None, "neg": ["b", "c"]}])


def test_rows_with_enough_negatives_ask_no_model(tmp_path, model):
    built(tmp_path, model, rows=[{"query": "ef", "pos": "e", "neg": ["f", "fe"]}])
    assert model.asked == []


def test_without_models_rows_are_as_in_the_file(tmp_path):
    told = []
    assert documents(built(tmp_path, None, told=told))[0] == ("abc",)
    assert not any("one candidate" in fault.message for fault in told)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"negatives": 31}, "31 negatives cannot be found among 30 candidates"),
        ({"margin": -0.1}, "greater than or equal to 0"),
        ({"candidates": 0}, "greater than or equal to 1"),
        ({"negative": 3}, "unknown key"),
    ],
)
def test_settings_out_of_range(fields, message):
    with pytest.raises(ValidationError, match=message):
        Mine(model="teacher", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positives": None}, "mined for rows with a positive"),
        ({"scores": "scores"}, "leave out `scores`"),
        ({"margins": "margins"}, "leave out `margins`"),
    ],
)
def test_a_task_that_cannot_mine(fields, message):
    given = {"documents": "documents", "positives": "pos", "mine": {"model": "teacher"}, **fields}
    with pytest.raises(ValidationError, match=message):
        Ranking(data=Json(train=["rows.jsonl"]), **given)
