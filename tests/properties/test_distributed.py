"""Several processes of one run, two on gloo as torchrun starts them: DDP and FSDP2 against one process, and faults."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from kdspec.api.working.logits import HeadLogits
from kdspec.engine.forward.large_head import LEAST
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import (
    CheckpointSaved,
    Evaluated,
    Note,
    Preflight,
    RunFailed,
    RunStarted,
    StageFinished,
    StepDone,
    to_json,
)
from kdspec.testing import plan, tiny

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PLUGIN = HERE / "ranks_plugin.py"
SPEC = """\
kdspec: 1
name: toy
seed: 3
tasks:
  rows:
    tensors: {data: {ragged: {}}, labels: label}
models:
  teacher: {toy: {width: 6, depth: 3}}
  student: {toy: {}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  student:
    logits: output.logits
    hidden: output.hidden
    inputs_mask: batch.mask
    labels: batch.label
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        hard_labels: {weight: 0.5}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {3: 2}}
          - {feature: hidden, loss: mmd, layers: {0: 0}, weight: 0.5}
    training:
      epochs: 2
      batch_size: 2
      accumulate: 2
      optimizer: {adamw: {lr: 0.01}}
      evaluate: null
      log_every: 1
"""
TRAINING = "stages.distil.training"
GENERAL = "stages.distil.distiller.general"
ROWS = "tasks.rows.tensors.data.ragged"
SINGLE = ("models.student.toy={single: true}", "models.teacher.toy={width: 6, depth: 3, single: true}")
DOUBLED = f"{TRAINING}.accumulate=4"
ACCIDENT = f"{TRAINING}.lr_schedule=accident"
EACH_STEP = f"{TRAINING}.checkpoint={{every_steps: 1}}"
EVALUATED = (f"{ROWS}={{train: 11, validation: 5, test: 3, gaps: 4}}", f"{TRAINING}.evaluate={{every_steps: 1}}")

VARIANTS = {
    "plain": (),
    "evaluated": EVALUATED,
    "a rank without rows": (f"{ROWS}={{train: 9}}",),
    "one row": (f"{ROWS}={{train: 1}}",),
    "steps without a label": (
        f"{ROWS}={{train: 11, gaps: 2}}",
        f"{GENERAL}.soft_labels.weight=0",
        f"{GENERAL}.hard_labels.weight=1",
        f"{GENERAL}.matches=[]",
    ),
    "a loss with a parameter": (
        *SINGLE,
        f"{GENERAL}.soft_labels={{loss: scaled}}",
        f"{TRAINING}.max_grad_norm={{value: 0.01, scope: student}}",
        f"{TRAINING}.optimizer={{sgd: {{lr: 0.1, momentum: 0.9}}}}",
    ),
    "means of means": (f"{TRAINING}.normalize=micro_batch", f"{ROWS}={{train: 9}}"),
    "what no loss reaches": (f"{GENERAL}.soft_labels.weight=0", f"{GENERAL}.hard_labels.weight=0"),
    "a cache": (f"{TRAINING}.teacher_cache={{use: 'on', folder: CACHE}}",),
    "a loss over whole steps": (
        f"{ROWS}={{train: 9}}",
        f"{GENERAL}.matches=[{{feature: hidden, loss: alike, layers: {{3: 2}}, weight: 3}}]",
    ),
    "a loss with parameters over whole steps": (
        *SINGLE,
        f"{ROWS}={{train: 9}}",
        f"{GENERAL}.matches=[{{feature: hidden, loss: learnt_alike, layers: {{3: 2}}, weight: 3}}]",
        f"{TRAINING}.optimizer={{sgd: {{lr: 0.1, momentum: 0.9}}}}",
    ),
    "batches by length": (f"{TRAINING}.batching=length_grouped",),
}
"""What one process with the doubled batch must come to as well."""
DROPPED = (ACCIDENT, *SINGLE, "models.student.toy.dropout=0.2", *EVALUATED)
BITS = {
    "dropout": DROPPED,
    "bf16": (*SINGLE, f"{TRAINING}.precision=bf16", "models.student.toy.dropout=0.1"),
    "fp16": (*SINGLE, f"{TRAINING}.precision=fp16", f"{GENERAL}.matches=[]"),
}
"""What depends on the number of processes, but not on the backend."""
ACCELERATED = ("plain", "steps without a label", "a loss with a parameter", "dropout", "bf16", "fp16")
FRAGILE = (ACCIDENT, f"{GENERAL}.soft_labels.loss=fragile")
TOGETHER = """\
kdspec: 1
name: toy
tasks:
  rows: {tensors: {data: {ragged: {train: 11, validation: 5}}, labels: label}}
  others: {tensors: {data: {ragged: {train: 7, validation: 4}}, labels: label}}
