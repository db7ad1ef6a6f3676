"""How fast this processor multiplies matrices, in float32 and in bfloat16: measured, and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from kdspec.data.cache_folder import cache_folder, put
from kdspec.engine.machine.processors import processor_name
from kdspec.source import read_back
from kdspec.source.read_back import Damage, Form

FOLDER, SUFFIX = "speed", ".json"
_MOST = 2**20
"""Bytes of all kept measurements."""
_ROWS, _WIDTH = 512, 768
"""The product that is measured: that of a layer of a small encoder for a batch of texts."""
_SECONDS = 0.25
"""How long each type is measured for, at least one product."""

_Rate = Annotated[float, Field(gt=0, lt=1e18, allow_inf_nan=False)]


@dataclass(frozen=True)
class ProcessorSpeed:
    """A measurement, and what it is of."""

    processor: Annotated[str, Field(max_length=1000)]
    torch: Annotated[str, Field(max_length=1000)]
    """The version."""
    threads: Annotated[int, Field(ge=1, lt=2**20)]
    fp32: _Rate
    """Floating-point operations per second of a matrix product."""
    bf16: _Rate

    @property
    def gain(self) -> float:
        """How many times as fast bf16 is."""
        return self.bf16 / self.fp32


_FORM: Form[ProcessorSpeed] = Form(ProcessorSpeed)


def measure() -> ProcessorSpeed:
    """Measure it, with the threads that torch has; takes about a second."""
    rates = {dtype: _rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return ProcessorSpeed(*_key(), fp32=rates[torch.float32], bf16=rates[torch.bfloat16])


def keep(speed: ProcessorSpeed, root: Path | None = None) -> Path:
    """Write a measurement to the cache folder, or to `root`, and return its file. Raises OSError if that fails."""
    file = _file(root)
    put(file, json.dumps(asdict(speed)).encode(), _MOST)
    return file


def kept(root: Path | None = None) -> ProcessorSpeed | None:
    """The measurement of this processor with this torch and as many threads; None if none is kept, or it is damaged."""
    with suppress(OSError, Damage):
        found = read_back.read(_file(root), _FORM)
        if (found.processor, found.torch, found.threads) == _key():
            return found
    return None


def _key() -> tuple[str, str, int]:
    return processor_name(), str(torch.__version__), torch.get_num_threads()


def _file(root: Path | None) -> Path:
    digest = hashlib.sha256("\0".join(map(str, _key())).encode()).hexdigest()
    return (root or cache_folder()) / FOLDER / f"{digest}{SUFFIX}"


def _rate(dtype: torch.dtype) -> float:
    """Operations per second of the fastest product, since another program may hold up the others."""
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        left, right = torch.randn(_ROWS, _WIDTH, dtype=dtype), torch.randn(_WIDTH, _WIDTH, dtype=dtype)
        torch.nn.functional.linear(left, right)  # the first product prepares kernels and threads
        best, end = float("inf"), time.perf_counter() + _SECONDS
        while True:
            begin = time.perf_counter()
            torch.nn.functional.linear(left, right)
            now = time.perf_counter()
            best = min(best, now - begin)
            if now >= end:
                return 2 * _ROWS * _WIDTH * _WIDTH / best
