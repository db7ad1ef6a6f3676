"""What was exported, and what each form of the model gives on rows of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdspec.engine.export.onnx.checked import OutputDifference
from kdspec.engine.export.onnx.latency import Timing


@dataclass(frozen=True, kw_only=True)
class ExportedForm:
    """The model in torch, or one of its ONNX files."""

    form: str
    """`torch`, `onnx` or `int8`."""
    bytes: int
    """Of the file, or of the weights in torch."""
    difference: Mapping[str, OutputDifference]
    """From the outputs in torch, by output; empty for torch."""
    agreement: float | None
    """The share of answers that are those of the model in torch; None: the task's answers are not compared."""
    metrics: Mapping[str, float]
    timings: Sequence[Timing]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported, and what it gives."""

    folder: Path
    model: str
    task: str
    split: str
    """`test`, `validation`, or `train` where neither has rows: metrics are not computed then."""
    rows: int
    """Those that the metrics are of."""
    agrees_on: str | None
    """What `agreement` counts."""
    primary: str
    """The metric that selects the best student."""
    forms: Sequence[ExportedForm]
    script: str


def figures(exported: Exported) -> dict[str, Any]:
    """What was exported as JSON values: a NaN or infinite number is null."""
    found = {key: value for key, value in asdict(exported).items() if key not in ("folder", "script")}
    return _plain(found)  # type: ignore[no-any-return]  # a mapping gives one


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
    return value
