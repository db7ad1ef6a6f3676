"""Presets of soft labels are plain settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kdspec.objectives.compat import PRESETS, contradicted
from kdspec.objectives.label_terms import SoftLabels
from kdspec.testing import check, registry

REGISTRY = registry()
SPEC = """\
kdspec: 1
name: search
tasks:
  search: {ranking: {data: {json: {train: train.jsonl}}, documents: documents, positives: best}}
  rows: {sequence_classification: {data: {json: {train: train.jsonl}}, text: query, label: best}}
models:
  teacher: {transformers: {config: {model_type: bert}}}
  student: {transformers: {like: teacher}}
stages:
  teach:
    distiller: {supervised: {model: teacher, task: search}}
    training: {steps: 1, evaluate: null}
  distil:
    distiller: {general: {teacher: teacher, student: student, task: search, soft_labels: {weight: 1}}}
    training: {steps: 1, evaluate: null}
"""
GENERAL = "stages.distil.distiller.general"


def labels(**settings):
    return SoftLabels.model_validate(settings, context={"registry": REGISTRY})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_settings_that_it_stands_for(name):
    made, plain = labels(compat=name), labels(**PRESETS[name])
    assert made == plain.model_copy(update={"compat": name})
    assert labels(**made.model_dump(by_alias=True)) == made  # as a plan writes it
    assert labels(compat=name, weight=0.5).weight.value == 0.5
    assert labels(compat=name, **PRESETS[name]) == made


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("colbert", {"loss": "ce"}, "loss"),
        ("colbert", {"loss": {"kl": {}}}, None),
        ("colbert", {"temperature": 2}, "temperature"),
        ("colbert", {"temperature": 1}, None),
        ("pylate", {"min_max": False}, "min_max"),
        ("flag_embedding", {"temperature": 0.02}, "temperature"),
        ("flag_embedding", {"temperature": {"student": 0.02}}, None),
        ("sentence_transformers.margin_mse", {"loss": "mse"}, "loss"),
    ],
)
def test_a_setting_that_contradicts_the_preset_is_refused_at_its_key(name, settings, key):
    assert contradicted(name, settings) == key
    if key is None:
        labels(compat=name, **settings)
        return
    with pytest.raises(ValidationError) as caught:
        labels(compat=name, **settings)
    [error] = caught.value.errors()
    assert error["loc"] == (key,)
    assert f"`compat: {name}` sets `{key}` to another value" in error["msg"]


def found(tmp_path, *sets):
    (tmp_path / "train.jsonl").write_text('{"query": "a", "documents": ["b", "c"], "best": "b"}\n')
    return [(each.code, each.message, each.help) for each in check(SPEC, folder=tmp_path, sets=sets).diagnostics]


@pytest.mark.parametrize("setting", ["compat=pylate", "min_max=true"])
def test_presets_are_for_scores(setting, tmp_path):
    sets = (f"{GENERAL}.soft_labels.{setting}", f"{GENERAL}.task=rows", "stages.teach.distiller.supervised.task=rows")
    key = setting.partition("=")[0]
    told = f"`{key}` is for scores of candidates; task `rows` has classes of which one is right"
    assert ("KD313", told, "leave it out") in found(tmp_path, *sets)


def test_flag_embedding_has_hard_labels(tmp_path):
    preset = f"{GENERAL}.soft_labels.compat=flag_embedding"
    [told] = [each for each in found(tmp_path, preset) if "FlagEmbedding" in each[1]]
    assert (told[0], told[2]) == ("KD305", "write `hard_labels: {weight: 1}`")
    assert not [e for e in found(tmp_path, preset, f"{GENERAL}.hard_labels={{weight: 1}}") if "FlagEmbedding" in e[1]]
