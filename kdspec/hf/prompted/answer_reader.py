"""A causal language model as a classifier: the probabilities of the answers to a prompt."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TREES = frozenset({"gpt2", "gpt_neox", "llama", "mistral", "olmo", "olmo2", "phi", "qwen2", "qwen3", "smollm3"})
"""Families that read a tree of prompts as they read each prompt alone: positions and mask are taken as given, attention has
no window, and the logits are a linear layer of the last states. `tests/hf/prompted` compares the two for each."""
_AT_ONCE = 256
"""Places of which the probabilities of all tokens are in memory at once."""
_PROMPTS = 32
"""Prompts of a batch where each is read alone."""


@dataclass(frozen=True)
class Answers:
    """How the scores of the answers become logits of classes."""

    classes: int
    orders: int
    """In how many orders the options are listed."""
    content_free: Mapping[str, Tensor] | None = None
    """Rows without content, whose mean probabilities are the prior that is taken off; None for none."""
    digest: str = ""
    """A checksum of the question."""


class AnswerReader(nn.Module):
    """Asks a causal language model, and returns the log-probabilities of the classes, in float32.

    The prompts of a row are a tree of tokens (`TokenTree`) that is read in one pass, in which what they begin with is
    computed once; what all rows of a batch begin with, once for the batch. A family that is not in `TREES` reads each
    prompt alone, padded on the right.

    The log-probability of an answer is the sum of those of its tokens. They are normalised over the options, averaged over
    the orders, and normalised again. With a prior, the log of its mean over rows without content is taken off before
    (contextual calibration, Zhao et al. 2021, https://arxiv.org/abs/2102.09690).

    Args:
        model: the language model.
        answers: how its answers are read.
        shapes: whether only the shapes of the output matter: values are then not those of the answers.
    """

    def __init__(self, model: PreTrainedModel, answers: Answers, *, shapes: bool = False) -> None:
        super().__init__()
        self.model, self.answers, self.shapes = model, answers, shapes
        self.config = model.config
        self.as_tree = _reads_trees(model.config)
        self._prior: Tensor | None = None

    def extra_repr(self) -> str:
        """What its answers depend on besides the language model and the rows."""
        free = self.answers.content_free
        prior = None if free is None else hashlib.sha256(repr([free[key].tolist() for key in sorted(free)]).encode())
        made = f"classes={self.answers.classes}, orders={self.answers.orders}, question={self.answers.digest}"
        return made if prior is None else f"{made}, prior={prior.hexdigest()[:16]}"

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, ends: Tensor, answer_ids: Tensor, answers_at: Tensor
    ) -> dict[str, Tensor]:
        """`logits`, `(rows, classes)`, whose softmax are the probabilities of the classes.

        Args:
            input_ids: `(rows, length)`, the tokens of the trees.
            attention_mask: 0 at padding.
            ends: where what follows each token ends; 0 at padding.
            answer_ids: `(rows, tokens * orders * classes)`, the tokens of the answers.
            answers_at: the place of the token before each; -1 for none.
        """
        if self.shapes:
            states = self.model.base_model(input_ids=input_ids, attention_mask=attention_mask)[0]
            return {"logits": self.model.get_output_embeddings()(states[:, -1])[:, : self.answers.classes].float()}
        logits = self._by_order(input_ids, attention_mask, ends, answer_ids, answers_at).mean(1)
        if self.answers.content_free is not None:
            logits = logits - self._of_no_content(self.answers.content_free, input_ids.device)
        return {"logits": logits.log_softmax(-1)}

    def _of_no_content(self, rows: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """`(classes,)`, the log-probabilities of the mean answer to rows without content, averaged over the orders."""
        if self._prior is None:
            given = {name: tensor.to(device) for name, tensor in rows.items()}
            self._prior = self._by_order(**given).exp().mean(0).log().mean(0)
        return self._prior.to(device)

    def _by_order(
        self, input_ids: Tensor, attention_mask: Tensor, ends: Tensor, answer_ids: Tensor, answers_at: Tensor
    ) -> Tensor:
        """`(rows, orders, classes)`, the log-probabilities of the options in each order."""
        read = self._in_trees if self.as_tree else self._alone
        found = read(input_ids, attention_mask, ends, answer_ids, answers_at)
        scored = found.reshape(len(input_ids), -1, self.answers.orders, self.answers.classes).sum(1)
        return scored.log_softmax(-1)

    def _in_trees(
        self, input_ids: Tensor, attention_mask: Tensor, ends: Tensor, answer_ids: Tensor, answers_at: Tensor
    ) -> Tensor:
        """`(rows, answers)`, the log-probability of each token of an answer, 0 where there is none."""
        rows, length = input_ids.shape
        places = torch.arange(length, device=input_ids.device)
        sees = (places <= places[:, None]) & (places[:, None] < ends[:, None, :])  # (rows, length, length)
        positions = (sees.sum(-1) - 1).clamp(min=0)
        sees |= torch.eye(
            length, dtype=torch.bool, device=input_ids.device
        )  # padding sees itself, else it has no softmax
        body, shared = self.model.base_model, self._shared(input_ids, attention_mask, ends)
        first, known = [], None
        if shared:
            found = body(input_ids=input_ids[:1, :shared], use_cache=True)
            first, known = [found.last_hidden_state.expand(rows, -1, -1)], found.past_key_values
            known.batch_repeat_interleave(rows)
        rest = body(
            input_ids=input_ids[:, shared:], attention_mask=self._mask(sees[:, None, shared:]),
            position_ids=positions[:, shared:], past_key_values=known, use_cache=known is not None,
        )  # fmt: skip
        states = torch.cat([*first, rest.last_hidden_state], 1).flatten(0, 1)
        return self._read(states, answer_ids, answers_at, length)

    def _shared(self, input_ids: Tensor, attention_mask: Tensor, ends: Tensor) -> int:
        """The number of tokens that all prompts of all rows begin with."""
        if len(input_ids) < 2:
            return 0
        whole = ends == attention_mask.sum(-1, keepdim=True)
        alike = (input_ids == input_ids[:1]).all(0) & whole.all(0)
        return min(int(alike.long().cumprod(0).sum()), input_ids.shape[1] - 1)

    def _mask(self, sees: Tensor) -> Tensor:
        """The mask as the implementation of attention takes it."""
        if self.model.config._attn_implementation == "sdpa":  # noqa: SLF001 - the library has no other name for it
            return sees
        dtype = self.model.dtype
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)

    def _read(self, states: Tensor, answer_ids: Tensor, answers_at: Tensor, length: int) -> Tensor:
        """The log-probabilities of tokens, of the states `(rows * length, width)` at the places before them."""
        rows = torch.arange(len(answer_ids), device=states.device)[:, None]
        there = answers_at >= 0
        nodes, which = torch.unique((rows * length + answers_at)[there], return_inverse=True)
        tokens, found = answer_ids[there], torch.zeros(answer_ids.shape, device=states.device)
        head, made = self.model.get_output_embeddings(), torch.zeros(len(tokens), device=states.device)
        for start in range(0, len(nodes), _AT_ONCE):
            logits = head(states[nodes[start : start + _AT_ONCE]]).float()
            inside = (which >= start) & (which < start + _AT_ONCE)
            at = which[inside] - start
            made[inside] = logits[at, tokens[inside]] - logits.logsumexp(-1)[at]
        found[there] = made
        return found

    def _alone(
        self, input_ids: Tensor, attention_mask: Tensor, ends: Tensor, answer_ids: Tensor, answers_at: Tensor
    ) -> Tensor:
        """As `_in_trees`, with each prompt on its own."""
        del attention_mask
        found = torch.zeros(answer_ids.shape, device=input_ids.device)
        asked = []
        for row, (tokens, behind, at) in enumerate(zip(input_ids, ends, answers_at, strict=True)):
            for place in sorted({*at.tolist()} - {-1}):
                before = (torch.arange(len(tokens), device=tokens.device) <= place) & (behind > place)
                asked.append((tokens[before], row, place))
        asked.sort(key=lambda each: len(each[0]))
        for start in range(0, len(asked), _PROMPTS):
            some = asked[start : start + _PROMPTS]
            longest = len(some[-1][0])
            ids = torch.stack([pad(tokens, (0, longest - len(tokens))) for tokens, _, _ in some])
            lengths = torch.tensor([len(tokens) for tokens, _, _ in some], device=ids.device)
            mask = (torch.arange(longest, device=ids.device) < lengths[:, None]).long()
            logits = self._last(ids, mask, lengths - 1)
            for each, (_, row, place) in zip(logits.log_softmax(-1), some, strict=True):
                here = answers_at[row] == place
                found[row, here] = each[answer_ids[row, here]]
        return found

    def _last(self, ids: Tensor, mask: Tensor, last: Tensor) -> Tensor:
        """`(prompts, vocabulary)`, the logits at the last token of each prompt."""
        kept, which = torch.unique(last, return_inverse=True)
        chosen = (
            {"logits_to_keep": kept} if "logits_to_keep" in inspect.signature(self.model.forward).parameters else {}
        )
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **chosen).logits
        return logits[torch.arange(len(ids), device=ids.device), which if chosen else last].float()


def _reads_trees(config: Any) -> bool:
    """Whether a model is of `TREES`, and none of its layers has a window."""
    written = config.to_dict()
    windows = written.get("sliding_window") is not None and written.get("use_sliding_window", True)
    full = all(kind == "full_attention" for kind in written.get("layer_types") or ())
    known = config._attn_implementation in ("sdpa", "eager")  # noqa: SLF001 - the library has no other name for it
    return config.model_type in TREES and full and not windows and known
