"""Distillation of rows without labels: classes of the teacher, and metrics measured beside it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from tiny_folders import WORDS

from kdspec.diagnostics.finding import FindingError
from kdspec.testing import check

TEXTS = [f"{first} {second} {third}" for first in WORDS[4:9] for second in WORDS[9:12] for third in WORDS[14:17]]
CLASSES = ["calm", "joy", "grief"]
SPEC = """\
kdspec: 1
name: texts
tasks:
  texts:
    sequence_classification:
      data: {json: {train: rows.jsonl, validation: rows.jsonl}}
      text: text
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 4, batch_size: 16, evaluate: {every_steps: 2}}
"""
TASK = "tasks.texts.sequence_classification"
EVALUATE = "stages.distil.training.evaluate"
KINDS = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
}


@pytest.fixture
def teacher(tmp_path, new_model, new_tokenizer):
    """Makes teachers whose head has the classes, and whose answers differ from text to text; the rows are texts alone."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))

    def made(folder="teacher", kind="sequence_classification", seed=0, **changes):
        new_tokenizer(folder)
        torch.manual_seed(seed)
        names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: n for n, name in enumerate(CLASSES)}}
        new_model(folder, "bert", KINDS[kind], **{"num_labels": 3, **(changes or names)})
        model = getattr(transformers, KINDS[kind]).from_pretrained(tmp_path / folder).eval()
        with torch.no_grad():
            model.classifier.weight.mul_(100)
            model.classifier.bias.sub_(outputs(model, tmp_path / folder).flatten(0, -2).mean(0))
        model.save_pretrained(tmp_path / folder)
        return tmp_path / folder

    return made


def outputs(model, folder):
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**tokens).logits


def saved(folder, kind="sequence_classification"):
    """The logits of a saved model for the texts, in float64."""
    model = getattr(transformers, KINDS[kind]).from_pretrained(folder).eval()
    return outputs(model, folder).double()


def beside(student, teacher):
    """Agreement and KL, by their definition."""
    p, q = teacher.softmax(-1).flatten(0, -2), student.softmax(-1).flatten(0, -2)
    same = p.argmax(-1) == q.argmax(-1)
    kl = (p * (p / q).log()).sum(-1).mean().item()
    return {"agreement": same.double().mean().item(), "kl": kl, "ece": calibration_error(q.amax(-1), same)}


def calibration_error(confidence, same):
    """That of 15 bins of equal width, by its definition."""
    bins = (confidence * 15).ceil().clamp(1, 15)
    parts = [(confidence[bins == n], same[bins == n].double()) for n in range(1, 16) if (bins == n).any()]
    return sum(len(sure) * abs(sure.mean() - right.mean()).item() for sure, right in parts) / len(same)


def row(ran, model="student"):
    return next(row for row in ran.result.table if row.model == model)


@pytest.mark.slow
def test_texts_and_a_teacher_are_enough(teacher, launch):
    """The classes are the teacher's, and the best student is that of the best agreement; the table has both metrics."""
    folder = teacher()
    ran = launch(text=SPEC)
    config = json.loads((ran.folder / "student" / "config.json").read_text())
    assert list(config["id2label"].values()) == CLASSES
    theirs = saved(folder)
    assert len(theirs.argmax(-1).unique()) > 1
    found = row(ran)
    assert found.metrics == pytest.approx(beside(saved(ran.folder / "student"), theirs), abs=1e-5)
    assert (found.beside, found.selected_by, found.lower_is_better) == (["teacher"], "agreement", ["kl", "ece"])
    assert row(ran, "teacher").metrics == {}
    evaluated = [event for event in ran.events if type(event).__name__ == "Evaluated"]
    assert [sorted(event.metrics) for event in evaluated] == [["agreement", "ece", "kl"]] * 2
    card = (ran.folder / "student" / "README.md").read_text()
    assert "agreement and kl with teacher `teacher`" in card
    assert any("the classes are those of `teacher`" in note for note in ran.notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("combine", "weights", "expected"),
    [
        ("logits", "", lambda a, b: (a + b) / 2),
        (
            "probabilities",
            ", teacher_weights: [3, 1]",
            lambda a, b: (0.75 * a.softmax(-1) + 0.25 * b.softmax(-1)).log(),
        ),
        ("losses", "", lambda a, b: (a.softmax(-1) / 2 + b.softmax(-1) / 2).log()),
    ],
)
def test_several_teachers_are_one_as_their_strategy_averages_them(teacher, launch, combine, weights, expected):
    folders = [teacher(), teacher("second", seed=1)]
    text = SPEC.replace("general: {teacher: teacher,", "multi_teacher: {teachers: [teacher, second],")
    text = text.replace("student: student}", f"student: student, soft_labels: {{combine: {combine}{weights}}}}}")
    text = text.replace("  student:", "  second: {transformers: {path: second}}\n  student:")
    ran = launch(f"{TASK}.labels={json.dumps(CLASSES)}", text=text)
    theirs = [saved(folder) for folder in folders]
    mean = expected(*theirs)
    assert row(ran).metrics == pytest.approx(beside(saved(ran.folder / "student"), mean), abs=1e-5)
    assert row(ran, "second").metrics == pytest.approx(beside(theirs[1], mean), abs=1e-5)
    assert row(ran).beside == ["teacher", "second"]


