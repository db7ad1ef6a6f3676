"""For every task and language a spec with real data, which runs from end to end on its first rows with the real model.

Where `specs/assets` has not been fetched, small models and made-up rows stand in.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import yaml
from sentence_transformers import SentenceTransformer

from kdspec.api.kinds.kinds import Task
from kdspec.engine.run.session import Session
from kdspec.planning.prepare import prepare
from kdspec.registry.plugins import load as load_plugins
from kdspec.registry.registry import load_registry
from kdspec.report import report
from kdspec.source.extends import load

SPECS = Path(__file__).parent.parent.parent / "specs"
FILES = {
    ("sequence_classification", "English"): "tasks/english_classification.yaml",
    ("sequence_classification", "Chinese"): "tasks/chinese_classification.yaml",
    ("token_classification", "English"): "tasks/english_names.yaml",
    ("token_classification", "Chinese"): "tasks/chinese_names.yaml",
    ("question_answering", "English"): "tasks/english_questions.yaml",
    ("question_answering", "Chinese"): "tasks/chinese_questions.yaml",
    ("multi_label", "English"): "tasks/english_kinds.yaml",
    ("multi_label", "Chinese"): "tasks/chinese_kinds.yaml",
    ("regression", "English"): "tasks/english_scores.yaml",  # of Chinese there is no such data
    ("masked_lm", "English"): "basics/masked_lm.yaml",
    ("masked_lm", "Chinese"): "tasks/chinese_masked_lm.yaml",
    ("embedding", "English"): "embeddings/layer_cut.yaml",
    ("embedding", "Chinese"): "embeddings/multilingual_student.yaml",
    ("ranking", "English"): "embeddings/search.yaml",
}
SEVERAL = (
    *("tasks/english_two_tasks.yaml", "tasks/english_three_teachers.yaml"),
    *("embeddings/small_student.yaml", "embeddings/static_student.yaml", "embeddings/reranker.yaml"),
)


@pytest.fixture(scope="module")
def components():
    return load_registry(installed=False)


def test_each_task_on_texts_has_a_spec_with_real_data(components):
    tasks = set(components.names(Task.kind))
    assert tasks - {"tensors"} == {task for task, _ in FILES}
    for (task, _), file in FILES.items():
        described = load(SPECS / file, environ={}).data["tasks"]
        assert [list(one) for one in described.values()] == [[task]]
        assert "assets/" in json.dumps(described)


@pytest.mark.parametrize("folder", ["tasks", "embeddings"])
def test_the_folder_of_tasks_has_no_other_specs(folder):
    files = {file for file in (*FILES.values(), *SEVERAL) if file.startswith(f"{folder}/")}
    assert {f"{folder}/{path.name}" for path in (SPECS / folder).glob("*.yaml")} == files


@pytest.mark.slow
@pytest.mark.parametrize("file", [*FILES.values(), *SEVERAL])
def test_a_task_runs_from_end_to_end_on_a_slice_with_the_real_model(file, library, components, tmp_path):
    stages = load(library / file, environ={}).data["stages"]
    sets = [
        f"stages.{stage}.training.{value}" for stage in stages for value in ("epochs=null", "steps=2", "batch_size=4")
    ]
    made = prepare(load(library / file, sets, environ={}), components)
    assert (made.findings, made.misshapen) == ((), ())
    result = Session(made.plan, components, output=tmp_path, device="cpu").run()

    assert [stage.step for stage in result.stages] == [2] * len(stages)
    assert {row.role for row in result.table} >= {"teacher", "student"}
    for row in result.table:
        task = made.spec.tasks[row.task]
        # A teacher that reads pairs of texts cannot search all documents.
        beyond = () if row.role == "student" else task.search_metrics()
        metrics = {name for name in task.metric_names() or () if name not in beyond}
        # The metrics of an only set are known without its name too.
        metrics = {name for name in metrics if not any(other.endswith(f".{name}") for other in metrics)}
        assert row.metrics.keys() >= metrics != set()
        assert all(math.isfinite(value) for value in row.metrics.values())
        assert row.split in ("test", "validation")
    assert (result.student / "README.md").is_file()
    loads_without_kdspec(result.student, list(made.spec.tasks))
    page = report.html(report.read(result.folder), load_plugins(installed=False))
    assert all(row.model in page for row in result.table)


@pytest.fixture
def benchmark(monkeypatch):
    path = SPECS.parent / "benchmarks" / "tasks.py"
    described = importlib.util.spec_from_file_location("tasks_benchmark", path)
    tasks = importlib.util.module_from_spec(described)
    monkeypatch.setitem(sys.modules, described.name, tasks)  # where its dataclasses look for it
    described.loader.exec_module(tasks)
    return tasks


def test_the_figures_of_the_tasks_are_the_means_of_their_seeds(benchmark):
    written = (SPECS.parent / "benchmarks" / "tasks.md").read_text(encoding="utf-8")

    made = "\n".join(benchmark.page(benchmark.recorded(written), "bf16"))

    until = "## How to repeat it"  # versions follow
    assert made.partition(until)[0] == written.partition(until)[0]
    assert {row.spec for row in benchmark.ROWS} <= {path.stem for path in (SPECS / "tasks").glob("*.yaml")}


def test_the_stages_of_a_benchmark_stand_in_the_order_of_its_spec(benchmark, tmp_path):
    """And a later seed takes over the teachers of the first one, with what comes after them."""
    for row in benchmark.ROWS:
        stages = list(yaml.safe_load((SPECS / "tasks" / f"{row.spec}.yaml").read_text(encoding="utf-8"))["stages"])
        first, second = (
            list(yaml.safe_load(benchmark.written(row, seed, tmp_path, "bf16"))["stages"]) for seed in (1, 2)
        )
        assert first == stages
        assert second == stages[-2:]


def loads_without_kdspec(student, tasks):
    import transformers

    if (student / "modules.json").is_file():
        vectors = SentenceTransformer(str(student), device="cpu").encode(["文 text", "text"])
        assert vectors.shape[0] == 2
        assert (abs(vectors) < math.inf).all()
        return
    for folder in [student] if len(tasks) == 1 else [student / task for task in tasks]:
        (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
        model = getattr(transformers, architecture).from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert all(value.isfinite().all() for value in model(**tokenizer("文 text", return_tensors="pt")).values())
