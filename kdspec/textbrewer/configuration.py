"""The settings of TextBrewer's configurations, with types and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict, by_name
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.kinds.losses import FeatureLoss, LogitLoss, Projection


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "not a string")
    return value


def _schedule(value: Any) -> Any:
    return None if _text(value) == "none" else value


def _layers(value: Any) -> Any:
    if isinstance(value, list):
        return value
    return [value]


class RowTemperature(Strict):
    """A temperature for each row: `["flsw", beta, gamma]` or `["cwsm", beta]`."""

    name: Literal["flsw", "cwsm"]
    beta: Annotated[float, Field(ge=0)]
    gamma: Annotated[float, Field(ge=0)] | None = None


def _temperature_rule(value: Any) -> Any:
    if value in ("none", "constant"):
        return None
    wanted = {"flsw": ["beta", "gamma"], "cwsm": ["beta"]}
    name, *rest = value if isinstance(value, list) and value else (value,)
    if not isinstance(name, str) or name not in wanted:
        raise PydanticCustomError("scheduler", "TextBrewer has `constant`, `flsw` and `cwsm` for a temperature")
    names = wanted[name]
    if len(rest) == 1 and isinstance(rest[0], Mapping):
        given = dict(rest[0])
    else:
        given = dict(zip(names, rest, strict=False)) if len(rest) == len(names) else {}
    if set(given) != set(names):
        form = ", ".join([f'"{name}"', *names])
        raise PydanticCustomError("scheduler", "`{name}` is written `[{form}]`", {"name": name, "form": form})
    return {"name": name, **given}


class Projected(Strict):
    """`["linear", 384, 768, {"lr": 1e-3}]`: from the student's width to the teacher's, with an optimizer group."""

    projection: Projection
    student: Annotated[int, Field(gt=0)]
    teacher: Annotated[int, Field(gt=0)]
    options: dict[str, Any] = {}


def _projected(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) not in {3, 4} or not isinstance(value[0], str):
        raise PydanticCustomError("projection", 'a projection is written `["linear", student width, teacher width]`')
    options = value[3] if len(value) > 3 else {}
    if not isinstance(options, dict):
        raise PydanticCustomError("projection", "the widths are followed by a mapping of optimizer options")
    return {"projection": value[0], "student": value[1], "teacher": value[2], "options": options}


BrewerName = BeforeValidator(_text)
BrewerLayers = Annotated[list[int], Field(min_length=1, max_length=2), BeforeValidator(_layers)]
WeightRule = Annotated[Schedule | None, BeforeValidator(_schedule)]
Norm = Annotated[float, AfterValidator(lambda value: value if value > 0 else None)]


class IntermediateMatch(Strict):
    """An entry of `intermediate_matches`."""

    layer_T: BrewerLayers  # noqa: N815 - TextBrewer's name
    layer_S: BrewerLayers  # noqa: N815 - TextBrewer's name
    feature: Literal["hidden", "attention"]
    loss: Annotated[FeatureLoss, BrewerName]
    weight: Annotated[float, Field(ge=0)]
    proj: Annotated[Projected | None, BeforeValidator(_projected)] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        loss, sides = self.loss, {len(self.layer_T), len(self.layer_S)}
        if sides != {loss.arity}:
            wanted = "a list of two layers of each model" if loss.arity == 2 else "one layer of each model"
            raise PydanticCustomError("layers", "`{loss}` takes {wanted}", {"loss": loss.name, "wanted": wanted})
        if loss.feature is not None and loss.feature != self.feature:
            raise PydanticCustomError(
                "feature",
                "`{loss}` is a loss for `{feature}`, not `{other}`",
                {"loss": loss.name, "feature": loss.feature, "other": self.feature},
            )
        return self


class Configuration(Strict):
    """A `DistillationConfig`, a `TrainingConfig` and the arguments of `train()`, with TextBrewer's defaults."""

    temperature: Annotated[float, Field(gt=0)] = 4.0
    temperature_scheduler: Annotated[RowTemperature | None, BeforeValidator(_temperature_rule)] = by_name("none")
    hard_label_weight: Annotated[float, Field(ge=0)] = 0.0
    hard_label_weight_scheduler: WeightRule = by_name("none")
    kd_loss_type: Annotated[LogitLoss, BrewerName] = by_name("ce")
    kd_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    kd_loss_weight_scheduler: WeightRule = by_name("none")
    probability_shift: bool = False
    intermediate_matches: list[IntermediateMatch] | None = None
    is_caching_logits: bool = False

    gradient_accumulation_steps: Annotated[int, Field(gt=0)] = 1
    ckpt_frequency: Annotated[int, Field(gt=0)] = 1
    ckpt_epoch_frequency: Annotated[int, Field(gt=0)] = 1
    ckpt_steps: Annotated[int, Field(gt=0)] | None = None
    log_dir: str | None = None
    output_dir: str | None = None
    device: str | None = None
    fp16: bool = False
    fp16_opt_level: Literal["O0", "O1", "O2", "O3"] = "O1"
    data_parallel: bool = False
    local_rank: int = -1

    num_epochs: Annotated[float, Field(gt=0)] | None = None
    num_steps: Annotated[int, Field(gt=0)] | None = None
    max_grad_norm: Norm | None = None
    tau: Annotated[float, Field(ge=0)] | None = None
