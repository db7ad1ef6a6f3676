"""Predicts rows with one model: computed in blocks that depend on the rows alone, kept on disk, and written in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from kdspec.api.kinds.context import TaskContext, TrainedHead
from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature, Plan
from kdspec.api.working.batch import Batch
from kdspec.api.working.logits import Logits, as_tensor
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.step import Features
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.batch_invariance import separate
from kdspec.engine.forward.error_context import FEWER_ROWS, Asks, error_context
from kdspec.engine.forward.guarded_task import GuardedTask
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.trained_heads import refuse_untrained, with_downloads
from kdspec.engine.prediction.class_names import heads
from kdspec.engine.prediction.data_rows import DataRows
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.teacher_cache import fingerprint
from kdspec.engine.teacher_cache.answered.asked import asked
from kdspec.engine.teacher_cache.answered.piece_answers import ANSWERS, PieceAnswers
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.layout import Layout
from kdspec.engine.teacher_cache.samples import Samples
from kdspec.engine.teacher_cache.slots import Uncacheable
from kdspec.engine.teacher_cache.store import Store
from kdspec.engine.teacher_cache.survey import survey
from kdspec.planning.feature_reader import locate

_ROWS_AT_ONCE = 64
_INPUTS = Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False)


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model of a plan with its head for one task."""

    plan: Plan
    model: str
    task: str
    trained: Mapping[str, Path]
    """The folders of models that a run has trained, by name."""

    @property
    def at(self) -> tuple[str, ...]:
        """The place of the model in the spec."""
        return ("models", self.model, self.plan.spec.models[self.model].name)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predictions of a model for the rows of a file.

    `fill` computes what is not in `folder` yet, as a teacher cache does: in blocks of similar length that depend on the rows
    alone. So the numbers are those of a cached teacher with these training rows, bit for bit, and a stopped computation
    resumes. `lines` then writes the rows in their order.

    Raises:
        FindingError: on first use. KD312 or KD502 if the file does not fit the task, KD503 if the model cannot be loaded or has
            no trained head, KD508 if the disk cannot be written.
    """

    predictor: Predictor
    rows: Any
    """A `datasets.Dataset` with all columns of the file."""
    file: str
    """The name of the file in messages."""
    folder: Path
    """Where the outputs of the model are kept."""
    device: torch.device
    probabilities: bool = False
    """Whether probabilities are written in place of logits."""
    warn: Callable[[str], None]
    _problems: list[str] = field(default_factory=list, init=False)

    def fill(self) -> Iterator[tuple[int, int]]:
        """Compute the missing outputs; gives after each block how many rows are done, and their total."""
        cache = self._cache
        total = len(cache.samples.keys)
        for block in range(cache.samples.blocks):
            if not cache.fill([block]):
                raise self._not_kept()
            yield cache.samples.block(block).stop, total

    def lines(self) -> Iterator[str]:
        """A JSON object for each row of the file, in its order: its own columns, then the predictions."""
        with error_context(self._at_task, f"task `{self.predictor.task}`"):
            answers = self._answers.of(self._features(), probabilities=self.probabilities)
            without = dict.fromkeys(self._answers.written(probabilities=self.probabilities))
            kept = iter(self._data.kept)
            following = next(kept, None)
            for number, own in enumerate(self._data.own()):
                made: Mapping[str, Any] = without
                if number == following:
                    made, following = next(answers), next(kept, None)
                yield json.dumps({**own, **made}, ensure_ascii=False, allow_nan=False)

    def close(self) -> None:
        """Close the files in the folder."""
        if "_cache" in self.__dict__:
            self._cache.close()

    @property
    def _at_task(self) -> tuple[str, ...]:
        task = self.predictor.task
        return ("tasks", task, self.predictor.plan.spec.tasks[task].name)

    @cached_property
    def _plan(self) -> Plan:
        return with_downloads(self.predictor.plan)

    @cached_property
    def _models(self) -> Models:
        known = self.predictor
        return Models(self._plan, heads(self._plan, known.model, known.trained), dict(known.trained))

    @cached_property
    def _task_and_rows(self) -> tuple[GuardedTask, DataRows]:
        known, plan = self.predictor, self._plan
        component = plan.spec.tasks[known.task]
        without_labels = component.to_predict(DataRows.of(self.rows, self.file), ())
        if without_labels is None:
            message = f"predictions of the task `{component.name}` cannot be written: it gives no answer for a row"
            raise FindingError(Finding("KD502", message, ("tasks", known.task), key=True))
        data, labels = (
            DataRows.of(self.rows, self.file, set(without_labels.label_columns().values())),
            self._models.heads[known.task].labels,
        )
        predicted = component.to_predict(data, labels)
        assert predicted is not None, "made above"
        lent = TrainedHead(model=known.model, classes=len(labels), labels=labels)
        context = TaskContext(
            folder=plan.source.folder, seed=plan.spec.seed, heads=(lent,) if labels else (), reads_labels=False
        )
        with error_context(self._at_task, f"task `{known.task}`", Asks(f"the rows of `{self.file}`", FEWER_ROWS)):
            task = GuardedTask(plan.spec, known.task, predicted.build(context))
        if without := len(data) - len(data.kept):
            some = f"{without:,} of {len(data):,} rows of `{self.file}` have no text"
            first = next(number for number, row in enumerate([*data.kept, -1]) if number != row)
            self.warn(f"{some}, the first is row {first + 1}: their predictions are null")
        return task, data

    @property
    def _data(self) -> DataRows:
        return self._task_and_rows[1]

    @cached_property
    def _answers(self) -> RowAnswers:
        found = self._task_and_rows[0].answers("train")
        assert found is not None, "a task that can be made to predict writes its answers"
        if self.probabilities and not found.probable:
            message = f"the task `{self._at_task[-1]}` has no probabilities"
            raise FindingError(Finding("KD502", message, self._at_task, help="leave out `--probabilities`"))
        for name in found.written(probabilities=self.probabilities):
            if name in self._data.columns:
                message = f"`{self.file}` has a column `{name}` already, which the predictions have too"
                help_ = f"rename it, for example to `old_{name}`"
                raise FindingError(Finding("KD502", message, help=help_))
        return found

    @cached_property
    def _loader(self) -> Loader:
        model = self.predictor.model
        return Loader(self._task_and_rows[0], "train", {model: self._models.reader(model)}, device=self.device)

    @cached_property
    def _forward(self) -> ModelRunner:
        known, models = self.predictor, self._models
        names = sorted({*self._answers.reads, *self._answers.optional})
        refuse_untrained(models, known.model, known.task)
        models.prepared(known.model, self.device, trains=False, eager=False)
        features = locate(self._plan.spec, known.model, known.task, names)
        if missing := sorted(self._answers.reads - features.keys()):
            message = f"the adaptor of `{known.model}` has no `{missing[0]}`, which its predictions are made of"
            raise FindingError(Finding("KD303", message, ("models", known.model), key=True))
        module = models.view(known.model, known.task)
        if not separate(module):
            self.warn(f"`{known.model}` is of a family whose outputs for a row may depend on the rows beside it")
        return ModelRunner(
            ModelFindings(self._plan.spec, known.model, known.task), module, features,
            chooses=models.tokenizer_id(known.model) is not None,
        )  # fmt: skip

    @cached_property
    def _cache(self) -> TeacherCache:
        """The outputs by row; those that are in the folder already are not computed again."""
        forward, backend = self._forward, SingleProcess(self.device)
        masks = Masks(_INPUTS, forward.features.get("logits_mask"))
        codecs = CodecChoice()
        try:
            runner, answered, masks = asked(forward, self._loader, backend, masks)
            own = [name for name, each in runner.features.items() if any(path.root != "batch" for path in each.paths)]
            names = [ANSWERS] if isinstance(runner, PieceAnswers) else own
            slots = survey(runner, names, answered, masks, backend, codecs).slots
            samples = Samples(answered, runner.inputs, masks)
            layout = Layout(slots, samples.counts, codecs, len(samples.keys))
        except Uncacheable as error:
            message = f"the predictions of `{forward.name}` cannot be computed row by row: {error}"
            raise FindingError(Finding("KD502", message, self.predictor.at)) from error
        store = Store(self.folder / fingerprint.key(runner, slots, codecs, "fp32"), {"model": forward.name})
        return TeacherCache(
            runner, samples=samples, layout=layout, store=store, masks=masks,
            autocast=backend.autocast, device=self.device, warn=self._problems.append,
        )  # fmt: skip

    def _features(self) -> Iterator[tuple[Features, Batch]]:
        """The outputs of the model for all rows in order, on the CPU."""
        loader, cache = self._loader, self._cache
        for first in range(0, loader.rows, _ROWS_AT_ONCE):
            rows = range(first, min(first + _ROWS_AT_ONCE, loader.rows))
            batch = loader.batch(self.predictor.model, rows)
            with isolated_random(), frozen(self._forward.module):
                found = cache(batch.to(self.device), rows, batch)
            if found is None:
                raise self._not_kept()
            yield Features({name: tree_map(_here, value) for name, value in found.items()}), batch

    def _not_kept(self) -> FindingError:
        why = self._problems[-1] if self._problems else f"`{self.folder}` cannot be used"
        return FindingError(Finding("KD508", why, help="free some space, or write the predictions elsewhere"))


def _here(value: Any) -> Any:
    return as_tensor(value).cpu() if isinstance(value, Tensor | Logits) else value
