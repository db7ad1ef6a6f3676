"""Students with one vector a token: whole runs, what they begin with, and what a spec can get wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from kdspec.api.kinds.model import Model, ModelContext, ModelFacts
from kdspec.api.working.task import Head
from kdspec.builtins.models.static_embeddings import StaticTextModel
from kdspec.builtins.models.text_models import BiGruModel
from kdspec.builtins.models.transformers import Transformers
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.engine.run.stage_run import Interrupted
from kdspec.networks import kept_vectors, token_vectors
from kdspec.networks.text_networks import load
from kdspec.testing import check, check_model, run, tiny

SPEC = """
kdspec: 1
name: small
tasks:
  reviews:
    sequence_classification:
      data: {csv: {train: rows.csv, validation: rows.csv}}
      text: text
      label: label
models:
  teacher: {transformers: {path: ./tiny}}
  student: {static: {like: teacher, width: 8}}
stages:
  fit:
    distiller: {supervised: {model: teacher}}
    training: {steps: 1, batch_size: 4, optimizer: {adamw: {lr: 0.1}}}
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [{feature: hidden, loss: hidden_mse, layers: {0: 0}}]}}
    training: {steps: 2, batch_size: 2, log_every: 1}
"""


@pytest.fixture
def folder(tmp_path):
    tiny(tmp_path / "tiny")
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\n")
    return tmp_path


def built(kind="embedding", labels=(), place="tiny", **parameters):
    """A student of the teacher in the folder, and the teacher."""
    models = {"teacher": Transformers(path=str(place)), "student": StaticTextModel(**{"width": 8} | parameters)}
    head = Head(kind=kind, labels=labels)
    teacher = AutoModel.from_pretrained(place)
    context = ModelContext(name="student", models=models, built={"teacher": teacher}, head=head)
    return models["student"].build(context), teacher


def test_it_learns_classes_is_compared_and_loads_again_without_a_spec(folder):
    assert check(SPEC, folder=folder).diagnostics == ()
    result = run(SPEC, folder / "runs", folder=folder)
    row = next(row for row in result.table if row.model == "student")
    module, tokenizer = load(result.student)
    assert row.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert row.latency_ms > 0
    found = module(**tokenizer(["good", "awful it is"], padding=True, return_tensors="pt"))
    assert found["logits"].shape == (2, 2)
    torch.testing.assert_close(found["embedding"].norm(dim=1), torch.ones(2))
    assert json.loads((result.student / "config.json").read_text())["network"] == "static"
    assert "hidden.hidden_mse.0-0" in (result.folder / "events.jsonl").read_text()


def test_it_begins_with_the_vectors_of_a_teacher_that_an_earlier_stage_has_trained(folder):
    still = "stages.distil.training.optimizer={sgd: {lr: 1.0e-20}}"
    student = load(run(SPEC, folder / "runs", folder=folder, sets=[still]).student)[0]
    trained = next((folder / "runs").glob("**/teacher/config.json")).parent
    torch.testing.assert_close(student.embeddings.weight, built(like="teacher", place=trained)[0].embeddings.weight)
    untrained = built(like="teacher", place=folder / "tiny")[0]
    assert (student.embeddings.weight - untrained.embeddings.weight).abs().max() > 1e-4


def test_weights_of_tokens_begin_as_those_of_their_frequency(folder):
    together, apart = (built(like="teacher", place=folder / "tiny", weights=w)[0] for w in (False, True))
    ids = torch.tensor([[2, 9, 7, 3]])
    torch.testing.assert_close(together(ids)["embedding"], apart(ids)["embedding"])
    torch.testing.assert_close(together.embeddings.weight, apart.embeddings.weight * apart.weights[:, None])
    assert built(like="teacher", place=folder / "tiny", sif=None)[0].embeddings.weight.abs().max() > 0.1


def test_only_the_head_is_drawn_at_random(folder):
    initialised = []
    models = {"teacher": Transformers(path=str(folder / "tiny")), "student": StaticTextModel(like="teacher", width=8)}
    context = ModelContext(
        name="student", models=models, built={"teacher": AutoModel.from_pretrained(folder / "tiny")},
        head=Head(kind="regression", labels=("score",)), on_initialised=initialised.append,
    )  # fmt: skip
    models["student"].build(context)
    assert initialised == [{"head.weight", "head.bias"}]


@pytest.mark.parametrize(("kind", "labels"), [("embedding", ()), ("multi_label", ("a", "b"))])
def test_it_is_a_model_as_plugins_are(kind, labels, folder):
    check_model(StaticTextModel(tokenizer="./tiny", width=5), Head(kind=kind, labels=labels), folder)


@pytest.mark.slow
def test_what_a_run_has_left_teaches_and_is_taught_in_another(folder):
    left = run(SPEC, folder / "runs", folder=folder).student
    text = SPEC[: SPEC.index("  fit:")] + SPEC[SPEC.index("  distil:") :]
    sets = ["name=again", "stages.distil.distiller.general.matches=[]"]
    teach = [
        *sets,
        f"models.teacher={{static: {{path: {left}}}}}",
        "models.student={textcnn: {like: teacher, filters: 2}}",
    ]
    assert check(text, folder=folder, sets=teach).diagnostics == ()
    table = run(text, folder / "taught", folder=folder, sets=teach).table
    assert next(row for row in table if row.model == "teacher").parameters == sum(
        p.numel() for p in load(left)[0].parameters()
    )
    learn = [
        *sets,
        f"models.student={{static: {{path: {left}}}}}",
        "models.teacher={textcnn: {tokenizer: ./tiny, filters: 2}}",
    ]
    again = run(
        text, folder / "learnt", folder=folder, sets=[*learn, "stages.distil.training.optimizer={sgd: {lr: 1.0e-20}}"]
    )
    mine, before = load(again.student)[0].state_dict(), load(left)[0].state_dict()
    assert all(torch.allclose(mine[name], before[name]) for name in mine)
    with pytest.raises(DiagnosticError, match="of task `reviews` in another order"):
        run(
            text,
            folder / "wrong",
            folder=folder,
            sets=[*learn, "tasks.reviews.sequence_classification.labels=[yes, no]"],
        )


@pytest.mark.slow
def test_a_run_that_was_stopped_resumes_bit_for_bit(folder):
    stop = """
