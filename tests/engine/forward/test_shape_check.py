"""What the first look at real features finds before anything is trained, where the plan could not know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec import FeatureLoss, Model
from kdspec.diagnostics.finding import FindingError

GENERAL = "stages.distil.distiller.general"
SECRET = ("models.teacher.toy.secret=true", "models.student.toy.secret=true")


class Shaped(Model):
    """Returns features of the given shapes, with the rows as the first axis."""

    name = "shaped"
    shapes: dict[str, list[int]]
    """For each output its shape without the rows."""

    def build(self, context):
        shapes = self.shapes

        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

            def forward(self, ids, mask):
                rows = len(ids)
                made = {name: self.one * torch.ones(rows, *shape).double() for name, shape in shapes.items()}
                return {**made, "hidden": (made["layer"],) * 2, "nothing": [None, None]}

        return Module()


class TwoLayers(FeatureLoss):
    """A loss of pairs of layers that wants equal widths."""

    name = "two_layers"
    arity = 2

    def build(self, context):
        return lambda student, teacher, *, mask: sum(
            (s - t).square().mean() for s, t in zip(student, teacher, strict=True)
        )


def refused(call):
    with pytest.raises(FindingError) as caught:
        call()
    return caught.value.findings


def shaped(teacher, student):
    """Changes that give both models outputs of these shapes, and a match of the layers."""

    def one(shapes):
        pairs = {"logits": [5], "layer": [6, 4], **shapes}
        return ", ".join(f"{name}: {shape}" for name, shape in pairs.items())

    return (
        f"models={{teacher: {{shaped: {{shapes: {{{one(teacher)}}}}}}}, student: {{shaped: {{shapes: {{{one(student)}}}}}}}}}",
        f"{GENERAL}.hard_labels.weight=0",
        f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]",
    )


def test_a_projection_is_derived_from_the_widths_that_are_found(launch, same):
    """A plan for models without facts leaves the projection open."""
    open_ = launch(*SECRET, folder="open")
    known = launch(folder="known")
    assert same.bits(open_.weights, known.weights)
    assert open_.checkpoint(6).keys() == known.checkpoint(6).keys()
    equal = launch(*SECRET, "models.student.toy.width=6", folder="equal")
    assert not any("projection" in name for name in equal.checkpoint(6))


def test_differing_widths_without_a_projection(launch):
    matches = f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{3: 2}}, projection: none}}]"
    (found,) = refused(lambda: launch(*SECRET, matches))
    assert found.code == "KD302"
    assert "6" in found.help
    assert "4" in found.help


def test_layers_that_the_plan_could_not_count(launch):
    found = refused(lambda: launch(*SECRET, f"{GENERAL}.matches=[{{feature: hidden, loss: cos, layers: {{9: 2}}}}]"))
    assert [d.code for d in found] == ["KD301"]


@pytest.mark.parametrize(
    ("teacher", "student", "code"),
    [
        ({"layer": [7, 4]}, {}, "KD402"),
        ({"logits": [3]}, {}, "KD403"),
        ({"layer": [6, 4]}, {"layer": [7, 4]}, "KD402"),
        ({"layer": [2, 6, 6]}, {"layer": [3, 6, 6]}, "KD309"),
        ({"layer": [2, 6, 6]}, {"layer": [2, 6, 7]}, "KD402"),
        ({"layer": []}, {"layer": []}, "KD313"),
    ],
)
def test_shapes_that_do_not_go_together(teacher, student, code, launch):
    changes = shaped(teacher, student)
    if code == "KD309":
        changes = (
            *changes, f"{GENERAL}.matches=[{{feature: weights, loss: attention_mse, layers: {{1: 1}}}}]",
            "adaptors.teacher.weights=output.hidden", "adaptors.student.weights=output.hidden",
        )  # fmt: skip
    found = refused(lambda: launch(*changes, plugins=[Shaped]))
    assert code in [d.code for d in found]


@pytest.mark.parametrize(
    ("path", "loss", "says"),
    [
        ("output.hidden[2]", "similarity_mse", "one vector a row, (batch, width); `state` of `student` is (2, 6, 4)"),
        (
            "output.embedding",
            "hidden_mse",
            "one vector a token, (batch, length, width); `state` of `student` is (2, 4)",
        ),
    ],
)
def test_vectors_of_rows_and_of_tokens_are_told_apart_for_features_of_other_names(path, loss, says, launch):
    adaptors = [f"adaptors.{model}.state={path}" for model in ("teacher", "student")]
    (found,) = refused(lambda: launch(*adaptors, f"{GENERAL}.matches=[{{feature: state, loss: {loss}}}]"))
    assert found.code == "KD313"
    assert says in found.message


def test_the_mask_must_fit(launch):
    found = refused(lambda: launch(*shaped({"layer": [7, 4]}, {"layer": [7, 4]}), plugins=[Shaped]))
    assert [d.code for d in found] == ["KD404"]


def test_a_feature_that_is_none_cannot_be_compared(launch):
    changes = (*shaped({}, {}), "adaptors.teacher.hidden=output.nothing")
    found = refused(lambda: launch(*changes, plugins=[Shaped]))
    assert [d.code for d in found] == ["KD313"]
    assert "NoneType" in found[0].message


def test_all_errors_are_reported_at_once(launch):
    second = "{feature: other, loss: cos, layers: {0: 0}}"
    changes = (
        *shaped({"logits": [3], "layer": [6, 5]}, {}),
        f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}, projection: none}}, {second}]",
        "adaptors.teacher.other=output.nothing",
        "adaptors.student.other=output.hidden",
    )
    found = refused(lambda: launch(*changes, plugins=[Shaped]))
    assert sorted(d.code for d in found) == ["KD302", "KD313", "KD403"]
    assert all(each.at is not None for each in found)


def test_both_layers_of_a_pair_must_have_the_width(launch):
    """A projection has one width on each side."""
    changes = (
        *shaped({}, {"second": [6, 3]}),
        f"{GENERAL}.matches=[{{feature: hidden, loss: two_layers, pairs: [{{teacher: [0, 1], student: [0, 1]}}]}}]",
        "adaptors.student.hidden=[output.layer, output.second]",
    )
    found = refused(lambda: launch(*changes, plugins=[Shaped, TwoLayers]))
    assert [d.code for d in found] == ["KD302"]
