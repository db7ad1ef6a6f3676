"""Students that are no transformers: whole runs, what is left in the folder, and what a spec can get wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.text_models import BiGruModel, TextCnnModel
from kdspec.builtins.models.transformers import Transformers
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.fault import Fault
from kdspec.engine.run.stage_run import Interrupted
from kdspec.networks.text_networks import load
from kdspec.testing import check, run, tiny

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
  student: {bigru: {like: teacher, embedding: 6, hidden: 5}}
stages:
  fit: {distiller: {supervised: {model: teacher}}, training: {steps: 1, batch_size: 2}}
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches: [{feature: hidden, loss: hidden_mse, layers: {0: 0, 2: 1}}]
    training: {steps: 3, batch_size: 2, log_every: 1}
"""
ROWS = [("good", ["a"]), ("bad", []), ("fine it is", ["a", "b"]), ("awful", ["b"])]
CNN = "models.student={textcnn: {like: teacher, embedding: 6, filters: 4, kernels: [2, 3]}}"


@pytest.fixture
def folder(tmp_path):
    tiny(tmp_path / "tiny")
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\n")
    return tmp_path


@pytest.mark.parametrize(("sets", "network"), [((), "bigru"), ((CNN,), "textcnn")])
def test_it_learns_is_compared_and_loads_again_without_a_spec(sets, network, folder):
    assert check(SPEC, folder=folder, sets=sets).diagnostics == ()
    result = run(SPEC, folder / "runs", folder=folder, sets=sets)
    row = next(row for row in result.table if row.model == "student")
    module, tokenizer = load(result.student)
    assert row.role == "student"
    assert row.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert row.latency_ms > 0
    logits = module(**tokenizer(["good", "awful it is"], padding=True, return_tensors="pt"))["logits"]
    assert logits.shape == (2, 2)
    written = json.loads((result.student / "config.json").read_text())
    assert (written["network"], written["labels"]) == (network, ["no", "yes"])
    assert "library_name" not in (result.student / "README.md").read_text()
    events = (result.folder / "events.jsonl").read_text()
    assert "hidden.hidden_mse.0-0" in events
    assert "hidden.hidden_mse.2-1" in events


@pytest.mark.slow
def test_the_same_seed_gives_the_same_student(folder):
    found = [load(run(SPEC, folder / name, folder=folder).student)[0].state_dict() for name in ("one", "other")]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_embeddings_begin_as_word_vectors(folder):
    (folder / "vectors.txt").write_text("a 1 2 3 4 5 6\nb 6 5 4 3 2 1\nnobody 0 0 0 0 0 0\n")
    sets = ["models.student.bigru.vectors=vectors.txt", "stages.distil.training.optimizer={sgd: {lr: 1.0e-20}}"]
    module, tokenizer = load((result := run(SPEC, folder / "runs", folder=folder, sets=sets)).student)
    assert module.embeddings.weight[tokenizer.get_vocab()["b"]].tolist() == pytest.approx([6, 5, 4, 3, 2, 1])
    assert json.loads((result.student / "config.json").read_text())["vectors"]["found"] == 2


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        (["models.student.bigru={embedding: 6}"], "KD102", "missing key `like`"),
        (["models.student.bigru={like: teacher, tokenizer: ./tiny}"], "KD107", "exclude each other"),
        (["models.student.bigru={like: techer}"], "KD204", "unknown model `techer`"),
        (["models.student.bigru={like: teacher, dropout: 1}"], "KD104", "less than 1"),
        (["models.student.bigru={like: teacher, hiden: 3}"], "KD101", "unknown key `hiden`"),
        (["models.student.bigru.vectors=vectors.tx"], "KD310", "no file `vectors.tx`"),
        (["models.student.bigru.vectors=vectors.txt"], "KD302", "the word vectors are 2 wide, the embeddings 6"),
        (["models.student={textcnn: {like: teacher, kernels: [0]}}"], "KD104", "at least 1"),
        (["stages.distil.distiller.general.matches.0.layers={2: 2}"], "KD301", "`student` has no `hidden` 2"),
    ],
)
def test_mistakes_are_found_before_anything_runs(sets, code, message, folder):
    (folder / "vectors.txt").write_text("a 1 2\n")
    errors = check(SPEC, folder=folder, sets=sets).errors
    assert [error.code for error in errors] == [code]
    assert message in f"{errors[0].message} {errors[0].primary}"


@pytest.mark.slow
def test_a_run_that_was_stopped_resumes_bit_for_bit(folder):
    stop = """
import os, signal
from kdspec import hookimpl

@hookimpl
def kdspec_observe(event, session):
    if type(event).__name__ == "StepDone" and (event.stage, event.step) == ("distil", 2):
        os.kill(os.getpid(), signal.SIGINT)
"""
    (folder / "stop.py").write_text(stop)
    whole = run(SPEC, folder / "whole", folder=folder)
    with pytest.raises(Interrupted):
        run(SPEC, folder / "runs", folder / "stop.py", folder=folder)
    resumed = run(SPEC, folder / "runs", folder=folder)
    mine, other = (load(result.student)[0].state_dict() for result in (whole, resumed))
    assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.slow
