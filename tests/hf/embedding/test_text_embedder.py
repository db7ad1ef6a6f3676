"""Text embedders: built by the model `transformers`, saved and opened again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.engine.forward.models import checkpointing
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


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_that_of_the_body(tiny, attention):
    module = Transformers(path="./tiny", attention=attention).build(context(tiny.parent)).eval()
    assert module.config._attn_implementation == attention
    module.set_attn_implementation("eager")
    found = module(**ROWS, output_attentions=True, output_hidden_states=True)
    assert [map_.shape for map_ in found.attentions] == [(2, 2, 5, 5)] * 4
    assert len(found.hidden_states) == 5
    assert torch.equal(found.last_hidden_state, found.hidden_states[-1])


def test_what_it_saves_with_checkpointing_is_the_gradient_that_it_would_have_had(tiny):
    found = []
    for recomputes in (False, True):
        module = Transformers(path="./tiny", readout={"dense": [3]}).build(context(tiny.parent)).eval()
        if recomputes:
            checkpointing(module, "enable")()
            assert any(getattr(inner, "gradient_checkpointing", False) for inner in module.body.modules())
            module.train()
            for inner in module.modules():
                if isinstance(inner, torch.nn.Dropout):
                    inner.p = 0.0
        module(**ROWS).embedding.square().sum().backward()
        found.append([p.grad for p in module.parameters() if p.requires_grad])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


def test_every_parameter_that_trains_gets_a_gradient(tiny):
    """The pooler of the body is saved, and nothing reads it."""
    module = Transformers(path="./tiny", readout={"dense": [3]}).build(context(tiny.parent))
    module(**ROWS).embedding.sum().backward()
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert frozen == {"body.pooler.dense.weight", "body.pooler.dense.bias"}
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_the_encoder_of_an_encoder_decoder_gives_vectors(new_model, new_tokenizer):
    folder = new_model("t5", "t5", "AutoModelForTextEncoding", d_kv=4, d_ff=16, num_layers=2) and new_tokenizer("t5")
    check_model(Transformers(path="./t5"), EMBEDDING, folder.parent)
    assert Transformers(path="./t5").build(context(folder.parent))(**ROWS).embedding.shape == (2, 8)
