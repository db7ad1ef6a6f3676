"""kdspec beside TextBrewer, torchdistill and transformers' Trainer: the same models, rows and losses, in turns.

BERT-base with random weights teaches T3, T4-tiny and T12-nano (the students of TextBrewer's table) by soft labels, and by
`hidden_mse` and `mmd` on each pair of layers. 32 rows a step, their lengths spread as MNLI's are (lognormal, median 38,
at most 128 tokens). All loops live in one process and take a step in turns, each on the same rows; those that group rows
by length have batches of their own. Times are those of the clock for 1,000 tokens that are no padding, over all steps
together; speed-ups are over TextBrewer as its examples run it, with the least and the greatest of a step. There are rows
enough that eight batches are sorted by length together: with fewer rows, grouped batches are hardly grouped.

What kdspec does where rows are seen more than once is to keep what the teacher says: its first epoch is the time of the
later ones and that of filling the cache, which is taken once for all rows. A row with a model in bf16 is no like for
like, as the others compute in float32, but what one line of a spec changes; `two lanes` is another, `lanes: 2`.

First the same loops take two steps with small models and without dropout: those that mask padding must have the same
losses. TextBrewer's own `mmd` depends on the padding, so that its loop is given a corrected one there.

It needs an environment of its own, on an idle machine:

    pip install -c constraints.txt -e . accelerate greenlet scipy textbrewer==0.2.1.post1
    pip install --no-deps torchdistill==1.1.5 torchvision==0.28.0 cython
    python benchmarks/peers.py --write
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from loops import loop
from rivals import LONGEST, Done, Rival, Work, bare, of_folder, textbrewer, torchdistill, trainer
from torch import nn

from kdspec.engine.step.training_loop import TrainingLoop

PAGE = Path(__file__).parent / "peers.md"
BATCH, WORDS, CLASSES = 32, 28_996, ("a", "b", "c")
PAD, UNKNOWN, CLS, SEP, FIRST = 0, 1, 2, 3, 1000
MEDIAN, SPREAD = 38, 0.45


@dataclass(frozen=True)
class Size:
    """A model's layers, width, heads and inner width."""

    layers: int
    width: int
    heads: int
    inner: int


TEACHER = Size(12, 768, 12, 3072)
STUDENTS = {
    "T3": (Size(3, 768, 12, 3072), ((0, 0), (4, 1), (8, 2), (12, 3))),
    "T4-tiny": (Size(4, 312, 12, 1200), ((0, 0), (3, 1), (6, 2), (9, 3), (12, 4))),
    "T12-nano": (Size(12, 256, 4, 1024), ((0, 0), (4, 4), (8, 8), (12, 12))),
}
Layers = tuple[tuple[int, int], ...]
SMALL = Size(4, 48, 4, 96), (Size(2, 32, 4, 64), ((0, 0), (2, 1), (4, 2)))
"""For the comparison of losses."""

SPEC = """
kdspec: 1
name: peers
tasks:
  texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label, labels: [a, b, c],
    max_length: 128}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {path: student}}}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: ce, temperature: 8}, matches: MATCHES}
    training:
      steps: 1000000
      batch_size: 32
      optimizer: {adamw: {lr: 1e-4, weight_decay: 0}}
      lr_schedule: constant
      max_grad_norm: 1
      evaluate: null
      teacher_cache: off
"""
TRAINING = "stages.distil.training"
RANDOM, KEPT = "kdspec, teacher run in each step", "kdspec, later epochs"
BY_LENGTH, BY_LENGTH_KEPT = (f"{name}, length-grouped" for name in (RANDOM, KEPT))
LANES, BY_LENGTH_LANES = (f"{name}, two lanes" for name in (KEPT, BY_LENGTH_KEPT))
NARROW = f"{BY_LENGTH_LANES}, student in bf16"
GROUPS, CACHE, TWO = (f"{TRAINING}.{set_}" for set_ in ("batching=length_grouped", "teacher_cache=on", "lanes=2"))
KDSPEC = {
    RANDOM: (),
    KEPT: (CACHE,),
    LANES: (CACHE, TWO),
    BY_LENGTH: (GROUPS,),
    BY_LENGTH_KEPT: (GROUPS, CACHE),
    BY_LENGTH_LANES: (GROUPS, CACHE, TWO),
    NARROW: (GROUPS, CACHE, TWO, f"{TRAINING}.precision=bf16"),
}
SHORT = f"{TRAINING}.teacher_precision=bf16"
EPOCHS = 30
EXAMPLES = "TextBrewer, as its examples"
GROUPED = "Trainer, length-grouped"
BARE = "no toolkit, split as kdspec does"


