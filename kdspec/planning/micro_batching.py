"""The batching of a stage: as the spec sets it, or chosen for `batching: auto`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from kdspec.api.component import Strict
from kdspec.api.kinds.kinds import Task
from kdspec.api.kinds.losses import Scoped
from kdspec.api.plan.plan import Plan, TaskPlan
from kdspec.diagnostics.finding import Finding, Mark

SEPARATE = ("position", "row")
"""The scopes that do not depend on the split into micro-batches, since each row is computed alone."""

PolicyName = Literal["random", "sorted_micro_batches", "length_grouped"]


@dataclass(frozen=True, kw_only=True)
class BatchingPlan:
    """How batches are made, and why."""

    name: PolicyName
    why: str
    chosen: bool
    """Whether the spec leaves it to kdspec (`auto`)."""
    tokens: int | None = None
    """Maximum number of tokens of a micro-batch; None if it has a number of rows."""
    doubt: str = ""
    """Why splitting may change the gradient; empty if it does not."""

    @property
    def splits(self) -> bool:
        """Whether the rows of a step are split by length."""
        return self.tokens is not None or self.name == "sorted_micro_batches"

    def doubted(self, doubt: str) -> BatchingPlan:
        """The plan after a doubt found by running the models: `auto` becomes `random`, a written setting stays."""
        if not self.chosen:
            return replace(self, doubt=doubt)
        return replace(self, name="random", doubt=doubt, why=_random(doubt))


def batches(plan: Plan, part: TaskPlan) -> BatchingPlan:
    """How the batches of one task of a stage are made."""
    batching = part.training.batching
    doubt = next(_doubts(plan, part), "")
    tokens, by = batching.tokens, batching.by
    if by in ("length_grouped", "random"):
        return BatchingPlan(name=by, why="", chosen=False, tokens=tokens, doubt=doubt)
    if by == "sorted_micro_batches" or tokens is not None:
        return BatchingPlan(name="sorted_micro_batches", why="", chosen=False, tokens=tokens, doubt=doubt)
    if doubt:
        return BatchingPlan(name="random", why=_random(doubt), chosen=True, doubt=doubt)
    across = any(match.loss.scope == "step" for match in part.matches)
    what = "a sum over rows, or over a whole step" if across else "a sum over rows"
    why = f"every loss is {what}, so the gradient is that of random batches"
    return BatchingPlan(name="sorted_micro_batches", why=why, chosen=True)


def warnings(plan: Plan, part: TaskPlan) -> Iterator[Finding]:
    """A warning if the spec sets splitting by length and this may change the gradient."""
    found = batches(plan, part)
    if found.splits and found.doubt and not found.chosen:
        label = Mark(("stages", part.stage, "training", "batching"), "splits batches by length")
        message = f"splitting batches may change the gradient: {found.doubt}"
        help_ = "`batching: auto` splits batches only if the gradient stays the same"
        yield Finding("KD320", message, *label, help=help_, severity="warning")


def _random(doubt: str) -> str:
    return f"splitting by length may change the gradient: {doubt}"


def depends_on_padding(model: str, family: str | None) -> str:
    """The reason of a model whose rows are not computed alone."""
    return f"the outputs of `{model}` for a row may depend on its padding, as it is a `{family}`"


def _doubts(made: Plan, plan: TaskPlan) -> Iterator[str]:
    """Reasons why splitting may change the gradient."""
    if plan.training.normalize == "micro_batch":
        yield "`normalize: micro_batch` gives micro-batches, not rows, equal weights"
    spec, facts = made.spec, made.facts[plan.student]
    if facts.scope is not None and facts.scope not in SEPARATE:
        yield depends_on_padding(plan.student, facts.family)
    parts: list[Any] = [plan.distiller, spec.models[plan.student]]
    parts += [part for match in plan.matches for part in (match.loss, match.projection)]
    if plan.needs.hard_labels:
        parts.append(spec.tasks[plan.task])
    form = spec.models[plan.student].form(made.context(plan.student))
    for part in _scoped(parts):
        # The rows of a step do not depend on how it is split, but only losses of matches, and strategies with their own terms,
        # can get them: a model or a task gets those of a micro-batch.
        scope = part.hard_scope(form) if isinstance(part, Task) else part.scope
        written = isinstance(part, Task) and part.scope != scope  # a task whose hard loss compares the rows of a step
        whole = scope == "step" and (part.kind in ("feature_loss", "distiller") or written)
        if scope not in SEPARATE and not whole:
            yield f"the {part.words()} `{part.name}` may compute on several rows together"
    features = plan.features[plan.student]
    if "losses" in features:
        yield f"`{plan.student}` returns its own loss, which may be computed on several rows together"
    if plan.matches and "inputs_mask" not in features:
        yield f"matches average over padding too, since the adaptor of `{plan.student}` has no `inputs_mask`"


def _scoped(value: Any) -> Iterator[Scoped]:
    """The components in a value that compute on a batch, except those inside models and tasks."""
    if isinstance(value, Scoped):
        yield value
        if value.kind in ("model", "task"):
            return
    if isinstance(value, Strict):
        for name in type(value).model_fields:
            yield from _scoped(getattr(value, name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _scoped(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _scoped(item)
