"""The answer for a row is that of the row alone, in every batch: by family, and for padding as files have it."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from text_stages import texts
from tiny_families import classifier, tokenizer

from kdspec.engine.forward import batch_invariance
from kdspec.hf.families import ROWWISE

LENGTHS = (1, 2, 3, 5, 9, 14)
ENCODERS = (
    "albert", "bert", "big_bird", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
    "esm", "eurobert", "flaubert", "ibert", "layoutlm", "lilt", "longformer", "luke", "markuplm", "megatron-bert",
    "mobilebert", "modernbert", "mpnet", "mra", "nomic_bert", "rembert", "roberta", "roberta-prelayernorm", "roformer",
    "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod",
)  # fmt: skip
DECODERS = (
    "biogpt", "bloom", "ctrl", "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "gpt2", "gpt_bigcode",
    "gpt_neo", "gpt_neox", "gptj", "helium", "llama", "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2", "openai-gpt",
    "opt", "persimmon", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip
BOTH = ("bart", "mbart", "mt5", "plbart", "t5", "umt5")
QUICK = ("bert", "gpt2", "llama", "opt", "roberta", "xlnet")


@pytest.fixture
def answers(text_stage, tmp_path):
    """For a teacher of a family, in a folder with a tokenizer: its answers in one batch, and those of each row alone."""

    def made(family, *, lengths=LENGTHS, config=None, **entries):
        config = {"pad_token_id": 0} if config is None else config
        alone = classifier(family, tmp_path / "teacher", **config)
        # The library gives models of these families a tokenizer of bytes, whatever the files beside them say.
        place = "words" if family.startswith("qwen") else "teacher"
        fast = tokenizer(tmp_path / place, **entries)
        rows = texts(lengths)
        expected = []
        for row in rows:
            ids = torch.tensor([fast(row)["input_ids"]])
            with torch.no_grad():
                expected.append(alone(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0])
        stage = text_stage(f"models.teacher.transformers.tokenizer={place}", rows=rows)
        teacher = stage.runners["teacher"]
        batch = stage.loader.batch("teacher", range(len(rows)))
        with torch.no_grad():
            found = teacher.module(**teacher.inputs(batch)).logits
        return found, torch.stack(expected), stage

    return made


def same(found, expected):
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)) < 1e-4


def check(answers, family, **options):
    found, expected, stage = answers(family, **options)
    assert same(found, expected)
    difference = batch_invariance.measure(stage.runners["teacher"], stage.loader)
    assert difference is None or not difference.exceeds


@pytest.mark.parametrize("family", QUICK)
def test_a_row_has_one_answer_alone_and_beside_longer_rows(answers, family):
    check(answers, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({*ENCODERS, *DECODERS, *BOTH} - set(QUICK)))
def test_a_row_of_every_family_has_one_answer_alone_and_beside_longer_rows(answers, family):
    check(answers, family)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_tokenizer_that_asks_for_padding_on_the_left_pads_on_the_right(answers, family):
    check(answers, family, padding_side="left")


DECODER_PADDING = {
    "no padding token": {"pad_token": None, "config": {"pad_token_id": 3}},
    "no padding token anywhere": {"pad_token": None, "config": {"pad_token_id": None}},
    "none, and rows without an end": {"pad_token": None, "ends": False, "config": {"pad_token_id": None}},
    "the end token, which ends rows": {"pad_token": "</s>", "config": {"pad_token_id": None}},
    "the end token for both": {"pad_token": "</s>", "config": {"pad_token_id": 2}},
    "another one in the tokenizer": {"pad_token": "<pad>", "config": {"pad_token_id": 3}},
    "the end token in the configuration": {"pad_token": "<pad>", "config": {"pad_token_id": 2}},
}


@pytest.mark.parametrize("how", DECODER_PADDING)
@pytest.mark.parametrize(
    "family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow), pytest.param("opt", marks=pytest.mark.slow)]
)
def test_a_decoder_reads_the_same_last_token_however_its_files_name_the_padding(answers, family, how):
    check(answers, family, **DECODER_PADDING[how])


@pytest.mark.slow
@settings(
    deadline=None, max_examples=30, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    family=st.sampled_from(["llama", "gpt2", "qwen2", "bert", "roberta"]),
    pad=st.sampled_from([None, "<pad>", "</s>", "<unk>", "<s>"]),
    own=st.sampled_from([None, 0, 1, 2, 3]),
    ends=st.booleans(),
    side=st.sampled_from(["left", "right"]),
)
def test_rows_have_one_answer_for_any_padding_that_files_name(answers, lengths, family, pad, own, ends, side):
    own = 1 if family in ("bert", "roberta") and own is None else own
    check(answers, family, lengths=lengths, config={"pad_token_id": own}, pad_token=pad, ends=ends, padding_side=side)


def test_the_exported_student_pads_as_in_the_run(text_stage, tmp_path):
    classifier("llama", tmp_path / "teacher", pad_token_id=0)
    tokenizer(tmp_path / "teacher", pad_token=None, ends=False, padding_side="left")
    stage = text_stage()
    stage.models.save("student", tmp_path / "saved")
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    names = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    reader = stage.models.reader("student")
    assert written["pad_token_id"] == reader.tokenizer.pad_token_id == 2
    assert (names["pad_token"], names["padding_side"]) == ("</s>", "right")


def test_a_table_of_positions_keeps_the_padding_id_that_it_was_trained_with(answers):
    """A RoBERTa counts positions from its padding id, and its tokenizer pads with another one."""
    found, expected, stage = answers("roberta", config={"pad_token_id": 1}, pad_token="<pad>")
    assert same(found, expected)
    assert stage.runners["teacher"].module.config.pad_token_id == 1


MIXING = ("convbert", "fnet", "funnel", "nystromformer", "yoso")


def test_every_family_that_is_taken_as_row_wise_is_tested():
    aliases = {"gpt-sw3"}  # a GPT-2
    assert ROWWISE - aliases == {*ENCODERS, *DECODERS, *BOTH}
    assert not ROWWISE & {*MIXING, "canine", "reformer"}


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow) for name in MIXING if name != "fnet"] + ["fnet"]
)
def test_a_family_that_mixes_padding_in_gets_random_batches_and_is_evaluated_by_length(answers, family):
    from kdspec.engine.evaluation.evaluate import HardLoss, evaluate
    from kdspec.planning.micro_batching import batches

    lengths = (2, 4, 12, 2, 4, 12, 7, 2)
    found, expected, stage = answers(family, lengths=lengths)
    assert not same(found, expected)
    plan = stage.plan
    planned = batches(plan, plan.stages[0].tasks["texts"])
    assert planned.name == "random"
    assert f"as it is a `{family}`" in planned.why
    assert batch_invariance.measure(stage.runners["teacher"], stage.loader) is None

    class Seen(HardLoss):
        def add(self, features, batch):
            seen.update(zip(batch.rows, features.logits[0].dense(), strict=True))
            return {}

    seen = {}
    task = stage.loader.task
    evaluate(stage.runners["teacher"], task, stage.loader, 4, evaluator=Seen(task, labelled=False))
    assert same(torch.stack([seen[row] for row in range(len(lengths))]), expected)
