"""Folders of runs as they lie on a disk, without the engine: for what compares them."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from kdspec.engine.run.event_log import EventLog
from kdspec.events import (
    CacheState,
    Evaluated,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
)

SPEC = {
    "kdspec": 1,
    "name": "a",
    "seed": 1,
    "models": {"student": {"toy": {"width": 4}}},
    "stages": {
        "distil": {"distiller": {"general": {"soft_labels": {"temperature": 2.0, "weight": 1.0}, "matches": []}}}
    },
}
STEPS = 4


@pytest.fixture
def folder_of_run(tmp_path):
    """Makes `runs/<name>`: a run of one stage with a temperature, a seed and an accuracy."""

    def make(
        name, *, temperature=2.0, seed=1, accuracy=0.8, test=0.7, ends="finished", rows="ab" * 32, versions=None,
        steps=STEPS, changes=(), metric="accuracy", lower=False, within="runs",
    ):  # fmt: skip
        folder = tmp_path / within / name
        folder.mkdir(parents=True)
        spec = copy.deepcopy(SPEC)
        spec |= {"name": name, "seed": seed}
        spec["stages"]["distil"]["distiller"]["general"]["soft_labels"]["temperature"] = temperature
        for key, value in dict(changes).items():
            spec["models"][key] = value
        (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
        log = EventLog(folder / "events.jsonl")
        log.append(RunStarted(name, ("distil",), versions or {"kdspec": "0.1.0"}, seed, None))
        log.append(StageStarted("distil", STEPS, 1.0, 16, 0))
        for step in range(1, steps + 1):
            terms = {"soft_labels": 1.0 / step, "hard_labels": 2.0 / step}
            log.append(StepDone("distil", step, 0, seed / step, terms, {}, {}, 1.0, 0.1, 4, 9, ()))
        log.append(
            Evaluated("distil", steps, "validation", "student", {metric: accuracy}, True, metric, lower_is_better=lower)
        )
        log.append(CacheState("distil", steps, "teacher", True, "", "cache", ("logits",), 16, 8, 128, 12, 4))
        reads = [{"kind": "rows", "at": ["tasks", "t"], "name": "validation", "digest": rows, "rows": 9}]
        identity = {"format": 1, "stages": {"distil": {"spec": "s", "reads": reads}}, "stamps": {}}
        (folder / "identity.json").write_text(json.dumps(identity))
        if ends == "failed":
            log.append(RunFailed("KD501", "the loss is not finite"))
        if ends != "finished":
            return folder
        log.append(StageFinished("distil", steps, 10.0 * seed, steps, {metric: accuracy}, "models/student"))
        log.append(RunFinished(12.0, {}))
        row = {
            "model": "student", "role": "student", "task": "t", "split": "test", "metrics": {metric: test, "ece": 0.1},
            "agreement": 0.9, "agrees_on": "rows", "parameters": 4_000, "bytes": 17_500, "latency_ms": 3.2,
            "lower_is_better": [metric] if lower else [], "selected_by": metric, "rows": 50, "labelled": 50,
        }  # fmt: skip
        teacher = row | {"model": "teacher", "role": "teacher"}
        (folder / "table.json").write_text(json.dumps([teacher, row]))
        return folder

    return make
