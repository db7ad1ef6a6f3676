"""kdspec beside sentence-transformers' trainer: the same student, teacher, sentences and loss, in turns.

all-MiniLM-L6-v2 teaches its first and last layer by the cosine of the vectors of the sentences of
`specs/embeddings/layer_cut.yaml`, 64 a step; with `--rows`, of some of them, drawn evenly. The trainer is
used as its examples for distillation do: the teacher's vectors are computed first, with `encode`, and are a column of the
data; `EmbedDistillLoss` compares them. kdspec keeps them in its cache. Both loops live in one process and take a step in
turns; the trainer's batches are those of kdspec's own order. An epoch is the mean step times their number, and the first
one has the time in which the teacher answers for all rows besides, which is taken once each, in turns of eighths.

First both take two steps without dropout: their losses must be the same.

    pip install greenlet
    python benchmarks/embedding_speed.py --write
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from loops import loop
from rivals import Done, Gate, Rival
from tokenizers import Tokenizer

from kdspec.engine.step.training_loop import TrainingLoop

PAGE = Path(__file__).parent / "embedding_speed.md"
ASSETS = Path(__file__).parent.parent / "specs" / "assets"
TEACHER = ASSETS / "all-MiniLM-L6-v2"
BATCH, LAYERS, PARTS, LONGEST = 64, (0, 5), 8, 128
RATE = 3e-4
FILES = ("sts-benchmark/sentences.csv", "snippets/sentences.csv")

SPEC = """
kdspec: 1
name: speed
tasks:
  sentences: {embedding: {data: {csv: {train: rows.csv}}, text: sentence, max_length: 128}}
models:
  teacher: {transformers: {path: TEACHER, readout: {pooling: mean, normalize: true}}}
  student: {transformers: {path: student}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: cos}]}}
    training:
      steps: 1000000
      batch_size: 64
      optimizer: {adamw: {lr: 3e-4, weight_decay: 0}}
      lr_schedule: constant
      max_grad_norm: 1
      evaluate: null
      teacher_cache: on
