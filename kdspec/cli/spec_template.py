"""The text of a new spec: short, complete, with comments on the settings that users change first."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
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

_TAGGED = """\
Maria B-PER
Lopez I-PER
lives O
in O
Lisbon B-LOC
. O

The O
office O
in O
New B-LOC
York I-LOC
is O
closed O
. O

Jan B-PER
moved O
to O
Oslo B-LOC
. O

Nobody O
knows O
Ana B-PER
Silva I-PER
there O
. O
"""
_ANSWERED = (
    ("The library opens at nine and closes at six.", "When does the library open?", "nine"),
    ("Ana Silva painted the hall in 1982.", "Who painted the hall?", "Ana Silva"),
    ("The river flows through three towns.", "How many towns does the river pass?", "three"),
    ("The tower was built of red brick.", "What was the tower built of?", "red brick"),
)

_ASKED = (
    ("how do I reset my password?", "Choose `forgotten` on the first page, and a link comes by mail."),
    ("when is the shop open?", "We are open from nine to six, on Saturdays until two."),
    ("can I return a gift?", "Gifts may be sent back within thirty days, with the receipt."),
    ("do you deliver abroad?", "We deliver to all countries of the Union."),
)

_SOFT_LABELS = MappingProxyType(
    {
        None: "{loss: kl, temperature: 4, weight: 1}",
        "classes": "{loss: kl, temperature: 4, weight: 1}",
        "labels": "{loss: bce, temperature: 2, weight: 1}",
        "numbers": "{loss: mse, temperature: 1, weight: 1}",
        "scores": "{loss: kl, temperature: 1, weight: 1}",
    }
)
"""By the kind of the task's logits."""

_READS = MappingProxyType({"ranking": ("pair", "each")})
"""For a task whose models read texts together or one by one, how teacher and student do it."""


@dataclass(frozen=True)
class TemplateOrigin:
    """Where a model comes from: `path`, or with `layers` the teacher's configuration with fewer layers."""

    path: str | None = None
    layers: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of a model on the hub, where no file says it yet."""
    facts: ModelFacts = field(default_factory=ModelFacts)
    has_head: bool = False
    """Whether it was saved with a trained task head."""


@dataclass(frozen=True)
class DataChoice:
    """The rows of a task."""

    written: str
    """The data set as YAML, and a comment."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the task that are known: columns, and what belongs to them. As YAML."""
    labelled: bool = True
    """Whether the rows have labels; without, the teacher names the classes."""


def draft(
    name: str,
    task: type[Task],
    data: DataChoice,
    teacher: TemplateOrigin,
    student: TemplateOrigin,
    recipe: Mapping[str, str] | None = None,
) -> str:
    """A spec that distils the teacher into the student. A teacher without a task head is fine-tuned first.

    With a `recipe`, by the stages, the adaptors and the student of a spec that ships with kdspec.
    """
    recipe = recipe or {}
    of_student = _student_of(recipe) if student == TemplateOrigin() else []
    lines = [
        f"{MODELINE}{SCHEMA}",
        *([recipe[""]] if recipe else []),
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
        *_teacher_lines(task, teacher),
        "  student:",
        *(of_student or student_lines(teacher, student, _READS[task.name][1] if task.name in _READS else None)),
        "",
        *([recipe["adaptors"], ""] if "adaptors" in recipe else []),
        "stages:",
        *(fine_tuning_lines(teacher) if task.head is not None and not _is_of_vectors(task) else ()),
        *(recipe["stages"].split("\n")[1:] if recipe else _distillation(task, data, teacher, student)),
    ]
    return "\n".join(lines) + "\n"


def _student_of(recipe: Mapping[str, str]) -> list[str]:
    """The lines of the student in a recipe."""
    lines = recipe.get("models", "").split("\n")
    return lines[lines.index("  student:") + 1 :] if "  student:" in lines else []


@dataclass(frozen=True)
class ExampleRows:
    """A small file with rows of a task, to run a new spec on."""

    suffix: str
    text: str
    dataset: str
    """The data set that reads it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the task that fit it, as YAML."""


def example(task: type[Task]) -> ExampleRows:
    """Rows for a task."""
    if task.name == "token_classification":
        return ExampleRows(".conll", _TAGGED, "conll")
    if task.name == "question_answering":
        return ExampleRows(".json", _questions(), "squad")
    if task.name == "ranking":
        columns = {"query": "query", "documents": "[positive, negatives]", "positives": "positive"}
        return ExampleRows(".jsonl", _candidates(), "json", columns)
    return ExampleRows(".csv", _table(task), "csv", {"separator": '";"'} if task.logits == "labels" else {})


def _questions() -> str:
    """Questions in SQuAD's form, for the texts of `_ANSWERED`."""
    asked = []
    for number, (context, question, answer) in enumerate(_ANSWERED):
        found = [{"text": answer, "answer_start": context.index(answer)}]
        asked.append({"context": context, "qas": [{"id": f"q{number}", "question": question, "answers": found}]})
    return json.dumps({"data": [{"title": "example", "paragraphs": asked}]}, indent=1) + "\n"


