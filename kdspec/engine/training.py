"""The loop: one optimizer step after another, each a pure function of the seed and its number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdspec.diagnostics import Diagnostic, DiagnosticError, Label
from kdspec.engine.backend import Backend
from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward, frozen
from kdspec.engine.normalization import UNITS, Shares, count
from kdspec.engine.optimization import Optimization
from kdspec.engine.order import DataOrder, reseed
from kdspec.events import StepDone
from kdspec.kinds import Objective
from kdspec.ops.mean import Mean
from kdspec.plan import PlannedStage
from kdspec.step import Step, Term


class Bundle(nn.Module):
    """All that a stage trains: the student, and the objective with its projections and loss parameters."""

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student = student
        # An objective without parameters need not be a module.
        self.objective: nn.Module = objective if isinstance(objective, nn.Module) else _Plain(objective)


class _Plain(nn.Module):
    def __init__(self, function: Objective) -> None:
        super().__init__()
        self.function = function

    def forward(self, step: Step) -> dict[str, Term]:
        return self.function(step)


@dataclass
class _Tally:
    """What one optimizer step has added up, still on the device."""

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    micro: list[Tensor] = field(default_factory=list)

    def read(self, norm: Tensor) -> _Figures:
        """Everything as numbers, in one transfer: the only time in a step that the device is waited for."""
        device = self.loss.device
        parts = [self.loss, norm, *self.terms.values(), *self.micro]
        values = torch.stack([part.detach().to(device=device, dtype=torch.float64) for part in parts]).tolist()
        terms = dict(zip(self.terms, values[2:], strict=False))
        return _Figures(values[0], values[1], terms, tuple(values[2 + len(terms) :]))


@dataclass(frozen=True)
class _Figures:
    """The numbers of one optimizer step."""

    loss: float
    norm: float
    terms: dict[str, float]
    micro: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One stage's training, ready to run from any step."""

    stage: PlannedStage
    task: str
    bundle: Bundle
    student: Forward
    teachers: Mapping[str, Forward]
    feed: Feed
    order: DataOrder
    optimization: Optimization
    backend: Backend
    seed: int
    total_steps: int
    labels: frozenset[str]
    place: Callable[[str], Label]
    """Where the spec has a term, for an error."""
    guard: Callable[[str], AbstractContextManager[None]]
    """Around code of components: what it raises becomes a diagnostic about the name that is passed."""

    def run(self, start: int) -> Iterator[StepDone]:
        """Do the steps from `start` (how many are done already) to the end, one at a time.

        Raises:
            DiagnosticError: KD501 where a loss or the gradient is not finite; the weights are those before that step.
        """
        for step in range(start, self.total_steps):
            yield self._step(step)

    def _step(self, step: int) -> StepDone:
        began = time.perf_counter()
        self.bundle.train()
        rows = self.order.micro_batches(step, self.backend.rank)
        batches = [self.feed.batches(chosen) for chosen in rows]
        student = self.stage.needs.student
        counts = [count(b[student], self.student.features, self.labels) for b in batches]
        total = counts[0] if len(counts) == 1 else torch.stack(counts).sum(0)
        total = self.backend.sum(total) if self.backend.world > 1 else total
        shares = Shares(counts, total, self.stage.training.normalize)
        tally = _Tally(torch.zeros((), device=total.device, dtype=torch.float64))
        self.optimization.set_rates(step)
        for micro, batch in enumerate(batches):
            reseed(self.seed, step, micro, self.backend.rank)
            with self.backend.accumulate(self.bundle, last=micro == len(batches) - 1):
                self._micro(step, micro, batch, shares, tally)
        figures = self._finish(step, tally)
        return StepDone(
            stage=self.stage.name,
            step=step + 1,
            epoch=self.order.epoch_of(step),
            loss=figures.loss,
            terms=figures.terms,
            weights=tally.weights,
            lr=self.optimization.rates,
            grad_norm=figures.norm,
            seconds=time.perf_counter() - began,
            rows=int(total[UNITS.index("rows")]),
            tokens=int(total[UNITS.index("tokens")]),
            micro_losses=figures.micro,
        )

    def _micro(self, step: int, micro: int, batch: Mapping[str, Any], shares: Shares, tally: _Tally) -> None:
        taught = {}
        for name, teacher in self.teachers.items():
            with frozen(teacher.module), self.backend.autocast(), self.guard(f"model `{name}`"):
                taught[name] = teacher(batch[name])
        with self.backend.autocast():
            with self.guard(f"model `{self.student.name}`"):
                learnt = self.student(batch[self.student.name])
            at = Step(student=learnt, teachers=taught, task=self.task, progress=step / self.total_steps)
            with self.guard("the objective"):
                terms = self.bundle.objective(at)
        assert terms, "an objective gives at least one term"
        parts = []
        total_here = torch.zeros((), device=tally.loss.device, dtype=torch.float64)
        for name, term in terms.items():
            part = shares.of(term.loss, micro)
            parts.append(part * term.weight)
            value = (term.loss.value if isinstance(term.loss, Mean) else term.loss).detach()
            total_here += value * term.weight
            tally.terms[name] = tally.terms.get(name, 0) + part.detach()
            tally.weights[name] = term.weight
        loss = torch.stack(parts).sum() if len({p.dtype for p in parts}) == 1 else sum(parts[1:], start=parts[0])
        self.backend.backward(loss)
        tally.loss += loss.detach()
        tally.micro.append(total_here)

    def _finish(self, step: int, tally: _Tally) -> _Figures:
        """Clip, check, and take the step."""
        limit = self.stage.training.max_grad_norm
        optimizer = self.optimization.optimizer
        scope = self.bundle.student if limit is not None and limit.scope == "student" else self.bundle
        norm = self.backend.clip(optimizer, scope.parameters(), None if limit is None else limit.value)
        figures = tally.read(norm)
        # A scaled gradient may overflow: then the scaler skips the step and halves its scale.
        finite = math.isfinite(figures.loss) and (math.isfinite(figures.norm) or self.backend.scales)
        if self.backend.agree(not finite):
            raise self._not_finite(step, figures)
        self.backend.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
        on_step = getattr(self.bundle.objective, "on_step", None)
        if on_step is not None:
            with self.guard("the objective"):
                on_step((step + 1) / self.total_steps)
        return figures

    def _not_finite(self, step: int, figures: _Figures) -> DiagnosticError:
        bad = [name for name, value in figures.terms.items() if not math.isfinite(value)]
        what = f"the term `{bad[0]}`" if bad else f"the gradient (its norm is {figures.norm})"
        others = tuple(f"`{name}` is not finite either" for name in bad[1:])
        fine = [name for name in figures.terms if name not in bad]
        note = (f"finite in this step: {', '.join(f'`{n}`' for n in fine)}",) if fine and bad else ()
        diagnostic = Diagnostic(
            "KD501",
            f"{what} is not finite in step {step + 1} of stage `{self.stage.name}`",
            self.place(bad[0] if bad else ""),
            notes=(*others, *note, "the weights are those before this step, and the last checkpoint is unharmed"),
            help="lower the learning rate or clip the gradient with `max_grad_norm`",
        )
        return DiagnosticError(diagnostic)
