"""How long the command line takes to start: `kdspec --help`, and `kdspec validate` of the quickstart.

    python benchmarks/startup.py [--runs 7]

Prints the median wall and CPU seconds of whole processes. Python's bytecode is cached in a folder of its own, as it is
for a user, whatever the environment says.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = Path(__file__).parent.parent / "specs" / "quickstart.yaml"


def main() -> None:
    """Time both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as cache:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        for arguments in (["--help"], ["validate", str(SPEC)]):
            seconds(arguments, environment)  # fills the cache
            taken = [seconds(arguments, environment) for _ in range(runs)]
            wall, cpu = (statistics.median(values) for values in zip(*taken, strict=True))
            print(f"kdspec {arguments[0]:10} {wall:.2f} s wall, {cpu:.2f} s CPU (median of {runs})")


def seconds(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "kdspec", *arguments], capture_output=True, check=True, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
