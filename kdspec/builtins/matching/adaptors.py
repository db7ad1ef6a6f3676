"""Adaptors of field paths: the location of each feature in a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import AdaptorContext, BuildContext
from kdspec.api.kinds.kinds import Adaptor
from kdspec.api.paths.field_path import FieldPath, FieldPathError


def _parsed(text: str) -> str:
    try:
        FieldPath(text)
    except FieldPathError as error:
        raise PydanticCustomError(
            "field_path",
            "{text}",
            {"text": error.message, "path": text, "offset": error.offset, "length": error.length},
        ) from None
    return text


FieldPathText = Annotated[str, AfterValidator(_parsed)]
# The tag selects one branch of the union, so that an error is reported once and not for each form.
OneOrMore = Annotated[
    Annotated[FieldPathText, Tag("path")] | Annotated[list[FieldPathText], Field(min_length=1), Tag("paths")],
    Discriminator(lambda value: "paths" if isinstance(value, list) else "path"),
]


class Paths(Adaptor):
    """Field paths by feature name; a plain mapping is short for it: `{logits: output.logits, labels: batch.labels}`.

    A path starts with `output` (what the model returned), `batch` (what it was given) or `modules["a.b"]` with `.input`
    or `.output` (what passed through a module). Names, `[0]`, `["key"]`, slices and comparisons follow:
    `output.hidden_states`, `batch.labels != -100`.
    """

    name = "paths"

    features: dict[str, OneOrMore] = Field(min_length=1)
    """Feature name: field path, or a list of them for a feature with several heads.
    The built-in distillers read `logits`, `logits_mask`, `labels`, `losses`, `inputs_mask`; matches read `hidden`,
    `attention` or any other feature."""

    def to_plain(self) -> dict[str, str | list[str]]:
        return dict(self.features)

    def feature_names(self) -> Collection[str]:
        return self.features.keys()

    def build(self, context: BuildContext) -> Mapping[str, str | list[str]]:
        del context
        return dict(self.features)


class ByTask(Adaptor):
    """The adaptor of each task, for a model with outputs for several tasks.

    `by_task: {tasks: {reviews: {logits: output.reviews, labels: batch.label}, topics: {logits: output.topics}}}`. A
    transformers model needs none: each task reads its own head.
    """

    name = "by_task"

    tasks: dict[str, Annotated[dict[str, OneOrMore], Field(min_length=1)]] = Field(
        min_length=1, examples=[{"reviews": {"logits": "output.reviews"}, "topics": {"logits": "output.topics"}}]
    )
    """The features of each task, as in `paths`."""

    def build(self, context: AdaptorContext) -> Mapping[str, str | list[str]]:
        return dict(self.tasks.get(context.task, {}))

    def tasks_named(self) -> Mapping[str, tuple[str | int, ...]]:
        return {task: ("tasks", task) for task in self.tasks}


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The adaptors."""
    return [Paths, ByTask]
