"""Standard output has the result of a command, whatever plugins and libraries print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdspec.cli import main
from kdspec.cli.application import application
from kdspec.testing import tiny

SHARED = Path(__file__).parent.parent / "shared"
TOYS, NOISY = str(SHARED / "toys.py"), str(SHARED / "noisy.py")
PLUGINS = ("--plugin", TOYS, "--plugin", NOISY)
SPEC = """\
kdspec: 1
name: toy
tasks: {rows: {tensors: {data: {ragged: {}}, labels: label}}}
models: {teacher: {toy: {}}, student: {toy: {}}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden}
  student: {logits: output.logits, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, matches: [{feature: hidden, loss: noisy, layers: {1: 1}}]}
    training: {steps: 2, batch_size: 4, evaluate: null}
"""

DATA = {
    "list": [("--json",)],
    "show": [("loss", "noisy", "--json")],
    "plugins": [("--json",)],
    "parameters": [("model", "--json")],
    "validate": [("spec.yaml", "--format", "json"), ("wrong.yaml", "--format", "json")],
    "plan": [
        ("spec.yaml", "--json"),
        ("spec.yaml", "--json", "--static"),
        ("spec.yaml", "--json", "--against", "spec.yaml"),
    ],
    "cache": [("--list", "--json", "--folder", "caches")],
    "bench": [("runs/toy", "--json", "--rounds", "1", "--device", "cpu")],
    "export": [("runs/toy", "--onnx", "--json", "-o", "exported")],
    "runs": [("--json",)],
    "compare": [("runs/toy", "runs/other", "--json")],
    "doctor": [("--json",)],
    "schema": [()],
}
"""The commands that print JSON."""
LINES = {
    "run": [("wrong.yaml", "--format", "github"), ("wrong.yaml", "--format", "concise")],
    "validate": [("wrong.yaml", "--format", "github"), ("wrong.yaml", "--format", "concise")],
}
"""Commands whose lines are read by programs, on standard output or standard error."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a spec, one with a mistake, and a finished run."""
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "wrong.yaml").write_text(SPEC.replace("layers: {1: 1}", "layers: {9: 1}"))
    (folder / "caches").mkdir()
    tiny(folder / "model", layers=1, width=12)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["run", "spec.yaml", "--device", "cpu", *PLUGINS]) == 0
    finally:
        os.chdir(before)
    shutil.copytree(folder / "runs" / "toy", folder / "runs" / "other")
    return folder


@pytest.fixture
def printed(home, monkeypatch, capfd):
    """Runs a command; exit code, standard output and standard error, of all descriptors."""
    monkeypatch.chdir(home)

    def run(*arguments, plugins=PLUGINS):
        capfd.readouterr()
        code = main([*arguments, *plugins])
        found = capfd.readouterr()
        return code, found.out, found.err

    return run


def test_each_command_that_prints_data_is_tested():
    found = set()
    for name, command in application().commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        if options & {"--json", "--format"}:
            found.add(name)
    assert found == (DATA.keys() | LINES.keys()) - {"schema"}


@pytest.mark.parametrize("arguments", [(name, *rest) for name, all_ in DATA.items() for rest in all_], ids=" ".join)
def test_data_is_data_whatever_a_plugin_prints(printed, arguments):
    code, out, err = printed(*arguments)
    assert code == (1 if "wrong.yaml" in arguments else 0), err
    json.loads(out)
    assert "noise" not in out.replace("with noise", "")
    if arguments[0] not in ("cache", "parameters", "runs", "compare"):  # which need no plugin
        for way in ("print", "sys.stdout", "os.write", "C", "logging"):
            assert f"noise of {way} in import" in err


@pytest.mark.parametrize("arguments", [(name, *rest) for name, all_ in LINES.items() for rest in all_], ids=" ".join)
def test_lines_for_programs_are_on_lines_of_their_own(printed, arguments):
    code, out, err = printed(*arguments)
    assert code == 1
    assert "noise" not in out
    begins = "::error file=wrong.yaml" if "github" in arguments else "wrong.yaml:"
    assert any(line.startswith(begins) for line in (out + err).splitlines())


def test_a_complete_spec_is_yaml(printed):
    assert yaml.safe_load(printed("plan", "spec.yaml", "--resolved")[1])["name"] == "toy"


def test_the_places_where_it_printed_were_reached(printed):
    """Or the tests above would pass for the wrong reason."""
    _, _, err = printed("run", "spec.yaml", "--device", "cpu", "--output", "others")
    for place in ("import", "kdspec_components", "kdspec_check", "a check of parameters", "build", "a loss"):
        assert f"noise of print in {place}" in err
    for place in ("kdspec_observe", "kdspec_report"):
        assert f"noise of C in {place}" in err


def test_a_run_and_its_report(printed, home):
    code, out, err = printed("run", "spec.yaml", "--device", "cpu", "--restart")
    assert (code, "noise" in out) == (0, False)
    assert "noise of os.write in kdspec_observe" in err
    assert f"report   {Path('runs/toy/report.html')}" in out
    assert printed("report", "runs/toy")[1] == "runs/toy/report.html\n"


def test_a_command_of_a_plugin_prints_its_result_on_standard_output(printed):
    code, out, err = printed("mine")
    assert (code, out) == (0, "the result\n")
    assert "noise of print in kdspec_commands" in err


def test_help_is_on_standard_output(printed):
    for arguments in (("--help",), ("list", "--help"), ("mine", "--help")):
        _, out, _ = printed(*arguments)
        assert out.startswith("Usage: ")
        assert "noise" not in out


def test_standard_output_is_given_back(printed, capfd):
    before = sys.stdout
    printed("list", "--json")
    assert sys.stdout is before
    os.write(1, b"again\n")
    assert capfd.readouterr().out == "again\n"


def test_a_stream_in_place_of_standard_output_has_the_result(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main(["list", "--json", *PLUGINS]) == 0
    json.loads(capsys.readouterr().out)


def test_nothing_follows_the_result_when_python_ends(home):
    plugin = home / "atexit_plugin.py"
    plugin.write_text("import atexit, os\natexit.register(lambda: (print('late'), os.write(1, b'late')))\n")
    command = [sys.executable, "-m", "kdspec", "list", "loss", "--json", "--plugin", str(plugin)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    json.loads(ran.stdout)
    assert ran.stderr.count("late") == 2


def test_a_closed_pipe_ends_the_command_quietly(home):
    command = f"{sys.executable} -m kdspec schema --plugin {NOISY} 2> err.txt; echo $? > code.txt"
    subprocess.run(f"({command}) | head -c 10", shell=True, check=True, capture_output=True, cwd=home)
    assert (home / "code.txt").read_text() == "141\n"
    assert "Traceback" not in (home / "err.txt").read_text()
    assert "BrokenPipe" not in (home / "err.txt").read_text()
