"""How rows are padded for a model: the side, and a token that the model knows as padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LEFT = frozenset({"xlnet"})
"""Families that need padding on the left: their heads read the last position, whatever it holds.

All others are padded on the right: most count positions from the first one, so that padding on the left moves their tokens.
"""

COUNTED = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Families that count positions from the padding id + 1: trained position embeddings belong to that id."""


@dataclass(frozen=True, kw_only=True)
class Padding:
    """What a model asks of the padding of its rows."""

    left: bool = False
    """Whether rows are padded on the left."""
    counted: bool = False
    """Whether it counts positions from its padding id."""
    token: int | None = None
    """The id that its configuration pads with; None: not written."""
    vocabulary: int | None = None
    """Number of tokens that have embeddings; None: not written."""

    def apply(self, tokenizer: Any) -> None:
        """Set side and padding token of a tokenizer, which are also saved with it.

        The tokenizer's own padding token is kept, except where the model could not tell it from a token of the row: the
        head of a decoder reads the last token that is not the configuration's padding id.
        """
        tokenizer.padding_side = "left" if self.left else "right"
        number = next(self._suitable(tokenizer), None)
        if number is not None and number != tokenizer.pad_token_id:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number)

    def _suitable(self, tokenizer: Any) -> Iterator[int]:
        """Ids that can pad, the best first: the tokenizer's own, the configuration's, another special token."""
        special, last = set(tokenizer.all_special_ids), _last(tokenizer)
        own, theirs = tokenizer.pad_token_id, self.token if self.token in special else None
        # A model that was trained with rows that end with its padding id reads the token before.
        first = (theirs, own) if theirs is not None and (theirs == last or self.counted) else (own, theirs)
        named = (f"{name}_token" for name in ("eos", "bos", "cls", "mask", "sep", "unk"))
        known_by_name = tokenizer.special_tokens_map
        others = (tokenizer.convert_tokens_to_ids(known_by_name[name]) for name in named if name in known_by_name)
        for number in (*first, *others, *sorted(special)):
            known = number is not None and (self.vocabulary is None or number < self.vocabulary)
            if known and (number != last or number == theirs):
                yield number


def asked_by(configuration: Mapping[str, Any], beside: Mapping[str, Any]) -> Padding:
    """What a written configuration asks for; what it does not say is taken from the one beside the tokenizer."""
    written = configuration.get("model_type", beside.get("model_type"))
    family = written if isinstance(written, str) else None
    numbers = [_number(configuration, key, _number(beside, key, None)) for key in ("pad_token_id", "vocab_size")]
    return Padding(left=family in LEFT, counted=family in COUNTED, token=numbers[0], vocabulary=numbers[1])


def _number(configuration: Mapping[str, Any], key: str, otherwise: int | None) -> int | None:
    value = configuration.get(key)
    return value if type(value) is int and value >= 0 else otherwise


def _last(tokenizer: Any) -> int | None:
    """The special token with which the tokenizer ends each row; None for none."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, marks = encoded["input_ids"], encoded["special_tokens_mask"]
    return ids[-1] if marks and marks[-1] else None
