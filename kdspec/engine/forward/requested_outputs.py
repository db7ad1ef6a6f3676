"""What a model is asked for, so that it returns what field paths read and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torch import nn

from kdspec.api.field_path import FieldPath
from kdspec.api.plan import Feature


def named_modules_of(features: Mapping[str, Feature]) -> list[str]:
    """The modules that field paths name."""
    paths = [path for feature in features.values() for path in feature.paths]
    return sorted({path.module for path in paths if path.module is not None})


def switches(module: nn.Module, paths: Sequence[FieldPath]) -> dict[str, bool]:
    """The switches that make a transformers model return what is needed; another module is called as it is."""
    # Its import takes seconds; without it there is no model of it.
    library = sys.modules.get("transformers")
    if library is None or not isinstance(module, library.PreTrainedModel):
        return {}
    names = [name for path in paths if path.root == "output" for name in path.attributes]
    flags = {"hidden_states": "output_hidden_states", "attentions": "output_attentions"}
    # An encoder-decoder has `encoder_hidden_states`, `cross_attentions` and others.
    return {flag: True for ending, flag in flags.items() if any(name.endswith(ending) for name in names)}


def reads_attention(features: Mapping[str, Feature]) -> bool:
    """Whether a feature is made of what attention weighs by, which only eager attention returns."""
    paths = [path for feature in features.values() for path in feature.paths]
    return any(name.endswith("attentions") for path in paths if path.root == "output" for name in path.attributes)
