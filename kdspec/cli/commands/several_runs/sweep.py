"""`kdspec sweep`: many runs of one spec, with other values and seeds."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_spec

if TYPE_CHECKING:
    from kdspec.api.plan.plan import StagePlan
    from kdspec.cli.swept_spec import SweptSpec
    from kdspec.launch.spec_reading import Reading
    from kdspec.sweep.axis import Axis
    from kdspec.sweep.search import SamplerName
    from kdspec.sweep.sweep import Sweep
    from kdspec.sweep.sweep_point import SweepRun
    from kdspec.sweep.sweep_record import SweepRecord

_EXAMPLES = """\b
Examples:
  kdspec sweep spec.yaml --grid \\
      stages.distil.distiller.general.soft_labels.temperature=2,4,8 --seeds 3
  kdspec sweep spec.yaml --seeds 1,2,3 --jobs 2
  kdspec sweep spec.yaml --sample 20 --stop-early --range \\
      stages.distil.training.optimizer.adamw.lr=1e-5..1e-3:log

The same command resumes a sweep that was stopped; with more values, seeds or
points it extends it.
"""
_PAGE = "comparison.html"


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `sweep`."""
    commands.command("sweep", epilog=_EXAMPLES)(sweep)


def sweep(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A file.", autocompletion=complete_spec)],
    *,
    grids: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="PATH=V,V", help="Values of a setting; of several, all combinations are run."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="PATH=LOW..HIGH[:log]", help="With --sample: a range of numbers."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Sample N points of the lists and ranges (needs Optuna).")
    ] = None,
    sampler: Annotated[
        Literal["random", "tpe"],
        typer.Option(help="With --sample: random, or tpe, which learns from the validation metric of earlier points."),
    ] = "random",
    seeds: Annotated[
        str | None, typer.Option(metavar="N|LIST", help="Seeds of each point: how many, or a list such as 1,2,3.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Runs at a time; they share the threads.")] = 1,
    stop_early: Annotated[
        bool,
        typer.Option("--stop-early", help="Stop runs that are worse than the median of finished ones (needs Optuna)."),
    ] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value in all runs.")
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that contains the sweep's folder.", file_okay=False)
    ] = Path("runs"),
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="For example cpu, or cuda:0,cuda:1, which the jobs share.")
    ] = None,
) -> None:
    """Run a spec with other values and seeds, and compare the runs: metrics over seeds, and the best by validation."""
    from kdspec.cli.rehearse import planned
    from kdspec.cli.swept_spec import SweptSpec, opened
    from kdspec.planning.resolved import resolved
    from kdspec.sweep.sweep_record import record_of

    invocation: Invocation = context.obj
    invocation.stop.saved = "no run has begun: the same command starts the sweep"
    axes = _axes(grids or (), ranges or (), sample)
    _check_options(spec, sampler=sampler, sample=sample, stop_early=stop_early)
    swept = SweptSpec(invocation, spec, tuple(sets or ()))
    reading = swept.first(axes)
    plan = reading.plan
    chosen = _seeds(seeds, 0 if plan is None else plan.spec.seed)
    record = record_of("" if plan is None else resolved(plan), axes, chosen, sample=sample or 0, sampler=sampler)
    runs = _to_check(record)
    if wrong := swept.check(runs):
        raise typer.Exit(wrong)
    stage = planned(invocation, reading).final_stage
    assert plan is not None, "else the command has ended"
    _check_evaluations(stage, sampler=sampler, stop_early=stop_early)
    devices = _devices(device)
    folder = output / f"{plan.spec.name}-sweep"
    with opened(folder, record, swept) as kept:
        made = _made(swept, reading, folder, kept, stage.name, jobs=jobs, devices=devices, stop_early=stop_early)
        command = _command(context)
        invocation.stop.saved = f"every run resumes from its last checkpoint:\n  {command}"
        total = max(len(made.runs()), record.sample * len(record.seeds))
        invocation.err.say(f"{total} runs in {folder}, {sum(map(made.finished, made.runs()))} of them finished")
        with invocation.stop.saving():
            made.run()
        _show(invocation, made, plan.spec.name, command)
    if made.failed:
        raise typer.Exit(ExitCode.FAILED)


