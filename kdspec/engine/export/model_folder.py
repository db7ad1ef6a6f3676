"""The student as a folder that needs no kdspec: weights, tokenizer, configuration, and a model card."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.spec.model_folders import read_json
from kdspec.engine.run.durable_files import atomic_write
from kdspec.plan.resolved import as_yaml


@cache
def versions() -> Mapping[str, str]:
    """The versions of the libraries on which a result depends."""
    names = ("kdspec", "torch", "transformers", "datasets", "safetensors")
    return MappingProxyType({name: importlib.metadata.version(name) for name in names})


def write_card(folder: Path, plan: Plan, stage: StagePlan, metrics: Mapping[str, float]) -> None:
    """Write `README.md`: the model, its teachers, the strategy, the metrics and the stage's spec."""
    spec = plan.spec
    teachers = ", ".join(f"`{name}`" for name in stage.teachers)
    how = f"distilled from {teachers}" if teachers else "trained on labels"
    lines = [
        "---",
        *(
            ["library_name: transformers"]
            if any("model_type" in read_json(file) for file in folder.rglob("config.json"))
            else []
        ),
        "tags: [knowledge-distillation, kdspec]",
        "---",
        "",
        f"# {spec.name}: {stage.student}",
        "",
        f"Model `{stage.student}`, {how} by the strategy `{stage.distiller.name}` in stage `{stage.name}`.",
        "",
        *_folders(folder, stage),
        *_results(metrics),
        "## The stage, as written",
        "",
        "```yaml",
        as_yaml(spec.model_dump(mode="python", by_alias=True)["stages"][stage.name]).rstrip(),
        "```",
        "",
        "## Made with",
        "",
        *(f"- {name} {version}" for name, version in versions().items()),
        f"- seed {spec.seed}",
        "",
    ]
    atomic_write(folder / "README.md", "\n".join(lines))


def _folders(folder: Path, stage: StagePlan) -> list[str]:
    tasks = [task for task in stage.tasks if (folder / task).is_dir()]
    entries = [f"- `{task}/`: the model with the head for task `{task}`, and its tokenizer" for task in tasks]
    return (
        [
            "One encoder was trained on several tasks; each folder has it with one head, for `from_pretrained`:",
            "",
            *entries,
            "",
        ]
        if tasks
        else []
    )


def _results(metrics: Mapping[str, float]) -> list[str]:
    if not metrics:
        return []
    rows = [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    return ["## Validation", "", "| metric | value |", "| --- | --- |", *rows, ""]


def size(folder: Path) -> int:
    """Bytes of the weights in a model folder."""
    # Not recursive: a model of several tasks has a folder for each, with the weights of the encoder again.
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
