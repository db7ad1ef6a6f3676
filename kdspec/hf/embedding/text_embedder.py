"""A transformers model with a readout: one vector a text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from kdspec.diagnostics.fault import Fault
from kdspec.hf.embedding import sentence_folder
from kdspec.hf.embedding.readout import BODY, CODE, DenseLayer, Readout
from kdspec.networks.pooling import pooled


@dataclass
class EmbedderOutput(ModelOutput):  # type: ignore[misc]  # the library has no types
    """What a `TextEmbedder` returns."""

    embedding: Tensor | None = None
    """`(rows, width)`, one vector a text."""
    last_hidden_state: Tensor | None = None
    """`(rows, length, hidden)`, one vector a token, before the pooling."""
    hidden_states: tuple[Tensor, ...] | None = None
    """The embedding output and one tensor a layer, if they are asked for."""
    attentions: tuple[Tensor, ...] | None = None
    """One tensor a layer, `(rows, heads, length, length)`, if they are asked for."""


class DenseModule(nn.Module):
    """A linear layer, and an activation or none.

    Args:
        width: of its input.
        layer: its settings.
        dtype: of its weights; by default torch's.
    """

    def __init__(self, width: int, layer: DenseLayer, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(width, layer.width, bias=layer.bias, dtype=dtype)
        self.activation = getattr(nn, layer.activation or "Identity")()
        self.layer = layer

    def forward(self, vectors: Tensor) -> Tensor:
        """`(rows, width)` to `(rows, its width)`."""
        return cast("Tensor", self.activation(self.linear(vectors)))


class TextEmbedder(PreTrainedModel):  # type: ignore[misc]  # the library has no types
    """A transformers model without a head, and a readout: pooling, dense layers, normalisation.

    Its configuration is that of the body, so that layers, attention and checkpointing are handled as those of any model.
    It is saved as the body alone, with the dense layers in folders of their own, as sentence-transformers has them.

    Args:
        body: the model, which returns a `last_hidden_state`.
        readout: how a vector is made of it.
    """

    compares: Literal["cosine", "dot", "maxsim"] = "cosine"
    """How its vectors are compared, in the words of sentence-transformers; `maxsim`: those of tokens."""
    base_model_prefix = BODY
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, body: PreTrainedModel, readout: Readout) -> None:
        super().__init__(body.config)
        self.body, self.readout = body, readout
        widths = [hidden_width(body.config), *(layer.width for layer in readout.dense)]
        # Not cast afterwards: a rehearsal's tensors cannot be.
        self.dense = nn.ModuleList(
            DenseModule(width, layer, body.dtype) for width, layer in zip(widths, readout.dense, strict=False)
        )
        for dense in self.layers:
            body._init_weights(dense.linear)  # noqa: SLF001 - as the library draws a new layer of this family
        self.tie_weights()
        self._takes = frozenset(inspect.signature(body.forward).parameters)

    @property
    def layers(self) -> list[DenseModule]:
        """The dense layers, in order."""
        return [cast("DenseModule", dense) for dense in self.dense]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> EmbedderOutput:
        """The vectors of texts; all tensors are `(rows, length)`."""
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids if "token_type_ids" in self._takes else None,
            "output_hidden_states": output_hidden_states,
            "output_attentions": output_attentions,
            "use_cache": False if "use_cache" in self._takes else None,
        }
        found = self.body(**{name: value for name, value in given.items() if value is not None})
        return EmbedderOutput(
            embedding=self.read(found.last_hidden_state, attention_mask),
            last_hidden_state=found.last_hidden_state,
            hidden_states=found.get("hidden_states"),
            attentions=found.get("attentions"),
        )

    def read(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """One vector a text, `(rows, width)`, of the vectors of its tokens.

        Args:
            states: `(rows, length, hidden)`.
            mask: `(rows, length)`, 0 at padding.
        """
        vectors = self.vectors(states, mask)
        return functional.normalize(vectors, dim=-1) if self.readout.normalize else vectors

    def vectors(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """What `read` returns, before it is normalised."""
        vectors = pooled(states, mask, self.readout.pooling)
        for dense in self.layers:
            vectors = dense(vectors)
        return vectors

    def extra_repr(self) -> str:
        """What is no module of its own, since caches tell models by their text."""
        return f"pooling={self.readout.pooling}, normalize={self.readout.normalize}"

    def freeze_unread(self) -> None:
        """Freeze the body's pooler, whose output nothing reads: it is saved with the body, for those who load it."""
        for name, parameter in self.body.named_parameters():
            if name.startswith("pooler."):
                parameter.requires_grad_(False)

    def load_dense(self) -> set[str]:
        """Load the dense layers that have weights in a folder; the names of the parameters that have none.

        Raises:
            Fault: KD503 if a file has other tensors than the layer.
        """
        fresh: set[str] = set()
        for number, dense in enumerate(self.layers):
            if dense.layer.folder is None:
                fresh |= {f"dense.{number}.{name}" for name, _ in dense.named_parameters()}
            else:
                _load(dense, dense.layer.folder)
        return fresh

    def saved_layers(self) -> list[DenseModule]:
        """The dense layers as they are saved: where the readout folds, the last one is multiplied into the one before."""
        if not self.readout.folds:
            return self.layers
        *rest, own, last = self.layers
        made = DenseModule(own.linear.in_features, replace(own.layer, width=last.layer.width, bias=True))
        with torch.no_grad():
            outer, inner = last.linear.weight.double(), own.linear.weight.double()
            made.linear.weight.copy_(outer @ inner)
            made.linear.bias.copy_(
                last.linear.bias.double() + (outer @ own.linear.bias.double() if own.layer.bias else 0)
            )
        return [*rest, made.to(own.linear.weight.dtype)]

    def load_folder(self, folder: Path) -> None:
        """Load the weights that `save_embedder` has written; a layer that was folded is one from then on."""
        from safetensors.torch import load_model

        load_model(self.body, str(folder / "model.safetensors"))
        places = sentence_folder.dense_folders(folder)
        if self.readout.folds and len(places) < len(self.layers):
            layers = [dense.to(self.body.device) for dense in self.saved_layers()]
            self.dense = nn.ModuleList(layers)
            self.readout = replace(self.readout, dense=tuple(dense.layer for dense in layers), folds=False)
        for dense, place in zip(self.layers, places, strict=True):
            _load(dense, place)


