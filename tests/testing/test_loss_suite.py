"""The tools for plugin authors: all built-in losses pass the suite, and each kind of bad loss fails it with its reason."""

from __future__ import annotations

import textwrap

import pytest
from pydantic import Field

from kdspec.api.kinds.losses import FeatureLoss, LogitLoss
from kdspec.registry.registry import load_registry
from kdspec.testing import check_loss, registry, tiny

ZERO_AT_EQUALITY = {"mse", "kl", "margin_mse", "hidden_mse", "cos", "pkd", "fsp", "gram", "mmd", "nst"} | {
    "attention_mse",
    "attention_mse_sum",
    "embedding_mse",
    "similarity_mse",
    "embedding_l2",
    "similarity_kl",
    "matryoshka",
}
LOSSES = [entry.component for kind in ("logit_loss", "feature_loss") for entry in registry().of_kind(kind)]


class Good(LogitLoss):
    """The mean squared difference, as its author would first write it."""

    name = "good"
    needs_labels = True
    scale: float = 1.0
    """Its factor."""

    def build(self, context):
        def loss(student, teacher, *, temperature, labels):
            return self.scale * (student.float() - teacher.float().detach()).square().mean()

        return loss


class Following(Good):
    """What the bad losses share: a loss made of a function of student and teacher."""

    name = "following"
    needs_labels = False

    def build(self, context):
        return lambda student, teacher, *, temperature: type(self).of(student, teacher)


def bad(function):
    """A logit loss of student and teacher logits."""
    return type(
        "Bad", (Following,), {"__doc__": "A bad loss.", "__module__": __name__, "name": "bad", "of": function}
    )()


def bad_feature(function):
    """A feature loss of student, teacher and mask."""

    def build(self, context):
        return lambda student, teacher, *, mask: function(student, teacher, mask)

    contents = {"__doc__": "A bad loss.", "__module__": __name__, "name": "bad", "build": build}
    return type("Bad", (FeatureLoss,), contents)()


