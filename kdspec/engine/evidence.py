"""What led to a loss that is not finite: the batch of the step on disk, and the teachers that gave no numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from kdspec.diagnostics import DiagnosticError
from kdspec.engine.run_folder import RunFolder

if TYPE_CHECKING:
    from kdspec.engine.lesson import Drawn


def keep(folder: RunFolder, stage: str, step: int, drawn: Sequence[Drawn], terms: Mapping[str, float]) -> str:
    """Save the micro-batches of a step as safetensors, with their row numbers; a sentence that says where.

    A disk that refuses costs the batch, and not the diagnostic that it belongs to.

    Args:
        folder: the folder of the run.
        stage: the stage.
        step: the number of the step, from 1.
        drawn: its micro-batches.
        terms: the value of each term.
    """
    place = folder.path / "not-finite" / f"{stage}-step-{step:08d}"
    try:
        folder.replace(place, lambda fresh: _write(fresh, stage, step, drawn, terms))
    except DiagnosticError as error:
        return f"its batch could not be saved: {error.diagnostics[0].message}"
    rows = [row for part in drawn for row in part.rows]
    shown = ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
    return f"its batch is saved in `{place}`; the rows are {shown}, counted from 0"


def _write(fresh: Path, stage: str, step: int, drawn: Sequence[Drawn], terms: Mapping[str, float]) -> None:
    parts = []
    for number, part in enumerate(drawn):
        files: dict[str, str] = {}
        written: dict[int, str] = {}
        for model, batch in part.batches.items():
            # Models that share a tokenizer share their batch.
            if id(batch) not in written:
                name = written[id(batch)] = f"batch-{number}-{len(written)}.safetensors"
                tensors = {key: value.detach().cpu().contiguous().clone() for key, value in batch.items()}
                save_file(tensors, fresh / name)
            files[model] = written[id(batch)]
        parts.append({"task": part.task, "rows": part.rows, "files": files})
    values = {name: repr(value) for name, value in terms.items()}  # JSON has no NaN
    about = {"stage": stage, "step": step, "terms": values, "micro_batches": parts}
    (fresh / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def without_numbers(name: str, features: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each feature of a teacher that has a NaN."""
    for feature, value in features.items():
        if any(tensor.is_floating_point() and bool(tensor.isnan().any()) for tensor in _tensors(value)):
            yield f"teacher `{name}` gives NaN as its `{feature}`"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