def _axes(grids: Sequence[str], ranges: Sequence[str], sample: int | None) -> tuple[Axis, ...]:
    from kdspec.sweep.axis import AxisError, distinct, grid_axis, range_axis

    found: list[Axis] = []
    for option, made, given in (("--grid", grid_axis, grids), ("--range", range_axis, ranges)):
        for argument in given:
            try:
                found.append(made(argument))
            except AxisError as error:
                raise typer.BadParameter(str(error), param_hint=option) from None
    if ranges and sample is None:
        raise typer.BadParameter("needs `--sample`: a range has no end of values", param_hint="--range")
    if sample is not None and not found:
        raise typer.BadParameter("needs `--range` or `--grid`: there is nothing to sample", param_hint="--sample")
    try:
        return distinct(found)
    except AxisError as error:
        raise typer.BadParameter(str(error), param_hint="--grid") from None


def _seeds(text: str | None, first: int) -> tuple[int, ...]:
    from kdspec.sweep.axis import AxisError, seeds_of

    try:
        return seeds_of(text, first)
    except AxisError as error:
        raise typer.BadParameter(str(error), param_hint="--seeds") from None


def _check_options(spec: str, *, sampler: SamplerName, sample: int | None, stop_early: bool) -> None:
    """Raise `typer.BadParameter` for options that do not fit together, or need a package that is not there."""
    from kdspec.sweep.axis import AxisError
    from kdspec.sweep.search import imported

    if spec == "-" or spec.endswith(".json"):
        raise typer.BadParameter("a sweep reads its spec once for each run: name a YAML file", param_hint="SPEC")
    if sampler != "random" and sample is None:
        raise typer.BadParameter("needs `--sample`", param_hint="--sampler")
    for option, wanted in (("--sample", sample is not None), ("--stop-early", stop_early)):
        if wanted:
            try:
                imported()
            except AxisError as error:
                raise typer.BadParameter(str(error), param_hint=option) from None


def _check_evaluations(stage: StagePlan, *, sampler: SamplerName, stop_early: bool) -> None:
    """Raise `typer.BadParameter` if the stage of the student is never evaluated, and an option needs that it is."""
    for option, wanted in (("--stop-early", stop_early), ("--sampler", sampler == "tpe")):
        if wanted and stage.training.evaluate is None:
            message = f"needs evaluations, and stage `{stage.name}` has `evaluate: null`"
            raise typer.BadParameter(message, param_hint=option)


def _to_check(record: SweepRecord) -> list[SweepRun]:
    """The runs whose specs are checked before the first one starts: of what `tpe` samples the ends of the ranges."""
    from kdspec.cli.swept_spec import corners
    from kdspec.sweep.search import PointSearch
    from kdspec.sweep.sweep_point import SweepPoint, SweepRun, grid_points
    from kdspec.sweep.sweep_record import MOST_RUNS, axes_of, grid_of

    runs = (record.sample or math.prod(map(len, record.grid.values()))) * len(record.seeds)
    if runs > MOST_RUNS:
        message = f"these are {runs:,} runs, more than {MOST_RUNS:,}"
        raise typer.BadParameter(message, param_hint="--sample" if record.sample else "--grid")
    points = list(grid_points(grid_of(record))) if not record.sample else list(corners(axes_of(record)))
    if record.sampler == "random":
        search = PointSearch(None, axes_of(record), "random", record.seeds[0])
        points += [SweepPoint(search.draw().values) for _ in range(record.sample)]
    return [SweepRun(point, seed) for seed in record.seeds for point in points]


def _devices(text: str | None) -> tuple[str, ...]:
    from kdspec.cli.commands.run import check_device

    found = () if text is None else tuple(part.strip() for part in text.split(","))
    for device in found:
        check_device(device)
    return found


