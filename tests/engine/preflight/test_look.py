"""Preflight: what stops a run, what is told, what is kept, and that training is as without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.preflight.look import Look, Looked
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.events import Note, Preflight, StepDone
from kdspec.testing import plan, registry

CLASSES = ("calm", "glad", "loud")
FIRST = ("good", "bad", "dull")
SPEC = """\
kdspec: 1
name: looked
tasks:
  t: {sequence_classification: {data: {csv: {train: train.csv}}, text: text, label: label}}
models:
  teacher: {transformers: {path: ./teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 2, batch_size: 4, log_every: 1, evaluate: null}
"""


def texts() -> list[tuple[str, int]]:
    """Texts whose first word tells the class, all different."""
    more = ("film", "plot", "the", "was", "very", "nice", "a", "b", "c", "d")
    return [
        (" ".join([first, *more[at : at + 1 + at % 3]]), number)
        for at in range(8)
        for number, first in enumerate(FIRST)
    ]


def knowing(
    folder: Path, new_model: Callable[..., Path], new_tokenizer: Callable[..., Path], order: tuple[int, ...]
) -> None:
    """A teacher that knows every text; logit `order[n]` is the one of class n."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_labels": len(CLASSES), "pad_token_id": 3}
    new_model("teacher", auto="AutoModelForSequenceClassification", **sizes)
    new_tokenizer("teacher", pad=False)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.eval()
    with torch.no_grad():
        inner = torch.cat([model.bert(**tokenizer(text, return_tensors="pt")).pooler_output for text, _ in texts()])
        wanted = torch.eye(len(CLASSES))[[order[number] for _, number in texts()]]
        model.classifier.weight.copy_(torch.linalg.lstsq(inner, wanted).solution.T)
        model.classifier.bias.zero_()
    model.save_pretrained(folder)


@pytest.fixture
def launch(tmp_path, new_model, new_tokenizer, monkeypatch):
    """Runs the spec with a teacher whose classes have an order, and returns the events."""
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    numbers = iter(range(100))

    def launched(order: tuple[int, ...] = (0, 1, 2), *sets: str, text: str = SPEC, labels: Any = None) -> list[Any]:
        if not (tmp_path / "teacher").exists():
            knowing(tmp_path / "teacher", new_model, new_tokenizer, order)
        lines = [f"{words},{CLASSES[number] if labels is None else labels[number]}" for words, number in texts()]
        (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines, ""]))
        output = tmp_path / f"runs{next(numbers)}"
        Session(plan(text, registry(), folder=tmp_path, sets=sets), registry(), output=output).run()
        return [record.event for record in read(output / "looked" / "events.jsonl")]

    return launched


def looked(events: list[Any]) -> Preflight:
    (found,) = (event for event in events if isinstance(event, Preflight))
    return found


def warnings(events: list[Any]) -> list[str]:
    """All but the one that the teacher's files have no names of classes."""
    found = [event.text for event in events if isinstance(event, Note) and event.level == "warning"]
    return [text for text in found if "by their position" not in text]


def test_a_run_tells_of_its_rows_and_models(launch):
    events = launch()
    task = looked(events).tasks["t"]
    assert (task["splits"]["train"]["rows"], task["classes"]) == (24, ["calm", "glad", "loud"])
    assert {name: model["alone"]["difference"] <= 1e-5 for name, model in task["models"].items()} == {
        "student": True,
        "teacher": True,
    }
    answers = task["models"]["teacher"]["answers"]
    assert (answers["right"], answers["answers"], answers["most_frequent"]) == (24, 24, 8)
    assert answers["metrics"] == {"accuracy": 1.0}
    assert task["models"]["student"]["answers"] is None
    assert warnings(events) == []


def test_rows_without_labels_are_counted_where_a_stage_trains_on_them(launch, tmp_path):
    (tmp_path / "more.csv").write_text("text\ngood film\nbad plot\n")
    stages = SPEC.replace(
        "stages:\n", "stages:\n  first:\n    distiller: {supervised: {model: student}}\n"
        "    training: {steps: 1, batch_size: 4, evaluate: null}\n",
    )  # fmt: skip
    events = launch((0, 1, 2), "tasks.t.sequence_classification.data.csv.unlabelled=more.csv", text=stages)
    first, distil = (event.tasks["t"]["splits"] for event in events if isinstance(event, Preflight))
    assert "unlabelled" not in first
    assert distil["unlabelled"]["rows"] == 2


def test_a_teacher_of_another_order_stops_the_run_with_the_labels_to_write(launch):
    with pytest.raises(FindingError) as caught:
        launch((2, 0, 1))
    found = caught.value.findings[0]
    assert (found.code, found.at) == ("KD518", ("models", "teacher"))
    assert "answers 24 of 24 labels of `train` right in another order of the classes, and 0 as it is" in found.message
    assert '`labels: ["glad", "loud", "calm"]`' in str(found.help)