def _candidates() -> str:
    """Questions, each with the document that answers it and two that do not."""
    documents = [document for _, document in _ASKED]
    rows = (
        {"query": query, "positive": document, "negatives": [other for other in documents if other != document][:2]}
        for query, document in _ASKED
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def _table(task: type[Task]) -> str:
    columns = _columns(task) or ["x"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for number, (sentence, label) in enumerate(_SENTENCES):
        written = label
        if task.logits == "numbers":
            written = f"{3.5 + number / 8 if label == 'good' else 1.5 - number / 8}"
        elif task.logits == "labels" and number % 3 == 0:
            written = f"{label};short"
        writer.writerow([{"text": sentence, "label": written}.get(column, "0") for column in columns])
    return out.getvalue()


def scalar(text: str) -> str:
    """A string as YAML, quoted where it would parse as another type."""
    return text if _PLAIN.fullmatch(text) and resolve(text) == text else json.dumps(text, ensure_ascii=False)


def task_lines(task: type[Task], data: DataChoice) -> Iterator[str]:
    """The task, with a comment on each of its columns."""
    schema = task.model_json_schema()
    yield f"    {task.name}: # {_sentence(task.__doc__ or '')}"
    yield f"      data: {data.written}"
    columns = _columns(task) if data.labelled else _required(task)
    for key in dict.fromkeys((*columns, *data.settings)):
        described = _sentence(schema["properties"][key].get("description", ""))
        yield f"      {key}: {data.settings.get(key, key)} # {described}"
    left = [f"`{name}`" for name in schema["properties"] if name not in (*columns, *data.settings, "data")]
    if left:
        yield f"      # also: {', '.join(left)}; see `kdspec show task {task.name}`"


def _columns(task: type[Task]) -> list[str]:
    """The parameters of a task that name columns: the required ones, and that of the labels."""
    return [*_required(task), *(["label"] if "label" in task.model_fields else [])]


def _required(task: type[Task]) -> list[str]:
    """The required parameters of a task other than its data: the names of columns."""
    return [name for name in task.model_json_schema().get("required", ()) if name != "data"]


def student_lines(teacher: TemplateOrigin, student: TemplateOrigin, reads: str | None = None) -> Iterator[str]:
    """The parameters of the student's model; copies layers of the teacher if the teacher's number of layers is known.

    `reads` is how it reads texts, where a task leaves that to the model.
    """
    if student.path is not None:
        yield f"    transformers: {{path: {scalar(student.path)}{f', reads: {reads}' if reads else ''}}}"
        return
    assert student.layers is not None, "a student has a path or a number of layers"
    yield "    transformers:"
    yield "      like: teacher # its configuration and tokenizer, with these changes"
    yield f"      config: {{num_hidden_layers: {student.layers}}}"
    if teacher.facts.layers is not None:
        last, steps = teacher.facts.layers - 1, max(student.layers - 1, 1)
        layers = [round(i * last / steps) for i in range(student.layers)]
        yield f"      initialize: {{layers: {layers}}} # copy these layers of the teacher, counted from 0"
    if reads is not None:
        yield f"      reads: {reads} # a vector for each text; `pair` reads query and document together"


def _teacher_lines(task: type[Task], teacher: TemplateOrigin) -> Iterator[str]:
    reads = f", reads: {_READS[task.name][0]}" if task.name in _READS else ""
    if not teacher.config:
        yield f"    transformers: {{path: {scalar(teacher.path or '')}{reads}}}"
        return
    yield "    transformers:"
    yield f"      path: {scalar(teacher.path or '')}"
    yield f"      config: {{{', '.join(f'{name}: {value}' for name, value in teacher.config.items())}}} # of this model, which is not here yet"
    if reads:
        yield f"      {reads.removeprefix(', ')}"


def _is_of_vectors(task: type[Task]) -> bool:
    """Whether a task is learnt from vectors alone: it has neither labels nor logits."""
    return task.name == "embedding"


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


def _distillation(
    task: type[Task], data: DataChoice, teacher: TemplateOrigin, student: TemplateOrigin
) -> Iterator[str]:
    yield "  distil:"
    yield "    distiller:"
    yield "      general:"
    yield "        teacher: teacher"
    yield "        student: student"
    if _is_of_vectors(task):
        yield "        matches: # `kdspec list feature_loss` has other losses"
        yield "          - {feature: embedding, loss: cos}"
        yield "          - {feature: embedding, loss: similarity_mse, weight: 4} # how like the texts of a step are"
    else:
        yield from _term_lines(task, data, teacher, student)
    yield "    training:"
    yield "      epochs: 10"
    yield "      batch_size: 32"
    yield "      optimizer: {adamw: {lr: 1.0e-4}}"
    yield "      lr_schedule: {linear: {warmup: 0.1}}"


def _term_lines(task: type[Task], data: DataChoice, teacher: TemplateOrigin, student: TemplateOrigin) -> Iterator[str]:
    yield f"        soft_labels: {_SOFT_LABELS[task.logits]} # `kdspec list logit_loss` has other losses"
    if task.head is not None and data.labelled:
        yield "        hard_labels: {weight: 0} # more than 0: train on the labels too"
    if task.name in _READS:
        return
    depth = student.layers if student.path is None else student.facts.layers
    known = teacher.facts.layers is not None and depth is not None and depth <= teacher.facts.layers
    mark = "" if known else "# "
    yield f"        {mark}matches: # match hidden layers too; `kdspec list feature_loss` has other losses"
    yield f"        {mark}  - {{feature: hidden, loss: hidden_mse, layers: uniform}}"


def _sentence(text: Any) -> str:
    """The first sentence, on one line."""
    line = " ".join(str(text).split())
    end = re.search(r"[.:](?= [A-Z`]|$)", line)
    return (line[: end.start()] if end else line).strip()
