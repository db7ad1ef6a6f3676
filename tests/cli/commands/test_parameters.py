"""`kdspec parameters`: folders, models of specs, and what is neither."""

from __future__ import annotations

import json

from transformers import AutoConfig


def folder(path):
    sizes = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    AutoConfig.for_model("bert", vocab_size=20, **sizes).save_pretrained(path)
    return path


def test_a_folder_is_shown_as_a_tree(kdspec, tmp_path):
    outcome = kdspec("parameters", str(folder(tmp_path / "net")), "--depth", "1")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[1:5]] == ["net", "embeddings", "encoder", "pooler"]
    assert "values in buffers (not trained), both included" in outcome.out


def test_json_has_all_levels_by_default(kdspec, tmp_path):
    path = str(folder(tmp_path / "net"))
    whole = json.loads(kdspec("parameters", path, "--json").out)
    weight = whole["parts"][1]["parts"][0]["parts"][0]["parts"][0]["parts"][0]["parts"][0]["parts"][0]
    assert weight == {"name": "weight", "parameters": 64, "buffers": 0, "bytes": 256}
    assert "parts" not in json.loads(kdspec("parameters", path, "--json", "--depth", "0").out)


def test_a_model_of_a_spec_has_the_head_of_its_task(kdspec, spec):
    outcome = kdspec("parameters", f"{spec()}:student")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[1].split()[0] == "student"
    assert "classifier" in outcome.out


def test_a_model_that_a_spec_lacks_is_wrong_usage(kdspec, spec):
    outcome = kdspec("parameters", f"{spec()}:studnt")
    assert outcome.code == 2
    assert "did you mean `student`?" in outcome.err


def test_a_spec_without_a_model_is_wrong_usage(kdspec, spec):
    outcome = kdspec("parameters", str(spec()))
    assert outcome.code == 2
    assert "which model of the spec?" in outcome.err


def test_errors_of_a_spec_are_reported(kdspec, spec):
    outcome = kdspec("parameters", f"{spec('kdspec: 1', 'kdspec: 2')}:student")
    assert outcome.code == 1
    assert "KD104" in outcome.err


def test_a_place_without_a_model_is_wrong_usage(kdspec, tmp_path):
    outcome = kdspec("parameters", str(tmp_path))
    assert outcome.code == 2
    assert "cannot be loaded" in outcome.err
