"""`kdspec init`: writes a new spec."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.kinds import Task
from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.cli.data_choice import DataFile, data_file
from kdspec.cli.exits import exit_code
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_library
from kdspec.cli.spec_library import copied, recipe, relative
from kdspec.cli.spec_template import SCHEMA, DataChoice, TemplateOrigin, draft, example, scalar
from kdspec.diagnostics.diagnostic import closest
from kdspec.hf.configuration import PROBLEMS, architecture
from kdspec.launch.shipped_specs import assets_folder, library
from kdspec.registry.registry import Registry

_EXAMPLES = """\b
Examples:
  kdspec init
  kdspec init --data tickets.csv --teacher ./my-bert --student like:3
  kdspec init names.yaml --data train.conll --task token_classification --teacher bert-base-cased
  kdspec init --from quickstart
  kdspec init --from recipes/tinybert --teacher ./my-bert --data tickets.csv
"""
_LIKE = re.compile(r"like:([1-9][0-9]{0,3})")
_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
_OF_TEACHER: Mapping[str, Any] = MappingProxyType(
    {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
)
"""The configuration of that model: layers of a recipe can be matched before it is downloaded."""
_TASK = "sequence_classification"
_OF_TEXTS = ("regression", "sequence_classification", "multi_label")
"""The tasks of whole texts; a head of one number is for the first one, whatever else its files declare."""
_RECIPES = "recipes/"


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `init`."""
    commands.command("init", epilog=_EXAMPLES)(init)


