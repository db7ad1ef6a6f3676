"""Vectors of single tokens, against those that Model2Vec makes of the same teacher."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from kdspec.diagnostics.fault import Fault
from kdspec.hf.embedding.readout import DenseLayer, Readout
from kdspec.hf.embedding.text_embedder import TextEmbedder
from kdspec.networks import token_vectors
from kdspec.networks.static_embeddings import StaticEmbeddings
from kdspec.testing import tiny

# By `create_embeddings`, `apply_pca(_, 4)` and `compute_weights(_, 1e-4)` of model2vec 0.10.0 for the rows of `rows_of_one`,
# with the weights of `tiny`: the tokens 0, 1 and 50 of those that texts have.
MODEL2VEC = [
    [-2.616359122e-04, -1.842727890e-04, -1.606909579e-04, 3.284163420e-05],
    [3.163046442e-04, 2.212023872e-04, 2.112437360e-04, -5.525207794e-05],
    [-5.138926756e-03, -7.738555413e-03, 4.020273512e-03, 8.049227749e-03],
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("teacher"))
    return AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_they_are_those_of_model2vec(teacher):
    module, tokenizer = teacher
    tokens = token_vectors.real_tokens(tokenizer)
    vectors = token_vectors.embedded(module, token_vectors.rows_of_one(tokenizer, tokens))
    found = token_vectors.principal(vectors, 4) * token_vectors.frequency_weights(len(tokens), 1e-4)[:, None]
    torch.testing.assert_close(found[[0, 1, 50]], torch.tensor(MODEL2VEC), rtol=1e-4, atol=1e-7)


def test_a_token_stands_between_the_special_tokens_of_a_row(teacher):
    tokenizer = teacher[1]
    assert token_vectors.rows_of_one(tokenizer, [9, 7]) == [[2, 9, 3], [2, 7, 3]]


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
def test_they_are_pooled_as_the_readout_of_the_teacher_does_and_not_normalised(pooling, teacher):
    module, tokenizer = teacher
    readout = Readout(pooling=pooling, normalize=True, dense=(DenseLayer(width=6),))
    embedder = TextEmbedder(module, readout).eval()
    rows = token_vectors.rows_of_one(tokenizer, [9, 7, 8])
    found = token_vectors.embedded(embedder, rows)
    assert found.shape == (3, 6)
    assert (found.norm(dim=1) - 1).abs().min() > 1e-3
    torch.testing.assert_close(functional.normalize(found, dim=1), embedder(torch.tensor(rows)).embedding.detach())


def test_special_and_unused_tokens_and_those_without_an_embedding_are_left_out(teacher):
    tokenizer = AutoTokenizer.from_pretrained(teacher[1].name_or_path)
    before = token_vectors.real_tokens(tokenizer)
    tokenizer.add_tokens(["[unused7]", "<unused12>", "word"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    word = tokenizer.convert_tokens_to_ids("word")
    assert token_vectors.special(tokenizer) == [0, 1, 2, 3, 4, tokenizer.convert_tokens_to_ids("<turn>")]
    assert token_vectors.real_tokens(tokenizer) == [*before, word]
    assert token_vectors.real_tokens(tokenizer, word) == before


def test_the_model_has_no_dropout_meanwhile_and_is_afterwards_as_it_was(teacher):
    module, tokenizer = teacher
    module.train()
    module.encoder.layer[0].eval()
    rows = token_vectors.rows_of_one(tokenizer, [9, 7])
    try:
        assert torch.equal(token_vectors.embedded(module, rows), token_vectors.embedded(module, rows))
        assert module.training
        assert not module.encoder.layer[0].training
    finally:
        module.eval()


def test_components_are_orthogonal_and_positive_where_they_are_largest():
    torch.manual_seed(0)
    vectors = torch.randn(50, 6) @ torch.randn(6, 6) + 3
    found = token_vectors.principal(vectors, 6)
    products = found.T @ found
    torch.testing.assert_close(products, torch.diag(products.diag()), atol=1e-3, rtol=0)
    assert products.diag().diff().le(0).all()
    assert found.gather(0, found.abs().argmax(0, keepdim=True)).gt(0).all()
    torch.testing.assert_close(token_vectors.principal(-vectors + 1, 6).abs(), found.abs(), atol=1e-4, rtol=1e-4)
    for rows, width in ((vectors, 7), (vectors[:6], 6)):
        with pytest.raises(ValueError, match="principal components"):
            token_vectors.principal(rows, width)


def test_a_frequent_token_counts_less():
    found = token_vectors.frequency_weights(3, 0.1)
    shares = torch.tensor([1 / 2, 1 / 3, 1 / 4]) / (1 / 2 + 1 / 3 + 1 / 4)
    torch.testing.assert_close(found, 0.1 / (0.1 + shares))
    assert token_vectors.frequency_weights(3, None).tolist() == [1, 1, 1]


def test_a_network_with_an_embedding_has_vectors_of_tokens_and_one_without_is_a_fault():
    module = StaticEmbeddings(vocabulary=9, embedding=4, normalize=False, weights=False, head=False, classes=0)
    assert token_vectors.embedded(module, [[3], [4]]).tolist() == module.embeddings.weight[[3, 4]].tolist()
    module.forward = lambda **inputs: {"logits": inputs["input_ids"]}
    with pytest.raises(Fault, match="has no embedding"):
        token_vectors.embedded(module, [[3], [4]])


def test_of_a_model_with_several_heads_the_one_of_an_embedding_is_taken(teacher):
    classifier = AutoModelForSequenceClassification.from_pretrained(teacher[1].name_or_path)
    embedder = TextEmbedder(classifier.bert, Readout(pooling="first"))
    several = nn.ModuleDict({"for_topics": classifier, "for_sentences": embedder})
    assert token_vectors.with_readout(several) is embedder
    assert token_vectors.with_readout(nn.ModuleDict({"for_topics": classifier})) is classifier
    assert token_vectors.with_readout(classifier) is classifier
    rows = token_vectors.rows_of_one(teacher[1], [9, 7])
    torch.testing.assert_close(token_vectors.embedded(classifier, rows), token_vectors.embedded(teacher[0], rows))
