"""A match: a loss between one feature of a teacher layer and the same feature of a student layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict, by_name
from kdspec.api.kinds.context import BuildContext, ProjectionContext
from kdspec.api.kinds.kinds import LayerMap, MatchPreset, Schedule
from kdspec.api.kinds.losses import FeatureLoss, Projection
from kdspec.api.kinds.parts import fields
from kdspec.api.spec.bounds import LayerIndex
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from torch import nn

Indices = Annotated[
    list[LayerIndex],
    BeforeValidator(lambda value: [value] if type(value) is int else value, json_schema_input_type=int | list[int]),
]
"""One layer index or a list of them; negative ones count from the end."""


DERIVED_PROJECTION = "linear"
"""The default projection of a match if widths differ."""


class Pair(Strict):
    """Matched layers of both models; lists of two for a two-layer loss."""

    teacher: Indices
    """Teacher layer, or two of them for a two-layer loss."""
    student: Indices
    """Student layer, or two of them for a two-layer loss."""


class Match(Strict):
    """A loss between a feature of the teacher and the same feature of the student."""

    feature: str | None = None
    """The feature, by the name that the adaptors give it: `hidden`, `attention`, ..."""
    loss: FeatureLoss | None = None
    """How the two sides are compared."""
    layers: LayerMap | None = None
    """Which layers: `{teacher: student, ...}` or a layer map such as `uniform`. Default: the feature as a whole."""
    pairs: list[Pair] | None = Field(default=None, min_length=1)
    """The long form of `layers`, for losses that take two layers of each model."""
    weight: Schedule = by_name(1.0)
    """Factor in the total: a number or a schedule."""
    projection: Projection | None = None
    """From the student's width to the teacher's. Default where widths differ: `keep` for `embedding`, else `linear`.
    `none`: never."""
    teacher: str | None = None
    """Which teacher, where there are several."""
    preset: MatchPreset | None = None
    """A named list of matches in place of `feature`, `loss` and `layers`; `weight` scales all of them."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [key for key in ("feature", "loss", "layers", "pairs", "projection") if getattr(self, key) is not None]
        if self.preset is not None and given:
            raise PydanticCustomError(
                "exclusive_keys",
                "`preset` excludes `{other}`",
                {"keys": ["preset", *given], "other": given[0]},
            )
        if self.preset is None:
            for key in ("feature", "loss"):
                if key not in given:
                    raise PydanticCustomError("missing_key", "missing key `{key}`", {"key": key})
        if self.layers is not None and self.pairs is not None:
            raise PydanticCustomError(
                "exclusive_keys", "`layers` and `pairs` exclude each other", {"keys": ["layers", "pairs"]}
            )
        return self


def match_keys(group: Any) -> frozenset[str]:
    """The parameters of a strategy, or of a part of it, that have matches by their type."""
    if not isinstance(group, Strict):
        return frozenset()
    declared = {field.alias or name: field.annotation for name, field in type(group).model_fields.items()}
    return frozenset(name for name, annotation in declared.items() if Match in _types(annotation))


def matches_of(group: Any) -> Iterator[tuple[Match, tuple[str | int, ...]]]:
    """The matches among these parameters, each with its path."""
    keys = match_keys(group)
    for name, value in fields(group) if keys else ():
        if name in keys and isinstance(value, list):
            yield from ((item, (name, index)) for index, item in enumerate(value))
        elif name in keys and value is not None:
            yield value, (name,)


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)


@dataclass(frozen=True, kw_only=True)
class PlannedMatch:
    """A match of one pair of layers, with all defaults resolved by the plan."""

    term: str
    """Its name in logs and plans, unique in the stage."""
    feature: str
    loss: FeatureLoss
    teacher: str
    student: str
    teacher_layers: tuple[int, ...] = ()
    """Counted from 0, never negative; two for a two-layer loss; empty if the feature is compared as a whole."""
    student_layers: tuple[int, ...] = ()
    weight: Schedule
    projection: Projection | None = None
    projection_origin: Literal["written", "derived", "off", "unneeded", "unknown"] = "unneeded"
    """`unknown` if a width is not known before the models are built; the projection is then derived at the first batch."""
    kept: Projection | None = None
    """The projection that is a layer of the student, `keep` or `fold`; the match itself then has none."""
    teacher_width: int | None = None
    student_width: int | None = None
    path: tuple[str | int, ...] = ()
    """Its path in the spec."""
    layers_at: tuple[str | int, ...] = ()
    """The path of its layers in the spec: the pair, or the layer map that gave the pair."""
    task: str = ""
    """Its task, in a stage of several."""

    def other_tokens(self, why: str) -> Finding:
        """KD402 for a match that compares token by token what models with other tokens return; `why` is how that is known."""
        message = (
            f"`{self.feature}` of `{self.teacher}` and of `{self.student}` cannot be compared token by token: {why}"
        )
        also = tuple(Mark(("models", name), "has its own tokenizer", key=True) for name in (self.teacher, self.student))
        notes = ("place n of a row is another part of the text for each of them",)
        help_ = "make the student `like` its teacher, or leave out this match and learn from `soft_labels`"
        return Finding("KD402", message, (*self.path, "feature"), "per token", also=also, notes=notes, help=help_)

    def build_projection(self, context: BuildContext) -> nn.Module | None:
        """The projection from the student's width to the teacher's; None if the match has none."""
        if self.projection is None:
            return None
        assert self.student_width is not None, "a projection needs the student's width"
        assert self.teacher_width is not None, "a projection needs the teacher's width"
        return self.projection.build(
            ProjectionContext(
                folder=context.folder,
                seed=context.seed,
                student_width=self.student_width,
                teacher_width=self.teacher_width,
            )
        )
