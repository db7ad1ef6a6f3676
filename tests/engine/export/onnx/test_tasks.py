"""Each task with models of each kind: what its script prints, without torch, is what the model in torch answers."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from exported import ended, use
from headed_models import headed
from tiny_readers import pieces

from kdspec.cli import main
from kdspec.testing import run, tiny

pytestmark = pytest.mark.slow

TRAINING = "{steps: 12, batch_size: 8, evaluate: null, optimizer: {adamw: {lr: 0.02}}}"
SPEC = """\
kdspec: 1
name: made
tasks: {{it: {task}}}
models:
  teacher: {{transformers: {{path: teacher}}}}
  student: {student}
stages:
  train:
    distiller: {distiller}
    training: {training}
"""
WORDS = [" ".join("abcdefghij"[n % 10] for n in range(row, row + 1 + row % 7)) for row in range(40)]
TRANSFORMERS = "{transformers: {like: teacher, config: {num_hidden_layers: 1}}}"
SUPERVISED = "{supervised: {model: student}}"


@dataclass
class Made:
    """A run whose student is exported."""

    run: Path
    folder: Path

    @property
    def forms(self) -> list[dict]:
        return json.loads((self.folder / "check.json").read_text())["forms"]

    @property
    def config(self) -> dict:
        return json.loads((self.folder / "config.json").read_text())

    def predicted(self, rows: list[dict]) -> list[dict]:
        file, to = self.run.parent / "new.jsonl", self.run.parent / "predicted.jsonl"
        to.unlink(missing_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["predict", str(self.run), "--data", str(file), "-o", str(to)]) == 0
        return [json.loads(line) for line in to.read_text().splitlines()]


@pytest.fixture
def made(tmp_path):
    def make(task, rows, student=TRANSFORMERS, distiller=SUPERVISED, options=(), text=SPEC, **teacher) -> Made:
        tiny(tmp_path / "teacher", seed=1, **teacher)
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = text.format(task=task, student=student, distiller=distiller, training=TRAINING)
        folder = run(spec, tmp_path / "runs", folder=tmp_path).folder
        assert main(["export", str(folder), "--onnx", "--int8", "-o", str(tmp_path / "out"), *options]) == 0
        found = Made(folder, tmp_path / "out")
        torch, onnx, int8 = found.forms
        assert max(each["relative"] for each in onnx["difference"].values()) < 1e-4
        assert onnx["metrics"] == pytest.approx(torch["metrics"], abs=1e-4, nan_ok=True)
        assert max(each["relative"] for each in int8["difference"].values()) < 0.5
        return found

    return make


DATA = "data: {json: {train: rows.jsonl, validation: rows.jsonl}}"


@pytest.mark.parametrize(
    "student",
    [
        "{bigru: {like: teacher, embedding: 8, hidden: 6, layers: 2}}",
        "{textcnn: {like: teacher, embedding: 8, filters: 6}}",
        TRANSFORMERS,
    ],
    ids=["bigru", "textcnn", "transformers"],
)
def test_classes_of_pairs(made, student):
    rows = [{"one": text, "two": WORDS[-row], "label": "xyz"[row % 3]} for row, text in enumerate(WORDS)]
    found = made(
        f"{{sequence_classification: {{{DATA}, text: [one, two], label: label, max_length: 16}}}}", rows, student
    )
    given = [("a b", "c"), ("a", "b c d e f g h i j a b c d e"), ("j " * 30, "a " * 40)]
    expected = found.predicted([{"one": one, "two": two} for one, two in given])
    lines = use(found.folder, *(text for pair in given for text in pair))
    assert lines == [
        f"{row['answer']} {row['confidence']:.4f} {pair}" for row, pair in zip(expected, given, strict=True)
    ]


def test_labels_above_a_threshold(made):
    rows = [{"text": text, "x": row % 2, "y": int(row % 3 == 0)} for row, text in enumerate(WORDS)]
    task = f"{{multi_label: {{{DATA}, text: text, label: [x, y], threshold: 0.4}}}}"
    found = made(task, rows, "{textcnn: {like: teacher, embedding: 8, filters: 6}}")
    expected = found.predicted([{"text": text} for text in WORDS])
    assert use(found.folder, *WORDS) == [f"{row['answer']} {row['text']}" for row in expected]
    assert len({str(row["answer"]) for row in expected}) > 1


def test_numbers(made):
    rows = [{"text": text, "long": row % 7, "other": -row} for row, text in enumerate(WORDS)]
    task = f"{{regression: {{{DATA}, text: text, label: [long, other]}}}}"
    found = made(task, rows, "{static: {like: teacher, width: 8, weights: true}}")
    expected = found.predicted([{"text": text} for text in WORDS[:9]])
    for row, line in zip(expected, use(found.folder, *WORDS[:9]), strict=True):
        assert line.endswith(f" {row['text']}")
        assert ast.literal_eval(line[: line.index("}") + 1]) == pytest.approx(row["answer"], rel=1e-4)


@pytest.mark.parametrize(
    ("student", "family"),
    [("{bigru: {like: teacher, embedding: 8, hidden: 6}}", "bert"), (TRANSFORMERS, "roberta")],
    ids=["bigru", "roberta"],
)
def test_tags_of_words(made, student, family):
    rows = [{"tokens": text.split(), "tags": ["XY"[word > "d"] for word in text.split()]} for text in WORDS]
    found = made(f"{{token_classification: {{{DATA}, scheme: plain}}}}", rows, student, family=family)
    sentences = ["a b", "abc def g", "j i h g"]
    expected = found.predicted([{"tokens": text.split()} for text in sentences])
    for row, line in zip(expected, use(found.folder, *sentences), strict=True):
        assert ast.literal_eval(line) == [*zip(row["tokens"], row["answer"], strict=True)]
    assert len({tag for row in expected for tag in row["answer"]}) > 1


LONG = ["a b c d e f g h i j " * 3, "abcdefghij " * 2 + "a", "a", "", "a b cdefg hijabcdefgh i j a b"]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tags_of_sentences_that_are_read_in_parts(made, family):
    rows = [{"tokens": text.split(), "tags": ["XY"[word > "d"] for word in text.split()]} for text in WORDS]
    task = f"{{token_classification: {{{DATA}, scheme: plain, max_length: 9}}}}"
    found = made(task, rows, family=family)
    expected = found.predicted([{"tokens": text.split()} for text in LONG if text])
    process = ended(found.folder, *LONG)
    printed = [ast.literal_eval(line) for line in process.stdout.splitlines()]
    assert printed.pop(LONG.index("")) == []
    for row, line in zip(expected, printed, strict=True):
        assert line == [*zip(row["tokens"], row["answer"], strict=True)]
        assert None not in row["answer"]
    assert process.stderr == ""
    assert use(found.folder, "") == ["[]"]


def test_tags_where_a_space_belongs_to_the_word_behind_it_but_not_in_chinese(tmp_path):
    headed(tmp_path / "teacher", "AutoModelForTokenClassification", ["X", "Y"], seed=3, vocab_size=320)
    pieces(tmp_path / "teacher")
    rows = [{"words": text.split(), "tags": ["XY"[word > "d"] for word in text.split()]} for text in WORDS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = SPEC.format(
        task=f"{{token_classification: {{{DATA}, tokens: words, scheme: plain, max_length: 12}}}}", student=TRANSFORMERS,
        training=TRAINING, distiller="{general: {teacher: teacher, student: student}}",
    )  # fmt: skip
    found = Made(run(spec, tmp_path / "runs", folder=tmp_path).folder, tmp_path / "out")
    assert main(["export", str(found.run), "--onnx", "--model", "teacher", "-o", str(found.folder)]) == 0
    texts = ["the sport is a sport", "\u6c49 \u5b57 sport \u6c49 ab", "a \u6c49"]
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps({"words": text.split()}) + "\n" for text in texts))
    to = tmp_path / "predicted.jsonl"
    assert main(["predict", str(found.run), "--model", "teacher", "--data", str(file), "-o", str(to)]) == 0
    expected = [json.loads(line) for line in to.read_text().splitlines()]
    for row, line in zip(expected, use(found.folder, *texts), strict=True):
        assert ast.literal_eval(line) == [*zip(row["words"], row["answer"], strict=True)]
    line = next(line for line in (found.folder / "use.py").read_text().splitlines() if line.startswith("spaced = "))
    names = {"re": re, "before": ["", " "], "config": found.config}
    exec(line, names)
    assert names["spaced"](texts[-2].split()) == ["\u6c49", "\u5b57", " sport", "\u6c49", " ab"]


def test_tags_of_truncated_sentences_and_the_words_without_one(made):
    rows = [{"tokens": text.split(), "tags": ["XY"[word > "d"] for word in text.split()]} for text in WORDS]
    task = f"{{token_classification: {{{DATA}, scheme: plain, max_length: 9, long_sentences: cut}}}}"
    found = made(task, rows)
    (row,) = found.predicted([{"tokens": LONG[0].split()}])
    process = ended(found.folder, "a b", LONG[0])
    first, second = (ast.literal_eval(line) for line in process.stdout.splitlines())
    assert None not in dict(first).values()
    assert second == [*zip(row["tokens"], row["answer"], strict=True)]
    untagged = [word for word, tag in second if tag is None]
    assert len(untagged) == 23
    assert process.stderr == f"sentence 2: no tag for {untagged}\n"


@pytest.mark.parametrize("unanswerable", ["", ", unanswerable: {threshold: -0.5}"], ids=["each", "some"])
def test_answers_in_windows_of_a_text(made, unanswerable):
    contexts = [f"{text} {WORDS[-row]} {'x y ' * (row % 9)}" for row, text in enumerate(WORDS)]
    rows = [
        {"question": text[:5], "context": context, "answers": {"text": [context[:1]], "answer_start": [0]}}
        for text, context in zip(WORDS, contexts, strict=True)
    ]
    found = made(f"{{question_answering: {{{DATA}, max_length: 20, stride: 4{unanswerable}}}}}", rows)
    given = [(row["question"], row["context"]) for row in rows[:12]]
    expected = found.predicted([{"question": one, "context": two} for one, two in given])
    lines = use(found.folder, *(text for pair in given for text in pair))
    assert any(len(context.split()) > 20 for _, context in given)
    assert lines == [f"{row['answer']} {row['score']:.4f} {row['question']}" for row in expected]


def test_tokens_in_the_place_of_a_mask(made, tmp_path):
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    task = f"{{masked_lm: {{{DATA}, text: text, max_length: 20}}}}"
    found = made(task, [{"text": f"{text} k"} for text in WORDS])
    tokenizer = AutoTokenizer.from_pretrained(found.run / "student")
    model = AutoModelForMaskedLM.from_pretrained(found.run / "student")
    texts = ["a b [MASK] d", "[MASK] c"]
    for text, line in zip(texts, use(found.folder, *texts), strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        best = logits[inputs["input_ids"][0] == tokenizer.mask_token_id][0].topk(5).indices.tolist()
        assert ast.literal_eval(line) == tokenizer.convert_ids_to_tokens(best)


@pytest.mark.parametrize(
    ("student", "about"),
    [
        (
            TRANSFORMERS.replace(
                "}}}", "}, readout: {pooling: max, normalize: true, dense: [6], prompts: {query: 'ask '}}}}"
            ),
            {"pooling": "max", "normalized": True, "prompts": ["ask ", "ask "]},
        ),
        ("{static: {like: teacher, width: 8, normalize: false}}", {"pooling": "mean", "normalized": False}),
        ("{bigru: {like: teacher, embedding: 8, hidden: 6}}", {}),
    ],
    ids=["transformers", "static", "bigru"],
)
def test_vectors_of_texts(made, student, about):
    import numpy as np

    task = f"{{embedding: {{data: {{json: {{train: rows.jsonl}}}}, text: text{', prompt: query' if 'prompts' in about else ''}}}}}"
    distiller = "{general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: cos}]}}"
    found = made(task, [{"text": text} for text in WORDS], student, distiller)
    assert {key: found.config[key] for key in about} == about
    vectors = np.array([row["embedding"] for row in found.predicted([{"text": text} for text in WORDS[:5]])])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, text, line in zip(unit @ unit.T, WORDS, use(found.folder, *WORDS[:5]), strict=False):
        assert line.endswith(f"] {text}")
        assert ast.literal_eval(line[: line.index("]") + 1]) == pytest.approx(row.tolist(), abs=1e-4)


READS = {
    "pair": "reads: pair",
    "cos": "reads: each",
    "dot": "reads: each, similarity: dot",
    "maxsim": "reads: each, similarity: maxsim, readout: {dense: [6], prompts: {query: 'q ', document: 'd '}}",
}


@pytest.mark.parametrize("reads", READS)
def test_scores_of_candidates(made, reads):
    rows = [
        {"query": text, "documents": [WORDS[-row], WORDS[row - 7], text], "best": text}
        for row, text in enumerate(WORDS)
        if text
    ]
    rows = [row for row in rows if len(set(row["documents"])) > 1]
    task = f"{{ranking: {{{DATA}, query: query, documents: documents, positives: best}}}}"
    student = f"{{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}, {READS[reads]}}}}}"
    found = made(task, rows, student)
    documents = ["a b", "c", "h i j a"]
    (row,) = found.predicted([{"query": "b c", "documents": documents}])
    scale = 20 if reads == "cos" else 1
    if reads == "pair":
        lines = use(found.folder, *(text for document in documents for text in ("b c", document)))
    else:
        lines = use(found.folder, "b c", *documents)
        assert [line.split(" ", 1)[1] for line in lines] == documents
    assert [scale * float(line.split(" ", 1)[0]) for line in lines] == pytest.approx(row["scores"], abs=2e-3)


def test_a_calibrated_student_as_it_is(made):
    rows = [{"text": text, "label": "xy"[("c" in text) != (row % 6 == 0)]} for row, text in enumerate(WORDS)]
    text = SPEC.replace(
        "{training}", TRAINING.replace("evaluate: null", "calibrate: temperature").replace("{", "{{").replace("}", "}}")
    )
    found = made(f"{{sequence_classification: {{{DATA}, text: text, label: label}}}}", rows, text=text)
    saved = json.loads((found.run / "student" / "config.json").read_text())
    assert saved["kdspec_calibration"]["temperature"] != 1
    expected = found.predicted([{"text": text} for text in WORDS[:6]])
    assert use(found.folder, *WORDS[:6]) == [
        f"{row['answer']} {row['confidence']:.4f} {row['text']}" for row in expected
    ]


def test_a_loaded_head_with_merged_classes(tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = headed(tmp_path / "teacher", "AutoModelForSequenceClassification", ["joy", "love", "anger"], seed=3)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        shares = model(**tokenizer(WORDS, padding=True, return_tensors="pt")).logits.softmax(-1)
    rows = [
        {"text": text, "label": "bad" if anger > 0.5 else "good"}
        for text, anger in zip(WORDS, shares[:, 2].tolist(), strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = SPEC.format(
        task=f"{{sequence_classification: {{{DATA}, text: text, label: label, labels: [good, bad]}}}}",
        student=TRANSFORMERS, distiller="{general: {teacher: teacher, student: student}}", training=TRAINING,
    ).replace("path: teacher", "path: teacher, labels: {joy: good, love: good, anger: bad}")  # fmt: skip
    found = Made(run(spec, tmp_path / "runs", folder=tmp_path).folder, tmp_path / "out")
    assert main(["export", str(found.run), "--onnx", "--model", "teacher", "-o", str(found.folder)]) == 0
    assert found.config["labels"] == ["good", "bad"]
    assert (found.forms[1]["agreement"], found.forms[1]["metrics"]["accuracy"]) == (1, 1)
    lines = use(found.folder, *WORDS[:6])
    likely = [(share, "bad") if share > 0.5 else (1 - share, "good") for share in shares[:6, 2].tolist()]
    assert [line.split(" ")[:2] for line in lines] == [[name, f"{share:.4f}"] for share, name in likely]


@pytest.mark.parametrize(
    ("task", "head", "labels"),
    [
        ("sequence_classification", "AutoModelForSequenceClassification", ["x", "y", "z"]),
        ("token_classification", "AutoModelForTokenClassification", ["O", "B-X"]),
        ("question_answering", "AutoModelForQuestionAnswering", None),
    ],
)
def test_rows_without_labels_have_the_answers_of_torch(tmp_path, task, head, labels):
    headed(tmp_path / "teacher", head, labels, seed=3)
    rows = [{"text": text, "words": text.split(), "question": "a b", "context": text} for text in WORDS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {
        "sequence_classification": "text: text",
        "token_classification": "tokens: words, tags: null",
        "question_answering": "answers: null",
    }
    spec = SPEC.format(
        task=f"{{{task}: {{{DATA}, {columns[task]}}}}}", student=TRANSFORMERS, training=TRAINING,
        distiller="{general: {teacher: teacher, student: student}}",
    )  # fmt: skip
    found = Made(run(spec, tmp_path / "runs", folder=tmp_path).folder, tmp_path / "out")
    assert main(["export", str(found.run), "--onnx", "--int8", "-o", str(found.folder)]) == 0
    torch, onnx, int8 = found.forms
    assert (torch["agreement"], onnx["agreement"]) == (None, 1)
    assert 0.5 < int8["agreement"] <= 1


def test_one_task_of_a_student_of_two(tmp_path, capsys):
    tiny(tmp_path / "teacher", seed=1)
    rows = [{"text": text, "label": "xy"[row % 2], "size": row % 7} for row, text in enumerate(WORDS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = """\
