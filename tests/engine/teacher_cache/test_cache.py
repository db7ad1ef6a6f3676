"""Runs with a teacher cache: the same numbers, the teacher run once, and nothing wrong ever used."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import transformers

from kdspec import hookimpl
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.teacher_cache.catalogue import INDEX
from kdspec.engine.teacher_cache.store import SEGMENT, Store
from kdspec.events import CacheState

from .conftest import Ran, write_rows

CACHE = "stages.distil.training.teacher_cache"
GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"


def same(first, second):
    assert first.weights.keys() == second.weights.keys()
    return all(torch.equal(tensor, second.weights[name]) for name, tensor in first.weights.items())


def close(first, second, tolerance=1e-5):
    return first.losses == pytest.approx(second.losses, rel=tolerance, abs=tolerance)


@pytest.fixture
def count_rows(monkeypatch):
    """How many rows the teacher, a model of three layers, is given."""
    counted = []
    forward = transformers.BertModel.forward

    def counting(self, input_ids=None, *args, **kwargs):
        if self.config.num_hidden_layers == 3:
            counted.append(len(input_ids))
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(transformers.BertModel, "forward", counting)
    return counted


@pytest.mark.slow
def test_the_losses_are_those_without_a_cache(launch):
    without, with_ = launch(f"{CACHE}=off", folder="without"), launch()
    assert close(with_, without)
    assert [s.used for s in with_.of(CacheState)] == [True, True]
    assert without.of(CacheState) == []


def test_every_row_is_computed_once_and_read_in_each_epoch(launch, count_rows):
    launch(f"{CACHE}=off", folder="looked")  # the look at the rows before the first step, which is kept
    count_rows.clear()
    ran = launch()
    assert (ran.cache.hits, ran.cache.computed) == (82, 41)
    assert ran.cache.features == ("attention[1]", "hidden[2]", "logits", "similarity of hidden 0")
    assert sum(n for n in count_rows if n > 2) == 41


@pytest.mark.slow
def test_a_second_run_does_not_run_the_teacher(launch, count_rows):
    first = launch()
    count_rows.clear()
    second = launch(folder="again")
    assert second.cache.computed == 0
    assert same(first, second)
    assert max(count_rows) <= 2  # only the look at two rows


@pytest.mark.slow
def test_other_runs_with_the_same_teacher_share_it(launch):
    """The student, the batches and their order do not change the teacher's outputs."""
    first = launch()
    second = launch(
        f"{TRAINING}.shuffle=false", f"{TRAINING}.batch_size=5", f"{GENERAL}.hard_labels.weight=1", folder="other"
    )
    assert second.cache.folder == first.cache.folder
    assert second.cache.computed == 0


@pytest.mark.slow
def test_settings_that_change_the_values_have_separate_caches(launch):
    changes = {
        "nothing": (),
        "features": (f"{GENERAL}.matches=[]",),
        "weights": ("models.teacher.transformers={like: student, config: {num_hidden_layers: 3}}",),
        "precision": (f"{TRAINING}.precision=bf16",),
        "precision of the teacher": (f"{TRAINING}.teacher_precision=bf16",),
        "dtype": (f"{CACHE}.dtype=float16",),
    }
    folders = {
        name: launch(*change, f"{TRAINING}.epochs=1", folder=name).cache.folder for name, change in changes.items()
    }
    assert len(set(folders.values())) == len(folders), folders


def test_a_teacher_of_another_precision_is_read_as_it_was_run(launch):
    own = f"{TRAINING}.teacher_precision=bf16"
    without, with_ = launch(own, f"{CACHE}=off", folder="without"), launch(own)
    assert close(with_, without)
    assert with_.losses == pytest.approx(launch(folder="exact").losses, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("int8", 1e-2)])
def test_values_may_be_stored_with_less_precision(dtype, tolerance, launch):
    exact, less = launch(), launch(f"{CACHE}.dtype={dtype}", folder="less")
    assert close(less, exact, tolerance)
    assert less.losses != exact.losses
    assert less.cache.bytes < 0.6 * exact.cache.bytes


class Stop:
    """Asks the run to stop after a step."""

    def __init__(self, step):
        self.step, self.__name__ = step, "stop"

    @hookimpl
    def kdspec_observe(self, event, session):
        if type(event).__name__ == "StepDone" and event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "lost"), [(1, False), (3, True), (8, True)])
