"""Text embedders: built by the model `transformers`, saved and opened again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.testing.model_suite import check_model

EMBEDDING = Head(kind="embedding")
ROWS = {
    "input_ids": torch.tensor([[2, 4, 5, 6, 3], [2, 7, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


def context(folder, **models):
    return ModelContext(folder=folder, name="model", head=EMBEDDING, heads={"task": EMBEDDING}, models=models)


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
@pytest.mark.parametrize("rest", [{}, {"normalize": True}, {"dense": [6, 5], "normalize": True}])
def test_what_is_saved_is_loaded_bit_by_bit(tiny, pooling, rest):
    check_model(Transformers(path="./tiny", readout={"pooling": pooling, **rest}), EMBEDDING, tiny.parent)


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
@pytest.mark.slow
@pytest.mark.parametrize("rest", [{}, {"normalize": True}, {"dense": [6, 5]}, {"dense": [6], "normalize": True}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_gives_the_same_vectors(tiny, pooling, rest, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    component = Transformers(path="./tiny", readout={"pooling": pooling, **rest})
    made = context(tiny.parent)
    module, folder = component.build(made).eval(), tmp_path / "saved"
    folder.mkdir()
    component.save(module, folder, made)
    texts = ["the film was good", "bad plot", "a b c d e f g very dull"]
    batch = component.tokenizer(made)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = module(**batch).embedding
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.shape[1] == component.facts(made).embedding


def test_padding_does_not_matter(tiny):
    for pooling in ("mean", "first", "last", "max"):
        module = Transformers(path="./tiny", readout={"pooling": pooling}).build(context(tiny.parent)).eval()
        with torch.no_grad():
            both, alone = module(**ROWS).embedding, module(ROWS["input_ids"][1:, :3], ROWS["attention_mask"][1:, :3])
        assert torch.allclose(both[1:], alone.embedding, atol=1e-6)


def test_a_student_like_another_has_its_readout(tiny):
    teacher = Transformers(path="./tiny", readout={"pooling": "max", "normalize": True, "dense": [6]})
    student = Transformers(like="teacher", config={"num_hidden_layers": 1}, initialize={"layers": [3]})
    made = context(tiny.parent, teacher=teacher, student=student)
    assert student.facts(made).embedding == 6
    module = teacher.build(made)
    small = student.build(replace(made, built={"teacher": module}))
    assert (small.readout.pooling, small.readout.normalize, len(small.layers)) == ("max", True, 1)
    assert torch.equal(small.layers[0].linear.weight, module.layers[0].linear.weight)
    assert torch.equal(
        small.body.encoder.layer[0].output.dense.weight, module.body.encoder.layer[3].output.dense.weight
    )


@pytest.mark.parametrize("family", ["distilbert", "roberta", "gpt2", "modernbert", "mpnet"])
def test_other_families_give_vectors_too(family, new_model, new_tokenizer):
    folder = new_model("other", family, max_position_embeddings=64, pad_token_id=0) and new_tokenizer("other")
    check_model(Transformers(path="./other", readout={"pooling": "last"}), EMBEDDING, folder.parent)
    module = Transformers(path="./other").build(context(folder.parent)).eval()
    assert module(**ROWS, output_hidden_states=True, output_attentions=False).embedding.shape == (2, 8)
