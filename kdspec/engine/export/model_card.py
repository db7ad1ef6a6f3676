"""The model card of a student: what it is, how it is used, how good it is, and the spec that made it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.spec.file_fields import local_folder
from kdspec.api.spec.model_folders import read_json
from kdspec.data.confidence import is_of_confidence, shown
from kdspec.data.embedding.repeated_metrics import repeated
from kdspec.engine.evaluation.result_row import ResultRow, measured_beside
from kdspec.engine.export.model_folder import versions
from kdspec.engine.identity.reading import ReadContent
from kdspec.engine.run.durable_files import atomic_write
from kdspec.hf.saved.usage import library, pipeline_tag, usage
from kdspec.planning.resolved import as_yaml
from kdspec.source.variables import Written

_MANY = 50


def write_card(
    folder: Path,
    plan: Plan,
    stage: StagePlan,
    metrics: Mapping[str, float],
    table: Sequence[ResultRow] = (),
    reads: Sequence[ReadContent] = (),
    calibration: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Write `README.md` of a model folder.

    Args:
        folder: the model's.
        plan: of the run.
        stage: the stage that trained it.
        metrics: of the validation rows.
        table: the comparison of the run's models, once it is known.
        reads: what the stage has read, by digest.
        calibration: of the stage, by task, as its last event has it.
    """
    teachers = ", ".join(f"`{name}`" for name in stage.teachers)
    variables = plan.source.variables
    hide = variables.hide
    how = f"distilled from {teachers}" if teachers else "trained on labels"
    lines = [
        "---",
        as_yaml(variables.hide_in(_metadata(folder, plan, stage, table))).rstrip(),
        "---",
        "",
        f"# {hide(plan.spec.name)}: {stage.student}",
        "",
        f"Model `{stage.student}`, {how} by the strategy `{stage.distiller.name}` in stage `{stage.name}`.",
        "",
        *_folders(folder, stage),
        *map(hide, _labels(folder)),
        *_usage(folder),
        *_compared(table),
        *(() if table else _validated(metrics)),
        *_calibrated(calibration),
        *_made_from(reads),
        "## The spec, as written",
        "",
        "```yaml",
        as_yaml(_plain(variables.as_written(plan.source.data))).rstrip(),
        "```",
        "",
        "## Made with",
        "",
        *(f"- {name} {version}" for name, version in versions().items()),
        f"- seed {seed.written if (seed := variables.places.get(('seed',))) else plan.spec.seed}",
        "",
    ]
    atomic_write(folder / "README.md", "\n".join(lines))


def _metadata(folder: Path, plan: Plan, stage: StagePlan, table: Sequence[ResultRow]) -> dict[str, Any]:
    """The metadata that the hub reads."""
    found: dict[str, Any] = {}
    if any("model_type" in read_json(file) for file in folder.rglob("config.json")):
        found["library_name"] = library(folder)
    if (tag := pipeline_tag(folder)) is not None:
        found["pipeline_tag"] = tag
    if bases := list(dict.fromkeys(_bases(plan, stage))):
        found["base_model"] = bases if len(bases) > 1 else bases[0]
    found["tags"] = ["knowledge-distillation", "kdspec"]
    rows = [row for row in table if row.model == stage.student and row.metrics]
    if tag is not None and (index := model_index(plan.spec.name, rows, tag)):
        found["model-index"] = index
    return found


def model_index(name: str, rows: Sequence[ResultRow], tag: str) -> list[dict[str, Any]]:
    """The `model-index` of a card: the metrics of a model, which the hub shows beside it; empty without rows.

    Args:
        name: of the run.
        rows: of the model in the run's table.
        tag: what the hub calls its task.
    """
    results = [_result(row, tag) for row in rows]
    return [{"name": name, "results": results}] if results else []


def _result(row: ResultRow, tag: str) -> dict[str, Any]:
    metrics = [{"type": name, "value": round(value, 4)} for name, value in row.metrics.items()]
    dataset = {"name": row.task, "type": row.task, "split": row.split}
    return {"task": {"type": tag}, "dataset": dataset, "metrics": metrics}


def _bases(plan: Plan, stage: StagePlan) -> Iterator[str]:
    """Names on the hub that the student, its teachers, and the models that these are like come from."""
    waiting, seen = [stage.student, *stage.teachers], set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        model = plan.spec.models[name]
        waiting += model.uses()
        path = model.model_dump().get("path")
        if isinstance(path, str) and local_folder(path, plan.source.folder) is None:
            yield path


