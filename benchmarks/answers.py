"""A student of recorded probabilities, of recorded hard answers, and of labels: accuracy and calibration over three seeds.

    python benchmarks/answers.py                            # everything; --seeds 1 2 3 is the default
    python benchmarks/answers.py --steps 5 --output try     # whether it runs
    python benchmarks/answers.py --write                    # only the page, of the runs that there are

The teacher, all-MiniLM-L6-v2, learns 3,000 labelled headlines once; `kdspec predict` writes what it answers for these and
10,000 headlines without labels. Students of the same shape begin alike and learn as many steps. Each run is done without and
with `calibrate: temperature`. Runs that have ended are not run again and a stopped one resumes, so the command is repeated as
it is. After each run the page `benchmarks/answers.md` is written again.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ASSETS = HERE.parent / "specs" / "assets"
SEEDS = (1, 2, 3)
STEPS = 700
METRICS = ("accuracy", "ece", "brier", "nll")
STUDENTS = {
    "probabilities": "recorded probabilities of 13,000 headlines",
    "answers": "recorded hard answers for the same headlines",
    "labels": "labels of 3,000 headlines",
}
CALIBRATED = {"": "no", "-calibrated": "temperature"}
TRAINING = {
    "batch_size": 32,
    "optimizer": {"adamw": {"lr": 1.0e-3, "weight_decay": 0.01}},
    "lr_schedule": {"linear": {"warmup": 0.1}},
    "evaluate": {"every_steps": 100},
}


def main() -> None:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--output", type=Path, default=Path("runs/answers"), help="where the runs are")
    parser.add_argument("--write", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    output, page = arguments.output.resolve(), HERE / "answers.md"
    if arguments.steps != STEPS:
        page = output / "answers.md"
    for seed in () if arguments.write else arguments.seeds:
        rows = recorded(output, arguments.steps)
        for name in STUDENTS:
            for suffix in CALIBRATED:
                run(student(name, seed, suffix, rows, arguments.steps), output)
                page.write_text("\n".join(lines(output)), encoding="utf-8")
    page.write_text("\n".join(lines(output)), encoding="utf-8")


def recorded(output: Path, steps: int) -> Path:
    """The folder with the rows: the splits as JSON Lines, and what the teacher answers."""
    folder = output / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        with (ASSETS / "headlines" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in csv.DictReader(file)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    run(teacher(folder, steps), output)
    trained = output / "teacher" / "student"
    for split in ("train", "unlabelled"):
        made = folder / f"answers-{split}.jsonl"
        if not made.exists():
            data = ASSETS / "headlines" / f"{split}.csv"
            command = ["predict", str(trained), "--data", str(data), "-o", str(made), "--probabilities"]
            subprocess.run([sys.executable, "-m", "kdspec", *command], check=True)
    # What is recorded has no labels: the students of it see only what the teacher says.
    said = [
        json.loads(line)
        for split in ("train", "unlabelled")
        for line in (folder / f"answers-{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    lines = [json.dumps({key: row[key] for key in ("headline", "answer", "probabilities")}) + "\n" for row in said]
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def teacher(folder: Path, steps: int) -> dict[str, Any]:
    """The spec that fine-tunes the teacher."""
    model = {"transformers": {"path": str(ASSETS / "all-MiniLM-L6-v2")}}
    training = {
        "batch_size": 32,
        "optimizer": {"adamw": {"lr": 1.0e-4, "weight_decay": 0.01}},
        "lr_schedule": {"linear": {"warmup": 0.1}},
        **({"epochs": 2} if steps == STEPS else {"steps": steps}),
    }
    stage = {"distiller": {"supervised": {"model": "student"}}, "training": training}
    return spec("teacher", 1, task(folder, "train.jsonl", "label"), {"student": model}, stage)


def student(name: str, seed: int, suffix: str, folder: Path, steps: int) -> dict[str, Any]:
    """The spec of a student."""
    base = {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
    small = {"transformers": {"like": "encoder", "config": base}}
    models = {"encoder": {"transformers": {"path": str(ASSETS / "all-MiniLM-L6-v2")}}, "student": small}
    training = {**TRAINING, "steps": steps, **({"calibrate": "temperature"} if suffix else {})}
    if name == "probabilities":
        models["judge"] = {"recorded": {"probabilities": "probabilities"}}
        soft = {"loss": "kl", "temperature": 1}
        distiller: dict[str, Any] = {"general": {"teacher": "judge", "student": "student", "soft_labels": soft}}
        about = task(folder, "answers.jsonl", "label")
    else:
        distiller = {"supervised": {"model": "student"}}
        about = task(folder, "answers.jsonl", "answer") if name == "answers" else task(folder, "train.jsonl", "label")
    return spec(f"{name}{suffix}-seed-{seed}", seed, about, models, {"distiller": distiller, "training": training})


def task(folder: Path, train: str, label: str) -> dict[str, Any]:
    """Headlines, of which only the training rows differ; `label` is a column of them."""
    data = {"train": str(folder / train)}
    data |= {split: str(named(folder, split, label)) for split in ("validation", "test")}
    columns = {"text": "headline", "label": label, "labels": ["plain", "sarcastic"], "max_length": 64}
    return {"headlines": {"sequence_classification": {"data": {"json": data}, **columns}}}


def named(folder: Path, split: str, label: str) -> Path:
    """The rows of a split with their labels in a column of this name."""
    made = folder / f"{split}-{label}.jsonl"
    rows = map(json.loads, (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
    lines = [json.dumps({"headline": row["headline"], label: row["label"]}, ensure_ascii=False) + "\n" for row in rows]
    made.write_text("".join(lines), encoding="utf-8")
    return made


def spec(
    name: str, seed: int, tasks: Mapping[str, Any], models: Mapping[str, Any], stage: Mapping[str, Any]
) -> dict[str, Any]:
    """A spec of one stage."""
    return {"kdspec": 1, "name": name, "seed": seed, "tasks": tasks, "models": models, "stages": {"learn": stage}}


def run(written: Mapping[str, Any], output: Path) -> None:
    """One run; kdspec itself takes up what was stopped."""
    if (output / written["name"] / "table.json").exists():
        return
    text = yaml.safe_dump(json.loads(json.dumps(written)), allow_unicode=True, sort_keys=False)
    command = [sys.executable, "-m", "kdspec", "run", "-", "--output", str(output)]
    subprocess.run(command, input=text, text=True, check=True)


def figures(name: str, output: Path) -> dict[str, float]:
    """The metrics of a run's student; empty if it has not ended."""
    path = output / name / "table.json"
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))
    metrics = next(row["metrics"] for row in rows if row["model"] == "student")
    return {metric: float(metrics[metric]) for metric in METRICS if metric in metrics}