def squares(student, teacher):
    return (student - teacher.detach()).double().square().to(student.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("component", LOSSES, ids=lambda component: component.name)
def test_every_builtin_loss_passes(component):
    # The check's vectors are not as wide as a model's.
    narrow = {"heads": 2} if "heads" in component.model_fields else {}
    if component.name == "matryoshka":
        narrow = {"loss": "cos", "widths": [2, 5, 8]}
    check_loss(
        component.model_validate(narrow, context={"registry": registry()}),
        zero_at_equality=component.name in ZERO_AT_EQUALITY,
        non_negative=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", ["embedding_mse", "similarity_kl", "triplet_order", {"contrastive": {"queue": 8}}], ids=str
)
def test_prefixes_of_every_kind_of_loss_pass(loss):
    made = {"loss": loss, "widths": [2, 5], "weights": [0.5, 2.0]}
    component = registry().get("feature_loss", "matryoshka").model_validate(made, context={"registry": registry()})
    check_loss(component, non_negative=True)


def test_a_loss_of_rows_that_depends_on_the_mask_of_the_tokens_fails():
    class Masked(FeatureLoss):
        """The squared difference, times the number of tokens."""

        name = "masked"
        feature = "embedding"

        def build(self, context):
            def loss(student, teacher, *, mask):
                tokens = 1 if mask is None else mask.sum()
                return squares(student, teacher).mean() * tokens

            return loss

    with pytest.raises(AssertionError, match="it depends on the mask of the tokens"):
        check_loss(Masked())


def test_the_claims_of_a_simple_loss_hold():
    check_loss(bad(lambda s, t: squares(s, t).mean()), zero_at_equality=True, non_negative=True)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda s, t: (s - t).square().mean(), "it gives the teacher a gradient"),
        (lambda s, t: squares(s, t).mean(-1), r"a tensor of shape \(5,\), not a scalar"),
        (lambda s, t: 1.0, "a float, not a tensor or `Mean`"),
        (lambda s, t: squares(s.detach(), t).mean(), "the student no gradient"),
        (lambda s, t: (s * 0).sum(), "the student no gradient"),
        (lambda s, t: squares(s, t).exp().mean(), "it is inf for inputs of size 10000 in float32"),
        (lambda s, t: (s / s.norm() - t.detach()).square().mean(), "it is nan for inputs of size 0 in float32"),
        (lambda s, t: squares(s, t).sum().sqrt(), "its gradient is not finite for inputs of size"),
        (lambda s, t: (s.detach() * s - t.detach()).mean(), "its gradient differs from the numerical one"),
        (lambda s, t: squares(s, t)[0].mean(), "it depends on the order of the batch"),
    ],
)
def test_a_bad_logit_loss_is_caught_with_the_reason(function, reason):
    with pytest.raises(AssertionError, match=reason) as caught:
        check_loss(bad(function))
    assert str(caught.value).startswith("logit loss `bad`: ")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            lambda s, t: squares(s.nan_to_num(neginf=0.0), t.nan_to_num(neginf=0.0)).mean(),
            "it depends on candidates that are not there",
        ),
        (lambda s, t: squares(s.softmax(-1), t.softmax(-1)).sum(-1).mean(), None),
        (
            lambda s, t: squares(s.log_softmax(-1).exp(), t).nan_to_num(posinf=0.0).sum(-1).mean(),
            "it depends on candidates that are not there: .*|its gradient depends on candidates that are not there",
        ),
    ],
)
def test_a_loss_of_scores_that_depends_on_candidates_that_are_not_there_is_caught(function, reason):
    component = bad(function)
    type(component).compares = frozenset({"scores"})
    if reason is None:
        check_loss(component)
        return
    with pytest.raises(AssertionError, match=reason):
        check_loss(component)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda s, t, m: squares(s, t).mean(), "it gives padding a gradient"),
        (lambda s, t, m: (squares(s, t) * m[..., None]).mean(), "it depends on the amount of padding"),
        (lambda s, t, m: (squares(s, t.mean(1, True)) * m[..., None]).sum(), "it depends on the values at padding"),
    ],
)
def test_a_feature_loss_that_depends_on_the_padding_is_caught(function, reason):
    with pytest.raises(AssertionError, match=reason):
        check_loss(bad_feature(function))


@pytest.mark.parametrize("scope", ["position", "row"])
def test_a_scalar_that_claims_to_take_each_row_by_itself_is_caught(scope):
    class Claims(LogitLoss):
        """A loss."""

        name = "bad"

        def build(self, context):
            return lambda student, teacher, *, temperature: squares(student, teacher).mean()

    Claims.scope = scope
    with pytest.raises(AssertionError, match=f"it gives a scalar, so its scope is not `{scope}`"):
        check_loss(Claims())


def test_a_mean_whose_parts_do_not_add_up_is_caught():
    from kdspec.ops.mean import Mean

    with pytest.raises(
        AssertionError, match=r"the total of its `Mean` is .* for a batch and .* for the sum of its halves"
    ):
        check_loss(bad(lambda s, t: Mean(squares(s, t).mean(), float(len(s)), "rows")))
    with pytest.raises(
        AssertionError, match="the count of its `Mean` is 1 for a batch and 2 for the sum of its halves"
    ):
        check_loss(bad(lambda s, t: Mean(squares(s, t).sum(), 1.0, "rows")))


def test_a_loss_that_treats_one_temperature_a_row_differently_is_caught():
    class PerRow(Following):
        """Divides by the first temperature only where there is one a row."""

        name = "per_row"

        def build(self, context):
            def loss(student, teacher, *, temperature):
                factor = 1 if isinstance(temperature, float) else temperature[0]
                return squares(student, teacher).mean() / factor

            return loss

    with pytest.raises(AssertionError, match=r"the temperature 2 gives .* as a tensor with one temperature per row"):
        check_loss(PerRow())


def test_a_loss_that_fails_without_labels_is_caught():
    class Labelled(Good):
        """Averages over rows that have a label."""

        name = "labelled"

        def build(self, context):
            def loss(student, teacher, *, temperature, labels):
                return squares(student, teacher)[labels >= 0].mean()

            return loss

    with pytest.raises(AssertionError, match="it is nan for inputs of size 0"):
        check_loss(Labelled())