@pytest.mark.slow
def test_training_stops_early_where_no_better_agreement_comes(teacher, launch):
    teacher()
    ran = launch("stages.distil.training.steps=40", "stages.distil.training.early_stopping={patience: 1}",
                 "stages.distil.training.optimizer={adamw: {lr: 1.0e-12}}", text=SPEC)  # fmt: skip
    assert any("stopped early" in note for note in ran.notes)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["kl", "agreement"])
def test_the_metric_that_selects_may_be_named(teacher, launch, metric):
    teacher()
    ran = launch(f"{EVALUATE}.metric={metric}", text=SPEC)
    assert row(ran).selected_by == metric


@pytest.mark.slow
def test_rows_that_lack_labels_are_measured_beside_the_teacher_too(tmp_path, teacher, launch):
    """The task names a column that only the test rows have: the best student is that of the best agreement."""
    teacher()
    rows = [{"text": text, "mood": CLASSES[number % 3]} for number, text in enumerate(TEXTS)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = launch(f"{TASK}.label=mood", f"{TASK}.data={{json: {{train: rows.jsonl, validation: rows.jsonl, test: test.jsonl}}}}", text=SPEC)  # fmt: skip
    evaluated = next(event for event in ran.events if type(event).__name__ == "Evaluated")
    assert sorted(evaluated.metrics) == ["agreement", "ece", "kl"]
    assert "accuracy" in row(ran).metrics
    assert row(ran).beside == []


@pytest.mark.slow
def test_a_metric_of_labels_stops_before_training(tmp_path, teacher, launch):
    """The task has a column for labels, so that the metric is known, and no validation row has one."""
    teacher()
    with pytest.raises(FindingError) as caught:
        launch(f"{TASK}.label=mood", f"{EVALUATE}.metric=accuracy", text=SPEC)
    (error,) = caught.value.findings
    assert error.code == "KD502"
    assert "measured beside the teacher" in error.help


@pytest.mark.slow
def test_words_of_a_tagger_are_compared_one_by_one(tmp_path, teacher, launch):
    folder = teacher(kind="token_classification")
    rows = "".join(json.dumps({"tokens": text.split()}) + "\n" for text in TEXTS)
    (tmp_path / "rows.jsonl").write_text(rows)
    text = SPEC.replace("sequence_classification", "token_classification").replace("text: text", "tags: null")
    ran = launch(text=text)
    mine, theirs = (saved(each, "token_classification")[:, 1:4] for each in (ran.folder / "student", folder))
    assert row(ran).metrics == pytest.approx(beside(mine, theirs), abs=1e-5)


@pytest.mark.slow
def test_decisions_of_labels_are_compared_one_by_one(teacher, launch):
    folder = teacher(problem_type="multi_label_classification")
    ran = launch(text=SPEC.replace("sequence_classification", "multi_label"))
    mine, theirs = (saved(each) for each in (ran.folder / "student", folder))
    two = [torch.stack([each, torch.zeros_like(each)], -1) for each in (mine, theirs)]  # sigmoid(z) = softmax(z, 0)
    assert row(ran).metrics == pytest.approx(beside(*two), abs=1e-5)


@pytest.mark.slow
def test_numbers_are_compared_by_correlations(teacher, launch):
    folder = teacher(num_labels=1, problem_type="regression")
    ran = launch(text=SPEC.replace("sequence_classification", "regression"))
    mine, theirs = (saved(each)[:, 0] for each in (ran.folder / "student", folder))
    found = row(ran)
    assert sorted(found.metrics) == ["mse", "pearson", "spearman"]
    assert found.metrics["mse"] == pytest.approx((mine - theirs).square().mean().item(), rel=1e-4)
    assert found.metrics["pearson"] == pytest.approx(torch.corrcoef(torch.stack([mine, theirs]))[0, 1].item(), abs=1e-4)
    assert (found.selected_by, found.lower_is_better) == ("spearman", ["mse"])


def errors(text, folder):
    return check(text, folder=folder).errors


def test_a_stage_without_a_teacher_is_refused(tmp_path, teacher):
    teacher()
    text = SPEC.replace("general: {teacher: teacher, student: student}", "supervised: {model: student}")
    (error,) = errors(text.replace("text: text", f"text: text\n      labels: {CLASSES}"), tmp_path)
    assert (error.code, error.severity) == ("KD312", "error")
    assert "learns hard labels" in error.message


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("hard_labels: {weight: 1}", "learns hard labels"),
        ("soft_labels: {probability_shift: true}", "reads labels"),
    ],
)
def test_terms_that_read_labels_are_refused(tmp_path, teacher, setting, says):
    teacher()
    (error,) = errors(SPEC.replace("student: student}", f"student: student, {setting}}}"), tmp_path)
    assert error.code == "KD312"
    assert says in error.message


def test_a_metric_of_labels_is_refused(tmp_path, teacher):
    teacher()
    (error,) = errors(SPEC.replace("text: text", "text: text\n      metric: accuracy"), tmp_path)
    assert "`metric` needs labels" in error.message
    (error,) = errors(SPEC.replace("evaluate: {every_steps: 2}", "evaluate: {metric: f1}"), tmp_path)
    assert error.code == "KD204"


def test_something_has_to_name_the_classes(tmp_path, teacher, new_model):
    folder = teacher()
    shutil.rmtree(folder)
    new_model("teacher")
    found = [error for error in errors(SPEC, tmp_path) if "names the classes" in error.message]
    assert [error.code for error in found] == ["KD312"]
    assert "`labels: [first, second]`" in found[0].help
