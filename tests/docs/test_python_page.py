"""The blocks of docs/python.md, run in their order in one folder, as the cells of a notebook."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FENCE = "```python\n"


def blocks(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [part.partition("```")[0] for part in text.split(FENCE)[1:]]


@pytest.mark.slow
def test_the_blocks_of_the_page_run_in_their_order(tmp_path, monkeypatch, small_assets):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_assets, "assets")
    (first,) = [
        part.partition("```")[0]
        for part in (ROOT / "docs" / "first-spec.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
        if part.startswith("kdspec: 1\nname: first\n")
    ]
    Path("spec.yaml").write_text(first.replace("epochs: 2", "epochs: 1").replace("epochs: 4", "epochs: 1"))
    for number, block in enumerate(blocks("python.md")):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block, f"python.md, block {number + 1}", "exec"), {"__name__": "example"})
        assert out.getvalue().strip()
    runs = {path.parent.name for path in Path("runs").glob("*/table.json")}
    assert runs == {"first", "hotter", "squared"}
    assert json.loads(Path("runs/hotter/table.json").read_text())[0]["metrics"]
