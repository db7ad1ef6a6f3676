"""`kdspec import-textbrewer`: converts TextBrewer's configurations to a spec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.commands.init import origin, task_named, write
from kdspec.cli.data_choice import data_file
from kdspec.cli.exits import exit_code
from kdspec.cli.invocation import Invocation
from kdspec.cli.spec_template import (
    MODELINE,
    SCHEMA,
    DataChoice,
    TemplateOrigin,
    fine_tuning_lines,
    scalar,
    student_lines,
    task_lines,
)
from kdspec.textbrewer.script import AVERAGED, ScriptValue
from kdspec.textbrewer.todo import TODO
from kdspec.textbrewer.write_matches import Dialect

if TYPE_CHECKING:
    from kdspec.api.kinds.kinds import Task
    from kdspec.registry.registry import Registry
    from kdspec.textbrewer.files import Read

_EXAMPLES = """\b
Examples:
  kdspec import-textbrewer distillation.json training.json
  kdspec import-textbrewer distillation.json -o spec.yaml --teacher ./my-bert --student like:3 --data train.tsv
  kdspec import-textbrewer matches.py --matches L3_hidden_mse --matches L3_hidden_smmd -o spec.yaml
  kdspec import-textbrewer several.json --task news=sequence_classification --task names=token_classification
"""
_TASK = "sequence_classification"
_ROWS = f"{{hub: {{path: {TODO}}}}} # {TODO}: yours, `--data FILE`"
"""Rows for a spec without `--data`: no file of TextBrewer names any."""
_WITHOUT_DATA = ("sequence_classification", "token_classification", "multi_label", "regression", "masked_lm")


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `import-textbrewer`."""
    commands.command("import-textbrewer", epilog=_EXAMPLES)(import_textbrewer)


