"""How one vector is made of a model's token states: in a spec, and with everything resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from kdspec.api.component import Strict
from kdspec.api.kinds.model import KeptProjection
from kdspec.api.spec.bounds import LARGEST_WIDTH, LONGEST_ROW
from kdspec.diagnostics.fault import Fault

CODE = "KD503"
"""The code of a readout that cannot be made."""

BODY = "body"
"""The name of the transformers model in the module of one with a readout."""
Pooling = Literal["mean", "first", "last", "max"]
HEADS = frozenset({"embedding"})
"""The kinds of head that are a readout."""
READING = HEADS | {"ranking"}
"""The kinds of head that have one."""


class ReadoutSettings(Strict):
    """How one vector is made of the vectors of a text's tokens, for tasks of embeddings.

    What is not written is as `modules.json` of the folder says, the file of sentence-transformers; with `like`, as that
    model has it; else the mean, not normalised.
    """

    pooling: Pooling | None = None
    """`mean` of the tokens without padding, `first` or `last` token, or `max`, the largest number in each dimension."""
    normalize: bool | None = None
    """Whether the vector is divided by its length, after dense layers."""
    dense: list[Annotated[int, Field(gt=0, le=LARGEST_WIDTH)]] | None = None
    """Widths of linear layers behind the pooling; the last one is the width of the vector. `[]`: none."""
    prompts: dict[str, str] | None = None
    """Texts before each text, by what it is: `{query: "query: ", document: "passage: "}`."""
    max_length: int | None = Field(default=None, ge=2, le=LONGEST_ROW)
    """Number of tokens to which a text is truncated, where the task has no limit. Default: as the tokenizer has it."""


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """A linear layer of a readout, with an activation or without."""

    width: int
    """Of its output."""
    activation: str = ""
    """The class in `torch.nn`, such as `Tanh`; empty: none."""
    bias: bool = True
    folder: Path | None = None
    """The folder with its weights; None: it is randomly initialised."""


@dataclass(frozen=True, kw_only=True)
class Readout:
    """A readout, resolved."""

    pooling: Pooling = "mean"
    dense: tuple[DenseLayer, ...] = ()
    normalize: bool = False
    """Whether the vector is divided by its length, behind the dense layers."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """The texts before each text, by what it is."""
    default_prompt: str | None = None
    """The name of the prompt for texts of which nothing else is said."""
    max_length: int | None = None
    """Number of tokens to which a text is truncated; None: as the tokenizer has it."""
    folds: bool = False
    """Whether the last dense layer is multiplied into the one before it when the model is saved."""

    def width(self, hidden: int | None) -> int | None:
        """The width of the vector; None if it is not known.

        Args:
            hidden: the width of the token states.
        """
        return self.dense[-1].width if self.dense else hidden

    def changed(self, written: ReadoutSettings | None) -> Readout:
        """The readout with what a spec writes.

        Raises:
            Fault: it writes dense layers, and the folder has its own.
        """
        if written is None:
            return self
        values = {
            key: value for key in ("pooling", "normalize", "max_length") if (value := getattr(written, key)) is not None
        }
        if written.prompts is not None:
            values |= {"prompts": dict(written.prompts), "default_prompt": None}
        if written.dense is not None:
            if any(layer.folder is not None for layer in self.dense):
                widths = ", ".join(str(layer.width) for layer in self.dense)
                message = f"the folder has dense layers of its own, of width {widths}"
                help_ = "remove `dense`; or make a new model `like` this one, with the layers that you want"
                raise Fault(CODE, message, ("readout", "dense"), help=help_)
            values["dense"] = tuple(DenseLayer(width=width) for width in written.dense)
        return replace(self, **values)

    def projected(self, projection: KeptProjection | None) -> Readout:
        """The readout with the layer that a plan gives it."""
        if projection is None:
            return self
        return replace(self, dense=(*self.dense, DenseLayer(width=projection.width)), folds=projection.folded)

    def foldable(self) -> bool:
        """Whether a layer behind its own could be multiplied into the last of them, which then has no activation."""
        return bool(self.dense) and not self.dense[-1].activation

    def new(self) -> Readout:
        """The readout of a new model like this one: its dense layers are randomly initialised."""
        return replace(self, dense=tuple(replace(layer, folder=None) for layer in self.dense))

    def by_use(self) -> Mapping[str, str]:
        """The prompts by what a text is; "": of texts of which nothing is said. Without empty ones.

        A folder may call that of documents `passage` or `corpus`. Version 6 of sentence-transformers reads these only where a
        folder has no `document`, and gives every folder an empty one: here the first that is not empty counts.
        """
        found = dict(self.prompts)
        other = next((text for name in ("document", "passage", "corpus") if (text := found.get(name))), "")
        found |= {"document": other, "": found.get(self.default_prompt or "", "")}
        return MappingProxyType({name: text for name, text in found.items() if text})
