"""Tasks on texts, from a spec to a student that others can load; augmentations resume exactly."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
import transformers

from kdspec.engine.batches.loader import Loader
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import Evaluated, StageFinished, StepDone
from kdspec.rehearsal.rehearse import rehearse
from kdspec.testing import registry, tiny

TASKS = {
    "multi_label": "multi_label: {data: DATA, text: text, label: topics, metric: macro_f1}",
    "regression": "regression: {data: DATA, text: text, label: [score, other]}",
    "masked_lm": "masked_lm: {data: DATA, text: text, whole_words: true}",
    "grouped": "masked_lm: {data: DATA, text: text, group: true, max_length: 12}",
    "augmented": "sequence_classification: {data: DATA, text: text, label: label, augment: [masking, short_disorder]}",
}
DATA = "{json: {train: train.jsonl, validation: validation.jsonl, unlabelled: unlabelled.jsonl}}"
SPEC = """\
kdspec: 1
name: texts
seed: 5
tasks:
  texts: {TASK}
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}, initialize: {layers: [1]}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        hard_labels: {weight: 0.5}
        matches: [{feature: hidden, loss: hidden_mse, layers: uniform}]
    training: {epochs: 2, batch_size: 4, log_every: 1, optimizer: {adamw: {lr: 0.01}}}
"""
TEXTS = ["a good film", "dull", "the plot was thin, and long", "nice", "very bad indeed", "good", "so so so so", "x"]
TOPICS = [["a", "b"], ["b"], [], ["c", "a"], None, ["c"], ["a"], ["b", "c"]]


@pytest.fixture
def rows(tmp_path):
    """A tiny teacher and a few rows beside the spec."""
    tiny(tmp_path / "teacher", layers=2, width=16)
    for split, count in (("train", 8), ("validation", 6), ("unlabelled", 2)):
        found = [
            {"text": text, "topics": topics, "score": len(text) / 10, "other": number, "label": "ab"[number % 2]}
            for number, (text, topics) in enumerate(itertools.islice(zip(TEXTS, TOPICS, strict=True), count))
        ]
        found = [{"text": row["text"] + " too"} for row in found] if split == "unlabelled" else found
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def spec(task):
    return SPEC.replace("TASK", TASKS[task].replace("DATA", DATA))


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("task", "soft", "problem"),
    [("multi_label", "bce", "multi_label_classification"), ("regression", "mse", "regression")],
)
def test_a_student_is_one_for_transformers(task, soft, problem, session, launch):
    planned = session(text=spec(task)).plan.spec
    assert planned.stages["distil"].distiller.soft_labels.loss.name == soft
    ran = launch(text=spec(task))
    assert {"soft_labels", "hard_labels"} <= ran.of(StepDone)[0].terms.keys()
    assert ran.of(StageFinished)[0].best_step == next(e.step for e in reversed(ran.of(Evaluated)) if e.best)
    student = transformers.AutoModelForSequenceClassification.from_pretrained(ran.folder / "student")
    tokenizer = transformers.AutoTokenizer.from_pretrained(ran.folder / "student")
    assert student.config.problem_type == problem
    batch = tokenizer(["a good film"], return_tensors="pt")
    labels = torch.ones(1, student.config.num_labels)
    assert student(**batch, labels=labels).loss.isfinite()
    with torch.no_grad():
        whole = student(**batch).logits
    pipe = transformers.pipeline("text-classification", model=student, tokenizer=tokenizer, top_k=None)
    scores = {found["label"]: found["score"] for found in pipe(["a good film"])[0]}
    expected = whole.sigmoid() if task == "multi_label" else whole
    named = dict(zip(student.config.id2label.values(), expected[0].tolist(), strict=True))
    assert scores == pytest.approx(named, abs=1e-4)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("metric", ["pearson", "mse"])
def test_the_best_student_is_chosen_in_the_direction_of_its_metric(metric, launch):
    every = f"stages.distil.training.evaluate={{every_steps: 1, metric: {metric}}}"
    ran = launch(every, text=spec("regression"))
    values = [event.metrics[metric] for event in ran.of(Evaluated)]
    best = (min if metric == "mse" else max)(values)
    assert ran.of(StageFinished)[0].best_step == 1 + values.index(best)


@pytest.mark.slow
@pytest.mark.usefixtures("rows")
def test_a_masked_student_is_saved_with_its_embeddings_tied(session, launch):
    ran = launch(text=spec("masked_lm"))
    metrics = ran.of(StageFinished)[0].metrics
    assert metrics["loss"] == pytest.approx(math.log(metrics["perplexity"]))
    perplexities = [event.metrics["perplexity"] for event in ran.of(Evaluated)]
    assert ran.of(Evaluated)[perplexities.index(min(perplexities))].step == ran.of(StageFinished)[0].best_step
    assert not any("no gradient" in note for note in ran.notes)
    student = transformers.AutoModelForMaskedLM.from_pretrained(ran.folder / "student")
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    named = dict(student.named_parameters())
    rehearsed = rehearse(session(text=spec("masked_lm")).plan, registry())
    assert not rehearsed.findings
    assert rehearsed.models["student"].parameters == sum(parameter.numel() for parameter in named.values())
    assert rehearsed.models["student"].initialization.copied_parameters == rehearsed.models["student"].parameters
    assert rehearsed.stages[0].unused == ()
    assert not rehearsed.classes_assumed


@pytest.fixture
def seen(monkeypatch):
    """The tokens of each batch that is made for training."""
    tokens, batches = [], Loader.batches

    def spy(loader, rows, epoch=None, **options):
        made = batches(loader, rows, epoch, **options)
        if epoch is not None:
            tokens.append({model: batch.inputs[""]["input_ids"].tolist() for model, batch in made.items()})
        return made

    monkeypatch.setattr(Loader, "batches", spy)
    return tokens


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("task", ["augmented", "masked_lm", "grouped"])
def test_sampling_resumes_where_a_run_was_stopped(task, seen, session, launch, toys, same):
    whole = launch(text=spec(task), folder="whole")
    drawn = list(seen)
    seen.clear()
    with pytest.raises(Interrupted):
        session(plugins=[toys.StopAt(2)], text=spec(task)).run()
    ran = launch(text=spec(task))
    assert seen == drawn
    assert same.bits(whole.weights, ran.weights)


@pytest.mark.usefixtures("rows")
def test_teacher_and_student_see_the_same_augmented_texts_and_others_in_each_epoch(seen, launch):
    launch(text=spec("augmented"))
    assert all(batch["teacher"] == batch["student"] for batch in seen)
    half = len(seen) // 2
    first, second = (
        sorted(str([token for token in row if token]) for batch in part for row in batch["student"])
        for part in (seen[:half], seen[half:])
    )
    assert first != second


@pytest.mark.usefixtures("rows")
def test_a_stage_without_a_teacher_sees_its_rows_as_they_are(launch):
    alone = "stages.distil.distiller={supervised: {model: student}}"
    augmented = launch(alone, text=spec("augmented"), folder="augmented")
    plain = launch(alone, "tasks.texts.sequence_classification.augment=[]", text=spec("augmented"), folder="plain")
    assert [step.loss for step in augmented.of(StepDone)] == [step.loss for step in plain.of(StepDone)]
