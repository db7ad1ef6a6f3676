"""What happens in a run, as frozen values that are also lines of JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first event of each start; `resumed_at` is the optimizer step of the checkpoint it goes on from, if any."""

    name: str
    stages: tuple[str, ...]
    versions: dict[str, str]
    seed: int
    resumed_at: int | None


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins, or goes on after `start_step` of its `steps`."""

    stage: str
    steps: int
    epochs: float
    rows: int
    start_step: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimizer step, counted from 1: `step` steps are now done.

    `loss` is the weighted total, `terms` are unweighted, `lr` goes by group of the optimizer. `grad_norm` is the global
    L2 norm before clipping; `rows` and `tokens` are those of this step on all ranks.
    """

    stage: str
    step: int
    epoch: int
    loss: float
    terms: dict[str, float]
    weights: dict[str, float]
    lr: dict[str, float]
    grad_norm: float | None
    seconds: float
    rows: int
    tokens: int
    micro_losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Metrics of one model on one split after `step` steps; `best` says that none were better so far."""

    stage: str
    step: int
    split: str
    model: str
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint of `step` is on the disk, at `path` within the run folder."""

    stage: str
    step: int
    path: str


@dataclass(frozen=True, slots=True)
class CacheState:
    """The cache of a teacher after `step` steps; where it is not `used`, the `reason`.

    It holds `bytes` for `rows` rows, `row_bytes` for one, of the named features. In this start of the run the teacher
    was run for `computed` rows, and `hits` rows were read.
    """

    stage: str
    step: int
    teacher: str
    used: bool
    reason: str
    folder: str
    features: tuple[str, ...]
    rows: int
    row_bytes: int
    bytes: int
    hits: int
    computed: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know that stops nothing."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class StageFinished:
    """All steps of a stage are done and its student is in `folder`, as it was after `best_step` if that is not None."""

    stage: str
    step: int
    seconds: float
    best_step: int | None
    metrics: dict[str, float]
    folder: str


@dataclass(frozen=True, slots=True)
class StageSkipped:
    """A stage does not run, since it is finished already or for another `reason`."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The end of a run that went well; `table` is its summary, rows by name."""

    seconds: float
    table: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The end of a run that did not, by the code of its diagnostic."""

    code: str
    message: str


Event = (
    RunStarted
    | StageStarted
    | StepDone
    | Evaluated
    | CheckpointSaved
    | CacheState
    | Note
    | StageFinished
    | StageSkipped
    | RunFinished
    | RunFailed
)


def to_json(event: Event) -> dict[str, Any]:
    """An event as data of strict JSON; its class is named under `event`.

    JSON has no infinities and no NaN, so these are the texts `inf`, `-inf` and `nan`.
    """
    record = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    return {"event": type(event).__name__, **record}


def from_json(record: Mapping[str, Any]) -> Event:
    """The event that `to_json` turned into `record`; keys that the event does not have are ignored.

    Raises ValueError if it is not an event of this version, or a value is of the wrong type.
    """
    kind = record.get("event")
    kinds = {cls.__name__: cls for cls in get_args(Event)}
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"not an event: {kind!r}")
    values = {}
    for name, hint in _hints(kinds[kind]).items():
        if name not in record:
            raise ValueError(f"{kind} lacks {name!r}")
        try:
            values[name] = _typed(record[name], hint)
        except TypeError as error:
            raise ValueError(f"{kind}.{name} {error}") from error
    event: Event = kinds[kind](**values)
    return event


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _plain(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
    return value


def _typed(value: object, hint: object) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and value in ("inf", "-inf", "nan"):
        return float(value)
    if isinstance(hint, UnionType):
        return None if value is None else _typed(value, next(part for part in arguments if part is not NoneType))
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(item, arguments[0]) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _typed(item, arguments[1]) for key, item in value.items()}
    if (origin is Literal and value in arguments) or type(value) is hint:
        return value
    raise TypeError(f"is {value!r}, not {hint}")
