"""The text of a new spec: short, complete, with comments on the settings that users change first."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kdspec.api.kinds.kinds import Task
from kdspec.api.kinds.model import ModelFacts
from kdspec.source.scalars import resolve

MODELINE = "# yaml-language-server: $schema="
SCHEMA = "kdspec.schema.json"

_PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./~@+-]*")
_SENTENCES = (
    ("a quiet film that stays with you", "good"),
    ("two hours that I will not get back", "bad"),
    ("the cast is wonderful", "good"),
    ("dull from the first scene on", "bad"),
    ("I laughed more than once", "good"),
    ("the plot makes no sense", "bad"),
    ("go and see it", "good"),
    ("the sequel nobody needed", "bad"),
)

_SOFT_LABELS = MappingProxyType(
    {
        None: "{loss: kl, temperature: 4, weight: 1}",
        "classes": "{loss: kl, temperature: 4, weight: 1}",
        "labels": "{loss: bce, temperature: 2, weight: 1}",
        "numbers": "{loss: mse, temperature: 1, weight: 1}",
    }
)
"""By the kind of the task's logits."""


@dataclass(frozen=True)
class TemplateOrigin:
    """Where a model comes from: `path`, or with `layers` the teacher's configuration with fewer layers."""

    path: str | None = None
    layers: int | None = None
    facts: ModelFacts = field(default_factory=ModelFacts)
    has_head: bool = False
    """Whether it was saved with a trained task head."""


@dataclass(frozen=True)
class DataChoice:
    """A data file, as the spec names it, and its columns if they are known."""

    file: str
    columns: Sequence[str] = ()
    written: str | None = None
    """The data set as YAML, in place of a file; further lines are settings of the task."""


def draft(name: str, task: type[Task], data: DataChoice, teacher: TemplateOrigin, student: TemplateOrigin) -> str:
    """A spec that distils the teacher into the student. A teacher without a task head is fine-tuned first."""
    lines = [
        f"{MODELINE}{SCHEMA}",
        "kdspec: 1",
        f"name: {scalar(name)} # the output goes to runs/{name}/",
        "seed: 42",
        "",
        "tasks:",
        "  main:",
        *task_lines(task, data),
        "",
        "models:",
        "  teacher:",
        f"    transformers: {{path: {scalar(teacher.path or '')}}}",
        "  student:",
        *student_lines(teacher, student),
        "",
        "stages:",
        *(fine_tuning_lines(teacher) if task.head is not None else ()),
        *_distillation(task, teacher, student),
    ]
    return "\n".join(lines) + "\n"


def example_rows(task: type[Task]) -> str:
    """A CSV file with the columns of the draft, as an example to run the spec on."""
    columns = _columns(task) or ["x"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for sentence, label in _SENTENCES:
        writer.writerow([{"text": sentence, "label": label}.get(column, "0") for column in columns])
    return out.getvalue()


def scalar(text: str) -> str:
    """A string as YAML, quoted where it would parse as another type."""
    return text if _PLAIN.fullmatch(text) and resolve(text) == text else json.dumps(text, ensure_ascii=False)


def task_lines(task: type[Task], data: DataChoice) -> Iterator[str]:
    """The task, with a comment on each of its columns."""
    schema = task.model_json_schema()
    yield f"    {task.name}: # {_sentence(task.__doc__ or '')}"
    yield f"      data: {_data(data)}"
    for column in _columns(task):
        described = _sentence(schema["properties"][column].get("description", ""))
        yield f"      {column}: {scalar(_guess(column, data))} # {described}"
    optional = [f"`{name}`" for name in schema["properties"] if name not in schema.get("required", ())]
    if optional:
        yield f"      # also: {', '.join(optional)}; see `kdspec show task {task.name}`"


def _columns(task: type[Task]) -> list[str]:
    """The required parameters of a task other than its data: the names of columns."""
    return [name for name in task.model_json_schema().get("required", ()) if name != "data"]


def _guess(column: str, data: DataChoice) -> str:
    """The column of the file with this name, or else the one at its usual position."""
    if not data.columns or column in data.columns:
        return column
    return data.columns[-1 if column.startswith("label") else 0]


def _data(data: DataChoice) -> str:
    if data.written is not None:
        return data.written
    suffix = os.path.splitext(data.file)[1].lower()  # noqa: PTH122 - a text of the spec, not a path from here
    file = scalar(data.file)
    if suffix == ".tsv":
        return f'{{csv: {{train: {file}, delimiter: "\\t", quoting: false}}}} # and `validation`, `test`, `unlabelled`'
    kind = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}.get(suffix, "csv")
    return f"{{{kind}: {{train: {file}}}}} # and `validation`, `test`, `unlabelled`"


def student_lines(teacher: TemplateOrigin, student: TemplateOrigin) -> Iterator[str]:
    """The parameters of the student's model; copies layers of the teacher if the teacher's number of layers is known."""
    if student.path is not None:
        yield f"    transformers: {{path: {scalar(student.path)}}}"
        return
    assert student.layers is not None, "a student has a path or a number of layers"
    yield "    transformers:"
    yield "      like: teacher # its configuration and tokenizer, with these changes"
    yield f"      config: {{num_hidden_layers: {student.layers}}}"
    if teacher.facts.layers is not None:
        last, steps = teacher.facts.layers - 1, max(student.layers - 1, 1)
        layers = [round(i * last / steps) for i in range(student.layers)]
        yield f"      initialize: {{layers: {layers}}} # copy these layers of the teacher, counted from 0"


def fine_tuning_lines(
    teacher: TemplateOrigin, name: str = "teacher", stage: str = "fine_tune", task: str | None = None
) -> Iterator[str]:
    """The stage that fine-tunes a teacher (`task` names one of several), unless the teacher has a trained head."""
    if teacher.has_head:
        return
    yield f"  {scalar(stage)}: # fine-tunes the teacher; remove this stage if it is fine-tuned already"
    of_task = "" if task is None else f", task: {scalar(task)}"
    yield f"    distiller: {{supervised: {{model: {scalar(name)}{of_task}}}}}"
    yield "    training: {epochs: 3, batch_size: 32, optimizer: {adamw: {lr: 5.0e-5}}}"
    yield ""


def _distillation(task: type[Task], teacher: TemplateOrigin, student: TemplateOrigin) -> Iterator[str]:
    yield "  distil:"
    yield "    distiller:"
    yield "      general:"
    yield "        teacher: teacher"
    yield "        student: student"
    yield f"        soft_labels: {_SOFT_LABELS[task.logits]} # `kdspec list logit_loss` has other losses"
    if task.head is not None:
        yield "        hard_labels: {weight: 0} # more than 0: train on the labels too"
    depth = student.layers if student.path is None else student.facts.layers
    known = teacher.facts.layers is not None and depth is not None and depth <= teacher.facts.layers
    mark = "" if known else "# "
    yield f"        {mark}matches: # match hidden layers too; `kdspec list feature_loss` has other losses"
    yield f"        {mark}  - {{feature: hidden, loss: hidden_mse, layers: uniform}}"
    yield "    training:"
    yield "      epochs: 10"
    yield "      batch_size: 32"
    yield "      optimizer: {adamw: {lr: 1.0e-4}}"
    yield "      lr_schedule: {linear: {warmup: 0.1}}"


def _sentence(text: Any) -> str:
    """The first sentence, on one line."""
    line = " ".join(str(text).split())
    end = re.search(r"[.:](?= [A-Z`]|$)", line)
    return (line[: end.start()] if end else line).strip()
