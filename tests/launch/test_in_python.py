"""`kdspec.check`, `kdspec.plan` and `kdspec.run`: the same findings, events and results as the commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from toy_runs import SPEC, TOYS

import kdspec
from kdspec import LogitLoss, hookimpl
from kdspec.cli import main
from kdspec.events import RunFinished, RunStarted, StepDone

DIAGNOSTICS = Path(__file__).parent.parent / "diagnostics"
EPOCHS = "stages.distil.training.epochs"


class Stopping:
    """Sends a signal to the process after a step, as the stop button of a notebook does."""

    __name__ = "stopping"

    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number = step, number

    @hookimpl
    def kdspec_observe(self, event):
        if isinstance(event, StepDone) and event.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.slow
def test_importing_kdspec_imports_neither_torch_nor_the_engine():
    code = "import sys, kdspec; print([n for n in ('torch', 'rich', 'kdspec.engine', 'kdspec.launch') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_check_finds_what_the_command_finds(toy, capsys):
    text = SPEC.replace("temperature: 2", "temprature: 2").replace("layers: {3: 2}", "layers: {9: 2}")
    Path("bad.yaml").write_text(text, encoding="utf-8")
    found = toy("check", "bad.yaml")
    assert main(["validate", "bad.yaml", "--plugin", str(TOYS)]) == 1
    assert str(found).split() == capsys.readouterr().out.replace(" (1 fixable with --fix)", "").split()
    assert [each.code for each in found.errors] == ["KD101"]
    assert not found.ok


def test_check_of_a_fine_spec_is_ok(toy):
    found = toy("check")
    assert (found.ok, found.errors, str(found)) == (True, (), "toy.yaml: fine\n")


def test_plan_shows_what_the_command_shows(toy, capsys):
    planned = toy("plan")
    assert main(["plan", "toy.yaml", "--plugin", str(TOYS)]) == 0
    shown = capsys.readouterr().out
    assert [line.split() for line in str(planned).splitlines()] == [line.split() for line in shown.strip().splitlines()]
    assert planned.plan.stages[0].name == planned.data["stages"][0]["name"] == "distil"
    assert planned.data["rehearsal"]
    assert yaml.safe_load(planned.spec)["stages"]["distil"]["training"]["max_grad_norm"]


def test_a_static_plan_is_not_rehearsed(toy):
    assert "rehearsal" not in toy("plan", static=True).data


@pytest.mark.slow
def test_an_error_is_shown_at_its_line(toy):
    Path("bad.yaml").write_text(SPEC.replace("temperature: 2", "temprature: 2"), encoding="utf-8")
    for function in ("plan", "run"):
        with pytest.raises(kdspec.SpecError) as caught:
            toy(function, "bad.yaml")
        text = str(caught.value)
        assert "error[KD101]: unknown key `temprature`\n  --> bad.yaml:23:33\n" in text
        assert "23 |         soft_labels: {loss: kl, temprature: 2}\n" in text
        assert "^^^^^^^^^^ not a key here" in text
        assert "= help: did you mean `temperature`?" in text
        assert [each.code for each in caught.value.diagnostics] == ["KD101"]
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("function", ["plan", "run"])
def test_an_error_of_the_rehearsal_is_shown_too(toy, function):
    paths = {"logits": "output.logit", "hidden": "output.hidden_states"}
    with pytest.raises(kdspec.SpecError, match=r"KD303.*`logits` of `teacher` is not at its path"):
        toy(function, DIAGNOSTICS / "fine.yaml", set={"adaptors": {"teacher": paths}})
    assert not Path("runs").exists()


def test_a_mapping_is_a_spec_and_errors_show_it_as_yaml(toy):
    spec = yaml.safe_load(SPEC)
    spec["stages"]["distil"]["training"]["epocs"] = 3
    with pytest.raises(kdspec.SpecError) as caught:
        toy("plan", spec)
    assert "unknown key `epocs`\n  --> <spec>:" in str(caught.value)
    assert "epocs: 3\n" in str(caught.value)


@pytest.mark.slow
def test_a_mapping_gives_the_run_of_its_file(toy):
    by_file = toy("run")
    spec = yaml.safe_load(SPEC) | {"name": "mapped"}
    spec["stages"]["distil"]["distiller"]["general"]["matches"] = tuple(
        spec["stages"]["distil"]["distiller"]["general"]["matches"]
    )
    by_mapping = toy("run", spec, output=Path("elsewhere"))
    assert by_mapping.folder == Path("elsewhere/mapped")
    weights = [(run.folder / "student" / "model.safetensors").read_bytes() for run in (by_file, by_mapping)]
    assert weights[0] == weights[1]
    losses = [[e.event.loss for e in run.events if isinstance(e.event, StepDone)] for run in (by_file, by_mapping)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("spec", "at"), [({"tasks": {"a": {1, 2}}}, "tasks.a"), ({"stages": [{"lr": b"1"}]}, r"stages\[0\].lr")]
)
def test_a_value_that_yaml_has_not_is_named(toy, spec, at):
    with pytest.raises(TypeError, match=f"`{at}` of the spec"):
        toy("plan", spec)


def test_values_are_replaced_as_by_the_option(toy):
    values = {EPOCHS: 1, "seed": 5, "stages.distil.distiller.general.soft_labels": {"loss": "kl", "temperature": 1e-1}}
    planned = toy("plan", set=values, static=True)
    texts = [f"{EPOCHS}=1", "seed=5", "stages.distil.distiller.general.soft_labels={loss: kl, temperature: 0.1}"]
    assert planned.spec == toy("plan", set=texts, static=True).spec
    assert (planned.plan.spec.seed, planned.plan.stages[0].training.epochs) == (5, 1)


def test_an_error_in_a_replaced_value_shows_it(toy):
    with pytest.raises(kdspec.SpecError, match=r"stages\.distil\.training\.epochs=-1"):
        toy("run", set={EPOCHS: -1})


@pytest.mark.slow
def test_a_run_has_the_events_and_files_of_the_command(toy, capsys):
    run = toy("run")
    assert main(["run", "toy.yaml", "--plugin", str(TOYS), "--output", "by_command", "--device", "cpu"]) == 0
    command = kdspec.Run("by_command/toy")
    assert [type(e.event) for e in run.events] == [type(e.event) for e in command.events]
    assert run.metrics == command.metrics
    files = [
        {path.relative_to(each.folder) for path in each.folder.rglob("*") if "tfevents" not in path.name}
        for each in (run, command)
    ]
    assert files[0] == files[1]
    assert "student" in str(run)


def test_a_finished_run_is_returned_at_once(toy):
    first = toy("run")
    again = toy("run")
    assert again.table == first.table
    assert sum(isinstance(each.event, RunStarted) for each in again.events) == 1


@pytest.mark.slow
def test_a_changed_spec_is_refused_and_resumed_on_request(toy):
    toy("run")
    with pytest.raises(kdspec.RunError, match="KD509") as caught:
        toy("run", set={EPOCHS: 3})
    assert "toy.yaml:18" in str(caught.value)
    resumed = toy("run", set={EPOCHS: 3}, resume=True)
    steps = [each.event.step for each in resumed.events if isinstance(each.event, StepDone)]
    assert steps == list(range(1, 10))
    assert [e.event.step for e in toy("run", restart=True).events if isinstance(e.event, StepDone)] == [*range(1, 7)]


@pytest.mark.slow
def test_progress_is_on_standard_error_or_nowhere(toy, capfd):
    toy("run", output="quiet")
    assert capfd.readouterr() == ("", "")
    toy("run", output="printed", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "stage distil finished" in err


@pytest.mark.slow
def test_a_warning_is_printed_before_the_run(toy, capfd):
    toy("run", set={"stages.distil.distiller.general.matches[1].weight": 0}, progress=True)
    assert "KD305" in capfd.readouterr().err


@pytest.mark.slow
def test_a_stopped_run_raises_keyboard_interrupt_and_resumes(toy):
    with pytest.raises(KeyboardInterrupt, match=r"stopped; .* in runs/toy") as caught:
        toy("run", plugins=[Stopping(4)])
    assert caught.value.__cause__ is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = toy("run")
    whole = toy("run", output="whole")
    weights = [(run.folder / "student" / "model.safetensors").read_bytes() for run in (resumed, whole)]
    assert weights[0] == weights[1]
    assert sum(isinstance(each.event, RunStarted) for each in resumed.events) == 2


@pytest.mark.slow
def test_a_program_is_not_ended_by_a_second_signal(toy):
    """The command ends its process then; a notebook has other things in its memory."""
    with pytest.raises(KeyboardInterrupt):
        toy("run", plugins=[Stopping(3), type("Second", (Stopping,), {"__name__": "second"})(3)])
    assert toy("run").metrics is not None


@pytest.mark.slow
def test_sigterm_ends_the_program_with_its_exit_code(toy):
    with pytest.raises(SystemExit) as caught:
        toy("run", plugins=[Stopping(3, signal.SIGTERM)])
    assert caught.value.code == 143


@pytest.mark.slow
def test_a_run_in_another_thread_works(toy):
    found = []
    thread = threading.Thread(target=lambda: found.append(toy("run")))
    thread.start()
    thread.join()
    assert any(isinstance(each.event, RunFinished) for each in found[0].events)


class Growing(LogitLoss):
    """Infinite."""

    name = "growing"

    def build(self, context):
        return lambda student, teacher, *, temperature: student.mean() * float("inf")


def test_a_component_of_a_notebook_is_a_plugin_and_a_failing_run_shows_its_place(toy):
    with pytest.raises(kdspec.RunError, match="KD501") as caught:
        toy("run", plugins=[Growing], set={"stages.distil.distiller.general.soft_labels": {"loss": "growing"}})
    assert caught.value.diagnostics[0].primary is not None


def test_the_cause_of_a_failure_is_kept(toy):
    class Broken(LogitLoss):
        """Raises."""

        name = "broken"

        def build(self, context):
            raise KeyError("inside")

    with pytest.raises(kdspec.RunError) as caught:
        toy("run", plugins=[Broken], set={"stages.distil.distiller.general.soft_labels": {"loss": "broken"}})
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"plugins": ["nix.py"]}, kdspec.SpecError, "cannot load the plugin `nix.py`: there is no such file"),
        ({"device": "nonsense"}, ValueError, "`nonsense` cannot be used"),
        ({"restart": True, "resume": True}, ValueError, "exclude each other"),
        ({"set": "seed=3"}, TypeError, "`set` is a mapping"),
        ({"set": {"a b": 3}}, kdspec.SpecError, "KD008"),
        ({"spec": "toy.yml"}, kdspec.SpecError, "did you mean `toy.yaml`?"),
        ({"spec": "plan.json", "set": {"seed": 3}}, ValueError, "cannot change a saved plan"),
        ({"spec": {}}, kdspec.SpecError, "KD1"),
    ],
)
def test_wrong_arguments_are_named(toy, options, error, said):
    with pytest.raises(error, match="(?s)" + said.replace("?", r"\?")):
        toy("run", **options)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_saved_plan_can_be_run(toy):
    assert main(["plan", "toy.yaml", "--plugin", str(TOYS), "-o", "plan.json"]) == 0
    assert toy("run", "plan.json").folder == Path("runs/toy")


def test_values_of_the_environment_are_not_shown(toy, monkeypatch):
    monkeypatch.setenv("PLACE", "a-secret-place")
    with pytest.raises(kdspec.SpecError) as caught:
        toy("run", set={"models.more": {"transformers": {"path": "./${PLACE}/model"}}})
    assert "a-secret-place" not in str(caught.value)
