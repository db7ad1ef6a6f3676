"""Runs the script of an exported folder where torch, transformers and kdspec cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = ("torch", "transformers", "kdspec", "datasets", "onnx", "safetensors")
"""Packages that the script has to do without."""
_RUN = """
import runpy, sys
for name in {without}:
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
sys.argv = {arguments}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def use(folder: Path, *texts: str) -> list[str]:
    """The lines that `use.py` prints for some texts."""
    return ended(folder, *texts).stdout.splitlines()


def ended(folder: Path, *texts: str) -> subprocess.CompletedProcess[str]:
    """`use.py` after it has answered some texts."""
    code = _RUN.format(without=WITHOUT, arguments=[str(folder / "use.py"), *texts])
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder.parent
    )
    assert process.returncode == 0, process.stderr
    return process
