"""A plugin that prints wherever its code runs, in each way that Python and C have."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from typing import Any

from kdspec import BuildContext, Component, FeatureLoss, hookimpl
from kdspec.api.report import Section


def noise(place: str) -> None:
    """Print in all ways."""
    print(f"noise of print in {place}")  # noqa: T201 - what is tested
    sys.stdout.write(f"noise of sys.stdout in {place}\n")
    os.write(1, f"noise of os.write in {place}\n".encode())
    library = ctypes.CDLL(None)
    library.puts(f"noise of C in {place}".encode())
    library.fflush(None)
    handler = logging.StreamHandler(sys.stdout)
    logger = logging.getLogger("noisy")
    logger.addHandler(handler)
    logger.warning("noise of logging in %s", place)
    logger.removeHandler(handler)
    if place == "import":
        subprocess.run(["/bin/echo", "noise of a child"], check=True)


noise("import")


class Noisy(FeatureLoss):
    """The squared difference, with noise."""

    name = "noisy"

    def model_post_init(self, context: Any) -> None:
        """Called when a spec is checked."""
        noise("a check of parameters")

    def build(self, context: BuildContext) -> Any:
        noise("build")

        def loss(student: Any, teacher: Any, *, mask: Any) -> Any:
            noise("a loss")
            return (student - teacher).square().mean()

        return loss


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """What a spec can name."""
    noise("kdspec_components")
    return [Noisy]


@hookimpl
def kdspec_check(plan: Any) -> list[Any]:
    """No findings."""
    noise("kdspec_check")
    return []


@hookimpl
def kdspec_observe(event: Any, session: Any) -> None:
    """See an event."""
    noise("kdspec_observe")


@hookimpl
def kdspec_report(report: Any) -> list[Section]:
    """No section."""
    noise("kdspec_report")
    return []


@hookimpl
def kdspec_commands(commands: Any) -> None:
    """A command that prints its result."""
    noise("kdspec_commands")

    @commands.command("mine")
    def mine() -> None:
        """Print a result."""
        print("the result")  # noqa: T201 - as a plugin may
