"""The test suite for strategies: a run of one stops, resumes and cuts its batches without another result."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdspec.api.hooks import hookimpl
from kdspec.testing.component_suite import check_class
from kdspec.testing.specs import plan, registry

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.engine.run.session import Session

_STEPS = 4


def check_strategy(text: str, *plugins: Any, stage: str, folder: str | Path = ".") -> None:
    """Check that the strategy of a stage has the properties that the engine promises its users.

    - The class and its parameters are documented, and its module does not import torch.
    - A run of four steps gives the same weights each time, bit for bit.
    - A run that is stopped after two steps and started again ends in the same weights, too.
    - The terms that it computes are those that the plan shows.

    Args:
        text: a spec with small models in which the stage is the last one; its length is replaced by four steps.
        plugins: plugin modules, component classes or files.
        stage: the stage.
        folder: where relative paths in the spec start.

    Raises:
        AssertionError: a check fails; the message names it.
        DiagnosticError: the spec has errors.
    """
    from kdspec.engine.run.stage_run import Interrupted

    known = registry(*plugins)
    spec = plan(text, known, folder=folder).spec
    assert list(spec.stages)[-1] == stage, f"stage `{stage}` is not the last one"
    strategy = spec.stages[stage].distiller
    check_class(strategy)
    who = f"{strategy.words()} `{strategy.name}`"
    sets = [
        f"stages.{stage}.training.{key}"
        for key in ("epochs=null", f"steps={_STEPS}", "log_every=1", "evaluate=null", "early_stopping=null")
    ]
    with tempfile.TemporaryDirectory() as place:

        def session(name: str, *observers: Any) -> Session:
            from kdspec.engine.run.session import Session

            both = registry(*plugins, *observers)
            made = plan(text, both, folder=folder, sets=sets)
            return Session(made, both, output=Path(place, name), device="cpu")

        whole, again, stopped = (_Terms(stage) for _ in range(3))
        first = session("first", whole).run()
        second = session("second", again).run()
        differing = _differing(first.student, second.student)
        assert differing is None, f"{who}: `{differing}` differs between two runs; random numbers must come from torch"
        try:
            session("stopped", _StopAfter(stage, 2)).run()
        except Interrupted:
            pass
        else:
            raise AssertionError(f"{who}: the run was not stopped")
        resumed = session("stopped", stopped).run()
        differing = _differing(first.student, resumed.student)
        assert differing is None, (
            f"{who}: `{differing}` is another one after a stop; state that changes belongs in buffers of the objective, "
            "and teachers that change in `Needs(changing=...)`"
        )
    shown = _planned(plan(text, known, folder=folder, sets=sets), stage)
    unknown = next(iter(sorted(whole.names - shown)), None)
    assert unknown is None, f"{who}: the plan does not show the term `{unknown}`; declare `TaskNeeds.terms`"


def _planned(made: Any, stage: str) -> set[str]:
    from kdspec.planning.outline import outline

    terms = next(each for each in outline(made)["stages"] if each["name"] == stage)["terms"]
    return {term["name"] for term in terms}


class _Terms:
    """An observer that keeps the names of the terms of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage, self.names = stage, set[str]()
        self.__name__ = "terms"

    @hookimpl
    def kdspec_observe(self, event: Any, session: Any) -> None:
        del session
        if type(event).__name__ == "StepDone" and event.stage == self.stage:
            # Several heads or losses of one term have a suffix.
            self.names |= {name if name.count(".") > 1 else name.partition(".")[0] for name in event.terms}


class _StopAfter:
    """An observer that asks the run to stop, as Ctrl-C does, once a step is done."""

    def __init__(self, stage: str, step: int) -> None:
        self.stage, self.step = stage, step
        self.__name__ = "stop_after"

    @hookimpl
    def kdspec_observe(self, event: Any, session: Any) -> None:
        del session
        if type(event).__name__ == "StepDone" and (event.stage, event.step) == (self.stage, self.step):
            os.kill(os.getpid(), signal.SIGINT)


def _differing(one: Path, other: Path) -> str | None:
    """The first tensor of two model folders that is not the same."""
    import torch

    mine, theirs = _weights(one), _weights(other)
    return next((name for name in mine if name not in theirs or not torch.equal(mine[name], theirs[name])), None)


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for file in sorted(folder.rglob("*.safetensors")):
        found |= {f"{file.relative_to(folder)}:{name}": tensor for name, tensor in load_file(file).items()}
    return found
