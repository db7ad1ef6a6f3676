"""Layer maps: the teacher layer that each student layer is matched with."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import LayerMap
from kdspec.api.spec.bounds import MOST_LAYERS, LayerIndex
from kdspec.diagnostics.fault import Fault

LayerPairs = list[tuple[int, int]]


class Explicit(LayerMap):
    """Explicit pairs, teacher first: `layers: {0: 0, 4: 1, 8: 2}` is short for it.

    The numbers are indices into the feature. In `hidden` 0 is the embedding output and n the last of n layers; in
    `attention` 0 is the first layer. Negative ones count from the end.
    """

    name = "explicit"
    as_written = True

    pairs: dict[LayerIndex, LayerIndex] = Field(min_length=1)
    """Teacher layer: student layer."""

    def to_plain(self) -> dict[int, int]:
        return dict(self.pairs)

    def build(self, context: BuildContext) -> Callable[[int, int], LayerPairs]:
        del context
        pairs = list(self.pairs.items())
        # Negative indices count from the end of the feature; the plan resolves them when it knows its length.
        return lambda _teacher, _student: pairs.copy()


class Uniform(LayerMap):
    """All student layers with evenly spaced teacher layers up to the last; embedding outputs with each other.

    Student layer i of S is matched with teacher layer i T/S, rounded to the nearest (a half upwards): 12 layers to 3 are
    0→0, 4→1, 8→2, 12→3, and 12 to 5 are 0→0, 2→1, 5→2, 7→3, 10→4, 12→5. The maps of TinyBERT and TextBrewer.
    """

    name = "uniform"

    def build(self, context: BuildContext) -> Callable[[int, int], LayerPairs]:
        del context

        def pairs(teacher: int, student: int) -> LayerPairs:
            _refuse_deeper(teacher, student)
            return [(0, 0), *(((2 * i * teacher + student) // (2 * student), i) for i in range(1, student + 1))]

        return pairs


class Last(LayerMap):
    """All student layers with the last teacher layers in order: 12 layers to 3 are 10→1, 11→2, 12→3.

    The embedding output is not matched.
    """

    name = "last"

    def build(self, context: BuildContext) -> Callable[[int, int], LayerPairs]:
        del context

        def pairs(teacher: int, student: int) -> LayerPairs:
            _refuse_deeper(teacher, student)
            return [(teacher - student + i, i) for i in range(1, student + 1)]

        return pairs


class First(LayerMap):
    """All student layers with the first teacher layers in order; embedding outputs with each other.

    12 layers to 3 are 0→0, 1→1, 2→2, 3→3.
    """

    name = "first"

    def build(self, context: BuildContext) -> Callable[[int, int], LayerPairs]:
        del context

        def pairs(teacher: int, student: int) -> LayerPairs:
            _refuse_deeper(teacher, student)
            return [(i, i) for i in range(student + 1)]

        return pairs


class Skip(LayerMap):
    """All student layers with every k-th teacher layer: 12 layers to 5 are 2→1, 4→2, 6→3, 8→4, 10→5.

    The embedding output is not matched, nor are the teacher's last layers if k does not divide its number of layers.
    After PKD-Skip, Sun et al. 2019 (https://arxiv.org/abs/1908.09355), which also omits the student's last layer.
    """

    name = "skip"

    step: int | None = Field(default=None, ge=1, le=MOST_LAYERS)
    """k. Default: the teacher's number of layers divided by the student's, rounded down."""

    def build(self, context: BuildContext) -> Callable[[int, int], LayerPairs]:
        del context

        def pairs(teacher: int, student: int) -> LayerPairs:
            _refuse_deeper(teacher, student)
            step = self.step or teacher // max(student, 1)
            if step * student > teacher:
                raise Fault(
                    "KD301",
                    f"a step of {step} through {teacher} teacher layers gives fewer than {student} student layers",
                    ("step",),
                    help=f"{teacher // student} is the largest step that fits",
                )
            return [(step * i, i) for i in range(1, student + 1)]

        return pairs


def _refuse_deeper(teacher: int, student: int) -> None:
    if student > teacher:
        raise Fault(
            "KD301",
            f"the student has {student} layers, more than its teacher's {teacher}",
            help="write explicit pairs: `layers: {teacher: student, ...}`",
        )


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The layer maps."""
    return [Explicit, Uniform, Last, First, Skip]
