"""`kdspec predict`: what a model answers for the rows of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_run
from kdspec.diagnostics.finding import FindingError

if TYPE_CHECKING:
    from kdspec.cli.predicted_model import Chosen
    from kdspec.engine.prediction.prediction import Prediction

_EXAMPLES = """\b
Examples:
  kdspec predict runs/my-run --data new.csv -o answers.jsonl
  kdspec predict runs/my-run --model teacher --data train.csv -o teacher.jsonl
  kdspec predict ./my-classifier --data new.csv --text sentence -o -

A file of predictions is what the model `recorded` reads: `recorded: {logits: logits}`. The same command resumes one
that was stopped.
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `predict`."""
    commands.command("predict", epilog=_EXAMPLES)(predict)


def predict(
    context: typer.Context,
    place: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|MODEL",
            exists=True,
            help="The folder of a run, such as runs/my-run, or that of a model with a head.",
            autocompletion=complete_run,
        ),
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The rows: .csv, .tsv, .json, .jsonl, .parquet, .conll; they need no labels.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The JSON Lines to write, or - for standard output.")
    ],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a run: one of its models; by default its final student.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Of a model of several tasks: one of these.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Of a model's folder: the column of the text; twice for pairs. By default a guess."
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write probabilities in place of logits.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="For example cpu or cuda:1; the first GPU by default.")
    ] = None,
) -> None:
    """Write a model's answers for the rows of a file: their columns, then answer, confidence and logits."""
    from kdspec.cli.commands.run import check_device
    from kdspec.cli.data_choice import data_file
    from kdspec.cli.predicted_model import chosen
    from kdspec.cli.print_diagnostics import show
    from kdspec.diagnostics.place import place as place_
    from kdspec.engine.prediction.predictions_file import check

    invocation: Invocation = context.obj
    if not place.is_dir():
        message = f"`{place}` is a file; name the folder of the spec's run, such as `runs/NAME`, or that of a model"
        raise typer.BadParameter(message, param_hint="RUN|MODEL")
    if output != "-":
        check(Path(output))
    if device is not None:
        check_device(device)
    found = data_file(invocation.registry, data)
    choice = chosen(invocation, place, found, model=model, task=task, text=text or ())
    if choice.text:
        columns = " and ".join(f"`{column}`" for column in choice.text)
        invocation.err.say(f"the text is in {columns}; --text names other columns")
    try:
        _write(invocation, choice, data, output, device, probabilities=probabilities)
    except FindingError as error:
        invocation.trace(error)
        reading = choice.reading
        if reading is None:
            show(place_(error.findings, None), {}, str(place), invocation.err)
        else:
            show(reading.place(error.findings), reading.sources, reading.name, invocation.err)
        raise typer.Exit(ExitCode.FAILED) from None


def _write(
    invocation: Invocation, choice: Chosen, data: Path, output: str, device: str | None, *, probabilities: bool
) -> None:
    import torch

    from kdspec.cli.predicted_model import read_rows
    from kdspec.engine.prediction.prediction import Prediction
    from kdspec.engine.prediction.predictions_file import write

    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with _folder(invocation, output) as folder:
        prediction = Prediction(
            predictor=choice.predictor,
            rows=read_rows(choice.rows, choice.predictor.plan.source.folder),
            file=str(data),
            folder=folder,
            device=where,
            probabilities=probabilities,
            warn=lambda text: invocation.err.say(f"warning: {text}"),
        )
        try:
            _fill(invocation, prediction)
            if output == "-":
                for line in prediction.lines():
                    invocation.out.file.write(f"{line}\n")
                return
            number = write(prediction, Path(output))
        finally:
            prediction.close()
    invocation.err.say(f"wrote {number:,} rows to {output}")


@contextmanager
def _folder(invocation: Invocation, output: str) -> Iterator[Path]:
    """Where the outputs of the model are until they are written."""
    from kdspec.engine.prediction.predictions_file import beside, kept_beside

    if output == "-":
        with tempfile.TemporaryDirectory(prefix="kdspec-") as folder:
            yield Path(folder)
        return
    with beside(Path(output)) as folder:
        invocation.stop.saved = (
            f"the rows that were computed are kept in {kept_beside(Path(output))}: the same command resumes"
        )
        yield folder


def _fill(invocation: Invocation, prediction: Prediction) -> None:
    with invocation.err.status("loading model and data") as status:
        for done, total in prediction.fill():
            status.update(f"predicted {done:,} of {total:,} rows")
