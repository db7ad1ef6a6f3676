"""Tasks on real data over three seeds: a teacher, a student distilled from it, and the same student without it.

    python benchmarks/tasks.py chinese_classification          # a row of the table; --seeds 1 2 3 is the default
    python benchmarks/tasks.py --write                         # only the table, of the runs that there are

A row is a spec of `specs/tasks/`, run once a seed with everything else as it stands but the precision; teachers learn with
the first seed, which therefore comes first, and are those of the other seeds as well. Runs that have ended are not run
again and a stopped one resumes, so the command is repeated as it is. After each run the page `benchmarks/tasks.md`
is written again, with the figures of the other runs; it lists what has not been run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from kdspec.source.extends import load

HERE = Path(__file__).parent
SPECS = HERE.parent / "specs" / "tasks"
SEEDS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class Row:
    """A spec, and what of it is compared."""

    spec: str
    about: str
    metrics: Mapping[str, str]
    """The metric of each task."""


ROWS = (
    Row("chinese_classification", "Chinese titles, ten sections (THUCNews)", {"sections": "accuracy"}),
    Row("chinese_names", "names in Chinese sentences (MSRA)", {"names": "f1"}),
    Row("chinese_kinds", "kinds of names in Chinese sentences, several labels", {"kinds": "micro_f1"}),
    Row(
        "english_two_tasks",
        "English headlines and questions, one student",
        {"sarcasm": "accuracy", "questions": "accuracy"},
    ),
    Row("english_classification", "English headlines, sarcastic or not", {"sarcasm": "accuracy"}),
    Row("english_three_teachers", "English questions of six kinds (TREC), three teachers", {"questions": "accuracy"}),
    Row("chinese_questions", "questions made from MSRA, F1 of characters", {"questions": "f1"}),
    Row("english_questions", "SquadShifts → SQuAD, F1 of words", {"questions": "f1"}),
)

NOTES = """## Notes

A student is seldom better than its teacher. When the teacher of `chinese_classification` had three epochs, not eight
(seed 1, bf16), it had 74.20 % on the test; its student kept 99.3 % of that, 73.65 %, and the student without a teacher,
which is less deep and learnt faster, had 78.05 %. Look at the teacher's figure first.

Rows without labels count as rows of their task. When `english_two_tasks` drew its micro-batches in proportion to the rows,
`sampling: {tau: 1}` (seed 1, bf16), a fifth of them were of questions, and the student had 75.33 % on these, against 87.72 %
of the one without teachers, for which it was half (on headlines 87.75 % and 85.58 %). So the spec has `tau: 0`.

A distilled student needs many steps. With 400 of them at 1e-4 in place of 1,000 at 3e-4 the student of `english_two_tasks` (seed 1,
bf16) had 85.15 % on headlines and 87.17 % on questions, and without teachers 85.58 % and 87.72 %; the teachers had 87.22 %
and 91.83 %. Of the validation rows it had 87.5 % and 89.8 % after 800 steps at 3e-4; 88.0 % and 89.6 % with masked and
deleted words in questions and length-grouped batches; 87.5 % and 89.4 % with these batches when it began as layers of the
teacher of questions; and 86.9 % and 88.6 % with them and a match of the last hidden states, `cos`.

The more a teacher leads, the more it can give. With a teacher of two epochs at 1e-4 in place of three at 2e-4, and students
at 2e-4 in place of 3e-4, the teacher of `english_classification` (seed 1, bf16) had 87.10 % of the test rows and the student
without it 86.95 %: there was nothing to gain, and the distilled one, which had `hidden_mse` on every second layer too, had 86.62 %.
Of the validation rows that one had 86.33 % after 300 steps; without matches, at 3e-4, it had 86.67 % after 150.

The student of `chinese_kinds` that learns from labels alone differs much from seed to seed, from 84.0 % to 86.5 %, and
with seed 2 it is better than the teacher; the distilled one lies between 85.8 % and 86.2 % with each. Its teacher had a micro
F1 of 78.97 % on the validation rows after 438 of its 700 steps, and 84.13 % at the end.

All figures are from when biases and norms decayed too (`decay: all`).

The figures of `english_questions` are from when the hard loss was the sum of both ends and not their mean: `hard_labels:
{weight: 0.2}` is now what 0.1 was.