kdspec: 1
name: two
tasks:
  kinds: {sequence_classification: {data: {json: {train: rows.jsonl, validation: rows.jsonl}}, text: text, label: label}}
  sizes: {regression: {data: {json: {train: rows.jsonl, validation: rows.jsonl}}, text: text, label: size}}
models: {student: {transformers: {path: teacher}}}
stages:
  both:
    distiller: {multi_task: {student: student, tasks: {kinds: {hard_labels: {weight: 1}}, sizes: {hard_labels: {weight: 1}}}}}
    training: {steps: 6, batch_size: 8, evaluate: null}
"""
    found = Made(run(spec, tmp_path / "runs", folder=tmp_path).folder, tmp_path / "out")
    capsys.readouterr()
    assert main(["export", str(found.run), "--onnx"]) == 2
    assert "which task of `student`? One of `kinds`, `sizes`" in " ".join(capsys.readouterr().err.split())
    assert main(["export", str(found.run), "--onnx", "--task", "sizes", "-o", str(found.folder)]) == 0
    assert (found.config["task"], found.config["labels"]) == ("regression", ["size"])
    assert main(["export", str(found.run), "--onnx", "--task", "kinds"]) == 0
    assert (found.run / "onnx" / "student-kinds" / "model.onnx").is_file()