def test_a_stopped_run_ends_in_the_same_bits(step, lost, launch, home):
    whole = launch(f"{CACHE}.folder=elsewhere", folder="whole")
    with pytest.raises(Interrupted):
        launch(plugins=(Stop(step),))
    if lost:
        shutil.rmtree(home / "caches")
    assert same(launch(), whole)


def started(text, output, folder):
    """A process that runs the spec."""
    code = "import sys; from kdspec.testing import run; run(sys.stdin.read(), sys.argv[1], folder=sys.argv[2])"
    command = [sys.executable, "-c", code, str(output), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(text.encode())
    process.stdin.close()
    return process


@pytest.mark.slow
def test_two_runs_that_fill_one_cache_at_once_end_in_the_same_bits(launch, home, spec_text):
    whole = launch(f"{CACHE}.folder=elsewhere", folder="whole")
    names = ("first", "second")
    processes = [started(spec_text, home / name, home) for name in names]
    assert [process.wait() for process in processes] == [0, 0]
    ran = [Ran(next((home / name).iterdir())) for name in names]
    assert all(same(each, whole) for each in ran)
    assert sum(each.cache.computed for each in ran) == 41, "no row is computed twice"


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(launch, home, spec_text):
    whole = launch(f"{CACHE}.folder=elsewhere", folder="whole")
    process = started(spec_text, home, home)
    index = home / "caches"
    while process.poll() is None and not any(file.stat().st_size for file in index.glob(f"*/{INDEX}")):
        time.sleep(0.001)
    process.kill()  # some samples have been kept, and the first step is not done
    process.wait()
    ran = launch(folder=".")
    assert same(ran, whole)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 64
    path.write_bytes(data)


def table(home, numbers):
    """The rows of these numbers in this order."""
    write_rows(home / "rows.jsonl", 60)
    lines = (home / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    (home / "rows.jsonl").write_text("".join(f"{lines[number]}\n" for number in numbers), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "computed"),
    [
        (range(42), 1),
        (reversed(range(41)), 0),
        (range(0, 41, 3), 0),
        ([*range(30, 50), *range(10)], 9),
        ([*range(41), *range(20)], 0),
    ],
    ids=["a row more", "another order", "another split", "some new rows", "rows twice"],
)
def test_only_rows_that_the_teacher_has_not_seen_are_computed(numbers, computed, launch, home, count_rows):
    first = launch()
    table(home, numbers)
    count_rows.clear()
    second = launch(folder="other")
    assert second.cache.folder == first.cache.folder
    assert second.cache.computed == computed
    count_rows.clear()
    again = launch(folder="again")  # what the look before the stage found is kept
    assert again.cache.computed == 0
    assert sum(count_rows) == 5, "two rows together, and three by themselves"
    assert close(second, launch(f"{CACHE}=off", folder="without"))


@pytest.mark.slow
def test_rows_that_a_teacher_reads_otherwise_are_other_samples(launch, count_rows):
    first = launch()
    second = launch("tasks.texts.sequence_classification.max_length=6", folder="short")
    assert second.cache.folder == first.cache.folder
    assert 0 < second.cache.computed < 41, "short texts are not cut"


def test_rows_that_are_the_same_are_computed_once(launch, home):
    table(home, [*range(20), *range(20)])
    assert launch().cache.computed == 20


@pytest.mark.slow
def test_a_stopped_run_over_a_cache_of_other_rows_ends_in_the_same_bits(launch, home):
    table(home, range(0, 50, 3))
    launch(folder="before")
    table(home, range(41))
    shutil.copytree(home / "caches", home / "kept")
    whole = launch(folder="whole")
    shutil.rmtree(home / "caches")
    (home / "kept").rename(home / "caches")
    with pytest.raises(Interrupted):
        launch(plugins=(Stop(1),))
    assert same(launch(), whole)


def test_a_damaged_sample_of_other_rows_gets_its_bits_again(launch, home):
    """Which rows were computed together is kept, and need not be what this run would compute together."""
    table(home, range(0, 41, 3))
    launch(folder="before")
    (segments,) = (home / "caches").glob(f"*/*{SEGMENT}")
    table(home, range(41))
    whole = launch(folder="whole")
    flip(segments, 9)
    again = launch(folder="again")
    assert again.cache.computed == 14
    assert same(again, whole)


def test_the_budget_counts_the_rows_of_other_data(launch, home):
    size = launch().cache.bytes
    table(home, range(41, 60))
    ran = launch(f"{CACHE}.use=auto", f"{CACHE}.budget={size}", folder="other")
    assert not ran.cache.used


@pytest.mark.slow
@pytest.mark.parametrize("at", [5000, -1])
def test_a_damaged_sample_is_reported_and_its_batch_is_computed_again(at, launch, home):
    whole = launch()
    (segments,) = (home / "caches").glob(f"*/*{SEGMENT}")
    flip(segments, at)
    again = launch(folder="again")
    assert again.cache.computed in (9, 32)
    assert any("a sample of the cache in" in text and "damaged, so it is computed" in text for text in again.warnings)
    assert same(again, whole)
    assert launch(folder="third").warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"*{SEGMENT}", INDEX])
