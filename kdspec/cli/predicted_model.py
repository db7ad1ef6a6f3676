"""The model of `kdspec predict`: one of a run, by the run's spec, or that of a folder, by its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import typer

from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.kinds.model import Model, ModelContext
from kdspec.api.kinds.parts import parts
from kdspec.api.plan.plan import Plan
from kdspec.api.spec.model_folders import read_json
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.api.working.task import Head
from kdspec.cli.commands.one_run.finished_run import check_model, task_of
from kdspec.cli.data_choice import DataFile
from kdspec.cli.exits import exit_code
from kdspec.data.columns import MANY_COLUMNS
from kdspec.diagnostics.diagnostic import listed, one_line
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, FindingError, of_fault
from kdspec.hf import families

if TYPE_CHECKING:
    from kdspec.cli.invocation import Invocation
    from kdspec.engine.prediction.prediction import Predictor
    from kdspec.launch.spec_reading import Reading

_LOG = "events.jsonl"
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "multi_label_classification": "multi_label",
        "regression": "regression",
        "single_label_classification": "sequence_classification",
    }
)
"""The task of a classifier of transformers by its `problem_type`."""
_SPLITS = frozenset({"train", "validation", "test", "unlabelled"})


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A model, and how it reads a file."""

    predictor: Predictor
    rows: Dataset
    """The rows of the file, in `train`."""
    reading: Reading | None = None
    """That of the run's spec."""
    text: tuple[str, ...] = ()
    """The columns that were guessed."""


def chosen(
    invocation: Invocation, place: Path, found: DataFile, *, model: str | None, task: str | None, text: Sequence[str]
) -> Chosen:
    """The model that the command names.

    Args:
        invocation: of the command.
        place: the folder of a run, of a model in one, or of any model.
        found: the file with the rows.
        model: of a run, the name of the model; by default the final student.
        task: of several tasks of the model, the one to predict.
        text: of a model's folder, the columns of the texts.

    Raises:
        typer.BadParameter: there is no such model, or an option that does not fit.
        FindingError: the run's files are damaged.
    """
    run = next((folder for folder in (place, *place.absolute().parents[:3]) if (folder / _LOG).is_file()), None)
    if run is None:
        for option, value in (("--model", model), ("--task", task)):
            if value is not None:
                raise typer.BadParameter("is for the folder of a run; this is one of a model", param_hint=option)
        return _of_folder(invocation, place, found, tuple(text))
    if text:
        raise typer.BadParameter("is for the folder of a model; a run's spec names its columns", param_hint="--text")
    inside = place.absolute().relative_to(run.absolute()).parts
    if inside[:1] == ("models",) and len(inside) > 1:
        model, task = model or inside[1], task or next(iter(inside[2:]), None)
    elif inside[:1] == ("student",):
        task = task or next(iter(inside[1:]), None)
    elif inside:
        raise typer.BadParameter(f"`{place}` is neither a run nor a model", param_hint="MODEL")
    return _of_run(invocation, run, found, model, task)


def _of_run(invocation: Invocation, run: Path, found: DataFile, model: str | None, task: str | None) -> Chosen:
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.engine.prediction.prediction import Predictor
    from kdspec.engine.run.run_folder import RunFolder
    from kdspec.launch.spec_reading import read_run

    reading = invocation.printing(read_run(run, invocation.registry, trusts_code=invocation.trusts_code))
    if reading.plan is None or reading.failed:
        show_reading(reading, invocation.err, "full")
        raise typer.Exit(exit_code(reading))
    plan = reading.plan
    students = {stage.name: stage.student for stage in plan.stages}
    trained = {students[name]: run / event.folder for name, event in RunFolder(run).finished(list(students)).items()}
    name = model or plan.final_stage.student
    check_model(plan, name)
    if name in students.values() and name not in trained:
        message = f"the run in `{run}` has not finished the stage that trains `{name}`"
        raise FindingError(
            Finding("KD003", message, help="finish it with `kdspec run`, or name another model with `--model`")
        )
    tasks = plan.tasks_of.get(name) or tuple(plan.spec.tasks)
    wanted = task_of(tasks, task, name)
    if name not in plan.tasks_of:
        plan = replace(plan, tasks_of={**plan.tasks_of, name: (wanted,)})
    rows = _like_those_of(plan, wanted, found) or _read_by(invocation, found)
    return Chosen(predictor=Predictor(plan=plan, model=name, task=wanted, trained=trained), rows=rows, reading=reading)


def _like_those_of(plan: Plan, task: str, found: DataFile) -> Dataset | None:
    """The file read as the rows of the task are, with their delimiter and the like, if it has the suffix of theirs."""
    data = next((part for part in parts(plan.spec.tasks[task]) if isinstance(part, Dataset)), None)
    if data is None or "train" not in type(data).model_fields:
        return None
    files = data.files(BuildContext(folder=plan.source.folder)) or {}
    if not files.get("train") or files["train"][0].suffixes[-2:] != found.file.suffixes[-2:]:
        return None
    nothing = dict.fromkeys(_SPLITS & type(data).model_fields.keys())
    return data.model_copy(update={**nothing, "train": [str(found.file.absolute())]})


