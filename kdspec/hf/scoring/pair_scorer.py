"""A cross-encoder: a model of the library with one class, whose logit for a pair of texts is the score."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class PairOutput(ModelOutput):  # type: ignore[misc]  # the library has not typed it
    """What a cross-encoder returns."""

    logits: Tensor | None = None
    """`(rows, n)`, the scores of each row's candidates; without `candidates` `(pairs, 1)`."""
    hidden_states: tuple[Tensor, ...] | None = None
    """The embedding output and one tensor a layer, `(pairs, length, width)`, if they are asked for."""
    attentions: tuple[Tensor, ...] | None = None
    """One tensor a layer, `(pairs, heads, length, length)`, if they are asked for."""
    answers: Tensor | None = None
    """`(pairs,)`, the score of each pair."""


class PairScorer:
    """What a class of the library gets to be a cross-encoder: its tensors keep their names and their files.

    `forward` takes the tokens of all pairs of a batch, and `candidates`, `(rows, n)`: the number of the pair, or -1.
    """

    def scores_of_candidates(self, candidates: Tensor | None, *args: Any, **given: Any) -> PairOutput:
        """The scores of the candidates, or of the pairs without any."""
        found = cast("Any", super()).forward(*args, **given, return_dict=True)
        answers = found.logits[:, 0]
        return PairOutput(
            logits=found.logits if candidates is None else _placed(answers, candidates),
            hidden_states=found.get("hidden_states"),
            attentions=found.get("attentions"),
            answers=answers,
        )

    def put_together(self, answers: Tensor, mask: Tensor | None, *, candidates: Tensor, **others: Any) -> PairOutput:
        """The output for rows whose pairs have these scores, `(pairs,)`."""
        del mask, others
        return PairOutput(logits=_placed(answers, candidates), answers=answers)


def pair_scorer(module: PreTrainedModel) -> PreTrainedModel:
    """The module as a cross-encoder; its class is one of its own, of the name of the library's."""
    base = type(module)
    signature = inspect.signature(base.forward)
    taken = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    own = inspect.Parameter("candidates", inspect.Parameter.KEYWORD_ONLY, default=None)

    def forward(self: PairScorer, *args: Any, candidates: Tensor | None = None, **given: Any) -> PairOutput:
        return self.scores_of_candidates(candidates, *args, **given)

    cast("Any", forward).__signature__ = signature.replace(parameters=[*taken, own])
    # The library looks up what a model can do by the module of its class, and writes the name into its files.
    namespace = {"forward": forward, "__module__": base.__module__, "__doc__": PairScorer.__doc__}
    module.__class__ = type(base.__name__, (PairScorer, base), namespace)
    return module


def _without_activation(config: Any) -> None:
    """Have sentence-transformers give the logit itself: without this it gives its sigmoid for a head of one number."""
    written = config.to_dict().get("sentence_transformers")
    known = written if isinstance(written, dict) else {}
    config.sentence_transformers = {**known, "activation_fn": "torch.nn.modules.linear.Identity"}


def _placed(answers: Tensor, candidates: Tensor) -> Tensor:
    return answers[candidates.clamp(min=0)]


@dataclass(frozen=True)
class AutoPairScorer:
    """Makes cross-encoders, in the place of a class of the library that makes models.

    Args:
        auto: the library's class that makes models with a head of classes.
    """

    auto: Any

    def from_config(self, config: Any, **options: Any) -> PreTrainedModel:
        """A new one."""
        _without_activation(config)
        return pair_scorer(self.auto.from_config(config, **options))

    def from_pretrained(self, place: str, **options: Any) -> tuple[PreTrainedModel, Any]:
        """One with the weights of a folder or the hub, and the library's report."""
        _without_activation(options["config"])
        module, report = self.auto.from_pretrained(place, **options)
        return pair_scorer(module), report
