"""The events of a run: frozen values, each also a line of JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first event of each start; `resumed_at` is the optimizer step of the checkpoint that it resumes from, if any.

    `seed` is None if it comes from the environment.
    """

    name: str
    stages: tuple[str, ...]
    versions: dict[str, str]
    seed: int | None
    resumed_at: int | None


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins, or resumes after `start_step` of its `steps`."""

    stage: str
    steps: int
    epochs: float
    rows: int
    start_step: int


@dataclass(frozen=True, slots=True)
class Preflight:
    """The look at rows and models before a stage; `cached` if an earlier one has found the same.

    `tasks` has the facts of each task by its name: `splits` with the rows, the labelled ones and the `labels`, `in_train` and
    the lengths of each split, the first row (`shown`), and of each of the `models` the difference of a row `alone` and in a
    batch, and the `answers` of a teacher to labelled rows.
    """

    stage: str
    cached: bool
    seconds: float
    tasks: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimizer step, counted from 1: `step` steps are now done.

    `loss` is the weighted total, `terms` are unweighted. With several tasks a term is the mean over the rows of its task,
    and each task enters `loss` by its share of the micro-batches. `lr` has the learning rate of each parameter group. `grad_norm`
    is the global L2 norm before clipping; `rows` and `tokens` are those of this step on all ranks.
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
    """Metrics of one model on one split after `step` steps; `best`: whether they are the best so far by `selected_by`.

    `lower_is_better`: whether lower values of `selected_by` are better.
    """

    stage: str
    step: int
    split: str
    model: str
    metrics: dict[str, float]
    best: bool
    selected_by: str = ""
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint of `step` is on disk, at `path` within the run folder."""

    stage: str
    step: int
    path: str


