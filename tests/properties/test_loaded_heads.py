"""Runs with heads that others have trained: their classes are those of the task, or it is said before anything is trained."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_folders import WORDS

from kdspec.diagnostics.finding import FindingError
from kdspec.source.document import parse
from kdspec.testing import check

TEXTS = [f"{first} {second} {third}" for first in WORDS[4:9] for second in WORDS[9:12] for third in WORDS[14:17]]
SPEC = """\
kdspec: 1
name: heads
tasks:
  texts:
    sequence_classification:
      data: {json: {train: train.jsonl, validation: train.jsonl}}
      text: text
      label: label
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 1, batch_size: 8}
"""
TASK = "tasks.texts.sequence_classification"
TEACHER = "models.teacher.transformers"
ORDER = ["neutral", "positive", "negative"]


def named(folder, names):
    """Write the names of its classes into the configuration of a model, or none."""
    file = folder / "config.json"
    written = json.loads(file.read_text())
    written["id2label"] = {str(n): name for n, name in enumerate(names)}
    written["label2id"] = {name: n for n, name in enumerate(names)}
    file.write_text(json.dumps(written))


def noted(runs):
    """What the log of a run says."""
    return (runs / "heads" / "events.jsonl").read_text()


def even(folder, auto):
    """Change the biases of a random head so that each class is the best one of some texts, and return the best ones."""
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        model.classifier.weight.mul_(50)
        logits = model(**tokens).logits
        model.classifier.bias.sub_(logits.flatten(0, -2).mean(0))
        best = model(**tokens).logits.argmax(-1)
    model.save_pretrained(folder)
    return best.tolist()


@pytest.fixture
def taught(tmp_path, new_model, new_tokenizer):
    """Makes a teacher and rows that it knows, with other names for its classes, and returns its answers."""

    def made(names, own, folder="teacher", auto="AutoModelForSequenceClassification", **changes):
        new_tokenizer(folder)
        new_model(folder, "bert", auto, num_labels=len(names), **changes)
        best = even(tmp_path / folder, auto)
        named(tmp_path / folder, names)
        rows = [{"text": text, "label": own[label]} for text, label in zip(TEXTS, best, strict=True)]
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [own[label] for label in best]

    return made


def stopped(action, code="KD317"):
    """The only error of a run; there may be warnings beside it."""
    with pytest.raises(FindingError) as caught:
        action()
    (error,) = (each for each in caught.value.findings if each.severity == "error")
    assert error.code == code
    return error


def written(help_, start="labels: "):
    """What a help tells to write, as data."""
    return parse(re.search(f"`({start}.*?)`", help_)[1], "spec.yaml").data["labels"]


def accuracy(ran, model="teacher"):
    return {row.model: row.metrics["accuracy"] for row in ran.result.table}[model]


@pytest.mark.slow
@pytest.mark.parametrize("names", [ORDER, ["Neutral", "POSITIVE", " nega_tive"]])
def test_another_order_stops_before_training_and_the_list_that_is_told_helps(taught, launch, names):
    taught(names, ORDER)
    error = stopped(lambda: launch(text=SPEC))
    assert error.at == ("models", "teacher", "transformers", "path")
    labels = written(error.help)
    assert labels == ORDER
    ran = launch(f"{TASK}.labels={json.dumps(labels)}", text=SPEC, folder="again")
    assert accuracy(ran) == 1.0
    assert not [note for note in ran.notes if "position" in note]
    student = json.loads((ran.folder / "student" / "config.json").read_text())
    assert list(student["id2label"].values()) == ORDER


@pytest.mark.slow
def test_a_mapping_puts_the_logits_of_numbered_classes_in_order(taught, launch, tmp_path):
    """The same model with the names and without; the rows have numbers in their own order."""
    taught(["LABEL_0", "LABEL_1", "LABEL_2"], ["2", "0", "1"])
    error = stopped(lambda: launch(text=SPEC), "KD518")
    assert "right in another order of the classes, and 0 as it is" in error.message
    assert "0 `LABEL_0` = `0`, 1 `LABEL_1` = `1`" in noted(tmp_path / "runs")
    mapping = f"{TEACHER}.labels={{LABEL_0: '2', LABEL_1: '0', LABEL_2: '1'}}"
    ran = launch(mapping, text=SPEC, folder="mapped")
    assert accuracy(ran) == 1.0


@pytest.mark.slow
def test_names_that_are_no_classes_of_the_task_are_said_before_training(taught, session, tmp_path):
    taught(["calm", "joy", "grief"], ORDER)
    stopped(session(text=SPEC).run, "KD518")
    text = noted(tmp_path / "runs")
    assert "none of its names is a class of the task" in text
    assert "0 `calm` = `negative`, 1 `joy` = `neutral`, 2 `grief` = `positive`" in text
    assert "StepDone" not in text


@pytest.mark.slow
def test_several_teachers_of_other_orders_are_each_put_in_that_of_the_task(taught, launch, tmp_path):
    """Two teachers with the same weights, of which the second one has its rows in another order."""
    taught(["B", "C", "A"], ["b", "c", "a"])
    shutil.copytree(tmp_path / "teacher", tmp_path / "second")
    weights = load_file(tmp_path / "second" / "model.safetensors")
    moved = {name: value[[2, 0, 1]] if name.startswith("classifier") else value for name, value in weights.items()}
    save_file({name: value.contiguous() for name, value in moved.items()}, tmp_path / "second" / "model.safetensors")
    named(tmp_path / "second", ["A", "B", "C"])
    two = SPEC.replace("general: {teacher: teacher,", "multi_teacher: {teachers: [teacher, second],")
    two = two.replace("  student:", "  second: {transformers: {path: second}}\n  student:")
    (error,) = check(two, folder=tmp_path).errors
    assert error.code == "KD403"
    mapped = f"models.second.transformers.labels={json.dumps(written(error.help))}"
    error = stopped(lambda: launch(mapped, text=two))
    assert error.at[1] == "teacher"
    labels = f"{TASK}.labels={json.dumps(written(error.help))}"
    ran = launch(mapped, labels, text=two, folder="mapped")
    assert accuracy(ran) == 1.0
    assert accuracy(ran, "second") == 1.0


@pytest.mark.slow
def test_a_teacher_of_finer_classes_teaches_those_of_the_task(tmp_path, taught, launch):
    """Two of its four classes are one of the task: the likeliest of the task's classes is that of the added probabilities."""
    import transformers

    taught(["joy", "anger", "love", "calm"], ["good", "bad", "good", "neutral"])
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "teacher")(TEXTS, return_tensors="pt", padding=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher").eval()
    with torch.no_grad():
        for tensor in model.classifier.parameters():
            tensor.mul_(2000)  # so that no class is the likeliest of all rows for having two parts
        finer = model(**tokens).logits.softmax(-1)
    model.save_pretrained(tmp_path / "teacher")
    named(tmp_path / "teacher", ["joy", "anger", "love", "calm"])
    best = torch.stack([finer[:, 1], finer[:, 0] + finer[:, 2], finer[:, 3]], -1).argmax(-1).tolist()
    labels = [["bad", "good", "neutral"][number] for number in best]
    assert len(set(labels)) > 1
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    merged = f"{TEACHER}.labels={{joy: good, love: good, anger: bad, calm: neutral}}"
    classes = f"{TASK}.labels=[bad, good, neutral]"
    ran = launch(merged, classes, text=SPEC)
    assert accuracy(ran) == 1.0
    student = json.loads((ran.folder / "student" / "config.json").read_text())
    assert list(student["id2label"].values()) == ["bad", "good", "neutral"]
    cached = launch(merged, classes, "stages.distil.training.teacher_cache={}", text=SPEC, folder="cached")
    weights = [load_file(each.folder / "student" / "model.safetensors") for each in (ran, cached)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_student_with_merged_classes_is_refused(taught, tmp_path):
    taught(["joy", "anger", "love"], ["good", "bad", "good"])
    merged = SPEC.replace("path: teacher}", "path: teacher, labels: {joy: good, love: good, anger: bad}}")
    assert not check(merged, folder=tmp_path).errors
    (error,) = check(merged.replace("  distil:\n", SUPERVISED), folder=tmp_path).errors
    assert (error.code, error.severity) == ("KD317", "error")
    assert "stage `fine_tune` trains `teacher`" in error.message


TAGS = ["O", "B-WORK", "I-WORK", "B-CORP", "I-CORP"]
TAGGED = SPEC.replace("sequence_classification", "token_classification").replace("text: text", "tokens: text")
TAGGED = TAGGED.replace("label: label", "tags: tags")


@pytest.mark.slow
def test_tags_in_capitals_are_those_of_the_rows(tmp_path, new_model, new_tokenizer, launch):
    new_tokenizer("teacher")
    new_model("teacher", "bert", "AutoModelForTokenClassification", num_labels=5)
    best = even(tmp_path / "teacher", "AutoModelForTokenClassification")
    named(tmp_path / "teacher", TAGS)
    rows = [
        {"text": text.split(), "tags": [TAGS[tag].replace("WORK", "work").replace("CORP", "corp") for tag in tags[1:4]]}
        for text, tags in zip(TEXTS, best, strict=True)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    error = stopped(lambda: launch(text=TAGGED))
    labels = written(error.help)
    assert labels == ["O", "B-work", "I-work", "B-corp", "I-corp"]
    ran = launch(f"tasks.texts.token_classification.labels={json.dumps(labels)}", text=TAGGED, folder="again")
    assert accuracy(ran) == 1.0


SUPERVISED = """\
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {steps: 1, batch_size: 8}
  distil:
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5])
def test_a_head_of_another_number_of_classes_stops_and_the_stage_that_is_told_helps(
    tmp_path, taught, new_model, launch, count
):
    taught(ORDER, ORDER)
    new_model("teacher", "bert", "AutoModelForSequenceClassification", num_labels=count)
    error = stopped(lambda: launch(text=SPEC))
    assert f"has {count} class" in error.message
    assert "has 3 classes" in error.message
    stage = re.search(r"distiller: \{supervised: \{model: teacher\}\}", error.help)[0]
    trained = SPEC.replace("  distil:\n", SUPERVISED.replace("distiller: {supervised: {model: teacher}}", stage))
    ran = launch(text=trained, folder="trained")
    assert any(note.startswith("the head of `teacher` is re-initialised") for note in ran.notes)


def test_classes_written_in_the_spec_are_compared_before_anything_is_read(tmp_path, taught):
    taught(ORDER, ORDER)
    text = SPEC.replace("label: label", "label: label\n      labels: [positive, negative]")
    (error,) = check(text, folder=tmp_path).errors
    assert error.code == "KD317"
    assert "`labels: [neutral, positive, negative]`" in error.help


@pytest.mark.slow
def test_numbers_with_names_are_told_the_mapping_and_it_helps(tmp_path, taught, launch):
    """The names in the order of the head would name the numbers otherwise."""
    taught(["Neutral", "Positive", "Negative"], ["2", "0", "1"])
    text = SPEC.replace("label: label", "label: label\n      labels: [positive, negative, neutral]")
    (error,) = check(text, folder=tmp_path).errors
    assert "in task" not in error.help
    ran = launch(f"{TEACHER}.labels={json.dumps(written(error.help))}", text=text)
    assert accuracy(ran) == 1.0


@pytest.mark.parametrize(
    "auto", ["AutoModelForMaskedLM", "AutoModelForTokenClassification", "AutoModelForQuestionAnswering"]
)
def test_a_head_of_another_kind_stops_before_anything_is_read(tmp_path, taught, new_model, auto):
    taught(ORDER, ORDER)
    new_model("teacher", "bert", auto, **({"num_labels": 3} if "Token" in auto else {}))
    (error,) = check(SPEC, folder=tmp_path).errors
    assert error.code == "KD317"
    assert "supervised" in error.help
    assert check(SPEC.replace("  distil:\n", SUPERVISED), folder=tmp_path).errors == ()


@pytest.mark.slow
def test_only_layers_of_a_teacher_of_other_classes_may_be_read(taught, new_model, launch):
    taught(ORDER, ORDER)
    new_model("teacher", "bert", "AutoModelForSequenceClassification", num_labels=5)
    hidden = "{feature: hidden, loss: hidden_mse, layers: {4: 1}}"
    general = "stages.distil.distiller.general"
    launch(f"{general}.matches=[{hidden}]", f"{general}.soft_labels.weight=0", text=SPEC)


def test_classes_of_which_one_is_right_are_warned_about_where_several_may_be(tmp_path, taught):
    taught(ORDER, ORDER, problem_type="single_label_classification")
    text = SPEC.replace("sequence_classification", "multi_label")
    text = text.replace(
        "label: label", "label: label\n      separator: ';'\n      labels: [neutral, positive, negative]"
    )
    (warning,) = check(text, folder=tmp_path).diagnostics
    assert (warning.code, warning.severity) == ("KD317", "warning")
    assert "`single_label_classification`" in warning.message


@pytest.mark.slow
def test_a_model_that_a_run_has_trained_is_a_teacher_of_its_classes(taught, launch):
    taught(ORDER, ORDER)
    labels = f"{TASK}.labels={json.dumps(ORDER)}"
    gently = "{steps: 1, batch_size: 8, optimizer: {adamw: {lr: 1.0e-6}}}"
    first = launch(
        labels, f"stages={{fit: {{distiller: {{supervised: {{model: teacher}}}}, training: {gently}}}}}", text=SPEC
    )
    student = f"{TEACHER}.path={first.folder / 'models' / 'teacher'}"
    launch(labels, student, text=SPEC, folder="same")
    error = stopped(lambda: launch(student, text=SPEC, folder="sorted"))
    assert written(error.help) == ORDER
