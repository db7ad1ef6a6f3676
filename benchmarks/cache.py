"""What the teacher cache saves: a step with the teacher run for the batch, against one that reads its cache.

The teacher is a BERT of 6 layers, 256 wide, the student one of 2 layers, 128 wide; 16 rows of 10 to 60 tokens a step,
random weights. Both loops take the same steps in turns. Times are those of the processor, so that other programs do not
count; reading is timed alone as well.

    python benchmarks/cache.py
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loops import loop

from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.testing import tiny

ROWS, BATCH = 400, 16
RECIPES = {
    "logits": "[]",
    "3 hidden layers": "[{feature: hidden, loss: hidden_mse, layers: {0: 0, 3: 1, 6: 2}}]",
    "2 layers of attention": "[{feature: attention, loss: attention_mse, layers: {2: 0, 5: 1}}]",
}
SPEC = """
kdspec: 1
name: cache
tasks: {texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student, tokenizer: teacher}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: MATCHES}}
    training: {steps: 1000000, batch_size: BATCH, evaluate: null, batching: random, teacher_cache: CACHE}
"""


def main() -> None:
    """Print a line for each recipe and way of keeping values."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=15)
    steps = arguments.parse_args().steps
    torch.set_num_threads(1)
    print(f"ms of processor time, medians of {steps} steps of {BATCH} rows, torch {torch.__version__}, 1 thread")
    print(f"{'what is read':<24}{'kept':<9}{'bytes a row':>12}{'teacher run':>13}{'cached':>9}{'ratio':>7}{'read':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KDSPEC_CACHE"] = str(folder / "caches")
        _prepare(folder)
        for recipe, matches in RECIPES.items():
            for dtype in ("exact", "int8"):
                off = _loop(folder, matches, "off")
                on = _loop(folder, matches, f"{{use: on, dtype: {dtype}}}")
                (cache,) = on.caches
                cache.fill(range(cache.samples.blocks))
                without, with_ = _in_turns((_steps(off), _steps(on)), steps)
                size = cache.layout.bytes // ROWS
                read = _reading(on, steps)
                ratio = f"{without / with_:.1f}x"
                print(
                    f"{recipe:<24}{dtype:<9}{size:>12,}{without:>13.1f}{with_:>9.1f}{ratio:>7}{read:>7.2f}", flush=True
                )
                cache.close()


def _prepare(folder: Path) -> None:
    tiny(folder / "teacher", layers=6, width=256, heads=4, seed=1, intermediate_size=1024)
    tiny(folder / "student", layers=2, width=128, heads=4, seed=2, intermediate_size=512)
    draw = random.Random(0)
    lengths = [draw.randint(10, 60) for _ in range(ROWS)]
    rows = [{"text": " ".join(draw.choices("abcdefgh", k=n)), "label": "ab"[i % 2]} for i, n in enumerate(lengths)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _loop(folder: Path, matches: str, cache: str) -> TrainingLoop:
    return loop(SPEC.replace("MATCHES", matches).replace("BATCH", str(BATCH)).replace("CACHE", cache), folder)


def _steps(loop: TrainingLoop) -> Callable[[], Any]:
    steps = loop.run(0)
    return lambda: next(steps)


def _reading(loop: TrainingLoop, steps: int) -> float:
    """The time of reading alone."""
    cache, step = loop.inputs_of["texts"].caches["teacher"], iter(range(10**6))

    def read() -> None:
        (rows,) = (draw.rows for draw in loop.draws.of(next(step)))
        cache(batches[tuple(rows)], rows)

    batches = {
        tuple(rows): loop.inputs_of["texts"].loader.batch("teacher", rows)
        for number in range(steps + 3)
        for rows in (draw.rows for draw in loop.draws.of(number))
    }
    return _in_turns((read,), steps)[0]


def _in_turns(calls: tuple[Callable[[], Any], ...], count: int) -> list[float]:
    times: list[list[float]] = [[] for _ in calls]
    for number in range(count + 3):
        for call, taken in zip(calls, times, strict=True):
            began = time.process_time()
            call()
            if number >= 3:
                taken.append(1000 * (time.process_time() - began))
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    main()
