"""Prints diagnostics on standard error, for commands that print their result on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kdspec.cli.screen import Screen
from kdspec.diagnostics.diagnostic import Diagnostic
from kdspec.launch.spec_reading import Reading
from kdspec.render import diagnostics as render
from kdspec.render.formats import Format
from kdspec.source.document import Source


def show_reading(reading: Reading, screen: Screen, format_: Format) -> None:
    """Print all diagnostics of a spec, and a summary."""
    show(reading.diagnostics, reading.sources, reading.name, screen, format_)
    if reading.diagnostics and format_ == "full":
        screen.say(render.summary(reading.diagnostics, reading.name))


def show(
    diagnostics: Iterable[Diagnostic],
    sources: Mapping[str, Source],
    name: str,
    screen: Screen,
    format_: Format = "full",
) -> None:
    """Print diagnostics; `name` is the file of those without a place."""
    if format_ == "json":
        screen.data([render.plain(diagnostic, name) for diagnostic in diagnostics])
        return
    for diagnostic in diagnostics:
        if diagnostic.cause is not None:
            screen.trace(diagnostic.cause)
        match format_:
            case "concise":
                screen.say(render.concise(diagnostic, name))
            case "github":
                screen.say(render.github(diagnostic, name))
            case _:
                screen.show(render.full(diagnostic, sources, screen.width))
                screen.say()
