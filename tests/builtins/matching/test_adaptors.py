"""The adaptor of field paths."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.matching.adaptors import Paths

FEATURES = {
    "logits": ["output.start_logits", "output.end_logits"],
    "hidden": "output.hidden_states",
    "pooled": 'modules["bert.pooler"].output',
    "labels_mask": "batch.labels != -100",
}


def errors(features):
    with pytest.raises(ValidationError) as caught:
        Paths.model_validate({"features": features})
    return caught.value.errors()


def test_paths_are_given_back_as_written():
    assert Paths(features=FEATURES).build(BuildContext()) == FEATURES


def test_it_is_written_as_a_plain_mapping():
    assert Paths(features=FEATURES).written() == FEATURES


def test_what_is_built_belongs_to_the_caller():
    adaptor = Paths(features=FEATURES)
    adaptor.build(BuildContext()).clear()
    assert adaptor.build(BuildContext()) == FEATURES


def test_a_bad_path_is_reported_with_the_place_in_its_text():
    [error] = errors({"logits": "output.logits", "hidden": "outputs.hidden_states"})
    assert error["type"] == "field_path"
    assert error["loc"][:2] == ("features", "hidden")
    assert (error["ctx"]["offset"], error["ctx"]["length"]) == (0, len("outputs"))
    assert "`outputs`" in error["msg"]


def test_a_bad_path_in_a_list_is_reported_at_its_place():
    [error] = errors({"logits": ["output.logits", "output.."]})
    assert error["loc"][-1] == 1


@pytest.mark.parametrize("value", [3, None, [], [3], {"a": "output"}, ["output", ["output"]]])
def test_what_is_neither_a_path_nor_a_list_of_them_is_one_error(value):
    assert len(errors({"logits": value})) == 1


def test_an_adaptor_without_features_is_refused():
    assert errors({})[0]["loc"] == ("features",)
