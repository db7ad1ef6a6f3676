"""The adaptor of field paths: where in a model's outputs and inputs each feature is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from kdspec import fieldpath
from kdspec.component import Component
from kdspec.context import BuildContext
from kdspec.hookspecs import hookimpl
from kdspec.kinds import Adaptor


def _parsed(text: str) -> str:
    try:
        fieldpath.parse(text)
    except fieldpath.FieldPathError as error:
        raise PydanticCustomError(
            "field_path",
            "{text}",
            {"text": error.message, "path": text, "offset": error.offset, "length": error.length},
        ) from None
    return text


FieldPath = Annotated[str, AfterValidator(_parsed)]
# The tag chooses one branch, so that a mistake is told once and not once for each form.
OneOrMore = Annotated[
    Annotated[FieldPath, Tag("path")] | Annotated[list[FieldPath], Field(min_length=1), Tag("paths")],
    Discriminator(lambda value: "paths" if isinstance(value, list) else "path"),
]


class Paths(Adaptor):
    """Field paths by feature name; a plain mapping stands for it: `{logits: output.logits, labels: batch.labels}`.

    A path begins with `output` (what the model returned), `batch` (what it was given) or `modules["a.b"]` with `.input`
    or `.output` (what passed through a module). Names, `[0]`, `["key"]`, slices and comparisons follow:
    `output.hidden_states`, `batch.labels != -100`.
    """

    name = "paths"

    features: dict[str, OneOrMore] = Field(min_length=1)
    """Feature name: field path, or a list of them for a feature with several heads.
    The names that the built-in distillers read are `logits`, `logits_mask`, `labels`, `losses`, `inputs_mask`, and in
    matches `hidden`, `attention` or any other."""

    def to_plain(self) -> dict[str, str | list[str]]:
        return dict(self.features)

    def build(self, context: BuildContext) -> Mapping[str, str | list[str]]:
        del context
        return dict(self.features)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Hand over the adaptor."""
    return [Paths]
