"""`kdspec init`: writes a new spec."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NoReturn

import typer

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import Task
from kdspec.cli.invocation import Invocation
from kdspec.cli.spec_library import adapted, library, relative
from kdspec.cli.spec_template import SCHEMA, DataChoice, TemplateOrigin, draft, example_rows
from kdspec.diagnostics.diagnostic import closest
from kdspec.registry.registry import Registry

_EXAMPLES = """\b
Examples:
  kdspec init --task sequence_classification --teacher ./my-bert --student like:3 --data train.tsv
  kdspec init reviews.yaml --task sequence_classification --teacher bert-base-uncased --student like:3
  kdspec init --from quickstart
"""
_LIKE = re.compile(r"like:([1-9][0-9]{0,3})")

_BY_EXAMPLE: Mapping[str, str] = MappingProxyType(
    {
        "masked_lm": "basics/masked_lm",
        "question_answering": "basics/questions",
        "token_classification": "basics/tagging",
    }
)
"""Tasks without a template, because their rows are not sentences with labels; the library's spec for each."""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `init`."""
    commands.command("init", epilog=_EXAMPLES)(init)


def init(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The spec to write.")] = Path("spec.yaml"),
    *,
    task: Annotated[str | None, typer.Option(help="The task; `kdspec list task` has the names.")] = None,
    teacher: Annotated[str | None, typer.Option(metavar="MODEL", help="A folder or a name on the hub.")] = None,
    student: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A folder, a name on the hub, or like:3: the teacher's architecture, 3 layers."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Training rows: .csv, .tsv, .json, .jsonl, .parquet; by default an example."),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="Copy one of the specs that ship with kdspec.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write a valid spec with comments on what to change, and the schema for your editor."""
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.cli.read_spec import read
    from kdspec.spec import json_schema

    invocation: Invocation = context.obj
    folder = path.parent
    if from_ is not None:
        if any(option is not None for option in (task, teacher, student, data)):
            raise typer.BadParameter("copies a whole spec and excludes the other options", param_hint="--from")
        files = {path: adapted(_in_library(from_), folder)}
    else:
        for option, value in (("--task", task), ("--teacher", teacher), ("--student", student)):
            if not value:
                _missing(option)
        files = _drafted(invocation.registry, path, task or "", teacher or "", student or "", data)
    there = next((file for file in files if os.path.lexists(file)), None)
    if there is not None and not force:
        raise typer.BadParameter(f"{there} exists; --force replaces it", param_hint="PATH")
    if force or not (folder / SCHEMA).exists():
        files = {**files, folder / SCHEMA: json_schema.text(invocation.registry)}
    write(files)
    invocation.err.say(f"wrote {', '.join(map(str, files))}")
    reading = read(str(path), invocation.registry)
    show_reading(reading, invocation.err, "full")
    if reading.failed:
        raise typer.Exit(reading.exit_code)
    invocation.err.say(f"next: kdspec plan {path}")


def _drafted(
    registry: Registry, path: Path, task_name: str, teacher: str, student: str, data: Path | None
) -> dict[Path, str]:
    task = task_named(registry, task_name)
    if (spec := _BY_EXAMPLE.get(task.name)) is not None and task.__module__.startswith("kdspec."):
        message = f"there is no template for `{task.name}`; use `kdspec init --from {spec}`"
        raise typer.BadParameter(message, param_hint="--task")
    files = {}
    if data is None:
        example = path.with_name(f"{path.stem}-example.csv")
        files[example] = example_rows(task)
        rows = DataChoice(f"./{example.name}")
    else:
        rows = DataChoice(relative(data, path.parent), header(data))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "distillation"
    origins = (
        origin(registry, teacher, path.parent, "--teacher"),
        origin(registry, student, path.parent, "--student"),
    )
    return {path: draft(name, task, rows, *origins), **files}


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


def origin(registry: Registry, model: str, folder: Path, option: str) -> TemplateOrigin:
    """The origin of a model on the command line; `option` is the option, for error messages."""
    like = _LIKE.fullmatch(model)
    if like is not None and option == "--student":
        return TemplateOrigin(layers=int(like[1]))
    if os.path.isdir(model):  # noqa: PTH112 - raises nothing for odd names
        if not (Path(model) / "config.json").is_file():
            raise typer.BadParameter(f"the folder `{model}` has no `config.json`", param_hint=option)
        model = relative(Path(model), folder)
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise typer.BadParameter(f"there is no folder `{model}`", param_hint=option)
    component = registry.get("model", "transformers")(path=model)
    context = BuildContext(folder=folder)
    architectures = component.written_configuration(context).get("architectures") or []
    has_head = any("For" in str(name) and "ForPreTraining" not in str(name) for name in architectures)
    return TemplateOrigin(path=model, facts=component.facts(context), has_head=has_head)


def header(data: Path) -> list[str]:
    """The columns of a text file; none if they cannot be read, which `kdspec validate` reports."""
    from kdspec.data.tables import FileMistake, read_csv, read_json

    try:
        match data.suffix.lower():
            case ".csv" | ".tsv":
                tabs = data.suffix.lower() == ".tsv"
                return list(read_csv(data, "\t" if tabs else ",", quoting=not tabs))
            case ".json" | ".jsonl":
                return list(read_json(data))
    except FileMistake:
        pass
    return []


def _in_library(name: str) -> Path:
    specs: Mapping[str, Path] = library()
    if name not in specs:
        guess = closest(name, specs)
        hint = f"did you mean `{guess}`?" if guess else f"there are {', '.join(specs) or 'none'}"
        raise typer.BadParameter(f"kdspec ships no spec named `{name}`; {hint}", param_hint="--from")
    return specs[name]


def _missing(option: str) -> NoReturn:
    raise typer.BadParameter("is needed, or --from NAME to copy a whole spec", param_hint=option)


def write(files: Mapping[Path, str]) -> None:
    """Write texts to files; missing folders are created."""
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise typer.BadParameter(f"`{file}` cannot be written: {reason}", param_hint="PATH") from error
