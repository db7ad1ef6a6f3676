"""`kdspec list`, `show`, `plugins` and `explain`."""

from __future__ import annotations

import json

import pytest
import yaml
from pydantic import ValidationError

from kdspec import load_registry
from kdspec.diagnostics.diagnostic import CODES
from kdspec.registry.registry import KINDS
from kdspec.render.example import example
from kdspec.render.parameters import parameters

pytestmark = pytest.mark.usefixtures("only_built_ins")

PLUGIN = '''
from kdspec import Component, LogitLoss, hookimpl


class Dkd(LogitLoss):
    """Decoupled distillation."""

    name = "dkd"
    alpha: float = 1.0
    """Weight of the target class."""

    def build(self, context):
        raise AssertionError


class Kl(Dkd):
    """Another one."""

    name = "kl"


@hookimpl
def kdspec_components():
    return [Dkd, Kl]


@hookimpl
def kdspec_commands(commands):
    @commands.command("greet")
    def greet(name: str):
        """Say hello."""
        print(f"hello {name}")

    @commands.command("list")
    def mine():
        print("taken over")
'''
REGISTRY = load_registry(installed=False)


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "dkd_plugin.py"
    path.write_text(PLUGIN)
    return str(path)


def test_list_has_every_component(kdspec):
    out = kdspec("list").out
    for entry in REGISTRY.entries:
        assert f"  {entry.component.name} " in out


@pytest.mark.parametrize("kind", ["logit_loss", "LogitLoss", "logit-losses", "logit loss", "logit_losses"])
def test_a_kind_has_many_spellings(kind, kdspec):
    outcome = kdspec("list", kind)
    assert outcome.code == 0
    assert outcome.out.startswith("logit losses\n")
    assert "feature losses" not in outcome.out


def test_loss_means_both_kinds_of_loss(kdspec):
    out = kdspec("list", "loss").out
    assert "logit losses\n" in out
    assert "feature losses\n" in out
    assert out.endswith("`kdspec show logit_loss bce` shows one in full\n")


def test_a_schedule_is_not_a_learning_rate_schedule(kdspec):
    assert "lr schedules" not in kdspec("list", "schedule").out


def test_a_misspelt_kind_is_reported(kdspec):
    outcome = kdspec("list", "mdel")
    assert (outcome.code, outcome.out) == (2, "")
    assert "there is no kind `mdel`; did you mean `model`?" in outcome.err


def test_list_is_data_too(kdspec):
    listed = json.loads(kdspec("list", "logit_loss", "--json").out)
    assert {entry["name"] for entry in listed} >= {"ce", "kl", "mse"}
    assert set(listed[0]) == {"kind", "name", "distribution", "version", "summary"}


def test_a_plugin_is_named_as_the_provider_and_does_not_shadow(kdspec, plugin):
    out = kdspec("list", "logit_loss", "--plugin", plugin).out
    assert "Decoupled distillation. (dkd_plugin)" in out
    assert "dkd_plugin/kl" in out
    assert "Another one." in kdspec("--plugin", plugin, "show", "loss", "dkd_plugin/kl").out
    assert "KL divergence" in kdspec("show", "loss", "kl", f"--plugin={plugin}").out


def test_show_is_a_page(kdspec, plugin):
    assert (
        kdspec("show", "loss", "dkd", "--plugin", plugin).out
        == f"""\
logit loss dkd
dkd_plugin, {plugin}:5

Decoupled distillation.

Parameters
  alpha  a number; default `1.0`
      Weight of the target class.

In a spec
  loss:
    dkd:
      alpha: 1.0
"""
    )


def test_show_is_data_too(kdspec):
    shown = json.loads(kdspec("show", "optimizer", "adamw", "--json").out)
    assert shown["source"].startswith("kdspec/builtins/training/optimizers.py:")
    assert shown["parameters"][0]["name"] == "lr"
    assert shown["parameters"][0]["type"] == "a number, greater than 0 and 10,000 or less"
    assert "adamw" in yaml.safe_load(shown["example"])["optimizer"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("loss", "kll"), "there is no logit loss or feature loss `kll`; did you mean `kl`?"),
        (("optimizer", "zzz"), "`kdspec list optimizer` lists them"),
        (("logit_loss", "mmd"), "`kdspec show feature_loss mmd` shows the feature loss of this name"),
    ],
)
def test_an_unknown_name_gets_one_suggestion(arguments, told, kdspec):
    outcome = kdspec("show", *arguments)
    assert outcome.code == 2
    assert told in " ".join(outcome.err.split())


