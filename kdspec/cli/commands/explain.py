"""`kdspec explain`: the explanation of a code, with examples."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_code
from kdspec.diagnostics.diagnostic import CODES, Code
from kdspec.diagnostics.pages import page

if TYPE_CHECKING:
    from kdspec.cli.screen import Screen


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `explain`."""
    commands.command("explain")(explain)


def explain(
    context: typer.Context,
    codes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CODE]...", help="For example KD201; all codes by default.", autocompletion=complete_code
        ),
    ] = None,
) -> None:
    """Explain codes such as KD201."""
    invocation: Invocation = context.obj
    if not codes:
        for known in CODES.values():
            invocation.out.say(f"{known.code}  {known.title}")
        invocation.out.say("\n`kdspec explain KD201` explains one of them")
        return
    for number, found in enumerate([_known(code) for code in codes]):
        if number:
            invocation.out.say()
        _explain(invocation.out, found)


def _known(code: str) -> Code:
    known = CODES.get(code.upper())
    if known is None:
        # By its number alone: the nearest other number is another error.
        guess = f"KD{code.upper().lstrip('KD-_ 0')}"
        hint = f"; did you mean {guess}?" if guess in CODES else "; `kdspec explain` lists all codes"
        raise typer.BadParameter(f"there is no code `{code}`{hint}", param_hint="CODE")
    return known


def _explain(out: Screen, known_code: Code) -> None:
    out.say(f"{known_code.code}: {known_code.title}\n")
    described, width = page(known_code.code), min(out.width, 100)
    out.say(_filled(known_code.text, width))
    if described is not None:
        out.say(f"\n{_filled(described.text, width)}")
        for title, example in (("Wrong", described.wrong), ("Right", described.right)):
            if example is not None:
                out.say(f"\n{title}:\n\n{textwrap.indent(example, '    ').rstrip()}")


def _filled(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)
