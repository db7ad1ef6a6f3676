from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run import checkpoint
from kdspec.engine.run.checkpoint import CheckpointStore

META = {"scaler": {"scale": 65536.0}, "best": {"step": 1, "accuracy": 0.1 + 0.2}}


def tensors_of(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "model": {
            "weight": torch.randn(7, 5, generator=generator),
            "bias": torch.randn(5, generator=generator).bfloat16(),
        },
        "optimizer": {"weight/step": torch.tensor(float(step)), "weight/empty": torch.empty(0, 3)},
    }


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def unexpected(text):
    raise AssertionError(text)


def assert_whole(loaded, step):
    assert loaded.step == step
    expected = tensors_of(step)
    assert loaded.tensors.keys() == expected.keys()
    for group, members in expected.items():
        assert loaded.tensors[group].keys() == members.keys()
        for name, tensor in members.items():
            torch.testing.assert_close(loaded.tensors[group][name], tensor, rtol=0, atol=0)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "run" / "checkpoints")


@pytest.fixture
def two(store):
    """A store with the checkpoints 10 and 20."""
    for step in (10, 20):
        store.save(step, tensors_of(step), META)
    return store


def code_of(caught):
    (diagnostic,) = caught.value.findings
    return diagnostic.code


class TestSaving:
    def test_a_saved_checkpoint_is_loaded_bit_for_bit(self, two):
        loaded = two.latest(unexpected)
        assert_whole(loaded, 20)
        assert loaded.meta == META
        assert_whole(two.load(10), 10)

    def test_an_empty_store_has_nothing(self, store):
        assert store.steps() == []
        assert store.latest(unexpected) is None
        assert store.damaged() == []

    def test_only_safetensors_and_json_are_written(self, two):
        names = {path.name for path in two.root.rglob("*") if path.is_file()}
        assert names == {"model.safetensors", "optimizer.safetensors", "manifest.json"}

    def test_a_checkpoint_can_be_moved(self, two, tmp_path):
        """Nothing in it names the place where it was written."""
        assert str(tmp_path).encode() not in (two.folder(20) / "manifest.json").read_bytes()
        moved = CheckpointStore(tmp_path / "elsewhere")
        shutil.move(two.root, moved.root)
        assert_whole(moved.latest(unexpected), 20)

    def test_tied_tensors_are_written_once_and_tied_when_loaded(self, store):
        weight = torch.randn(50, 20)
        store.save(1, {"model": {"embedding": weight, "head": weight, "other": torch.zeros(1)}}, {})
        assert (store.folder(1) / "model.safetensors").stat().st_size < 2 * weight.nbytes
        model = store.load(1).tensors["model"]
        assert model["head"] is model["embedding"]
        assert torch.equal(model["head"], weight)

    def test_views_of_one_storage_and_strided_tensors_are_saved_each(self, store):
        whole = torch.arange(12.0).reshape(3, 4)
        views = {
            "whole": whole,
            "flat": whole.view(-1),
            "row": whole[1],
            "column": whole[:, 1],
            "transposed": whole.t(),
            "strided": torch.randn(4, 6)[::2, ::3],
        }
        store.save(1, {"model": views}, {})
        model = store.load(1).tensors["model"]
        assert all(torch.equal(model[name], view) for name, view in views.items())

    def test_parameters_that_need_gradients_are_saved_as_plain_tensors(self, store):
        store.save(1, {"model": {"weight": torch.nn.Parameter(torch.ones(2))}}, {})
        assert not store.load(1).tensors["model"]["weight"].requires_grad

    def test_a_step_saved_again_is_replaced(self, two):
        two.save(20, {"model": {"new": torch.ones(1)}}, {})
        assert two.load(20).tensors.keys() == {"model"}
        assert names_in(two.root) == ["step-00000010", "step-00000020"]

    def test_meta_that_is_not_json_is_a_programmers_mistake_and_leaves_nothing(self, two):
        with pytest.raises(TypeError):
            two.save(30, tensors_of(30), {"folder": two.root})
        assert names_in(two.root) == ["step-00000010", "step-00000020"]

    @pytest.mark.parametrize("group", ["../model", "a/b", "", ".hidden", "model.pt"])
    def test_a_group_that_is_no_plain_name_is_a_programmers_mistake(self, two, group):
        with pytest.raises(AssertionError, match="plain name"):
            two.save(30, {group: {"weight": torch.ones(1)}}, {})
        assert two.steps() == [10, 20]

    def test_the_disk_has_all_of_it_before_the_name_is_given(self, store, monkeypatch):
        """What a power cut may lose is what was not synced before it."""
        happened = []
        fsync, rename = os.fsync, os.rename

        def recorded_fsync(descriptor):
            happened.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.split("-")[0])
            fsync(descriptor)

        def recorded_rename(source, target):
            happened.append("rename")
            rename(source, target)

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "rename", recorded_rename)
        store.save(1, tensors_of(1), {})
        files = ["model.safetensors", "optimizer.safetensors", "manifest.json"]
        assert happened == ["run", *files, ".tmp", "rename", "checkpoints"]