Answers to questions take a student longest to learn. With 400 steps of 16 rows the distilled student of `english_questions`
(seed 1, bf16) had an F1 of 67.27 % on the test rows, 90.2 % of the 74.55 % of its teacher. With 2,250, two passes over
18,000 rows, three seeds kept 97.3 %, 96.5 % and 97.1 %; with 4,700 and 19,600 rows more, posts and reviews, seed 1 kept
98.0 %. With 7,000 and the F1 of 816 validation questions to choose by, the student after 4,728 of them was taken, whose
learning rate was high yet: 71.15 % there, and 70.30 % at the end; on the test it kept 96.4 %. The loss, which is 1.51 and
1.49, chooses the one at the end; so the spec has it. The student without a teacher learns its rows by heart: of the
validation rows it has 61.6 % after two passes, which are kept, and 60 % after four.

`english_three_teachers` has nothing to gain as it is: in 282 steps the student learns 3,000 questions from labels nearly as well
as its teachers did.

Names take long to learn. The teacher of `chinese_names` (bf16) had an F1 of 64.70 % on the validation sentences after one
epoch, 74.57 % after two and 79.52 % after three. The student (seed 1) came to 75.94 % in 700 steps of 32 sentences at 8e-4,
one pass over its rows, and to 79.32 % in 2,000 steps of 16 at 6e-4, one and a half passes, of which the three seeds kept
98.1 %, 97.5 % and 98.2 % on the test, 97.95 % in the mean. With 3,500, for both students, it is 99.9 %.
"""


@dataclass(frozen=True)
class Scores:
    """What a run has measured for one task: the mean of its teachers, its student, and the student without a teacher."""

    teacher: float
    student: float
    alone: float


def main() -> None:
    """Run the rows that are asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(row.spec for row in ROWS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--output", type=Path, default=Path("runs/tasks"), help="where the runs are")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--write", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - {row.spec for row in ROWS}
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}")
    if not arguments.write:
        for row in ROWS:
            for seed in arguments.seeds if row.spec in arguments.rows or not arguments.rows else ():
                run(row, seed, arguments.output, arguments.precision)
                write(arguments.output, arguments.precision)
    write(arguments.output, arguments.precision)


def run(row: Row, seed: int, output: Path, precision: str) -> None:
    """One seed of a row; kdspec itself takes up what was stopped, and passes over what has ended."""
    if (output / folder(row, seed) / "table.json").exists():
        return
    command = [sys.executable, "-m", "kdspec", "run", "-", "--output", str(output.resolve())]
    # Paths of a spec from the standard input are relative to where the command runs.
    subprocess.run(command, cwd=SPECS, input=written(row, seed, output, precision), text=True, check=True)


def written(row: Row, seed: int, output: Path, precision: str) -> str:
    """The spec of a run."""
    spec = load(SPECS / f"{row.spec}.yaml", environ={}).data
    spec |= {"name": folder(row, seed), "seed": seed}
    if seed != SEEDS[0]:
        adopt(spec, output.resolve() / folder(row, SEEDS[0]) / "models")
    for stage in spec["stages"].values():
        stage["training"]["precision"] = precision
    return yaml.safe_dump(spec, allow_unicode=True, sort_keys=False)  # stages are done in the order in which they stand


def adopt(spec: dict[str, Any], models: Path) -> None:
    """Puts the teachers of another run into a spec, in place of the stages that make them."""
    taught = {name: stage["distiller"].get("supervised", {}).get("model") for name, stage in spec["stages"].items()}
    for name, model in taught.items():
        if model is not None and model != "student_alone":
            spec["models"][model] = {"transformers": {"path": str(models / model)}}
            del spec["stages"][name]


def folder(row: Row, seed: int) -> str:
    """The name of a run."""
    return f"{row.spec}-seed-{seed}"


def read(row: Row, output: Path) -> dict[int, dict[str, Scores]]:
    """For each seed whose run has ended the scores of each task."""
    found = {}
    for path in output.glob(f"{row.spec}-seed-*/table.json"):
        models = json.loads(path.read_text(encoding="utf-8"))
        found[int(path.parent.name.rpartition("-")[2])] = {
            task: scores(models, task, metric) for task, metric in row.metrics.items()
        }
    return found


def recorded(text: str) -> dict[Row, dict[int, dict[str, Scores]]]:
    """The same of each row, from the page."""
    found: dict[Row, dict[int, dict[str, Scores]]] = {row: {} for row in ROWS}
    lines = text.partition("## Each seed")[2].splitlines()
    for spec, task, seed, *figures in (line.strip("| ").split(" | ") for line in lines if line.startswith("|")):
        for row in ROWS:
            if row.spec == spec and task in row.metrics:
                found[row].setdefault(int(seed), {})[task] = Scores(*map(float, figures))
    return found


