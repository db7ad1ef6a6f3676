"""What a large vocabulary takes: the memory and the time of a training step of masked language modelling, with its head in
the loss, chunk by chunk, and with all logits at once.

Teacher and student are BERTs of 2 layers, 128 wide, with random weights and tied embeddings; rows of 128 tokens, of which
15 % are masked and the losses read these alone: `kl` from the teacher and the cross-entropy of the labels. Each figure is of
a process of its own: its resident memory before the second step, and the peak within that step. Linux alone.

    python benchmarks/vocabulary.py
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VOCABULARIES = (30_522, 250_000)
LENGTH, STEPS = 128, 2
SPEC = """
kdspec: 1
name: vocabulary
tasks: {{words: {{masked_lm: {{data: {{json: {{train: rows.jsonl}}}}, text: text, max_length: {length}, probability: {part}}}}}}}
models:
  teacher: {{transformers: {{config: &shape {shape}, tokenizer: tokenizer}}}}
  student: {{transformers: {{config: *shape, tokenizer: tokenizer}}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {{loss: kl, temperature: 2}}
        hard_labels: {{weight: 0.5}}
    training: {{steps: {steps}, batch_size: {rows}, batching: random, evaluate: null, optimizer: {{sgd: {{lr: 0.1}}}}}}
"""


def memory(kind: str) -> float:
    """What Linux says of this process, in MiB: `VmRSS`, what is resident, or `VmHWM`, the most that was."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def step(vocabulary: int, rows: int, part: float, *, whole: bool) -> dict[str, float]:
    """The figures of one process: MiB before the last step, the peak within it, and its seconds."""
    import torch
    from loops import loop

    from kdspec.engine.forward import large_head
    from kdspec.testing import tiny

    torch.set_num_threads(1)
    if whole:
        large_head.LEAST = sys.maxsize
    shape = {
        "model_type": "bert", "vocab_size": vocabulary, "hidden_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 512, "max_position_embeddings": LENGTH,
    }  # fmt: skip
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny(folder / "tokenizer")
        letters = random.Random(0)
        texts = ["".join(letters.choices("abcdefgh ", k=4 * LENGTH)) for _ in range(rows)]
        (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        text = SPEC.format(length=LENGTH, part=part, shape=json.dumps(shape), rows=rows, steps=STEPS)
        steps = loop(text, folder).run(0)
        for _ in range(STEPS):
            found["before"] = memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
            began = time.process_time()
            done = next(steps)
            found |= {"seconds": time.process_time() - began, "peak": memory("VmHWM"), "loss": done.loss}
    return found


def main() -> None:
    """Measure each vocabulary in both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16, help="rows of a step")
    parser.add_argument("--part", type=float, default=0.15, help="part of the tokens that is masked")
    parser.add_argument("--whole", action="store_true", help="with `--vocabulary`: all logits at once")
    parser.add_argument("--vocabulary", type=int, help="measure this one in this process")
    arguments = parser.parse_args()
    if arguments.vocabulary:
        print(json.dumps(step(arguments.vocabulary, arguments.rows, arguments.part, whole=arguments.whole)))
        return
    print("| vocabulary | logits | before the step, MiB | peak, MiB | the step, MiB | seconds | loss |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for vocabulary in VOCABULARIES:
        for whole in (True, False):
            command = [sys.executable, __file__, "--vocabulary", str(vocabulary), "--rows", str(arguments.rows)]
            command += ["--part", str(arguments.part), *(["--whole"] if whole else [])]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            found = json.loads(told)
            taken = found["peak"] - found["before"]
            print(
                f"| {vocabulary:,} | {'all at once' if whole else 'in chunks'} | {found['before']:,.0f} | {found['peak']:,.0f} "
                f"| {taken:,.0f} | {found['seconds']:.1f} | {found['loss']:.6f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
