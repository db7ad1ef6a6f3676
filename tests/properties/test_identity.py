"""The identity of a run: a run that resumes with another content of what it has read stops, and names it."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kdspec import Model, SpecFolderOrHub
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run import session
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import Note, RunStarted, StepDone
from kdspec.testing import plan, registry

SPEC = """\
kdspec: 1
name: own
seed: 3
tasks:
  own:
    sequence_classification:
      data: {csv: {train: train.csv, validation: validation.csv, test: test.csv}}
      text: text
      label: label
models:
  teacher:
    transformers: {path: teacher}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 1}}
stages:
  warm:
    distiller: {supervised: {model: student}}
    training: {steps: 2, batch_size: 4, evaluate: null, log_every: 1}
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: kl, temperature: 2}}
    training: {steps: 3, batch_size: 4, evaluate: null, log_every: 1}
"""
DATA = "tasks.own.sequence_classification.data.csv"
WORDS = ["a", "b", "c", "d", "e", "f", "g", "good", "bad", "film", "plot", "the", "was", "very", "dull", "nice"]
ROWS = [f"{WORDS[row % 7]} {WORDS[row % 5 + 7]} {WORDS[(3 * row) % 16]},{'np'[row % 2]}" for row in range(12)]


def table(rows):
    return "text,label\n" + "".join(f"{row}\n" for row in rows)


@dataclass
class Own:
    """A spec with data, a teacher and a tokenizer of its own, in a folder."""

    folder: Path
    components: Any
    stop: Any

    def session(self, *sets, plugins=(), resume=False, restart=False, text=SPEC):
        known = registry(*plugins) if plugins else self.components
        planned = plan(text, known, folder=self.folder, sets=sets)
        return Session(planned, known, output=self.folder / "runs", device="cpu", resume=resume, restart=restart)

    def stopped(self, *sets, plugins=(), text=SPEC, step=2, stage="distil"):
        with pytest.raises(Interrupted):
            self.session(*sets, plugins=(*plugins, self.stop(step, stage)), text=text).run()

    def refused(self, *sets, plugins=(), text=SPEC):
        before = self.steps
        with pytest.raises(FindingError) as caught:
            self.session(*sets, plugins=plugins, text=text).run()
        (found,) = caught.value.findings
        assert found.code == "KD509"
        assert self.steps == before, "not a single step is done"
        for way in ("another `name`", "--restart", "--resume"):
            assert way in found.help
        return found

    @property
    def events(self):
        log = self.folder / "runs" / "own" / "events.jsonl"
        return [record.event for record in read(log)] if log.exists() else []

    @property
    def steps(self):
        return [event.step for event in self.events if isinstance(event, StepDone)]

    def write(self, split, rows):
        file = self.folder / f"{split}.csv"
        before = file.stat() if file.exists() else None
        file.write_text(table(rows), encoding="utf-8")
        if before is not None:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    def add(self, number):
        """Move all weights of the teacher."""
        file = self.folder / "teacher" / "model.safetensors"
        moved = {name: value + number for name, value in load_file(file).items()}
        save_file(moved, file, {"format": "pt"})


@pytest.fixture
def own(tmp_path, new_model, new_tokenizer, shared_registry, toys):
    """A spec of two stages with its files."""
    new_model("teacher", auto="AutoModelForSequenceClassification", id2label={0: "n", 1: "p"})
    new_tokenizer("teacher")
    made = Own(tmp_path, shared_registry, toys.StopAt)
    for number, split in enumerate(("train", "validation", "test")):
        made.write(split, ROWS[number:])
    return made


def test_a_run_that_goes_on_with_swapped_labels_stops(own):
    """In a file of the same name, size and time."""
    own.stopped()
    swapped = [row[:-1] + {"n": "p", "p": "n"}[row[-1]] for row in ROWS]
    size = (own.folder / "train.csv").stat().st_size
    own.write("train", swapped)
    assert (own.folder / "train.csv").stat().st_size == size
    found = own.refused()
    assert found.message == "stage `warm` of run `own` began with other rows"
    (note,) = found.notes
    assert note.startswith(f"`{DATA}.train` had 12 rows of `train` (`")
    assert "and has 12 (`" in note
    assert found.at == ("tasks", "own", "sequence_classification", "data", "csv", "train")


def test_a_run_that_goes_on_with_half_of_its_rows_stops(own):
    own.stopped()
    own.write("train", ROWS[:6])
    (note,) = own.refused().notes
    assert "had 12 rows of `train`" in note
    assert "and has 6 (`" in note


@pytest.mark.parametrize("split", ["validation", "test"])
def test_rows_that_only_evaluation_reads_are_part_of_a_run(own, split):
    own.stopped()
    own.write(split, ROWS[3:])
    (note,) = own.refused().notes
    assert note.startswith(f"`{DATA}.{split}` had ")


def test_a_run_that_goes_on_with_other_weights_of_its_teacher_stops(own):
    own.stopped()
    own.add(0.5)
    found = own.refused()
    assert found.message == "stage `warm` of run `own` began with other weights"
    assert found.at == ("models", "teacher", "transformers", "path")
    (note,) = found.notes
    assert note.startswith("`models.teacher.transformers.path` had the weights `")


def test_a_run_that_goes_on_with_another_tokenizer_stops(own):
    own.stopped()
    file = own.folder / "teacher" / "tokenizer.json"
    file.write_text(file.read_text().replace('"good"', '"fine"'))
    found = own.refused()
    assert "began with another tokenizer" in found.message
    assert "had the tokenizer `" in found.notes[0]


def test_a_finished_run_with_other_rows_is_not_finished_already(own):
    assert not own.session().run().already_finished
    assert own.session().run().already_finished
    own.write("test", ROWS[4:])
    found = own.refused()
    assert "had 10 rows of `test`" in found.notes[0]
    own.write("test", ROWS[2:])
    assert own.session().run().already_finished


def test_a_finished_run_begins_without_tokens_or_weights(own, monkeypatch):
    own.session().run()
    monkeypatch.setattr(session, "built_tasks", None)
    monkeypatch.setattr(session, "Models", None)
    assert own.session().run().already_finished


def test_a_finished_stage_whose_rows_have_changed_stops_the_stage_after_it(own, toys):
    two = (
        "tasks.other={sequence_classification: {data: {csv: {train: other.csv}}, text: text, label: label}}",
        "stages.warm.distiller={supervised: {model: alone, task: other}}",
        "stages.distil.distiller.general.task=own",
        "models.alone={transformers: {like: teacher, config: {num_hidden_layers: 2}}}",
    )
    own.write("other", ROWS[2:])
    own.stopped(*two)
    own.write("other", ROWS[3:])
    found = own.refused(*two)
    assert found.message == "stage `warm` of run `own` began with other rows"
    assert found.at[:2] == ("tasks", "other")


def test_a_stage_that_has_not_begun_may_read_other_weights(own):
    alone = "models.student={transformers: {config: {model_type: bert, num_hidden_layers: 1, hidden_size: 8, num_attention_heads: 2, intermediate_size: 16}, tokenizer: teacher}}"
    own.stopped(alone, stage="warm", step=1)
    own.add(0.5)
    assert own.session(alone).run().stages


@pytest.mark.slow
def test_each_way_on_of_the_message_works(own):
    own.stopped()
    own.write("train", ROWS[::-1])
    own.refused()
    assert own.session("name=another").run().stages
    shutil.copytree(own.folder / "runs", own.folder / "kept")
    assert own.session(restart=True).run().stages
    shutil.rmtree(own.folder / "runs")
    (own.folder / "kept").rename(own.folder / "runs")
    own.session(resume=True).run()
    assert any(isinstance(e, Note) and "had 12 rows of `train`" in e.text for e in own.events), "the log has the change"
    assert own.session().run().already_finished, "they are its rows now"
    own.write("train", ROWS)
    own.refused()


def test_spec_and_rows_that_changed_are_both_named(own):
    own.stopped()
    own.write("train", ROWS[:8])
    found = own.refused("stages.distil.training.steps=4", "stages.warm.training.steps=3")
    assert found.message == "stage `warm` of run `own` began with another spec and other rows"
    assert "`stages.warm.training.steps` was `2` and is `3`" in found.notes
    assert any("and has 8 (`" in note for note in found.notes)
    assert [mark.at[0] for mark in found.also] == ["tasks"]


PLUGIN = """\
from kdspec import Component, LogitLoss, hookimpl


