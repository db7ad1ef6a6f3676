"""`kdspec import-textbrewer`: TextBrewer's configurations as a spec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.cli.draft import MODELINE, SCHEMA, Data, Origin, fine_tuning_lines, scalar, student_lines, task_lines
from kdspec.cli.init import header, origin, task_named, write
from kdspec.cli.invocation import Invocation
from kdspec.cli.library import relative
from kdspec.hookspecs import hookimpl
from kdspec.textbrewer.matches import Dialect

if TYPE_CHECKING:
    from kdspec.kinds import Task
    from kdspec.textbrewer.files import Read

_EXAMPLES = """\b
Examples:
  kdspec import-textbrewer distillation.json training.json
  kdspec import-textbrewer distillation.json -o spec.yaml --teacher ./my-bert --student like:3 --data train.tsv
  kdspec import-textbrewer matches.py --matches L3_hidden_mse --matches L3_hidden_smmd -o spec.yaml
"""
_TEACHER = "google-bert/bert-base-cased"
_DATA: Mapping[str, Data] = MappingProxyType(
    {
        "sequence_classification": Data(
            "", ("sentence", "label"), "{hub: {path: nyu-mll/glue, subset: sst2}} # yours: `csv`, `json` or `parquet`"
        ),
        "token_classification": Data(
            "",
            ("tokens", "ner_tags"),
            "{hub: {path: eriktks/conll2003, revision: refs/convert/parquet}} # yours: `conll`, `json` or `parquet`\n"
            "      tags: ner_tags # The column with the list of their tags",
        ),
    }
)
"""Rows for a spec without `--data`, by task."""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `import-textbrewer`."""
    commands.command("import-textbrewer", epilog=_EXAMPLES)(import_textbrewer)


def import_textbrewer(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON, or Python that calls TextBrewer, which is read and not run."),
    ],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The spec to write; standard output if not.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="What is learnt; `kdspec list task` has the names.")
    ] = "sequence_classification",
    teacher: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A folder, or a name on the hub. Several: one for each teacher."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The same, or like:3 for the teacher's architecture with 3 layers."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Training rows: .csv, .tsv, .json, .jsonl, .parquet.")
    ] = None,
    matches: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A list of matches of the files; may be repeated.")
    ] = None,
    dialect: Annotated[
        Dialect, typer.Option(help="Whose numbers: those of TextBrewer's repository, or of its releases.")
    ] = "master",
    attention_from: Annotated[
        int | None,
        typer.Option(min=0, max=1, help="The number of the first attention layer in the files; told by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Write TextBrewer's configurations as a spec, with a comment on what differs or has no place in it."""
    from kdspec import compose, schema
    from kdspec.cli.findings import show, show_reading
    from kdspec.cli.reading import follow, read
    from kdspec.textbrewer import files as reader

    invocation: Invocation = context.obj
    if output is not None and os.path.lexists(output) and not force:
        raise typer.BadParameter(f"{output} is there already; --force replaces it", param_hint="--output")
    folder = output.parent if output is not None else Path()
    kind = task_named(invocation.registry, task)
    rows = _rows(kind.name, data, folder)
    origins = [origin(invocation.registry, model, folder, "--teacher") for model in teacher or [_TEACHER]]
    own = origin(invocation.registry, student, folder, "--student") if student is not None else None
    found = reader.read(files, invocation.registry, matches or ())
    first = reader.first_attention(found, attention_from)
    show(found.diagnostics, found.document.sources, str(files[0]), invocation.err)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", (output or files[0]).stem).strip("-") or "distillation"
    parts = [
        *(
            [f"{MODELINE}{SCHEMA}"] if output is not None else [],
            [f"# From {', '.join(Path(file).name for file in found.files)} of TextBrewer, its {_WHOSE[dialect]}."],
            ["kdspec: 1", f"name: {scalar(name)} # the output goes to runs/{name}/", "seed: 0 # TextBrewer has none"],
            ["", "tasks:", "  main:", *task_lines(kind, rows)],
            ["", "models:", *_models(origins, own, found, first)],
            ["", "# Adaptors are the task's own: for what they return in TextBrewer, `adaptors:` takes field paths."],
            ["", "stages:", *_stages(kind, rows, origins, found, dialect, first)],
        )
    ]
    text = "\n".join(line for part in parts for line in part) + "\n"
    if output is None:
        invocation.out.show(text)
        reading = follow("<stdout>", compose.compose(text, "<stdout>", folder), invocation.registry)
    else:
        written = {output: text}
        if not (folder / SCHEMA).exists():
            written[folder / SCHEMA] = schema.text(invocation.registry)
        write(written)
        invocation.err.say(f"wrote {', '.join(map(str, written))}")
        reading = read(str(output), invocation.registry)
    show_reading(reading, invocation.err, "full")
    if reading.failed:
        raise typer.Exit(reading.exit_code)
    if output is not None:
        invocation.err.say(f"next: kdspec plan {output}")


_WHOSE: Mapping[str, str] = MappingProxyType({"master": "repository", "pypi": "releases"})


def _rows(task: str, data: Path | None, folder: Path) -> Data:
    if data is not None:
        return Data(relative(data, folder), header(data))
    if task not in _DATA:
        raise typer.BadParameter(f"is needed for the task `{task}`", param_hint="--data")
    return _DATA[task]


def _teachers(origins: Sequence[Origin]) -> list[str]:
    return ["teacher"] if len(origins) == 1 else [f"teacher_{number}" for number, _ in enumerate(origins, 1)]


def _models(origins: Sequence[Origin], student: Origin | None, found: Read, first: int) -> Iterator[str]:
    names = _teachers(origins)
    for name, model in zip(names, origins, strict=True):
        yield f"  {name}:"
        yield f"    transformers: {{path: {scalar(model.path or '')}}}"
    yield "  student:"
    if student is not None:
        yield from (line.replace("like: teacher ", f"like: {names[0]} ") for line in student_lines(origins[0], student))
        return
    yield "    transformers:"
    yield f"      like: {names[0]} # its configuration and tokenizer, with these changes"
    layers, width = _shape(found, first)
    sizes = f"num_hidden_layers: {layers}"
    if width is not None:
        heads = next(heads for heads in (12, 8, 4, 2, 1) if width % heads == 0)
        sizes += f", hidden_size: {width}, num_attention_heads: {heads}, intermediate_size: {4 * width}"
    yield f"      config: {{{sizes}}} # as far as the matches tell"
    if width is None:
        yield f"      # initialize: {{layers: {list(range(layers))}}} # to begin with layers of the teacher"


def _shape(found: Read, first: int) -> tuple[int, int | None]:
    """Layers and width of the student that the matches are for; no width where it is the teacher's."""
    matches = found.configuration.intermediate_matches or ()
    counted = {"hidden": 1, "attention": first}  # the number of the first layer
    layers = [layer + 1 - counted[match.feature] for match in matches for layer in match.layer_S if layer >= 0]
    widths = {match.proj.student for match in matches if match.proj and match.proj.student != match.proj.teacher}
    return max(layers, default=0) or 3, widths.pop() if len(widths) == 1 else None


def _stages(
    task: type[Task], rows: Data, origins: Sequence[Origin], found: Read, dialect: Dialect, first: int
) -> Iterator[str]:
    from kdspec.textbrewer.stage import stage

    names = _teachers(origins)
    for name, model in zip(names, origins, strict=True):
        if task.head is not None:
            yield from fine_tuning_lines(model, name, name.replace("teacher", "fine_tune"))
    yield from stage(found, names, "student", dialect, first, evaluated=rows.written is not None)
