"""The device that the user names."""

from __future__ import annotations


def refused_device(device: str) -> str | None:
    """Why torch cannot compute on the device; None if it can."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        # torch raises either, with messages of many lines.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"`{device}` cannot be used: {reason}"
    return None
