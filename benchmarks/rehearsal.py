"""What it takes to see a plan with its rehearsal: CPU seconds and memory of whole `kdspec plan` processes.

    python benchmarks/rehearsal.py [--runs 5]

Two plans, from configurations alone: BERT-base to 3 layers with 8 matches, and an 8-billion Llama to a 1-billion one.
CPU time (user and system) is taken because other work on the machine hardly changes it; the least of some runs is
printed, with the median. A bare `import torch, transformers` with a model class is the part that kdspec cannot shorten.
Python's bytecode is cached in a folder of its own, as it is for a user, whatever the environment says.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

BERT = """\
kdspec: 1
name: bert
tasks: {reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label, max_length: 128}}}
models:
  teacher:
    transformers:
      tokenizer: tokenizer
      config: {model_type: bert, vocab_size: 30522, hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12,
        intermediate_size: 3072}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 3}, initialize: {layers: [0, 5, 11]}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 8}
        matches:
          - {feature: hidden, loss: hidden_mse, layers: uniform}
          - {feature: hidden, loss: mmd, layers: {4: 1, 8: 2, 12: 3}}
          - {feature: attention, loss: attention_mse, layers: {11: 2}}
    training: {epochs: 1}
"""
LLAMA = """\
kdspec: 1
name: llama
tasks: {reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label, max_length: 512}}}
models:
  teacher:
    transformers:
      tokenizer: tokenizer
      dtype: bfloat16
      config: {model_type: llama, vocab_size: 128256, hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32,
        num_key_value_heads: 8, intermediate_size: 14336, pad_token_id: 0}
  student:
    transformers:
      like: teacher
      config: {hidden_size: 2048, num_hidden_layers: 16, intermediate_size: 8192, head_dim: 64}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        matches: [{feature: hidden, loss: hidden_mse, layers: uniform}]
    training: {epochs: 1, batch_size: 4}
"""
IMPORTS = """\
import torch, torch._dynamo
from transformers import BertForSequenceClassification
"""
# Prints the memory of the process that it starts, which getrusage gives only as the most of all children.
ALONE = """\
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss, done.stderr)
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    from kdspec.testing import tiny

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny(folder / "tokenizer")
        (folder / "rows.csv").write_text("text,label\ngood,good\nbad,bad\n", encoding="utf-8")
        specs = {"BERT-base to 3 layers, 8 matches": BERT, "Llama, 8 to 1 billion": LLAMA}
        commands = {}
        for what, text in specs.items():
            (folder / f"{len(commands)}.yaml").write_text(text, encoding="utf-8")
            commands[what] = ["-m", "kdspec", "plan", f"{len(commands)}.yaml"]
        commands["torch and transformers imported"] = ["-c", IMPORTS]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "OMP_NUM_THREADS": "1"}
        for command in commands.values():
            measured(command, folder, environment)  # fills the cache
        print("| process | CPU seconds, least | median | memory, MiB |\n| --- | --- | --- | --- |")
        for what, command in commands.items():
            seconds, memory = zip(*(measured(command, folder, environment) for _ in range(runs)), strict=True)
            told = f"{min(seconds):.1f} | {statistics.median(seconds):.1f} | {max(memory) / 1024:.0f}"
            print(f"| {what} | {told} |", flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
    print(f"\n{versions}, Python {platform.python_version()}, {platform.machine()}; {runs} runs of each.")


def measured(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, int]:
    """CPU seconds, and the most memory in KiB, of one process."""
    words = [sys.executable, "-c", ALONE, sys.executable, *command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    code, seconds, memory, told = done.stdout.split(" ", 3)
    assert code == "0", told
    return float(seconds), int(memory)


if __name__ == "__main__":
    main()