def scores(models: Sequence[Mapping[str, Any]], task: str, metric: str) -> Scores:
    """Of the rows of a run's table."""

    def of(role: str) -> float:
        values = [model["metrics"][metric] for model in models if model["role"] == role and model["task"] == task]
        return round(100 * statistics.mean(map(float, values)), 2)

    return Scores(of("teacher"), of("student"), of("baseline"))


def write(output: Path, precision: str) -> None:
    """The page, of the runs that there are and of the figures that it has of others."""
    path = HERE / "tasks.md"
    old = recorded(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = {row: dict(sorted((old.get(row, {}) | read(row, output)).items())) for row in ROWS}
    path.write_text("\n".join(page(found, precision)), encoding="utf-8")


def page(found: Mapping[Row, Mapping[int, Mapping[str, Scores]]], precision: str) -> Iterable[str]:
    """Its lines: a table of means, one of seeds, and what is missing."""
    yield from (
        "# Tasks on real data",
        "",
        "Each line is a spec of [`specs/tasks/`](../specs/README.md) with real models and data from `kdspec fetch`,",
        "measured on test rows that no stage has seen. The student has every second layer of its teacher, three of six; with one",
        "teacher it begins as these when the teacher has learnt, else as those of the pretrained model. `labels only` is the",
        "same student without a teacher: it begins as the layers of the pretrained model and trains on the labelled rows for",
        "as many steps, or in `english_questions` as many as are of use. Figures are per cent, means over the seeds with their",
        "standard deviation; `of the teacher` is the part of its metric, or of the mean of several teachers', that the distilled",
        "student keeps. Teachers learn once, with the first seed; the seeds are those of the students.",
        "",
        "| row | metric | seeds | teacher | distilled student | of the teacher | labels only | gain |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    )
    for row, seeds in found.items():
        for task, metric in row.metrics.items() if seeds else ():
            yield line(row, task, metric, [one[task] for one in seeds.values()])
    yield from ("", "## Each seed", "", "| row | task | seed | teacher | distilled student | labels only |")
    yield "| --- | --- | --- | --- | --- | --- |"
    for row, seeds in found.items():
        for seed, tasks in seeds.items():
            for task, one in tasks.items():
                figures = " | ".join(f"{value:.2f}" for value in (one.teacher, one.student, one.alone))
                yield f"| {row.spec} | {task} | {seed} | {figures} |"
    yield ""
    if missing := [f"`{row.spec}`" for row, seeds in found.items() if not seeds]:
        yield f"Not run yet: {', '.join(missing)}."
    if few := [f"`{row.spec}` ({len(seeds)})" for row, seeds in found.items() if 0 < len(seeds) < len(SEEDS)]:
        yield f"Fewer than {len(SEEDS)} seeds so far: {', '.join(few)}."
    yield from (
        "",
        *NOTES.splitlines(),
        "",
        "## How to repeat it",
        "",
        "    kdspec fetch",
        *(f"    python benchmarks/tasks.py {row.spec}" for row in found),
        "",
        "`kdspec fetch squad-shifts` goes before `english_questions`. A row has three seeds, each of some minutes on",
        "one core; a stopped command resumes.",
        "",
        ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
        + f", Python {platform.python_version()}, {platform.machine()}, CPU only, precision {precision}.",
        "",
    )


def line(row: Row, task: str, metric: str, seeds: Sequence[Scores]) -> str:
    """A line of the table of means."""
    about = row.about if len(row.metrics) == 1 else f"{row.about}: {task}"
    kept = statistics.mean(100 * one.student / one.teacher for one in seeds)
    gain = [one.student - one.alone for one in seeds]
    columns = [spread([getattr(one, name) for one in seeds]) for name in ("teacher", "student", "alone")]
    teacher, student, alone = columns
    return f"| {about} | {metric} | {len(seeds)} | {teacher} | {student} | {kept:.1f} % | {alone} | {spread(gain, sign='+')} |"


def spread(values: Sequence[float], sign: str = "") -> str:
    """The mean, and the standard deviation where values differ."""
    mean = f"{statistics.mean(values):{sign}.2f}"
    return mean if len(set(values)) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
