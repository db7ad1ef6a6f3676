"""Names that are no folder, and so are read as names on the hub."""

from __future__ import annotations

import pytest
from text_stages import SPEC, texts, write
from tiny_families import classifier, tokenizer

from kdspec import Fault
from kdspec.hf import loading
from kdspec.testing import check

TOKENIZER = "models.teacher.transformers.tokenizer"


@pytest.fixture
def found(tmp_path):
    """The diagnostics of the spec with changes."""
    classifier("bert", tmp_path / "teacher", pad_token_id=0)
    tokenizer(tmp_path / "teacher")
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.csv", texts((2, 3)))
    return lambda *sets: check(SPEC, folder=tmp_path, sets=sets).diagnostics


def test_a_bare_name_that_is_no_folder_is_noted_to_come_from_the_hub(found):
    (note,) = found(f"{TOKENIZER}=bpe")
    assert (note.severity, note.message) == ("note", "`bpe` is no folder here, so it comes from the hub")
    assert "`./bpe`" in note.help


def test_the_advised_path_works_and_names_with_an_owner_are_not_noted(found, tmp_path):
    tokenizer(tmp_path / "bpe")
    assert found(f"{TOKENIZER}=./bpe") == found(f"{TOKENIZER}=bpe") == found(f"{TOKENIZER}=owner/bpe") == ()


def test_a_failed_download_names_both_readings_and_shows_the_whole_message():
    with pytest.raises(Fault) as caught:
        loading.fast_tokenizer("no-such-tokenizer", "main", ("tokenizer",))
    assert caught.value.message == (
        "the tokenizer `no-such-tokenizer` cannot be loaded: it is no folder here, and the hub cannot be reached"
    )
    assert "`./no-such-tokenizer`" in caught.value.help
    assert not caught.value.notes[0].endswith("…")


@pytest.mark.parametrize(
    ("said", "why", "helps"),
    [
        ("You are trying to access a gated repo.\nMake sure", "gives access to those who ask", "huggingface.co/a/b"),
        ("v9 is not a valid git identifier (branch name, tag name", "no such `revision`", "in `revision`"),
        ("[Errno 28] No space left on device: '/cache'", "cache is full", "`HF_HOME`"),
        ("PermissionError at /x when downloading a/b", "cannot be written", "`HF_HOME`"),
        ("We couldn't connect to 'https://huggingface.co'", "cannot be reached", "`./a/b`"),
        ("a/b is not a local folder and is not a valid model identifier", "gives no model", "`./a/b`"),
    ],
)
def test_what_helps_against_a_failed_download_depends_on_why(said, why, helps):
    with pytest.raises(Fault) as caught, loading.explained(("path",), "the model cannot be loaded", hub="a/b"):
        raise OSError(said)
    assert why in caught.value.message
    assert helps in caught.value.help
