"""TextBrewer's named lists of matches, under the same names."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, cast

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import MatchPreset

PresetPairs = tuple[tuple[int, int], ...]

_TO_3 = ((0, 0), (4, 1), (8, 2), (12, 3))
_TO_4 = ((0, 0), (3, 1), (6, 2), (9, 3), (12, 4))
_TO_6 = ((0, 0), (2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6))
_EVEN_ABOVE_EMBEDDINGS = ((2, 2), (4, 4), (6, 6), (8, 8), (10, 10), (12, 12))
_EVEN = ((0, 0), *_EVEN_ABOVE_EMBEDDINGS)
# TextBrewer counts attention maps from 1, because its example's models have none at 0; transformers counts from 0.
_ATTENTION_TO_3 = ((3, 0), (7, 1), (11, 2))
_ATTENTION_TO_4 = ((2, 0), (5, 1), (8, 2), (11, 3))

PRESETS: Mapping[str, tuple[str, str, PresetPairs]] = types.MappingProxyType(
    {
        "L3_attention_mse": ("attention", "attention_mse", _ATTENTION_TO_3),
        "L3_attention_ce": ("attention", "attention_ce", _ATTENTION_TO_3),
        "L3_attention_mse_sum": ("attention", "attention_mse_sum", _ATTENTION_TO_3),
        "L3_attention_ce_mean": ("attention", "attention_ce_mean", _ATTENTION_TO_3),
        "L3_hidden_smmd": ("hidden", "mmd", _TO_3),
        "L3n_hidden_mse": ("hidden", "hidden_mse", _TO_3),
        "L3_hidden_mse": ("hidden", "hidden_mse", _TO_3),
        "L3l_hidden_mse": ("hidden", "hidden_mse", _TO_3),
        "L4_attention_mse": ("attention", "attention_mse", _ATTENTION_TO_4),
        "L4_attention_ce": ("attention", "attention_ce", _ATTENTION_TO_4),
        "L4_attention_mse_sum": ("attention", "attention_mse_sum", _ATTENTION_TO_4),
        "L4_attention_ce_mean": ("attention", "attention_ce_mean", _ATTENTION_TO_4),
        "L4_hidden_smmd": ("hidden", "mmd", _TO_4),
        "L4t_hidden_sgram": ("hidden", "gram", _TO_4),
        "L4t_hidden_mse": ("hidden", "hidden_mse", _TO_4),
        "L6_hidden_smmd": ("hidden", "mmd", _TO_6),
        "L6_hidden_mse": ("hidden", "hidden_mse", _TO_6),
        "small_hidden_smmd": ("hidden", "mmd", _EVEN),
        "small_hidden_mse": ("hidden", "hidden_mse", _EVEN),
        "es_hidden_smmd": ("hidden", "mmd", _EVEN_ABOVE_EMBEDDINGS),
        "es_hidden_mse": ("hidden", "hidden_mse", _EVEN_ABOVE_EMBEDDINGS),
    }
)
"""Feature, loss, and pairs of teacher layer and student layer, of each preset."""


class NamedPreset(MatchPreset):
    """The base class of the presets; `preset` makes one for each."""

    feature: ClassVar[str]
    loss: ClassVar[str]
    pairs: ClassVar[PresetPairs]

    def build(self, context: BuildContext) -> list[dict[str, Any]]:
        del context
        return [{"feature": self.feature, "loss": self.loss, "layers": dict(self.pairs)}]


@cache
def preset(name: str, feature: str, loss: str, pairs: PresetPairs) -> type[MatchPreset]:
    """The preset `name`. A loss on pairs of layers gets each layer twice."""
    written = ", ".join(f"{teacher}→{student}" for teacher, student in pairs)
    counted = "0 is the embedding output" if feature == "hidden" else "0 is the first layer"
    contents = {
        "__doc__": f"Loss `{loss}` on `{feature}`, teacher→student {written}, where {counted}.\n\n"
        "For a teacher of 12 layers. If the loss needs equal widths and they differ, the student is projected.\n"
        "The preset of TextBrewer's examples of this name (https://arxiv.org/abs/2002.12620).",
        "__module__": __name__,
        "name": name,
        "feature": feature,
        "loss": loss,
        "pairs": pairs,
    }
    made = types.new_class(name, (NamedPreset,), exec_body=lambda namespace: namespace.update(contents))
    return cast("type[MatchPreset]", made)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The presets."""
    return [preset(name, *row) for name, row in PRESETS.items()]
