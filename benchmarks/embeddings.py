"""Embeddings, translations and search on real data over three seeds.

    python benchmarks/embeddings.py                         # everything; --seeds 1 2 3 is the default
    python benchmarks/embeddings.py layer_cut search        # some of it
    python benchmarks/embeddings.py --write                 # only the page, of the runs that there are

Each row is a spec of `specs/embeddings/`, run once a seed with everything else as it stands. Runs that have ended are not
run again and a stopped one resumes, so the command is repeated as it is. After each run the page `benchmarks/embeddings.md`
is written again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from kdspec.source.extends import load

HERE = Path(__file__).parent
SPECS = HERE.parent / "specs" / "embeddings"
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Figure:
    """A figure of a model in the table of a run."""

    about: str
    spec: str
    model: str
    metric: str


@dataclass(frozen=True)
class Table:
    """Figures that belong together."""

    title: str
    text: str
    figures: tuple[Figure, ...]


TABLES: tuple[Table, ...] = (
    Table(
        "Sentence similarity",
        "Spearman's correlation, in per cent, of the cosine with people's judgement, on the 1,379 test pairs of the STS"
        " Benchmark. All students learn from the same 33,415 sentences without labels, none of which is in a test pair.",
        (
            Figure("teacher: all-MiniLM-L6-v2, 6 layers", "layer_cut", "teacher", "sts.spearman"),
            Figure("its first and last layer, not trained", "untrained", "student", "sts.spearman"),
            Figure("its first and last layer, distilled", "layer_cut", "student", "sts.spearman"),
            Figure("3 new layers of width 192, distilled", "small_student", "student", "sts.spearman"),
            Figure("one vector a token (`static`), distilled", "static_student", "student", "sts.spearman"),
            Figure("wordllama, one vector a token", "wordllama", "teacher", "sts.spearman"),
        ),
    ),
    Table(
        "Translations",
        "How often the nearest of 1,000 Chinese test sentences is the translation of an English one, and the other way"
        " round, in per cent: the mean of both.",
        (
            Figure(
                "teacher: all-MiniLM-L6-v2, which learnt English",
                "multilingual_student",
                "teacher",
                "translations.zh.accuracy",
            ),
            Figure(
                "multilingual-e5-small, 12 layers, as it is", "multilingual_base", "teacher", "translations.zh.accuracy"
            ),
            Figure("6 layers of it, distilled", "multilingual_student", "student", "translations.zh.accuracy"),
        ),
    ),
    Table(
        "Search",
        "nDCG@10, in per cent: 8,544 test questions of SQuAD among its 2,067 paragraphs. Both students begin as the teacher's"
        " first and last layer and learn from 1,800 questions of SquadShifts with four candidates or fewer, once; one sees the teacher's"
        " recorded scores besides which paragraph is the right one.",
        (
            Figure("the teacher, all-MiniLM-L6-v2", "encoder", "student", "retrieve.ndcg@10"),
            Figure("its first and last layer, with recorded scores", "search_recorded", "student", "retrieve.ndcg@10"),
            Figure("its first and last layer, labels only", "search_recorded", "student_alone", "retrieve.ndcg@10"),
        ),
    ),
)


def main() -> None:
    """Run what is asked for, and write the page."""
    specs = list(dict.fromkeys(figure.spec for table in TABLES for figure in table.figures))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", metavar="SPEC", help=f"default: {', '.join(specs)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--output", type=Path, default=Path("runs/embeddings"), help="where the runs are")
    parser.add_argument("--write", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.specs) - {*specs}:
        parser.error(f"no spec {', '.join(sorted(unknown))}")
    for name in () if arguments.write else arguments.specs or specs:
        for seed in arguments.seeds[:1] if name in ONCE else arguments.seeds:
            run(name, seed, arguments.output)
            write(arguments.output)
    write(arguments.output)


def run(name: str, seed: int, output: Path) -> None:
    """One seed of a row; kdspec itself takes up what was stopped."""
    if (output / folder(name, seed) / "table.json").exists():
        return
    command = [sys.executable, "-m", "kdspec", "run", "-", "--output", str(output.resolve())]
    # Paths of a spec from the standard input are relative to where the command runs.
    subprocess.run(command, cwd=SPECS, input=written(name, seed, output), text=True, check=True)


def written(name: str, seed: int, output: Path) -> str:
    """The spec of a run."""
    base, change = VARIANTS.get(name, (name, lambda _, __: None))
    if base == "search_recorded":
        rows = output.resolve() / "recorded"
        if not (rows / "train.jsonl").exists():
            subprocess.run([sys.executable, str(HERE / "recorded_scores.py"), str(rows)], check=True)
        spec = yaml.safe_load(RECORDED.replace("TRAIN", str(rows / "train.jsonl")))
    else:
        spec = load(SPECS / f"{base}.yaml", environ={}).data
    spec |= {"name": folder(name, seed), "seed": seed}
    change(spec, output.resolve())
    spec = json.loads(json.dumps(spec))  # without anchors
    return yaml.safe_dump(spec, allow_unicode=True, sort_keys=False)  # stages are done in the order in which they stand


def untrained(spec: dict[str, Any], _: Path) -> None:
    """A step that changes nothing, so that the table has the models as they are."""
    for stage in spec["stages"].values():
        stage["training"] = {"steps": 1, "batch_size": 2, "optimizer": {"adamw": {"lr": 1e-12, "weight_decay": 0}}}


def of_wordllama(spec: dict[str, Any], output: Path) -> None:
    """Wordllama in the place of both models."""
    untrained(spec, output)
    spec["models"] = {key: {"static": {"path": "../assets/wordllama"}} for key in ("teacher", "student")}


def of_the_base(spec: dict[str, Any], output: Path) -> None:
    """The student's origin, with all its layers, in the place of the teacher."""
    untrained(spec, output)
    spec["models"]["teacher"] = spec["models"].pop("multilingual")
    spec["models"]["student"]["transformers"]["like"] = "teacher"