@dataclass(frozen=True)
class AutoEmbedder:
    """Makes text embedders, in the place of a class of the library that makes models.

    Args:
        body: the library's class that makes the body.
        readout: the readout.
        make: makes an embedder of the body and the readout.
    """

    body: Any
    readout: Readout
    make: Callable[[Any, Readout], TextEmbedder] = TextEmbedder

    def from_config(self, config: Any, **options: Any) -> TextEmbedder:
        """A new one."""
        return self.make(self.body.from_config(config, **options), self.readout)

    def from_pretrained(self, place: str, **options: Any) -> tuple[TextEmbedder, Mapping[str, Collection[Any]]]:
        """One with the weights of a folder or the hub, and the library's report under the names of its parameters."""
        body, report = self.body.from_pretrained(place, **options)
        module = self.make(body, self.readout)
        fresh = module.load_dense()
        inside = {f"{BODY}.{name}" for name in report["missing_keys"] if "pooler" not in name.split(".")}
        return module, {
            "missing_keys": inside | fresh,
            "mismatched_keys": {(f"{BODY}.{name}", *rest) for name, *rest in report["mismatched_keys"]},
            "unexpected_keys": report["unexpected_keys"],
        }


def hidden_width(config: Any) -> int:
    """The width of a body's token states."""
    return int(config.get_text_config().hidden_size)


def _load(dense: DenseModule, folder: Path) -> None:
    found = load_file(str(folder / "model.safetensors"))
    own = dense.state_dict()
    for name in sorted(own.keys() | found.keys()):
        has, needs = (list(tensors[name].shape) if name in tensors else "not there" for tensors in (found, own))
        if has != needs:
            message = f"`{name}` in `{folder.name}/model.safetensors` is {has}, and {needs} by the configuration"
            raise Fault(CODE, message, ("path",))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[name])