import os, signal
from kdspec import hookimpl

@hookimpl
def kdspec_observe(event, session):
    if type(event).__name__ == "StepDone" and (event.stage, event.step) == ("distil", 1):
        os.kill(os.getpid(), signal.SIGINT)
"""
    (folder / "stop.py").write_text(stop)
    whole = run(SPEC, folder / "whole", folder=folder)
    with pytest.raises(Interrupted):
        run(SPEC, folder / "runs", folder / "stop.py", folder=folder)
    resumed = run(SPEC, folder / "runs", folder=folder)
    mine, other = (load(result.student)[0].state_dict() for result in (whole, resumed))
    assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        (["models.student.static={width: 8}"], "KD102", "missing key `like`"),
        (["models.student.static={tokenizer: ./tiny, sif: 0.001}"], "KD107", "exclude each other"),
        (["models.student.static={like: techer}"], "KD204", "unknown model `techer`"),
        (["models.student.static.sif=0"], "KD104", "greater than 0"),
        (["models.student.static.initialize={layers: [0]}"], "KD101", "unknown key `initialize`"),
        (["models.student.static.width=17"], "KD302", "the vectors of `teacher` are 16 wide, these 17"),
        (["models.student.static={path: ./tiny}"], "KD503", "has no vectors of tokens"),
        (["models.teacher={textcnn: {tokenizer: ./tiny}}"], "KD503", "`teacher` has classes and no vector of a text"),
        (["models.student.static={path: ./tiny, width: 8}"], "KD107", "`path` and `width` exclude each other"),
        (["models.student.static={path: minishlab/potion-base-8M}"], "KD503", "a `static` is read from a folder"),
        (["stages.distil.distiller.general.matches.0.layers={2: 1}"], "KD301", "`student` has no `hidden` 1"),
    ],
)
def test_mistakes_are_found_before_anything_runs(sets, code, message, folder):
    errors = check(SPEC, folder=folder, sets=sets).errors
    assert [error.code for error in errors] == [code]
    assert message in f"{errors[0].message} {errors[0].primary}"


def test_vectors_are_as_wide_as_those_of_a_narrow_teacher_unless_they_say_otherwise(folder):
    module, _ = built(like="teacher", place=folder / "tiny", width=None)
    assert module.embeddings.weight.shape[1] == 16


def test_the_vectors_of_a_teacher_are_computed_once(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(kept_vectors, "LEAST", 10)
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    first = built(like="teacher", place=folder / "tiny")[0].embeddings.weight
    monkeypatch.setattr(token_vectors, "embedded", None)
    again = built(like="teacher", place=folder / "tiny", sif=None)[0].embeddings.weight
    tokens = token_vectors.real_tokens(Transformers(path=str(folder / "tiny")).tokenizer(ModelContext()))
    weights = token_vectors.frequency_weights(len(tokens), 1e-4)[:, None]
    torch.testing.assert_close(first[tokens], again[tokens] * weights)


EMBEDDING = """
kdspec: 1
name: vectors
tasks:
  sentences:
    embedding:
      data: {csv: {train: rows.csv}}
      text: text
      evaluate:
        sts: {data: {csv: {validation: pairs.csv, test: pairs.csv}}, text: [a, b], score: score}
