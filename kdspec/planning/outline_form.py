"""The form of an outline that was read from a file: what the terminal, the report and a comparison rely on."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, JsonValue, model_validator

from kdspec.planning.outline import FORMAT, ValueOrigin
from kdspec.source.read_back import Count, Form


class _Setting(BaseModel):
    origin: ValueOrigin
    value: JsonValue = None
    component: str = ""
    parameters: dict[str, _Setting] = {}

    @model_validator(mode="after")
    def _has_a_value(self) -> Self:
        given = self.model_fields_set
        if "parameters" not in given and "value" not in given:
            raise ValueError("it has neither `value` nor `parameters`")
        if "component" in given and "parameters" not in given:
            raise ValueError("its component has no `parameters`")
        return self


class _Facts(BaseModel):
    layers: Count | None
    width: Count | None
    heads: Count | None
    family: str | None
    embedding: Count | None = None


class _Task(BaseModel):
    name: str
    task: _Setting
    varies: str | None = None


class _Model(BaseModel):
    name: str
    model: _Setting
    facts: _Facts
    stages: dict[str, str]


class _Side(BaseModel):
    model: str
    layers: list[int]
    width: Count | None


class _Layers(BaseModel):
    origin: ValueOrigin


class _Term(BaseModel):
    name: str
    kind: str
    active: bool
    settings: dict[str, _Setting]
    feature: str | None = None
    teacher: _Side | None = None
    student: _Side | None = None
    layers: _Layers | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.kind == "match":
            for key in ("feature", "teacher", "student", "layers"):
                if vars(self)[key] is None:
                    raise ValueError(f"it is a match without `{key}`")
            if "loss" not in self.settings:
                raise ValueError("it is a match without a loss")
        return self


class _Read(BaseModel):
    paths: list[str]
    layers: list[int] | None


class _Batching(BaseModel):
    why: str | None = None


class _Part(BaseModel):
    task: str
    teachers: list[str]
    settings: dict[str, _Setting]
    reads: dict[str, dict[str, _Read]]


class _Distiller(BaseModel):
    component: str
    origin: ValueOrigin


class _Stage(BaseModel):
    name: str
    distiller: _Distiller
    student: str
    teachers: list[str]
    tasks: list[str]
    settings: dict[str, _Setting]
    terms: list[_Term]
    reads: dict[str, dict[str, _Read]]
    parts: list[_Part] = []
    training: dict[str, _Setting]
    batching: _Batching = _Batching()  # older plans do not have it

    @model_validator(mode="after")
    def _names_batching(self) -> Self:
        if self.batching.why and "batching" not in self.training:
            raise ValueError("its `training` has no `batching`")
        return self


class _Outline(BaseModel):
    format: Literal[1]
    name: str
    trusts_code: bool = False
    seed: _Setting
    tasks: list[_Task]
    models: list[_Model]
    stages: list[_Stage]


_FORM: Form[_Outline] = Form(_Outline)


def checked(data: Any) -> dict[str, Any]:
    """The same data, if it is an outline as `kdspec.planning.outline.outline` describes it. Raises `Damage` if not."""
    _FORM.of(data)
    outline: dict[str, Any] = data
    return outline


def is_of_this_version(data: Any) -> bool:
    """Whether data says that it is an outline in the format of this version."""
    return isinstance(data, dict) and data.get("format") == FORMAT