def test_a_truncated_file_is_filled_again(name, launch, home):
    whole = launch()
    (path,) = (home / "caches").glob(f"*/{name}")
    os.truncate(path, 7)
    assert same(launch(folder="again"), whole)


class Shorten:
    """Makes the segments of the caches shorter after a step."""

    def __init__(self, step, folder, shorten):
        self.step, self.folder, self.shorten, self.__name__ = step, folder, shorten, "shorten"

    @hookimpl
    def kdspec_observe(self, event, session):
        if type(event).__name__ == "StepDone" and event.step == self.step:
            for path in self.folder.glob(f"*/*{SEGMENT}"):
                self.shorten(path)


def refilled_with_zeros(path):
    size = path.stat().st_size
    os.truncate(path, size // 3)
    os.truncate(path, size)


@pytest.mark.parametrize(
    "shorten",
    [
        lambda path: os.truncate(path, 0),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), marks=pytest.mark.slow),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size - 1), marks=pytest.mark.slow),
    ],
    ids=["empty", "half", "last byte"],
)
@pytest.mark.parametrize("filled", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["filled", "filling"])
def test_a_file_that_gets_shorter_beside_a_run_is_computed_again(filled, shorten, launch, home):
    """A mapped file would end the process with SIGBUS."""
    whole = launch()
    if not filled:
        shutil.rmtree(home / "caches")
    again = launch(folder="again", plugins=(Shorten(4, home / "caches", shorten),))
    assert same(again, whole)
    assert again.losses == whole.losses
    assert any("computed again" in text for text in again.warnings)
    assert again.cache.used
    third = launch(folder="third")
    assert (third.cache.computed, third.warnings) == (0, [])
    assert same(third, whole)


class Remove:
    """Removes the caches after a step, as `kdspec cache --remove` would in another terminal."""

    def __init__(self, step, folder):
        self.step, self.folder, self.__name__ = step, folder, "remove"

    @hookimpl
    def kdspec_observe(self, event, session):
        if type(event).__name__ == "StepDone" and event.step == self.step:
            shutil.rmtree(self.folder)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 8])
def test_a_cache_that_is_removed_while_it_is_read_costs_nothing(step, launch, home):
    whole = launch(f"{CACHE}.folder=elsewhere", folder="whole")
    ran = launch(plugins=(Remove(step, home / "caches"),))
    assert same(ran, whole)
    assert ran.warnings == []


@pytest.mark.slow
def test_a_full_disk_costs_the_cache_and_not_the_run(launch, monkeypatch):
    without = launch(f"{CACHE}=off", folder="without")

    def full(self, keys, contents):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Store, "write", full)
    ran = launch()
    (told,) = ran.warnings
    assert "no space left on device; the teacher runs for every batch" in told
    assert same(ran, without)
    assert not ran.cache.used


def test_a_folder_that_cannot_be_made_costs_the_cache_and_not_the_run(launch, home):
    (home / "caches").write_text("a file")
    ran = launch()
    assert any("teacher `teacher` is not cached: the disk refuses" in text for text in ran.warnings)
    assert close(ran, launch(f"{CACHE}=off", folder="without"))


def test_a_mask_that_differs_from_that_of_the_cache_is_noticed(launch, monkeypatch):
    """Rows that changed without their task saying so are not answered by what was kept for others."""
    batches = Loader.batches

    def shorter(self, rows, *args):
        made = batches(self, rows, *args)
        for batch in made.values():
            batch.inputs[""]["attention_mask"][:, 1] = 0
        return made

    monkeypatch.setattr(Loader, "batches", shorter)
    ran = launch()
    assert any("rows are not as they were when it was opened" in text for text in ran.warnings)
    assert not ran.cache.used