def import_textbrewer(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON, or Python that calls TextBrewer; it is parsed, not run."),
    ],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The spec to write; standard output if not.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="The task; `kdspec list task` has the names. Several tasks: NAME=TASK for each.",
        ),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A folder or a name on the hub. Repeat it for several teachers or tasks."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A folder, a name on the hub, or like:3: the teacher's architecture, 3 layers."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Training rows: .csv, .tsv, .json, .jsonl, .parquet. One for each task."),
    ] = None,
    matches: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A list of matches of the files; may be repeated.")
    ] = None,
    dialect: Annotated[
        Dialect, typer.Option(help="The version to match: TextBrewer's repository or its releases.")
    ] = "master",
    attention_from: Annotated[
        int | None,
        typer.Option(min=0, max=1, help="The number of the first attention layer in the files; detected by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Convert TextBrewer's configurations to a spec, with comments on what differs or has no equivalent."""
    from kdspec.cli.print_diagnostics import show, show_reading
    from kdspec.launch.spec_reading import follow, read
    from kdspec.source import extends
    from kdspec.spec import json_schema
    from kdspec.textbrewer import files as reader

    invocation: Invocation = context.obj
    if output is not None and os.path.lexists(output) and not force:
        raise typer.BadParameter(f"{output} exists; --force replaces it", param_hint="--output")
    folder = output.parent if output is not None else Path()
    named = _named(task or [_TASK])
    kinds = [task_named(invocation.registry, kind) for _, kind in named]
    found = reader.read(files, invocation.registry, matches or ())
    if len(kinds) == 1 and named[0][0] is None and len(found.tasks) > 1:  # the files do not distinguish them
        named, kinds = [(name, kinds[0].name) for name in found.tasks], kinds * len(found.tasks)
    tasks = {name or "main": kind for (name, _), kind in zip(named, kinds, strict=True)}
    rows = _rows(invocation.registry, tasks, data or (), folder)
    heads = [kind.head for kind in tasks.values()]
    of_models = [heads[min(number, len(heads) - 1)] for number in range(max(len(teacher or ()), 1))]
    origins = [
        _Teacher(origin(invocation.registry, model, folder, "--teacher", head))
        for model, head in zip(teacher or (), of_models, strict=False)
    ]
    origins = origins or [_of_script(invocation.registry, given, folder) for given in _given(found)]
    if len(tasks) > 1 and len(origins) == 1:
        origins *= len(tasks)
    if 1 < len(tasks) != len(origins):
        raise typer.BadParameter(f"there are {len(tasks)} tasks: name a teacher for each", param_hint="--teacher")
    own = origin(invocation.registry, student, folder, "--student", None) if student is not None else None
    of_script = None if found.script.student is None else _of_script(invocation.registry, found.script.student, folder)
    first = reader.first_attention(found, attention_from)
    show(found.diagnostics, found.document.sources, str(files[0]), invocation.err)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", (output or files[0]).stem).strip("-") or "distillation"
    parts = [
        *(
            [f"{MODELINE}{SCHEMA}"] if output is not None else [],
            [
                f"# From {', '.join(Path(file).name for file in found.files)}, with the numbers of TextBrewer's {_WHOSE[dialect]}."
            ],
            ["kdspec: 1", f"name: {scalar(name)} # the output goes to runs/{name}/", "seed: 0 # TextBrewer has none"],
            ["", "tasks:", *_tasks(tasks, rows)],
            ["", "models:", *_models(_teachers(origins, tasks), own, of_script, found, first)],
            ["", "# The task's own adaptors are used; `adaptors:` takes field paths for what TextBrewer's return."],
            ["", "stages:", *_stages(tasks, rows, origins, found, dialect, first)],
        )
    ]
    text = "\n".join(line for part in parts for line in part) + "\n"
    if output is None:
        invocation.out.show(text)
        reading = follow("<stdout>", extends.compose(text, "<stdout>", folder), invocation.registry)
    else:
        written = {output: text}
        if not (folder / SCHEMA).exists():
            written[folder / SCHEMA] = json_schema.text(invocation.registry)
        write(written)
        invocation.err.say(f"wrote {', '.join(map(str, written))}")
        reading = read(str(output), invocation.registry)
    open_ = tuple(found for found in reading.diagnostics if f"`{TODO}`" in found.message)  # a line with a mark says it
    shown = replace(reading, diagnostics=tuple(found for found in reading.diagnostics if found not in open_))
    show_reading(shown, invocation.err, "full")
    if reading.failed:
        raise typer.Exit(exit_code(reading))
    if output is not None:
        invocation.err.say(f"next: kdspec plan {output}")


@dataclass(frozen=True)
class _Teacher:
    """A model of the spec, and what is to be known of its path."""

    origin: TemplateOrigin
    comment: str = ""
    trained: bool = False
    """Whether a script distils from it as it is."""


def _given(found: Read) -> Sequence[ScriptValue]:
    """The teachers of the script; two of unknown paths for a distiller of several that does not show how many."""
    if found.script.teachers:
        several = AVERAGED in found.distillers and len(found.script.teachers) == 1
        return found.script.teachers * 2 if several else found.script.teachers
    return (ScriptValue(),) * (2 if AVERAGED in found.distillers else 1)


def _of_script(registry: Registry, given: ScriptValue, folder: Path) -> _Teacher:
    """A model that a script loads; its files may be elsewhere."""
    if given.value is None:
        why = f"it is `{given.expression}` in the script" if given.expression else "a folder, or a name on the hub"
        return _Teacher(TemplateOrigin(path=TODO), f"{TODO}: {why}", trained=True)
    try:
        made = origin(registry, str(given.value), folder, "--teacher", None)
    except typer.BadParameter:
        return _Teacher(TemplateOrigin(path=str(given.value)), f"{TODO}: it is not here", trained=True)
    return _Teacher(made, given.origin, trained=True)


_WHOSE: Mapping[str, str] = MappingProxyType({"master": "repository", "pypi": "releases"})


def _named(written: Sequence[str]) -> list[tuple[str | None, str]]:
    """The tasks of `--task`, each with its name or None; several tasks need names."""
    pairs = [
        (name if equals else None, kind if equals else name)
        for name, equals, kind in (one.partition("=") for one in written)
    ]
    names = [name for name, _ in pairs]
    if len(pairs) > 1 and (None in names or len(set(names)) < len(names)):
        raise typer.BadParameter("several tasks need names: `news=sequence_classification`", param_hint="--task")
    return pairs


def _rows(registry: Registry, tasks: Mapping[str, type[Task]], files: Sequence[Path], folder: Path) -> list[DataChoice]:
    if files and len(files) != len(tasks):
        message = f"there {'is one task' if len(tasks) == 1 else f'are {len(tasks)} tasks'}: name a file for each"
        raise typer.BadParameter(message, param_hint="--data")
    if files:
        chosen = zip(tasks.values(), files, strict=True)
        return [data_file(registry, file).choice(kind, folder, (), None) for kind, file in chosen]
    unknown = next((kind.name for kind in tasks.values() if kind.name not in _WITHOUT_DATA), None)
    if unknown is not None:
        raise typer.BadParameter(f"is needed for the task `{unknown}`", param_hint="--data")
    columns = [[name for name in ("text", "label") if name in kind.model_fields] for kind in tasks.values()]
    return [DataChoice(_ROWS, dict.fromkeys(names, TODO)) for names in columns]


def _tasks(tasks: Mapping[str, type[Task]], rows: Sequence[DataChoice]) -> Iterator[str]:
    for (name, kind), data in zip(tasks.items(), rows, strict=True):
        yield f"  {scalar(name)}:"
        yield from task_lines(kind, data)


def _teachers(origins: Sequence[_Teacher], tasks: Mapping[str, type[Task]]) -> dict[str, _Teacher]:
    """The teachers by name."""
    if len(tasks) > 1:
        names = [f"{task}_teacher" for task in tasks]
    else:
        names = ["teacher"] if len(origins) == 1 else [f"teacher_{number}" for number, _ in enumerate(origins, 1)]
    return dict(zip(names, origins, strict=True))


def _models(
    teachers: Mapping[str, _Teacher],
    student: TemplateOrigin | None,
    of_script: _Teacher | None,
    found: Read,
    first: int,
) -> Iterator[str]:
    for name, model in teachers.items():
        yield f"  {scalar(name)}:"
        yield _path_line(model)
    yield "  student:"
    like = next(iter(teachers))
    if student is not None:
        made = student_lines(teachers[like].origin, student)
        yield from (line.replace("like: teacher ", f"like: {scalar(like)} ") for line in made)
        return
    if of_script is not None and of_script.origin.path != TODO:
        yield _path_line(of_script)
        return
    yield "    transformers:"
    yield f"      like: {scalar(like)} # its configuration and tokenizer, with these changes"
    written = found.script.sizes
    if "num_hidden_layers" in written:
        sizes = ", ".join(f"{name}: {value}" for name, value in written.items())
        yield f"      config: {{{sizes}}} # the sizes that the script writes"
        return
    layers, width = _shape(found, first)
    sizes, guessed = f"num_hidden_layers: {layers or 3}", ""
    if width is not None:
        heads = next(heads for heads in (12, 8, 4, 2, 1) if width % heads == 0)
        sizes += f", hidden_size: {width}, num_attention_heads: {heads}, intermediate_size: {4 * width}"
        guessed = f"; {TODO}: the heads and the `intermediate_size` of your student"
    script = f"; {of_script.comment.removeprefix(f'{TODO}: ')}" if of_script is not None else ""
    mark = f"inferred from the matches{guessed}{script}" if layers else f"{TODO}: the shape of your student{script}"
    yield f"      config: {{{sizes}}} # {mark}"
    if width is None:
        yield f"      # initialize: {{layers: {list(range(layers or 3))}}} # to copy layers of the teacher"


def _path_line(model: _Teacher) -> str:
    comment = f" # {model.comment}" if model.comment else ""
    return f"    transformers: {{path: {scalar(model.origin.path or '')}}}{comment}"


def _shape(found: Read, first: int) -> tuple[int, int | None]:
    """Layers and width of the student, inferred from the matches; 0 layers without any, no width if it is the teacher's."""
    matches = found.configuration.intermediate_matches or ()
    counted = {"hidden": 1, "attention": first}  # the number of the first layer
    layers = [layer + 1 - counted[match.feature] for match in matches for layer in match.layer_S if layer >= 0]
    widths = {match.proj.student for match in matches if match.proj and match.proj.student != match.proj.teacher}
    return max(layers, default=0), widths.pop() if len(widths) == 1 else None


def _stages(
    tasks: Mapping[str, type[Task]],
    rows: Sequence[DataChoice],
    origins: Sequence[_Teacher],
    found: Read,
    dialect: Dialect,
    first: int,
) -> Iterator[str]:
    from kdspec.textbrewer.write_stage import stage

    teachers = _teachers(origins, tasks)
    several = tuple(tasks) if len(tasks) > 1 else ()
    of_teacher = several or tuple(tasks) * len(teachers)
    if any(model.trained for model in teachers.values()):
        yield "  # TextBrewer's teachers are trained already. One that is not needs a stage `supervised` before this one."
    for (name, model), task in zip(teachers.items(), of_teacher, strict=True):
        if not model.trained and tasks[task].head is not None:
            fitting = f"fine_tune_{task}" if several else name.replace("teacher", "fine_tune")
            yield from fine_tuning_lines(model.origin, name, fitting, task if several else None)
    evaluated = all(data.written == _ROWS for data in rows)
    yield from stage(found, tuple(teachers), "student", dialect, first, evaluated=evaluated, tasks=several)
