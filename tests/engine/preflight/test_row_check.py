"""All rows that a run will read have tokens, and no more than each model takes: found before the first step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from text_stages import SPEC, texts, write
from tiny_families import classifier, tokenizer

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.forward.models import Models
from kdspec.engine.preflight.row_check import check_rows
from kdspec.engine.run.session import Session
from kdspec.testing import plan

LIMIT = "tasks.texts.sequence_classification.max_length"
SHORT = texts((2, 3, 5, 4))
NOTHING = "\u200b"
"""A text that is not blank, and that tokenizers leave nothing of."""
OWN = "models.student.transformers={config: {model_type: bert, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 1, "


@pytest.fixture
def found(tmp_path, shared_registry):
    """The findings about rows of each split, with the models in `teacher` and as the spec has them."""

    def made(*sets, train=SHORT, validation=SHORT, text=SPEC):
        for split, rows in (("train", train), ("validation", validation)):
            write(tmp_path / f"{split}.csv", rows)
        planned = plan(text, shared_registry, folder=tmp_path, sets=sets)
        tasks = built_tasks(planned)
        models = Models(planned, {name: task.head for name, task in tasks.items()}, {})
        try:
            check_rows(planned, models, tasks, list(planned.spec.stages))
        except FindingError as error:
            return list(error.findings)
        return []

    return made


def messages(findings, code):
    return [each.message for each in findings if each.code == code]


def test_a_text_without_tokens_is_named_with_its_row_and_split_for_every_model(found, tmp_path):
    classifier("bert", tmp_path / "teacher", pad_token_id=0)
    tokenizer(tmp_path / "teacher", ends=False)
    empty = [*SHORT[:2], NOTHING, SHORT[2]]
    assert messages(found(train=empty), "KD502") == [
        "row 3 of `train` has no tokens for the tokenizer of `student` and `teacher`"
    ]
    assert messages(found(validation=empty), "KD502") == [
        "row 3 of `validation` has no tokens for the tokenizer of `student`",
        "row 3 of `validation` has no tokens for the tokenizer of `teacher`",
    ]


def test_a_text_may_have_tokens_for_one_of_two_tokenizers(found, tmp_path):
    classifier("bert", tmp_path / "teacher", pad_token_id=0)
    tokenizer(tmp_path / "teacher", ends=False)
    tokenizer(tmp_path / "marks")
    own = f"{OWN}vocab_size: 96}}, tokenizer: marks}}"
    assert messages(found(own, train=[*SHORT, NOTHING]), "KD502") == [
        "row 5 of `train` has no tokens for the tokenizer of `teacher`"
    ]
    assert found("models.teacher.transformers.tokenizer=marks", train=[*SHORT, NOTHING]) == []


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    ("family", "sizes", "most"),
    [
        ("bert", {"max_position_embeddings": 12}, 12),
        ("roberta", {"max_position_embeddings": 13}, 12),
        ("bart", {"max_position_embeddings": 12}, 12),
        ("opt", {"max_position_embeddings": 12}, 12),
        ("gpt2", {"n_positions": 12}, 12),
    ],
)
def test_the_advised_limit_for_rows_that_are_too_long_works(found, tmp_path, family, sizes, most, split):
    """The advice is followed by a forward pass of the longest row."""
    teacher = classifier(family, tmp_path / "teacher", pad_token_id=0, **sizes)
    fast = tokenizer(tmp_path / "teacher")
    rows = {split: [*SHORT, *texts((most + 5,))]}
    (wrong, *more) = found(**rows)
    assert len(more) <= 1
    assert wrong.code == "KD405"
    assert wrong.message == f"row 5 of `{split}` has {most + 6} tokens, and model `student` has {most} positions"
    assert wrong.help == f"set `max_length: {most}`; longer rows are truncated"
    assert found(f"{LIMIT}={most}", **rows) == []
    assert found(**{split: [*SHORT, *texts((most - 1,))]}) == []
    ids = torch.tensor([fast(texts((most - 1,))[0])["input_ids"]])
    assert ids.shape[1] == most
    teacher(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_the_advice_is_the_limit_of_all_models_of_the_task(found, tmp_path):
    classifier("bert", tmp_path / "teacher", pad_token_id=0, max_position_embeddings=12)
    tokenizer(tmp_path / "teacher")
    own = f"{OWN}vocab_size: 96, max_position_embeddings: 9}}, tokenizer: teacher}}"
    wrong = found(own, train=[*SHORT, *texts((30,))])
    assert {each.help for each in wrong} == {"set `max_length: 9`; longer rows are truncated"}
    assert len(wrong) == 2
    assert found(own, f"{LIMIT}=9", train=[*SHORT, *texts((30,))]) == []


def test_families_without_a_table_of_positions_have_no_limit(found, tmp_path):
    classifier("llama", tmp_path / "teacher", pad_token_id=0, max_position_embeddings=12)
    tokenizer(tmp_path / "teacher")
    assert found(train=[*SHORT, *texts((30,))]) == []


def test_a_run_stops_before_its_first_step(found, tmp_path, shared_registry):
    classifier("bert", tmp_path / "teacher", pad_token_id=0, max_position_embeddings=12)
    tokenizer(tmp_path / "teacher")
    assert messages(found(validation=[*SHORT, *texts((30,))]), "KD405")
    run = Session(plan(SPEC, shared_registry, folder=tmp_path), shared_registry, output=tmp_path / "runs", device="cpu")
    with pytest.raises(FindingError, match="KD405"):
        run.run()
    assert '"StepDone"' not in (tmp_path / "runs" / "texts" / "events.jsonl").read_text()


def test_an_added_token_that_no_row_has_is_no_obstacle(found, tmp_path, shared_registry):
    """A padding token was added to the tokenizer, and the model not resized."""
    classifier("gpt2", tmp_path / "teacher", pad_token_id=None)
    fast = tokenizer(tmp_path / "teacher", pad_token="<new>", ends=False)
    assert len(fast) == 97
    assert found() == []
    run = Session(plan(SPEC, shared_registry, folder=tmp_path), shared_registry, output=tmp_path / "runs", device="cpu")
    assert run.run().table
    wrong = next(each for each in found(train=["w1 <new> w2", *SHORT]) if each.label == "of `teacher`")
    assert wrong.code == "KD503"
    assert (
        "row 1 of `train` has the token `<new>` with the id 96, and model `teacher` knows ids below 96" in wrong.message
    )
    assert "`model.resize_token_embeddings(97)`" in wrong.help


def test_the_advice_for_a_model_with_fewer_tokens_works(found, tmp_path):
    """A model of a path is resized in Python; a new one gets `vocab_size`."""
    classifier("bert", tmp_path / "teacher", pad_token_id=0, vocab_size=96)
    tokenizer(tmp_path / "teacher")
    tokenizer(tmp_path / "more", mask_token="<mask>")
    rows = ["w1 <mask> w2", *SHORT]
    sets = ["models.teacher.transformers.tokenizer=more", "models.student.transformers.tokenizer=more"]
    by_model = {each.label: each for each in found(*sets, train=rows)}
    assert "resize_token_embeddings(97)" in by_model["of `teacher`"].help
    assert by_model["of `student`"].help == "write `config: {vocab_size: 97}`"
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher")
    model.resize_token_embeddings(97)
    model.save_pretrained(tmp_path / "teacher")
    assert found(*sets, "models.student.transformers.config={vocab_size: 97}", train=rows) == []


@pytest.mark.slow
@settings(
    deadline=None, max_examples=25, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    most=st.integers(8, 25),
    family=st.sampled_from(["bert", "roberta", "opt", "gpt2"]),
    ends=st.booleans(),
)
def test_rows_pass_if_and_only_if_the_model_takes_them(found, tmp_path, lengths, most, family, ends):
    name = "n_positions" if family == "gpt2" else "max_position_embeddings"
    teacher = classifier(family, tmp_path / "teacher", pad_token_id=0, **{name: most})
    fast = tokenizer(tmp_path / "teacher", ends=ends)
    rows = texts(lengths)
    longest = max((fast(row)["input_ids"] for row in rows), key=len)
    ids = torch.tensor([longest])
    try:
        teacher(input_ids=ids, attention_mask=torch.ones_like(ids))
        fits = True
    except (IndexError, RuntimeError):
        fits = False
    assert (found(train=rows) == []) == fits
