"""`kdspec show`: the documentation of one component."""

from __future__ import annotations

from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.cli.kind_names import kinds_named
from kdspec.cli.shell.completion import complete_component, complete_kind_or_component
from kdspec.diagnostics.diagnostic import closest
from kdspec.registry.registry import Registry, RegistryEntry


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `show`."""
    commands.command("show")(show)


def show(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="For example loss or distiller; or a name alone.",
            autocompletion=complete_kind_or_component,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="As a spec calls it; `kdspec list` lists the names.", autocompletion=complete_component
        ),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a component: what it does, its parameters, who provides it, and how a spec writes it."""
    from kdspec.render import components as render
    from kdspec.render.example import example

    invocation: Invocation = context.obj
    registry = invocation.registry
    entries = _of_any_kind(registry, kind) if name is None else _find(registry, kind, name)
    examples = [example(entry.component, registry) for entry in entries]
    if json:
        shown = [render.data(e, registry, text, whole=True) for e, text in zip(entries, examples, strict=True)]
        invocation.out.data(shown[0] if len(shown) == 1 else shown)
        return
    for number, (entry, text) in enumerate(zip(entries, examples, strict=True)):
        if number:
            invocation.out.say()
        invocation.out.show(render.page(entry, text, invocation.out.width))


def _of_any_kind(registry: Registry, name: str) -> list[RegistryEntry]:
    """The components of a name that is given without a kind."""
    found = [entry for entry in registry.entries if name in (entry.component.name, entry.qualified)]
    if found:
        return found
    guess = closest(name, sorted({entry.component.name for entry in registry.entries}))
    hint = f"did you mean `{guess}`?" if guess else f"`kdspec list {kinds_named(name)[0].kind}` lists the names"
    raise typer.BadParameter(f"no component is named `{name}`; {hint}", param_hint="NAME")


def _find(registry: Registry, kind: str, name: str) -> list[RegistryEntry]:
    kinds = kinds_named(kind)
    found = [entry for wanted in kinds for entry in registry.find(wanted.kind, name)]
    if found:
        return found
    known = sorted({known for wanted in kinds for known in registry.names(wanted.kind)})
    guess = closest(name, known)
    elsewhere = sorted({e.component.kind for e in registry.entries if name in (e.component.name, e.qualified)})
    if elsewhere:
        hint = f"`kdspec show {elsewhere[0]} {name}` shows the {elsewhere[0].replace('_', ' ')} of this name"
    else:
        hint = f"did you mean `{guess}`?" if guess else f"`kdspec list {kind}` lists them"
    words = " or ".join(wanted.words() for wanted in kinds)
    raise typer.BadParameter(f"there is no {words} `{name}`; {hint}", param_hint="NAME")