def main() -> None:
    """Compare the losses, then the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rows", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        told = agreement(Path(folder))
    print(told, flush=True)
    pages = []
    for student in arguments.students:
        with tempfile.TemporaryDirectory() as folder:
            pages.append(times(student, Path(folder), arguments.rows, arguments.rounds))
        print(pages[-1], flush=True)
    if arguments.write:
        PAGE.write_text("\n".join([*heading(arguments, told), *pages]), encoding="utf-8")


def agreement(folder: Path) -> str:
    """Whether all that mask padding follow the same losses, in one line."""
    small, (student, layers) = SMALL
    with systems(folder, small, student, layers, rows=256, steps=2, dropout=0.0) as found:
        first, *others = [[found[name].step().loss for _ in range(2)] for name in comparable(found)]
        furthest = max(abs(a - b) / abs(b) for other in others for a, b in zip(other, first, strict=True))
    assert furthest < 1e-4, f"the losses of two steps differ by {furthest:.1e}"
    return f"Losses of two steps with small models: {len(others) + 1} loops agree to {furthest:.0e}."


def comparable(found: dict[str, System]) -> list[str]:
    """The loops that mask padding and have the random batches."""
    return [name for name in found if name != EXAMPLES and "grouped" not in name]


def times(student: str, folder: Path, rows: int, rounds: int) -> str:
    """A table with a row for each loop, and for epochs that are put together of what was taken."""
    size, layers = STUDENTS[student]
    taken: dict[str, Taken] = {}
    with systems(folder, TEACHER, size, layers, rows=rows, steps=rounds + 1, dropout=0.1) as found:
        for system in found.values():
            system.step()  # imports, and the state of the optimizer
        for number in range(rounds):
            names = list(found)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                began = time.perf_counter()
                done = found[name].step()
                taken.setdefault(name, Taken()).add(time.perf_counter() - began, done.tokens)
        kept = found[KEPT]
        assert isinstance(kept, Engine)
        filled = {"": kept.filled, ", teacher in bf16": filling(loop(spec(layers), folder, (*KDSPEC[KEPT], SHORT)))}
    for later, how in (
        (KEPT, ""),
        (BY_LENGTH_KEPT, ", length-grouped"),
        (BY_LENGTH_LANES, ", length-grouped, two lanes"),
    ):
        for name, more in filled.items():
            taken[f"kdspec, first epoch, filling the cache{how}{name}"] = taken[later].plus(more)
            taken[f"kdspec, {EPOCHS} epochs{how}{name}"] = taken[later].plus(more / EPOCHS)
    lines = [f"## {student}", "", "| loop | ms for 1,000 tokens | speed-up | against the grouped Trainer |"]
    lines.append("| --- | --- | --- | --- |")
    for name, one in taken.items():
        cells = (spread(taken[EXAMPLES], one), f"{taken[GROUPED].mean / one.mean:.2f} x")
        lines.append(f"| {name} | {one.mean:,.0f} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def filling(made: TrainingLoop) -> float:
    """How long the teacher takes to answer for all rows and to have the answers kept, for 1,000 tokens."""
    (cache,) = made.caches
    began = time.perf_counter()
    cache.fill(range(cache.samples.blocks))
    return 1e6 * (time.perf_counter() - began) / int(cache.samples.loader.lengths.sum())


@dataclass
class Taken:
    """The times of a loop's steps, in milliseconds for 1,000 tokens, and their tokens."""

    times: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def add(self, seconds: float, tokens: int) -> None:
        """Another step."""
        self.times.append(1e6 * seconds / tokens)
        self.tokens.append(tokens)

    def plus(self, more: float) -> Taken:
        """The same steps, each of which takes longer."""
        return Taken([each + more for each in self.times], self.tokens)

    @property
    def mean(self) -> float:
        """Of all tokens: a batch of short rows, which takes longer for a token, has few of them."""
        return sum(a * b for a, b in zip(self.times, self.tokens, strict=True)) / sum(self.tokens)


def spread(of: Taken, one: Taken) -> str:
    """The ratio, with the least and the greatest of a round."""
    ratios = [a / b for a, b in zip(of.times, one.times, strict=True)]
    return f"{of.mean / one.mean:.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"


def heading(arguments: argparse.Namespace, told: str) -> list[str]:
    """What was measured, and on what."""
    packages = ("kdspec", "torch", "transformers", "textbrewer", "torchdistill", "accelerate")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        "# kdspec beside other toolkits",
        "",
        f"`python benchmarks/peers.py --write --rounds {arguments.rounds} --rows {arguments.rows}`: BERT-base teaches each student by",
        "soft labels, `hidden_mse` and `mmd`; what is compared, and how, is described at the top of that file.",
        "",
        told,
        "",
        f"{versions}; Python {platform.python_version()}, {platform.machine()}, {arguments.threads} threads, CPU only.",
        "",
    ]


@dataclass
class System:
    """A loop by the name that the table has."""

    step: Callable[[], Done]


class Engine(System):
    """kdspec's own loop."""

    def __init__(self, made: TrainingLoop, filled: float) -> None:
        self.loop, self.filled, self._steps = made, filled, made.run(0)
        super().__init__(self._one)

    def _one(self) -> Done:
        done = next(self._steps)
        return Done(done.loss, done.tokens)

    def batch(self, step: int) -> list[list[int]]:
        """The rows of a step, by micro-batch."""
        return [draw.rows for draw in self.loop.draws.of(step)]


