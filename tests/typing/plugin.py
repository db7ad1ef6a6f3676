"""The plugin API as a typed package would use it; `mypy --strict` reads this file, and nothing runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, assert_type

from pydantic import Field

from kdspec import (
    API_VERSION,
    Adaptor,
    BuildContext,
    Component,
    Dataset,
    Diagnostic,
    Distiller,
    FeatureLoss,
    FinalResults,
    Finding,
    LayerMap,
    LogitLoss,
    LrSchedule,
    LrScheduleContext,
    Match,
    MatchPreset,
    Model,
    ModelContext,
    ModelFacts,
    Needs,
    Objective,
    ObjectiveContext,
    Optimizer,
    OptimizerContext,
    Plan,
    Projection,
    ProjectionContext,
    RunOutcome,
    Schedule,
    Step,
    Strict,
    TaskNeeds,
    Temperature,
    Term,
    Tracker,
    by_name,
    hookimpl,
    load_registry,
)
from kdspec.events import Event, RunStarted, StepDone
from kdspec.testing import SmallRun, check, check_loss, logged_curves, registry, run, tiny

if TYPE_CHECKING:
    import torch
    import typer
    from torch import Tensor, nn

    from kdspec import Mean
    from kdspec.api.report import Report, Section

KDSPEC_API = API_VERSION


class Loss(LogitLoss):
    """A loss with labels."""

    name = "loss"
    needs_labels = True

    scale: float = Field(default=1.0, gt=0)
    """A factor."""

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec import Mean

        def loss(student: Tensor, teacher: Tensor, *, temperature: float | Tensor, labels: Tensor) -> Mean:
            del temperature, labels
            each = self.scale * (student - teacher.detach()).square().mean(-1)
            return Mean(each.sum(), float(len(each)), "rows")

        return loss


class Pairs(FeatureLoss):
    """A loss of two layers."""

    name = "pairs"
    arity = 2
    same_width = False

    def build(self, context: BuildContext) -> Callable[..., Tensor]:
        def loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], *, mask: Tensor | None) -> Tensor:
            del mask
            return (student[0].mean() - teacher[0].detach().mean()).square()

        return loss


class Wide(Projection):
    """A projection."""

    name = "wide"

    def build(self, context: ProjectionContext) -> nn.Module:
        from torch import nn

        assert_type(context.student_width, int)
        return nn.Linear(context.student_width, context.teacher_width)

    def optimizer_options(self) -> Mapping[str, Any]:
        return {"lr": 1e-3}


class Warm(Temperature):
    """A temperature."""

    name = "warm"

    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], float | Tensor]:
        return lambda _student, teacher, progress: teacher.std() + progress


class Half(Schedule):
    """A weight."""

    name = "half"

    def build(self, context: BuildContext) -> Callable[[float], float]:
        return lambda progress: progress / 2


class Top(LayerMap):
    """A layer map."""

    name = "top"

    def build(self, context: BuildContext) -> Callable[[int, int], list[tuple[int, int]]]:
        return lambda teacher, student: [(teacher, student)]


class TopHidden(MatchPreset):
    """A preset."""

    name = "top_hidden"

    def build(self, context: BuildContext) -> list[dict[str, Any]]:
        return [{"feature": "hidden", "loss": "hidden_mse", "layers": "top"}]


class Places(Adaptor):
    """An adaptor."""

    name = "places"

    def build(self, context: BuildContext) -> Mapping[str, str | list[str]]:
        return {"logits": ["output.start_logits", "output.end_logits"], "labels": "batch.labels"}


class Linear(Model):
    """A model."""

    name = "linear_model"

    inputs: int = Field(gt=0)
    """Width of the input."""

    def facts(self, context: ModelContext) -> ModelFacts:
        return ModelFacts(layers=1, width=self.inputs)

    def build(self, context: ModelContext) -> nn.Module:
        from torch import nn

        return nn.Linear(self.inputs, 2)


class Nothing(Dataset):
    """A data set."""

    name = "nothing"

    def build(self, context: BuildContext) -> Any:
        return {}


class Sgd(Optimizer):
    """An optimizer."""

    name = "plain_sgd"

    def build(self, context: OptimizerContext) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
        import torch

        return lambda groups: torch.optim.SGD(groups, lr=0.1)


class Down(LrSchedule):
    """A learning-rate schedule."""

    name = "down"

    def build(self, context: LrScheduleContext) -> Callable[[int], float]:
        total = context.total_steps
        return lambda step: 1 - step / total


class Part(Strict):
    """A group of parameters."""

    loss: LogitLoss = by_name("kl")
    """A component in it."""
    weight: Schedule = by_name(1.0)
    """Its weight."""


class Strategy(Distiller):
    """A strategy."""

    name = "strategy"

    teacher: str
    """The model that teaches."""
    student: str
    """The model that is trained."""
    soft: Part = by_name({})
    """Soft labels."""
    matches: list[Match] = []
    """Matches."""

    def needs(self) -> Needs:
        task = TaskNeeds(
            teachers=(self.teacher,),
            reads={name: frozenset({"logits"}) for name in (self.student, self.teacher)},
            matches=tuple(self.matches),
        )
        return Needs(student=self.student, tasks=(task,))

    def build(self, context: ObjectiveContext) -> Objective:
        loss, weight, name = self.soft.loss.build(context), self.soft.weight.build(context), self.teacher

        from kdspec import Objective

        class Soft(Objective):
            keeps_nothing = True

            def forward(self, step: Step) -> dict[str, Term]:
                (student,), (teacher,) = step.student.logits, step.teachers[name].logits
                assert_type(student.dense(), "Tensor")
                return {"soft": Term(loss(student.dense(), teacher.dense(), temperature=1.0), weight(step.progress))}

        return Soft()


@hookimpl
def kdspec_components() -> Iterable[type[Component]]:
    return [Loss, Pairs, Wide, Warm, Half, Top, TopHidden, Places, Linear, Nothing, Sgd, Down, Strategy]


@hookimpl
def kdspec_check(plan: Plan) -> Iterable[Finding]:
    assert_type(plan.stages[0].tasks["reviews"].teachers, tuple[str, ...])
    yield Finding("plugin/name", f"`{plan.spec.name}` is no name", ("name",), severity="warning")


class Lines(Tracker):
    """A tracker."""

    name = "plugin"

    def begin(self, started: RunStarted, known: str | None) -> str:
        return known or started.name

    def log(self, values: Mapping[str, float], *, stage: str, step: int) -> None:
        assert_type(self.spec, dict[str, Any])

    def log_failure(self, failure: str) -> None:
        pass

    def log_results(self, results: FinalResults) -> None:
        assert_type(results.columns, tuple[str, ...])
        assert_type(results.metrics, dict[str, float])

    def end(self, outcome: RunOutcome) -> None:
        if outcome == "finished":
            pass


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    Lines.observe(event, session)
    match event:
        case StepDone(step=step, terms=terms):
            assert_type(step, int)
            assert_type(terms, dict[str, float])
        case _:
            pass


@hookimpl
def kdspec_report(report: Report) -> Iterable[Section]:
    from kdspec.api.report import Section

    return [Section("Steps", f"<p>{sum(1 for _ in report.of(StepDone))}</p>")]


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    import typer

    @commands.command("hello")
    def hello(name: str = "you") -> None:
        typer.echo(f"hello {name}")


def tests() -> None:
    check_loss(Loss(scale=2.0), non_negative=True)
    found = registry(Loss).find("logit_loss", "loss")
    assert_type(found[0].component, type[Component])
    assert_type(load_registry(Loss).names("model"), list[str])
    errors = check("kdspec: 1", Loss).errors
    assert_type(errors, tuple[Diagnostic, ...])
    result = run("kdspec: 1", "runs", Loss, folder=tiny("model"))
    assert result.student.is_dir()
    assert_type(logged_curves(SmallRun("small").run("runs", track="plugin")), dict[str, dict[int, float]])
