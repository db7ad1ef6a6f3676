"""Runs with models that score candidates: the same student whatever is cached, split or computed again."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import configuration, tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from kdspec.engine.run.event_log import read
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import CacheState, StepDone

PAIR, EACH = "{path: ./cross}", "{path: ./encoder, reads: each}"
LATE = "{path: ./encoder, reads: each, similarity: maxsim, readout: {dense: [6]}}"
TRAINING = "stages.distil.training"
CACHE = f"{TRAINING}.teacher_cache"
SPEC = """\
kdspec: 1
name: search
tasks:
  search:
    ranking:
      data: {json: {train: train.jsonl, validation: train.jsonl}}
      query: query
      documents: [positive, negatives]
      positives: positive
models:
  teacher: {transformers: {path: ./cross}}
  student: {transformers: {path: ./encoder, reads: each}}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: kl}, hard_labels: {weight: 0.5}}
    training:
      epochs: 2
      batch_size: 8
      log_every: 1
      evaluate: null
      optimizer: {adamw: {lr: 1.0e-3}}
      teacher_cache: {use: "on", folder: cache}
"""
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
pytestmark = pytest.mark.slow


@pytest.fixture
def search(session, tmp_path):
    """Makes a session with these models; document `w1 w2` is a negative of every row."""
    for auto, name in ((AutoModelForSequenceClassification, "cross"), (AutoModel, "encoder")):
        torch.manual_seed(len(name))
        auto.from_config(configuration("bert", pad_token_id=0, num_labels=1, **STILL)).save_pretrained(tmp_path / name)
        tokenizer(tmp_path / name)
    rows = [
        {
            "query": f"w{3 + row} w4",
            "positive": f"w{20 + row} w5 w6",
            "negatives": ["w1 w2", "w7", "w8 w9 w10"][: 1 + row % 3],
        }
        for row in range(16)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def made(*sets, teacher=PAIR, student=EACH, text=SPEC, **options):
        models = (f"models.teacher.transformers={teacher}", f"models.student.transformers={student}")
        return session(*models, *sets, text=text, **options)

    return made


def weights(result):
    return load_file(result.folder / "student" / "model.safetensors")


def close(first, second):
    """By the loss of each step: Adam makes whole steps of gradients that are rounding alone."""
    one, other = ([event.loss for event in events(each, StepDone)] for each in (first, second))
    return len(one) == 4 and one == pytest.approx(other, rel=1e-5, abs=1e-6)


def events(result, kind):
    return [record.event for record in read(result.folder / "events.jsonl") if isinstance(record.event, kind)]


@pytest.mark.parametrize(("teacher", "student"), [(PAIR, EACH), (EACH, PAIR), (LATE, LATE), (EACH, EACH)])
def test_a_cached_teacher_teaches_the_same(search, teacher, student):
    cached = search(teacher=teacher, student=student, folder="cached").run()
    live = search(f"{CACHE}.use=off", teacher=teacher, student=student, folder="live").run()
    assert close(cached, live)
    last = events(cached, CacheState)[-1]
    pairs = sum(2 + row % 3 for row in range(16))
    assert (last.hits, last.computed) == (32, pairs if teacher == PAIR else 16 + 16 + 3)


@pytest.mark.parametrize("student", [PAIR, EACH])
def test_a_step_is_the_same_however_it_is_split(search, student):
    whole = search(student=student, folder="whole").run()
    parts = search(f"{TRAINING}.batch_size=2", f"{TRAINING}.accumulate=4", student=student, folder="parts").run()
    lanes = search(
        f"{TRAINING}.batch_size=2", f"{TRAINING}.accumulate=4", f"{TRAINING}.lanes=2", student=student, folder="lanes"
    ).run()
    again = search(f"{TRAINING}.gradient_checkpointing=true", student=student, folder="again").run()
    assert close(whole, parts)
    assert close(parts, lanes)
    assert close(whole, again)


def test_a_run_that_was_stopped_has_the_bits_of_one_that_was_not(search, toys, same):
    whole = search(f"{CACHE}.folder=one", folder="whole").run()
    with pytest.raises(Interrupted):
        search(f"{CACHE}.folder=two", folder="parts", plugins=(toys.StopAt(2),)).run()
    assert same.bits(weights(search(f"{CACHE}.folder=two", folder="parts").run()), weights(whole))


def test_a_cross_encoder_that_a_stage_has_trained_teaches_the_next(search):
    """Its head is not in the files of the encoder, and a later stage loads what the first has saved."""
    text = SPEC.replace(
        "stages:\n",
        "stages:\n  teach:\n    distiller: {supervised: {model: teacher}}\n"
        "    training: {epochs: 1, batch_size: 8, evaluate: null, optimizer: {adamw: {lr: 1.0e-3}}}\n",
    )
    result = search(teacher="{path: ./encoder, reads: pair}", text=text).run()
    assert len(events(result, StepDone)) > 2
    assert (result.folder / "models" / "teacher" / "model.safetensors").is_file()


def test_a_student_of_two_tasks_has_a_head_for_each(search, tmp_path):
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"w{n} w5,{'ab'[n % 2]}\n" for n in range(16)))
    text = SPEC.replace("tasks:\n", "tasks:\n  topics:\n    sequence_classification: {data: {csv: {train: texts.csv}}, "
                        "text: text, label: label}\n")  # fmt: skip
    before, after = text.split("      general:")
    rest = after.split("    training:")[1]
    text = (
        f"{before}      multi_task:\n        student: student\n        tasks:\n          search: {{teacher: teacher, "
        f"soft_labels: {{loss: kl}}}}\n          topics: {{hard_labels: {{weight: 1}}}}\n    training:{rest}"
    )
    result = search(text=text).run()
    assert sorted(path.name for path in (result.folder / "student").iterdir() if path.is_dir()) == ["search", "topics"]
    assert (result.folder / "student" / "search" / "modules.json").is_file()
