"""The outputs that a model has to return for field paths, so that it computes no others."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torch import nn

from kdspec.api.paths.field_path import FieldPath
from kdspec.api.plan.plan import Feature
from kdspec.engine.forward.attention.attention_record import SCORES


def named_modules_of(features: Mapping[str, Feature]) -> list[str]:
    """The modules that field paths name."""
    paths = [path for feature in features.values() for path in feature.paths]
    return sorted({path.module for path in paths if path.module is not None})


def switches(module: nn.Module, paths: Sequence[FieldPath]) -> dict[str, bool]:
    """The keyword arguments that make a transformers model return what is read; none for other modules."""
    if not is_of_transformers(module):
        return {}
    names = [name for path in paths if path.root == "output" for name in path.attributes]
    attention = "output_attentions"
    flags = {"hidden_states": "output_hidden_states", "attentions": attention, SCORES: attention}
    # An encoder-decoder has `encoder_hidden_states`, `cross_attentions` and others.
    return {flag: True for ending, flag in flags.items() if any(name.endswith(ending) for name in names)}


def reads_attention(features: Mapping[str, Feature]) -> bool:
    """Whether a feature reads attention weights, or the scores before them, which only eager attention returns."""
    paths = [path for feature in features.values() for path in feature.paths]
    names = [name for path in paths if path.root == "output" for name in path.attributes]
    return any(name.endswith(("attentions", SCORES)) for name in names)


def is_of_transformers(module: nn.Module) -> bool:
    """Whether the module is a model of transformers."""
    # Not imported here, which takes seconds: if nothing has imported it, the module is not a model of it.
    library = sys.modules.get("transformers")
    return library is not None and isinstance(module, library.PreTrainedModel)
