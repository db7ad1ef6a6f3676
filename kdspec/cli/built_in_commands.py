"""The built-in commands by name. The module of each is imported when the command is first looked up."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, MutableMapping
from functools import wraps
from types import MappingProxyType
from typing import Any

import typer
from typer.main import get_group

from kdspec.cli.own_stdout import own_stdout

COMMANDS = MappingProxyType(
    {
        "init": "kdspec.cli.commands.init",
        "validate": "kdspec.cli.commands.validate",
        "plan": "kdspec.cli.commands.plan",
        "run": "kdspec.cli.commands.run",
        "predict": "kdspec.cli.commands.predict",
        "cache": "kdspec.cli.commands.cache",
        "report": "kdspec.cli.commands.report",
        "runs": "kdspec.cli.commands.several_runs.runs",
        "compare": "kdspec.cli.commands.several_runs.compare",
        "sweep": "kdspec.cli.commands.several_runs.sweep",
        "push": "kdspec.cli.commands.one_run.push",
        "bench": "kdspec.cli.commands.one_run.bench",
        "export": "kdspec.cli.commands.one_run.export",
        "clean": "kdspec.cli.commands.clean",
        "list": "kdspec.cli.commands.listing",
        "show": "kdspec.cli.commands.show",
        "plugins": "kdspec.cli.commands.installation.plugins",
        "doctor": "kdspec.cli.commands.installation.doctor",
        "explain": "kdspec.cli.commands.explain",
        "parameters": "kdspec.cli.commands.parameters",
        "schema": "kdspec.cli.commands.schema",
        "fetch": "kdspec.cli.commands.fetch",
        "import-textbrewer": "kdspec.cli.commands.import_textbrewer",
    }
)
"""The module of each built-in command, with the hook `kdspec_commands`, in the order of `--help`."""


class BuiltInCommands(MutableMapping[str, Any]):
    """The commands of a group by name; built-in ones are made when they are looked up, and others can be added."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = dict.fromkeys(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            self._made[name] = _command(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def _command(name: str) -> Any:
    app = typer.Typer(rich_markup_mode=None)
    importlib.import_module(COMMANDS[name]).kdspec_commands(app)
    for command in app.registered_commands:
        assert command.callback is not None, "each command is a function"
        command.callback = _with_own_stdout(command.callback)
    return get_group(app).commands[name]


def _with_own_stdout(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A built-in command whose result alone is on standard output. One of a plugin prints its result as it likes."""

    @wraps(callback)
    def owned(context: typer.Context, **values: Any) -> Any:
        with own_stdout(context.obj, to_the_end=context.obj.owns_process):
            return callback(context, **values)

    return owned