models:
  teacher: {transformers: {path: ./tiny, readout: {normalize: true}}}
  student: {static: {like: teacher, width: 8}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: cos}]}}
    training: {steps: 3, batch_size: 2, optimizer: {adamw: {lr: 0.01}}}
"""


@pytest.fixture
def sentences(folder):
    (folder / "pairs.csv").write_text("a,b,score\ngood,fine,4\nbad,awful,3\ngood,awful,0\nit,it,5\n")
    return folder


def test_embeddings_are_projected_to_those_of_the_teacher_and_saved_as_wide(sentences):
    assert check(EMBEDDING, folder=sentences).diagnostics == ()
    result = run(EMBEDDING, sentences / "runs", folder=sentences)
    rows = {row.model: row for row in result.table}
    assert set(rows) == {"teacher", "student"}
    theirs = SentenceTransformer(str(result.student), device="cpu").encode(["good", "awful it is"])
    module, tokenizer = load(result.student)
    encoded = tokenizer(["good", "awful it is"], padding=True, return_tensors="pt")
    with torch.no_grad():
        mine = module(**encoded)["embedding"]
    assert mine.shape == (2, 16)
    torch.testing.assert_close(torch.tensor(theirs), mine, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_projection_that_is_dropped_leaves_the_width(sentences):
    sets = ["stages.distil.distiller.general.matches.0.projection=drop"]
    module, _ = load(run(EMBEDDING, sentences / "runs", folder=sentences, sets=sets).student)
    assert module.embeddings.weight.shape[1] == 8


def test_a_teacher_without_tokens_has_no_vectors_of_them(folder):
    class Bare(Model):
        """A model without a tokenizer."""

        name = "bare"

        def build(self, context):
            raise NotImplementedError

    models = {"teacher": Bare(), "student": StaticTextModel(like="teacher")}
    context = ModelContext(name="student", models=models, facts={name: ModelFacts() for name in models})
    (fault,) = models["student"].check(context)
    assert (fault.code, fault.at) == ("KD503", ("like",))
    assert "`teacher` has no tokens" in fault.message


def test_another_network_teaches_vectors_of_tokens_where_it_has_a_vector_of_a_text(sentences):
    sets = ["models.teacher={bigru: {tokenizer: ./tiny, hidden: 8}}"]
    assert check(EMBEDDING, folder=sentences, sets=sets).errors == ()
    models = {"teacher": BiGruModel(tokenizer=str(sentences / "tiny"), hidden=8)}
    models["student"] = StaticTextModel(like="teacher", width=8, sif=None)
    contexts = {name: ModelContext(name=name, models=models, head=Head(kind="embedding")) for name in models}
    teacher = models["teacher"].build(contexts["teacher"]).eval()
    student = models["student"].build(replace(contexts["student"], built={"teacher": teacher}))
    vectors = teacher(torch.tensor([[2, 9, 3], [2, 7, 3]]))["embedding"]
    found = student.embeddings.weight[[9, 7]]
    assert (found[0] - found[1]).norm() <= (vectors[0] - vectors[1]).norm() + 1e-6


@pytest.mark.parametrize(
    ("student", "code", "message"),
    [
        ("{static: {like: teacher, width: 17}}", "KD302", "the vectors of `teacher` are 16 wide, these 17"),
        ("{static: {like: student}}", "KD307", "made of each other"),
        ("{static: {path: ./tiny}}", "KD503", "has no vectors of tokens"),
    ],
)
def test_mistakes_about_embeddings_are_found_before_anything_runs(student, code, message, sentences):
    errors = check(EMBEDDING, folder=sentences, sets=[f"models.student={student}"]).errors
    assert [error.code for error in errors] == [code]
    assert message in f"{errors[0].message} {errors[0].primary}"