@dataclass(frozen=True, slots=True)
class CacheState:
    """The cache of a teacher after `step` steps; if it is not `used`, the `reason`.

    It holds the named features of `rows` rows in `bytes`, `row_bytes` per row. Since this start of the run the teacher
    computed `computed` rows, and `hits` rows were read.
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
    """Information for the user that does not stop the run."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class StageFinished:
    """All steps of a stage are done; `folder` has its student, as of `best_step` if that is not None.

    `calibration` has for each calibrated task the `method`, the fitted `values`, the number of validation `rows`, and the
    metrics of these `before` and `after` it.
    """

    stage: str
    step: int
    seconds: float
    best_step: int | None
    metrics: dict[str, float]
    folder: str
    calibration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageSkipped:
    """A stage does not run: it is already finished, or there is another `reason`."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The end of a successful run; `table` is its summary, rows by name."""

    seconds: float
    table: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The end of a failed run, with the code of its diagnostic."""

    code: str
    message: str


Event = (
    RunStarted
    | StageStarted
    | Preflight
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
"""Any event of a run."""


def curves(event: Event) -> dict[str, float]:
    """The numbers of a `StepDone` or an `Evaluated` by name, such as `loss`, `terms/soft_labels` and `validation/accuracy`.

    Empty for other events.
    """
    match event:
        case StepDone():
            values = {"loss": event.loss}
            for group, named in (("terms", event.terms), ("weights", event.weights), ("lr", event.lr)):
                values |= {f"{group}/{name}": value for name, value in named.items()}
            return values if event.grad_norm is None else {**values, "gradient_norm": event.grad_norm}
        case Evaluated():
            return {f"{event.split}/{name}": value for name, value in event.metrics.items()}
        case _:
            return {}


def without_values(event: Event, hide: Callable[[Any], Any]) -> Event:
    """The event with `hide` applied to its free text; names of stages, models, terms and metrics stay as they are."""
    match event:
        case RunStarted():
            return replace(event, name=hide(event.name))
        case Preflight():
            return replace(event, tasks=hide(event.tasks))
        case CacheState():
            return replace(event, reason=hide(event.reason), folder=hide(event.folder))
        case Note():
            return replace(event, text=hide(event.text))
        case StageSkipped():
            return replace(event, reason=hide(event.reason))
        case RunFailed():
            return replace(event, message=hide(event.message))
        case _:
            return event


def stage_of(event: Event) -> str:
    """The stage that an event belongs to; empty for an event of the whole run."""
    return "" if isinstance(event, RunStarted | Note | RunFinished | RunFailed) else event.stage


def step_of(event: Event) -> int:
    """The number of optimizer steps after which an event was, 0 for an event of no step."""
    with_step = StepDone | Evaluated | CheckpointSaved | CacheState | StageFinished
    return event.step if isinstance(event, with_step) else 0


def to_json(event: Event) -> dict[str, Any]:
    """An event as strict JSON data; `event` has the name of its class.

    JSON has no infinities and no NaN, so they are the strings `inf`, `-inf` and `nan`.
    """
    record = {each.name: _plain(getattr(event, each.name)) for each in fields(event)}
    return {"event": type(event).__name__, **record}


def from_json(record: Mapping[str, Any]) -> Event:
    """The event of a `record` that `to_json` made; unknown keys are ignored.

    Raises ValueError if it is not an event of this version or a value has the wrong type.
    """
    kind = record.get("event")
    found = _readers().get(kind) if isinstance(kind, str) else None
    if found is None:
        raise ValueError(f"not an event: {kind!r}")
    cls, readers = found
    values = {}
    for name, reader, needed in readers:
        if name not in record and not needed:
            continue
        if name not in record:
            raise ValueError(f"{kind} lacks {name!r}")
        try:
            values[name] = reader(record[name])
        except TypeError as error:
            raise ValueError(f"{kind}.{name} {error}") from error
    event: Event = cls(**values)
    return event


_Reader = Callable[[object], Any]


@cache
def _readers() -> Mapping[str, tuple[type, tuple[tuple[str, _Reader, bool], ...]]]:
    """For each event by name its class, what reads its fields, and whether each is needed: made once for millions of lines."""
    found = {}
    for cls in get_args(Event):
        hints = get_type_hints(cls)
        needed = {each.name: each.default is MISSING and each.default_factory is MISSING for each in fields(cls)}
        found[cls.__name__] = (cls, tuple((name, _reader(hints[name]), needed[name]) for name in needed))
    return found


class Record(NamedTuple):
    """An event and when it was logged, in UTC."""

    time: datetime
    event: Event


def _plain(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
    return value


def _reader(hint: Any) -> _Reader:
    """What returns a value of this type, or raises TypeError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint is float:
        return _float
    if hint is int:
        return _int
    if isinstance(hint, UnionType):
        some = _reader(next(part for part in arguments if part is not NoneType))
        return lambda value: None if value is None else some(value)
    if origin is tuple:
        return partial(_tuple, hint, _reader(arguments[0]))
    if origin is dict:
        return partial(_dict, hint, _reader(arguments[1]))
    return partial(_one_of, hint, arguments) if origin is Literal else partial(_exactly, hint)


def _float(value: object) -> float:
    if type(value) is float:
        return value
    if type(value) is int or (isinstance(value, str) and value in ("inf", "-inf", "nan")):
        return float(value)
    raise TypeError(f"is {value!r}, not {float}")


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"is {value!r}, not {int}")
    if not -(2**63) <= value < 2**63:
        raise TypeError("is an integer of more than 64 bits")
    return value


def _tuple(hint: Any, item: _Reader, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"is {value!r}, not {hint}")
    return tuple(map(item, value))


def _dict(hint: Any, item: _Reader, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"is {value!r}, not {hint}")
    return {key: item(each) for key, each in value.items()}


def _one_of(hint: Any, choices: tuple[Any, ...], value: object) -> Any:
    if value not in choices:
        raise TypeError(f"is {value!r}, not {hint}")
    return value


def _exactly(hint: Any, value: object) -> Any:
    if type(value) is not hint:
        raise TypeError(f"is {value!r}, not {hint}")
    return value
