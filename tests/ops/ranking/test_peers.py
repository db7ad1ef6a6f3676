"""Presets of soft labels give the numbers of the packages whose conventions they are, computed by these packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import record_peers
import torch

from kdspec.api.kinds.context import BuildContext
from kdspec.api.working.step import Features, Step
from kdspec.objectives.compat import PRESETS
from kdspec.objectives.label_terms import SoftLabels
from kdspec.ops.mean import Mean
from kdspec.testing import registry

REGISTRY = registry()
RECORDED = json.loads((Path(__file__).parent / "peers.json").read_text(encoding="utf-8"))
STUDENT, TEACHER = record_peers.inputs()
OF_PRESETS = {
    "sentence_transformers.margin_mse": ("sentence-transformers 6.2.0", "margin_mse"),
    "sentence_transformers.distill_kl": ("sentence-transformers 6.2.0", "distill_kl"),
    "pylate": ("pylate 1.6.0", "distillation"),
    "colbert": ("colbert-ai 0.2.22", "alpha 1"),
    "flag_embedding": ("flagembedding 1.4.2", "kl_div"),
}


def soft_labels(student=STUDENT, teacher=TEACHER, **settings):
    """The value of soft labels with these settings, and its gradient."""
    soft = SoftLabels.model_validate(settings, context={"registry": REGISTRY})
    made = soft.build(BuildContext(), ("t",))
    leaf = student.clone().requires_grad_()
    labels = torch.zeros(len(leaf), dtype=torch.long)
    step = Step(student=Features({"logits": leaf, "labels": labels}), teachers={"t": Features({"logits": teacher})})
    ((_, loss, _),) = made.losses(step)
    assert isinstance(loss, Mean)
    (gradient,) = torch.autograd.grad(loss.value, leaf)
    return loss.value.item(), gradient


def test_every_preset_has_a_recorded_number():
    assert {*OF_PRESETS} == {*PRESETS}


@pytest.mark.parametrize(("name", "place"), OF_PRESETS.items())
def test_a_preset_gives_the_recorded_number_of_its_package(name, place):
    package, loss = place
    assert soft_labels(compat=name)[0] == pytest.approx(RECORDED[package][loss], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (
            {"loss": "kl", "temperature": {"student": 0.05, "teacher": 2.0}},
            ("sentence-transformers 6.2.0", "distill_kl at 0.05 and 2"),
        ),
        ({"loss": "kl", "temperature": {"teacher": 1 / record_peers.ALPHA}}, ("colbert-ai 0.2.22", "alpha 0.5")),
    ],
)
def test_temperatures_of_the_sides_are_those_of_the_packages(settings, place):
    package, loss = place
    assert soft_labels(**settings)[0] == pytest.approx(RECORDED[package][loss], rel=1e-6)


def test_sentence_transformers_itself_gives_the_recorded_numbers():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    found = record_peers.of_sentence_transformers()
    assert found == pytest.approx(RECORDED["sentence-transformers 6.2.0"], rel=1e-6)


@pytest.mark.parametrize(
    ("package", "recorded", "value"),
    [
        ("pylate", RECORDED["pylate 1.6.0"]["distillation"], record_peers.of_pylate),
        ("colbert", RECORDED["colbert-ai 0.2.22"]["alpha 1"], lambda folder: record_peers.of_colbert(folder, 1.0)),
        ("FlagEmbedding", RECORDED["flagembedding 1.4.2"]["kl_div"], record_peers.of_flag_embedding),
    ],
)
def test_a_package_that_is_installed_gives_the_recorded_number(package, recorded, value):
    module = pytest.importorskip(package, reason=f"{package} is not installed: its numbers are recorded in peers.json")
    assert value(Path(module.__file__).parents[1]) == pytest.approx(recorded, rel=1e-6)


def test_min_max_leaves_out_candidates_that_are_not_there_and_is_0_for_equal_scores():
    value, gradient = soft_labels(compat="pylate")
    wider = [torch.nn.functional.pad(each, (0, 2), value=-torch.inf) for each in (STUDENT, TEACHER)]
    found, of_wider = soft_labels(*wider, compat="pylate")
    assert found == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(of_wider, torch.nn.functional.pad(gradient, (0, 2)))
    equal, flat = soft_labels(torch.ones(4, 5), TEACHER, compat="pylate")
    assert equal == pytest.approx(soft_labels(torch.zeros(4, 5), TEACHER, loss="kl", temperature=1.0)[0], rel=1e-6)
    assert flat.isfinite().all()
