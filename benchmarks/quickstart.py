"""The quickstart over three seeds: what distillation gains over labels alone, with its spread.

    python benchmarks/quickstart.py [--seeds 1 2 3] [--output FOLDER]

Runs `specs/quickstart.yaml` once a seed, everything else as it stands, and writes `benchmarks/quickstart.md` from the
tables of these runs. Runs that are finished already are not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPEC = HERE.parent / "specs" / "quickstart.yaml"


def main() -> None:
    """Run the seeds and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    tables = {seed: run(seed, arguments.output) for seed in arguments.seeds}
    page = render(tables)
    (HERE / "quickstart.md").write_text(page, encoding="utf-8")
    print(page)


def run(seed: int, output: Path) -> dict[str, dict[str, Any]]:
    """The rows of one run's table by model."""
    name = f"quickstart-seed-{seed}"
    command = [sys.executable, "-m", "kdspec", "run", str(SPEC), "--output", str(output)]
    subprocess.run([*command, "--set", f"seed={seed}", "--set", f"name={name}"], check=True)
    rows = json.loads((output / name / "table.json").read_text(encoding="utf-8"))
    return {row["model"]: row for row in rows}


def render(tables: dict[int, dict[str, dict[str, Any]]]) -> str:
    """The page: a row for each model, a column for each seed."""
    seeds = list(tables)
    models = list(next(iter(tables.values())))
    lines = [
        "# The quickstart over three seeds",
        "",
        f"`python benchmarks/quickstart.py --seeds {' '.join(map(str, seeds))}`: accuracy in % on the 4,000 test",
        "headlines (standard error of one figure about 0.6), which no stage has seen.",
        "",
        "| model | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean | agrees with the teacher |",
        "| --- |" + " --- |" * (len(seeds) + 2),
    ]
    means = {}
    for model in models:
        scores = [100 * float(tables[seed][model]["metrics"]["accuracy"]) for seed in seeds]
        same = [tables[seed][model]["agreement"] for seed in seeds]
        means[model] = statistics.mean(scores)
        agree = f"{100 * statistics.mean(map(float, same)):.1f}" if None not in same else ""
        cells = " | ".join(f"{score:.2f}" for score in scores)
        lines.append(f"| {model} | {cells} | **{means[model]:.2f}** | {agree} |")
    gain = means["student"] - means["student_alone"]
    lines += [
        "",
        f"Distillation gains {gain:.2f} points in the mean over the same student trained on labels alone.",
        "",
        ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
        + f", Python {platform.python_version()}, {platform.machine()}, CPU only.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
