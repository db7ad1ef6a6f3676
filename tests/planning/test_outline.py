"""A plan as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdspec.planning.outline import FORMAT, outline
from kdspec.planning.prepare import prepare
from kdspec.source.extends import compose
from kdspec.testing import registry

FOLDER = Path(__file__).parent.parent / "diagnostics"
FINE = (FOLDER / "fine.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def components():
    return registry()


@pytest.fixture
def outlined(components):
    """The outline of the valid spec with a text in it replaced."""

    def make(old="", new="", *sets):
        assert old in FINE
        document = compose(FINE.replace(old, new, 1) if old else FINE, "spec.yaml", FOLDER, sets, {})
        made = prepare(document, components)
        assert made.plan is not None, made.errors
        return outline(made.plan)

    return make


def test_it_is_json_with_its_format(outlined):
    data = outlined()
    assert data["format"] == FORMAT == 1
    assert json.loads(json.dumps(data)) == data


def test_a_value_is_written_where_the_text_has_it_and_else_a_default(outlined):
    (stage,) = outlined()["stages"]
    assert stage["training"]["epochs"] == {"value": 1.0, "origin": "written"}
    assert stage["training"]["batch_size"] == {"value": 32, "origin": "default"}
    assert stage["distiller"] == {"component": "general", "origin": "written"}


def test_a_value_of_set_is_written(outlined):
    data = outlined("", "", "stages.distil.training.batch_size=4", "seed=3")
    assert data["seed"] == {"value": 3, "origin": "written"}
    assert data["stages"][0]["training"]["batch_size"] == {"value": 4, "origin": "written"}


def test_the_parameters_of_a_component_have_origins_of_their_own(outlined):
    (stage,) = outlined("epochs: 1", "epochs: 1, optimizer: {adamw: {lr: 0.1}}")["stages"]
    optimizer = stage["training"]["optimizer"]
    assert (optimizer["component"], optimizer["origin"]) == ("adamw", "written")
    assert optimizer["parameters"]["lr"] == {"value": 0.1, "origin": "written"}
    assert optimizer["parameters"]["weight_decay"]["origin"] == "default"


def test_a_component_with_the_name_of_its_package_is_found_in_the_text(outlined):
    (stage,) = outlined("epochs: 1", "epochs: 1, optimizer: {kdspec/adamw: {lr: 0.1}}")["stages"]
    assert stage["training"]["optimizer"]["parameters"]["lr"]["origin"] == "written"


def test_a_short_form_of_a_mapping_is_a_value(outlined):
    (stage,) = outlined("epochs: 1", "epochs: 1, max_grad_norm: 0.5")["stages"]
    assert stage["training"]["max_grad_norm"] == {"value": 0.5, "origin": "written"}


def test_evaluation_is_once_an_epoch_by_the_tasks_metric_by_default(outlined):
    (stage,) = outlined()["stages"]
    evaluate = stage["training"]["evaluate"]["parameters"]
    assert evaluate["every_epochs"] == {"value": 1.0, "origin": "default"}
    assert evaluate["metric"] == {"value": None, "origin": "unknown"}


def test_evaluation_in_steps_is_not_also_in_epochs(outlined):
    (stage,) = outlined("epochs: 1", "epochs: 1, evaluate: {every_steps: 5}")["stages"]
    assert stage["training"]["evaluate"]["parameters"]["every_epochs"]["value"] is None


def test_a_match_has_a_term_for_each_pair_of_layers(outlined):
    terms = outlined()["stages"][0]["terms"]
    assert [term["name"] for term in terms] == [
        "soft_labels",
        "hard_labels",
        "hidden.hidden_mse.0-0",
        "hidden.hidden_mse.3-1",
        "hidden.hidden_mse.6-2",
    ]
    assert [term["active"] for term in terms] == [True, False, True, True, True]
    assert terms[3]["teacher"] == {"model": "teacher", "layers": [3], "width": 64}
    assert terms[3]["layers"] == {"origin": "derived"}


@pytest.mark.parametrize(
    ("layers", "origin"), [("uniform", "derived"), ("{uniform: {}}", "derived"), ("{6: 2}", "written")]
)
def test_pairs_that_a_layer_map_makes_are_derived(outlined, layers, origin):
    terms = outlined("layers: uniform", f"layers: {layers}")["stages"][0]["terms"]
    assert {term["layers"]["origin"] for term in terms if term["kind"] == "match"} == {origin}


def test_a_derived_projection_is_marked(outlined):
    narrow = "config: {num_hidden_layers: 2, hidden_size: 32}"
    terms = outlined("config: {num_hidden_layers: 2}", narrow)["stages"][0]["terms"]
    assert terms[-1]["settings"]["projection"]["component"] == "linear"
    assert terms[-1]["settings"]["projection"]["origin"] == "derived"
    assert (terms[-1]["student"]["width"], terms[-1]["teacher"]["width"]) == (32, 64)


def test_equal_widths_need_none(outlined):
    assert "projection" not in outlined()["stages"][0]["terms"][-1]["settings"]


def test_what_a_preset_holds_is_derived(outlined):
    old = "{feature: hidden, loss: hidden_mse, layers: uniform}"
    deep = "models.teacher={transformers: {config: {model_type: bert, num_hidden_layers: 12, hidden_size: 96}}}"
    shallow = "models.student.transformers.config.num_hidden_layers=3"
    terms = outlined(old, "{preset: L3_hidden_mse}", deep, shallow)["stages"][0]["terms"]
    match = next(term for term in terms if term["kind"] == "match")
    assert match["settings"]["loss"]["origin"] == "derived"
    assert match["layers"] == {"origin": "derived"}


def test_a_model_is_trained_or_frozen_in_each_stage(outlined):
    old = "stages:\n"
    more = "stages:\n  tune:\n    distiller: {supervised: {model: teacher}}\n    training: {steps: 3}\n"
    data = outlined(old, more)
    teacher, student = data["models"]
    assert teacher["stages"] == {"tune": "trained", "distil": "frozen"}
    assert student["stages"] == {"distil": "trained"}
    assert student["facts"] == {"layers": 2, "width": 64, "heads": 4, "family": "bert"}
    assert data["stages"][0]["terms"] == [
        {"name": "hard_labels", "kind": "hard_labels", "active": True, "settings": {}}
    ]


def test_it_lists_the_layers_of_a_feature_that_are_read(outlined):
    reads = outlined()["stages"][0]["reads"]
    assert reads["teacher"]["hidden"] == {"paths": ["output.hidden_states"], "layers": [0, 3, 6]}
    assert reads["student"]["logits"]["layers"] is None
