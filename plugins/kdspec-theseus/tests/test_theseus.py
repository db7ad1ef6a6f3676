"""The mixing of layers on its own, what a step does to which weights, and whole runs."""

from __future__ import annotations

import kdspec_theseus
import pytest
import torch
from kdspec_theseus.replacement import Replacement, groups, layer_lists
from safetensors.torch import load_file
from torch import nn

from kdspec.testing import check, run, tiny

SPEC = """
kdspec: 1
name: ship
tasks: {reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2}, initialize: {layers: [0, 1]}}}
stages:
  fit: {distiller: {supervised: {model: teacher}}, training: {steps: 2, batch_size: 2}}
  replace:
    distiller: {theseus: {teacher: teacher, student: student}}
    training: {steps: 4, batch_size: 2, accumulate: 2, checkpoint: {every_steps: 1}, log_every: 1}
"""
THESEUS = "stages.replace.distiller.theseus"
TRAINING = "stages.replace.training"

STOP = """
import os, signal
from kdspec import hookimpl

@hookimpl
def kdspec_observe(event, session):
    if type(event).__name__ == "StepDone" and (event.stage, event.step) == ("replace", 2):
        os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in a background job
"""


@pytest.fixture
def folder(tmp_path):
    """Four layers and four rows."""
    tiny(tmp_path / "tiny", layers=4)
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\n")
    return tmp_path


class Scale(nn.Module):
    """Multiplies, as a layer does that is called with keywords or not and gives a tuple or not."""

    def __init__(self, factor, *, plain=True):
        super().__init__()
        self.factor, self.plain = nn.Parameter(torch.tensor(float(factor))), plain

    def forward(self, hidden_states, mask=None):
        found = hidden_states * self.factor + (0 if mask is None else mask)
        return found if self.plain else (found,)


def mixing(rate, *, plain=True, students=(2.0, 3.0), teachers=(5.0, 7.0, 11.0, 13.0)):
    own = [Scale(factor, plain=plain) for factor in students]
    theirs = [Scale(factor, plain=plain).eval() for factor in teachers]
    others = [[theirs[i] for i in group] for group in groups(len(theirs), len(own))]
    made = Replacement(own, others, [])
    made.begin(rate)
    return made


def through(layers, x, **kwargs):
    for layer in layers:
        x = layer(x, **kwargs)
        x = x[0] if isinstance(x, tuple) else x
    return x


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (12, 6, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]),
        (6, 3, [[0, 1], [2, 3], [4, 5]]),
        (5, 2, [[0, 1], [2, 3, 4]]),
        (3, 3, [[0], [1], [2]]),
    ],
)
def test_groups_are_neighbours_and_cover_the_teacher(teacher, student, expected):
    assert [list(group) for group in groups(teacher, student)] == expected


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("rate", "factor"), [(1.0, 2 * 3), (0.0, 5 * 7 * 11 * 13)])
def test_at_the_ends_of_the_rate_one_of_the_models_computes(rate, factor, plain):
    layers = mixing(rate, plain=plain).layers
    assert through(layers, torch.ones(1)).item() == factor


def test_groups_are_given_what_the_layer_is_given():
    layers = mixing(0.0).layers
    x, mask = torch.ones(1), torch.ones(1)
    expected = (((1 * 5 + 1) * 7 + 1) * 11 + 1) * 13 + 1
    assert through(layers, x, mask=mask).item() == expected
    assert layers[1](layers[0](x, mask), mask).item() == expected
    assert layers[1](hidden_states=layers[0](hidden_states=x, mask=mask), mask=mask).item() == expected


def test_places_are_sampled_independently_with_the_probability_of_the_rate():
    layers = mixing(0.3).layers
    torch.manual_seed(0)
    found = [through(layers, torch.ones(1)).item() for _ in range(4000)]
    shares = {value: found.count(value) / len(found) for value in (6, 2 * 143, 35 * 3, 35 * 143)}
    expected = {6: 0.09, 2 * 143: 0.21, 35 * 3: 0.21, 35 * 143: 0.49}
    assert shares == pytest.approx(expected, abs=0.03)