RECORDED = """
kdspec: 1
tasks:
  search:
    ranking:
      data: {json: {train: TRAIN}}
      query: question
      documents: documents
      scores: scores
      positives: positive
      retrieve:
        corpus: ../assets/squad-retrieval/corpus.jsonl
        queries: ../assets/squad-retrieval/queries.jsonl
        relevant: {test: ../assets/squad-retrieval/relevant-test.tsv}
      max_length: {query: 32, document: 128}
models:
  teacher: {recorded: {}}
  encoder: {transformers: {path: ../assets/all-MiniLM-L6-v2, readout: {pooling: mean, normalize: true}, reads: each}}
  student: &cut
    transformers: {like: encoder, config: {num_hidden_layers: 2}, initialize: {layers: [0, 5]}, reads: each}
  student_alone: *cut
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: {student: 1, teacher: 0.05}}
        hard_labels: {weight: 0.2}
    training: &training
      epochs: 1
      batch_size: 16
      optimizer: {adamw: {lr: 2e-4}}
      lr_schedule: {linear: {warmup: 0.1}}
      evaluate: null
  labels_only:
    distiller: {supervised: {model: student_alone}}
    training: *training
"""
"""Of `search_recorded`, whose rows `recorded_scores.py` writes."""


def of_the_encoder(spec: dict[str, Any], _: Path) -> None:
    """The teacher whose scores are recorded, as it is."""
    spec["models"] = {"student": spec["models"]["encoder"], "teacher": {"recorded": {}}}
    spec["stages"] = {"distil": spec["stages"]["distil"]}
    untrained(spec, _)


VARIANTS: Mapping[str, tuple[str, Callable[[dict[str, Any], Path], None]]] = {
    "untrained": ("layer_cut", untrained),
    "wordllama": ("static_student", of_wordllama),
    "multilingual_base": ("multilingual_student", of_the_base),
    "encoder": ("search_recorded", of_the_encoder),
}
"""Runs that are made of a spec by a change of it."""
ONCE = frozenset({"wordllama", "multilingual_base", "untrained", "encoder"})
"""Those in which nothing depends on the seed."""


def folder(name: str, seed: int) -> str:
    """The name of a run."""
    return f"{name}-seed-{seed}"


def value(figure: Figure, seed: int, output: Path) -> float | None:
    """A figure of a run in per cent; None if it has not ended."""
    path = output / folder(figure.spec, seed) / "table.json"
    if not path.exists():
        return None
    rows = json.loads(path.read_text(encoding="utf-8"))
    return next(
        (round(100 * float(row["metrics"][figure.metric]), 2) for row in rows if row["model"] == figure.model), None
    )


Recorded = Mapping[str, Mapping[int, float]]
"""By what a figure is about its value for each seed."""


def recorded(text: str) -> dict[str, dict[int, float]]:
    """The figures of the page."""
    found: dict[str, dict[int, float]] = {}
    lines = text.partition("## Each seed")[2].splitlines()
    for about, seed, figure in (line.strip("| ").rsplit(" | ", 2) for line in lines if line.startswith("| ")):
        if seed.isdecimal():
            found.setdefault(about, {})[int(seed)] = float(figure)
    return found


def write(output: Path) -> None:
    """The page, of the runs that there are and of the figures that it has of others."""
    path = HERE / "embeddings.md"
    old = recorded(path.read_text(encoding="utf-8")) if path.exists() else {}
    found: dict[str, dict[int, float]] = {}
    for figure in (figure for table in TABLES for figure in table.figures):
        new = {seed: value(figure, seed, output) for seed in SEEDS}
        known = old.get(figure.about, {}) | {seed: each for seed, each in new.items() if each is not None}
        found[figure.about] = dict(sorted(known.items()))
    path.write_text("\n".join(page(found)), encoding="utf-8")


def page(found: Recorded) -> Iterator[str]:
    """Its lines."""
    yield from ("# Embeddings and search on real data", "")
    yield "Specs of [`specs/embeddings/`](../specs/README.md) with real models and data from `kdspec fetch`, on test rows that no"
    yield "stage has seen; means over the seeds, with their standard deviation. Settings were chosen by validation rows; a first setting of the static student was looked at on the test rows (70.35) before it was given up."
    for table in TABLES:
        yield from (
            "",
            f"## {table.title}",
            "",
            table.text,
            "",
            "| model | seeds | % | of the teacher |",
            "| --- | --- | --- | --- |",
        )
        teacher = found[table.figures[0].about]
        for figure in table.figures:
            seeds = found[figure.about]
            if not seeds:
                yield f"| {figure.about} | not run | | |"
                continue
            share = statistics.mean(seeds.values()) / statistics.mean(teacher.values()) if teacher else None
            yield f"| {figure.about} | {len(seeds)} | {spread([*seeds.values()])} | {'' if share is None else f'{100 * share:.1f} %'} |"
    yield from ("", "## Each seed", "", "| model | seed | % |", "| --- | --- | --- |")
    for about, seeds in found.items():
        for seed, each in seeds.items():
            yield f"| {about} | {seed} | {each:.2f} |"
    yield from (
        "",
        "## How to repeat it",
        "",
        "    kdspec fetch",
        "    kdspec fetch squad-retrieval",
        "    python benchmarks/embeddings.py",
        "",
    )
    yield (
        ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
        + f", Python {platform.python_version()}, {platform.machine()}, CPU only."
    )
    yield ""


def spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation where values differ."""
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(set(values)) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
