"""Kinds of component by the names that users type."""

from __future__ import annotations

import typer

from kdspec.api.component import Component
from kdspec.diagnostics.diagnostic import closest
from kdspec.registry.registry import KINDS


def kinds_named(text: str) -> tuple[type[Component], ...]:
    """The kinds that `text` can mean: `logit_loss`, `LogitLoss`, `logit-losses`, or `loss` for all losses.

    Raises:
        typer.BadParameter: no kind has that name.
    """
    wanted = {_folded(text), _folded(text).removesuffix("s"), _folded(text).removesuffix("es")}
    exact = tuple(kind for kind in KINDS if _folded(kind.kind) in wanted)
    if exact:
        return exact
    by_last_word = tuple(kind for kind in KINDS if kind.kind.rpartition("_")[2] in wanted)
    if by_last_word:
        return by_last_word
    known = [kind.kind for kind in KINDS]
    guess = closest(text, known)
    hint = f"did you mean `{guess}`?" if guess else f"the kinds are {', '.join(known)}"
    raise typer.BadParameter(f"there is no kind `{text}`; {hint}", param_hint="KIND")


def _folded(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
