"""Readouts in whole runs: projections that are kept, folded and thrown away, and what the saved student then is."""

from __future__ import annotations

import json

import pytest
import torch

from kdspec.render.plan import size
from kdspec.testing import check, plan, registry, run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SPEC = """\
kdspec: 1
name: vectors
seed: 4
tasks:
  sentences:
    embedding:
      data: {csv: {train: train.csv}}
      text: sentence
models:
  teacher:
    transformers: {path: tiny, readout: {normalize: true, prompts: {query: "the "}}}
  student:
    transformers:
      config: {model_type: bert, num_hidden_layers: 1, hidden_size: 4, num_attention_heads: 2, vocab_size: 20, intermediate_size: 8}
      tokenizer: tiny
      readout: {normalize: true, dense: [3], max_length: 12, prompts: {query: "the "}}
stages:
  distil:
    distiller:
      general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: cos}]}
    training: {steps: 2, batch_size: 4, optimizer: {adamw: {lr: 1.0e-2}}, evaluate: null, teacher_cache: {use: "off"}}
"""
MATCH = "stages.distil.distiller.general.matches"
TEXTS = ["the film was good", "bad plot", "a b c d e f g very dull"]


@pytest.fixture
def folder(tiny):
    rows = [f"{one} {two}" for one in "abcd" for two in ("film", "plot", "dull")]
    (tiny.parent / "train.csv").write_text("\n".join(["sentence", *rows]) + "\n", encoding="utf-8")
    return tiny.parent


def projected(how):
    return f"{MATCH}=[{{feature: embedding, loss: cos, projection: {how}}}]"


def read(folder):
    return json.loads(folder.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [None, "keep", "fold", "drop", "linear"])
def test_the_saved_student_is_what_the_plan_says(folder, how):
    sets = [] if how is None else [projected(how)]
    planned = plan(SPEC, registry(), folder=folder, sets=sets)
    kept = how in (None, "keep", "fold")
    assert planned.facts["student"].embedding == (8 if kept else 3)
    result = run(SPEC, folder / "runs", folder=folder, sets=sets)
    library = pytest.importorskip("sentence_transformers")
    opened = library.SentenceTransformer(str(result.student), device="cpu")
    vectors = opened.encode(TEXTS, convert_to_tensor=True)
    assert vectors.shape == (3, 8 if kept else 3)
    listed = [module["path"] for module in read(result.student / "modules.json")]
    expected = ["", "1_Pooling", "2_Dense", "3_Dense", "4_Normalize"]
    assert listed == (expected if kept and how != "fold" else ["", "1_Pooling", "2_Dense", "3_Normalize"])
    if kept:  # small queries search the teacher's documents
        teacher = library.SentenceTransformer(modules=[
            library.models.Transformer(str(folder / "tiny")), library.models.Pooling(8), library.models.Normalize(),
        ])  # fmt: skip
        assert opened.similarity(vectors, teacher.encode(TEXTS, convert_to_tensor=True)).shape == (3, 3)


@pytest.mark.slow
def test_a_projection_that_is_folded_gives_the_vectors_of_training(folder):
    """As a layer of its own and multiplied into the one before."""
    found = {}
    library = pytest.importorskip("sentence_transformers")
    for how in ("keep", "fold"):
        result = run(SPEC, folder / how, folder=folder, sets=[projected(how)])
        opened = library.SentenceTransformer(str(result.student), device="cpu")
        found[how] = opened.encode(TEXTS, convert_to_tensor=True)
    assert torch.allclose(found["keep"], found["fold"], atol=1e-6)


@pytest.mark.slow
def test_a_folded_student_is_trained_on_in_a_later_stage(folder):
    later = SPEC + SPEC[SPEC.index("  distil:") :].replace("distil:", "again:")
    sets = [projected("fold"), projected("fold").replace("distil", "again", 1)]
    result = run(later, folder / "runs", folder=folder, sets=sets)
    assert [module["path"] for module in read(result.student / "modules.json")][2:] == ["2_Dense", "3_Normalize"]


def test_the_plan_shows_the_projection_and_the_width_of_the_saved_student(folder):
    from kdspec.planning.outline import outline

    for how, widths in {"keep": (3, 8, 8), "fold": (3, 8, 8), "drop": (3, 8, 3)}.items():
        found = outline(plan(SPEC, registry(), folder=folder, sets=[projected(how)]))
        term = found["stages"][0]["terms"][-1]
        assert term["settings"]["projection"]["component"] == how
        assert (term["student"]["width"], term["teacher"]["width"]) == widths[:2]
        assert size(found["models"][1]["facts"]).endswith(f", vectors of {widths[2]}")
    derived = outline(plan(SPEC, registry(), folder=folder))["stages"][0]["terms"][-1]["settings"]["projection"]
    assert (derived["component"], derived["origin"]) == ("keep", "derived")


@pytest.mark.slow
def test_the_first_step_is_rehearsed_with_the_layer_that_is_kept(folder, capsys, monkeypatch):
    from kdspec.cli import main

    monkeypatch.setenv("COLUMNS", "200")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    for how, width in {"keep": 8, "fold": 8, "drop": 3}.items():
        assert main(["plan", str(folder / "spec.yaml"), "--set", projected(how)]) == 0
        shown = capsys.readouterr().out
        assert f"{how} 3 → 8" in shown
        assert f"4, 2 heads, vectors of {width}" in shown
        assert f"{width}, inputs_mask" in shown


