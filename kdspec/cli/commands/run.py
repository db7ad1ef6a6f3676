"""`kdspec run`: trains the stages of a spec."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_plan
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes import torchrun
from kdspec.engine.processes.torchrun import Rank, Strategy
from kdspec.launch.trackers import refused_trackers
from kdspec.render.formats import Format

if TYPE_CHECKING:
    from kdspec.engine.run.session import Result, Session

_EXAMPLES = """\b
Examples:
  kdspec run spec.yaml
  kdspec run spec.yaml --set stages.distil.training.epochs=1 --output try
  kdspec run spec.yaml --restart
  kdspec run spec.yaml --track wandb
  kdspec run plan.json
  torchrun --nproc-per-node=2 -m kdspec run spec.yaml --backend fsdp

The same command resumes a run that was stopped.
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `run`."""
    commands.command("run", epilog=_EXAMPLES)(run)


def run(
    context: typer.Context,
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC",
            help="A file, a plan of `kdspec plan -o`, or - for standard input.",
            autocompletion=complete_plan,
        ),
    ],
    *,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value of the spec.")
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that contains the run folder.", file_okay=False)
    ] = Path("runs"),
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning; the earlier run is moved aside.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume although the spec, or what it reads, has changed since.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="For example cpu or cuda:1; the first GPU by default.")
    ] = None,
    backend: Annotated[
        Strategy,
        typer.Option(
            help="How the processes of torchrun train: ddp copies the weights (auto means ddp), fsdp shards them, "
            "accelerate uses that library (`pip install 'kdspec[accelerate]'`)."
        ),
    ] = "auto",
    accelerate_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With accelerate: a file of `accelerate config`.", dir_okay=False),
    ] = None,
    shard_teachers: Annotated[
        bool, typer.Option("--shard-teachers", help="With fsdp: shard the teachers' weights too.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Log the run with a tracker, such as wandb, mlflow or trackio (`kdspec-wandb`, ...)."
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print diagnostics.")] = "full",
) -> None:
    """Run a spec: train its stages in order, then compare the models."""
    from kdspec.cli.print_diagnostics import show
    from kdspec.cli.rehearse import rehearsed_once
    from kdspec.diagnostics.place import place

    invocation: Invocation = context.obj
    err = invocation.err
    _check_options(
        {
            ("--set", "cannot change a saved plan"): bool(sets) and spec.endswith(".json"),
            ("--resume", "excludes `--restart`"): restart and resume,
            ("--shard-teachers", "needs `--backend fsdp`"): shard_teachers and backend != "fsdp",
            ("--accelerate-config", "needs `--backend accelerate`"): accelerate_config is not None
            and backend != "accelerate",
        }
    )
    invocation.stop.saved = "the run has not begun: the same command starts it"
    here = _place(invocation, backend)
    if (reason := refused_trackers(track or (), invocation.plugins)) is not None:
        raise typer.BadParameter(reason, param_hint="--track")
    reading = invocation.read(spec, sets or ())
    if device is not None and reading.plan is not None:
        check_device(device)
    plan = rehearsed_once(invocation, reading, None if restart else output, format_)

    from rich.console import Console

    from kdspec.engine.run.session import Session
    from kdspec.engine.run.stage_run import Interrupted
    from kdspec.launch.observed import observed

    session = Session(
        plan,
        invocation.registry,
        output=output,
        restart=restart,
        resume=resume,
        device=device,
        backend=backend,
        accelerate_config=accelerate_config,
        shard_teachers=shard_teachers,
        track=track or (),
        stop=invocation.stop,
    )
    command = _command(invocation, here, session, spec, sets or ())
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=here.rank > 0)
    told = {diagnostic.line for diagnostic in reading.diagnostics}
    try:
        result, unwritten = observed(session, console, told, detail=invocation.detail)
    except FindingError as error:
        err.quiet = not session.reports_failure
        invocation.trace(error)
        show(reading.place(error.findings), reading.sources, reading.name, err, format_)
        raise typer.Exit(ExitCode.FAILED) from None
    except Interrupted as stopped:
        err.say(f"stopped; {invocation.stop.saved}, in {session.folder}:\n  {command}")
        code = ExitCode.TERMINATED if stopped.signal == signal.SIGTERM else ExitCode.INTERRUPTED
        raise typer.Exit(code) from None
    finally:
        err.quiet = False
    if here.rank == 0:
        invocation.stop.saved = f"the run is finished, in {result.folder}"
        show(place(unwritten, None), {}, reading.name, err)
        _show_result(invocation, result, command)


def _check_options(wrong: Mapping[tuple[str, str], bool]) -> None:
    """Raise `typer.BadParameter` for the first option whose condition is true."""
    for (option, message), applies in wrong.items():
        if applies:
            raise typer.BadParameter(message, param_hint=option)


def _place(invocation: Invocation, backend: Strategy) -> Rank:
    """The rank of this process. Only rank 0 prints; other ranks print only if rank 0 cannot."""
    here = torchrun.place(os.environ)
    torchrun.check(here, backend)
    if here.world > 1:
        torchrun.quiet_store(os.environ)
    invocation.err.quiet = here.rank > 0
    return here


def check_device(device: str) -> None:
    """Raise `typer.BadParameter` if torch cannot compute on the device."""
    from kdspec.launch.named_device import refused_device

    if (reason := refused_device(device)) is not None:
        raise typer.BadParameter(reason, param_hint="--device")


def _command(invocation: Invocation, here: Rank, session: Session, spec: str, sets: Sequence[str]) -> str:
    """The command that resumes this run: the one that started it, without `--restart`."""
    words = ["kdspec", "run", spec]
    if here.world > 1:
        # The rendezvous address of several machines is not known here.
        machines = [f"--nnodes={here.world // here.local_world}", "..."] if here.world > here.local_world else []
        words = ["torchrun", f"--nproc-per-node={here.local_world}", *machines, "-m", *words]
    for given in sets:
        words += ["--set", given]
    for tracker in session.track:
        words += ["--track", tracker]
    options = {
        "--output": session.output if session.output != Path("runs") else None,
        "--device": session.device,
        "--backend": session.backend if session.backend != "auto" else None,
        "--accelerate-config": session.accelerate_config,
    }
    for option, value in options.items():
        words += [option, str(value)] if value is not None else []
    flags = {
        "--shard-teachers": session.shard_teachers,
        "--resume": session.resume,
        "--trust-remote-code": invocation.trusts_code,
        "--untrusted": invocation.untrusted,
    }
    words += [flag for flag, wanted in flags.items() if wanted]
    for file in invocation.plugin_files:
        words += ["--plugin", file]
    return shlex.join(words)


def _show_result(invocation: Invocation, result: Result, command: str) -> None:
    from kdspec.engine.run.run_folder import RunFolder
    from kdspec.hf.saved.usage import usage
    from kdspec.render.rehearsal import size
    from kdspec.render.table import caption, table

    out = invocation.out
    if result.already_finished:
        invocation.err.say(f"this run is already finished. To start again:\n  {command} --restart")
    rows = [asdict(row) for row in result.table]
    out.print(table(rows), soft_wrap=False)
    out.say(f"{caption(rows)}\n")
    out.say(f"{'student' if any(row.role == 'student' for row in result.table) else 'model  '}  {result.student}")
    out.say(f"report   {result.folder / 'report.html'}")
    if (kept := RunFolder(result.folder).checkpoint_bytes()) and invocation.err.shows_progress:
        invocation.err.say(
            f"the checkpoints have {size(kept)}; to remove them:\n  kdspec clean {shlex.quote(str(result.folder))}"
        )
    place = str(result.student)
    if snippet := usage(result.student, place):
        if (shown := out.variables.hide(place)) != place:
            snippet = f"import os\n\n{snippet}".replace(repr(place), f"os.path.expandvars({shown!r})")
        out.say(f"\n{snippet}")
