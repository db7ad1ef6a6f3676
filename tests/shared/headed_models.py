"""Tiny transformers models with the head of a task, as a library would have trained them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdspec.testing import tiny


def headed(folder: Path, auto: str, labels: list[str] | None = None, *, seed: int = 0, **changes: Any) -> Path:
    """Save a tiny model with a head of this class of the library, large enough that its answers differ.

    Args:
        folder: where it is saved.
        auto: such as `AutoModelForSequenceClassification`.
        labels: the names of its classes.
        seed: of its weights.
        changes: entries of its configuration.
    """
    import torch
    import transformers

    tiny(folder, seed=seed)
    names = dict(enumerate(labels or []))
    own = {"id2label": names, "label2id": {name: number for number, name in names.items()}} if labels else {}
    config = transformers.AutoConfig.from_pretrained(folder, **own, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, auto).from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=1.0)
    model.save_pretrained(folder)
    return folder
