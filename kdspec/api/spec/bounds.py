"""The largest numbers that a spec takes: far above any use, and small enough that a slip of the keys does no harm."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

LARGEST_COUNT: Final = 10**9
"""Of optimizer steps, evaluations and tokens of a micro-batch; also what one writes for `never`."""
LARGEST_BATCH: Final = 10**6
"""Rows of a micro-batch, and micro-batches of a step."""
LONGEST_ROW: Final = 10**7
"""Tokens of a row."""
LARGEST_WIDTH: Final = 2**20
"""Of a layer, and of the heads of one."""
MOST_LAYERS: Final = 10_000
"""Of a model; indices count from either end."""
LARGEST_FACTOR: Final = 1e9
"""Weights of losses and of tasks."""
LARGEST_RATE: Final = 1e4
"""Learning rates and weight decay."""
LEAST_TEMPERATURE: Final = 1e-3
"""Below it, logits overflow when they are divided by it."""
LARGEST_TEMPERATURE: Final = 1e6
"""Above it, a distribution is uniform to the last bit of `fp32`."""

Count = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]
"""A number of steps or evaluations."""
Epochs = Annotated[float, Field(gt=0, le=1e6)]
"""A number of epochs, or a part of one."""
LayerIndex = Annotated[int, Field(ge=-MOST_LAYERS, le=MOST_LAYERS)]
"""A layer, counted from 0, or from the end where it is negative."""
