"""What each kind of component reads when it is built."""

from __future__ import annotations

from dataclasses import fields

import pytest

import kdspec
from kdspec import BuildContext, load_registry

REGISTRY = load_registry()
READS_NOTHING_MORE = (
    "logit_loss",
    "feature_loss",
    "temperature",
    "schedule",
    "layer_map",
    "match_preset",
    "augmentation",
)
"""Kinds that are built from a plain `BuildContext`."""


@pytest.mark.parametrize("kind", READS_NOTHING_MORE)
def test_components_of_a_kind_without_a_context_of_its_own_are_built_from_the_plain_one(kind):
    built = 0
    for name in REGISTRY.names(kind):
        component = REGISTRY.get(kind, name)
        if all(not field.is_required() for field in component.model_fields.values()):
            component().build(BuildContext())
            built += 1
    assert built


def test_schedules_of_the_learning_rate_that_need_no_length_are_built_from_the_plain_one():
    for name, parameters in {"constant": {}, "exponential": {"gamma": 0.9}, "step": {"every": 3}}.items():
        assert REGISTRY.get("lr_schedule", name)(**parameters).build(BuildContext())(0) == 1.0


def test_the_plain_context_has_what_every_kind_may_read_and_no_more():
    assert [field.name for field in fields(BuildContext)] == ["folder", "seed"]


def test_each_context_is_documented():
    exported = [getattr(kdspec, name) for name in kdspec.__all__]
    contexts = [item for item in exported if isinstance(item, type) and issubclass(item, BuildContext)]
    assert len(contexts) == 10
    for item in contexts:
        assert item.__doc__
        assert item.__name__.endswith("Context")