def test_the_same_seed_draws_the_same():
    layers = mixing(0.5).layers
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        draws.append([through(layers, torch.ones(1)).item() for _ in range(20)])
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 1


def test_a_layer_that_is_computed_again_draws_the_same():
    """With checkpointed activations the forward pass is done once more for the gradient."""
    from torch.utils.checkpoint import checkpoint

    layers = mixing(0.5).layers
    for seed in range(10):
        torch.manual_seed(seed)
        x = torch.ones(1, requires_grad=True)
        value = checkpoint(layers[0], x, use_reentrant=False)
        value.sum().backward()
        assert x.grad.item() == value.item()


def test_in_evaluation_mode_and_after_the_end_the_student_is_itself():
    made = mixing(0.0)
    for layer in made.layers:
        layer.eval()
    assert through(made.layers, torch.ones(1)).item() == 6
    for layer in made.layers:
        layer.train()
    made.end()
    assert through(made.layers, torch.ones(1)).item() == 6
    assert not any("forward" in vars(layer) for layer in made.layers)


def test_what_is_frozen_learns_again_after_the_end():
    layer, frozen = Scale(1), nn.Parameter(torch.ones(1))
    made = Replacement([layer], [[Scale(2)]], [frozen])
    made.begin(1.0)
    made.begin(1.0)
    assert not frozen.requires_grad
    made.end()
    assert frozen.requires_grad


def test_layers_that_are_not_sampled_have_gradients_of_zeros():
    made = mixing(0.0)
    zero = made.zero()
    zero.backward()
    assert zero.item() == 0
    assert [layer.factor.grad.item() for layer in made.layers] == [0, 0]


def test_gradients_pass_through_the_teachers_layers_and_leave_them_alone():
    made = mixing(1.0)
    theirs = Scale(5)
    theirs.factor.requires_grad_(False)
    upper = Replacement([made.layers[1]], [[theirs]], [])
    made.end()
    upper.begin(0.0)
    through(made.layers, torch.ones(1)).sum().backward()
    assert made.layers[0].factor.grad.item() == 5
    assert theirs.factor.grad is None


def test_the_list_of_layers_is_found_by_its_length():
    module = nn.Module()
    module.layer = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    module.layer[0].experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    module.hooks = nn.ModuleList(nn.Identity() for _ in range(3))
    assert layer_lists(module, 3) == ["layer"]
    assert layer_lists(module, 2) == []


def weights(path):
    return load_file(path / "model.safetensors")


def test_only_the_layers_learn_and_the_student_is_an_ordinary_model(folder):
    result = run(SPEC, folder / "runs", kdspec_theseus, folder=folder)
    student, teacher = weights(result.student), weights(result.folder / "models" / "teacher")
    learnt = {name for name, tensor in student.items() if not torch.equal(tensor, teacher[name])}
    in_layers = {name for name in student if ".encoder.layer." in name}
    assert learnt
    assert learnt <= in_layers
    assert not [name for name in student if "encoder.layer.2" in name]
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(result.student)
    assert loaded.config.num_hidden_layers == 2
    assert all(torch.equal(tensor, student[name]) for name, tensor in loaded.state_dict().items() if name in student)


def test_with_all_the_embeddings_and_the_head_learn_too(folder):
    result = run(SPEC, folder / "runs", kdspec_theseus, folder=folder, sets=[f"{THESEUS}.learns=all"])
    student, teacher = weights(result.student), weights(result.folder / "models" / "teacher")
    assert not torch.equal(student["classifier.weight"], teacher["classifier.weight"])


def test_a_rate_of_one_is_fine_tuning(folder):
    """Bit for bit, where everything learns."""
    replaced = [f"{THESEUS}.rate=1.5", f"{THESEUS}.learns=all"]
    tuned = ["stages.replace.distiller={supervised: {model: student}}"]
    same = f"{TRAINING}.batching=random"  # `theseus` samples per micro-batch, so the split must be the same
    mine, other = (
        weights(
            run(SPEC, folder / name, kdspec_theseus, folder=folder, sets=[*sets, same]).folder / "models" / "student"
        )
        for name, sets in (("replaced", replaced), ("tuned", tuned))
    )
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in other)


