"""Teachers that are known by recorded answers: the same student as of the live teacher, and rows without answers."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.forward.models import Models
from kdspec.engine.run.event_log import read
from kdspec.engine.step.build_models import StageModels
from kdspec.events import StepDone
from kdspec.testing import plan, registry, run, tiny

WORDS = ["ab", "cd", "good", "bad", "film", "plot"]
TAGS = ["O", "X", "Y"]
TASKS = {
    "sequence_classification": "{data: DATA, text: text, label: label, labels: [no, so, yes]}",
    "multi_label": "{data: DATA, text: text, label: several, labels: [no, so, yes]}",
    "regression": "{data: DATA, text: text, label: [size, age]}",
    "token_classification": "{data: DATA, tokens: words, tags: tags, labels: [O, X, Y], scheme: plain}",
}
SPEC = """\
kdspec: 1
name: answers
tasks:
  main:
    TASK
models:
  teacher: TEACHER
  student: {transformers: {path: small}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {temperature: 1}, hard_labels: {weight: 0.5}}}
    training:
      {epochs: 2, batch_size: 4, log_every: 1, evaluate: null, teacher_cache: {use: off}, optimizer: {adamw: {lr: 0.01}}}
"""
LIVE = "{transformers: {path: large}}"
TRAINING = "stages.distil.training"


def spec(task, teacher):
    data = "{json: {train: train.jsonl, validation: validation.jsonl}}"
    return SPEC.replace("TASK", f"{task}: {TASKS[task]}".replace("DATA", data)).replace("TEACHER", teacher)


def rows(number, seed):
    drawn = random.Random(seed)
    for _ in range(number):
        words = drawn.sample(WORDS, 4)
        yield {
            "text": " ".join(words), "words": words, "tags": [drawn.choice(TAGS) for _ in words],
            "label": drawn.choice(["no", "so", "yes"]), "several": drawn.sample(["no", "so", "yes"], drawn.randrange(3)),
            "size": drawn.gauss(0, 1), "age": drawn.gauss(0, 1),
        }  # fmt: skip


def write(folder, split, written):
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny(folder / "small", layers=1, width=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    tiny(folder / "dropping", layers=1, width=8)
    tiny(folder / "large", layers=2, width=8, seed=1)
    return folder


@pytest.fixture
def home(tmp_path, models):
    for name in ("small", "dropping", "large"):
        (tmp_path / name).symlink_to(models / name)
    for split, number in (("train", 8), ("validation", 4)):
        write(tmp_path, split, rows(number, len(split)))
    return tmp_path


def trained(home, text, *sets):
    result = run(text, home / "runs", folder=home, sets=sets, restart=True)
    steps = [each.event for each in read(result.folder / "events.jsonl") if isinstance(each.event, StepDone)]
    return (
        [(step.loss, step.grad_norm) for step in steps],
        load_file(result.folder / "student" / "model.safetensors"),
        result,
    )


def record(home, task):
    """Write the teacher's logits into the rows, as its own forward pass gives them."""
    made = plan(spec(task, LIVE), registry(), folder=home)
    tasks = built_tasks(made)
    models = Models(made, {name: built.head for name, built in tasks.items()}, {})
    stage = made.stages[0]
    part = stage.tasks["main"]
    runner = StageModels(made, stage, models, tasks, torch.device("cpu")).runners(part)["teacher"]
    classes = tasks["main"].head.labels
    for split in ("train", "validation"):
        loader = Loader(tasks["main"], split, {"teacher": models.reader("teacher")})
        given = [json.loads(line) for line in (home / f"{split}.jsonl").read_text().splitlines()]
        for number, row in enumerate(given):
            batch = loader.batch("teacher", [number])
            with torch.no_grad():
                logits = runner(batch).logits[0].dense()[0]
            if task == "token_classification":
                logits = logits[batch.inputs[""]["word_mask"][0] != 0]
                row["logits"] = [dict(zip(classes, word, strict=True)) for word in logits.tolist()]
            else:
                row["logits"] = dict(zip(classes, logits.tolist(), strict=True))
        write(home, split, given)


@pytest.mark.parametrize("task", TASKS)
def test_recorded_logits_give_the_student_of_the_live_teacher_bit_for_bit(home, task):
    # One row a batch: what a live teacher computes may depend on how many rows it computes at once.
    sets = (f"{TRAINING}.batch_size=1", f"{TRAINING}.accumulate=4", "models.student.transformers.path=dropping")
    live, weights, of_live = trained(home, spec(task, LIVE), *sets)
    record(home, task)
    recorded, same, result = trained(home, spec(task, "{recorded: {logits: logits}}"), *sets)
    assert recorded == live
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert result.table[0].metrics == pytest.approx(of_live.table[0].metrics, abs=1e-3)
    assert result.table[0].role == "teacher"
    assert result.table[0].parameters is None
    assert result.table[1].agreement == of_live.table[1].agreement
    other, _, _ = trained(home, spec(task, LIVE), *sets, "models.teacher.transformers.path=small")
    assert other != live


