"""How a model reads a query and its candidates: each pair of texts, or each text alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from kdspec.api.kinds.model import ModelFacts
from kdspec.api.spec.model_folders import read_json
from kdspec.hf.embedding.sentence_folder import MODULES, MULTI_VECTOR, SETTINGS

Reads = Literal["pair", "each"]
"""Each pair of a query and a document as one text, or each text alone."""
Similarity = Literal["cos", "dot", "maxsim"]
"""As in `kdspec.ops.ranking.text_scores`, which needs torch."""
HEAD = "ranking"
"""The kind of head that scores candidates."""
UNKNOWN_READING = "neither the spec nor its files tell how `{name}` reads a query and its candidates"
"""The message about a model of which it is not known, with its `name`."""
READING_HELP = (
    "write `reads: pair` for a cross-encoder, which reads a query and a document as one text, or `reads: each` for a bi-encoder, "
    "which compares their vectors"
)
"""The help of that message."""
COSINE_SCALE = 20.0
"""The factor of a cosine where none is written, as sentence-transformers has it."""

NAMES: Mapping[Similarity, Literal["cosine", "dot", "maxsim"]] = MappingProxyType(
    {"cos": "cosine", "dot": "dot", "maxsim": "maxsim"}
)
"""The names in a folder of sentence-transformers."""


@dataclass(frozen=True)
class Comparison:
    """How a bi-encoder compares two texts."""

    similarity: Similarity = "cos"
    scale: float = COSINE_SCALE
    """The factor of the similarity."""

    @classmethod
    def of(cls, similarity: Similarity | None, scale: float | None, folder: Path | None) -> Comparison:
        """As a spec writes it, or else as a folder says.

        Args:
            similarity: that of the spec.
            scale: that of the spec; default: 20 for a cosine, which is never above 1, and else 1.
            folder: the folder of the model, if it has one.
        """
        chosen: Similarity = similarity or (None if folder is None else _saved(folder)) or "cos"
        return cls(chosen, scale if scale is not None else COSINE_SCALE if chosen == "cos" else 1.0)


def reads_of(written: Mapping[str, Any], known: ModelFacts, folder: Path | None) -> Reads | None:
    """How the model of a folder reads texts, by its files: None if they do not tell.

    Args:
        written: the configuration in its files.
        known: the facts of that configuration.
        folder: the folder on this machine, if it is known.
    """
    if "SequenceClassification" in (known.architecture or "") and known.classes == 1:
        return "pair"
    if written and folder is not None and (folder / MODULES).is_file():
        return "each"
    return None


def _saved(folder: Path) -> Similarity | None:
    settings = read_json(folder / SETTINGS)
    if settings.get("model_type") == MULTI_VECTOR:
        return "maxsim"
    return next((ours for ours, theirs in NAMES.items() if settings.get("similarity_fn_name") == theirs), None)
