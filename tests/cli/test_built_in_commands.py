"""The built-in commands, which are imported when they are looked up."""

from __future__ import annotations

import importlib

import pytest
import typer

from kdspec.cli.built_in_commands import COMMANDS, BuiltInCommands


@pytest.mark.parametrize("name", COMMANDS)
def test_each_module_has_the_command_of_its_name_alone(name):
    app = typer.Typer()
    importlib.import_module(COMMANDS[name]).kdspec_commands(app)
    assert [command.name for command in app.registered_commands] == [name]
    assert BuiltInCommands()[name].name == name


def test_a_command_is_made_once():
    commands = BuiltInCommands()
    assert commands["run"] is commands["run"]


def test_commands_of_plugins_are_added_and_replace_none():
    commands, other = BuiltInCommands(), object()
    assert commands.setdefault("mine", other) is other
    assert commands.setdefault("run", other) is not other
    assert list(commands) == [*COMMANDS, "mine"]
    del commands["mine"]
    assert len(commands) == len(COMMANDS)
    assert "mine" not in commands
