"""`kdspec parameters`: the parameters of a model by module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import exit_code
from kdspec.cli.invocation import Invocation
from kdspec.diagnostics.diagnostic import closest

_EXAMPLES = """\b
Examples:
  kdspec parameters ./all-MiniLM-L6-v2
  kdspec parameters spec.yaml:student --depth 4
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `parameters`."""
    commands.command("parameters", epilog=_EXAMPLES)(parameters)


def parameters(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder, a name on the hub, or a model of a spec: spec.yaml:student."),
    ],
    *,
    depth: Annotated[int, typer.Option(min=0, help="How many levels of modules to show.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, all levels unless --depth is given.")] = False,
) -> None:
    """Show the parameters of a model by module: number, share and memory. No weights are read."""
    from kdspec.render import module_tree

    invocation: Invocation = context.obj
    name, module = _module(invocation, model)
    from kdspec.engine.forward.parameter_tree import tree

    root = tree(module, name)
    if json:
        given = context.get_parameter_source("depth")
        written = given is not None and given.name == "COMMANDLINE"
        invocation.out.data(module_tree.data(root, depth if written else None))
        return
    invocation.out.show(module_tree.table(root, depth))
    invocation.out.say(module_tree.caption(root))


def _module(invocation: Invocation, model: str) -> tuple[str, Any]:
    """The model's name, and the module."""
    spec, colon, name = model.rpartition(":")
    if os.path.isdir(model) or not (colon or os.path.exists(model)):  # noqa: PTH110, PTH112 - raise nothing for odd names
        from kdspec.diagnostics.fault import Fault
        from kdspec.engine.forward.parameter_tree import from_folder

        try:
            return Path(model).name, from_folder(model, trusts_code=invocation.trusts_code)
        except Fault as fault:
            raise typer.BadParameter(fault.message, param_hint="MODEL") from fault
    if not colon:
        raise typer.BadParameter(f"which model of the spec? Write {model}:NAME", param_hint="MODEL")
    from kdspec.cli.print_diagnostics import show_reading

    reading = invocation.read(spec)
    if reading.plan is None:
        show_reading(reading, invocation.err, "full")
        raise typer.Exit(exit_code(reading))
    names = list(reading.plan.spec.models)
    if name not in names:
        guess = closest(name, names)
        hint = f"did you mean `{guess}`?" if guess else f"its models are {', '.join(names)}"
        raise typer.BadParameter(f"{spec} has no model `{name}`; {hint}", param_hint="MODEL")
    from kdspec.engine.forward.parameter_tree import from_plan

    return name, from_plan(reading.plan, name)
