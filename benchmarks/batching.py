"""What batches of similar length save: steps of the engine under each `training.batching`, taken in turns.

A BERT of 4 layers, 256 wide, teaches one of 3 layers, 192 wide, 32 rows a step whose lengths are spread as MNLI's are
(lognormal, median 38, at most 128 tokens): soft labels, a hidden-state match, dropout 0.1, clipping, AdamW.
Times are those of the processor, so that other programs do not count, and for 1000 tokens that are no padding, since steps of length-grouped batches have more or fewer of them.

    python benchmarks/batching.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from loops import loop

from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.testing import tiny

WAYS = ("random", "sorted_micro_batches", "length_grouped")
TEACHER, STUDENT = (4, 256), (3, 192)
MEDIAN, SPREAD, LONGEST = 38, 0.5, 128

SPEC = """
kdspec: 1
name: batching
tasks:
  texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label, max_length: 128}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student, tokenizer: teacher}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: ce, temperature: 8}
        matches: [{feature: hidden, loss: hidden_mse, layers: {2: 2, 4: 3}}]
    training: {steps: 1000000, batch_size: 32, optimizer: {adamw: {lr: 1e-4}}, evaluate: null, teacher_cache: off}
"""


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps of each way")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        _files(Path(folder))
        loops = {way: _loop(Path(folder), way) for way in WAYS}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        steps = {way: loop.run(0) for way, loop in loops.items()}
        for number in range(arguments.steps + 2):
            for way in WAYS:
                began = time.process_time()
                done = next(steps[way])
                if number >= 2:  # the first ones only warm up
                    times[way].append(1e6 * (time.process_time() - began) / done.tokens)
        medians = {way: statistics.median(values) for way, values in times.items()}
        print(f"{arguments.steps} steps of 32 rows each, torch {torch.__version__}, {arguments.threads} thread(s)")
        print(f"{'':<22} {'ms / 1000 tokens':>17} {'speed-up':>9} {'micro-batches':>14} {'padding':>8}")
        for way in WAYS:
            batches, padding = _shape(loops[way], arguments.steps)
            speed = medians["random"] / medians[way]
            print(f"{way:<22} {medians[way]:>17.1f} {speed:>8.2f}x {batches:>14.1f} {padding:>8.0%}")


def _files(folder: Path) -> None:
    for seed, (name, (layers, width)) in enumerate((("teacher", TEACHER), ("student", STUDENT))):
        tiny(folder / name, layers=layers, width=width, heads=4, seed=seed, intermediate_size=4 * width,
             max_position_embeddings=LONGEST + 2)  # fmt: skip
    generator = random.Random(0)
    lengths = (min(LONGEST, max(5, round(generator.lognormvariate(0, SPREAD) * MEDIAN))) for _ in range(4096))
    rows = [{"text": " ".join(generator.choices("abcdefgh", k=length - 2)), "label": "ab"[i % 2]}
            for i, length in enumerate(lengths)]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _loop(folder: Path, way: str) -> TrainingLoop:
    return loop(SPEC, folder, [f"stages.distil.training.batching={way}"])


def _shape(loop: TrainingLoop, steps: int) -> tuple[float, float]:
    """Micro-batches of a step, and how much of them is padding."""
    lengths = loop.inputs_of["texts"].loader.lengths
    micro = [lengths[draw.rows] for step in range(steps) for draw in loop.draws.of(step)]
    padded = sum(int(each.max()) * len(each) for each in micro)
    return len(micro) / steps, 1 - sum(int(each.sum()) for each in micro) / padded


if __name__ == "__main__":
    main()