@pytest.mark.parametrize("use", ["on", "auto"])
def test_a_cache_larger_than_the_budget_is_not_made(use, launch, home):
    sets = (f"{CACHE}.use={use}", f"{CACHE}.budget=1kB")
    if use == "on":
        with pytest.raises(DiagnosticError) as caught:
            launch(*sets)
        (found,) = caught.value.diagnostics
        assert found.code == "KD512"
        assert "GB, and the budget is 1kB" in found.message
        assert found.help.startswith("raise `budget`, or store less with `dtype` or `top_k`; `auto` caches")
    else:
        assert not launch(*sets).cache.used
    assert not (home / "caches").exists()


def test_a_cache_for_which_the_disk_has_no_room_names_another_folder(launch, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("kdspec.engine.teacher_cache.open_cache.shutil.disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DiagnosticError) as caught:
        launch(f"{CACHE}.use=on")
    (found,) = caught.value.diagnostics
    assert found.code == "KD512"
    assert found.help.startswith("free some space there, or name a folder on another disk in `folder`")


def test_auto_does_not_cache_a_teacher_that_is_as_fast_as_reading(launch):
    ran = launch(f"{CACHE}.use=auto")
    assert ran.cache.reason == "recomputing the teacher is as fast as reading the cache"


def test_auto_caches_a_teacher_that_takes_long(launch, monkeypatch):
    monkeypatch.setattr("kdspec.spec.teacher_cache.pays", lambda *_: True)
    assert launch(f"{CACHE}.use=auto").cache.used


def test_auto_does_not_cache_rows_that_are_seen_once(launch, monkeypatch):
    monkeypatch.setattr("kdspec.spec.teacher_cache.pays", lambda *_: True)
    assert launch(f"{CACHE}.use=auto", f"{TRAINING}.epochs=1").cache.reason == "each row is seen once"


def test_top_k_without_effect_is_reported(launch):
    ran = launch(f"{CACHE}.top_k=1")
    assert any("`top_k` has no effect on teacher `teacher`" in text for text in ran.warnings)


def test_matches_that_read_padding_are_not_cached(launch):
    adaptor = "{logits: output.logits, hidden: output.hidden_states, labels: batch.labels}"
    sets = (
        f"adaptors.student={adaptor}",
        f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]",
    )
    ran = launch(*sets, f"{CACHE}.use=auto")
    assert "and no mask for it" in ran.cache.reason


REDUCED = "[{feature: hidden, loss: mmd, layers: {0: 0, 3: 1}}, {feature: hidden, loss: pkd, layers: {2: 1}}]"


@pytest.mark.parametrize("dtype", ["exact", "float16"])
def test_a_reduction_is_stored_in_place_of_a_layer(launch, dtype):
    """Similarities for `mmd`, the first token for `pkd`: the same losses in less room."""
    matches = f"{GENERAL}.matches={REDUCED}"
    without = launch(matches, f"{CACHE}=off", folder="without")
    with_ = launch(matches, f"{CACHE}.dtype={dtype}")
    tolerance = {"exact": 1e-5, "float16": 2e-3}[dtype]
    assert close(with_, without, tolerance)
    names = {"logits", "similarity of hidden 0", "similarity of hidden 3", "first of hidden 2"}
    assert set(with_.cache.features) == names


@pytest.mark.slow
def test_a_layer_that_a_loss_needs_is_stored_whole(launch):
    """A similarity beside it would only take more room."""
    more = REDUCED.replace("[{", "[{feature: hidden, loss: cos, layers: {3: 1}, projection: linear}, {", 1)
    without, with_ = (
        launch(f"{GENERAL}.matches={more}", f"{CACHE}=off", folder="without"),
        launch(f"{GENERAL}.matches={more}"),
    )
    assert close(with_, without)
    assert set(with_.cache.features) == {"logits", "hidden[3]", "similarity of hidden 0", "first of hidden 2"}


def test_a_strategy_that_reads_layers_by_itself_gets_them(launch, monkeypatch):
    monkeypatch.setattr("kdspec.objectives.distillation.DistillationObjective.reads_teachers_by_matches", False)
    ran = launch(f"{GENERAL}.matches={REDUCED}")
    assert set(ran.cache.features) == {"logits", "hidden[0]", "hidden[2]", "hidden[3]"}
