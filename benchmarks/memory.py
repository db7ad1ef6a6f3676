"""The most memory that a process holds while it distils T3 with eight matches: kdspec's loop, and one without a toolkit.

Each loop has a process of its own, takes the same steps on the same micro-batches as in `peers.py`, and runs the teacher
in every step. The figure is the largest resident size that the system saw, models and libraries included.

    python benchmarks/memory.py --write       # in the environment of peers.py
"""

from __future__ import annotations

import argparse
import gc
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from peers import BARE, RANDOM, STUDENTS, TEACHER, save, systems, texts
from rivals import Rival

PAGE = Path(__file__).parent / "memory.md"
STEPS = 8


def main() -> None:
    """Run both loops, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", choices=STUDENTS, default="T3")
    parser.add_argument("--loop", choices=(RANDOM, BARE), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    if arguments.loop is not None:
        print(peak(arguments.student, arguments.loop))
        return
    found = {}
    for name in (BARE, RANDOM):
        command = [sys.executable, __file__, "--student", arguments.student, "--loop", name]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = int(ran.stdout.split()[-1])
    rows = [f"| {name} | {size / 2**20:,.0f} MiB | {size / found[BARE]:.2f} |" for name, size in found.items()]
    lines = ["| loop | peak | of the bare one |", "| --- | --- | --- |", *rows]
    print("\n".join(lines))
    if arguments.write:
        packages = ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
        told = f"{packages}, Python {platform.python_version()}, {platform.machine()}, CPU only."
        heading = [
            "# Memory of a step",
            "",
            f"`python benchmarks/memory.py --write`: {arguments.student}, {STEPS} steps.",
        ]
        PAGE.write_text("\n".join([*heading, "", *lines, "", told, ""]), encoding="utf-8")


def peak(student: str, name: str) -> int:
    """The most bytes that this process has held after some steps of one loop."""
    torch.set_num_threads(1)
    size, layers = STUDENTS[student]
    with tempfile.TemporaryDirectory() as name_:
        folder = Path(name_)
        save(folder / "teacher", TEACHER, 1, 0.1)
        save(folder / "student", size, 2, 0.1)
        rows = texts(folder / "rows.jsonl", 512)
        all_ = systems(folder, TEACHER, size, layers, rows=512, steps=STEPS, dropout=0.1)
        system = engine = all_.engine(RANDOM)
        if name == BARE:
            batches, run = all_.cuts(engine)
            work = all_.work(rows, engine.loop)
            del engine, system
            gc.collect()
            system = Rival(run, work, batches)
        for _ in range(STEPS):
            system.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