def init(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The spec to write.")] = Path("spec.yaml"),
    *,
    task: Annotated[
        str | None, typer.Option(help="`kdspec list task` has the names; by default what the data looks like.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help=f"A folder or a name on the hub; by default {_TEACHER}."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A folder, a name on the hub, or like:3: the teacher's architecture, 3 layers. By default half of them.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Training rows: .csv, .tsv, .json, .jsonl, .parquet, .conll, SQuAD's .json; by default an example.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="The column of the text; twice for pairs.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the label.")] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Copy a spec that ships with kdspec; a recipe takes your models and data.",
            autocompletion=complete_library,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write a valid spec with comments on what to change, and the schema for your editor."""
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.launch.spec_reading import read
    from kdspec.spec import json_schema

    invocation: Invocation = context.obj
    folder, given = path.parent, _Given(task, teacher, student, data, tuple(text or ()), label)
    name = None if from_ is None else _in_library(from_)
    assets: tuple[str, ...] = ()
    if name is not None and not name.startswith(_RECIPES):
        if given != _Given():
            raise typer.BadParameter("copies a whole spec and excludes the other options", param_hint="--from")
        copy = copied(name, path)
        files, assets = copy.texts, copy.assets
    else:
        files = _drafted(invocation, path, given, recipe(name) if name else None)
    there = next((file for file in files if os.path.lexists(file)), None)
    if there is not None and not force:
        raise typer.BadParameter(f"{there} exists; --force replaces it", param_hint="PATH")
    if force or not (folder / SCHEMA).exists():
        files = {**files, folder / SCHEMA: json_schema.text(invocation.registry)}
    write(files)
    invocation.err.say(f"wrote {', '.join(map(str, files))}")
    if missing := [asset for asset in assets if not (assets_folder(folder) / asset).exists()]:
        into = "" if assets_folder(folder) == assets_folder(Path()) else f" --into {assets_folder(folder)}"
        invocation.err.say(f"next: kdspec fetch {' '.join(missing)}{into}, then kdspec plan {path}")
        return
    reading = read(str(path), invocation.registry)
    show_reading(reading, invocation.err, "full")
    if reading.failed:
        raise typer.Exit(exit_code(reading))
    invocation.err.say(f"next: kdspec plan {path}")


@dataclass(frozen=True)
class _Given:
    """The options that say what a draft is about."""

    task: str | None = None
    teacher: str | None = None
    student: str | None = None
    data: Path | None = None
    text: tuple[str, ...] = ()
    label: str | None = None


def _drafted(invocation: Invocation, path: Path, given: _Given, of_recipe: Mapping[str, str] | None) -> dict[Path, str]:
    registry, folder = invocation.registry, path.parent
    found = None if given.data is None else data_file(registry, given.data)
    guessed = found.found.task if found is not None and found.rows else _TASK
    if found is not None and found.found.label is None and found.found.text and given.teacher and not given.label:
        guessed = _taught_task(registry, given.teacher, folder) or guessed
    task = task_named(registry, given.task or guessed)
    teacher = origin(registry, given.teacher or _usual_teacher(folder), folder, "--teacher", task.head)
    if of_recipe is not None and teacher.path == _TEACHER and teacher.facts.layers is None:
        teacher = replace(
            teacher, config=_OF_TEACHER, facts=_facts(registry, folder, path=_TEACHER, config={**_OF_TEACHER})
        )
    if not registry.get("model", "transformers")(path=teacher.path).can_learn(task.head):
        help_ = f"write a model for it as a plugin, and the spec with `kdspec show task {task.name}`"
        raise typer.BadParameter(f"no transformers model has a head for `{task.name}`; {help_}", param_hint="--task")
    student = _student(given.student, registry, folder, teacher, recipe=of_recipe is not None)
    files = {}
    if found is None:
        rows = example(task)
        beside = path.with_name(f"{path.stem}-example{rows.suffix}")
        files[beside] = rows.text
        written = (
            f"{{{rows.dataset}: {{train: {scalar(f'./{beside.name}')}}}}} # and `validation`, `test`, `unlabelled`"
        )
        choice = DataChoice(written, rows.settings)
    else:
        choice = found.choice(task, folder, given.text, given.label, taught=teacher.has_head)
        _say(invocation, found, task, asked=bool(given.text or given.label))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "distillation"
    if given.teacher is None:
        invocation.err.say(f"teacher: {teacher.path}; --teacher names another")
    return {path: draft(name, task, choice, teacher, student, of_recipe), **files}


def _say(invocation: Invocation, found: DataFile, task: type[Task], *, asked: bool) -> None:
    """What was guessed of a file, so that a wrong guess is seen before anything runs."""
    if not found.rows:
        return
    number = max((len(values) for values in found.rows.values()), default=0)
    invocation.err.say(f"{found.file}: {number} rows read, for the task {task.name}")
    for reason in found.found.reasons:
        invocation.err.say(f"  {reason}")
    if found.has_enough:
        invocation.err.say("  validation: a tenth of the rows")
    if not asked and found.found.reasons:
        invocation.err.say("  --task, --text and --label choose others")


def _usual_teacher(folder: Path) -> str:
    """The small encoder that `kdspec fetch` brings, if it is there; else the same one on the hub."""
    fetched = assets_folder(folder) / _TEACHER.rpartition("/")[2]
    return os.path.relpath(fetched.resolve()) if fetched.is_dir() else _TEACHER


def _taught_task(registry: Registry, teacher: str, folder: Path) -> str | None:
    """The task of whole texts for which a teacher has a trained head, so that texts without labels are enough."""
    tasks = (registry.get(Task.kind, name) for name in _OF_TEXTS)
    return next(
        (task.name for task in tasks if origin(registry, teacher, folder, "--teacher", task.head).has_head), None
    )


def _student(
    student: str | None, registry: Registry, folder: Path, teacher: TemplateOrigin, *, recipe: bool
) -> TemplateOrigin:
    """The student of the command line; else that of the recipe, or half of the teacher's layers."""
    if student is not None:
        return origin(registry, student, folder, "--student", None)
    return TemplateOrigin() if recipe else TemplateOrigin(layers=max((teacher.facts.layers or 6) // 2, 1))


def _facts(registry: Registry, folder: Path, **parameters: Any) -> ModelFacts:
    facts: ModelFacts = registry.get("model", "transformers")(**parameters).facts(ModelContext(folder=folder))
    return facts


def task_named(registry: Registry, task_name: str) -> type[Task]:
    """The task of `--task`."""
    found = registry.find(Task.kind, task_name)
    if len(found) != 1:
        known = [entry.qualified for entry in found] or registry.names(Task.kind)
        guess = None if found else closest(task_name, known)
        hint = f"did you mean `{guess}`?" if guess else f"there are {', '.join(known)}"
        raise typer.BadParameter(
            f"{'several' if found else 'no'} tasks are named `{task_name}`; {hint}", param_hint="--task"
        )
    task: type[Task] = found[0].component  # type: ignore[assignment] # of the kind that was asked for
    return task


def origin(registry: Registry, model: str, folder: Path, option: str, head: str | None) -> TemplateOrigin:
    """The origin of a model on the command line.

    Args:
        registry: the components.
        model: a folder, a name on the hub, or for a student `like:3`.
        folder: of the spec.
        option: of the command line, for error messages.
        head: the kind of head that the task needs.
    """
    like = _LIKE.fullmatch(model)
    if like is not None and option == "--student":
        return TemplateOrigin(layers=int(like[1]))
    if ":" in model and not Path(model).exists():
        what = (
            "a student is `like:3`, with a number of layers"
            if option == "--student"
            else "a teacher is a folder or a name on the hub"
        )
        raise typer.BadParameter(f"`{model}` names no model; {what}", param_hint=option)
    if os.path.isdir(model):  # noqa: PTH112 - raises nothing for odd names
        if not (Path(model) / "config.json").is_file():
            raise typer.BadParameter(f"the folder `{model}` has no `config.json`", param_hint=option)
        model = relative(Path(model), folder)
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise typer.BadParameter(f"there is no folder `{model}`", param_hint=option)
    component = registry.get("model", "transformers")(path=model)
    context = ModelContext(folder=folder)
    written = component.written_configuration(context)
    facts = component.facts(context)
    one = facts.classes is None or (facts.classes == 1) == (head == "regression")  # a number, or classes
    return TemplateOrigin(path=model, facts=facts, has_head=one and has_head(written, head))


def has_head(configuration: Mapping[str, Any], head: str | None) -> bool:
    """Whether a model was saved with a trained head of this kind, as far as its configuration tells."""
    if head is None:
        return False
    wanted = f"For{architecture(head)}"
    if not any(str(name).endswith(wanted) for name in configuration.get("architectures") or []):
        return False
    problem = PROBLEMS.get(head)
    return configuration.get("problem_type") in (None, problem) or problem is None


def _in_library(name: str) -> str:
    specs = library()
    if name not in specs:
        guess = closest(name, specs) or next((known for known in specs if known.endswith(f"/{name}")), None)
        folders = dict.fromkeys(known.partition("/")[0] for known in specs)
        known = "; ".join(
            f"{folder}: {', '.join(n.partition('/')[2] or n for n in specs if n.partition('/')[0] == folder)}"
            for folder in folders
        )
        hint = f"did you mean `{guess}`?" if guess else f"there are {known}"
        raise typer.BadParameter(f"kdspec ships no spec named `{name}`; {hint}", param_hint="--from")
    return name


def write(files: Mapping[Path, str]) -> None:
    """Write texts to files; missing folders are created."""
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise typer.BadParameter(f"`{file}` cannot be written: {reason}", param_hint="PATH") from error