def with_answers(home, task, without=()):
    record(home, task)
    for split in ("train", "validation"):
        given = [json.loads(line) for line in (home / f"{split}.jsonl").read_text().splitlines()]
        write(home, split, [{**row, "logits": None} if n in without else row for n, row in enumerate(given)])


@pytest.mark.parametrize("task", ["sequence_classification", "token_classification"])
def test_rows_without_an_answer_count_in_no_soft_label_and_in_all_hard_ones(home, task):
    with_answers(home, task, without=(0, 2, 5))
    text = spec(task, "{recorded: {logits: logits}}")
    once = (f"{TRAINING}.epochs=1", f"{TRAINING}.shuffle=false")

    def terms(*sets):
        result = run(text, home / "runs", folder=home, sets=(*once, *sets), restart=True)
        return next(
            each.event for each in read(result.folder / "events.jsonl") if isinstance(each.event, StepDone)
        ), result

    whole, result = terms(f"{TRAINING}.batch_size=8")
    # The micro-batch of the first row has no answer at all.
    parts, _ = terms(f"{TRAINING}.batch_size=1", f"{TRAINING}.accumulate=8")
    assert parts.terms == pytest.approx(whole.terms, rel=1e-5)
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
    notes = (result.folder / "events.jsonl").read_text()
    assert "3 of 8 rows of `train` have no answer of `teacher`" in notes
    assert "2 of 4 rows of `validation` have no answer of `teacher`" in notes
    given = [json.loads(line) for line in (home / "train.jsonl").read_text().splitlines()]
    write(home, "train", [row for row in given if row["logits"] is not None])
    alone, _ = terms(f"{TRAINING}.batch_size=5")
    assert whole.terms["soft_labels"] == pytest.approx(alone.terms["soft_labels"], rel=1e-5)
    assert whole.terms["hard_labels"] != pytest.approx(alone.terms["hard_labels"], rel=1e-6)
    # It is evaluated on rows 2 and 4 of `validation`, and students are compared with it on these.
    write(
        home,
        "validation",
        [
            row
            for row in map(json.loads, (home / "validation.jsonl").read_text().splitlines())
            if row["logits"] is not None
        ],
    )
    _, fewer = terms(f"{TRAINING}.batch_size=5")
    assert result.table[0].metrics == pytest.approx(fewer.table[0].metrics)
    assert 0 <= result.table[1].agreement <= 1


def test_words_may_lack_an_answer(home):
    with_answers(home, "token_classification")
    given = [json.loads(line) for line in (home / "train.jsonl").read_text().splitlines()]
    write(home, "train", [{**row, "logits": [None, *row["logits"][1:]]} for row in given])
    losses, _, result = trained(home, spec("token_classification", "{recorded: {logits: logits}}"))
    assert all(math.isfinite(loss) for loss, _ in losses)
    assert "have no answer" not in (result.folder / "events.jsonl").read_text()


TEAM = """\
{multi_teacher: {teachers: [TEACHERS], student: student, soft_labels: {loss: kl, temperature: 2, combine: COMBINE, WEIGHTS}}}"""


def team(*teachers, combine="logits", weights=""):
    written = TEAM.replace("TEACHERS", ", ".join(teachers)).replace("COMBINE", combine).replace(", WEIGHTS", weights)
    return f"stages.distil.distiller={written}"


def first(home, *sets):
    text = spec("sequence_classification", "{recorded: {probabilities: one}}")
    others = ("models.other={recorded: {votes: two}}", "models.live={transformers: {path: large}}")
    once = (f"{TRAINING}.epochs=1", f"{TRAINING}.shuffle=false", f"{TRAINING}.batch_size=8")
    result = run(text, home / "runs", folder=home, sets=(*others, *once, *sets), restart=True)
    return next(each.event for each in read(result.folder / "events.jsonl") if isinstance(each.event, StepDone)).terms


@pytest.mark.parametrize("combine", ["logits", "probabilities", "losses"])
@pytest.mark.parametrize("weights", ["", ", teacher_weights: [3, 1]"])
def test_of_several_teachers_a_row_has_the_mean_of_those_that_have_answered(home, combine, weights):
    def given(number):
        made = list(rows(8, len("train")))
        for n, row in enumerate(made):
            row["one"] = {"no": 0.2, "so": 0.3, "yes": 0.5} if n % 4 in (0, 1) else None
            row["two"] = ["no", "no", "yes", "so"] if n % 4 in (0, 2) else None
        write(home, "train", [row for n, row in enumerate(made) if number is None or n % 4 == number])

    def total(terms):
        share = {"soft_labels.teacher": 0.75, "soft_labels.other": 0.25} if weights else {}
        return (
            sum(value * share.get(name, 0.5) for name, value in terms.items())
            if combine == "losses"
            else terms["soft_labels"]
        )

    given(None)
    whole = total(first(home, team("teacher", "other", combine=combine, weights=weights)))
    small = f"{TRAINING}.batch_size=2"
    given(0)
    both = total(first(home, team("teacher", "other", combine=combine, weights=weights), small))
    given(1)
    one = first(home, team("teacher"), small)["soft_labels"]
    given(2)
    two = first(home, team("other"), small)["soft_labels"]
    assert whole == pytest.approx((both + one + two) / 3, rel=1e-5)


