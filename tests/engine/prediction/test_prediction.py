"""Predictions: the bits of a cached teacher, whatever is kept already, and what they are refused for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from headed_models import headed

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.forward.models import Models
from kdspec.engine.prediction.prediction import Prediction, Predictor
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.run_folder import RunFolder
from kdspec.testing import plan, registry

CLASSES = """\
kdspec: 1
name: r
tasks: {t: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label, labels: [a, b, c]}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {like: teacher}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {epochs: 1, evaluate: null, teacher_cache: {use: on, folder: caches}}
"""
TAGS = CLASSES.replace(
    "sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label, labels: [a, b, c]}",
    "token_classification: {data: {json: {train: rows.jsonl}}, labels: [O, B-X, I-X]}",
)
LETTERS = ["a", "bc", "def", "ghij", "klmno", "pq", "r", "stu", "vwxyz"]


def _classified(number):
    return {"n": number, "text": " ".join(LETTERS[: 1 + number * 7 % 9]) + f" {number}", "label": "abc"[number % 3]}


def _tagged(number):
    words = LETTERS[: 1 + number * 5 % 9]
    return {"tokens": [*words, str(number)], "tags": [*(["O"] * (len(words) - 1)), "B-X", "I-X"]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Makes a folder with rows and a teacher for them; gives the plan."""
    monkeypatch.chdir(tmp_path)

    def made(spec, auto, labels, row):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(150)))
        headed(tmp_path / "teacher", auto, labels, seed=3)
        return plan(spec, registry(), folder=tmp_path)

    return made


def classes(home):
    return home(CLASSES, "AutoModelForSequenceClassification", ["a", "b", "c"], _classified)


def predicted(made, home, **changes):
    """The prediction of the teacher for the rows of the task."""
    import datasets

    rows = datasets.Dataset.from_list(list(map(json.loads, (home / "rows.jsonl").read_text().splitlines())))
    values = {
        "predictor": Predictor(plan=made, model="teacher", task="t", trained={}),
        "rows": rows,
        "file": "rows.jsonl",
        "folder": home / "kept",
        "device": torch.device("cpu"),
        "warn": pytest.fail,
    }
    return Prediction(**{**values, **changes})


def written(prediction):
    for _ in prediction.fill():
        pass
    lines = [json.loads(line) for line in prediction.lines()]
    prediction.close()
    return lines


def of_cache(made, folder, lines, label):
    """The features of the cached teacher in training, for batches of rows in another order than they are computed.

    The rows get the predictions as labels, since a teacher that is no better than chance is refused.
    """
    rows = [{**line, label: line["answer"]} for line in lines]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = built_tasks(made)
    setup = StageSetup(
        plan=made, stage=made.stages[0], registry=registry(), tasks=tasks, folder=RunFolder(folder / "run"),
        models=Models(made, {name: task.head for name, task in tasks.items()}, {}), backend=SingleProcess("cpu"),
    )  # fmt: skip
    stage = build_stage(setup, 1, warn=pytest.fail)
    (cache,) = stage.loop.caches
    loader = Loader(tasks["t"], "train", {"teacher": setup.models.reader("teacher")})
    order = [(7 * number) % 150 for number in range(150)]
    for start in range(0, 150, 9):
        rows = order[start : start + 9]
        batch = loader.batch("teacher", rows)
        yield rows, batch, cache(batch, rows).logits[0].dense()


def test_the_logits_of_classes_are_those_of_the_cached_teacher_bit_for_bit(home, tmp_path):
    made = classes(home)
    lines = written(predicted(made, tmp_path))
    assert [line["n"] for line in lines] == list(range(150))
    assert len({line["answer"] for line in lines}) > 1
    for rows, _, logits in of_cache(made, tmp_path, lines, "label"):
        read = np.array([[lines[row]["logits"][name] for name in "abc"] for row in rows]).astype(np.float32)
        assert read.tobytes() == logits.numpy().tobytes()


def test_the_logits_of_words_are_those_of_the_cached_teacher_bit_for_bit(home, tmp_path):
    made = home(TAGS, "AutoModelForTokenClassification", ["O", "B-X", "I-X"], _tagged)
    lines = written(predicted(made, tmp_path))
    for rows, batch, logits in of_cache(made, tmp_path, lines, "tags"):
        mask = batch.inputs[""]["word_mask"] != 0
        for place, row in enumerate(rows):
            of_words = [[word[name] for name in ("O", "B-X", "I-X")] for word in lines[row]["logits"]]
            assert len(of_words) == len(lines[row]["tokens"]) == len(lines[row]["answer"])
            assert np.array(of_words).astype(np.float32).tobytes() == logits[place][mask[place]].numpy().tobytes()


