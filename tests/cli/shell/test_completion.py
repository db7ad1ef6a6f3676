"""What the shell proposes: each kind of word, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdspec.cli import main


@pytest.fixture
def completed(tmp_path, monkeypatch, capsys):
    """`completed("run ")` has the proposals for the last word, in a folder with specs, a plan and a run."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "b.yml", "plan.json", "rows.csv", ".hidden.yaml", "specs/c.yaml", "runs/first/events.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "runs" / "other").mkdir()

    def complete(typed):
        words = f"kdspec {typed}"
        monkeypatch.setenv("_KDSPEC_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        assert main([]) == 0
        return capsys.readouterr().out.split()

    return complete


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("ru", ["run", "runs"]),
        ("run ", ["runs/", "specs/", "a.yaml", "b.yml", "plan.json"]),
        ("plan ", ["runs/", "specs/", "a.yaml", "b.yml"]),
        ("validate specs/", ["specs/c.yaml"]),
        ("cache .h", [".hidden.yaml"]),
        ("plan a.yaml --against b", ["b.yml"]),
        ("report ", ["runs/first", "runs/", "specs/"]),
        ("clean runs/f", ["runs/first", "runs/first/"]),
        ("compare runs/first runs/o", ["runs/other/"]),
        ("explain KD10", ["KD101", "KD102", "KD103", "KD104", "KD105", "KD106", "KD107"]),
        ("list l", ["logit_loss", "layer_map", "lr_schedule"]),
        ("show task mul", ["multi_label"]),
        ("show hidden_m", ["hidden_mse"]),
        ("show nothing x", []),
        ("run a.yaml --back", ["--backend"]),
        ("run a.yaml --backend f", ["fsdp"]),
        ("init --from recipes/ti", ["recipes/tinybert"]),
        ("--version --trace", ["--traceback"]),
        ("plan nowhere/", []),
    ],
)
def test_the_shell_proposes(completed, typed, proposed):
    assert completed(typed) == proposed


def test_nothing_heavy_is_imported():
    code = (
        "import sys, os\nfrom kdspec.cli import main\n"
        "for words in ('kdspec run ', 'kdspec explain KD', 'kdspec show loss k'):\n"
        "    os.environ |= {'COMP_WORDS': words, 'COMP_CWORD': str(len(words.split(' ')) - 1)}\n"
        "    main([])\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    environ = os.environ | {"_KDSPEC_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "KD101" in done.stdout


@pytest.mark.parametrize("words", ["kdspec run q", "kdspec sweep q", "kdspec clean r", "kdspec explain KD1"])
def test_files_runs_and_codes_are_proposed_without_specs_screens_and_other_commands(words):
    code = "import sys\nfrom kdspec.cli import main\nmain([])\nprint(*sys.modules, file=sys.stderr)"
    environ = os.environ | {"_KDSPEC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert not modules & {"torch", "numpy", "yaml", "rich", "kdspec.source.document", "kdspec.cli.screen"}
    assert not modules & {"kdspec.api.component", "kdspec.registry.registry", "kdspec.cli.commands.init"}
    assert len([name for name in modules if name.startswith("kdspec.cli.commands.")]) <= 2  # it and its folder


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_the_shell_is_shown(shell, monkeypatch, capsys):
    monkeypatch.setenv("_KDSPEC_COMPLETE", f"source_{shell}")
    assert main([]) == 0
    assert "_KDSPEC_COMPLETE" in capsys.readouterr().out


def test_each_argument_that_names_a_spec_a_run_or_a_code_is_completed():
    sources = sorted((Path(main.__code__.co_filename).parent / "commands").rglob("*.py"))
    for word in ('metavar="SPEC"', 'metavar="RUN_DIR', 'metavar="[CODE]', 'metavar="KIND"'):
        for source in sources:
            text = source.read_text(encoding="utf-8")
            assert text.count(word) == 0 or "autocompletion=" in text, (source.name, word)
