"""The group of all commands: what it refuses before a command begins."""

from __future__ import annotations

import inspect

import pytest
import typer

from kdspec.cli.application import application


def test_each_command_begins_with_its_help_and_takes_the_context(kdspec):
    """A command that does not is called without it, and fails before it begins."""
    for name, command in application().commands.items():
        assert "context" in inspect.signature(inspect.unwrap(command.callback)).parameters, name
        assert kdspec(name, "--help").code == 0


def valued_options():
    """Each option of each command that takes a value, with one of its names, and the arguments of the command."""
    for name, command in application().commands.items():
        for parameter in command.params:
            if isinstance(parameter, typer.core.TyperOption) and not parameter.is_flag and name != "help":
                yield from ((name, option) for option in parameter.opts)


@pytest.mark.parametrize(("command", "option"), sorted(valued_options()))
@pytest.mark.parametrize("value", ["", " ", "\t "])
def test_an_option_without_a_value_is_refused(kdspec, command, option, value):
    given = kdspec(command, option, value)
    assert (given.code, given.out) == (2, "")
    assert f"Invalid value for {option}: the value is empty" in given.err


@pytest.mark.parametrize("arguments", [("--output=", "x"), ("--set= ", "x"), ("",), ("x", " ")])
def test_an_empty_value_is_refused_wherever_it_stands(kdspec, arguments):
    given = kdspec("run", *arguments)
    assert given.code == 2
    assert "the value is empty" in given.err


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize("before", [True, False])
def test_a_plugin_without_a_name_is_refused(kdspec, value, before):
    option = ("--plugin", value)
    given = kdspec(*option, "list") if before else kdspec("list", *option)
    assert given.code == 2
    assert "Invalid value for '--plugin': the value is empty" in given.err
    assert kdspec(f"--plugin={value}", "list").code == 2


@pytest.mark.parametrize(
    "arguments", [("--quiet", "list", "-v"), ("list", "-v", "-q"), ("list", "--verbose", "--quiet")]
)
def test_quiet_and_verbose_exclude_each_other(kdspec, arguments):
    given = kdspec(*arguments)
    assert given.code == 2
    assert "excludes" in given.err


def test_quiet_leaves_the_result_and_errors(kdspec, spec):
    spec()
    loud, quiet = kdspec("plan", "spec.yaml", "--static"), kdspec("plan", "spec.yaml", "--static", "-q")
    assert (quiet.code, quiet.out) == (0, loud.out)
    assert kdspec("-q", "explain", "KD999").err != ""


def test_no_command_has_an_option_of_the_name_of_a_global_one():
    globals_ = {name for parameter in application().params for name in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in application().commands.items():
        own = {option for parameter in command.params for option in parameter.opts} - {"--help"}
        assert not own & globals_, name
