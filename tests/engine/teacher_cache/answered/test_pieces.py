"""Teachers whose answers belong to texts or to pairs of texts: each is asked once, however many rows name it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.event_log import read
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.teacher_cache.samples import Samples
from kdspec.events import CacheState

TWO_TEXTS = Path(__file__).parents[3] / "shared" / "two_texts.py"
CACHE = "stages.distil.training.teacher_cache"
ALL = ("pair", "each", "tokens")
SPEC = """\
kdspec: 1
name: texts
tasks:
  rows: {asked: {}}
models:
  teacher: {tower: {}}
  student: {tower: {}}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: kl, temperature: 1}}
    training:
      epochs: 2
      batch_size: 4
      optimizer: {adamw: {lr: 0.01}}
      evaluate: null
      log_every: 1
      teacher_cache: {use: "on", folder: cache}
"""


@pytest.fixture
def texts(session):
    """Makes a session of the spec; the teacher reads `reads`."""

    def made(reads, *sets, **options):
        plugins = (TWO_TEXTS, *options.pop("plugins", ()))
        return session(f"models.teacher.tower.reads={reads}", *sets, text=SPEC, plugins=plugins, **options)

    return made


@pytest.fixture
def asked(monkeypatch):
    """The samples that are asked of a teacher for its cache, by number, in their batches."""
    found = []
    plain = Samples.batch

    def counting(self, samples):
        found.append(list(samples))
        return plain(self, samples)

    monkeypatch.setattr(Samples, "batch", counting)
    return found


def weights(result):
    return load_file(result.folder / "student" / "model.safetensors")


def states(result):
    return [record.event for record in read(result.folder / "events.jsonl") if isinstance(record.event, CacheState)]


@pytest.mark.slow
@pytest.mark.parametrize("reads", ALL)
def test_the_losses_are_those_without_a_cache(texts, reads):
    cached = texts(reads, folder="with").run()
    without = texts(reads, f"{CACHE}.use=off", folder="without").run()
    for name, tensor in weights(cached).items():
        assert torch.allclose(tensor, weights(without)[name], atol=1e-6)
    assert all(state.used for state in states(cached))


@pytest.mark.slow
def test_a_text_is_asked_once_however_many_rows_name_it(texts, asked):
    """One document is named by twenty rows; queries and documents are 50 texts, and rows name 139."""
    opened, *_, closed = states(texts("each").run())
    assert (opened.rows, closed.hits, closed.computed) == (40, 80, 50)
    assert sorted(number for batch in asked for number in batch) == list(range(50))
    assert opened.bytes == 50 * 5 * 4
    assert opened.row_bytes == 25


@pytest.mark.slow
def test_a_pair_is_asked_once_and_its_score_is_all_that_is_kept(texts, asked):
    opened, *_, closed = states(texts("pair").run())
    assert (closed.hits, closed.computed) == (80, 99)
    assert len({number for batch in asked for number in batch}) == sum(map(len, asked)) == 99
    assert opened.bytes == 99 * 4


@pytest.mark.slow
def test_token_vectors_take_the_length_of_each_text(texts):
    opened = states(texts("tokens").run())[0]
    assert opened.bytes == sum(2 + number % 5 for number in range(50)) * 5 * 4


@pytest.mark.slow
@pytest.mark.parametrize("reads", ALL)
def test_a_run_that_was_stopped_has_the_bits_of_one_that_was_not(texts, reads, toys, same):
    whole = texts(reads, f"{CACHE}.folder=one", folder="whole").run()
    sets = (reads, f"{CACHE}.folder=two")
    with pytest.raises(Interrupted):
        texts(*sets, folder="parts", plugins=(toys.StopAt(3),)).run()
    assert same.bits(weights(texts(*sets, folder="parts").run()), weights(whole))


@pytest.mark.slow
def test_answers_are_read_by_a_run_on_other_rows_that_have_the_texts(texts):
    first = states(texts("each", folder="one").run())[-1]
    second = states(texts("each", "tasks.rows.asked.count=20", folder="two").run())[-1]
    assert (first.computed, second.computed) == (50, 0)


@pytest.mark.slow
def test_one_epoch_is_enough_where_rows_name_the_same_texts(texts, monkeypatch):
    monkeypatch.setattr("kdspec.spec.teacher_cache.pays", lambda *_: True)
    sets = ("stages.distil.training.epochs=1", f"{CACHE}.use=auto")
    assert states(texts("each", *sets, folder="each").run())[0].used
    (pairs,) = states(texts("pair", *sets, folder="pair").run())
    assert pairs.reason == "each row is seen once"


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (("models.teacher.tower.whole=true",), "its module does not put answers for texts together"),
        (("adaptors.teacher={logits: output.twice}",), "only what is made of its answers for them is kept"),
    ],
)
def test_what_is_not_made_of_answers_is_not_cached(texts, sets, reason):
    with pytest.raises(FindingError) as caught:
        texts("each", *sets).run()
    (found,) = caught.value.findings
    assert found.code == "KD512"
    assert reason in found.message
