"""Weights over a stage: constant, falling or growing."""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.spec.bounds import LARGEST_FACTOR


class ConstantWeight(Schedule):
    """The same weight throughout; a plain number is short for it: `weight: 0.5`."""

    name = "constant"

    value: float = Field(ge=0, le=LARGEST_FACTOR)
    """The weight, 0 or more. A term of weight 0 is not computed."""

    def to_plain(self) -> float:
        return self.value

    def always_zero(self) -> bool:
        return self.value == 0

    def build(self, context: BuildContext) -> Callable[[float], float]:
        del context
        value = self.value
        return lambda _: value


class LinearDecay(Schedule):
    """A weight that falls linearly from the first step of the stage to its end.

    At progress x, the fraction of optimizer steps that are done, it is `from + (to - from) x`.
    """

    # A spec has `from`, which is a keyword of Python and cannot be the name of a field.
    model_config = ConfigDict(serialize_by_alias=True)
    name = "linear_decay"

    from_: float = Field(default=1.0, ge=0, le=LARGEST_FACTOR, alias="from")
    """The weight in the first step, 0 or more."""
    to: float = Field(default=0.0, ge=0, le=LARGEST_FACTOR)
    """The weight at the end, 0 or more and at most `from`."""

    @field_validator("to")
    @classmethod
    def _falls(cls, value: float, info: ValidationInfo) -> float:
        start = info.data.get("from_", value)
        if value > start:
            raise _wrong_way("from {start} to {end} it would grow: `linear_growth` does", start, value)
        return value

    def always_zero(self) -> bool:
        return self.from_ == self.to == 0

    def build(self, context: BuildContext) -> Callable[[float], float]:
        del context
        return _line(self.from_, self.to)


class LinearGrowth(Schedule):
    """A weight that grows linearly from the first step of the stage to its end.

    At progress x, the fraction of optimizer steps that are done, it is `from + (to - from) x`.
    """

    # As in LinearDecay.
    model_config = ConfigDict(serialize_by_alias=True)
    name = "linear_growth"

    from_: float = Field(default=0.0, ge=0, le=LARGEST_FACTOR, alias="from")
    """The weight in the first step, 0 or more."""
    to: float = Field(default=1.0, ge=0, le=LARGEST_FACTOR)
    """The weight at the end, at least `from`."""

    @field_validator("to")
    @classmethod
    def _grows(cls, value: float, info: ValidationInfo) -> float:
        start = info.data.get("from_", value)
        if value < start:
            raise _wrong_way("from {start} to {end} it would fall: `linear_decay` does", start, value)
        return value

    def always_zero(self) -> bool:
        return self.from_ == self.to == 0

    def build(self, context: BuildContext) -> Callable[[float], float]:
        del context
        return _line(self.from_, self.to)


def _wrong_way(message: LiteralString, start: float, end: float) -> PydanticCustomError:
    return PydanticCustomError("wrong_way", message, {"start": start, "end": end})


def _line(start: float, end: float) -> Callable[[float], float]:
    return lambda progress: start + (end - start) * progress


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The schedules."""
    return [ConstantWeight, LinearDecay, LinearGrowth]
