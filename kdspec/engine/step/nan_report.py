"""Reports a non-finite loss or gradient: the responsible terms and teachers, and the batch of the step on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.step.nan_cause import FailedLoop, cause_of
from kdspec.ops.mean import Mean

if TYPE_CHECKING:
    from kdspec.engine.step.accumulator import Figures
    from kdspec.engine.step.normalization import Shares
    from kdspec.engine.step.task_inputs import MicroBatch


def non_finite_error(
    loop: FailedLoop, step: int, drawn: list[MicroBatch], shares: Shares, figures: Figures, where: list[int]
) -> FindingError:
    """KD501 for a step with a non-finite loss or gradient; called by all processes.

    Args:
        loop: the training loop, before the optimizer's step.
        step: the number of the step, from 0.
        drawn: its micro-batches.
        shares: the share of each in the loss.
        figures: the losses and the norm of the step.
        where: the processes with a non-finite loss, if there are several processes.
    """
    bad, what = figures.bad_terms, "the term"
    if not bad:
        bad, what = _bad_gradients(loop, step, drawn, shares, figures.terms), "the gradient of the term"
    fine = [name for name in figures.terms if name not in bad]
    message = f"{what} `{bad[0]}`" if bad else f"the gradient (its norm is {figures.norm})"
    others = tuple(f"`{name}` is not finite either" for name in bad[1:])
    ranks = (f"it comes from the rows of process {', '.join(map(str, where))}",) if where else ()
    note = (f"finite in this step: {', '.join(f'`{n}`' for n in fine)}",) if fine and bad else ()
    of_gradient = not figures.bad_terms
    causes = loop.backend.process_group.collect(asdict(cause_of(loop, step, drawn, bad, of_gradient=of_gradient)))
    cause = causes[where[0] if where else 0]
    # One process writes the batch: the first with a non-finite loss.
    writes = loop.backend.rank == (where[0] if where else 0)
    own = [loop.keep_batch(step + 1, drawn, figures.terms)] if writes else []
    kept = dict.fromkeys(line for lines in loop.backend.process_group.collect(own) for line in lines)
    term = loop.place(bad[0] if bad else "")
    finding = Finding(
        "KD501",
        f"{message} is not finite in step {step + 1} of stage `{loop.stage.name}`",
        tuple(cause["at"] or term),
        also=(Mark(term, "this term is not finite"),) if cause["at"] else (),
        notes=(*others, *ranks, *note, *cause["notes"], *kept, cause["state"]),
        help=cause["help"],
    )
    return FindingError(finding)


def _bad_gradients(
    loop: FailedLoop, step: int, drawn: list[MicroBatch], shares: Shares, names: Iterable[str]
) -> list[str]:
    """The terms with non-finite gradients: the step is computed again, term by term."""
    if loop.backend.divided:
        return []  # gradients of sharded weights exist only after a complete backward pass
    loop.embeddings.close()
    parameters = [p for p in loop.trainable.parameters() if p.requires_grad]
    found: dict[str, None] = {}
    lane = None if loop.lanes is None else loop.lanes.first
    for micro, each in enumerate(drawn):
        for name in names:
            # A forward pass for each term: a compiled one supports only one backward pass.
            with lane.draws if lane is not None else nullcontext():
                terms, _ = loop.terms(step, micro, each, lane=lane)
            if (term := terms.get(name)) is None:
                continue
            value = term.loss.value if isinstance(term.loss, Mean) else term.loss
            if not (shares.of(term.loss, micro).of_step and value.requires_grad):
                continue
            gradients: Any = torch.autograd.grad(value, parameters, allow_unused=True)
            if not all(gradient is None or gradient.isfinite().all() for gradient in gradients):
                found[name] = None
    everywhere = loop.backend.process_group.collect(list(found))
    return list(dict.fromkeys(name for names in everywhere for name in names))


def keep(folder: RunFolder, stage: str, step: int, drawn: Sequence[MicroBatch], terms: Mapping[str, float]) -> str:
    """Save the micro-batches of a step as safetensors, with their row numbers; returns a sentence with the place.

    If the disk cannot be written, only the batch is lost, not the diagnostic.

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
    except FindingError as error:
        return f"its batch could not be saved: {error.findings[0].message}"
    rows = [row for part in drawn for row in part.rows]
    shown = ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
    return f"its batch is saved in `{place}`; the rows are {shown}, counted from 0"


def _write(fresh: Path, stage: str, step: int, drawn: Sequence[MicroBatch], terms: Mapping[str, float]) -> None:
    parts = []
    for number, part in enumerate(drawn):
        files: dict[str, str] = {}
        written: dict[int, str] = {}
        for model, batch in part.batches.items():
            # Models that share a tokenizer share their batch.
            if id(batch) not in written:
                name = written[id(batch)] = f"batch-{number}-{len(written)}.safetensors"
                tensors = {key: value.detach().cpu().contiguous().clone() for key, value in batch.tensors.items()}
                save_file(tensors, fresh / name)
            files[model] = written[id(batch)]
        parts.append({"task": part.task, "rows": part.rows, "files": files})
    values = {name: repr(value) for name, value in terms.items()}  # JSON has no NaN
    about = {"stage": stage, "step": step, "terms": values, "micro_batches": parts}
    (fresh / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