@dataclass
class systems:  # noqa: N801 - used as a function
    """All loops on the same models and rows, by name; a context, which ends them."""

    folder: Path
    teacher: Size
    student: Size
    layers: Layers
    rows: int
    steps: int
    dropout: float
    rivals: list[Rival] = field(default_factory=list)

    def __enter__(self) -> dict[str, System]:
        save(self.folder / "teacher", self.teacher, 1, self.dropout)
        save(self.folder / "student", self.student, 2, self.dropout)
        rows = texts(self.folder / "rows.jsonl", self.rows)
        engines = {name: self.engine(name) for name in KDSPEC}
        first, grouped = engines[RANDOM], engines[BY_LENGTH]
        work = self.work(rows, first.loop)
        random_, alike = self.cuts(first)
        by_length = [list(chain(*grouped.batch(step))) for step in range(self.steps + 2)]
        loops = {
            EXAMPLES: (textbrewer(as_in_examples=True), random_),
            "TextBrewer, with masks, padding by batch, fused AdamW": (textbrewer(as_in_examples=False), random_),
            "torchdistill, padding by batch": (torchdistill, random_),
            "Trainer, padding by batch": (trainer, random_),
            GROUPED: (trainer, by_length),
            BARE: (alike, random_),
        }
        self.rivals = [Rival(run, work, batches) for run, batches in loops.values()]
        others = {name: System(rival.step) for name, rival in zip(loops, self.rivals, strict=True)}
        return {**others, **engines}

    def __exit__(self, *_: object) -> None:
        for rival in self.rivals:
            rival.close()

    def cuts(self, engine: Engine) -> tuple[list[list[int]], Callable[..., None]]:
        """The rows of each step, and the loop without a toolkit that cuts them as the engine does."""
        micro = {tuple(sorted(chain(*engine.batch(step)))): engine.batch(step) for step in range(self.steps + 2)}
        return [list(batch) for batch in micro], functools.partial(
            bare, micro=lambda batch: micro[tuple(sorted(batch))]
        )

    def engine(self, name: str) -> Engine:
        """The loop of kdspec by its name in the table, with a full cache where it keeps one."""
        os.environ["KDSPEC_CACHE"] = str(self.folder / "filled")
        made = loop(spec(self.layers), self.folder, KDSPEC[name])
        return Engine(made, filling(made) if made.caches else 0.0)

    def work(self, rows: list[dict[str, Any]], made: TrainingLoop) -> Work:
        """The models for the other loops; projections begin as those of the engine."""
        widths = self.student.width, self.teacher.width
        begun = {name: tensor.detach().clone() for name, tensor in made.trainable.objective.named_parameters()}
        tensors = list(begun.values())  # of each projection its weight and its bias, in the order of the matches
        assert len(tensors) == (0 if widths[0] == widths[1] else 2 * len(self.layers)), list(begun)

        def projections() -> nn.ModuleList | None:
            if not tensors:
                return None
            made = nn.ModuleList(nn.Linear(*widths) for _ in self.layers)
            with torch.no_grad():
                for parameter, value in zip(made.parameters(), tensors, strict=True):
                    parameter.copy_(value)
            return made

        teacher = of_folder(self.folder / "teacher").eval().requires_grad_(False)
        return Work(rows, teacher, lambda: of_folder(self.folder / "student").train(), projections, self.layers)


def spec(layers: Layers) -> str:
    """What kdspec is given, with both losses on these layers of teacher and student."""
    pairs = ", ".join(f"{above}: {below}" for above, below in layers)
    matches = [f"{{feature: hidden, loss: {loss}, layers: {{{pairs}}}}}" for loss in ("hidden_mse", "mmd")]
    return SPEC.replace("MATCHES", f"[{', '.join(matches)}]")


def save(folder: Path, size: Size, seed: int, dropout: float) -> None:
    """A classifier with random weights, and a tokenizer for words that are numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS, num_hidden_layers=size.layers, hidden_size=size.width, num_attention_heads=size.heads,
        intermediate_size=size.inner, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        id2label=dict(enumerate(CLASSES)), label2id={name: number for number, name in enumerate(CLASSES)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    words = {"[PAD]": PAD, "[UNK]": UNKNOWN, "[CLS]": CLS, "[SEP]": SEP}
    words |= {f"w{number}": number for number in range(len(words), WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=LONGEST,
    ).save_pretrained(folder)  # fmt: skip


def texts(file: Path, count: int) -> list[dict[str, Any]]:
    """Rows for the other toolkits, and in `file` the same for kdspec."""
    draw = random.Random(0)
    rows, lines = [], []
    for number in range(count):
        length = min(LONGEST, max(8, round(math.exp(draw.gauss(0, SPREAD)) * MEDIAN)))
        words = draw.choices(range(FIRST, WORDS), k=length - 2)
        rows.append({"input_ids": [CLS, *words, SEP], "labels": number % len(CLASSES)})
        text = " ".join(f"w{word}" for word in words)
        lines.append(f'{{"text": "{text}", "label": "{CLASSES[number % len(CLASSES)]}"}}\n')
    file.write_text("".join(lines), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
