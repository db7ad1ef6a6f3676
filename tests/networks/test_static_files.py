"""Folders with one vector a token: those of Model2Vec and sentence-transformers are read, and both read ours."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from kdspec.api.kinds.model import KeptProjection, ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.static_embeddings import StaticTextModel
from kdspec.diagnostics.fault import Fault
from kdspec.networks import static_files
from kdspec.testing import tiny

TEXTS = ["a good film", "it is awful!", "£ unknown £", "x", "", "a good film about nothing in particular, " * 3]
MODEL2VEC = importlib.util.find_spec("model2vec") is not None
with_model2vec = pytest.mark.skipif(not MODEL2VEC, reason="model2vec is not installed")


def model(tmp_path, name="student", **parameters):
    """A static model that is built, its context and its tokenizer."""
    component = StaticTextModel(**parameters)
    context = ModelContext(name=name, folder=tmp_path, models={name: component}, head=Head(kind="embedding"))
    return component, context, component.tokenizer(context)


def vectors(tmp_path, texts=TEXTS, **parameters):
    component, context, tokenizer = model(tmp_path, **parameters)
    with torch.no_grad():
        return component.build(context)(**_rows(tokenizer, texts))["embedding"].numpy()


def _rows(tokenizer, texts):
    rows = tokenizer(texts, padding=True, return_tensors="pt")
    return {name: rows[name] for name in ("input_ids", "attention_mask")}


def saved(tmp_path, projected=None, **parameters):
    """A folder as a run saves it, and the vectors of the network before it is saved."""
    tiny(tmp_path / "tiny")
    component, context, tokenizer = model(tmp_path, tokenizer="./tiny", width=6, **parameters)
    if projected is not None:
        context = replace(context, projection=KeptProjection(6, projected))
    module = component.build(context)
    if module.weights is not None:
        torch.nn.init.uniform_(module.weights, 0.5, 2)
    with torch.no_grad():
        found = module(**_rows(tokenizer, TEXTS))["embedding"].numpy()
    (tmp_path / "saved").mkdir()
    component.save(module, tmp_path / "saved", context)
    return tmp_path / "saved", found


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_sentence_transformers_gives_the_same_vectors(normalize, weights, tmp_path):
    folder, mine = saved(tmp_path, normalize=normalize, weights=weights)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    if not normalize:  # it counts unknown tokens, whose vector is 0
        mine, theirs = mine[[0, 1, 3, 4, 5]], theirs[[0, 1, 3, 4, 5]]
    np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-6)


@with_model2vec
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_model2vec_gives_the_same_vectors(normalize, weights, tmp_path):
    from model2vec import StaticModel

    folder, mine = saved(tmp_path, normalize=normalize, weights=weights)
    np.testing.assert_allclose(StaticModel.from_pretrained(folder).encode(TEXTS), mine, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weights", [False, True])
def test_a_projection_is_saved_as_part_of_the_vectors(weights, tmp_path):
    folder, mine = saved(tmp_path, weights=weights, projected=9)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert theirs.shape == (len(TEXTS), 9)
    np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-6)
    np.testing.assert_allclose(vectors(tmp_path, path="./saved"), mine, rtol=0, atol=1e-6)
    component, context, tokenizer = model(tmp_path, tokenizer="./tiny", width=6, weights=weights)
    module = component.build(replace(context, projection=KeptProjection(6, 9)))
    component.load(module, folder)
    with torch.no_grad():
        np.testing.assert_allclose(module(**_rows(tokenizer, TEXTS))["embedding"].numpy(), mine, rtol=0, atol=1e-6)


def test_what_is_saved_is_as_model2vec_reads_it(tmp_path):
    folder, mine = saved(tmp_path)
    configuration = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (configuration["model_type"], configuration["normalize"], configuration["max_length"]) == (
        "model2vec",
        True,
        None,
    )
    assert (tokenizer.truncation, tokenizer.padding) == (None, None)
    table = load_file(folder / "model.safetensors")["embeddings"].numpy()
    assert len(table) == tokenizer.get_vocab_size()
    ids = tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    mean = table[ids].mean(0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), mine[0], rtol=0, atol=1e-6)
    assert not table[:5].any()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_of_sentence_transformers_is_read(normalize, nested, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny(tmp_path / "tiny"))
    torch.manual_seed(0)
    modules = [StaticEmbedding(tokenizer, embedding_dim=5), *([Normalize()] if normalize else [])]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save(str(tmp_path / "there"), create_model_card=False)
    if nested:
        (inner := tmp_path / "there" / "0_StaticEmbedding").mkdir()
        for name in ("model.safetensors", "tokenizer.json"):
            (tmp_path / "there" / name).rename(inner / name)
        listed = json.loads((tmp_path / "there" / "modules.json").read_text())
        listed[0]["path"] = inner.name
        (tmp_path / "there" / "modules.json").write_text(json.dumps(listed))
    np.testing.assert_allclose(vectors(tmp_path, path="./there"), theirs.encode(TEXTS), rtol=0, atol=1e-6)


def folder_of_model2vec(tmp_path, **changes):
    """A folder as Model2Vec writes it after vocabulary quantization."""
    there = tmp_path / "there"
    tokenizer = AutoTokenizer.from_pretrained(tiny(tmp_path / "tiny"))
    there.mkdir()
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = None
    backend.save(str(there / "tokenizer.json"))
    torch.manual_seed(1)
    tokens = len(tokenizer)
    tensors = {
        "embeddings": torch.randn(20, 5),
        "weights": torch.rand(tokens),
        "mapping": torch.randint(20, (tokens,)),
    } | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, there / "model.safetensors")
    (there / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True, "max_length": None}))
    return there


@with_model2vec
@pytest.mark.parametrize(
    "tensors", [{}, {"mapping": None, "weights": None, "embeddings": torch.linspace(-1, 1, 545).sin().reshape(109, 5)}]
)
def test_a_folder_of_model2vec_is_read(tensors, tmp_path):
    from model2vec import StaticModel

    there = folder_of_model2vec(tmp_path, **tensors)
    np.testing.assert_allclose(
        vectors(tmp_path, path="./there"), StaticModel.from_pretrained(there).encode(TEXTS), rtol=0, atol=1e-6
    )


def test_a_mapping_and_weights_are_multiplied_into_the_vectors(tmp_path):
    there = folder_of_model2vec(tmp_path)
    tensors = load_file(there / "model.safetensors")
    component, context, tokenizer = model(tmp_path, path="./there")
    module = component.build(context)
    row = tokenizer("a", add_special_tokens=False)["input_ids"][0]
    expected = tensors["embeddings"][tensors["mapping"][row]].float() * tensors["weights"][row]
    torch.testing.assert_close(module.embeddings.weight[row].detach(), expected)
    assert (component.facts(context).layers, component.facts(context).width) == (0, 5)
    assert component.weight_files(context) == (there / "model.safetensors",)


def test_a_head_is_new_where_the_folder_has_none_and_kept_where_it_has_that_one(tmp_path):
    folder_of_model2vec(tmp_path)
    initialised = []
    component, context, _ = model(tmp_path, path="./there")
    head = Head(kind="sequence_classification", labels=("no", "yes"))
    of_classes = ModelContext(
        name="student", folder=tmp_path, models={"student": component}, head=head, on_initialised=initialised.append
    )
    module = component.build(of_classes)
    assert initialised == [{"head.weight", "head.bias"}]
    (tmp_path / "saved").mkdir()
    component.save(module, tmp_path / "saved", of_classes)
    again, context, _ = model(tmp_path, path="./saved")
    assert again.build(context).head is None
    of_classes = ModelContext(
        name="student", folder=tmp_path, models={"student": again}, head=head, on_initialised=initialised.append
    )
    assert torch.equal(again.build(of_classes).head.weight, module.head.weight)
    assert initialised[-1] == frozenset()
    facts = again.facts(of_classes)
    assert (facts.classes, facts.labels) == (2, ("no", "yes"))


def _write(name, value):
    return lambda there: (there / name).write_text(value if isinstance(value, str) else json.dumps(value))


STATIC = {"type": "sentence_transformers.models.StaticEmbedding", "path": "."}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_write("config.json", {"network": "bigru", "format": 1}), "has a `bigru`, and no `static`"),
        (_write("modules.json", [STATIC, {"type": "sentence_transformers.models.Dense"}]), "has a `Dense` behind"),
        (_write("modules.json", [{"type": "sentence_transformers.models.Transformer"}]), "has a `Transformer`, and no"),
        (_write("modules.json", [STATIC | {"path": "../tiny"}]), "names `../tiny`, which is not in the folder"),
        (_write("modules.json", []), "has a ``, and no vectors"),
        (_write("modules.json", "{"), "`modules.json` cannot be read"),
        (_write("model.safetensors", "{"), "cannot be read: it has no header"),
        (_write("tokenizer.json", "{"), "cannot be read: it is not JSON"),
        (lambda there: (there / "tokenizer.json").unlink(), "has no `tokenizer.json`"),
        (lambda there: (there / "model.safetensors").unlink(), "has no `model.safetensors`"),
        (
            lambda there: save_file({"a.weight": torch.ones(2, 2)}, there / "model.safetensors"),
            "has no vectors of tokens",
        ),
        (lambda there: save_file({"embeddings": torch.ones(2, 2)}, there / "model.safetensors"), "109 tokens, and"),
    ],
)
def test_a_folder_without_vectors_of_tokens_is_a_fault(change, message, tmp_path):
    there = folder_of_model2vec(tmp_path)
    change(there)
    with pytest.raises(Fault, match=message) as caught:
        static_files.read(there)
    assert (caught.value.code, caught.value.at) == ("KD503", ("path",))
    assert static_files.look(there) is None


@pytest.mark.parametrize("nested", [False, True])
def test_all_that_is_read_of_a_folder_is_part_of_what_a_run_is(nested, tmp_path):
    there = folder_of_model2vec(tmp_path)
    inner = there
    if nested:
        (inner := there / "0_StaticEmbedding").mkdir()
        for name in ("model.safetensors", "tokenizer.json"):
            (there / name).rename(inner / name)
        (there / "config.json").unlink()
    (there / "modules.json").write_text(json.dumps([STATIC | {"path": inner.name if nested else "."}]))
    component, context, _ = model(tmp_path, path="./there")
    read = {file for each in component.read_files(context) for file in each.files}
    configuration = set() if nested else {there / "config.json"}
    assert read == {there / "modules.json", inner / "tokenizer.json", *configuration}
    assert component.weight_files(context) == (inner / "model.safetensors",)
    assert component.tokenizer_id(context) is not None
    assert list(component.check(context)) == []