@pytest.mark.parametrize("entry", REGISTRY.entries, ids=lambda e: f"{e.component.kind}-{e.component.name}")
def test_the_example_of_a_builtin_validates(entry):
    text = example(entry.component, REGISTRY)
    assert text is not None
    value = next(iter(yaml.safe_load(text).values()))
    kind = next(kind for kind in KINDS if kind.kind == entry.component.kind)
    try:
        kind._look_up(value, type("Info", (), {"context": {"registry": REGISTRY}})())
    except ValidationError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("entry", REGISTRY.entries, ids=lambda e: f"{e.component.kind}-{e.component.name}")
def test_every_parameter_of_a_builtin_is_described(entry):
    for parameter in parameters(entry.component):
        assert parameter.description, parameter.path
        assert parameter.type != "anything", parameter.path


def test_plugins_lists_what_each_provides(kdspec, plugin):
    out = kdspec("plugins", "--plugin", plugin).out
    assert out.startswith("kdspec 0.")
    assert "dkd_plugin\n  logit loss: dkd, kl\n  hooks: kdspec_commands\n" in out


def test_plugins_reports_a_broken_one_and_succeeds(kdspec, tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    outcome = kdspec("plugins", "--plugin", str(tmp_path / "broken.py"))
    assert outcome.code == 0
    assert "failed to load: " in outcome.out
    assert "No module named 'no_such_package'" in outcome.out
    problems = [
        problem
        for entry in json.loads(kdspec("plugins", "--json", "--plugin", str(tmp_path / "broken.py")).out)
        for problem in entry["problems"]
    ]
    assert [problem["name"] for problem in problems if problem["name"] == "broken"] == ["broken"]


def test_another_command_refuses_a_broken_plugin_that_was_named(kdspec, tmp_path):
    outcome = kdspec("list", "--plugin", str(tmp_path / "gone.py"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "error[KD203]: cannot load the plugin" in outcome.err


def test_a_plugin_adds_commands_but_takes_none_over(kdspec, plugin):
    assert kdspec("--plugin", plugin, "greet", "you").out == "hello you\n"
    assert "greet" in kdspec("--help", "--plugin", plugin).out
    assert "taken over" not in kdspec("list", "--plugin", plugin).out


def test_a_plugin_whose_commands_fail_costs_a_warning(kdspec, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from kdspec import hookimpl\n\n@hookimpl\ndef kdspec_commands(commands):\n    1 / 0\n"
    )
    outcome = kdspec("--plugin", str(tmp_path / "bad.py"), "--help")
    assert outcome.code == 0
    assert "validate" in outcome.out
    assert "warning: the commands of bad could not be added: ZeroDivisionError" in outcome.err


def test_explain_prints_the_page_of_a_code(kdspec):
    out = kdspec("explain", "kd201").out
    assert out.startswith("KD201: unknown component\n\nNo plugin provides")


def test_explain_lists_all_codes(kdspec):
    out = kdspec("explain").out
    assert [line[:5] for line in out.splitlines() if line.startswith("KD")] == list(CODES)


@pytest.mark.parametrize("code", ["KD0201", "201", "kd-201", "D201"])
def test_explain_suggests_the_code_of_a_number(kdspec, code):
    outcome = kdspec("explain", code)
    assert outcome.code == 2
    assert "did you mean KD201?" in outcome.err


@pytest.mark.parametrize("code", ["KD999", "KD52", "XY"])
def test_explain_guesses_no_other_error(kdspec, code):
    outcome = kdspec("explain", code)
    assert outcome.code == 2
    assert "did you mean" not in outcome.err
    assert "`kdspec explain` lists all codes" in outcome.err


def test_explain_takes_several_codes(kdspec):
    out = kdspec("explain", "KD101", "kd202").out
    assert out.index("KD101: unknown key") < out.index("KD202: ambiguous component")
    outcome = kdspec("explain", "KD101", "KD999")
    assert (outcome.code, outcome.out) == (2, "")


def test_show_finds_a_name_without_its_kind(kdspec):
    assert kdspec("show", "kl").out == kdspec("show", "logit_loss", "kl").out
    several = kdspec("show", "linear").out  # a projection and a schedule of the learning rate
    assert "projection linear" in several
    assert "lr schedule linear" in several


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kll", "did you mean `kl`?"),
        ("loss", "`kdspec list logit_loss` lists the names"),
        ("zzz", "there is no kind `zzz`"),
    ],
)
def test_show_of_no_name_tells_what_there_is(kdspec, name, told):
    outcome = kdspec("show", name)
    assert outcome.code == 2
    assert told in " ".join(outcome.err.split())


def test_the_example_of_a_task_reads_a_table(kdspec):
    for task in ("sequence_classification", "multi_label", "regression"):
        assert "csv:\n          train: train.csv" in kdspec("show", "task", task).out.replace("\r", "")
