"""A corpus searched by the models of a ranking task, beside given candidates."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from frozen_models import states
from ranking_models import Scorer
from torch import nn

from kdspec.api.kinds.context import TaskContext
from kdspec.api.working.task import Reader
from kdspec.builtins.datasets.files import Json
from kdspec.builtins.tasks.ranking import Ranking
from kdspec.data.ranking.searched_texts import SearchedTexts
from kdspec.ops.retrieval.ranked_metrics import is_metric
from kdspec.testing import tiny

ROWS = [{"query": "ab", "pos": "ab c", "neg": ["gh", "ij"]}, {"query": "cd", "pos": "cd e", "neg": ["ab c"]}]
DOCUMENTS = {"d1": "ab ab", "d2": "c d", "d3": "ef", "d4": "ab ab", "d5": "ghi", "d6": "jk l"}
QUERIES = {"q1": "ab", "q2": "dc", "q3": "e f", "q4": "ab"}
RELEVANT = {("q1", "d4"): 2, ("q1", "d3"): 1, ("q2", "d2"): 1, ("q3", "d6"): 3, ("q3", "d5"): 0, ("q4", "d1"): 1}


class TokenScorer(Scorer):
    """Late interaction over token vectors."""

    def forward(self, query=None, document=None, queries=None, candidates=None):
        found = {}
        for side, given in (("query", query), ("document", document)):
            vectors = nn.functional.normalize(self.vectors(given["input_ids"]), dim=-1)
            found[f"{side}_vectors"] = vectors
        return {**found, "logits": torch.zeros(candidates.shape)}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("letters"), layers=1, width=4))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, texts in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = (json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items())
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    pairs = "".join(f"{query}\t{document}\t{value}\n" for (query, document), value in RELEVANT.items())
    (tmp_path / "relevant.tsv").write_text("query-id\tcorpus-id\tscore\n" + pairs)
    return tmp_path


RETRIEVE = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "relevant": "relevant.tsv"}


def task(validation="rows.jsonl", positives="pos", **fields):
    data = Json(train=["rows.jsonl"], validation=None if validation is None else [validation])
    return Ranking(data=data, documents=["pos", "neg"], positives=positives, retrieve=RETRIEVE, **fields)


def built(folder, **fields):
    return task(**fields).build(TaskContext(folder=folder))


def by_hand(module, tokenizer, *, tokens=False):
    """MRR@10 of all queries, text by text."""

    def vectors(text):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        made = module.vectors(ids)[0].detach().double()
        return nn.functional.normalize(made, dim=-1) if tokens else made.mean(0)

    def score(query, document):
        one, other = vectors(query), vectors(document)
        return float((one @ other.T).amax(1).sum() if tokens else one @ other)

    found = []
    for key, query in QUERIES.items():
        order = sorted(enumerate(DOCUMENTS), key=lambda each: (-round(score(query, DOCUMENTS[each[1]]), 6), each[0]))
        right = {document for (of, document), value in RELEVANT.items() if of == key and value > 0}
        found.append(1 / next(rank for rank, (_, name) in enumerate(order, 1) if name in right))
    return sum(found) / len(found)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(("at_once", "backwards"), [(1, False), (3, True), (50, False)])
def test_the_metrics_are_those_of_each_pair_of_texts(folder, tokenizer, tokens, at_once, backwards):
    made = built(folder)
    module = (TokenScorer if tokens else Scorer)(len(tokenizer), seed=3)
    found = states(module, made, "validation", Reader(tokenizer, "each"), at_once, backwards=backwards)
    metrics = made.evaluator("validation").merge(found)
    assert metrics["retrieve.mrr@10"] == pytest.approx(by_hand(module, tokenizer, tokens=tokens), abs=1e-9)
    assert {"ndcg@10", "map", "retrieve.ndcg@10", "retrieve.recall@100", "retrieve.map"} < metrics.keys()
    assert metrics.keys() == {*task().metric_names()}


def test_each_text_is_a_row_once_and_read_beside_a_short_one(folder, tokenizer):
    made = built(folder)
    given, searched = len(ROWS), len({*QUERIES.values()}) + len({*DOCUMENTS.values()})
    assert made.rows("validation") == given + searched
    assert made.labelled("validation") == given + len(QUERIES)
    assert made.rows("train") == given
    assert len(made.texts("validation")) == made.rows("validation")
    (encoded,) = made.encode("validation", [reader := Reader(tokenizer, "each")])
    batch = made.collate(encoded[given:], reader)
    assert [len(batch.inputs[side]["input_ids"]) for side in ("query", "document")] == [3, 5]


def test_a_model_that_reads_pairs_ranks_the_given_candidates_alone(folder, tokenizer):
    made = built(folder)
    found = states(Scorer(len(tokenizer)), made, "validation", Reader(tokenizer, "pair"))
    metrics = made.evaluator("validation").merge(found)
    assert metrics.keys() == {"ndcg@10", "mrr@10", "map", "accuracy"}
    without = Ranking(
        data=Json(train=["rows.jsonl"], validation=["rows.jsonl"]), documents=["pos", "neg"], positives="pos"
    )
    alone = without.build(TaskContext(folder=folder))
    expected = states(Scorer(len(tokenizer)), alone, "validation", Reader(tokenizer, "pair"))
    assert metrics == alone.evaluator("validation").merge(expected)
    assert made.evaluator("validation").agreement(found, found) == 1.0


def test_few_rows_of_the_search_have_no_metrics(folder, tokenizer):
    made = built(folder)
    found = states(Scorer(len(tokenizer)), made, "validation", Reader(tokenizer, "each"), at_once=4)[:2]
    assert made.evaluator("validation").merge(found).keys() == {"ndcg@10", "mrr@10", "map", "accuracy"}


def test_without_validation_rows_or_labels_the_search_selects(folder):
    assert built(folder).evaluator("validation").primary.name == "ndcg@10"
    for fields in ({"validation": None}, {"positives": None}):
        made = built(folder, **fields)
        assert made.evaluator("validation").primary.name == "retrieve.ndcg@10"
        assert task(**fields).has_split("validation") is True
        assert made.rows("validation") > 0
    assert task().has_split("test") is False


def test_names_of_the_metrics_are_metrics_of_rankings():
    names = {name.removeprefix("retrieve.") for name in task().search_metrics()}
    assert names
    assert all(map(is_metric, names))


def test_equal_texts_are_one_row():
    texts = SearchedTexts(["a", "b", "a"], ["x", "x"])
    assert len(texts) == 3
