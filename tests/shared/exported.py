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
    code = _RUN.format(without=WITHOUT, arguments=[str(folder / "use.py"), *texts])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder.parent)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
