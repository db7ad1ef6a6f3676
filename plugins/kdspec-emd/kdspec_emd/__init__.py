"""Distillation by earth mover's distance between layers (BERT-EMD) as a strategy of kdspec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec import (
    Component,
    Distiller,
    Fault,
    FeatureLoss,
    Match,
    Needs,
    ObjectiveContext,
    Pair,
    Projection,
    Schedule,
    Strict,
    by_name,
    hookimpl,
)
from kdspec.objectives import label_terms
from kdspec.objectives.label_terms import HardLabels, SoftLabels

if TYPE_CHECKING:
    from torch import nn

    from kdspec import Objective

KDSPEC_API = 1


def _takes_one_layer(loss: FeatureLoss) -> FeatureLoss:
    if loss.arity != 1:
        raise PydanticCustomError(
            "two_layers", "`{loss}` takes two layers of each model, and `emd` moves single layers", {"loss": loss.name}
        )
    return loss


Cost = Annotated[FeatureLoss, AfterValidator(_takes_one_layer)]
"""A loss that takes one layer of each model."""


class Hidden(Strict):
    """Transport of hidden states, from all layers of the student to all of the teacher."""

    loss: Cost = by_name("hidden_mse")
    """The cost of moving one layer to another. Between the two embedding outputs it is a term of its own."""
    weight: Schedule = by_name(1.0)
    """Factor in the total, also of the embeddings' term: a number or a schedule."""
    projection: Projection | None = None
    """From the student's width to the teacher's, one for each layer. Default: `linear` if widths differ."""


class Attention(Strict):
    """Transport of attention maps, from all layers of the student to all of the teacher."""

    loss: Cost = by_name("attention_mse")
    """The cost of moving one layer to another. With `attention_mse` both models need the same number of heads."""
    weight: Schedule = by_name(1.0)
    """Factor in the total: a number or a schedule."""


class Adaptive(Strict):
    """Layer weights that follow the costs: after each step, layers that were cheap to move get larger weights."""

    temperature: float = Field(default=1.0, ge=1e-3, le=1e6)
    """The ratios of costs are divided by it before their softmax: the higher, the more equal the layers' weights. Greater
    than 0. The ratios are about as large as the number of layers."""


class EMD(Distiller):
    """Every layer of the student learns from every layer of the teacher, weighted by the optimal transport between them.

    `Σ F · C`: C are the losses between each layer of the student and each of the teacher, and F is the transport plan
    from the student's layer weights to the teacher's with the least cost, computed for each micro-batch. F is a constant
    in the gradient. Besides soft labels, hard labels and matches there is one term for hidden states, one for the
    embeddings, and with `attention` one for attention maps.

    All layers have equal weights unless `adaptive` is given; they then follow the costs, as in the paper.
    total = w_soft · soft + w_hidden · (Σ F C + L_embeddings) + w_attention · Σ F C + Σ_matches w · L + w_hard · hard.
    Paper: Li et al. 2020, "BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth Mover's Distance"
    (EMNLP, https://arxiv.org/abs/2010.06133). TextBrewer's `EMDDistiller` is this without `attention` and `adaptive`.
    """

    name = "emd"

    teacher: str
    """The teacher; frozen, in evaluation mode."""
    student: str
    """The model that is trained."""
    task: str | None = None
    """The task; may be left out if there is only one."""
    soft_labels: SoftLabels = by_name({})
    """Learning the teacher's logits."""
    hard_labels: HardLabels = by_name({})
    """Learning the labels."""
    hidden: Hidden = by_name({})
    """Learning the teacher's hidden states."""
    attention: Attention | None = None
    """Learning the teacher's attention. Default: it is not learnt."""
    adaptive: Adaptive | None = None
    """Layer weights that follow the costs. Default: all layers have equal weights."""
    matches: list[Match] = []
    """Further matches, as in `general`."""

    @model_validator(mode="after")
    def _something_moves(self) -> Self:
        if not any(self._moved()):
            raise PydanticCustomError(
                "nothing_moves", "neither hidden states nor attention have a weight, so no layer moves", {}
            )
        return self

    def needs(self) -> Needs:
        """The needs of label terms and matches, and all layers of the moved features."""
        soft, hard = self.soft_labels, self.hard_labels
        labels = label_terms.needs(self.student, [self.teacher], self.task, soft=soft, hard=hard, matches=self.matches)
        lists = frozenset(feature for feature, _ in self._moved())
        embeddings = (self._embeddings(),) if "hidden" in lists else ()
        task = replace(
            labels,
            reads={model: features | lists for model, features in labels.reads.items()},
            unlabelled=True,
            matches=(*embeddings, *labels.matches),
        )
        return Needs(student=self.student, tasks=(task,))

    def build(self, context: ObjectiveContext) -> Objective:
        """The objective; raises KD301 if a number of layers is unknown, and KD309 if the numbers of heads differ."""
        from kdspec_emd.objective import Emd, Transport

        inner = label_terms.objective(context, [self.teacher], soft=self.soft_labels, hard=self.hard_labels)
        moved = dict(self._moved())
        self._check_heads(context)
        layers = {model: self._layers(context, model) for model in (self.student, self.teacher)}
        projections: list[nn.Module] = []
        if "hidden" in moved:  # the first match is that of the embeddings, and all hidden states have one width
            made = (context.matches[0].build_projection(context) for _ in range(layers[self.student]))
            projections = [projection for projection in made if projection is not None]
        return Emd(
            inner,
            [
                Transport(
                    feature=feature,
                    loss=how.loss.build(context),
                    weight=how.weight.build(context),
                    skip=1 if feature == "hidden" else 0,
                )
                for feature, how in moved.items()
            ],
            teacher=(self.teacher, layers[self.teacher]),
            student=(self.student, layers[self.student]),
            projections=projections,
            options={} if self.hidden.projection is None else self.hidden.projection.optimizer_options(),
            temperature=None if self.adaptive is None else self.adaptive.temperature,
        )

    def _embeddings(self) -> Match:
        """The match of the embedding outputs, like that of any two layers; kdspec fills in its widths."""
        both = Pair(teacher=[0], student=[0])
        how = self.hidden
        return Match(feature="hidden", loss=how.loss, pairs=[both], weight=how.weight, projection=how.projection)

    def _moved(self) -> Iterator[tuple[Literal["hidden", "attention"], Hidden | Attention]]:
        if not self.hidden.weight.always_zero():
            yield "hidden", self.hidden
        if self.attention is not None and not self.attention.weight.always_zero():
            yield "attention", self.attention

    def _layers(self, context: ObjectiveContext, model: str) -> int:
        layers = context.facts[model].layers
        if layers is None:
            message = f"`emd` needs the number of layers of `{model}`, which is unknown"
            raise Fault("KD301", message, help="a model of a plugin returns it in `facts`")
        return layers

    def _check_heads(self, context: ObjectiveContext) -> None:
        heads = context.facts[self.student].heads, context.facts[self.teacher].heads
        if self.attention is not None and self.attention.loss.same_heads and None not in heads and heads[0] != heads[1]:
            name = self.attention.loss.name
            message = f"`{name}` compares head by head, but the student has {heads[0]} and the teacher {heads[1]}"
            help_ = "use a loss over all heads together, such as `attention_mse_sum`"
            raise Fault("KD309", message, ("attention", "loss"), help=help_)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The strategy."""
    return [EMD]