class TestPruning:
    def test_the_newest_and_the_protected_are_kept(self, store):
        for step in range(1, 7):
            store.save(step, tensors_of(step), {}, protect=[2, 99])
        assert store.steps() == [2, 5, 6]
        assert len(names_in(store.root)) == 3

    def test_nothing_is_removed_before_the_new_one_is_proved_readable(self, two, monkeypatch):
        real_publish = CheckpointStore._publish

        def publish(store, temporary, step):
            (temporary / "model.safetensors").write_bytes(b"")
            real_publish(store, temporary, step)

        monkeypatch.setattr(CheckpointStore, "_publish", publish)
        with pytest.raises(FindingError) as caught:
            two.save(30, tensors_of(30), {})
        assert code_of(caught) == "KD504"
        assert two.steps() == [10, 20, 30]
        assert_whole(two.load(10), 10)

    def test_a_store_keeps_at_least_one(self, tmp_path):
        with pytest.raises(AssertionError):
            CheckpointStore(tmp_path, keep=0)


class TestRefusedWrites:
    @pytest.mark.parametrize("size", [0, 1, 8, 100, 200, 400, 1000, 4000, 20_000, 39_000])
    def test_a_disk_that_refuses_in_mid_save_costs_only_that_save(self, two, size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(FindingError) as caught:
                two.save(30, {"small": {"a": torch.ones(1)}, "large": {"b": torch.ones(10_000)}}, META)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        (diagnostic,) = caught.value.findings
        assert diagnostic.code == "KD508"
        assert "step-00000030" in diagnostic.message
        assert diagnostic.notes[0] == "40004 bytes are needed"
        assert names_in(two.root) == ["step-00000010", "step-00000020"]
        assert_whole(two.latest(unexpected), 20)

    @pytest.mark.parametrize("error", [OSError(28, ""), SafetensorError("I/O error"), RuntimeError("write failed")])
    def test_every_form_of_a_full_disk_is_the_same_diagnostic(self, two, monkeypatch, error):
        def full(*_, **__):
            raise error

        monkeypatch.setattr(checkpoint, "save_file", full)
        with pytest.raises(FindingError) as caught:
            two.save(30, tensors_of(30), META)
        assert code_of(caught) == "KD508"
        assert names_in(two.root) == ["step-00000010", "step-00000020"]

    def test_an_interrupt_leaves_nothing_half_done(self, two, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            two.save(30, tensors_of(30), META)
        assert names_in(two.root) == ["step-00000010", "step-00000020"]

    def test_a_replacement_that_fails_puts_the_old_one_back(self, two, monkeypatch):
        rename = os.rename

        def refused(source, target):
            if ".tmp-" in str(source):
                raise OSError(28, "full")
            rename(source, target)

        monkeypatch.setattr(os, "rename", refused)
        with pytest.raises(FindingError):
            two.save(20, tensors_of(30), META)
        assert names_in(two.root) == ["step-00000010", "step-00000020"]
        assert_whole(two.load(20), 20)

    def test_a_root_that_is_a_file_is_the_users_to_mend(self, tmp_path):
        (tmp_path / "checkpoints").write_text("")
        with pytest.raises(FindingError, match="KD508"):
            CheckpointStore(tmp_path / "checkpoints").save(1, tensors_of(1), {})


class TestRecovering:
    def test_leftovers_of_a_killed_process_are_cleared_away(self, two):
        (two.root / ".tmp-00000030-0123abcd").mkdir()
        (two.root / ".tmp-00000030-0123abcd" / "model.safetensors").write_bytes(b"torn")
        shutil.copytree(two.folder(10), two.root / ".aside-step-00000010-0123abcd")
        assert_whole(two.latest(unexpected), 20)
        assert names_in(two.root) == ["step-00000010", "step-00000020"]

    def test_a_replacement_interrupted_between_its_renames_is_undone(self, two):
        two.folder(20).rename(two.root / ".aside-step-00000020-0123abcd")
        assert_whole(two.latest(unexpected), 20)

    def test_other_files_in_the_folder_are_let_be(self, two):
        for name in ("notes.txt", "step-5", "step-0000000030", "step-00000030.bak"):
            (two.root / name).mkdir()
        assert two.steps() == [10, 20]
        assert_whole(two.latest(unexpected), 20)
        assert len(names_in(two.root)) == 6

    @pytest.mark.parametrize(
        ("kills", "seed"),
        [pytest.param(3, 0), pytest.param(50, 1, marks=pytest.mark.slow)],
    )
    def test_a_process_killed_at_any_moment_leaves_its_newest_checkpoint(self, tmp_path, kills, seed):
        """One process imports torch once and forks the savers that are killed, until at least one died in mid-save."""
        answer = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "checkpoints"), str(kills), str(seed)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from kdspec.engine.run.checkpoint import CheckpointStore

def tensors_of(step):
    return {"model": {"weight": torch.full((300, 300), float(step)), "tied": torch.arange(step)}}

root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dice, midway, newest = random.Random(seed), 0, 0
while kills > 0 or midway == 0:
    kills -= 1
    done, tell = os.pipe()
    saver = os.fork()
    if not saver:
        for step in range(newest + 1, 10**6):
            CheckpointStore(root).save(step, tensors_of(step), {"step": step})
            if step % 3 == 0:
                CheckpointStore(root).save(step, tensors_of(step), {"step": step})
            os.write(tell, b"%d\\n" % step)
    os.close(tell)
    with open(done) as acknowledged:
        newest = int(acknowledged.readline())
        time.sleep(dice.uniform(0, 0.03))
        os.kill(saver, signal.SIGKILL)
        os.waitpid(saver, 0)
        newest = max([newest, *map(int, acknowledged.read().split())])
    midway += any(path.name.startswith(".") for path in root.iterdir())
    loaded = CheckpointStore(root).latest(lambda text: sys.exit(text))
    assert loaded is not None and loaded.step in (newest, newest + 1), (loaded, newest)
    newest = loaded.step
    for name, tensor in tensors_of(newest)["model"].items():
        assert torch.equal(loaded.tensors["model"][name], tensor)
    assert loaded.meta == {"step": newest}
    assert not any(path.name.startswith(".") for path in root.iterdir())
"""


def flip_a_bit(path, dice):
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def truncate(path, dice):
    os.truncate(path, dice.randrange(path.stat().st_size))


def lengthen(path, dice):
    with path.open("ab") as file:
        file.write(dice.choice([b"\0", b" ", b"\n"]))


def empty(path, dice):
    path.write_bytes(b"")


def remove(path, dice):
    path.unlink()


def garble(path, dice):
    path.write_bytes(dice.randbytes(path.stat().st_size))


class TestDamage:
    def test_every_damage_is_found_reported_and_passed_over(self, two, tmp_path):
        """Sixty random flips, truncations, removals, in any file of the newest checkpoint."""
        pristine = tmp_path / "pristine"
        shutil.copytree(two.root, pristine)
        dice = random.Random(0)
        for trial in range(60):
            damage = dice.choice([flip_a_bit, flip_a_bit, truncate, truncate, lengthen, empty, remove, garble])
            victim = dice.choice(sorted(two.folder(20).iterdir()))
            damage(victim, dice)
            reports = []
            assert_whole(two.latest(reports.append), 10)
            assert len(reports) == 1, (trial, damage, victim)
            assert "step-00000020" in reports[0]
            assert [path.name for path in two.damaged()] == ["step-00000020.corrupt-1"]
            shutil.rmtree(two.root)
            shutil.copytree(pristine, two.root)

    @pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
    def test_each_file_counts(self, two, name):
        (two.folder(20) / name).unlink()
        reports = []
        assert_whole(two.latest(reports.append), 10)
        assert len(reports) == 1

    def test_damaged_ones_are_kept_under_names_of_their_own(self, two):
        for _ in range(3):
            two.save(20, tensors_of(20), META)
            (two.folder(20) / "model.safetensors").write_bytes(b"")
            two.latest(lambda text: None)
        assert [path.name for path in two.damaged()] == [f"step-00000020.corrupt-{n}" for n in (1, 2, 3)]
        assert (two.damaged()[0] / "optimizer.safetensors").exists()

    def test_a_store_with_damaged_checkpoints_only_reports_them(self, two):
        """And reports it again at the next start, so that no run silently starts from the beginning."""
        for step in (10, 20):
            (two.folder(step) / "manifest.json").write_text("{}")
        reports = []
        assert two.latest(reports.append) is None
        assert len(reports) == 2
        assert CheckpointStore(two.root).latest(unexpected) is None
        assert len(CheckpointStore(two.root).damaged()) == 2

    def test_loading_a_damaged_or_missing_one_is_an_error_that_changes_nothing(self, two):
        flip_a_bit(two.folder(20) / "model.safetensors", random.Random(0))
        for step in (20, 30):
            with pytest.raises(FindingError) as caught:
                two.load(step)
            assert code_of(caught) == "KD504"
        assert two.steps() == [10, 20]
        assert two.damaged() == []

    def test_a_checkpoint_under_another_number_is_damaged(self, two):
        two.folder(20).rename(two.folder(30))
        with pytest.raises(FindingError, match="manifest is of step 20"):
            two.load(30)

    def test_a_damaged_one_that_cannot_be_put_aside_is_the_users_to_mend(self, two, monkeypatch):
        (two.folder(20) / "manifest.json").unlink()

        def refused(*names):
            raise OSError(30, "read-only")

        monkeypatch.setattr(os, "rename", refused)
        with pytest.raises(FindingError, match="KD508"):
            two.latest(lambda text: None)
