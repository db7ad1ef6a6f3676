"""What the engine costs a step: its loop against a bare one that does the same arithmetic, taken in turns.

Both distil a BERT of 2 layers, 128 wide, from another of that size, with 4 rows of 16 tokens a step: soft labels, a
hidden-state match, clipping, AdamW. Both pad their rows with the task's own collate.
Times are those of the processor, so that other programs do not count.

    python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from loops import loop
from torch import nn

from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.ops.divergence import cross_entropy_soft
from kdspec.ops.features import hidden_mse
from kdspec.testing import tiny

ROWS, LENGTH, TEMPERATURE, RATE, LIMIT = 4, 16, 4.0, 1e-4, 1.0
WORDS = "abcdefghijklmn"  # with a token before and one behind, 16 tokens

SPEC = f"""
kdspec: 1
name: overhead
tasks: {{texts: {{sequence_classification: {{data: {{json: {{train: rows.jsonl}}}}, text: text, label: label}}}}}}
models: {{teacher: {{transformers: {{path: teacher}}}}, student: {{transformers: {{path: student, tokenizer: teacher}}}}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {{loss: ce, temperature: {TEMPERATURE}}}
        matches: [{{feature: hidden, loss: hidden_mse, layers: {{2: 2}}}}]
    training:
      steps: 1000000
      batch_size: {ROWS}
      optimizer: {{adamw: {{lr: {RATE}}}}}
      lr_schedule: constant
      max_grad_norm: {LIMIT}
      evaluate: null
      teacher_cache: off
"""


def main() -> None:
    """Print the medians."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=300)
    steps = arguments.parse_args().steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        stepped = _loop(Path(folder))
        engine = _engine(stepped)
        bare = _bare(stepped)
        times: dict[str, list[float]] = {"engine": [], "bare loop": []}
        for number in range(steps + 20):
            for name, step in (("engine", engine), ("bare loop", bare)):
                began = time.process_time()
                step()
                if number >= 20:
                    times[name].append(1000 * (time.process_time() - began))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"ms of processor time a step, median of {steps}, {ROWS}x{LENGTH} tokens, 2 layers of 128, torch {torch.__version__}, 1 thread"
    )
    for name, value in medians.items():
        print(f"  {name:<10} {value:7.2f}")
    pairs = zip(times["engine"], times["bare loop"], strict=True)
    print(
        f"  {'overhead':<10} {statistics.median(engine - bare for engine, bare in pairs):7.2f}  (median of the pairs)"
    )


def _loop(folder: Path) -> TrainingLoop:
    for seed, name in enumerate(("teacher", "student")):
        tiny(folder / name, layers=2, width=128, seed=seed)
    rows = [{"text": " ".join(WORDS[i % 7 :] + WORDS[: i % 7]), "label": "ab"[i % 2]} for i in range(64)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return loop(SPEC, folder)


def _engine(loop: TrainingLoop) -> Callable[[], Any]:
    steps = loop.run(0)
    return lambda: next(steps)


def _bare(loop: TrainingLoop) -> Callable[[], None]:
    student: nn.Module = copy.deepcopy(loop.inputs_of["texts"].student.module).train()
    teacher: nn.Module = copy.deepcopy(loop.inputs_of["texts"].teachers["teacher"].module).eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    batches, parameters = _batches(loop), list(student.parameters())

    def step() -> None:
        inputs = next(batches)
        with torch.no_grad():
            taught = teacher(**inputs, output_hidden_states=True)
        learnt = student(**inputs, output_hidden_states=True)
        loss = cross_entropy_soft(learnt.logits, taught.logits, TEMPERATURE).value
        mask = inputs["attention_mask"]
        loss = loss + hidden_mse(learnt.hidden_states[2], taught.hidden_states[2], mask).value
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, LIMIT)
        if not torch.isfinite(loss.detach() + norm):
            raise ArithmeticError("not finite")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _batches(loop: TrainingLoop) -> Iterator[dict[str, torch.Tensor]]:
    loader = loop.inputs_of["texts"].loader
    reader = loader.readers["student"]
    (encoded,) = loader.task.encode("train", [reader])
    for first in itertools.cycle(range(0, len(encoded), ROWS)):
        yield dict(loader.task.collate(encoded[first : first + ROWS], reader).inputs[""])


if __name__ == "__main__":
    main()
