"""Which side and which token rows are padded with."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_families import rewritten, tokenizer

from kdspec.hf import tokenizer_files
from kdspec.hf.padding import Padding, asked_by

PAD, BEGIN, END, UNKNOWN = range(4)


@pytest.mark.parametrize(
    ("own", "ends", "model", "chosen"),
    [
        ("<pad>", True, None, PAD),
        ("<pad>", True, PAD, PAD),
        ("<pad>", True, UNKNOWN, PAD),
        (None, False, None, END),
        (None, False, UNKNOWN, UNKNOWN),  # as the model was trained
        (None, True, None, BEGIN),  # the end token is read by the head
        (None, True, END, END),  # the model was trained to read the token before it
        ("</s>", True, END, END),
        ("</s>", True, None, BEGIN),
        ("</s>", False, None, END),
        (None, False, 50, END),  # a word, and no special token
    ],
)
def test_the_padding_token_is_one_that_the_model_can_tell_from_the_last_token(tmp_path, own, ends, model, chosen):
    fast = tokenizer(tmp_path, ends=ends, pad_token=own, padding_side="left")
    Padding(token=model).apply(fast)
    assert fast.pad_token_id == chosen
    assert fast.padding_side == "right"


def test_a_padding_token_without_an_embedding_is_not_used(tmp_path):
    fast = tokenizer(tmp_path, pad_token="<new>", ends=False)
    assert fast.pad_token_id == 96
    Padding(vocabulary=96).apply(fast)
    assert fast.pad_token_id == END


def test_positions_that_are_counted_from_the_padding_id_keep_it(tmp_path):
    """The tokenizer of a RoBERTa names another token than the one that its positions are counted from."""
    fast = tokenizer(tmp_path, pad_token="<unk>")
    Padding(token=PAD, counted=True).apply(fast)
    assert fast.pad_token_id == UNKNOWN  # `<pad>` is a word for this tokenizer
    fast = tokenizer(tmp_path, pad_token="<unk>", mask_token="<pad>")
    Padding(token=PAD, counted=True).apply(fast)
    assert fast.pad_token_id == PAD


def test_only_heads_that_read_the_last_position_are_padded_on_the_left(tmp_path):
    fast = tokenizer(tmp_path)
    asked_by({"model_type": "xlnet"}, {}).apply(fast)
    assert fast.padding_side == "left"
    asked_by({"model_type": "bert"}, {"model_type": "xlnet"}).apply(fast)
    assert fast.padding_side == "right"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    own=st.sampled_from([None, "<pad>", "<s>", "</s>", "<unk>"]),
    ends=st.booleans(),
    begins=st.booleans(),
    model=st.none() | st.integers(0, 120),
    side=st.sampled_from(["left", "right"]),
)
def test_rows_never_end_with_the_padding_token_unless_the_model_was_trained_so(
    tmp_path, own, ends, begins, model, side
):
    fast = tokenizer(tmp_path, ends=ends, begins=begins, pad_token=own, padding_side=side)
    before = fast("w1 w2")["input_ids"]
    Padding(token=model).apply(fast)
    assert fast.padding_side == "right"
    assert fast("w1 w2")["input_ids"] == before
    assert fast.pad_token_id is not None
    assert before[-1] != fast.pad_token_id or model == fast.pad_token_id
    # A model that was trained with rows that end with its padding keeps it, unless that is a word like any other.
    assert before[-1] != model or fast.pad_token_id == model or model > UNKNOWN


def test_copies_of_a_tokenizer_are_the_same_one_and_names_do_not_matter(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    tokenizer(one)
    tokenizer(other, model_max_length=99, padding_side="left")
    identity = [tokenizer_files.identity(place, "main", Padding()) for place in (one, other)]
    assert identity[0] != identity[1]  # texts are cut elsewhere
    rewritten(other / "tokenizer_config.json", name_or_path="elsewhere", padding_side="right", model_max_length=None)
    rewritten(one / "tokenizer_config.json", model_max_length=None)
    assert len({tokenizer_files.identity(place, "main", Padding()) for place in (one, other)}) == 1


def test_other_words_or_marks_are_another_tokenizer(tmp_path):
    made = {"words": tokenizer(tmp_path / "words"), "marks": tokenizer(tmp_path / "marks", ends=False)}
    tokenizer(tmp_path / "fewer", words=("<pad>", "<s>", "</s>", "<unk>", "w1"))
    found = [tokenizer_files.read(tmp_path / name) for name in (*made, "fewer")]
    assert len({files.ids for files in found}) == 3


def test_tokenizers_are_not_shared_by_models_that_pad_otherwise(tmp_path):
    tokenizer(tmp_path, pad_token=None)
    asked = [Padding(), Padding(token=3), Padding(left=True)]
    assert len({tokenizer_files.identity(tmp_path, "main", padding) for padding in asked}) == 3
    tokenizer(tmp_path)
    assert len({tokenizer_files.identity(tmp_path, "main", padding) for padding in asked}) == 2
