"""The lessons of a stage: for each task its rows in their order, its models, and what of the teachers is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from kdspec.api.match import PlannedMatch
from kdspec.api.task_sampling import Sampling
from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.engine.batches.build_sampler import arrange
from kdspec.engine.batches.loader import Feed
from kdspec.engine.batches.sampler import DataOrder, fold
from kdspec.engine.batches.task_sampler import Draws, Mixture, OneTask
from kdspec.engine.forward.shape_check import look, settle
from kdspec.engine.processes.backend import Backend
from kdspec.engine.step.build_models import Assembly
from kdspec.engine.step.task_inputs import Lesson
from kdspec.engine.teacher_cache.open_cache import Opening
from kdspec.events import CacheState, Note
from kdspec.plan.micro_batching import batches
from kdspec.plan.plan import PlannedStage
from kdspec.registry.registry import Registry


class Lessons:
    """Prepares the tasks of one stage, each as if it were alone.

    `begun` is how many processes began the stage: a step keeps its rows where another number goes on.

    Raises:
        DiagnosticError: KD502 where a task has no rows, KD513 where the rows of a step cannot be shared among the
            processes, and what `settle` raises.
    """

    def __init__(self, assembly: Assembly, registry: Registry, backend: Backend, begun: int) -> None:
        self.assembly, self.backend, self.stage, self.begun = assembly, backend, assembly.stage, begun
        self.by_task: dict[str, Lesson] = {}
        self.matches: tuple[PlannedMatch, ...] = ()
        self.notes: list[Note] = []
        """What to tell before the first step."""
        self.caches: list[CacheState] = []
        """What was decided for each teacher."""
        orders = {}
        for part in self.stage.each:
            feed = self.feed(part, "train", *part.models, unlabelled=part.needs.unlabelled)
            if not feed.rows:
                label = assembly.spec.label(("tasks", part.task), "no rows to learn from", key=True)
                raise DiagnosticError(Diagnostic("KD502", f"task `{part.task}` has no rows in `train`", label))
            forwards = assembly.forwards(part)
            features = look(forwards, feed)
            self.matches += settle(assembly.spec, registry, part, features)
            lesson = Lesson(
                student=forwards[part.needs.student],
                teachers={name: forwards[name] for name in part.needs.teachers},
                feed=feed,
                labels=assembly.tasks[part.task].label_keys,
            )
            training = self.stage.training.model_copy(update={"accumulate": self._accumulate()})
            arrangement = arrange(
                batches(assembly.spec, part), feed, training, lesson.student.module, features[part.needs.student],
                teachers=[teacher.module for teacher in lesson.teachers.values()], stage=self._told(part),
                seed=self._seed(part), world=backend.world,
            )  # fmt: skip
            self.notes += arrangement.notes
            self.by_task[part.task] = lesson
            orders[part.task] = arrangement.order
        self.draws = self._draws(orders)

    def feed(self, part: PlannedStage, split: str, *models: str, unlabelled: bool = False) -> Feed:
        """Rows of a task for some models."""
        tokenizers = {name: self.assembly.models.tokenizer(name) for name in models}
        return Feed(
            self.assembly.tasks[part.task], split, tokenizers,
            unlabelled=unlabelled, seed=self._seed(part), taught=bool(part.needs.teachers), device=self.backend.device,
        )  # fmt: skip

    def keep(self, steps: int, *, prepares: bool, reduces: bool, warn: Callable[[str], None]) -> None:
        """Open the caches of the teachers, for a stage of so many steps.

        Args:
            steps: optimizer steps of the stage.
            prepares: whether the strategy makes batches of its own.
            reduces: whether it reads teachers by matches alone.
            warn: told of what goes wrong without stopping anything.
        """
        for part in self.stage.each:
            lesson = self.by_task[part.task]
            opening = Opening(
                self.assembly.plan, part, lesson.feed, self.backend, epochs=self.draws.passes(part.task, steps),
                prepares=prepares, reduces=reduces, warn=warn,
            )  # fmt: skip
            self.by_task[part.task] = replace(lesson, caches=opening.caches(lesson.teachers))
            self.caches += opening.found

    def _accumulate(self) -> int:
        """The micro-batches of a process and step, or of a draw where the mixture puts those of several tasks together."""
        here = 1 if self.stage.parts else self.stage.training.accumulate
        each, rest = divmod(here * self.begun, self.backend.world)
        if rest:
            label = self.assembly.spec.label(("stages", self.stage.name), "cannot go on", key=True)
            message = f"stage `{self.stage.name}` was begun by {self.begun}, and cannot go on with {self.backend.world}"
            note = f"a step has {here * self.begun} micro-batches, and each process does as many of them"
            help_ = "start as many processes as before, or one"
            raise DiagnosticError(Diagnostic("KD513", f"{message} processes", label, notes=(note,), help=help_))
        return each

    def _draws(self, orders: Mapping[str, DataOrder]) -> Draws:
        if not self.stage.parts:
            ((task, order),) = orders.items()
            return OneTask(task, order)
        training, sampling = self.stage.training, self.stage.needs.sampling or Sampling()
        rows = {task: order.rows for task, order in orders.items()}
        shares = sampling.probabilities(rows, training.batch_size * self.begun)
        mixture = Mixture(orders, shares, training.accumulate, self.assembly.seed)
        told = ", ".join(f"`{task}` {share:.1%}" for task, share in shares.items())
        text = f"stage `{self.stage.name}` draws its micro-batches from {told}; an epoch is {mixture.batches} of them"
        self.notes.insert(0, Note("info", f"{text}, as many as all tasks have together"))
        return mixture

    def _seed(self, part: PlannedStage) -> int:
        return fold(self.assembly.seed, "task", part.task) if self.stage.parts else self.assembly.seed

    def _told(self, part: PlannedStage) -> str:
        return f"{part.name}, {part.task}" if self.stage.parts else part.name