def test_a_live_teacher_answers_the_rows_that_a_recorded_one_does_not(home):
    made = list(rows(8, len("train")))
    for n, row in enumerate(made):
        row["one"] = [0.2, 0.3, 0.5] if n < 3 else None
    write(home, "train", made)
    whole = first(home, team("teacher", "live"))["soft_labels"]
    write(home, "train", made[:3])
    both = first(home, team("teacher", "live"), f"{TRAINING}.batch_size=3")["soft_labels"]
    write(home, "train", made[3:])
    live = first(home, team("live"), f"{TRAINING}.batch_size=5")["soft_labels"]
    assert whole == pytest.approx((3 * both + 5 * live) / 8, rel=1e-5)


def test_rows_without_labels_may_have_answers(home):
    with_answers(home, "sequence_classification", without=(1,))
    (home / "train.jsonl").rename(home / "unlabelled.jsonl")
    write(home, "train", [{**row, "logits": {"yes": 2, "so": 1, "no": 0}} for row in rows(4, 1)])
    data = "tasks.main.sequence_classification.data.json.unlabelled=unlabelled.jsonl"
    _, _, result = trained(home, spec("sequence_classification", "{recorded: {logits: logits}}"), data)
    assert "1 of 8 rows of `unlabelled` have no answer of `teacher`" in (result.folder / "events.jsonl").read_text()


def test_a_teacher_without_answers_to_validation_rows_is_not_evaluated(home):
    with_answers(home, "sequence_classification")
    write(home, "validation", rows(4, 0))
    _, _, result = trained(home, spec("sequence_classification", "{recorded: {logits: logits}}"))
    teacher, student = result.table
    assert teacher.metrics == {}
    assert student.agreement is None
    assert student.metrics["accuracy"] is not None


def test_the_columns_of_classes_name_those_of_a_task_without_labels(home):
    for split in ("train", "validation"):
        given = [json.loads(line) for line in (home / f"{split}.jsonl").read_text().splitlines()]
        drawn = random.Random(split)
        for row in given:
            row["sure"], row["maybe"] = (part := drawn.random()) / 2, part / 2
            row["never"] = 1 - part
        write(home, split, given)
    teacher = "{recorded: {probabilities: {SURE: sure, maybe: maybe, never: never}, labels: {sure: yes_, maybe: yes_}}}"
    text = spec("sequence_classification", teacher).replace(", label: label, labels: [no, so, yes]", "")
    _, _, result = trained(home, text.replace(", hard_labels: {weight: 0.5}", ""))
    config = json.loads((result.student / "config.json").read_text())
    assert config["id2label"] == {"0": "yes_", "1": "never"}
    assert {"agreement", "kl"} <= set(result.table[-1].metrics)


@pytest.mark.parametrize(
    ("teacher", "answers", "help_"),
    [
        ("votes: answer", ["yes", "no", "true"], 'name them in the order of the logits: `labels: [no, "true", yes]`'),
        ("probabilities: answer", {"YES": 0.75, "so": 0.25}, "`labels: [YES, so]`, as in the first answers"),
        ("probabilities: answer, labels: {YES: yes_}", '{"YES": 0.75, "so": 0.25}', "`labels: [so, yes_]`"),
        ("top_k: answer", {"yes": -0.1, " the": -4}, "`labels: [first, second]`, or the column of the labels"),
        ("logits: answer", [0.5, -0.5], "`labels: [first, second]`, or the column of the labels"),
        ("probabilities: answer", "{", "`labels: [first, second]`, or the column of the labels"),
    ],
)
def test_answers_in_one_column_name_the_classes_in_the_help_alone(home, teacher, answers, help_):
    text = spec("sequence_classification", f"{{recorded: {{{teacher}}}}}").replace(
        ", label: label, labels: [no, so, yes]", ""
    )
    for split in ("train", "validation"):
        write(home, split, ({"text": "good", "answer": answers} for _ in range(4)))
    with pytest.raises(DiagnosticError) as caught:
        plan(text.replace(", hard_labels: {weight: 0.5}", ""), registry(), folder=home)
    found = next(each for each in caught.value.diagnostics if each.code == "KD312")
    assert found.message.startswith("nothing names the classes of task `main`")
    assert help_ in found.help