def _folders(folder: Path, stage: StagePlan) -> list[str]:
    tasks = [task for task in stage.tasks if (folder / task).is_dir()]
    if not tasks:
        return []
    entries = [f"- `{task}/`: the model with the head for task `{task}`, and its tokenizer" for task in tasks]
    return [
        "One encoder was trained on several tasks; each folder has it with one head, for `from_pretrained`:",
        "",
        *entries,
        "",
    ]


def _labels(folder: Path) -> list[str]:
    """The classes in the order of the logits."""
    labels = read_json(folder / "config.json").get("id2label")
    if not isinstance(labels, dict) or not labels or set(labels.values()) == {f"LABEL_{key}" for key in labels}:
        return []
    shown = [f"`{name}`" for name in list(labels.values())[:_MANY]]
    more = f" and {len(labels) - _MANY} more" if len(labels) > _MANY else ""
    return ["## Labels", "", ", ".join(shown) + more, ""]


def _usage(folder: Path) -> list[str]:
    code = usage(folder, ".")
    return [] if code is None else ["## Usage", "", "In the folder of this file:", "", "```python", code, "```", ""]


def _compared(table: Sequence[ResultRow]) -> Iterator[str]:
    """The models of the run on the rows that none of them has trained on."""
    for split, task in dict.fromkeys((row.split, row.task) for row in table if row.metrics):
        rows = [row for row in table if (row.split, row.task) == (split, task)]
        asked = any(row.calibration or is_of_confidence(row.selected_by) for row in rows)
        twice = repeated((row.metrics for row in rows), {row.selected_by for row in rows})
        names = shown(dict.fromkeys(name for row in rows for name in row.metrics if name not in twice), asked=asked)
        yield f"## Results on the {split} rows" + (f" of `{task}`" if len({row.task for row in table}) > 1 else "")
        yield ""
        if (compared := next((row for row in rows if row.beside), None)) is not None:
            yield f"No row has a label: {measured_beside(shown(compared.metrics, asked=asked), compared.beside)}."
            yield ""
        yield f"| model | {' | '.join(names)} | parameters |"
        yield f"| --- |{' --- |' * (len(names) + 1)}"
        for row in rows:
            size = "-" if row.parameters is None else f"{row.parameters:,}"
            former = {} if row.calibration is None else row.calibration.before
            for what, metrics in ((row.role, row.metrics), (f"{row.role}, not calibrated", former)):
                values = [f"{metrics[name]:.4f}" if name in metrics else "" for name in names]
                if metrics:
                    yield f"| {row.model} ({what}) | {' | '.join(values)} | {size} |"
        yield ""


def _validated(metrics: Mapping[str, float]) -> list[str]:
    if not metrics:
        return []
    rows = [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    return ["## Validation", "", "| metric | value |", "| --- | --- |", *rows, ""]


def _calibrated(calibration: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What was fitted of the confidence, and the metrics of the validation rows before and after it."""
    for task, found in calibration.items():
        yield "## Calibration" + (f" of `{task}`" if len(calibration) > 1 else "")
        yield ""
        values = found["values"]
        what = (
            f"a temperature of {values['temperature']:.4g}"
            if "temperature" in values
            else "a scale and a bias of each class"
        )
        yield f"Its confidence was fitted to {found['rows']:,} validation rows by {what}. The weights have it already: `kdspec_calibration` in `config.json` is only a record."
        yield ""
        yield "| metric of the validation rows | before | after |"
        yield "| --- | --- | --- |"
        for name, value in found["after"].items():
            if name in found["before"]:
                yield f"| {name} | {found['before'][name]:.4f} | {value:.4f} |"
        yield ""


def _made_from(reads: Sequence[ReadContent]) -> list[str]:
    """Rows, weights and the rest that the student is made from, with their checksums."""
    if not reads:
        return []
    rows = [
        f"| {_cell(read.words)} | {_cell(read.place)} | {'' if read.rows is None else f'{read.rows:,}'} | {_cell(read.digest)} |"
        for read in reads
    ]
    head = ["| content | place in the spec | rows | SHA-256, commit or version |", "| --- | --- | --- | --- |"]
    return ["## Made from", "", *head, *rows, ""]


def _cell(text: str) -> str:
    """A text in a table of Markdown, without markup."""
    return " ".join(re.sub(r"[`|<>\\]", " ", text).split())


def _plain(data: Any) -> Any:
    """Plain data without the types that remember places."""
    if isinstance(data, Mapping):
        return {str(key) if isinstance(key, str) else key: _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    # A literal `${` is written as a spec has it.
    return str(data).replace("${", "$${") if isinstance(data, str) and not isinstance(data, Written) else data
