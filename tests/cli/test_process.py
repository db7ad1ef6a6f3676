"""What only shows in a process of its own: imports, exit codes, streams, pipes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdspec.cli import ExitCode, main
from kdspec.cli.application import application
from kdspec.cli.invocation import Invocation

KDSPEC = [sys.executable, "-m", "kdspec"]


def run(*arguments, **options):
    return subprocess.run([*KDSPEC, *arguments], capture_output=True, text=True, check=False, **options)


def imported(*arguments):
    """The modules that are there after a command."""
    code = f"import sys; from kdspec.cli import main; main({list(arguments)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_alone_it_shows_how_to_begin(kdspec):
    outcome = kdspec()
    assert outcome.code == 0
    assert "kdspec validate spec.yaml" in outcome.out


def test_help_lists_our_commands_in_their_order(kdspec):
    out = kdspec("--help").out
    places = [out.index(f"\n  {name} ") for name in ("validate", "list", "show", "plugins", "explain")]
    assert places == sorted(places)


def test_version(kdspec):
    assert kdspec("--version").out.startswith("kdspec 0.")


def test_a_misspelt_command_gets_a_suggestion(kdspec):
    outcome = kdspec("vaildate", "x")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Did you mean 'validate'?" in outcome.err


def test_a_misspelt_choice_gets_a_suggestion_too(kdspec):
    told = kdspec("run", "spec.yaml", "--backend", "fsdpp").err
    choices = "`auto`, `ddp`, `fsdp`, `accelerate`"
    assert f"Invalid value for '--backend': `fsdpp` is not one of {choices}; did you mean `fsdp`?" in " ".join(
        told.split()
    )
    assert "did you mean" not in kdspec("run", "spec.yaml", "--backend", "zero").err


def test_help_loads_neither_builtins_nor_heavy_libraries():
    modules = imported("explain", "KD101")
    assert not modules & {"torch", "transformers", "datasets", "numpy"}
    assert not [name for name in modules if name.startswith("kdspec.builtins.")]


def test_the_version_is_printed_without_commands_and_models_of_specs():
    modules = imported("--version")
    assert not modules & {"pydantic", "yaml", "torch", "kdspec.api.component", "kdspec.registry.registry"}
    assert not [name for name in modules if name.startswith("kdspec.cli.commands")]


def test_the_package_imports_a_name_when_it_is_used():
    code = "import sys, kdspec\nassert not {'pydantic', 'yaml', 'torch'} & set(sys.modules)\nkdspec.Component"
    subprocess.run([sys.executable, "-c", f"{code}\nassert 'pydantic' in sys.modules"], check=True)


@pytest.mark.slow
def test_validation_is_free_of_torch(spec):
    path = spec("layers: uniform", "layers: {12: 2}")
    assert not imported("validate", str(path)) & {"torch", "transformers", "datasets", "numpy"}


def test_the_module_and_its_exit_code(spec):
    spec("temperature: 4", "temprature: 4")
    done = run("validate", "spec.yaml")
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.endswith("1 error in spec.yaml (1 fixable with --fix)\n")


def test_output_to_a_non_terminal_has_no_colours_even_without_no_color(spec, monkeypatch):
    spec("temperature: 4", "temprature: 4")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.delenv("COLUMNS")
    assert "\x1b" not in run("validate", "spec.yaml").stdout


@pytest.mark.slow
def test_colours_can_be_forced_and_are_refused(spec, monkeypatch):
    spec("temperature: 4", "temprature: 4")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[34m" not in run("validate", "spec.yaml").stdout
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[34m" in run("validate", "spec.yaml").stdout


@pytest.mark.slow
def test_a_terminal_without_unicode_gets_escapes(spec, monkeypatch):
    spec("name: tiny", "name: caf\u00e9/x")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run("validate", "spec.yaml")
    assert done.returncode == 1
    assert "caf\\xe9" in done.stdout


@pytest.mark.slow
def test_a_closed_output_pipe_is_not_an_error():
    process = subprocess.Popen([*KDSPEC, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == ExitCode.PIPE
    assert error == ""


@pytest.mark.slow
def test_a_bug_is_one_honest_line(kdspec, monkeypatch):
    monkeypatch.setattr(Invocation, "any_registry", property(lambda self: 1 / 0))
    outcome = kdspec("list")
    assert outcome.code == ExitCode.FAILED
    assert outcome.err == "kdspec has a bug: ZeroDivisionError: division by zero; run again with --traceback\n"
    assert "Traceback (most recent call last)" in kdspec("list", "--traceback").err


def test_ctrl_c_ends_with_its_own_code(kdspec, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Invocation, "any_registry", property(interrupt))
    assert kdspec("list").code == ExitCode.INTERRUPTED


def test_two_uses_share_nothing():
    assert application() is not application()
    assert main(["explain", "KD101"]) == main(["explain", "KD101"]) == 0


@pytest.mark.parametrize("command", [("list", "loss"), ("run", "spec.yaml"), ("--help",)])
def test_a_system_without_locks_of_unix_is_named_by_the_first_command(command, kdspec, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    outcome = kdspec(*command)
    assert (outcome.code, outcome.out) == (ExitCode.USAGE, "")
    assert outcome.err.startswith("error: kdspec runs on Linux and macOS")
    assert "run it in WSL" in outcome.err
