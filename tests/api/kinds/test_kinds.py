"""What kinds tell of a component without building it."""

from __future__ import annotations

import pytest

from kdspec import Adaptor, Dataset, Match, Schedule, Strict, Task, by_name, load_registry
from kdspec.api.kinds.parts import fields
from kdspec.api.kinds.switched_off import switched_off
from kdspec.api.spec.match import matches_of

REGISTRY = load_registry(installed=False)
CONTEXT = {"registry": REGISTRY}


def component(kind, name, **parameters):
    return REGISTRY.get(kind, name).model_validate(parameters, context=CONTEXT)


class Known(Dataset):
    """Rows of which it is known whether a split has any."""

    name = "known"
    splits: list[str] = ["train"]
    """The splits that have rows."""

    def has_split(self, split):
        return split in self.splits

    def build(self, context):
        return {}


class Unknown(Dataset):
    """Rows somewhere."""

    name = "unknown"

    def build(self, context):
        return {}


class Around(Task):
    """A task around another task, or around data sets."""

    name = "around"
    first: Dataset | None = None
    """Some rows."""
    second: Dataset | None = None
    """Others."""
    task: Task | None = None
    """Another task."""

    def build(self, context):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, None),
        ({"first": Unknown()}, None),
        ({"first": Known(splits=["train", "validation"])}, True),
        ({"first": Known()}, False),
        ({"first": Known(), "second": Known()}, False),
        ({"first": Known(), "second": Unknown()}, None),
        ({"task": Around(first=Known())}, False),
    ],
)
def test_a_task_has_the_splits_of_its_data_as_far_as_these_are_known(parts, expected):
    assert Around(**parts).has_split("validation") is expected


def test_files_have_the_splits_that_they_are_named_for():
    files = component("dataset", "csv", train=["train.csv"], test=["test.csv"])
    assert [files.has_split(split) for split in ("train", "validation", "test", "elsewhere")] == [
        True,
        False,
        True,
        False,
    ]


def test_a_task_has_the_augmentations_that_are_among_its_parameters():
    texts = {"data": {"csv": {"train": ["t.csv"]}}, "text": "text", "label": "label"}
    plain = component("task", "sequence_classification", **texts)
    augmented = component("task", "sequence_classification", **texts, augment=["short_disorder"])
    assert plain.augmentations() is None
    assert augmented.augmentations() == "augment"


def test_an_adaptor_that_is_written_as_paths_names_features_below_the_model():
    assert list(component("adaptor", "paths", features={"logits": "output.logits"}).feature_names()) == ["logits"]
    assert not list(Adaptor.feature_names(component("adaptor", "paths", features={"logits": "output.logits"})))


class Group(Strict):
    """Parameters of a term."""

    weight: Schedule = by_name(1.0)
    """Its weight."""
    matches: list[Match] = []
    """Some matches."""
    single: Match | None = None
    """Another one."""


def group(**parameters):
    return Group.model_validate(parameters, context=CONTEXT)


def test_a_weight_of_zero_switches_a_group_off():
    assert switched_off(group()) is None
    off = group(weight=0)
    assert switched_off(off) == ("weight", off.weight)


def test_matches_are_found_with_their_places():
    match = {"feature": "hidden", "loss": "cos"}
    written = group(matches=[match, match], single={**match, "loss": "hidden_mse"})
    assert [place for _, place in matches_of(written)] == [("matches", 0), ("matches", 1), ("single",)]
    assert [found for found, _ in matches_of(written)] == [*written.matches, written.single]


def test_parameters_have_the_names_that_a_spec_gives_them():
    growth = component("schedule", "linear_growth", **{"from": 0.5})
    assert dict(fields(growth))["from"] == 0.5
