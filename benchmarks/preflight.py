"""What preflight takes: seconds of the event `Preflight`, for the first look and for one that is cached.

    python benchmarks/preflight.py [--runs 5] [SPEC ...]

Each spec, `specs/quickstart.yaml` if none is named, runs with one step a stage in a process of its own: with an empty cache
folder, and again with that folder. The assets must be there (`python specs/fetch.py`). The seconds are those of a clock, so
the machine must be quiet. Printed are the least and the median of some runs, and beside them the seconds of the whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

SPEC = Path(__file__).parent.parent / "specs" / "quickstart.yaml"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("specs", nargs="*", type=Path, default=[SPEC])
    given = parser.parse_args()
    print("| stage | look | seconds, least | median | the run with one step a stage |\n| --- | --- | --- | --- | --- |")
    for spec in given.specs:
        found: dict[tuple[str, str], list[float]] = {}
        whole: dict[str, list[float]] = {}
        for _ in range(given.runs):
            for look, seconds, stages in looks(spec):
                whole.setdefault(look, []).append(seconds)
                for stage, taken in stages.items():
                    found.setdefault((stage, look), []).append(taken)
        for (stage, look), taken in found.items():
            numbers = f"{min(taken):.2f} | {statistics.median(taken):.2f} | {statistics.median(whole[look]):.1f}"
            print(f"| {spec.stem}, {stage} | {look} | {numbers} |", flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
    print(f"\n{versions}, Python {platform.python_version()}, {platform.machine()}; {given.runs} runs of each.")


def looks(spec: Path) -> Iterator[tuple[str, float, dict[str, float]]]:
    """For a first run and a second one with its cache: what it is, its seconds, and those of the look before each stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "KDSPEC_CACHE": str(folder / "cache")}
        for look in ("first", "cached"):
            began = time.perf_counter()
            command = [sys.executable, "-m", "kdspec", "run", str(spec), "--output", str(folder / look)]
            for stage in stages_of(spec):
                command += [
                    "--set",
                    f"stages.{stage}.training.steps=1",
                    "--set",
                    f"stages.{stage}.training.epochs=null",
                    "--set",
                    f"stages.{stage}.training.lr_schedule=constant",
                ]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            seconds = time.perf_counter() - began
            (log,) = (folder / look).glob("*/events.jsonl")
            events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            yield look, seconds, {event["stage"]: event["seconds"] for event in events if event["event"] == "Preflight"}


def stages_of(spec: Path) -> list[str]:
    """The stages of a spec."""
    command = [sys.executable, "-m", "kdspec", "plan", "--static", "--json", str(spec)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [stage["name"] for stage in json.loads(done.stdout)["stages"]]


if __name__ == "__main__":
    main()
