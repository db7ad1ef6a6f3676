"""Runs of `multi_task`: heads on one encoder, terms by task, evaluation of all of them, going on in mid-epoch."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from kdspec import Model, ModelContext
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import Evaluated, StageFinished, StepDone
from kdspec.testing import tiny

TRAINING = "stages.distil.training"
TOGETHER = "stages.distil.distiller.multi_task"
TOYS = """\
kdspec: 1
name: toy
seed: 3
tasks:
  rows: {tensors: {data: {ragged: {train: 11, validation: 5, test: 3}}, labels: label}}
  others: {tensors: {data: {ragged: {train: 7, validation: 4}}, labels: label}}
models:
  teacher: {toy: {width: 6, depth: 3}}
  second: {toy: {width: 5}}
  student: {forked: {dropout: 0.2}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden, labels: batch.label}
  second: {logits: output.logits, hidden: output.hidden, labels: batch.label}
  student:
    by_task:
      tasks:
        rows: {logits: output.rows, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
        others: {logits: output.others, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
stages:
  distil:
    distiller:
      multi_task:
        student: student
        tasks:
          rows:
            teacher: teacher
            matches: [{feature: hidden, loss: hidden_mse, layers: {3: 2}}]
          others:
            teacher: second
            weight: 0.5
            soft_labels: {loss: kl, temperature: 2}
            hard_labels: {weight: 1}
    training:
      epochs: 3
      batch_size: 2
      accumulate: 2
      optimizer: {adamw: {lr: 0.01}}
      evaluate: {every_steps: 4}
      log_every: 1
"""


class Forked(Model):
    """A toy with a classifier for each task that it learns, which it returns by the task's name."""

    name = "forked"
    dropout: float = 0.0
    """Part of the values that is dropped while it trains."""

    def can_learn(self, head):
        return True

    def build(self, context: ModelContext):
        from torch import nn

        dropout, tasks = self.dropout, tuple(context.heads)

        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.emb = nn.Embedding(11, 4)
                self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
                self.dropout = nn.Dropout(dropout)
                self.heads = nn.ModuleDict({task: nn.Linear(4, 5) for task in tasks})

            def forward(self, ids, mask):
                hidden = [self.emb(ids)]
                for layer in self.layers:
                    hidden.append(self.dropout(torch.tanh(layer(hidden[-1]))))
                kept = mask[..., None].to(hidden[-1].dtype)
                pooled = (hidden[-1] * kept).sum(1) / kept.sum(1).clamp(min=1)
                return {"hidden": hidden, **{task: head(pooled) for task, head in self.heads.items()}}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return Module().double()


@pytest.fixture
def toys_together(launch):
    return lambda *sets, **options: launch(*sets, text=TOYS, plugins=[Forked, *options.pop("plugins", ())], **options)


def test_terms_have_the_name_and_the_weight_of_their_task(toys_together):
    ran = toys_together(f"{TRAINING}.accumulate=8", f"{TRAINING}.normalize=micro_batch")
    terms = {name: weight for step in ran.of(StepDone) for name, weight in step.weights.items()}
    assert terms == {
        "rows.soft_labels": 1.0,
        "rows.hidden.hidden_mse.3-2": 1.0,
        "others.soft_labels": 0.5,
        "others.hard_labels": 0.5,
    }


STILL = ("models.student.forked.dropout=0", f"{TRAINING}.optimizer={{sgd: {{lr: 1.0e-30}}}}", f"{TRAINING}.epochs=null")


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["step", "micro_batch"])
def test_the_loss_of_a_step_has_each_task_by_its_micro_batches(normalize, toys_together):
    """Also of losses over a whole step; the weights stay, so that steps of one micro-batch tell the tasks."""
    alike = f"{TOGETHER}.tasks.rows.matches=[{{feature: hidden, loss: alike, layers: {{3: 2}}}}]"
    sets = (
        *STILL,
        alike,
        f"{TRAINING}.normalize={normalize}",
        f"{TRAINING}.evaluate=null",
        f"{TOGETHER}.sampling={{tau: 0}}",
    )
    single = toys_together(*sets, f"{TRAINING}.steps=24", f"{TRAINING}.accumulate=1", folder="one")
    tasks = [next(iter(step.terms)).partition(".")[0] for step in single.of(StepDone)]
    together = toys_together(*sets, f"{TRAINING}.steps=6", f"{TRAINING}.accumulate=4").of(StepDone)
    for number, step in enumerate(together):
        own = tasks[4 * number : 4 * number + 4]
        expected = sum(
            own.count(name.partition(".")[0]) / 4 * step.weights[name] * value for name, value in step.terms.items()
        )
        assert step.loss == pytest.approx(expected, rel=1e-9)
    assert any("rows.hidden.alike.3-2" in step.terms for step in together)
    assert len({tuple(sorted(tasks[at : at + 4])) for at in range(0, 24, 4)}) > 1


def test_every_task_is_evaluated_and_their_mean_chooses(toys_together):
    ran = toys_together()
    for event in ran.of(Evaluated):
        metrics = event.metrics
        assert metrics["mean"] == (metrics["rows.loss"] + metrics["others.loss"]) / 2  # a task of columns has no other
        assert {"rows.accuracy", "others.accuracy"} <= metrics.keys()
    best = min(ran.of(Evaluated), key=lambda event: event.metrics["mean"])
    assert ran.of(StageFinished)[0].metrics["mean"] == best.metrics["mean"]
    assert [(row.model, row.task, row.role) for row in ran.result.table] == [
        ("teacher", "rows", "teacher"),
        ("second", "others", "teacher"),
        ("student", "rows", "student"),
        ("student", "others", "student"),
    ]


def test_the_metric_of_one_task_may_choose(toys_together):
    ran = toys_together(f"{TRAINING}.evaluate={{every_steps: 2, metric: others.loss}}")
    losses = [event.metrics["others.loss"] for event in ran.of(Evaluated)]
    assert ran.of(StageFinished)[0].metrics["others.loss"] == min(losses)


def test_an_unknown_metric_is_reported_before_the_first_step(toys_together):
    with pytest.raises(DiagnosticError, match=r"unknown metric `others\.acuracy`"):
        toys_together(f"{TRAINING}.evaluate={{metric: others.acuracy}}")


@pytest.mark.parametrize("step", [1, 5])
def test_a_run_stopped_within_an_epoch_resumes_to_the_same_weights(step, toys_together, session, toys, same):
    whole = toys_together(folder="whole")
    with pytest.raises(Interrupted):
        session(text=TOYS, plugins=[Forked, toys.StopAt(step)]).run()
    ran = toys_together()
    assert same.bits(whole.weights, ran.weights)
    end = len(whole.of(StepDone))
    assert same.bits(whole.checkpoint(end), ran.checkpoint(end))
    assert same.bits(whole.checkpoint(end, group="optimizer"), ran.checkpoint(end, group="optimizer"))
    assert [event.terms for event in ran.of(StepDone)] == [event.terms for event in whole.of(StepDone)]


def test_tasks_are_reported_with_their_shares(toys_together):
    ran = toys_together(f"{TOGETHER}.sampling={{proportions: {{rows: 3, others: 1}}}}")
    told = "samples its micro-batches from `rows` 75.0%, `others` 25.0%; an epoch is 10 of them"
    assert any(told in note for note in ran.notes)


def test_a_schedule_may_turn_a_task_off_and_on(toys_together):
    ran = toys_together(f"{TOGETHER}.tasks.others.weight=linear_growth")
    steps = ran.of(StepDone)
    assert "others.soft_labels" not in steps[0].terms
    assert any("others.soft_labels" in step.terms for step in steps)


TEXTS = """\
kdspec: 1
name: texts
tasks:
  films: {sequence_classification: {data: {json: {train: films.jsonl, validation: films.jsonl}}, text: text, label: l}}
  topics: {sequence_classification: {data: {json: {train: topics.jsonl, validation: topics.jsonl}}, text: text, label: l}}
models:
  films_teacher: {transformers: {path: base}}
  topics_teacher: {transformers: {path: base}}
  student: {transformers: {like: films_teacher, config: {num_hidden_layers: 1}, initialize: {layers: [1]}}}
stages:
  one: {distiller: {supervised: {model: films_teacher, task: films}}, training: {steps: 2, batch_size: 4}}
  two: {distiller: {supervised: {model: topics_teacher, task: topics}}, training: {steps: 2, batch_size: 4}}
  distil:
    distiller:
      multi_task:
        student: student
        tasks:
          films:
            teacher: films_teacher
            matches: [{feature: attention, loss: attention_mse, layers: {1: 0}}]
          topics: {teacher: topics_teacher, hard_labels: {weight: 1}}
    training: {steps: 6, batch_size: 4, log_every: 1}
"""


@pytest.fixture
def texts(launch, tmp_path):
    tiny(tmp_path / "base")
    for name, labels in (("films", ("bad", "good")), ("topics", ("law", "art", "tax"))):
        rows = [{"text": text * n, "l": labels[n % len(labels)]} for n, text in enumerate("abcdefg", 1)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *sets, **options: launch(*sets, text=TEXTS, **options)


def test_the_student_is_a_folder_for_each_task(texts):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ran = texts()
    metrics = next(event.metrics for event in ran.of(Evaluated) if event.stage == "distil")
    assert metrics["mean"] == (metrics["films.accuracy"] + metrics["topics.accuracy"]) / 2
    models = {}
    for task, labels in (("films", ["bad", "good"]), ("topics", ["art", "law", "tax"])):
        folder = ran.folder / "student" / task
        model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        assert list(model.config.id2label.values()) == labels
        inputs = AutoTokenizer.from_pretrained(folder)("abc", return_tensors="pt")
        assert model(**inputs).logits.shape == (1, len(labels))
        models[task] = load_file(folder / "model.safetensors")
    shared = [name for name in models["films"] if name.startswith("bert.")]
    assert shared
    assert all(torch.equal(models["films"][name], models["topics"][name]) for name in shared)
    assert "`films/`: the model with the head for task `films`" in (ran.folder / "student" / "README.md").read_text()


UNLIKE = """\
kdspec: 1
name: unlike
seed: 3
tasks:
  topics: {sequence_classification: {data: {json: {train: topics.jsonl}}, text: text, label: l}}
  names: {token_classification: {data: {conll: {train: names.conll}}}}
models: {student: {transformers: {path: base}}}
stages:
  distil:
    distiller:
      multi_task:
        student: student
        tasks: {topics: {hard_labels: {weight: 1}}, names: {weight: 0.5, hard_labels: {weight: 1}}}
        sampling: {tau: 0}
    training:
      {steps: 24, batch_size: 4, accumulate: 1, optimizer: {sgd: {lr: 1.0e-30}}, max_grad_norm: null, evaluate: null, log_every: 1}
"""


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_row_of_a_task_is_not_weighed_against_the_words_of_another(lanes, launch, tmp_path):
    """The weights stay, so that a step of four micro-batches must have the losses of four steps of one each."""
    tiny(tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    rows = [{"text": "abc def"[: n + 1], "l": ["law", "art", "tax"][n % 3]} for n in range(4)]
    (tmp_path / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sentence = "".join(f"a {tag}\n" for tag in ("O", "B-X", "O", "B-Y", "O", "O", "B-X", "O", "O", "O"))
    (tmp_path / "names.conll").write_text(f"{sentence}\n" * 4)
    alone = launch(text=UNLIKE, folder="alone").of(StepDone)
    sets = (f"{TRAINING}.accumulate=4", f"{TRAINING}.steps=6", f"{TRAINING}.lanes={lanes}")
    together = launch(*sets, text=UNLIKE, folder="together").of(StepDone)
    assert len(together) == 6
    shares = set()
    for number, step in enumerate(together):
        own = [next(iter(each.terms.items())) for each in alone[4 * number : 4 * number + 4]]
        expected = {name: sum(v for n, v in own if n == name) / sum(n == name for n, _ in own) for name, _ in own}
        assert step.terms == pytest.approx(expected, rel=1e-5)
        weighted = [each.loss for each in alone[4 * number : 4 * number + 4]]
        assert step.loss == pytest.approx(sum(weighted) / 4, rel=1e-5)
        shares.add(sum(name.startswith("topics") for name, _ in own))
    assert len(shares) > 2  # steps with several mixtures


@pytest.mark.slow
def test_layers_and_head_are_copied_from_the_teacher_of_a_task(texts):
    """The head goes to the head of the same task, whatever the other one's shape."""
    ran = texts(f"{TRAINING}.optimizer={{sgd: {{lr: 1.0e-30}}}}")
    teacher = load_file(ran.folder / "models" / "films_teacher" / "model.safetensors")
    films = load_file(ran.folder / "student" / "films" / "model.safetensors")
    assert torch.equal(films["classifier.weight"], teacher["classifier.weight"])
    layer = "attention.self.query.weight"
    assert torch.equal(films[f"bert.encoder.layer.0.{layer}"], teacher[f"bert.encoder.layer.1.{layer}"])


@pytest.mark.slow
def test_a_student_of_several_tasks_may_be_trained_on_for_one_of_them_and_teach(texts):
    more = "stages.more={distiller: {supervised: {model: student, task: films}}, training: {steps: 1, batch_size: 4}}"
    last = (
        "stages.last={distiller: {general: {teacher: student, student: small, task: topics}}, "
        "training: {steps: 1, batch_size: 4}}"
    )
    ran = texts(more, last, "models.small={transformers: {like: topics_teacher, config: {num_hidden_layers: 1}}}")
    assert (ran.folder / "models" / "student" / "topics" / "config.json").is_file()
    assert (ran.folder / "student" / "config.json").is_file()


@pytest.mark.slow
def test_finished_stages_are_read_back(texts, session, toys, same):
    whole = texts(folder="whole")
    weights = {task: load_file(whole.folder / "student" / task / "model.safetensors") for task in ("films", "topics")}
    with pytest.raises(Interrupted):
        session(text=TEXTS, plugins=[toys.StopAt(3)]).run()
    ran = texts()
    for task, tensors in weights.items():
        assert same.bits(tensors, load_file(ran.folder / "student" / task / "model.safetensors"))


def test_a_teacher_of_another_task_is_reported_before_anything_is_trained(texts):
    with pytest.raises(FindingError) as caught:
        texts(f"{TOGETHER}.tasks.topics.teacher=films_teacher")
    found = caught.value.findings[0]
    assert found.code == "KD403"
    assert "`films_teacher` has the head of task `topics`, and the labels of task `films` differ" in found.message
