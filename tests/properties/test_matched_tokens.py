"""Layers are matched token by token only where both models read the same token ids."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from text_stages import SPEC, texts, write
from tiny_families import WORDS, classifier, rewritten, tokenizer

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.forward.models import Models
from kdspec.engine.preflight.row_check import check_rows
from kdspec.testing import check, plan

GENERAL = "stages.distil.distiller.general"
MATCHED = f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: uniform}}]"
CUT = "tasks.texts.sequence_classification.max_length=3"
PATHS = "models.student.transformers={path: student}"
OTHER = ("<pad>", "<s>", "</s>", "<unk>", *sorted(WORDS[4:], reverse=True))


@pytest.fixture
def two(tmp_path):
    """A teacher and a student in folders with tokenizers of their own, and rows."""

    def made(words=WORDS, **options):
        for name, known in (("teacher", WORDS), ("student", words)):
            classifier("bert", tmp_path / name, pad_token_id=0)
            tokenizer(tmp_path / name, words=known, **(options if name == "student" else {}))
        for split in ("train", "validation"):
            write(tmp_path / f"{split}.csv", texts((2, 3, 5, 4)))

    return made


def codes(tmp_path, *sets):
    return [found.code for found in check(SPEC, folder=tmp_path, sets=sets).errors]


def test_another_tokenizer_is_an_error_of_the_plan_whatever_the_lengths(two, tmp_path):
    two(OTHER)
    assert codes(tmp_path, PATHS, MATCHED, CUT) == ["KD402"]
    (found,) = check(SPEC, folder=tmp_path, sets=(PATHS, MATCHED)).errors
    assert "cannot be compared token by token: their tokenizers differ" in found.message


def test_each_advice_works(two, tmp_path):
    two(OTHER)
    assert codes(tmp_path, PATHS) == []
    assert codes(tmp_path, MATCHED) == []


@pytest.mark.parametrize("loss", ["pkd", "hidden_mse", "attention_mse"])
def test_only_losses_that_compare_places_are_refused(two, tmp_path, loss):
    two(OTHER)
    feature = "attention" if loss == "attention_mse" else "hidden"
    layers = "{0: 0}" if feature == "attention" else "{1: 1}"
    sets = f"{GENERAL}.matches=[{{feature: {feature}, loss: {loss}, layers: {layers}}}]"
    assert codes(tmp_path, PATHS, sets) == ([] if loss == "pkd" else ["KD402"])


def test_other_marks_around_the_same_words_are_other_tokens(two, tmp_path):
    two(ends=False)
    assert codes(tmp_path, PATHS, MATCHED) == ["KD402"]


def test_copies_of_a_tokenizer_are_the_same(two, tmp_path):
    two()
    assert codes(tmp_path, PATHS, MATCHED) == []
    shutil.copy(tmp_path / "teacher" / "tokenizer.json", tmp_path / "student" / "tokenizer.json")
    rewritten(tmp_path / "student" / "tokenizer_config.json", name_or_path="elsewhere", model_max_length=7)
    assert codes(tmp_path, PATHS, MATCHED) == []


@pytest.fixture
def rows_of(tmp_path, shared_registry):
    """The findings about rows at the start of a run of two paths, if nothing is known of their tokenizers before."""

    def made(monkeypatch, *sets):
        with monkeypatch.context() as patched:
            patched.setattr("kdspec.builtins.models.transformers.Transformers.token_ids", lambda *_: None)
            planned = plan(SPEC, shared_registry, folder=tmp_path, sets=(PATHS, MATCHED, *sets))
            tasks = built_tasks(planned)
            models = Models(planned, {name: task.head for name, task in tasks.items()}, {})
            try:
                check_rows(planned, models, tasks, list(planned.spec.stages))
            except FindingError as error:
                return [found.message for found in error.findings]
        return []

    return made


def test_ids_of_rows_are_compared_where_files_do_not_tell(two, rows_of, monkeypatch):
    two(OTHER)
    (message,) = rows_of(monkeypatch, CUT)
    assert message.endswith("they read row 1 of `train` as other tokens")
    two()
    assert rows_of(monkeypatch) == []


@pytest.mark.slow
@settings(
    deadline=None, max_examples=12, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(range(4)), most=st.integers(2, 9))
def test_rows_are_refused_if_and_only_if_an_id_differs(two, rows_of, tmp_path, order, most):
    """Words of the rows keep their ids, or two of them change places."""
    used = [f"w{number}" for number in (0, 3, 7, 10)]
    words = [*WORDS]
    for place, name in enumerate(used):
        words[WORDS.index(name)] = used[order[place]]
    two(tuple(words))
    with pytest.MonkeyPatch.context() as patch:
        found = rows_of(patch, f"tasks.texts.sequence_classification.max_length={most}")
    first = [text.split()[: most - 1] for text in texts((2, 3, 5, 4))]
    moved = {used[place] for place in range(4) if order[place] != place}
    assert bool(found) == any(word in moved for row in first for word in row)