"""
GROUPED = "stages.distil.training.batching=length_grouped"
TWO = "stages.distil.training.lanes=2"
RANDOM, BY_LENGTH, LANES = "kdspec", "kdspec, length-grouped", "kdspec, length-grouped, two lanes"
TRAINER = "sentence-transformers"


def main() -> None:
    """Compare the losses, then the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="default: all")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        told = agreement(Path(folder))
    texts = every_sentence(arguments.rows)
    told += f" {padding(texts)}"
    print(told, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        table = times(Path(folder), texts, arguments.steps)
    print(table, flush=True)
    if arguments.write:
        PAGE.write_text("\n".join([*heading(arguments, told), table, ""]), encoding="utf-8")


def agreement(folder: Path) -> str:
    """That both follow the same losses, in one line."""
    texts = every_sentence(512)
    prepare(folder, texts, dropout=0.0)
    made = engine(folder)
    steps = made.run(0)
    mine = [next(steps).loss for _ in range(2)]
    rival = Rival(trainer(folder, texts), None, batches(made, 4))  # type: ignore[arg-type]  # it needs no other work
    theirs = [rival.step().loss for _ in range(2)]
    rival.close()
    furthest = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    assert furthest < 1e-5, f"the losses of two steps differ by {furthest:.1e}: {mine} and {theirs}"
    return f"Losses of two steps: {mine[0]:.6f} and {mine[1]:.6f}; the two differ by at most {furthest:.0e}."


def times(folder: Path, texts: list[str], steps: int) -> str:
    """The table."""
    prepare(folder, texts, dropout=0.1)
    loops = {RANDOM: engine(folder), BY_LENGTH: engine(folder, GROUPED), LANES: engine(folder, GROUPED, TWO)}
    taught = teaching(loops[RANDOM], texts)
    rival = Rival(trainer(folder, texts), None, batches(loops[RANDOM], steps + 4))  # type: ignore[arg-type]  # as above
    running = {name: made.run(0) for name, made in loops.items()}
    step: dict[str, Callable[[], Any]] = {name: each.__next__ for name, each in running.items()} | {TRAINER: rival.step}
    for one in step.values():
        one()  # imports, and the state of the optimizer
    taken: dict[str, list[float]] = {name: [] for name in step}
    for number in range(steps):
        names = list(step)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            step[name]()
            taken[name].append(time.perf_counter() - began)
    rival.close()
    lines = ["| loop | ms a step | teacher, s | first epoch | later epochs |", "| --- | --- | --- | --- | --- |"]
    number = len(texts) // BATCH
    later = {name: number * statistics.mean(each) for name, each in taken.items()}
    first = {name: later[name] + taught[TRAINER if name == TRAINER else RANDOM] for name in later}
    for name, each in taken.items():
        ratios = [
            f"{own[name]:.1f} s, {own[TRAINER] / own[name]:.2f} x" if name != TRAINER else f"{own[name]:.1f} s"
            for own in (first, later)
        ]
        cells = f"{1e3 * statistics.median(each):.1f} | {taught[TRAINER if name == TRAINER else RANDOM]:.1f}"
        lines.append(f"| {name} | {cells} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def teaching(made: TrainingLoop, texts: list[str]) -> dict[str, float]:
    """How long the teacher takes for all rows, in seconds, for both."""
    (cache,) = made.caches
    model = sentence_transformer(TEACHER)
    found = {RANDOM: 0.0, TRAINER: 0.0}
    blocks, size = cache.samples.blocks, -(-len(texts) // PARTS)
    for part in range(PARTS):
        began = time.perf_counter()
        cache.fill(range(part * blocks // PARTS, (part + 1) * blocks // PARTS))
        between = time.perf_counter()
        model.encode(texts[part * size : (part + 1) * size], batch_size=BATCH, show_progress_bar=False)
        found[RANDOM] += between - began
        found[TRAINER] += time.perf_counter() - between
    return found


def prepare(folder: Path, texts: list[str], *, dropout: float) -> None:
    """The rows in a file, and the student in a folder of sentence-transformers."""
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["sentence"], *([text] for text in texts)])
    student = sentence_transformer(TEACHER)
    inner = student[0].auto_model
    inner.encoder.layer = torch.nn.ModuleList(inner.encoder.layer[number] for number in LAYERS)
    inner.config.num_hidden_layers = len(LAYERS)
    inner.config.hidden_dropout_prob = inner.config.attention_probs_dropout_prob = dropout
    student.save(str(folder / "student"), create_model_card=False)


def every_sentence(rows: int | None) -> list[str]:
    """The sentences of both files in a random order, or some of them."""
    texts = list(chain.from_iterable(map(sentences, FILES)))
    return random.Random(0).sample(texts, len(texts) if rows is None else rows)


def padding(texts: list[str]) -> str:
    """How long the rows are and how much random batches add to them, in one line."""
    tokenizer = Tokenizer.from_file(str(TEACHER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    lengths = [len(encoded.ids) for encoded in tokenizer.encode_batch(texts)]
    padded = sum(BATCH * max(batch) for batch in batched(lengths))
    return (
        f"The {len(texts):,} rows have {statistics.mean(lengths):.0f} tokens on average and {max(lengths)} at most; random"
        f" batches are padded to {padded / sum(lengths):.2f} times as many, those of similar length at best to"
        f" {sum(BATCH * max(batch) for batch in batched(sorted(lengths))) / sum(lengths):.2f} times."
    )


def batched(lengths: list[int]) -> list[list[int]]:
    """The lengths of each whole batch."""
    return [lengths[first : first + BATCH] for first in range(0, len(lengths) - BATCH + 1, BATCH)]


def sentences(name: str) -> list[str]:
    """The sentences of a file."""
    with (ASSETS / name).open(encoding="utf-8", newline="") as file:
        return [row["sentence"] for row in csv.DictReader(file)]


def sentence_transformer(folder: Path) -> Any:
    """The model of a folder, with the mean of its tokens at length 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    if (folder / "modules.json").exists():
        return SentenceTransformer(str(folder), device="cpu")
    inner = modules.Transformer(str(folder), max_seq_length=LONGEST)
    pooling = modules.Pooling(inner.get_embedding_dimension(), "mean")
    return SentenceTransformer(modules=[inner, pooling, modules.Normalize()], device="cpu")


def engine(folder: Path, *sets: str) -> TrainingLoop:
    """Kdspec's loop, whose teacher has not answered yet."""
    os.environ["KDSPEC_CACHE"] = str(folder / "kept")
    return loop(SPEC.replace("TEACHER", str(TEACHER.resolve())), folder, sets)


def batches(made: TrainingLoop, steps: int) -> list[list[int]]:
    """The rows of each of the first steps."""
    return [list(chain.from_iterable(draw.rows for draw in made.draws.of(step))) for step in range(steps)]


def trainer(folder: Path, texts: list[str]) -> Callable[[Any, Gate, list[Done]], None]:
    """sentence-transformers' loop, to be stepped."""

    def run(_: Any, gate: Gate, done: list[Done]) -> None:
        from datasets import Dataset
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
        from sentence_transformers.sentence_transformer import losses

        teacher, student = sentence_transformer(TEACHER), sentence_transformer(folder / "student")
        vectors = teacher.encode(texts, batch_size=BATCH, show_progress_bar=False)
        rows = Dataset.from_dict({"sentence": texts, "label": vectors.tolist()})

        class Watched(losses.EmbedDistillLoss):
            def forward(self, features: Any, labels: Any) -> Any:
                found = super().forward(features, labels)
                done.append(Done(float(found.detach()), 0))
                return found

        with tempfile.TemporaryDirectory() as output:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=output, max_steps=len(gate), learning_rate=RATE, lr_scheduler_type="constant",
                per_device_train_batch_size=BATCH, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
                logging_strategy="no", batch_sampler=lambda *_, **__: gate,
            )  # fmt: skip
            loss = Watched(student, distance_metric="cosine")
            SentenceTransformerTrainer(model=student, args=arguments, train_dataset=rows, loss=loss).train()

    return run


def heading(arguments: argparse.Namespace, told: str) -> list[str]:
    """What was measured, and on what."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers", "sentence-transformers")
    )
    return [
        "# Embeddings: kdspec beside sentence-transformers",
        "",
        (
            f"`python benchmarks/embedding_speed.py --write{'' if arguments.rows is None else f' --rows {arguments.rows}'} --steps {arguments.steps}`: a student of two"
            " layers learns the vectors of all-MiniLM-L6-v2; what is compared, and how, is described at the top of that file."
        ),
        "",
        told,
        "",
        f"{versions}; Python {platform.python_version()}, {platform.machine()}, {arguments.threads} threads, CPU only.",
        "",
    ]


if __name__ == "__main__":
    main()