def test_the_rate_matters_and_a_small_one_trains_all_the_same(folder):
    found = []
    for rate in (0.05, 1):
        out = folder / f"rate-{rate}"
        found.append(weights(run(SPEC, out, kdspec_theseus, folder=folder, sets=[f"{THESEUS}.rate={rate}"]).student))
    assert not all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("sets", [(), (f"{TRAINING}.gradient_checkpointing=true",)])
def test_a_run_that_was_stopped_resumes_bit_for_bit(folder, sets):
    whole = run(SPEC, folder / "whole", kdspec_theseus, folder=folder, sets=sets)
    (folder / "stop.py").write_text(STOP)
    with pytest.raises(Exception, match="stopped by signal"):
        run(SPEC, folder / "runs", kdspec_theseus, folder / "stop.py", folder=folder, sets=sets)
    resumed = run(SPEC, folder / "runs", kdspec_theseus, folder=folder, sets=sets)
    mine, other = weights(whole.student), weights(resumed.student)
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    states = [load_file(r.folder / "checkpoints/replace/step-00000004/weights.safetensors") for r in (whole, resumed)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_later_stage_trains_the_student_alone(folder):
    """The layers are unmixed and nothing is frozen any more."""
    tune = "stages.tune={distiller: {supervised: {model: student}}, training: {steps: 2, batch_size: 2, log_every: 1}}"
    result = run(SPEC, folder / "runs", kdspec_theseus, folder=folder, sets=[tune, f"{THESEUS}.rate=0.2"])
    student, teacher = weights(result.folder / "models" / "student"), weights(result.folder / "models" / "teacher")
    assert not torch.equal(student["classifier.weight"], teacher["classifier.weight"])
    assert "no gradient" not in (result.folder / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        (
            ["models.student.transformers={like: teacher, config: {num_hidden_layers: 2}}"],
            "KD311",
            "would never be trained",
        ),
        (
            ["models.student.transformers={like: teacher, config: {num_hidden_layers: 2, hidden_size: 8}}"],
            "KD302",
            "`student` is 8 wide and `teacher` 16",
        ),
        (
            ["models.student.transformers={like: teacher, config: {num_hidden_layers: 5}}"],
            "KD301",
            "`student` has 5 layers, more than the 4",
        ),
        ([f"{THESEUS}.layers=bert.encoder.layers"], "KD303", "no list of 2 layers at `bert.encoder.layers`"),
    ],
)
def test_models_that_do_not_fit_are_reported(folder, sets, code, message):
    with pytest.raises(Exception, match=message) as caught:
        run(SPEC, folder / "runs", kdspec_theseus, folder=folder, sets=sets)
    assert caught.value.diagnostics[0].code == code


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("rate=0", "KD104", "replaces nothing"),
        ("rate=-1", "KD104", "at least 0"),
        ("learns=head", "KD104", "layers"),
        ("rates=0.5", "KD101", "unknown key `rates`"),
        ("student=teacher", "KD307", "own teacher"),
    ],
)
def test_mistakes_are_found_before_anything_runs(change, code, message, folder):
    errors = check(SPEC, kdspec_theseus, folder=folder, sets=[f"{THESEUS}.{change}"]).errors
    assert [error.code for error in errors] == [code]
    assert message in f"{errors[0].message} {errors[0].help} {errors[0].notes}"


def test_a_precision_for_a_teacher_that_does_not_run_is_warned_of(folder):
    checked = check(SPEC, kdspec_theseus, folder=folder, sets=[f"{TRAINING}.teacher_precision=bf16"])
    (found,) = checked.diagnostics
    assert found.code == "KD305"
    assert found.message == "`teacher_precision` has no effect: stage `replace` reads nothing of its teachers"
