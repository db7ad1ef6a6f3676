"""Retrieval and hard negatives with transformers models, against vectors that sentence-transformers computes."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch

from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.run.session import Session
from kdspec.testing import plan, registry, tiny

SPEC = """\
kdspec: 1
name: search
seed: 1
tasks:
  search:
    ranking:
      data: {json: {train: rows.jsonl, validation: rows.jsonl}}
      documents: [pos, neg]
      positives: pos
      without_text: leave_out
      retrieve: {corpus: corpus.jsonl, queries: queries.jsonl, relevant: relevant.tsv}
      mine: {model: finder, negatives: 2}
models:
  teacher: {transformers: {path: ./teacher, reads: each, similarity: maxsim}}
  finder: {transformers: {path: ./student, reads: each}}
  student: {transformers: {path: ./student, reads: each}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: kl}, hard_labels: {weight: 0.5}}}
    training: {epochs: 1, batch_size: 8, optimizer: {adamw: {lr: 1.0e-3}}, evaluate: {metric: retrieve.ndcg@10}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    for name in ("teacher", "student"):
        tiny(tmp_path / name, layers=2, width=16)
    drawn = random.Random(0)
    documents = [" ".join(drawn.choices("abcdefghij", k=drawn.randint(3, 9))) for _ in range(30)]
    lines(tmp_path / "rows.jsonl", [{"query": text[:3], "pos": text, "neg": []} for text in documents[:16]])
    lines(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": text} for n, text in enumerate(documents)])
    lines(tmp_path / "queries.jsonl", [{"_id": f"q{n}", "text": text[-3:]} for n, text in enumerate(documents[:8])])
    pairs = "".join(f"q{n}\td{n}\t1\n" for n in range(8))
    (tmp_path / "relevant.tsv").write_text("query-id\tcorpus-id\tscore\n" + pairs)
    return tmp_path


def lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_a_saved_student_finds_in_sentence_transformers_what_the_run_says(folder):
    from sentence_transformers import SentenceTransformer

    components = registry()
    result = Session(plan(SPEC, components, folder=folder), components, output=folder / "runs", device="cpu").run()
    (row,) = (row for row in result.table if row.model == "student")
    model = SentenceTransformer(str(result.student), device="cpu")
    queries, documents = (
        torch.nn.functional.normalize(
            torch.tensor(model.encode([each["text"] for each in read(folder / name)])).double(), dim=1
        )
        for name in ("queries.jsonl", "corpus.jsonl")
    )
    scores = queries @ documents.T
    ranks = [1 + int((of > of[number] + 1e-7).sum()) for number, of in enumerate(scores)]
    assert row.metrics["retrieve.mrr@10"] == pytest.approx(
        sum(1 / r if r <= 10 else 0 for r in ranks) / len(ranks), abs=1e-6
    )
    gained = [1 / math.log2(r + 1) if r <= 10 else 0 for r in ranks]
    assert row.metrics["retrieve.ndcg@10"] == pytest.approx(sum(gained) / len(gained), abs=1e-6)
    (teacher,) = (row for row in result.table if row.model == "teacher")
    assert "retrieve.ndcg@10" in teacher.metrics, "late interaction searches as well"


@pytest.mark.slow
def test_mined_negatives_are_the_nearest_documents_below_the_positive(folder):
    from sentence_transformers import SentenceTransformer

    made = built_tasks(plan(SPEC, registry(), folder=folder))["search"].texts("train")
    model = SentenceTransformer(str(folder / "student"), device="cpu")
    rows = read(folder / "rows.jsonl")
    corpus = list(dict.fromkeys(row["pos"] for row in rows))
    vectors = {text: torch.tensor(model.encode(text)).double() for text in {*corpus, *(row["query"] for row in rows)}}
    for (query, positive, *negatives), row in zip(made, rows, strict=True):
        right = {each["pos"] for each in rows if each["query"] == query}
        scores = {text: torch.cosine_similarity(vectors[query], vectors[text], dim=0).item() for text in corpus}
        limit = min(scores[text] for text in right)
        below = sorted(
            (text for text in corpus if text not in right and scores[text] < limit - 1e-6), key=lambda t: -scores[t]
        )
        assert positive == row["pos"]
        assert negatives == below[: len(negatives)]
        assert len(negatives) == min(2, len(below))
