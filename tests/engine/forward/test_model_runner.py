"""A model's forward pass: its inputs, the captured features, and the errors of field paths without a value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner, frozen

GENERAL = "stages.distil.distiller.general"
INPUTS = {"ids": torch.tensor([[1, 2, 3], [4, 5, 0]]), "mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
BATCH = Batch(inputs={"": INPUTS})


def feature(name, *paths, layers=None, several=False):
    return Feature(name=name, paths=tuple(parse(path) for path in paths), several=several, layers=layers)


@pytest.fixture
def forward(session):
    """Makes a forward pass of the toy student with features by name and path."""
    plan = session().plan

    def made(*features, module=None, chooses=False):
        module = module or plan.spec.models["student"].build(plan.context("student"))
        named = {found.name: found for found in features}
        return ModelRunner(ModelFindings(plan.spec, "student", "rows"), module, named, chooses=chooses)

    return made


def refused(call):
    with pytest.raises(FindingError) as caught:
        call()
    return caught.value.findings


def test_a_module_called_with_keywords_is_captured_too(forward):
    """As transformers' layers are; its inputs are then its keywords in their order."""
    made = forward(
        feature("first", 'modules["layers.0"].input[0]'),
        feature("last", 'modules["layers.1"].output'),
        feature("inner", 'modules["layers.1.linear"].output'),
        feature("positional", 'modules["layers.1.linear"].input[0]'),
        feature("hidden", "output.hidden", layers=(0, 1, 2)),
    )
    found = made(BATCH)
    assert torch.equal(found["first"], found["hidden"][0])
    assert torch.equal(found["positional"], found["hidden"][1])
    assert torch.equal(found["last"], found["hidden"][2])
    assert torch.equal(torch.tanh(found["inner"]), found["hidden"][2])
    assert found["last"].requires_grad


def test_no_hook_stays(forward):
    made = forward(feature("last", 'modules["layers.1"].output'))
    made(BATCH)
    made.module.forward = lambda **inputs: 1 / 0
    refused(lambda: made(BATCH))
    assert not any(module._forward_hooks for module in made.module.modules())


def test_layers_are_counted_from_0_and_only_those_used_are_kept(forward):
    found = forward(feature("hidden", "output.hidden", layers=(0, 2)))(BATCH)
    assert found["hidden"].keys() == {0, 2}


def test_a_list_of_paths_has_layers_and_heads(forward):
    layers = ('modules["layers.0"].output', 'modules["layers.1"].output')
    made = forward(
        feature("hidden", *layers, layers=(1,), several=True),
        feature("logits", "output.heads[0]", "output.heads[1]", several=True),
        feature("whole", "output.hidden", layers=(2,)),
    )
    found = made(BATCH)
    assert torch.equal(found["hidden"][1], found["whole"][2])
    assert torch.equal(found.logits[0].dense() * 2, found.logits[1].dense())


def test_wrong_paths_are_reported_for_every_feature_at_once(forward):
    made = forward(
        feature("logits", "output.logit"), feature("hidden", "output.hiden"), feature("labels", "batch.label")
    )
    found = refused(lambda: made(BATCH))
    assert [d.code for d in found] == ["KD303"] * 3
    assert (found[0].at, found[0].part) == (("adaptors", "student", "logits"), (6, 12))
    assert "the path is `output.logit`" in found[0].notes


def test_the_place_of_a_bad_path_is_within_the_text(launch):
    (found,) = refused(lambda: launch("adaptors.teacher.logits=output.heads[3].x"))
    assert found.at == ("adaptors", "teacher", "logits")
    assert found.part == (len("output.heads"), len("output.heads[3]"))


def test_a_module_that_is_not_there_is_named_with_the_nearest(forward):
    (found,) = refused(lambda: forward(feature("last", 'modules["layers.2"].output'))(BATCH))
    assert found.code == "KD303"
    assert "no module `layers.2`" in found.message
    assert found.help in {"did you mean `layers.1`?", "did you mean `layers.0`?"}


def test_a_module_that_is_never_called_has_no_output(forward):
    module = nn.Module()
    module.spare = nn.Linear(1, 1)
    module.forward = lambda ids, mask: {"logits": ids}
    (found,) = refused(lambda: forward(feature("spare", 'modules["spare"].output'), module=module)(BATCH))
    assert found.code == "KD303"


def test_layers_that_the_model_does_not_return_are_out_of_range(forward):
    (found,) = refused(lambda: forward(feature("hidden", "output.hidden", layers=(1, 3)))(BATCH))
    assert found.code == "KD301"
    assert "returned 3 of `hidden`; there is no index 3" in found.message


@pytest.mark.parametrize("path", ["output.logits", "output.nothing"])
def test_a_tensor_has_no_layers(path, forward):
    """Though index 1 of a tensor is something, too: a row."""
    module = nn.Module()
    module.forward = lambda ids, mask: {"logits": torch.zeros(2, 3), "nothing": None}
    (found,) = refused(lambda: forward(feature("hidden", path, layers=(1,)), module=module)(BATCH))
    assert found.code == "KD303"
    assert "has no layers to select" in found.message or "`nothing`" in found.message


