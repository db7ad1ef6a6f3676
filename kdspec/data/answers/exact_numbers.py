"""Numbers of float32 as numbers of JSON: short, and read back as the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor


def exact(numbers: Tensor) -> Any:
    """The numbers, rounded to float32, in lists of the tensor's shape.

    Each is the double with the fewest digits that rounds to the same float32, so that JSON has some nine digits of it.

    Raises:
        Fault: KD502 for a number that is not finite, which JSON does not have.
    """
    import numpy as np

    found = numbers.detach().float().cpu().numpy()
    if not np.isfinite(found).all():
        message = "a prediction is not finite: the model gives NaN or infinity for a row"
        raise Fault("KD502", message, help="check its weights and the texts")
    short = found.astype(np.str_).astype(np.float64)  # numpy writes the fewest digits that are enough
    return np.where(short.astype(np.float32) == found, short, found.astype(np.float64)).tolist()
