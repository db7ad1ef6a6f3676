"""The rows of a loaded head: in the task's order, or re-initialised."""

from __future__ import annotations

import pytest
import torch
import transformers

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.diagnostics.fault import Fault
from kdspec.networks.module_digest import module_digest

NAMES = {"id2label": {0: "C", 1: "A", 2: "B"}, "label2id": {"C": 0, "A": 1, "B": 2}}
MAPPING = {"C": "c", "A": "a", "B": "b"}
KINDS = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
}


def built(folder, ours, *, kind="sequence_classification", drawn=None, read_as_loaded=True, **parameters):
    """The model as a run builds it, and the parameters that were drawn."""
    context = ModelContext(
        folder=folder.parent, name="model", head=Head(kind=kind, labels=tuple(ours)), learns={"model": ("texts",)},
        read_as_loaded=read_as_loaded, on_initialised=(drawn if drawn is not None else set()).update,
    )  # fmt: skip
    return Transformers(path=folder.name, **parameters).build(context).eval()


def logits(module):
    ids = torch.tensor([[2, 5, 6, 9, 3]])
    with torch.no_grad():
        return module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert", "gpt2", "albert"]
)
def test_a_mapping_puts_the_logits_in_the_order_of_the_task(new_model, family, kind):
    changes = {"pad_token_id": 0} if family in ("gpt2", "modernbert") else {}
    changes |= {"embedding_size": 8} if family in ("albert", "electra") else {}
    folder = new_model("model", family, KINDS[kind], **NAMES, **changes)
    loaded = getattr(transformers, KINDS[kind]).from_pretrained(folder).eval()
    module = built(folder, ["a", "b", "c"], kind=kind, labels=MAPPING)
    assert torch.equal(logits(module), logits(loaded)[..., [1, 2, 0]])
    assert module.config.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert", "gpt2", "albert"])
def test_the_probabilities_of_classes_with_one_name_add_up(new_model, family, kind):
    changes = {"pad_token_id": 0} if family in ("gpt2", "modernbert") else {}
    changes |= {"embedding_size": 8} if family == "albert" else {}
    folder = new_model("model", family, KINDS[kind], **NAMES, **changes)
    loaded = logits(getattr(transformers, KINDS[kind]).from_pretrained(folder).eval())
    found = logits(built(folder, ["x", "a"], kind=kind, labels={"C": "x", "B": "x", "A": "a"}))
    assert torch.equal(found[..., 1], loaded[..., 1])
    assert torch.allclose(found.softmax(-1)[..., 0], loaded.softmax(-1)[..., [0, 2]].sum(-1), atol=1e-6)


def test_a_merged_head_has_another_digest_for_other_groups(new_model):
    """A teacher cache is not read with classes that are merged otherwise."""
    folder = new_model("model", "bert", KINDS["sequence_classification"], **NAMES)
    one = built(folder, ["x", "a"], labels={"C": "x", "B": "x", "A": "a"})
    other = built(folder, ["x", "a"], labels={"C": "x", "A": "x", "B": "a"})
    assert module_digest(one) != module_digest(other)
    again = built(folder, ["x", "a"], labels={"A": "a", "C": "x", "B": "x"})
    assert module_digest(one) == module_digest(again)


def test_the_order_of_the_mapping_and_the_spelling_of_its_names_do_not_matter(new_model):
    folder = new_model("model", "bert", KINDS["sequence_classification"], **NAMES)
    first = built(folder, ["a", "b", "c"], labels=MAPPING)
    second = built(folder, ["a", "b", "c"], labels={"b": "B", "c": "C", "a": "A"})
    assert torch.equal(logits(first), logits(second))


@pytest.mark.parametrize(("mapping", "says"), [({"C": "c", "A": "a"}, "no name for"), ({**MAPPING, "B": "x"}, "`x`")])
def test_a_mapping_that_does_not_fit_is_a_fault(new_model, mapping, says):
    folder = new_model("model", "bert", KINDS["sequence_classification"], **NAMES)
    with pytest.raises(Fault, match=says) as caught:
        built(folder, ["a", "b", "c"], labels=mapping)
    assert (caught.value.code, caught.value.at) == ("KD317", ("labels",))


def test_a_head_of_other_classes_is_drawn_anew_where_it_is_trained(new_model):
    """Its rows alone; the same ones for the same seed and name, and the body as it was loaded."""
    folder = new_model("model", "bert", KINDS["sequence_classification"], **NAMES)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    drawn = set()
    module, again = (built(folder, ["x", "y", "z"], drawn=drawn, read_as_loaded=False) for _ in range(2))
    assert drawn == {"classifier.weight", "classifier.bias"}
    assert not torch.equal(module.classifier.weight, loaded.classifier.weight)
    assert module.classifier.weight.std() < 0.1
    for (name, tensor), other in zip(module.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)
        assert name in drawn or torch.equal(tensor, loaded.state_dict()[name])


def test_a_head_of_another_kind_with_the_same_shapes_is_drawn_anew_where_it_is_trained(new_model):
    """A tagger's layer has the names and shapes of a classifier's."""
    folder = new_model("model", "bert", KINDS["token_classification"], **NAMES)
    loaded = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    drawn = set()
    module = built(folder, ["a", "b", "c"], drawn=drawn, read_as_loaded=False)
    assert "classifier.weight" in drawn
    assert not torch.equal(module.classifier.weight, loaded.classifier.weight)
    with pytest.raises(Fault, match="BertForTokenClassification"):
        built(folder, ["a", "b", "c"])


def test_a_head_that_is_not_in_the_files_is_a_fault_where_it_is_read_as_loaded(new_model):
    from safetensors.torch import load_file, save_file

    folder = new_model("model", "bert", KINDS["sequence_classification"], **NAMES)
    weights = load_file(folder / "model.safetensors")
    body = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(body, folder / "model.safetensors", {"format": "pt"})
    drawn = set()
    built(folder, ["c", "a", "b"], drawn=drawn, read_as_loaded=False)
    assert drawn == {"classifier.weight", "classifier.bias"}
    with pytest.raises(Fault, match=r"have no `classifier\.bias`") as caught:
        built(folder, ["c", "a", "b"])
    assert (caught.value.code, caught.value.at) == ("KD317", ("path",))


def test_classes_are_compared_where_the_configuration_names_no_class_of_the_library(new_model):
    """The weights have a head then, or it is drawn, as that of any body."""
    import json

    folder = new_model("model", "bert", KINDS["sequence_classification"], **NAMES)
    file = folder / "config.json"
    written = json.loads(file.read_text())
    del written["architectures"]
    file.write_text(json.dumps(written))
    with pytest.raises(Fault, match="another order"):
        built(folder, ["a", "b", "c"])
    assert built(folder, ["c", "a", "b"])
