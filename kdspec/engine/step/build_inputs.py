"""Builds the inputs of a stage: for each task its rows in their order, its models, and the caches of its teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from kdspec.api.plan.plan import TaskPlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.spec.task_sampling import Sampling
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.batches.build_sampler import arrange
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import DataOrder, fold
from kdspec.engine.batches.task_sampler import Draws, SingleTask, TaskMixture
from kdspec.engine.forward.shape_check import look, settle
from kdspec.engine.processes.backend import Backend
from kdspec.engine.step.build_models import StageModels
from kdspec.engine.step.task_inputs import TaskInputs
from kdspec.engine.teacher_cache.open_cache import CacheOpener
from kdspec.events import CacheState, Note
from kdspec.planning.micro_batching import batches
from kdspec.registry.registry import Registry


class StageInputs:
    """Builds the inputs of the tasks of one stage, each as if it were the only task.

    `begun` is the number of processes that started the stage: the rows of a step stay the same if another number resumes it.

    Raises:
        FindingError: KD502 if a task has no rows, KD513 if the rows of a step cannot be shared among the processes, and
            the errors of `settle`.
    """

    def __init__(self, stage_models: StageModels, registry: Registry, backend: Backend, begun: int) -> None:
        self.stage_models, self.backend, self.stage, self.begun = stage_models, backend, stage_models.stage, begun
        self.by_task: dict[str, TaskInputs] = {}
        self.matches: tuple[PlannedMatch, ...] = ()
        self.notes: list[Note] = []
        """Notes to log before the first step."""
        orders = {}
        for part in self.stage.tasks.values():
            loader = self.loader(part, "train", *part.models, unlabelled=part.needs.unlabelled)
            if not loader.rows:
                label = Mark(("tasks", part.task), "no rows to train on", key=True)
                raise FindingError(Finding("KD502", f"task `{part.task}` has no rows in `train`", *label))
            runners = stage_models.runners(part)
            features = look(runners, loader)
            other_tokens = {name for name in part.teachers if loader.other_tokens(part.student, name) is not None}
            self.matches += settle(stage_models.spec, registry, part, features, other_tokens)
            task_inputs = TaskInputs(
                student=runners[part.student],
                teachers={name: runners[name] for name in part.teachers},
                loader=loader,
            )
            training = self.stage.training.model_copy(update={"accumulate": self._accumulate()})
            arrangement = arrange(
                batches(stage_models.plan, part), loader, training, task_inputs.student.module, features[part.student],
                teachers=[teacher.module for teacher in task_inputs.teachers.values()], stage=self._title(part),
                seed=self._seed(part), world=backend.world, ranks=1 if self.stage.several else backend.world,
            )  # fmt: skip
            self.notes += arrangement.notes
            self.by_task[part.task] = task_inputs
            orders[part.task] = arrangement.order
        self.draws = self._draws(orders)

    def loader(self, part: TaskPlan, split: str, *models: str, unlabelled: bool = False) -> Loader:
        """The loader of a task's rows for some models."""
        task = self.stage_models.tasks[part.task]
        readers = self.stage_models.models.readers(models, part.teachers, task)
        return Loader(
            task, split, readers,
            unlabelled=unlabelled, seed=self._seed(part), taught=bool(part.teachers), device=self.backend.device,
        )  # fmt: skip

    def with_caches(
        self, steps: int, *, prepares: bool, reduces: bool, warn: Callable[[str], None]
    ) -> tuple[dict[str, TaskInputs], list[CacheState]]:
        """The tasks with the caches of their teachers, and the decision for each teacher.

        Args:
            steps: optimizer steps of the stage.
            prepares: whether the strategy makes its own batches or changes modules.
            reduces: whether it reads teachers only by matches.
            warn: called with problems of a cache that do not stop the run.
        """
        by_task, states = dict[str, TaskInputs](), list[CacheState]()
        for part in self.stage.tasks.values():
            task_inputs = self.by_task[part.task]
            opening = CacheOpener(
                self.stage_models.plan, part, task_inputs.loader, self.backend, epochs=self.draws.passes(part.task, steps),
                prepares=prepares, reduces=reduces, changing=self.stage.needs.changing, warn=warn,
            )  # fmt: skip
            found = opening.open(task_inputs.teachers)
            by_task[part.task] = replace(task_inputs, caches=found.caches)
            states += found.states
        return by_task, states

    def _accumulate(self) -> int:
        """The micro-batches per process and step; with several tasks 1, because the mixture accumulates and shares them."""
        if self.stage.several:
            return 1
        here = self.stage.training.accumulate
        # A step keeps its rows: the micro-batches of the former processes are divided among the present ones.
        each, rest = divmod(here * self.begun, self.backend.world)
        if rest:
            label = Mark(("stages", self.stage.name), "cannot resume", key=True)
            message = (
                f"stage `{self.stage.name}` was started with {self.begun}, and cannot resume with {self.backend.world}"
            )
            note = f"a step has {here * self.begun} micro-batches, which must be divided equally among the processes"
            help_ = "start as many processes as before, or one"
            raise FindingError(Finding("KD513", f"{message} processes", *label, notes=(note,), help=help_))
        return each

    def _draws(self, orders: Mapping[str, DataOrder]) -> Draws:
        if not self.stage.several:
            ((task, order),) = orders.items()
            return SingleTask(task, order)
        training, sampling = self.stage.training, self.stage.needs.sampling or Sampling()
        rows = {task: order.rows for task, order in orders.items()}
        shares = sampling.probabilities(rows, training.batch_size)
        # A step keeps its micro-batches if another number of processes resumes.
        mixture = TaskMixture(
            orders, shares, training.accumulate * self.begun, self.stage_models.seed, world=self.backend.world
        )
        probabilities = ", ".join(f"`{task}` {share:.1%}" for task, share in shares.items())
        text = f"stage `{self.stage.name}` samples its micro-batches from {probabilities}; an epoch is {mixture.batches} of them"
        self.notes.insert(0, Note("info", f"{text}, as many as all tasks have together"))
        return mixture

    def _seed(self, part: TaskPlan) -> int:
        return fold(self.stage_models.seed, "task", part.task) if self.stage.several else self.stage_models.seed

    def _title(self, part: TaskPlan) -> str:
        return f"{part.stage}, {part.task}" if self.stage.several else part.stage