class Half(LogitLoss):
    \"\"\"Half of the squared difference.\"\"\"

    name = "half"

    def build(self, context):
        return lambda student, teacher, *, temperature: 0.5 * (student - teacher.detach()).square().mean()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    return [Half]
"""
HALF = "stages.distil.distiller.general.soft_labels.loss=half"


def test_a_run_that_goes_on_with_an_edited_plugin_file_stops(own):
    file = own.folder / "half.py"
    file.write_text(PLUGIN)
    own.stopped(HALF, plugins=(file,))
    file.write_text(PLUGIN.replace("0.5 *", "0.7 *"))
    found = own.refused(HALF, plugins=(file,))
    assert found.message == "stage `distil` of run `own` began with another plugin"
    assert found.notes[0].startswith("plugin `half` was `")
    assert found.at[:2] == ("stages", "distil")


def test_a_plugin_that_the_spec_does_not_use_is_no_part_of_a_run(own):
    file = own.folder / "half.py"
    file.write_text(PLUGIN)
    own.stopped(plugins=(file,))
    file.write_text(PLUGIN.replace("0.5 *", "0.7 *"))
    assert own.session(plugins=(file,)).run().stages


def test_a_run_that_goes_on_with_another_version_of_a_plugin_stops(own, tmp_path, monkeypatch):
    from kdspec.registry import plugins
    from kdspec.registry.registry import assemble

    (tmp_path / "half_of.py").write_text(PLUGIN)
    module = plugins._import_file(tmp_path / "half_of.py")

    def known(version):
        loaded = plugins.load((own.stop(2), own.stop(2)) if version == "1.0" else (), installed=False)
        loaded.add(plugins.Plugin("kdspec-half", version, "half", "half_of", module))
        return assemble(loaded)

    own.components = known("1.0")
    with pytest.raises(Interrupted):
        own.session(HALF).run()
    own.components = known("1.1")
    found = own.refused(HALF)
    assert found.notes == ("plugin `kdspec-half` was version `1.0` and is `1.1`",)


def test_what_is_equal_is_no_change(own):
    """Times, owners of a link, and the folder that everything is in do not count."""
    own.stopped()
    for file in own.folder.glob("*.csv"):
        os.utime(file, (1, 1))
    (own.folder / "elsewhere").mkdir()
    (own.folder / "train.csv").rename(own.folder / "elsewhere" / "train.csv")
    (own.folder / "train.csv").symlink_to(own.folder / "elsewhere" / "train.csv")
    (own.folder / "teacher" / "README.md").write_text("a note")
    moved = own.folder.with_name(own.folder.name + "-moved")
    shutil.copytree(own.folder, moved)
    own.folder = moved
    assert own.session().run().stages
    assert any(isinstance(event, RunStarted) and event.resumed_at == 2 for event in own.events)


def test_a_link_that_leads_elsewhere_is_a_change(own):
    (own.folder / "one.csv").write_text(table(ROWS))
    (own.folder / "two.csv").write_text(table(ROWS[::-1]))
    (own.folder / "train.csv").unlink()
    (own.folder / "train.csv").symlink_to("one.csv")
    own.stopped()
    (own.folder / "train.csv").unlink()
    (own.folder / "train.csv").symlink_to("two.csv")
    own.refused()


def test_the_same_rows_written_in_another_way_are_a_change(own):
    """Columns in another order: a file is compared by its bytes."""
    own.stopped()
    lines = [",".join(line.split(",")[::-1]) for line in table(ROWS).splitlines()]
    (own.folder / "train.csv").write_text("\n".join(lines) + "\n")
    (note,) = own.refused().notes
    assert "had 12 rows of `train`" in note
    assert "and has 12 (`" in note


def test_files_are_read_whatever_their_compression(own):
    for name in ("train.csv",):
        (own.folder / f"{name}.gz").write_bytes(gzip.compress((own.folder / name).read_bytes(), mtime=0))
    zipped = f"{DATA}.train=train.csv.gz"
    own.stopped(zipped)
    (own.folder / "train.csv.gz").write_bytes(gzip.compress(table(ROWS[:5]).encode(), mtime=0))
    (note,) = own.refused(zipped).notes
    assert "and has 5 (`" in note


def test_a_share_of_train_has_the_files_of_train(own):
    share = f"{DATA}={{train: train.csv, validation: 0.25}}"
    own.stopped(share)
    own.write("train", ROWS[1:])
    notes = own.refused(share).notes
    assert [note.split("`")[1].rpartition(".")[2] for note in notes] == ["train", "validation"]


def test_rows_of_a_data_set_without_files_are_compared_themselves(session, shared_registry, toys, monkeypatch):
    with pytest.raises(Interrupted):
        session(plugins=[toys.StopAt(2)]).run()
    ragged = shared_registry.get("dataset", "ragged")
    build = ragged.build
    monkeypatch.setattr(ragged, "build", lambda self, context: _last_label_changed(build(self, context)))
    with pytest.raises(FindingError) as caught:
        session().run()
    (found,) = caught.value.findings
    assert found.notes[0].startswith("`tasks.rows.tensors.data.ragged` had 11 rows of `train` (`")


def _last_label_changed(splits):
    return splits.map(lambda row, number: {"label": row["label"] if number else 1}, with_indices=True)


def test_a_run_without_a_record_of_what_it_read_is_refused(own):
    own.stopped()
    file = own.folder / "runs" / "own" / "identity.json"
    file.rename(file.with_name("digests.json"))
    found = own.refused()
    assert found.message == "it is not recorded what stage `warm` of run `own` began with"
    assert found.notes == ("the run has no `identity.json`, as runs of older versions of kdspec",)
    assert own.session(resume=True).run().stages
    assert own.session().run().already_finished


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "{",
            "`identity.json` is damaged: it is not JSON: line 1, column 2: expecting property name enclosed in double quotes",
        ),
        ("[" * 100_000, "`identity.json` is damaged: it is nested more than 64 levels deep"),
        ('{"format":2}', "`identity.json` has another format than 1, which this version of kdspec reads"),
        ('{"format":1,"stages":{"warm":{"spec":5}}}', "`identity.json` is damaged at `stages.warm.spec`"),
        ('{"format":1,"stages":[]}', "`identity.json` is damaged at `stages`"),
    ],
)
def test_a_record_that_is_no_record_is_named(own, text, note):
    own.stopped()
    (own.folder / "runs" / "own" / "identity.json").write_text(text)
    assert own.refused().notes == (note,)


def test_report_and_card_say_what_a_run_has_read(own):
    import hashlib

    from kdspec.registry.plugins import load
    from kdspec.report import report

    result = own.session().run()
    card = (result.student / "README.md").read_text()
    page = report.html(report.read(result.folder), load(installed=False))
    for split, number in (("train", 12), ("validation", 11), ("test", 10)):
        digest = hashlib.sha256((own.folder / f"{split}.csv").read_bytes()).hexdigest()
        assert f"| rows of {split} | {DATA}.{split} | {number} | {digest} |" in card
        assert digest in page
    weights = hashlib.sha256((own.folder / "teacher" / "model.safetensors").read_bytes()).hexdigest()
    assert f"| weights | models.teacher.transformers.path |  | {weights} |" in card
    assert weights in page
    assert weights not in (result.folder / "models" / "student" / "README.md").read_text().split("weights")[0]


def read_by(folder):
    """The files that a run of the spec reads."""
    return [path for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_byte_of_any_file_counts(own, data):
    from kdspec.engine.identity.identity import identity

    planned = plan(SPEC, own.components, folder=own.folder)
    before = identity(planned, own.components, {}).stages["distil"]
    file = data.draw(st.sampled_from(sorted(read_by(own.folder))))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(1, 255))
    times = file.stat()
    file.write_bytes(whole[:at] + bytes([whole[at] ^ byte]) + whole[at + 1 :])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        assert identity(planned, own.components, {}).stages["distil"] != before, file
    finally:
        file.write_bytes(whole)
    assert identity(planned, own.components, {}).stages["distil"] == before


class Files(Model):
    """A model of a plugin that says nothing of what it reads."""

    name = "files"
    folder: SpecFolderOrHub
    """A folder."""

    def build(self, context):
        raise AssertionError


def test_the_files_in_the_folder_of_a_model_of_a_plugin_count(own):
    from kdspec import ModelContext

    (read,) = Files(folder="teacher").read_files(ModelContext(folder=own.folder))
    assert (read.at, read.what) == ("folder", "file")
    assert {path.name for path in read.files} >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_file_of_the_right_type_is_part_of_a_run_wherever_the_spec_names_it(own):
    (own.folder / "vectors.txt").write_text("good 1 2\nbad 2 1\n")
    vectors = "models.student={textcnn: {like: teacher, vectors: vectors.txt, embedding: 2}}"
    own.stopped(vectors)
    (own.folder / "vectors.txt").write_text("good 1 2\nbad 2 2\n")
    found = own.refused(vectors)
    assert found.at == ("models", "student", "textcnn", "vectors")
    assert found.notes[0].startswith("`models.student.textcnn.vectors` had the file `")


@pytest.mark.parametrize("there", [True, False])
def test_a_model_from_the_hub_is_compared_by_its_commit(own, tmp_path, monkeypatch, there):
    from huggingface_hub import constants

    home = tmp_path / "hub"
    place = home / "models--some--teacher"

    def commit(name):
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text(name)
        if not (place / "snapshots" / name).exists():
            shutil.copytree(own.folder / "teacher", place / "snapshots" / name)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(home), raising=False)
    hub = "models.teacher.transformers.path=some/teacher"
    if there:
        commit("a" * 40)
    else:  # the run downloads it
        known = session.with_downloads
        monkeypatch.setattr(session, "with_downloads", lambda planned: commit("a" * 40) or known(planned))
    own.stopped(hub)
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(home), raising=False)
    commit("b" * 40)
    found = own.refused(hub)
    assert found.notes == (f"`models.teacher.transformers.path` had the commit `{'a' * 12}` and has `{'b' * 12}`",)


def test_rows_from_the_hub_are_compared_themselves(own, monkeypatch):
    import datasets

    rows = {"now": ROWS}

    def load(path, subset, *, revision, split):
        del path, subset, revision, split
        texts, labels = zip(*(row.split(",") for row in rows["now"]), strict=True)
        made = datasets.Dataset.from_dict({"text": texts, "label": labels})
        return datasets.DatasetDict({"train": made, "test": made})

    monkeypatch.setattr(datasets, "load_dataset", load)
    hub = "tasks.own.sequence_classification.data={hub: {path: some/rows}}"
    own.stopped(hub)
    rows["now"] = ROWS[:9]
    found = own.refused(hub)
    assert [note.partition(" (")[0] for note in found.notes] == [
        f"`tasks.own.sequence_classification.data.hub` had 12 rows of `{split}`" for split in ("train", "test")
    ]
    rows["now"] = ROWS
    assert own.session(hub).run().stages


def test_what_is_in_no_cache_yet_is_recorded_when_it_is_there(own):
    """A name on the hub has no commit before the first download."""
    from kdspec.engine.identity.reading import ReadContent, differing, merged

    commit = ReadContent(kind="commit", at=("models", "teacher"), digest="a" * 40)
    rows = ReadContent(kind="rows", at=("tasks", "own"), name="train", digest="b", rows=3)
    assert list(differing([rows], [commit, rows])) == []
    assert list(differing([commit, rows], [])) == []
    assert merged([rows, commit], [rows.model_copy(update={"rows": None})]) == (rows, commit)
    fewer = ReadContent(kind="rows", at=("tasks", "own"), name="test", digest="c")
    assert list(differing([rows, fewer], [rows])) == [(fewer, None)]