def test_the_longest_row_may_be_the_first_and_the_shortest_the_last(home, tmp_path):
    import datasets

    made = home(TAGS, "AutoModelForTokenClassification", ["O", "B-X", "I-X"], _tagged)
    rows = datasets.Dataset.from_list([{"tokens": ["a", "bc", "d"]}, {"tokens": ["e"]}])
    lines = written(predicted(made, tmp_path, rows=rows))
    assert [len(line["answer"]) for line in lines] == [3, 1]


def test_what_is_kept_is_not_computed_again_and_gives_the_same_lines(home, tmp_path):
    made = classes(home)
    whole = written(predicted(made, tmp_path))
    begun = predicted(made, tmp_path, folder=tmp_path / "other")
    steps = begun.fill()
    for _ in range(2):
        next(steps)
    begun.close()
    again = predicted(made, tmp_path, folder=tmp_path / "other")
    computed = 0
    for done, total in again.fill():
        computed = done
        assert total == 150
    assert computed == 150
    assert 0 < again._cache.use.computed < 150
    assert [json.loads(line) for line in again.lines()] == whole


def test_another_model_computes_anew_in_the_same_folder(home, tmp_path):
    made = classes(home)
    before = written(predicted(made, tmp_path))
    headed(tmp_path / "teacher", "AutoModelForSequenceClassification", ["a", "b", "c"], seed=4)
    after = written(predicted(made, tmp_path))
    assert [line["logits"] for line in before] != [line["logits"] for line in after]
    assert after == written(predicted(made, tmp_path, folder=tmp_path / "other"))


def test_a_row_without_a_text_has_null_and_is_told(home, tmp_path):
    import datasets

    made, told = classes(home), []
    rows = datasets.Dataset.from_list([{"text": text} for text in ("a b", None, "c", "  ")])
    lines = written(predicted(made, tmp_path, rows=rows, warn=told.append))
    assert [line["answer"] is None for line in lines] == [False, True, False, True]
    assert lines[1] == {"text": None, "answer": None, "confidence": None, "logits": None}
    assert told == ["2 of 4 rows of `rows.jsonl` have no text, the first is row 2: their predictions are null"]


def test_probabilities_in_place_of_logits(home, tmp_path):
    made = classes(home)
    logits = written(predicted(made, tmp_path))
    shares = written(predicted(made, tmp_path, probabilities=True))
    for one, two in zip(logits, shares, strict=True):
        assert "logits" not in two
        expected = torch.tensor([*one["logits"].values()]).double().softmax(0).float()
        assert torch.equal(torch.tensor([*two["probabilities"].values()]), expected)
        assert two["confidence"] == max(two["probabilities"].values()) == two["probabilities"][two["answer"]]


@pytest.mark.parametrize(
    ("rows", "code", "message"),
    [
        ([{"txt": "a"}], "KD312", "has no column `text`"),
        ([{"text": "a", "answer": "b"}], "KD502", "has a column `answer` already"),
        ([{"text": " "}], "KD502", "no row of `rows.jsonl` has a text in `text`"),
    ],
)
def test_rows_that_do_not_fit_are_refused(home, tmp_path, rows, code, message):
    import datasets

    prediction = predicted(classes(home), tmp_path, rows=datasets.Dataset.from_list(rows))
    with pytest.raises(FindingError) as raised:
        next(prediction.fill())
    (found,) = raised.value.findings
    assert (found.code, message in found.message) == (code, True), found
    assert found.help


def test_a_model_without_a_trained_head_is_refused(home, tmp_path):
    from kdspec.testing import tiny

    made = classes(home)
    tiny(tmp_path / "teacher")
    with pytest.raises(FindingError, match="has no trained head for `sequence_classification`: `classifier"):
        next(predicted(made, tmp_path).fill())


def test_a_number_that_is_not_finite_is_refused(home, tmp_path):
    from safetensors.torch import load_file, save_file

    made = classes(home)
    file = tmp_path / "teacher" / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"][1] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    prediction = predicted(made, tmp_path)
    with pytest.raises(FindingError, match="a prediction is not finite"):
        written(prediction)


def test_a_task_without_answers_is_refused(home, tmp_path):
    made = classes(home)
    task = (
        registry()
        .get("task", "masked_lm")
        .model_validate({"data": {"json": {"train": "rows.jsonl"}}, "text": "text"}, context={"registry": registry()})
    )
    spec = made.spec.model_copy(update={"tasks": {"t": task}})
    other = replace(made, spec=spec)
    with pytest.raises(FindingError, match="predictions of the task `masked_lm` cannot be written"):
        next(predicted(other, tmp_path).fill())