def test_a_false_claim_is_caught():
    with pytest.raises(AssertionError, match="it is 1, not 0, for equal student and teacher"):
        check_loss(bad(lambda s, t: squares(s, t).mean() + 1), zero_at_equality=True)
    with pytest.raises(AssertionError, match="it is negative: -"):
        check_loss(bad(lambda s, t: -squares(s, t).mean()), non_negative=True)


def test_a_class_without_documentation_is_caught():
    class Undocumented(Good):
        name = "undocumented"

    with pytest.raises(AssertionError, match="logit loss `undocumented`: its class has no docstring"):
        check_loss(Undocumented())


def test_a_parameter_without_documentation_is_caught():
    class Bare(Good):
        """Has a parameter that says nothing."""

        name = "bare"
        sharpness: float = 1.0

    with pytest.raises(AssertionError, match="the parameter `sharpness` has no docstring"):
        check_loss(Bare())


def test_a_default_that_its_own_rules_refuse_is_caught():
    class Refused(Good):
        """Has a default out of its range."""

        name = "refused"
        power: float = Field(default=0.0, gt=0)
        """An exponent."""

    with pytest.raises(ValueError, match="greater than 0"):
        check_loss(Refused.model_construct())


@pytest.mark.slow
def test_a_module_that_imports_torch_is_caught(tmp_path):
    file = tmp_path / "heavy.py"
    text = '''
        """A plugin in one file."""
        import torch
        from kdspec import LogitLoss, hookimpl

        class Heavy(LogitLoss):
            """Documented."""
            name = "heavy"
            def build(self, context):
                return lambda student, teacher, *, temperature: (student - teacher.detach()).square().mean()

        @hookimpl
        def kdspec_components():
            return [Heavy]
    '''
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    heavy = registry(file).get("logit_loss", "heavy")
    with pytest.raises(AssertionError, match="its module imports torch; import it within `build`"):
        check_loss(heavy())


def test_a_loss_with_parameters_of_its_own_is_held_to_the_same():
    class Scaled(Following):
        """A loss with a learnt scale."""

        name = "scaled"

        def build(self, context):
            import torch

            class Module(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.scale = torch.nn.Parameter(torch.rand(()))

                def forward(self, student, teacher, *, temperature):
                    return self.scale * squares(student, teacher).mean()

            return Module()

    check_loss(Scaled(), zero_at_equality=True)


def test_a_registry_has_the_builtins_and_what_is_given():
    made = registry(Good)
    assert made.get("logit_loss", "good") is Good
    assert set(made.names("schedule")) == set(load_registry(installed=False).names("schedule"))


def test_a_plugin_that_cannot_be_used_fails_at_once(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module", encoding="utf-8")
    with pytest.raises(AssertionError, match="broken: ModuleNotFoundError"):
        registry(file)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "gpt2"])
def test_a_tiny_model_can_be_loaded_and_run(tmp_path, family):
    from transformers import AutoModel, AutoTokenizer

    folder = tiny(tmp_path / family, family=family, layers=3, width=8)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    batch = tokenizer(["A fine film: 10/10!", "no"], padding=True, return_tensors="pt")
    assert tokenizer.unk_token_id not in batch["input_ids"]
    assert ("token_type_ids" in batch) == (family in {"bert", "roberta"})
    states = model(**batch, output_hidden_states=True).hidden_states
    assert len(states) == 4
    assert states[0].shape == (*batch["input_ids"].shape, 8)


def test_a_tiny_model_has_the_same_weights_for_the_same_seed(tmp_path):
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    files = [tiny(tmp_path / str(i), seed=seed) / "model.safetensors" for i, seed in enumerate([1, 1, 2])]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_more_of_the_configuration_can_be_given(tmp_path):
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(tiny(tmp_path, hidden_dropout_prob=0.0)).hidden_dropout_prob == 0.0
