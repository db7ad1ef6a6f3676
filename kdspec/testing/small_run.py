"""A small run for tests of what observes runs, such as trackers: to its end, stopped or failed; and its curves."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import LogitLoss
from kdspec.events import Evaluated, Event, StepDone, curves
from kdspec.testing.tiny_models import tiny

if TYPE_CHECKING:
    from kdspec.launch.errors import RunError
    from kdspec.launch.run import Run

SPEC = """\
kdspec: 1
name: {name}
tasks:
  words:
    sequence_classification:
      data: {{csv: {{train: rows.csv, validation: rows.csv}}}}
      text: text
      label: label
models:
  teacher: {{transformers: {{path: ./teacher}}}}
  student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}}}}}
stages:
  fit:
    distiller: {{supervised: {{model: teacher}}}}
    training: {{steps: 2, log_every: 1}}
  distil:
    distiller: {{general: {{teacher: teacher, student: student, soft_labels: {{loss: kl}}, hard_labels: {{weight: 0.5}}}}}}
    training: {{steps: 6, batch_size: 4, log_every: 1, evaluate: {{every_steps: 3}}, checkpoint: {{every_steps: 2}}}}
"""


class SmallRun:
    """A small run in a folder: `spec.yaml`, the rows `rows.csv`, and the model `teacher`, made at once.

    The stage `fit` trains the teacher for 2 steps. The stage `distil` trains the student for 6, with the terms `soft_labels`
    and `hard_labels`, an evaluation after each 3 and a checkpoint after each 2. The task is `words`, with the classes `a` and
    `b`. It runs on the CPU, through `kdspec.run`, so that installed packages are found as well as those that are passed.

    Args:
        folder: where its files are written.
        name: the name of the run, and of its folder.
    """

    def __init__(self, folder: str | Path, *, name: str = "small") -> None:
        self.folder, self.name = Path(folder), name
        self.folder.mkdir(parents=True, exist_ok=True)
        tiny(self.folder / "teacher", layers=2, labels=["a", "b"])
        (self.folder / "rows.csv").write_text("text,label\n" + "one,a\ntwo,b\n" * 6, encoding="utf-8")
        (self.folder / "spec.yaml").write_text(SPEC.format(name=name), encoding="utf-8")

    def run(self, output: str | Path, *plugins: Any, track: str | Sequence[str] = (), sets: Sequence[str] = ()) -> Run:
        """Run it to its end; a stopped one resumes.

        Args:
            output: the folder that contains the run folder.
            plugins: plugin modules, objects with hooks, component classes or files.
            track: as for `kdspec.run`.
            sets: arguments of `--set`.
        """
        from kdspec.launch.in_python import run

        return run(
            self.folder / "spec.yaml", output=output, plugins=plugins, track=track, set=sets, device="cpu", progress=False
        )  # fmt: skip

    def stopped(self, output: str | Path, *plugins: Any, track: str | Sequence[str] = ()) -> None:
        """Run it, and stop it after step 4 of `distil`, as Ctrl-C does. The arguments are those of `run`."""
        # A background job ignores the signal, which a run respects.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.run(output, *plugins, StopAfter(4), track=track)
        except KeyboardInterrupt:
            return
        finally:
            signal.signal(signal.SIGINT, before)
        raise AssertionError("the run has come to its end and was not stopped")

    def failed(self, output: str | Path, *plugins: Any, track: str | Sequence[str] = ()) -> RunError:
        """Run it with a loss that is infinite, and return the error, KD501. The arguments are those of `run`."""
        from kdspec.launch.errors import RunError

        infinite = "stages.distil.distiller.general.soft_labels.loss=infinite"
        try:
            self.run(output, *plugins, InfiniteLoss, track=track, sets=[infinite])
        except RunError as error:
            return error
        raise AssertionError("the run has come to its end and did not fail")


class StopAfter:
    """A plugin that sends the process a signal once a step is done, as Ctrl-C does.

    Args:
        step: the optimizer step of the stage, counted from 1.
        stage: the stage.
        number: the signal.
    """

    def __init__(self, step: int, stage: str = "distil", number: int = signal.SIGINT) -> None:
        self.step, self.stage, self.number = step, stage, number
        self.__name__ = "stop_after"

    @hookimpl
    def kdspec_observe(self, event: Event) -> None:
        """Send the signal after the step."""
        if isinstance(event, StepDone) and (event.stage, event.step) == (self.stage, self.step):
            os.kill(os.getpid(), self.number)


class InfiniteLoss(LogitLoss):
    """Infinite, so that a run with it fails at its first step."""

    name = "infinite"

    def build(self, context: BuildContext) -> Any:
        """The loss: the mean of the student's logits, times infinity."""
        del context

        def loss(student: Any, teacher: Any, *, temperature: Any) -> Any:
            del teacher, temperature
            return student.mean() * float("inf")

        return loss


def logged_curves(run: Run) -> dict[str, dict[int, float]]:
    """The curves in the log of a run, with which those of a tracker are compared.

    They are by `<stage>/<name>`, as `Tracker.log` gets them, such as `distil/loss`; each has its values by optimizer step.
    """
    found: dict[str, dict[int, float]] = {}
    for event in (record.event for record in run.events):
        if isinstance(event, StepDone | Evaluated):
            for name, value in curves(event).items():
                found.setdefault(f"{event.stage}/{name}", {})[event.step] = value
    return found
