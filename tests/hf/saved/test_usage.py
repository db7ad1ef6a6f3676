"""The code that is shown for a model folder works with transformers as it is installed."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from kdspec.hf.saved.usage import PIPELINES, library, pipeline_tag, usage
from kdspec.testing import tiny


def folder_of(path, config, *, tokenizer=True):
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    if tokenizer:
        (path / "tokenizer_config.json").touch()
    return path


@pytest.mark.parametrize(
    ("config", "tokenizer", "told"),
    [
        (None, False, None),
        ("{", False, None),
        ("[]", False, None),
        ({"architectures": ["BertModel"]}, True, "import AutoModel, AutoTokenizer"),
        ({"architectures": ["BertForTokenClassification"]}, False, "AutoModelForTokenClassification"),
        ({"architectures": ["BertForTokenClassification"]}, True, "pipeline('token-classification', model='here'"),
        ({"architectures": ["BertForQuestionAnswering"]}, True, '"some question", "some text"'),
        (
            {"architectures": ["BertForSequenceClassification"], "problem_type": "regression"},
            True,
            'function_to_apply="none"',
        ),
        ({"architectures": ["X"], "auto_map": {"AutoModel": "a.B"}}, True, "AutoModel.from_pretrained('here')"),
        ({"model_type": "bert"}, False, "AutoModel"),
    ],
)
def test_a_folder_is_used_with_its_pipeline_or_its_class(tmp_path, config, tokenizer, told):
    code = usage(folder_of(tmp_path, config, tokenizer=tokenizer), "here")
    assert code is None if told is None else told in code


def test_a_folder_that_gives_vectors_is_opened_with_sentence_transformers(tmp_path):
    folder = folder_of(tmp_path, {"architectures": ["BertModel"]})
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    assert "model = SentenceTransformer('here')" in usage(folder, "here")
    assert pipeline_tag(folder) == "sentence-similarity"


@pytest.mark.parametrize(
    ("network", "task", "modules", "told", "tag"),
    [
        ("bigru", "regression", False, '["logits"]', None),
        ("bigru", "embedding", False, '["embedding"]', None),
        ("static", "regression", True, '["logits"]', None),
        ("static", "embedding", True, "SentenceTransformer('here')", "sentence-similarity"),
    ],
)
def test_a_small_network_is_opened_with_kdspec_unless_its_vectors_are_all_of_it(
    tmp_path, network, task, modules, told, tag
):
    folder = folder_of(tmp_path, {"network": network, "task": task})
    if modules:
        (folder / "modules.json").write_text("[]", encoding="utf-8")
    assert told in usage(folder, "here")
    assert pipeline_tag(folder) == tag


@pytest.mark.slow
@pytest.mark.parametrize(
    ("auto", "problem"),
    [
        (AutoModelForSequenceClassification, None),
        (AutoModelForSequenceClassification, "regression"),
        (AutoModelForSequenceClassification, "multi_label_classification"),
        (AutoModelForTokenClassification, None),
    ],
)
def test_the_code_runs(tmp_path, auto, problem, capsys):
    folder = tmp_path / "model"
    tiny(folder)
    config = AutoConfig.from_pretrained(folder, num_labels=1 if problem == "regression" else 3, problem_type=problem)
    auto.from_config(config).save_pretrained(folder)
    exec(usage(folder, str(folder)), {})
    assert capsys.readouterr().out


def test_the_tags_are_those_of_the_hub():
    from transformers.pipelines import PIPELINE_REGISTRY

    assert set(PIPELINES.values()) - set(PIPELINE_REGISTRY.supported_tasks) == {"question-answering"}


def test_a_folder_without_a_head_has_no_tag(tmp_path):
    assert pipeline_tag(folder_of(tmp_path, {"architectures": ["BertModel"]})) is None


def test_a_folder_of_sentence_transformers_is_used_with_it(tmp_path):
    encoder, reranker = tmp_path / "encoder", tmp_path / "reranker"
    for folder in (encoder, reranker):
        folder.mkdir()
    (folder_of(encoder, {"architectures": ["BertModel"]}) / "modules.json").write_text("[]")
    folder_of(reranker, {"architectures": ["BertForSequenceClassification"], "sentence_transformers": {}})

    assert "SentenceTransformer('here')" in usage(encoder, "here")
    assert "CrossEncoder('here')" in usage(reranker, "here")
    settings = json.dumps({"model_type": "MultiVectorEncoder"})
    (encoder / "config_sentence_transformers.json").write_text(settings)
    assert "MultiVectorEncoder('here')" in usage(encoder, "here")
    assert {library(encoder), library(reranker)} == {"sentence-transformers"}
    assert (pipeline_tag(encoder), pipeline_tag(reranker)) == ("sentence-similarity", "text-ranking")


@pytest.mark.slow
def test_the_code_for_sentence_transformers_runs(tmp_path, capsys):
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    inner, encoder, reranker = (tmp_path / name for name in ("inner", "encoder", "reranker"))
    tiny(inner)
    body = modules.Transformer(str(inner))
    pooling = modules.Pooling(body.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[body, pooling], device="cpu").save(str(encoder), create_model_card=False)
    CrossEncoder(str(inner), num_labels=1, device="cpu").save_pretrained(str(reranker))
    for folder in (encoder, reranker):
        exec(compile(usage(folder, str(folder)), "usage", "exec"), {})
    assert "tensor" in capsys.readouterr().out
