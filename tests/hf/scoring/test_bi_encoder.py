"""Bi-encoders: scores of candidates from vectors of texts, each encoded once, in folders of sentence-transformers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.pieces import PutsTogether
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.hf.saved.usage import usage
from kdspec.ops.ranking.label_losses import scores_between
from kdspec.testing.model_suite import check_model

RANKING = Head(kind="ranking")
QUERIES, CANDIDATES = torch.tensor([1, 0, 1]), torch.tensor([[0, 2], [1, -1], [2, 1]])
ASKED, FOUND = ["good film", "a b c d"], ["the film was good", "c", "bad bad plot"]


@pytest.fixture
def made(tiny):
    """A bi-encoder of the tiny model, its inputs and its context."""

    def build(**settings):
        component = Transformers(path="./tiny", reads="each", **settings)
        context = ModelContext(folder=tiny.parent, name="model", head=RANKING, heads={"task": RANKING})
        tokenize = component.tokenizer(context)
        fields = {
            name: dict(tokenize(texts, padding=True, return_tensors="pt"))
            for name, texts in (("query", ASKED), ("document", FOUND))
        }
        inputs = {**fields, "queries": QUERIES, "candidates": CANDIDATES}
        return component, component.build(context).eval(), inputs, context

    return build


def alone(module, fields):
    """The answers for each text alone, and which of them are of tokens."""
    with torch.no_grad():
        return [
            module(**{key: value[number : number + 1] for key, value in tokens.items()}).answers[0]
            for tokens in fields
            for number in range(len(tokens["input_ids"]))
        ]


@pytest.mark.parametrize("settings", [{}, {"similarity": "dot", "scale": 2}, {"readout": {"dense": [6]}}])
def test_scores_are_similarities_of_the_vectors_of_single_texts(made, settings):
    _, module, inputs, _ = made(**settings)
    with torch.no_grad():
        found = module(**inputs)
    vectors = torch.stack(alone(module, (inputs["query"], inputs["document"])))
    if settings.get("similarity") != "dot":
        vectors = functional.normalize(vectors, dim=-1)
    scores = vectors[:2] @ vectors[2:].T * settings.get("scale", 20)
    expected = torch.stack([scores[query][row.clamp(min=0)] for query, row in zip(QUERIES, CANDIDATES, strict=True)])
    assert torch.allclose(found.logits, expected, atol=1e-4)
    assert found.embedding.shape == (5, vectors.shape[1])
    assert torch.equal(found.embedding, torch.cat([found.query_embedding, found.document_embedding]))


def test_each_text_of_a_batch_is_encoded_once(made, monkeypatch):
    _, module, inputs, _ = made()
    encoded = []
    plain = type(module.body).forward
    monkeypatch.setattr(
        type(module.body),
        "forward",
        lambda self, **given: encoded.append(len(given["input_ids"])) or plain(self, **given),
    )
    with torch.no_grad():
        module(**inputs)
    assert encoded == [2, 3]


@pytest.mark.parametrize("similarity", ["cos", "dot", "maxsim"])
def test_answers_of_single_texts_are_put_together_to_the_same_scores(made, similarity):
    _, module, inputs, _ = made(similarity=similarity)
    assert isinstance(module, PutsTogether)
    answers, mask = alone(module, (inputs["query"], inputs["document"])), None
    if similarity == "maxsim":
        lengths = torch.tensor([len(each) for each in answers])
        mask = torch.arange(max(lengths)) < lengths[:, None]
    answers = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True) if mask is not None else torch.stack(answers)
    with torch.no_grad():
        found, expected = module.put_together(answers, mask, **inputs), module(**inputs)
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"similarity": "maxsim"}, {"readout": {"dense": [6], "normalize": True}}])
def test_what_is_saved_is_loaded_bit_by_bit(tiny, settings):
    check_model(Transformers(path="./tiny", reads="each", **settings), RANKING, tiny.parent)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("settings", [{}, {"similarity": "dot", "readout": {"dense": [6]}}])
def test_the_folder_is_one_of_sentence_transformers_with_the_same_scores(made, settings, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    component, module, inputs, context = made(**settings)
    folder = tmp_path / "saved"
    folder.mkdir()
    component.save(module, folder, context)
    with torch.no_grad():
        found = module(**inputs)
    opened = library.SentenceTransformer(str(folder), device="cpu")
    vectors = opened.encode(ASKED, convert_to_tensor=True), opened.encode(FOUND, convert_to_tensor=True)
    assert torch.allclose(vectors[0], found.query_embedding, atol=1e-6)
    assert torch.allclose(vectors[1], found.document_embedding, atol=1e-6)
    scale = 20 if not settings else 1
    assert float(opened.similarity(*vectors)[1, 0]) * scale == pytest.approx(float(found.logits[0, 0]), abs=1e-4)
    again = Transformers(path=str(folder))
    assert again.form(context) == "each"
    with torch.no_grad():
        assert torch.equal(again.build(context).eval()(**inputs).logits, found.logits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("settings", [{}, {"readout": {"dense": [6]}}])
def test_late_interaction_is_saved_as_a_multi_vector_encoder(made, settings, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    component, module, inputs, context = made(similarity="maxsim", **settings)
    folder = tmp_path / "saved"
    folder.mkdir()
    component.save(module, folder, context)
    with torch.no_grad():
        found = module(**inputs)
    opened = library.MultiVectorEncoder(str(folder), device="cpu")
    vectors = opened.encode_query(ASKED), opened.encode_document(FOUND)
    for mine, theirs in zip((found.query_embedding, found.document_embedding), vectors, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert torch.allclose(one[: len(other)], torch.as_tensor(other), atol=1e-6)
    scores = opened.similarity(*vectors)
    assert torch.allclose(scores[1, [0, 2]], found.logits[0], atol=1e-5)
    exec(compile(usage(folder, str(folder)), "usage", "exec"), {})
    again = Transformers(path=str(folder))
    assert again.form(context) == "each"
    with torch.no_grad():
        assert torch.equal(again.build(context).eval()(**inputs).logits, found.logits)


def test_cached_vectors_depend_on_the_readout_and_not_on_the_tensors_alone(made):
    from kdspec.networks.module_digest import module_digest

    settings = ({}, {"readout": {"pooling": "first"}}, {"readout": {"normalize": True}}, {"similarity": "maxsim"})
    assert len({module_digest(made(**each)[1]) for each in settings}) == len(settings)


@pytest.mark.parametrize(
    "settings", [{}, {"similarity": "dot", "scale": 2}, {"similarity": "maxsim"}, {"similarity": "maxsim", "scale": 3}]
)
def test_products_of_the_vectors_for_other_rows_are_the_scores(made, settings):
    _, module, inputs, _ = made(**settings)
    with torch.no_grad():
        found = module(**inputs)
    mask = inputs["document"]["attention_mask"] if settings.get("similarity") == "maxsim" else None
    scores = scores_between(found.query_vectors, found.document_vectors, mask)
    expected = scores[QUERIES[:, None], CANDIDATES.clamp(min=0)]
    assert torch.allclose(found.logits[CANDIDATES >= 0], expected[CANDIDATES >= 0], atol=1e-4)