def _made(
    swept: SweptSpec, reading: Reading, folder: Path, record: SweepRecord, stage: str, *,
    jobs: int, devices: Sequence[str], stop_early: bool,
) -> Sweep:  # fmt: skip
    """The sweep in a folder; a random sample is drawn at once."""
    from kdspec.sweep.child_run import ChildCommand, divided_threads, processors
    from kdspec.sweep.median_rule import MedianRule
    from kdspec.sweep.search import PointSearch
    from kdspec.sweep.sweep import Sweep
    from kdspec.sweep.sweep_point import grid_points
    from kdspec.sweep.sweep_record import axes_of, grid_of, sampled_points

    invocation, search = swept.invocation, None
    if record.sample:
        kind: SamplerName = "tpe" if record.sampler == "tpe" else "random"
        search = PointSearch(folder, axes_of(record), kind, record.seeds[0])
        search.forget([point.trial for point in record.sampled])
        if kind == "random" and (more := record.sample - len(record.sampled)) > 0:
            record = replace(record, sampled=[*record.sampled, *(search.draw() for _ in range(more))])
            record.write(folder)
    before = [word for file in invocation.plugin_files for word in ("--plugin", file)]
    before += ["--trust-remote-code"] if invocation.trusts_code else []
    before += ["--untrusted"] if invocation.untrusted else []
    before += ["--verbose"] if invocation.detail == "verbose" else []
    return Sweep(
        folder=folder,
        record=record,
        points=sampled_points(record) if record.sample else list(grid_points(grid_of(record))),
        stage=stage,
        command=ChildCommand(before, swept.spec, swept.sets, folder, devices),
        jobs=jobs,
        threads=divided_threads(jobs, processors()),
        stop=invocation.stop,
        tell=invocation.err.say,
        check=swept.checker(reading, each=record.sampler == "tpe"),
        search=search,
        rule=MedianRule() if stop_early else None,
        detailed=invocation.detail == "verbose",
    )


def _show(invocation: Invocation, made: Sweep, name: str, command: str) -> None:
    """Print the table of the runs and what has failed, and write the page."""
    from kdspec.cli.commands.several_runs.compare import show_comparison
    from kdspec.diagnostics.diagnostic import DiagnosticError
    from kdspec.diagnostics.finding import FindingError
    from kdspec.engine.run.durable_files import atomic_write
    from kdspec.report.comparison import variant
    from kdspec.report.comparison.compared_run import LOG, read_run
    from kdspec.report.comparison.comparison_page import comparison_page
    from kdspec.sweep.sweep_point import swept_values

    err, runs = invocation.err, []
    for run in made.runs():
        if (made.folder / run.name / LOG).is_file():
            try:
                runs.append(read_run(made.folder / run.name))
            except (DiagnosticError, FindingError) as error:
                made.failed.setdefault(run.name, f"{error}")
    stopped = [f"{run}: stopped early, {reason}" for run, reason in made.record.stopped.items()]
    failed = [f"{run}: failed: {reason}" for run, reason in made.failed.items()]
    if runs:
        found = variant.compare(runs)
        page = comparison_page(found, f"Sweep of {name}", [*stopped, *failed], swept_values(made.runs()))
        atomic_write(made.folder / _PAGE, page)
        show_comparison(invocation, found)
        if found.best is not None:
            seeds = [run for run in found.variants[found.best].runs if run.value is not None]
            choose = min if found.lower_is_better else max
            best = choose(seeds, key=lambda run: math.inf if run.value is None else run.value)
            invocation.out.say(f"student  {best.folder / 'student'} (its best seed by validation)")
        invocation.out.say(f"page     {made.folder / _PAGE}")
    for line in (*stopped, *failed):
        err.say(line)
    if failed:
        err.say(
            f"{len(failed)} runs have failed; {made.folder / 'output'} has what they printed. To try them again:\n  {command}"
        )


def _command(context: typer.Context) -> str:
    """The command of this sweep, to resume it."""
    invocation: Invocation = context.obj
    given = context.params
    words = ["kdspec", "sweep", given["spec"]]
    for name, option in (("grids", "--grid"), ("ranges", "--range"), ("sets", "--set")):
        for value in given[name] or ():
            words += [option, value]
    for name in ("sample", "seeds", "device"):
        words += [f"--{name}", str(given[name])] if given[name] is not None else []
    words += ["--sampler", given["sampler"]] if given["sampler"] != "random" else []
    words += ["--jobs", str(given["jobs"])] if given["jobs"] != 1 else []
    words += ["--stop-early"] if given["stop_early"] else []
    words += ["--output", str(given["output"])] if Path(given["output"]) != Path("runs") else []
    words += ["--trust-remote-code"] if invocation.trusts_code else []
    words += ["--untrusted"] if invocation.untrusted else []
    words += ["--verbose"] if invocation.detail == "verbose" else []
    for file in invocation.plugin_files:
        words += ["--plugin", file]
    return shlex.join(words)
