"""Checks all rows that a run will read, before its first step: each has tokens, and no more than each model takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdspec.api.kinds.model import InputLimits
from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.diagnostics.finding import Finding, FindingError, Mark, SpecPath
from kdspec.engine.batches.columnar import first_difference
from kdspec.engine.evaluation.results import in_order
from kdspec.engine.forward.error_context import error_context
from kdspec.engine.forward.guarded_task import GuardedTask
from kdspec.engine.forward.models import Models
from kdspec.engine.preflight.token_values import token_values
from kdspec.hf.configuration import more_tokens

_MOST = 2_000
"""Rows that are read one by one, where a task does not return plain lists."""


@dataclass(frozen=True)
class _Reading:
    """A split that some models read together."""

    task: str
    split: str
    models: tuple[str, ...]
    teachers: tuple[str, ...] = ()
    """Those of the models that teach."""


def check_rows(plan: Plan, models: Models, tasks: Mapping[str, GuardedTask], stages: Collection[str]) -> None:
    """Encode the rows of the stages that are left and of the comparison at the end, and check them for each model.

    The encoded rows are kept until they are read first, so that this takes no time that a run would not take later.

    Raises:
        FindingError: KD502 for a row without tokens, KD405 for one with more tokens than a model has positions, KD503 for
            one with a token that a model does not know; all of them at once. And the errors of the tasks.
    """
    found = dict[tuple[str, str], Finding]()
    check = _Check(plan, models)
    for reading in dict.fromkeys(_readings(plan, tasks, stages)):
        task = tasks[reading.task]
        readers = models.readers(reading.models, reading.teachers, task)
        different = list(dict.fromkeys(readers.values()))
        if all(reader.tokenizer is None for reader in different):
            continue
        encoded = task.encode_ahead(reading.split, different)
        for reader, rows in zip(different, encoded, strict=True):
            names = [name for name in reading.models if readers[name] == reader]
            for finding in check.mistakes(reading, reader, rows, task, names):
                found.setdefault((finding.code, finding.label), finding)
    for stage in plan.stages:
        for part in stage.tasks.values() if stage.name in stages else ():
            for finding in _other_tokens(plan, models, tasks[part.task], part):
                found.setdefault((finding.code, str(finding.at)), finding)
    if found:
        raise FindingError(*found.values())


def _other_tokens(plan: Plan, models: Models, task: GuardedTask, part: TaskPlan) -> Iterator[Finding]:
    """Matches that compare token by token, and rows of which the models have other tokens."""
    readers = models.readers(part.models, part.teachers, task)
    different = list(dict.fromkeys(readers.values()))
    for match in part.matches:
        mine, theirs = readers[match.student], readers[match.teacher]
        known = plan.same_tokens(match.student, match.teacher)
        if mine == theirs or known or not part.compares_positions(match) or not task.rows("train"):
            continue
        rows = dict(zip(different, task.encode_ahead("train", different), strict=True))
        row = first_difference(rows[mine], rows[theirs], task.length_key, _MOST)
        if row is not None:
            yield match.other_tokens(f"they read row {row + 1} of `train` as other tokens")


def _readings(plan: Plan, tasks: Mapping[str, GuardedTask], stages: Collection[str]) -> Iterator[_Reading]:
    """In the order in which a run reads them."""
    for stage in plan.stages:
        if stage.name in stages:
            yield from _of_stage(stage, tasks)
    for name, task in in_order(plan):
        split = next((split for split in ("test", "validation") if tasks[task].rows(split)), None)
        if split is not None:
            yield _Reading(task, split, (name,))


def _of_stage(stage: StagePlan, tasks: Mapping[str, GuardedTask]) -> Iterator[_Reading]:
    for part in stage.tasks.values():
        task = tasks[part.task]
        splits = ["train", *(["unlabelled"] if part.needs.unlabelled else [])]
        for split in splits:
            if task.rows(split):
                yield _Reading(part.task, split, part.models, part.teachers)
        if stage.training.evaluate is not None and task.rows("validation"):
            yield _Reading(part.task, "validation", (stage.student,))


class _Check:
    """Finds the first wrong row for each model."""

    def __init__(self, plan: Plan, models: Models) -> None:
        self.plan, self.models = plan, models
        self._limits: dict[str, InputLimits] = {}

    def mistakes(
        self, reading: _Reading, reader: Reader, rows: Sequence[Row], task: BuiltTask, names: Sequence[str]
    ) -> Iterator[Finding]:
        """The findings for the rows of a split as one reader makes them, for the models that read so."""
        values = token_values(task, rows, reader)
        if values is None:
            return
        ids, lengths = values.flat
        at = ("tasks", reading.task, self.plan.spec.tasks[reading.task].name)
        if not lengths.all():
            row = int(values.numbers[np.flatnonzero(lengths == 0)[0]])
            tokenizer = " and ".join(f"`{name}`" for name in names)
            message = f"{_row(rows, row, reading.split)} has no tokens for the tokenizer of {tokenizer}"
            help_ = "leave the row out, or write a text into it"
            yield Finding("KD502", message, at, label=f"`{reading.split}` for {tokenizer}", help=help_)
        for name in names:
            limits = self.limits(name)
            longest = values.longest
            if limits.positions is not None and longest > limits.positions:
                yield self._too_long(reading, name, _row(rows, values.longest_row, reading.split), longest, at)
            unknown = np.flatnonzero(ids >= limits.vocabulary) if limits.vocabulary is not None else ids[:0]
            if len(unknown):
                row = int(values.numbers[np.searchsorted(np.cumsum(lengths), unknown[0], side="right")])
                of = _row(rows, row, reading.split)
                yield self._unknown(name, of, int(ids[unknown[0]]), int(ids.max()), reader.tokenizer)

    def limits(self, name: str) -> InputLimits:
        """The limits of a model's rows."""
        if name not in self._limits:
            with error_context(self.models.path(name), f"model `{name}`"):
                self._limits[name] = self.plan.spec.models[name].input_limits(self.models.context(name))
        return self._limits[name]

    def _too_long(self, reading: _Reading, name: str, row: str, length: int, at: SpecPath) -> Finding:
        positions = self.limits(name).positions
        message = f"{row} has {length} tokens, and model `{name}` has {positions} positions"
        limit = self.plan.spec.tasks[reading.task].length_limit
        also = (Mark(("models", name), f"{positions} positions", key=True),)
        if limit is None:
            return Finding("KD405", message, at, label=f"too long for `{name}`", also=also)
        users = (model for model, tasks in self.plan.tasks_of.items() if reading.task in tasks)
        known = [most for most in map(self._positions, users) if most is not None]
        help_ = f"set `{limit}: {min([*known, positions or length])}`; longer rows are truncated"
        return Finding("KD405", message, (*at, limit), label=f"too long for `{name}`", also=also, help=help_)

    def _positions(self, name: str) -> int | None:
        return self.limits(name).positions

    def _unknown(self, name: str, row: str, number: int, largest: int, tokenizer: Any) -> Finding:
        token = tokenizer.convert_ids_to_tokens(number)
        message = f"{row} has the token `{token}` with the id {number}, and model `{name}` knows ids below "
        message += str(self.limits(name).vocabulary)
        trained = self.plan.facts[name].architecture != ""
        return Finding(
            "KD503",
            message,
            self.models.path(name),
            label=f"of `{name}`",
            help=more_tokens(largest + 1, trained=trained),
        )


def _row(rows: Sequence[Row], number: int, split: str) -> str:
    """The row in words. Long texts may be several rows, which then know their own."""
    return f"row {rows[number].get('sentence', number) + 1} of `{split}`"