def test_the_labels_that_are_advised_make_the_run_right(launch):
    with pytest.raises(FindingError) as caught:
        launch((2, 0, 1))
    (_, advice, _) = str(caught.value.findings[0].help).rsplit("`", 2)
    labels = json.loads(advice.removeprefix("labels: "))
    events = launch((2, 0, 1), f"tasks.t.sequence_classification.labels={json.dumps(labels)}")
    answers = looked(events).tasks["t"]["models"]["teacher"]["answers"]
    assert (answers["right"], warnings(events)) == (24, [])


def test_two_classes_in_each_others_place_stop_the_run_above_chance(launch):
    with pytest.raises(
        FindingError, match="24 of 24 labels of `train` right in another order of the classes, and 8 as"
    ):
        launch((0, 2, 1))


def test_numbers_in_another_order_are_advised_as_text(launch):
    with pytest.raises(FindingError) as caught:
        launch((2, 0, 1), labels=("0", "1", "2"))
    assert '`labels: ["1", "2", "0"]`' in str(caught.value.findings[0].help)


def test_a_teacher_that_an_earlier_stage_has_trained_is_warned_of(launch):
    stages = SPEC.replace(
        "stages:\n", "stages:\n  first:\n    distiller: {supervised: {model: teacher}}\n"
        "    training: {steps: 1, batch_size: 4, optimizer: {adamw: {lr: 1.0e-9}}, evaluate: null}\n",
    )  # fmt: skip
    events = launch((2, 0, 1), "tasks.t.sequence_classification.max_length=2", text=stages)
    assert any("right in another order of the classes" in text for text in warnings(events))
    assert len([text for text in warnings(events) if "are cut at" in text]) == 1


def test_labels_are_not_asked_of_a_teacher_of_hidden_states(launch):
    distiller = "stages.distil.distiller.general"
    events = launch(
        (2, 0, 1), f"{distiller}.soft_labels={{weight: 0}}", f"{distiller}.hard_labels={{weight: 1}}",
        f"{distiller}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]",
    )  # fmt: skip
    assert looked(events).tasks["t"]["models"]["teacher"]["answers"] is None


def test_the_same_rows_and_models_are_not_asked_again(launch):
    assert [looked(launch()).cached for _ in range(2)] == [False, True]


@pytest.mark.parametrize("change", ["seed=7", "tasks.t.sequence_classification.max_length=4"])
def test_other_settings_are_asked_again(launch, change):
    assert [looked(launch((0, 1, 2), *sets)).cached for sets in ((), (change,))] == [False, False]


def test_other_weights_are_asked_again(launch, tmp_path):
    launch()
    file = tmp_path / "teacher" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    weights["classifier.bias"] += 1e-3
    save_file(weights, file, {"format": "pt"})
    assert not looked(launch()).cached


def test_an_unreadable_earlier_look_is_made_again(launch, tmp_path):
    launch()
    (kept,) = (tmp_path / "cache" / "preflight").iterdir()
    kept.write_text("{")
    assert [looked(launch()).cached for _ in range(2)] == [False, True]


def test_a_resumed_run_does_not_ask_again(launch, tmp_path):
    events = launch((0, 1, 2), "stages.distil.training.checkpoint.every_steps=1")
    run = tmp_path / "runs0" / "looked"
    for name in ("stages", "student", "table.json"):
        path = run / name
        path.unlink() if path.is_file() else [file.unlink() for file in path.rglob("*") if file.is_file()]
    assert not looked(events).cached
    text = plan(SPEC, registry(), folder=tmp_path, sets=["stages.distil.training.checkpoint.every_steps=1"])
    Session(text, registry(), output=tmp_path / "runs0").run()
    again = [event for event in (record.event for record in read(run / "events.jsonl")) if isinstance(event, Preflight)]
    assert [event.cached for event in again] == [False, True]


def test_training_is_as_without_a_look(launch, monkeypatch):
    with_look = launch()

    def nothing(self: Look, _: Any) -> Looked:
        return Looked(Preflight(self.stage.name, cached=False, seconds=0.0, tasks={}), ())

    monkeypatch.setattr(Look, "__call__", nothing)
    without = launch()
    steps = [
        [(event.loss, event.grad_norm) for event in of if isinstance(event, StepDone)] for of in (with_look, without)
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 2


def test_a_look_leaves_models_and_random_numbers_as_they_were(launch, monkeypatch):
    seen: list[Any] = []
    original = Look.__call__

    def watched(self: Look, by_task: Any) -> Looked:
        runners = [*by_task["t"].teachers.values(), by_task["t"].student]
        before = _state(runners)
        found = original(self, by_task)
        seen.append(_same(before, _state(runners)))
        return found

    monkeypatch.setattr(Look, "__call__", watched)
    launch()
    assert seen == [True]


def _state(runners: list[Any]) -> list[Any]:
    modules = [module for runner in runners for module in runner.module.modules()]
    return [
        torch.get_rng_state(),
        [module.training for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        [
            parameter.grad is None and parameter.requires_grad
            for runner in runners
            for parameter in runner.module.parameters()
        ],
        [tensor.clone() for runner in runners for tensor in runner.module.state_dict().values()],
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
