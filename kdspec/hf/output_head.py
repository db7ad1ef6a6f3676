"""The large head of a transformers model: the linear layer that makes a logit for each token of the vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.logits import HeadPost, OutputHead


def output_head(module: nn.Module) -> OutputHead | None:
    """The linear layer that the logits come from, and what is done to them; None where there is no such layer.

    Decoders and masked language models have one, `lm_head` or `cls.predictions.decoder`, often with the weight of the
    embeddings. A quantised layer, or one of another class, is none: it does more than a product.
    """
    from torch import nn

    from kdspec.api.working.logits import OutputHead

    ask = getattr(module, "get_output_embeddings", None)  # a library's: models of other libraries do not have it
    head = None if ask is None else ask()
    if type(head) is not nn.Linear:
        return None
    path = next((name for name, inner in module.named_modules() if inner is head), None)
    return None if path is None else OutputHead(path=path, post=_post(getattr(module, "config", None)))


def _post(config: Any) -> HeadPost:
    """Scale and cap, under the names that families give them: Cohere, Granite, and Gemma."""
    from kdspec.api.working.logits import HeadPost

    scale = getattr(config, "logit_scale", None)
    divided = getattr(config, "logits_scaling", None)
    cap = getattr(config, "final_logit_softcapping", None)
    factor = float(scale) if isinstance(scale, (int, float)) else 1.0
    return HeadPost(scale=factor / float(divided) if divided else factor, soft_cap=float(cap) if cap else None)