models: {teacher: {toy: {width: 6, depth: 3}}, student: {forked: {}}}
adaptors:
  teacher: {logits: output.logits, labels: batch.label}
  student:
    by_task:
      tasks:
        rows: {logits: output.rows, labels: batch.label}
        others: {logits: output.others, labels: batch.label}
stages:
  distil:
    distiller: {multi_task: {student: student, tasks: {rows: {teacher: teacher}, others: {hard_labels: {weight: 1}}}}}
    training: {epochs: 3, batch_size: 2, accumulate: 2, evaluate: {every_steps: 4}, log_every: 1}
"""
WHOLE = """\
kdspec: 1
name: toy
tasks:
  rows: {tensors: {data: {ragged: {train: 9}}, labels: label}}
  others: {tensors: {data: {ragged: {train: 5}}, labels: label}}
models: {teacher: {toy: {width: 6, depth: 3}}, student: {forked: {}}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  student:
    by_task:
      tasks:
        rows: {logits: output.rows, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
        others: {logits: output.others, labels: batch.label}
stages:
  distil:
    distiller:
      multi_task:
        student: student
        tasks:
          rows: {teacher: teacher, matches: [{feature: hidden, loss: learnt_alike, layers: {3: 2}, weight: 3}]}
          others: {hard_labels: {weight: 1}}
    training:
      epochs: 2
      batch_size: 2
      accumulate: 2
      optimizer: {sgd: {lr: 0.1, momentum: 0.9}}
      evaluate: null
      log_every: 1
"""
STAGES = """\
kdspec: 1
name: toy
tasks: {rows: {tensors: {data: {ragged: {train: 8, validation: 4}}, labels: label}}}
models: {teacher: {toy: {width: 6}}, assistant: {toy: {width: 5}}, student: {toy: {}}}
adaptors:
  teacher: {logits: output.logits, labels: batch.label}
  assistant: {logits: output.logits, labels: batch.label}
  student: {logits: output.logits, labels: batch.label}
stages:
  first: {distiller: {general: {teacher: teacher, student: assistant}}, training: {steps: 3, batch_size: 2}}
  second: {distiller: {general: {teacher: assistant, student: student}}, training: {steps: 3, batch_size: 2}}
"""
# AdamW divides a gradient by its own size, which makes of the rounding of a gradient near 0 a difference of the weights.
LAYERS = """\
kdspec: 1
name: toy
tasks: {reviews: {sequence_classification: {data: {csv: {train: ../rows.csv, validation: ../rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ../tiny}}
  student:
    transformers:
      like: teacher
      config: {num_hidden_layers: 3, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}
      initialize: {layers: [0, 1, 2]}
stages:
  cut:  # the teacher ends after layer 2
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {weight: 0}
        hard_labels: {weight: 0.5}
        matches: [{feature: hidden, loss: hidden_mse, layers: {0: 0, 2: 1}}]
    training: {steps: 5, batch_size: 2, optimizer: {sgd: {lr: 0.1, momentum: 0.9}}, teacher_cache: "off", evaluate: {every_steps: 2}}
  chosen:  # one layer of each has attention with weights
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        matches: [{feature: attention, loss: attention_mse, layers: {1: 1}}]
    training:
      {steps: 5, batch_size: 2, optimizer: {sgd: {lr: 0.1, momentum: 0.9}}, teacher_cache: "off", evaluate: {every_steps: 2}, calibrate: temperature}
"""
WORDS = """\
kdspec: 1
name: toy
tasks: {words: {masked_lm: {data: {json: {train: ../words.jsonl, validation: ../words.jsonl}}, text: text, probability: 0.4}}}
models:
  teacher: {transformers: {path: ../words}}
  student:
    transformers:
      like: teacher
      config: {num_hidden_layers: 1, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}
      initialize: {layers: [1]}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: kl, temperature: 2}, hard_labels: {weight: 0.5}}}
    training: {steps: 4, batch_size: 2, accumulate: 2, optimizer: {sgd: {lr: 0.1, momentum: 0.9}}, evaluate: {every_steps: 2}}
"""
PEEKING = "stages.distil.distiller={peeking: {teacher: teacher, student: student}}"


@dataclass(frozen=True)
class Ranks:
    """Processes that have ended, and what they have left."""

    folder: Path

    @property
    def codes(self):
        return json.loads((self.folder / "codes.json").read_text())

    @property
    def errors(self):
        return [path.read_text() for path in sorted(self.folder.glob("errors-*.txt"))]

    def told(self, job, rank=0):
        return json.loads((self.folder / f"job-{job}-{rank}.json").read_text())

    def events(self, output):
        return [record.event for record in read(self.folder / output / "toy" / "events.jsonl")]

    def weights(self, output):
        return load_file(self.folder / output / "toy" / "student" / "model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def made(folder, module_registry):
    """Makes a session in this process, in a folder of `folder`."""

    def session(output, *sets, text=SPEC, plugins=()):
        from kdspec.testing import registry

        known = registry(HERE.parent / "shared" / "toys.py", PLUGIN, *plugins) if plugins else module_registry
        return Session(plan(text, known, folder=folder, sets=sets), known, output=folder / output, device="cpu")

    return session


@pytest.fixture(scope="module")
def module_registry():
    from kdspec.testing import registry

    return registry(HERE.parent / "shared" / "toys.py", PLUGIN)


FAULTY = {"sets": [*DROPPED, EACH_STEP], "backend": "ddp", "output": "run"}
ACCIDENTS = {
    "one": {"rank": 1, "step": 2, "signal": signal.SIGKILL},
    "all": {"step": 3, "signal": signal.SIGKILL},
    "error": {"rank": 1, "step": 2, "raises": "no more"},
}


def jobs_of_a_backend(name):
    jobs = []
    for variant, sets in (VARIANTS | BITS).items():
        jobs.append({"output": f"{variant}-{name}", "sets": [each.replace("CACHE", f"cache-{name}") for each in sets]})
    jobs.append({"output": f"together-{name}", "text": TOGETHER})
    jobs.append({"output": f"whole-{name}", "text": WHOLE})
    single = {"text": TOGETHER, "sets": [f"{TRAINING}.accumulate=1", ACCIDENT]}
    jobs.append({"output": f"mixed-{name}", **single})
    stopped = {"rank": 1, "step": 3, "signal": signal.SIGTERM}
    jobs.append({"output": f"mixed-stopped-{name}", **single, "at": stopped})
    jobs.append({"output": f"layers-{name}", "text": LAYERS})
    jobs.append({"output": f"words-{name}", "text": WORDS})
    infinite = {"rank": 1, "step": 1, "factor": "inf"}
    jobs.append({"output": f"infinite-{name}", "sets": FRAGILE, "at": infinite, "fails": True})
    jobs.append({"output": f"peeking-{name}", "sets": [PEEKING], "fails": name == "fsdp"})
    stopped = {"output": f"stopped-{name}", "sets": DROPPED}
    jobs.append({**stopped, "at": {"rank": 1, "step": 2, "signal": signal.SIGTERM}})
    jobs.append({**stopped, "backend": "fsdp" if name == "ddp" else "ddp"})
    # For one process to go on with, and after one process.
    interrupted = {"rank": 0, "step": 1, "signal": signal.SIGINT}
    jobs.append({"output": f"halved-{name}", "sets": [ACCIDENT], "at": interrupted})
    jobs.append({"output": f"grown-{name}"})
    if name == "fsdp":
        jobs.append({"output": "divided", "sets": [*EVALUATED, ACCIDENT], "shard_teachers": True})
        jobs.append({"output": "layers-divided", "text": LAYERS, "shard_teachers": True})
        jobs.append({"output": "divided-stages", "text": STAGES, "shard_teachers": True})
    return [{"backend": name, **job} for job in jobs]


def jobs_of_accelerate():
    jobs = [{"output": f"{variant}-accelerate", "sets": [*(VARIANTS | BITS)[variant]]} for variant in ACCELERATED]
    jobs.append({"output": "together-accelerate", "text": TOGETHER})
    at = {"rank": 1, "step": 2, "signal": signal.SIGTERM}
    for first, second in (("accelerate", "ddp"), ("fsdp", "accelerate")):
        jobs += [{"backend": first, "at": at}, {"backend": second}]
        jobs[-2:] = [{**job, "output": f"from-{first}-to-{second}", "sets": DROPPED} for job in jobs[-2:]]
    return [{"backend": "accelerate", "accelerate_config": "../accelerate.yaml", **job} for job in jobs]


@pytest.fixture(scope="module")
def started(folder, made, toys):
    """Everything that two processes do in these tests."""
    for name in ("ddp", "fsdp"):
        with pytest.raises(Interrupted):
            made(f"two/grown-{name}", plugins=[toys.StopAt(2)]).run()
    tiny(folder / "tiny", layers=4)
    rows = "".join(
        f"{text},{int(number % 2 == (number != 9))}\n"
        for number, text in enumerate(["good", "not bad", "a good film", "bad"] * 3)
    )
    (folder / "rows.csv").write_text(f"text,label\n{rows}")
    tiny(folder / "words", vocab_size=LEAST + 8)
    texts = ["a good film", "dull", "the plot was thin, and long", "nice", "very bad indeed", "good", "so so so so"]
    (folder / "words.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "accelerate.yaml").write_text("{distributed_type: MULTI_CPU, num_processes: 2, use_cpu: true}")
    starts = {"two": [*jobs_of_a_backend("ddp"), *jobs_of_a_backend("fsdp"), *jobs_of_accelerate()]}
    starts |= {name: [{**FAULTY, "at": at}] for name, at in ACCIDENTS.items()}
    starts["again"] = [{**FAULTY, "output": name} for name in ACCIDENTS]
    starts["again"][1]["backend"] = "fsdp"
    written = [
        {"folder": str(folder / name), "world": 2, "jobs": [{"text": SPEC, **job} for job in jobs]}
        for name, jobs in starts.items()
    ]
    written[-1]["copies"] = [(str(folder / name / "run"), str(folder / "again" / name)) for name in ACCIDENTS]
    (folder / "starts.json").write_text(json.dumps(written))
    subprocess.run([sys.executable, str(HERE / "ranks.py"), str(folder / "starts.json")], check=True, timeout=600)
    return {name: Ranks(folder / name) for name in starts}


@pytest.fixture(scope="module")
def two(started):
    """The processes that meet no accident."""
    assert started["two"].codes == [0, 0], started["two"].errors
    assert not any("find_unused_parameters" in told for told in started["two"].errors)
    return started["two"]


@pytest.fixture(scope="module")
def jobs_of(folder):
    """The numbers of the jobs of `two` by their output."""
    found = {}
    for number, job in enumerate(json.loads((folder / "starts.json").read_text())[0]["jobs"]):
        found.setdefault(job["output"], []).append(number)
    return found


@pytest.fixture(scope="module")
def one(folder, made):
    """What one process comes to, run once for each output."""
    kept = {}

    def ran(output, *sets, text=SPEC):
        if output not in kept:
            filled = [each.replace("CACHE", "cache-one") for each in sets]
            kept[output] = made(output, *filled, text=text).run()
        return Ranks(folder)

    return ran


def story(events):
    """The events that tell of training, without times."""
    kinds = (StepDone, Evaluated, CheckpointSaved, StageFinished)
    told = [to_json(event) for event in events if isinstance(event, kinds)]
    return [{key: value for key, value in each.items() if key != "seconds"} for each in told]


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_come_to_the_weights_of_one_with_the_doubled_batch(variant, backend, two, one, same):
    alone = one(variant, *VARIANTS[variant], DOUBLED)
    tolerance = 1e-6 if "parameter" in variant else 1e-12
    assert same.close(two.weights(f"{variant}-{backend}"), alone.weights(variant), tolerance)


@pytest.mark.parametrize("variant", [*VARIANTS, *BITS, "together"])
def test_fsdp_comes_to_the_bits_of_ddp(variant, two, same):
    assert same.bits(two.weights(f"{variant}-fsdp"), two.weights(f"{variant}-ddp"))


@pytest.mark.parametrize("variant", [*ACCELERATED, "together"])
def test_accelerate_comes_to_the_bits_of_ddp(variant, two, same):
    assert same.bits(two.weights(f"{variant}-accelerate"), two.weights(f"{variant}-ddp"))


@pytest.mark.parametrize("way", ["from-accelerate-to-ddp", "from-fsdp-to-accelerate"])
def test_a_run_resumes_under_accelerate_and_after_it(way, two, jobs_of, same):
    first, second = jobs_of[way]
    assert [two.told(first, rank)["signal"] for rank in (0, 1)] == [signal.SIGTERM, signal.SIGTERM]
    assert "finished" in two.told(second)
    assert same.bits(two.weights(way), two.weights("dropout-ddp"))


def test_early_exit_of_teachers_and_attention_of_selected_layers_work_with_every_backend(two, one, same):
    for output in ("layers-fsdp", "layers-divided"):
        assert same.bits(two.weights(output), two.weights("layers-ddp"))
    doubled = [f"stages.{name}.training.batch_size=4" for name in ("cut", "chosen")]
    alone = one("two/layers-alone", *doubled, text=LAYERS.replace("../", ""))
    assert same.close(two.weights("layers-ddp"), alone.weights("two/layers-alone"), 1e-6)


def test_processes_fit_one_temperature_to_all_validation_rows(two, one):
    doubled = [f"stages.{name}.training.batch_size=4" for name in ("cut", "chosen")]
    alone = one("two/layers-alone", *doubled, text=LAYERS.replace("../", ""))
    known = temperature(alone.events("two/layers-alone"))
    for output in ("layers-ddp", "layers-fsdp", "layers-divided"):
        assert temperature(two.events(output)) == pytest.approx(known, rel=1e-3)


def temperature(events):
    """That of the last stage."""
    (fitted,) = [
        event.calibration["reviews"] for event in events if isinstance(event, StageFinished) and event.calibration
    ]
    assert fitted["rows"] == 12
    return fitted["values"]["temperature"]


def test_a_large_head_comes_to_the_weights_of_one_process(two, one, same, monkeypatch):
    sizes, mean = [], HeadLogits.mean
    monkeypatch.setattr(HeadLogits, "mean", lambda logits, *of: sizes.append(logits.classes) or mean(logits, *of))
    alone = one("two/words-alone", DOUBLED, text=WORDS.replace("../", ""))
    assert set(sizes) == {LEAST + 8}, "the head is left to the losses"
    for backend in ("ddp", "fsdp"):
        assert same.close(two.weights(f"words-{backend}"), alone.weights("two/words-alone"), 1e-6)


def test_divided_teachers_teach_the_same(two, one, same):
    alone = one("undivided", *EVALUATED, ACCIDENT, DOUBLED)
    assert same.close(two.weights("divided"), alone.weights("undivided"), 1e-12)
    doubled = [f"stages.{name}.training.batch_size=4" for name in ("first", "second")]
    assert same.close(two.weights("divided-stages"), one("stages", *doubled, text=STAGES).weights("stages"), 1e-12)
    runs = (two.folder.parent / "undivided", two.folder / "divided")
    first, second = (json.loads((run / "toy" / "table.json").read_text()) for run in runs)
    assert [row["metrics"] for row in second] == [pytest.approx(row["metrics"]) for row in first]


@pytest.mark.parametrize(
    ("output", "alone"), [("evaluated-ddp", "evaluated"), ("evaluated-fsdp", "evaluated"), ("divided", "undivided")]
)
def test_processes_look_at_a_stage_together_and_see_what_one_sees(output, alone, two, one):
    sets = [*EVALUATED, DOUBLED] if alone == "evaluated" else [*EVALUATED, ACCIDENT, DOUBLED]
    mine, theirs = (
        [each for each in events if isinstance(each, Preflight)]
        for events in (one(alone, *sets).events(alone), two.events(output))
    )
    assert len(mine) == len(theirs) == 1
    assert mine[0].tasks
    assert theirs[0].tasks == mine[0].tasks


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_every_row_counts_once_in_the_log(backend, two, one):
    alone, there = one("evaluated", *EVALUATED, DOUBLED).events("evaluated"), two.events(f"evaluated-{backend}")
    for kind, numbers in ((StepDone, ("loss", "grad_norm")), (Evaluated, ("metrics",))):
        mine, theirs = ([each for each in events if isinstance(each, kind)] for events in (alone, there))
        assert len(mine) == len(theirs) > 0
        for first, second in zip(mine, theirs, strict=True):
            for name in numbers:
                assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-9)
            if kind is StepDone:
                assert (second.rows, second.tokens) == (first.rows, first.tokens)
                assert second.micro_losses == pytest.approx(first.micro_losses, rel=1e-9)
    runs = (two.folder.parent / "evaluated", two.folder / f"evaluated-{backend}")
    tables = [json.loads((run / "toy" / "table.json").read_text()) for run in runs]
    for first, second in zip(*tables, strict=True):
        assert (second["metrics"], second["agreement"]) == (pytest.approx(first["metrics"]), first["agreement"])


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_several_tasks_come_to_the_weights_of_the_doubled_batch(backend, two, one, same):
    alone = one("together", DOUBLED, text=TOGETHER)
    assert same.close(two.weights(f"together-{backend}"), alone.weights("together"), 1e-12)
    steps = [
        [event for event in run if isinstance(event, StepDone)]
        for run in (two.events(f"together-{backend}"), alone.events("together"))
    ]
    for here, there in zip(*steps, strict=True):
        assert (here.loss, here.terms) == (pytest.approx(there.loss), pytest.approx(there.terms))


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_processes_may_have_micro_batches_of_unlike_tasks(backend, two, one, same):
    """One micro-batch a process: in most steps one process has the one task, and the other the other."""
    alone = one("mixed", f"{TRAINING}.accumulate=2", ACCIDENT, text=TOGETHER)
    assert same.close(two.weights(f"mixed-{backend}"), alone.weights("mixed"), 1e-12)


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_one_process_resumes_the_tasks_of_two(backend, two, one, made, same):
    made(f"two/mixed-stopped-{backend}", f"{TRAINING}.accumulate=1", ACCIDENT, text=TOGETHER).run()
    alone = one("mixed", f"{TRAINING}.accumulate=2", ACCIDENT, text=TOGETHER)
    assert same.close(two.weights(f"mixed-stopped-{backend}"), alone.weights("mixed"), 1e-12)


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_a_task_among_several_may_have_a_loss_with_parameters_over_whole_steps(backend, two, one, same):
    alone = one("whole", DOUBLED, text=WHOLE)
    assert same.close(two.weights(f"whole-{backend}"), alone.weights("whole"), 1e-10)
    terms = {name for step in two.events(f"whole-{backend}") if isinstance(step, StepDone) for name in step.terms}
    assert "rows.hidden.learnt_alike.3-2" in terms


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_a_signal_to_one_stops_both_and_the_other_backend_resumes(backend, two, jobs_of, same):
    first, second = jobs_of[f"stopped-{backend}"]
    assert [two.told(first, rank)["signal"] for rank in (0, 1)] == [signal.SIGTERM, signal.SIGTERM]
    assert "finished" in two.told(second)
    assert same.bits(two.weights(f"stopped-{backend}"), two.weights("dropout-ddp"))
    events = two.events(f"stopped-{backend}")
    assert [event.resumed_at for event in events if isinstance(event, RunStarted)] == [None, 3]
    saved = {"event": "CheckpointSaved", "step": 3}
    told = [each for each in story(events) if not saved.items() <= each.items()]
    assert told == [each for each in story(two.events("dropout-ddp")) if not saved.items() <= each.items()]


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_one_process_resumes_a_run_of_two(backend, two, one, made, same):
    result = made(f"two/halved-{backend}", ACCIDENT).run()
    assert not result.already_finished
    assert same.close(two.weights(f"halved-{backend}"), one("constant", ACCIDENT, DOUBLED).weights("constant"), 1e-12)
    notes = [event.text for event in two.events(f"halved-{backend}") if isinstance(event, Note)]
    assert any("was started with 2 processes and resumes with 1" in note for note in notes)


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_two_processes_go_on_where_one_has_stopped(backend, two, one, same):
    events = two.events(f"grown-{backend}")
    assert [event.resumed_at for event in events if isinstance(event, RunStarted)] == [None, 2]
    assert same.close(two.weights(f"grown-{backend}"), one("alone").weights("alone"), 1e-12)


@pytest.mark.parametrize("backend", ["ddp", "fsdp"])
def test_a_loss_that_is_infinite_on_one_stops_both(backend, two, jobs_of):
    (job,) = jobs_of[f"infinite-{backend}"]
    for rank in (0, 1):
        ((code, message, *notes),) = two.told(job, rank)["errors"]
        assert (code, message) == ("KD501", "the term `soft_labels` is not finite in step 2 of stage `distil`")
        assert "it comes from the rows of process 1" in notes


def test_a_strategy_that_works_on_modules_is_refused_under_fsdp_alone(two, jobs_of):
    assert "finished" in two.told(*jobs_of["peeking-ddp"])
    ((code, message),) = two.told(*jobs_of["peeking-fsdp"])["errors"]
    assert code == "KD513"
    assert "the strategy `peeking` uses the models between their forward passes" in message


def test_the_other_names_the_one_that_was_killed(started):
    ranks = started["one"]
    assert ranks.codes == [3, -signal.SIGKILL]
    ((code, message, *_),) = ranks.told(0)["errors"]
    assert code == "KD514"
    assert re.fullmatch(
        r"process 1 of 2 \(pid \d+ on \S+, last heartbeat in step \d\) has ended, or does not respond", message
    )
    (failed,) = (event for event in ranks.events("run") if isinstance(event, RunFailed))
    assert failed.message == message


def test_the_other_process_reports_the_reason_of_a_failure(started):
    ranks = started["error"]
    ((code, message, *_),) = ranks.told(0, rank=1)["errors"]
    assert (code, message) == ("KD506", "learning-rate schedule `accident` raised ValueError: no more")
    ((code, message, *_),) = ranks.told(0, rank=0)["errors"]
    assert code == "KD514"
    assert message.startswith("process 1 of 2 (pid ")
    assert message.endswith(
        "has failed: stages.distil.training.lr_schedule.accident: KD506 learning-rate schedule `accident` raised ValueError: no more"
    )


def test_after_accidents_the_run_ends_in_the_weights_of_one_that_was_left_alone(started, two, same):
    assert started["all"].codes == [-signal.SIGKILL, -signal.SIGKILL]
    assert started["again"].codes == [0, 0], started["again"].errors
    for name in ACCIDENTS:
        assert same.bits(started["again"].weights(name), two.weights("dropout-ddp"))
        assert [event.step for event in started["again"].events(name) if isinstance(event, StepDone)] == [1, 2, 3, 4]


@pytest.mark.slow
def test_torchrun_runs_the_command_and_one_process_talks(tmp_path):
    """The scheduler's signal reaches one process first: both save and end as they should, and there is one message."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "kdspec", "run", "spec.yaml"]
    command += [
        "--device",
        "cpu",
        "--backend",
        "fsdp",
        "--plugin",
        str(HERE.parent / "shared" / "toys.py"),
        "--plugin",
        str(PLUGIN),
    ]
    command += ["--set", ACCIDENT]
    at = json.dumps({"rank": 1, "step": 1, "signal": signal.SIGTERM})
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "AT": at}, capture_output=True, text=True, timeout=600, check=False
    )
    saved = "the last checkpoint is that of step 2 of stage `distil`: the same command resumes from there, in runs/toy"
    assert run.stderr.count(f"stopped; {saved}:") == 1
    assert "  torchrun --nproc-per-node=2 -m kdspec run spec.yaml --set" in run.stderr
    assert set(re.findall(r"exitcode *: (-?\d+)", run.stderr)) == {"143"}
    assert (tmp_path / "runs/toy/checkpoints/distil/step-00000002/manifest.json").is_file()