@pytest.mark.slow
def test_prompts_and_the_limit_are_those_of_the_model_and_are_saved(folder):
    result = run(SPEC, folder / "runs", folder=folder)
    settings = read(result.student / "config_sentence_transformers.json")
    assert settings["prompts"] == {"query": "the "}
    assert read(result.student / "sentence_bert_config.json")["max_seq_length"] == 12
    library = pytest.importorskip("sentence_transformers")
    opened = library.SentenceTransformer(str(result.student), device="cpu")
    assert opened.max_seq_length == 12
    assert opened.prompts["query"] == "the "


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        (["models.student.transformers.readout={dense: [3]}", projected("fold")], None, ""),
        (["models.student.transformers.readout={normalize: true}", projected("fold")], "KD302", "`student` has no linear layer at its end"),
        ([projected("none")], "KD302", "`student` is 3 wide, `teacher` 8, and `projection` is `none`"),
        ([f"{MATCH}=[{{feature: hidden, loss: hidden_mse, layers: {{4: 1}}, projection: keep}}]"], "KD313", "`keep` is for `embedding`"),
        ([f"{MATCH}=[{{feature: embedding, loss: cos, projection: keep}}, {{feature: embedding, loss: embedding_mse, projection: fold}}]"],
         "KD302", "to be kept by one match, and folded by another"),
    ],
)  # fmt: skip
def test_wrong_projections_are_found_before_a_run(folder, sets, code, message):
    found = check(SPEC, folder=folder, sets=sets).errors
    assert [each.code for each in found] == ([] if code is None else [code])
    assert code is None or message in found[0].message


def test_two_teachers_of_other_widths_cannot_both_be_kept(folder, new_model, new_tokenizer):
    new_model("wide", hidden_size=12)
    new_tokenizer("wide")
    sets = [
        "models.wide.transformers={path: wide}",
        "stages.more.distiller.general={teacher: wide, student: student, matches: [{feature: embedding, loss: cos}]}",
        "stages.more.training={steps: 1, batch_size: 2, optimizer: {adamw: {}}, evaluate: null}",
    ]
    (found,) = check(SPEC, folder=folder, sets=sets).errors
    assert (found.code, found.help) == ("KD302", "write `projection: drop` in one of the two matches")
    assert "cannot keep two widths: 8 of `teacher`, and 12 of `wide`" in found.message
    sets[1] = sets[1].replace("loss: cos", "loss: cos, projection: drop")
    assert plan(SPEC, registry(), folder=folder, sets=sets).facts["student"].embedding == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "own"),
    [("bigru: {like: teacher, hidden: 3, embedding: 4}", 6), ("textcnn: {like: teacher, filters: 5}", 15)],
)
def test_small_networks_give_vectors_and_keep_a_projection(folder, student, own):
    from kdspec.networks.text_networks import load

    sets = [f"models.student={{{student}}}"]
    for how, width in {"keep": 8, "drop": own}.items():
        given = [*sets, projected(how)]
        assert plan(SPEC, registry(), folder=folder, sets=given).facts["student"].embedding == width
        result = run(SPEC, folder / how, folder=folder, sets=given)
        module, tokenizer = load(result.student)
        with torch.no_grad():
            found = module(**tokenizer(TEXTS, padding=True, return_tensors="pt"))
        assert found["embedding"].shape == (3, width)
        assert "logits" not in found
        again = [f"models.student={{{student.partition(':')[0]}: {{path: {result.student}}}}}", projected("drop")]
        assert plan(SPEC, registry(), folder=folder, sets=again).facts["student"].embedding == width
        run(SPEC, folder / f"{how}-again", folder=folder, sets=again)
    (found,) = check(SPEC, folder=folder, sets=[*sets, projected("fold")]).errors
    assert (found.code, found.message) == (
        "KD302",
        "`student` has no linear layer at its end, into which a projection could be folded",
    )


@pytest.mark.slow
def test_a_model_that_can_keep_none_gets_one_that_is_thrown_away(folder):
    first = ["models.student={bigru: {like: teacher, hidden: 3, embedding: 4}}", projected("drop")]
    saved = run(SPEC, folder / "first", folder=folder, sets=first).student
    sets = [f"models.student={{bigru: {{path: {saved}}}}}"]
    planned = plan(SPEC, registry(), folder=folder, sets=sets)
    assert planned.facts["student"].embedding == 6
    assert planned.stages[0].matches[0].projection.name == "linear"
    run(SPEC, folder / "runs", folder=folder, sets=sets)
    (found,) = check(SPEC, folder=folder, sets=[*sets, projected("keep")]).errors
    assert (found.code, found.help) == ("KD302", "write `drop`")


@pytest.mark.slow
def test_several_tasks_share_a_body_with_one_readout(folder):
    rows = (folder / "train.csv").read_text(encoding="utf-8").splitlines()[1:]
    labelled = [f"{row},{'good' if number % 2 else 'bad'}" for number, row in enumerate(rows)]
    (folder / "labels.csv").write_text("\n".join(["text,label", *labelled]) + "\n", encoding="utf-8")
    sentences, films = "{teacher: teacher, matches: [{feature: embedding, loss: cos}]}", "{hard_labels: {weight: 1}}"
    sets = [
        "tasks.films.sequence_classification={data: {csv: {train: labels.csv}}, text: text, label: label, labels: [bad, good]}",
        f"stages.distil.distiller={{multi_task: {{student: student, tasks: {{sentences: {sentences}, films: {films}}}}}}}",
    ]
    result = run(SPEC, folder / "runs", folder=folder, sets=sets)
    library = pytest.importorskip("sentence_transformers")
    opened = library.SentenceTransformer(str(result.student / "sentences"), device="cpu")
    assert opened.encode(TEXTS).shape == (3, 8)
    import transformers

    other = transformers.AutoModelForSequenceClassification.from_pretrained(result.student / "films")
    assert torch.equal(
        other.bert.embeddings.word_embeddings.weight, opened[0].auto_model.embeddings.word_embeddings.weight
    )