def _read_by(invocation: Invocation, found: DataFile) -> Dataset:
    """The file read by its suffix."""
    values = {"train": [str(found.file.absolute())], **found.settings}
    made = invocation.registry.get(Dataset.kind, found.name).model_validate(
        values, context={"registry": invocation.registry}
    )
    assert isinstance(made, Dataset), "of the kind that was asked for"
    return made


def _of_folder(invocation: Invocation, place: Path, found: DataFile, text: tuple[str, ...]) -> Chosen:
    from kdspec.engine.prediction.prediction import Predictor

    configuration = read_json(place / "config.json")
    kind, network = _kind(place, configuration), str(configuration.get("network", "transformers"))
    rows, guessed = _read_by(invocation, found), () if text else _guessed(kind, found)
    columns = _columns(kind, text or guessed, place)
    context = {"registry": invocation.registry}
    made: Any = invocation.registry.get(Model.kind, network).model_validate(
        {"path": str(place.absolute())}, context=context
    )
    component: Any = invocation.registry.get(Task.kind, kind).model_validate({"data": rows, **columns}, context=context)
    name = place.absolute().name
    spec = Spec.model_construct(
        kdspec=1, name="predict", seed=0, tasks={"predicted": component}, models={name: made}, adaptors={}, stages={}
    )
    own = ModelContext(
        name=name,
        models=spec.models,
        heads={"predicted": Head(kind=component.head)},
        trusts_code=invocation.trusts_code,
    )
    try:
        own = replace(own, facts={name: made.facts(own)})
        wrong = [of_fault(fault, ()) for fault in made.check(own)]
    except Fault as fault:
        wrong = [of_fault(fault, ())]
    if errors := [each for each in wrong if each.severity == "error"]:
        raise FindingError(*errors)
    plan = Plan(
        spec=spec,
        source=SpecSource(data={}, trusts_code=invocation.trusts_code),
        facts=own.facts,
        stages=(),
        tasks_of={name: ("predicted",)},
    )
    predictor = Predictor(plan=plan, model=name, task="predicted", trained={})
    return Chosen(predictor=predictor, rows=rows, text=guessed)


def _kind(place: Path, configuration: Mapping[str, Any]) -> str:
    """The task of a model's folder, by its configuration."""
    if not configuration:
        message = f"`{place}` is neither the folder of a run (`{_LOG}`) nor that of a model (`config.json`)"
        raise typer.BadParameter(message, param_hint="MODEL")
    if "network" in configuration:
        return str(configuration.get("task"))
    if (place / "modules.json").is_file():
        return "embedding"
    known = families.facts(configuration)
    purpose = (known.architecture or "").partition("For")[2]
    if purpose == "SequenceClassification":
        usual = "regression" if known.classes == 1 else "sequence_classification"
        return _KINDS.get(known.problem or "", usual)
    if purpose in ("TokenClassification", "QuestionAnswering"):
        return {"TokenClassification": "token_classification"}.get(purpose, "question_answering")
    message = f"`{place}` is of a `{known.architecture or known.family}`, which gives no answer for a row"
    help_ = "name a model with a head for classes, numbers, tags or answers, or one of sentence-transformers"
    raise typer.BadParameter(one_line(message, help_), param_hint="MODEL")


def _guessed(kind: str, found: DataFile) -> tuple[str, ...]:
    """The columns of the texts, by the file."""
    if kind == "question_answering":
        return ()
    text = found.found.text
    if kind == "token_classification":
        return text[:1] or ("tokens",)
    if not text:
        shown = listed([*found.rows], MANY_COLUMNS)
        raise typer.BadParameter(f"which column has the text? There are {shown}", param_hint="--text")
    return text[:1] if kind == "embedding" else text


def _columns(kind: str, text: tuple[str, ...], place: Path) -> dict[str, Any]:
    """The parameters of the task of a model's folder."""
    from kdspec.engine.prediction.class_names import saved_labels

    most = {"token_classification": 1, "embedding": 1}.get(kind, 2)
    if len(text) > most:
        raise typer.BadParameter(f"a model for `{kind}` reads one column", param_hint="--text")
    labels = list(saved_labels(place))
    match kind:
        case "question_answering":
            return dict(zip(("question", "context"), text, strict=False))
        case "token_classification":
            return {"tokens": text[0], "labels": labels}
        case "embedding":
            return {"text": text[0]}
        case "regression":
            return {"text": list(text), "label": labels if len(labels) > 1 else ["label"]}
        case _:
            return {"text": list(text), "label": "label", "labels": labels}


def read_rows(rows: Dataset, folder: Path) -> Any:
    """All rows of the file, as a `datasets.Dataset`.

    Raises:
        FindingError: KD502 if the file cannot be read.
    """
    try:
        return rows.build(DatasetContext(folder=folder))["train"]
    except Fault as fault:
        raise FindingError(replace(of_fault(fault, ()), at=None)) from fault
