"""`kdspec doctor`: what this machine has for kdspec, and what to change."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation

if TYPE_CHECKING:
    from kdspec.engine.machine.condition import Condition

_EXAMPLES = """\b
Examples:
  kdspec doctor
  kdspec doctor --json

Takes a few seconds: matrix products are measured for about one, and the result
is kept in the cache folder. `kdspec plan` uses it for its hints on speed.
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `doctor`."""
    commands.command("doctor", epilog=_EXAMPLES)(doctor)


def doctor(
    context: typer.Context, *, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Check this machine: versions, devices, threads, speed, memory, disk, cache, hub, plugins; and what to change."""
    from kdspec.engine.machine.advice import advice
    from kdspec.engine.machine.condition import examine

    invocation: Invocation = context.obj
    problems = {problem.origin: problem.reason for problem in invocation.any_registry.problems}
    with invocation.err.status("measuring"):
        found = examine(plugins=_loaded(invocation), plugin_problems=problems)
    given = advice(found)
    if json:
        invocation.out.data({**asdict(found), "findings": [asdict(each) for each in given]})
        return
    _show(invocation, found)
    invocation.out.say()
    for each in given:
        invocation.out.say(f"{each.level}: {each.text}\n  {each.help}")
    if not given:
        invocation.out.say("nothing to change")


def _loaded(invocation: Invocation) -> dict[str, str]:
    return {plugin.distribution: plugin.version for plugin in invocation.any_registry.plugins.loaded}


def _show(invocation: Invocation, found: Condition) -> None:
    from rich.table import Table
    from rich.text import Text

    from kdspec.render.clean import clean

    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in _lines(found).items():
        table.add_row(Text(name, "dim"), Text(clean(text)))
    invocation.out.print(table, soft_wrap=False)


def _lines(found: Condition) -> dict[str, str]:
    from kdspec.render.rehearsal import number, size

    limit = "" if found.quota is None else f", {found.quota:g} of them by the container's quota"
    speed: dict[str, Any] = {}
    if found.speed is not None:
        rates = f"fp32 {number(found.speed.fp32)}FLOP/s, bf16 {number(found.speed.bf16)}FLOP/s"
        speed = {"speed": f"{rates}: {found.speed.gain:.2g} times"}
    memory = "not known" if found.free_memory is None else f"{size(found.free_memory)} free"
    writable = "" if found.cache_writable else ", not writable"
    return {
        "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        "processor": f"{found.processor}; {found.processors} usable{limit}",
        "threads": f"torch uses {found.threads}",
        **speed,
        "devices": ", ".join(found.devices) or "no GPU",
        "memory": memory,
        "disk": ", ".join(f"{size(free)} free in {place}" for place, free in found.free_disk.items()),
        "cache": f"{found.cache_folder}, {size(found.cache_bytes)}{writable}",
        "hub": found.hub,
        "plugins": ", ".join(f"{name} {version}" for name, version in found.plugins.items()),
    }
