"""Damages what kdspec reads back, and prints what was not answered as it should be, and the worst time and memory.

    python benchmarks/read_back.py [--inputs 5000] [--first 0]

Each input is a damaged copy of a run folder, a cache, a plan file, a model folder or a configuration of TextBrewer, and a
command that reads it in a forked child; all of it follows from the number of the input. Seconds are those of the processor
and megabytes the peak of the child, both beyond those of the same command on whole files. Exit code 1: an input failed.
`--first 123 --inputs 1` repeats one of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shared"))

from damaged import MEGABYTES, SECONDS, Fuzzer, world


def main() -> int:
    """Run the inputs; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KDSPEC_CACHE"] = str(folder / "world" / "kept")
        for inner in ("world", "scratch"):
            (folder / inner).mkdir()
        world(folder / "world")
        fuzzer = Fuzzer(folder / "world", folder / "scratch")
        fuzzer.warm()
        return run(fuzzer, range(given.first, given.first + given.inputs))


def run(fuzzer: Fuzzer, numbers: range) -> int:
    """Run the inputs with these numbers; 1 if one of them failed."""
    codes: Counter[int] = Counter()
    failed, slowest, largest = 0, (0.0, -1), (0.0, -1)
    for number in numbers:
        outcome = fuzzer.input(number)
        seconds, megabytes = fuzzer.excess(outcome)
        codes[outcome.code] += 1
        slowest, largest = max(slowest, (seconds, number)), max(largest, (megabytes, number))
        if outcome.wrong or seconds > SECONDS or megabytes > MEGABYTES:
            failed += 1
            print(f"{number}: {outcome.wrong or 'too much'}, {seconds:.1f} s, {megabytes:.0f} MB: {outcome.command}")
            print(f"    {outcome.what[:200]}\n    {outcome.output[-300:]!r}", flush=True)
    exits = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
    print(f"{len(numbers)} inputs, {failed} failed; exit codes: {exits}")
    print(f"worst: {slowest[0]:.2f} s (input {slowest[1]}), {largest[0]:.0f} MB (input {largest[1]})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
