"""`kdspec explain`: the explanation of a code, with examples."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.diagnostics.diagnostic import CODES, closest
from kdspec.diagnostics.pages import page


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `explain`."""
    commands.command("explain")(explain)


def explain(
    context: typer.Context,
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="For example KD201; all codes by default.")] = None,
) -> None:
    """Explain a code such as KD201."""
    invocation: Invocation = context.obj
    out = invocation.out
    if code is None:
        for known in CODES.values():
            out.say(f"{known.code}  {known.title}")
        out.say("\n`kdspec explain KD201` explains one of them")
        return
    known_code = CODES.get(code.upper())
    if known_code is None:
        guess = closest(code.upper(), CODES)
        hint = f"; did you mean {guess}?" if guess else "; `kdspec explain` lists all codes"
        raise typer.BadParameter(f"there is no code `{code}`{hint}", param_hint="CODE")
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