class Listening(nn.Module):
    """Keeps the names of what it was given."""

    def __init__(self, takes=("ids", "mask", "label")):
        super().__init__()
        self.given = []
        self.takes = takes

    def forward(self, ids, mask=None, label=None):
        self.given.append(
            {name for name, value in (("ids", ids), ("mask", mask), ("label", label)) if value is not None}
        )
        return {"logits": ids, "loss": ids}


def test_labels_are_given_only_where_the_models_own_loss_is_read(forward):
    batch = Batch(inputs={"": INPUTS}, targets={"label": torch.tensor([0, 1])})
    without, with_loss = Listening(), Listening()
    forward(feature("logits", "output.logits"), module=without)(batch)
    forward(feature("losses", "output.loss"), module=with_loss)(batch)
    assert without.given == [{"ids", "mask"}]
    assert with_loss.given == [{"ids", "mask", "label"}]


def test_a_tokenizers_columns_are_left_out_where_a_model_does_not_take_them(forward):
    module = Listening()
    forward(feature("logits", "output.logits"), module=module, chooses=True)(
        Batch(inputs={"": {**INPUTS, "types": torch.zeros(2)}})
    )
    assert module.given == [{"ids", "mask"}]


class TwoTexts(nn.Module):
    """Notes what it is given of fields with names."""

    def forward(self, query, document, queries):
        self.given = {"query": query, "document": document, "queries": queries}
        return {"logits": query["ids"].float()}


@pytest.mark.parametrize("chooses", [False, True])
def test_a_field_with_a_name_reaches_the_model_as_one_mapping(forward, chooses):
    module = TwoTexts()
    named = {"query": INPUTS, "document": {"ids": torch.ones(5, 2)}, "": {"queries": torch.zeros(2)}}
    found = forward(feature("logits", "output.logits"), module=module, chooses=chooses)(Batch(inputs=named))
    assert {name: list(module.given[name]) for name in ("query", "document")} == {
        "query": ["ids", "mask"],
        "document": ["ids"],
    }
    assert torch.equal(found["logits"].dense(), INPUTS["ids"].float())


def test_written_columns_that_a_model_does_not_take_are_an_error(forward):
    made = forward(feature("logits", "output.logits"), module=Listening())
    (found,) = refused(lambda: made(Batch(inputs={"": {**INPUTS, "types": torch.zeros(2)}})))
    assert found.code == "KD502"
    assert found.notes == ("its forward takes `ids`, `mask`, `label`",)


def test_an_exception_of_a_model_is_a_finding_about_it(forward):
    module = nn.Module()
    module.forward = lambda ids, mask: 1 / 0
    made = forward(feature("logits", "output.logits"), module=module)
    (found,) = refused(lambda: made(BATCH))
    assert found.code == "KD506"
    assert found.message == "model `student` raised ZeroDivisionError: division by zero"
    assert found.at == ("models", "student", "toy")


def test_an_exception_of_a_model_is_the_cause_of_the_finding(forward):
    module = nn.Module()
    module.forward = lambda ids, mask: 1 / 0
    with pytest.raises(FindingError) as caught:
        forward(feature("logits", "output.logits"), module=module)(BATCH)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_frozen_restores_the_former_mode():
    module = nn.Sequential(nn.Dropout(), nn.Linear(1, 1))
    module.train()
    with frozen(module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
    assert all(part.training for part in module.modules())
    assert torch.is_grad_enabled()
    module.eval()
    with pytest.raises(KeyError), frozen(module):
        raise KeyError
    assert not module.training


def test_teachers_are_frozen_and_the_student_trains(launch, monkeypatch, toys):
    """Also after an evaluation, and where an earlier stage has trained the teacher."""
    modes = []
    original = ModelRunner.__call__

    def spying(self, batch):
        learning = any(p.requires_grad for p in self.module.parameters())
        every = {module.training for module in self.module.modules()}
        modes.append((self.name, every == {True}, every == {False}, torch.is_grad_enabled(), learning))
        return original(self, batch)

    monkeypatch.setattr(ModelRunner, "__call__", spying)
    launch(
        "tasks.rows.tensors.data.ragged.validation=3",
        "stages={fine_tune: {distiller: {supervised: {model: teacher}}, training: {steps: 2}},"
        " distil: {distiller: {general: {teacher: teacher, student: student}},"
        " training: {steps: 3, evaluate: {every_steps: 1}}}}",
        "adaptors.teacher.labels=batch.label",
    )
    trained = [mode for mode in modes if mode[3]]
    assert {mode[0] for mode in trained} == {"teacher", "student"}
    assert all(all_training and learning for _, all_training, _, _, learning in trained)
    assert all(all_evaluating for _, _, all_evaluating, grad, _ in modes if not grad)
    assert [mode[0] for mode in trained] == ["teacher"] * 2 + ["student"] * 3
    taught = [mode for mode in modes if mode[0] == "teacher" and not mode[3]]
    assert len([mode for mode in taught if not mode[4]]) >= 3
