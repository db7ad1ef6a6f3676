"""Cross-encoders: scores of candidates, in folders that transformers and sentence-transformers open."""

from __future__ import annotations

import inspect

import pytest
import torch
from tiny_families import configuration, tokenizer
from transformers import AutoModelForSequenceClassification

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.pieces import PutsTogether
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.hf.scoring.pair_scorer import AutoPairScorer
from kdspec.testing.model_suite import check_model

RANKING = Head(kind="ranking")
CANDIDATES = torch.tensor([[0, 2], [1, -1]])
ASKED, FOUND = ["good film", "a b", "very dull"], ["the film was good", "c", "bad bad plot"]


def context(folder, **options):
    return ModelContext(folder=folder, name="model", head=RANKING, heads={"task": RANKING}, **options)


def both(family):
    """The library's model with a head of one number, and the cross-encoder with the same weights."""
    config = configuration(family, num_labels=1, pad_token_id=0)
    made = []
    for auto in (AutoModelForSequenceClassification, AutoPairScorer(AutoModelForSequenceClassification)):
        torch.manual_seed(0)
        made.append(auto.from_config(config).eval())
    return made


def tokens(module):
    ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0], [1, 8, 9, 2]])
    given = {"input_ids": ids, "attention_mask": (ids != 0).long(), "token_type_ids": torch.zeros_like(ids)}
    return {name: value for name, value in given.items() if name in inspect.signature(module.forward).parameters}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert", "gpt2"])
def test_the_score_of_a_candidate_is_the_logit_of_its_pair(family):
    plain, module = both(family)
    batch = tokens(module)
    with torch.no_grad():
        expected, found = plain(**batch).logits[:, 0], module(**batch, candidates=CANDIDATES)
        assert torch.equal(found.logits, expected[torch.tensor([[0, 2], [1, 0]])])
        assert torch.equal(module(**batch).answers, expected)
        together = module.put_together(module(**batch).answers, None, candidates=CANDIDATES)
    assert torch.equal(together.logits, found.logits)
    assert isinstance(module, PutsTogether)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_it_has_all_that_a_model_of_the_library_has(family):
    plain, module = both(family)
    batch = tokens(module)
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert module.base_model is getattr(module, plain.base_model_prefix)
    assert "candidates" in inspect.signature(module.forward).parameters
    module.set_attn_implementation("eager")
    found = module(**batch, candidates=CANDIDATES, output_hidden_states=True, output_attentions=True)
    assert [each.shape[:2] for each in found.hidden_states] == [(3, 4)] * 3
    assert [each.shape for each in found.attentions] == [(3, 2, 4, 4)] * 2
    module.train()
    module.activation_checkpointing_enable({"use_reentrant": False})
    module(**batch, candidates=CANDIDATES).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("written", [{"path": "./tiny"}, {"path": "./tiny", "reads": "pair"}])
def test_what_is_saved_is_loaded_bit_by_bit(tmp_path, written):
    plain, _ = both("bert")
    plain.save_pretrained(tmp_path / "tiny")
    tokenizer(tmp_path / "tiny")
    check_model(Transformers(**written), RANKING, tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("source", [{"path": "./tiny", "reads": "pair"}, {"like": "other", "reads": "pair"}])
def test_both_libraries_open_the_folder_and_give_the_same_raw_scores(tiny, source, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    made = context(tiny.parent, models={"other": Transformers(path="./tiny")})
    component, folder = Transformers(**source), tmp_path / "saved"
    module = component.build(made).eval()
    folder.mkdir()
    component.save(module, folder, made)
    batch = component.tokenizer(made)(ASKED, FOUND, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = module(**batch, candidates=CANDIDATES).answers
        plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        assert torch.allclose(plain(**batch).logits[:, 0], found, atol=1e-6)
    opened = library.CrossEncoder(str(folder), device="cpu")
    pairs = list(zip(ASKED, FOUND, strict=True))
    assert torch.allclose(opened.predict(pairs, convert_to_tensor=True), found, atol=1e-6)
    again = Transformers(path=str(folder))
    assert again.form(made) == "pair"
    with torch.no_grad():
        assert torch.equal(again.build(made).eval()(**batch).answers, found)
