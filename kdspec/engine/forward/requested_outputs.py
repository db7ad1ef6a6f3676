"""The outputs that a model has to return for field paths, so that it computes no others."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torch import nn

from kdspec.api.paths.field_path import FieldPath
from kdspec.api.plan.plan import Feature


def named_modules_of(features: Mapping[str, Feature]) -> list[str]:
    """The modules that field paths name."""
    paths = [path for feature in features.values() for path in feature.paths]
    return sorted({path.module for path in paths if path.module is not None})


def switches(module: nn.Module, paths: Sequence[FieldPath]) -> dict[str, bool]:
    """The keyword arguments that make a transformers model return what is read; none for other modules."""
    # Not imported here, which takes seconds: if nothing has imported it, the module is not a model of it.
    library = sys.modules.get("transformers")
    if library is None or not isinstance(module, library.PreTrainedModel):
        return {}
    names = [name for path in paths if path.root == "output" for name in path.attributes]
    flags = {"hidden_states": "output_hidden_states", "attentions": "output_attentions"}
    # An encoder-decoder has `encoder_hidden_states`, `cross_attentions` and others.
    return {flag: True for ending, flag in flags.items() if any(name.endswith(ending) for name in names)}


def reads_attention(features: Mapping[str, Feature]) -> bool:
    """Whether a feature reads attention weights, which only eager attention returns."""
    paths = [path for feature in features.values() for path in feature.paths]
    return any(name.endswith("attentions") for path in paths if path.root == "output" for name in path.attributes)
