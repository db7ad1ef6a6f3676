"""`kdspec push`: uploads a model of a finished run to the hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_run

_EXAMPLES = """\b
Examples:
  kdspec push runs/first my-name/first --dry-run
  kdspec push runs/first my-name/first --private
  kdspec push runs/first my-name/teacher --model teacher

It needs a login: `hf auth login`, or the variable HF_TOKEN.
"""
_FOLDER = "push"


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `push`."""
    commands.command("push", epilog=_EXAMPLES)(push)


def push(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="The folder of a finished run, such as runs/my-run.", autocompletion=complete_run
        ),
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="The name on the hub: owner/name.")],
    *,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another model that the run has trained; the student by default.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help=f"Only write the folder that would be uploaded, `{_FOLDER}/` in the run's."),
    ] = False,
) -> None:
    """Upload the student of a run, with its model card, metrics, spec and report, to the Hugging Face hub."""
    from kdspec.engine.export import hub
    from kdspec.engine.export.pushed_model import NoSuchModelError, PushedModel
    from kdspec.report import report

    invocation: Invocation = context.obj
    if (reason := hub.refused_name(repo)) is not None:
        raise typer.BadParameter(reason, param_hint="REPO")
    report.check(run)
    try:
        found = PushedModel.of(run, model)
    except NoSuchModelError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from None
    if not dry_run:
        hub.check_login()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / _FOLDER
        card, notes = found.fill(folder)
        for note in notes:
            invocation.err.say(f"note: {note}")
        if dry_run:
            target = run / _FOLDER
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target)
            _show(invocation, target, card)
            return
        with invocation.err.status(f"uploading to {repo}"):
            url = hub.upload(folder, repo, private=private, message=f"{found.name} of {found.run_name}, by kdspec")
    invocation.out.say(url)


def _show(invocation: Invocation, folder: Path, card: Mapping[str, Any]) -> None:
    """The files that would be uploaded, with their sizes, and the metadata of the card."""
    from kdspec.planning.resolved import as_yaml
    from kdspec.render.rehearsal import size

    files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    width = max(map(len, files))
    for name, length in files.items():
        invocation.out.say(f"{name:<{width}}  {size(length)}")
    invocation.out.say(f"\nthe metadata of README.md:\n{as_yaml(dict(card))}")
    invocation.out.say(f"nothing is uploaded; the folder is {folder}")