def test_what_a_run_has_left_teaches_in_another(folder):
    left = run(SPEC, folder / "runs", folder=folder).student
    path = f"models.teacher={{bigru: {{path: {left}}}}}"
    text = SPEC.replace("  fit: {distiller: {supervised: {model: teacher}}, training: {steps: 1, batch_size: 2}}\n", "")
    student = "models.student={textcnn: {like: teacher, filters: 2}}"
    sets = ["name=again", student, path, "stages.distil.distiller.general.matches=[]"]
    assert check(text, folder=folder, sets=sets).diagnostics == ()
    result = run(text, folder / "runs", folder=folder, sets=sets)
    teacher = next(row for row in result.table if row.model == "teacher")
    assert teacher.parameters == sum(p.numel() for p in load(left)[0].parameters())
    for wrong, message in (
        ("models.teacher={textcnn: {path: LEFT}}", "has no `textcnn`"),
        ("tasks.reviews.sequence_classification.labels=[yes, no]", "the classes of task `reviews` in another order"),
    ):
        with pytest.raises(DiagnosticError, match=message):
            run(text, folder / "wrong", folder=folder, sets=[*sets, wrong.replace("LEFT", str(left))])


@pytest.mark.parametrize(
    "task",
    [
        "{multi_label: {data: {json: {train: some.jsonl}}, text: text, label: labels}}",
        "{regression: {data: {json: {train: some.jsonl}}, text: text, label: score}}",
    ],
    ids=["multi_label", "regression"],
)
def test_there_are_heads_for_several_labels_and_for_numbers(task, folder):
    rows = [{"text": text, "labels": labels, "score": n} for n, (text, labels) in enumerate(ROWS)]
    (folder / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    supervised = "stages={fit: {distiller: {supervised: {model: student}}, training: {steps: 1, batch_size: 2}}}"
    for network in ("models.student={bigru: {tokenizer: ./tiny}}", "models.student={textcnn: {tokenizer: ./tiny}}"):
        sets = [f"tasks.reviews={task}", supervised, network]
        assert run(SPEC, folder / network[16:20], folder=folder, sets=sets).student.is_dir()


def test_a_bigru_tags_each_token(folder):
    (folder / "tags.conll").write_text("good B-x\nfilm O\n\nbad O\nit B-x\n\n")
    tags = "tasks={tags: {token_classification: {data: {conll: {train: tags.conll, validation: tags.conll}}}}}"
    result = run(SPEC, folder / "runs", folder=folder, sets=[tags])
    module, tokenizer = load(result.student)
    assert module(**tokenizer(["good film"], return_tensors="pt"))["logits"].ndim == 3


def test_a_task_for_which_it_has_no_head_is_reported(folder):
    (folder / "tags.conll").write_text("good B-x\nfilm O\n\nbad O\n\n")
    tags = "tasks={tags: {token_classification: {data: {conll: {train: tags.conll}}}}}"
    with pytest.raises(DiagnosticError) as caught:
        run(SPEC, folder / "runs", folder=folder, sets=[tags, CNN, "stages.distil.distiller.general.matches=[]"])
    assert "`textcnn` has no head for `token_classification`" in caught.value.diagnostics[0].message


def test_shapes_are_known_before_the_tokenizer_is_downloaded():
    models = {
        "teacher": Transformers(path="nobody/nothing", config={"model_type": "bert", "vocab_size": 300}),
        "student": BiGruModel(like="teacher", embedding=6, hidden=5),
    }
    context = ModelContext(
        name="student", models=models, head=Head(kind="sequence_classification", labels=("no", "yes"))
    )
    module = models["student"].build(replace(context, weights=False))
    assert module.embeddings.weight.shape == (300, 6)
    with pytest.raises(Fault, match="cannot be loaded"):
        models["student"].build(context)


def test_a_saved_network_keeps_its_head_whatever_the_spelling_and_not_in_another_order(folder):
    ran = run(SPEC, folder / "runs", folder=folder, sets=[CNN, "stages.distil.distiller.general.matches=[]"])
    saved = TextCnnModel(path=str(ran.student))
    names = saved.facts(ModelContext()).labels

    def build(*labels):
        head = Head(kind="sequence_classification", labels=labels)
        return saved.build(ModelContext(name="student", head=head))

    assert build(*names).configuration["labels"] == list(names)
    assert build(*map(str.upper, names)).configuration["labels"] == [name.upper() for name in names]
    with pytest.raises(Fault) as caught:
        build(*reversed(names))
    assert (caught.value.code, caught.value.at) == ("KD317", ("path",))
    assert f"labels: [{', '.join(names)}]" in caught.value.help
