"""Every kind of error with its exact output: the specs `diagnostics/*.yaml` and the recorded output beside each.

A first line `# kdspec validate ...` in a spec has more arguments; with `# kdspec plan` the diagnostics of the rehearsal
are recorded, without the plan. After a change of messages record all outputs again, and read the diff:

    python tests/diagnostics/test_corpus.py
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from kdspec.cli import main
from kdspec.diagnostics.diagnostic import CODES

pytestmark = pytest.mark.usefixtures("only_built_ins")

FOLDER = Path(__file__).parent.parent / "diagnostics"
SPECS = sorted(path.name for path in FOLDER.glob("*.yaml"))
NO_PLACE = {"kd003_not_utf8.yaml", "kd203_check_of_a_plugin_raises.yaml"}
"""A file that is no text has no lines, and a check that raises found nothing in the spec."""


def recorded(name: str) -> str:
    """The output that is expected, empty where none was written yet."""
    path = (FOLDER / name).with_suffix(".txt")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def output(name: str) -> tuple[int, str]:
    """The exit code of `kdspec validate` or `plan` and what it finds, run in the folder of the specs."""
    first = (FOLDER / name).read_bytes().partition(b"\n")[0].decode(errors="replace")
    written = first.removeprefix("# kdspec ") if first.startswith("# kdspec ") else "validate"
    command, *arguments = shlex.split(written)
    found, product = io.StringIO(), io.StringIO()
    out = found if command == "validate" else product
    with contextlib.chdir(FOLDER), contextlib.redirect_stdout(out), contextlib.redirect_stderr(found):
        code = main([command, name, *arguments])
    return code, found.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_bad_spec_gives_the_recorded_output(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, found = output(name)
    assert found == recorded(name)
    errors = re.search(r"^error\[", found, re.MULTILINE)
    assert code == (2 if name.startswith("kd003") else 1 if errors else 0)
    assert "Traceback" not in found


@pytest.mark.parametrize("name", [name for name in SPECS if name.startswith("kd")])
def test_the_code_in_its_name_is_reported_with_line_and_column(name):
    text = recorded(name)
    code = name.partition("_")[0].upper()
    parts = re.split(r"^(?=(?:error|warning|note)\[)", text, flags=re.MULTILINE)
    found = [part for part in parts if f"[{code}]" in part]
    assert found
    if name not in NO_PLACE:
        assert re.search(r"^ *--> \S+:[1-9]\d*:[1-9]\d*$", found[0], re.MULTILINE)


@pytest.mark.parametrize("code", [code for code in CODES if code < "KD5"])
def test_every_code_that_is_found_before_a_run_has_a_spec(code):
    assert [name for name in SPECS if name.startswith(f"{code.lower()}_")]


@pytest.mark.parametrize("name", [name for name in SPECS if "fixable" in recorded(name)])
def test_a_fix_corrects_as_many_errors_as_it_reports_fixable(name, tmp_path, capsys):
    text = (FOLDER / name).read_text(encoding="utf-8").replace("../data", str(FOLDER.parent / "data"))
    shutil.copytree(FOLDER / "models", tmp_path / "models")
    copy = tmp_path / name
    copy.write_text(text, encoding="utf-8")
    code = main(["validate", "--fix", str(copy)])
    captured = capsys.readouterr()
    promised = int(re.search(r"\((\d+) fixable", recorded(name))[1])
    assert f"fixed {promised} in " in captured.err
    assert "fixable" not in captured.out
    assert code == (1 if name == "several_mistakes.yaml" else 0)
    changed = [(a, b) for a, b in zip(text.splitlines(), copy.read_text().splitlines(), strict=True) if a != b]
    assert 1 <= len(changed) <= promised


def test_every_output_belongs_to_a_spec():
    assert {path.stem for path in FOLDER.glob("*.txt")} == {Path(name).stem for name in SPECS}


if __name__ == "__main__":
    importlib.metadata.entry_points = lambda **_: []  # only built-ins, as in the tests
    os.environ |= {"COLUMNS": "120", "NO_COLOR": "1"}
    for spec in SPECS:
        (FOLDER / spec).with_suffix(".txt").write_text(output(spec)[1], encoding="utf-8")