def lines(output: Path) -> Iterator[str]:
    """The page."""
    yield from ("# Recorded answers and calibration", "")
    yield "Headlines, sarcastic or not: test rows that no stage has seen. Students of 2 layers and width 128 begin alike"
    yield f"and learn {STEPS} steps; means over the seeds, with their standard deviation. Lower is better for all but accuracy."
    yield from (
        "",
        f"| the student learns | calibrated | seeds | {' | '.join(METRICS)} |",
        "| --- |" + " --- |" * (2 + len(METRICS)),
    )
    yield row("(the teacher: labels)", "no", [figures("teacher", output)])
    for name, about in STUDENTS.items():
        for suffix, calibrated in CALIBRATED.items():
            yield row(about, calibrated, [figures(f"{name}{suffix}-seed-{seed}", output) for seed in SEEDS])
    yield from ("", "## How to repeat it", "", "    kdspec fetch", "    python benchmarks/answers.py", "")
    names = ", ".join(f"{name} {version(name)}" for name in ("kdspec", "torch", "transformers"))
    yield f"{names}, Python {platform.python_version()}, {platform.machine()}, CPU only."
    yield ""


def row(about: str, calibrated: str, runs: Sequence[Mapping[str, float]]) -> str:
    """A line of the table."""
    done = [found for found in runs if found]
    if not done:
        return f"| {about} | {calibrated} | not run |" + " |" * len(METRICS)
    return f"| {about} | {calibrated} | {len(done)} | {' | '.join(spread([found[name] for found in done]) for name in METRICS)} |"


def spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation of several."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main()
