"""The task of ranking the candidates of a query."""

from __future__ import annotations

import math

import datasets
import pytest
import torch
import transformers
from pydantic import ValidationError
from ranking_models import Scorer
from task_batches import agreement_of, metrics_of, states_of
from torch.nn import functional

from kdspec.api.kinds.context import BuildContext, ExampleContext, TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.step import Features
from kdspec.api.working.task import Head, Reader
from kdspec.builtins.datasets.colbert import Colbert
from kdspec.builtins.tasks.ranking import Ranking
from kdspec.diagnostics.fault import Fault
from kdspec.testing import check_task, tiny

ROWS = {
    "query": ["ab", "cd", "ef"],
    "pos": ["ab cd", "cd", "e f"],
    "neg": [["gh", "ij"], ["ab cd"], ["a", "b", "c"]],
    "pos_scores": [3.0, 2.0, 1.0],
    "neg_scores": [[1.0, 0.5], [0.25], [0.0, 0.5, 0.75]],
}
LISTS = {"query": ["ab"], "documents": [["cd", "ef", "gh"]], "scores": [[0.5, 2.0, -1.0]], "best": ["ef"]}


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in self.splits.items()})

    def column_names(self, context):
        return {name: list(rows) for name, rows in self.splits.items()}


TWO = {"documents": ["pos", "neg"], "scores": ["pos_scores", "neg_scores"], "positives": "pos"}


def task(rows=ROWS, **fields):
    splits = rows if "train" in rows else {"train": rows}
    return Ranking(data=Rows(splits=splits), **(fields or TWO))


def built(rows=ROWS, tell=lambda fault: None, **fields):
    return task(rows, **fields).build(TaskContext(tell=tell))


def lists(rows=LISTS, **fields):
    return built(rows, **{"documents": "documents", "scores": "scores", "positives": "best", **fields})


def batch(made, form, tokenizer=None, split="train", rows=slice(None)):
    (encoded,) = made.encode(split, [reader := Reader(tokenizer, form)])
    kept = list(encoded)[rows]
    return batch_of_form(made, kept, reader)


def batch_of_form(made, rows, reader):
    found = made.collate(rows, reader)
    return type(found)(inputs=found.inputs, targets=found.targets, rows=range(len(rows)), encoded=rows)


def fault(action, code, at):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == (code, at), caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Makes a token of each letter."""
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("letters"), layers=1, width=4))


# The spec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"documents": []}, "at least 1"),
        ({"documents": "neg", "max_length": 1}, "greater than or equal to 2"),
        ({"documents": "neg", "max_length": {"passage": 8}}, "passage"),
        ({"documents": "neg", "scores": "a", "margins": "b"}, "the same"),
        ({"documents": ["pos", "neg", "more"], "scores": ["a", "b"]}, "2 columns of scores for 3 of documents"),
    ],
)
def test_a_value_out_of_range(fields, message):
    with pytest.raises(ValidationError, match=message):
        task(**fields)


def test_missing_columns_are_found_before_a_run():
    found = task(documents=["pos", "negs"], scores="sc").check(BuildContext())
    assert [(each.code, each.at) for each in found] == [("KD312", ("documents", 1)), ("KD312", ("scores", 0))]
    assert list(task().check(BuildContext())) == []
    assert task().label_columns() == {("positives",): "pos"}
    assert task(documents="neg").label_columns() == {}


def test_scores_are_asked_for_in_train_alone():
    without = {key: values for key, values in ROWS.items() if "scores" not in key}
    assert list(task({"train": ROWS, "test": without}, **TWO).check(BuildContext())) == []
    assert built({"train": ROWS, "test": without}, **TWO).rows("test") == 3


def test_a_built_task_has_what_the_engine_relies_on(tokenizer):
    check_task(task(), tokenizer=tokenizer)


def test_the_head_scores():
    assert built().head == task().without_rows().head == Head(kind="ranking")


# Inputs


def test_pairs_are_the_tokens_of_a_query_with_each_candidate(tokenizer):
    found = batch(built(), "pair", tokenizer)
    inputs = found.inputs[""]
    assert inputs["candidates"].tolist() == [[0, 1, 2, -1], [3, 4, -1, -1], [5, 6, 7, 8]]
    assert len(inputs["input_ids"]) == len(inputs["attention_mask"]) == len(inputs["token_type_ids"]) == 9
    texts = tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    assert [text.replace(" ", "").replace("##", "") for text in texts][:5] == [
        "ababcd",
        "abgh",
        "abij",
        "cdcd",
        "cdabcd",
    ]
    assert found.targets["candidates_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert found.targets["labels"].tolist() == [0, 0, 0]
    assert found.targets["positives"].tolist() == [[1, 0, 0, 0]] * 3


def test_each_text_stands_in_a_batch_once(tokenizer):
    inputs = batch(built(), "each", tokenizer).inputs
    assert inputs[""]["queries"].tolist() == [0, 1, 2]
    assert inputs[""]["candidates"].tolist() == [[0, 1, 2, -1], [3, 0, -1, -1], [4, 5, 6, 7]]
    assert len(inputs["query"]["input_ids"]) == 3
    assert len(inputs["document"]["input_ids"]) == 8
    assert tokenizer.decode(inputs["document"]["input_ids"][3], skip_special_tokens=True).replace(" ##", "") == "cd"


def test_the_texts_of_a_batch_are_those_of_its_rows_alone(tokenizer):
    inputs = batch(built(), "each", tokenizer, rows=slice(1, 2)).inputs
    assert inputs[""]["candidates"].tolist() == [[0, 1]]
    assert [len(inputs[side]["input_ids"]) for side in ("query", "document")] == [1, 2]


def test_recorded_scores_are_inputs():
    scores = batch(built(), "scores").inputs[""]["scores"]
    assert scores.nan_to_num(nan=-9).tolist() == [[3, 1, 0.5, -9], [2, 0.25, -9, -9], [1, 0, 0.5, 0.75]]


def test_candidates_are_the_same_for_all_readers(tokenizer):
    made = built()
    readers = [Reader(tokenizer, "pair"), Reader(tokenizer, "each"), Reader(None, "scores")]
    batches = [
        batch_of_form(made, rows, reader) for rows, reader in zip(made.encode("train", readers), readers, strict=True)
    ]
    masks = [each.targets["candidates_mask"] for each in batches]
    assert all(mask.equal(masks[0]) for mask in masks)


def test_limits_of_query_and_document(tokenizer):
    made = built(
        {"query": ["abcdef"], "documents": [["abcdefghij", "a"]]},
        documents="documents",
        max_length={"query": 4, "document": 6},
    )
    inputs = batch(made, "each", tokenizer).inputs
    assert (inputs["query"]["input_ids"].shape[1], inputs["document"]["input_ids"].shape[1]) == (4, 6)
    assert batch(made, "pair", tokenizer).inputs[""]["input_ids"].shape[1] == 10


def test_a_model_without_a_tokenizer():
    for form in ("pair", "each"):
        with pytest.raises(Fault) as caught:
            built().encode("train", [Reader(None, form)])
        assert caught.value.code == "KD503"


def test_a_model_that_reads_texts_alone_has_its_prompts_before_them(tokenizer):
    made = built()
    readers = [Reader(tokenizer, "each", {"query": "gg", "document": "h"}), Reader(tokenizer, "each")]
    prompted, plain = (
        batch_of_form(made, rows, reader).inputs
        for rows, reader in zip(made.encode("train", readers), readers, strict=True)
    )
    assert tokenizer.decode(prompted["query"]["input_ids"][0], skip_special_tokens=True).replace(" ##", "") == "ggab"
    for side, more in (("query", 2), ("document", 1)):
        assert prompted[side]["input_ids"].shape[1] == plain[side]["input_ids"].shape[1] + more


def test_rows_are_as_long_as_their_padded_texts(tokenizer):
    made = built()
    ((first, *_),) = made.encode("train", [Reader(tokenizer, "pair")])
    assert len(first[made.length_key]) == 3 * max(first["lengths"])


# The hard loss


def test_the_hard_loss_is_the_cross_entropy_among_the_candidates():
    made = lists(
        {
            **LISTS,
            "query": ["a", "b"],
            "documents": [["x", "y", "z"], ["x", "y"]],
            "scores": [None, None],
            "best": ["y", "x"],
        }
    )
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    (loss,) = made.hard_loss(features_of(logits), targets_only(made)).values()
    ruled = logits.detach().clone()
    ruled[1, 2] = -math.inf
    assert loss.value.item() == pytest.approx(functional.cross_entropy(ruled, torch.tensor([1, 0])).item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss.value, logits)
    assert gradient[1, 2] == 0
    assert gradient.isfinite().all()


def features_of(logits, mask=None):
    return Features({"logits": logits, **({} if mask is None else {"logits_mask": mask})})


def targets_only(made, split="train"):
    """A batch without inputs."""
    from kdspec.api.working.batch import Batch
    from kdspec.data.ranking.ranking_inputs import targets

    rows = [
        {
            "labels": row.positives[0] if row.positives else -100,
            "positives": list(row.positives),
            "candidates": len(row.documents),
        }
        for row in made._rows[split]
    ]
    return Batch(inputs={}, targets=targets(rows), rows=range(len(rows)))


def test_several_positives_are_not_negatives_of_one_another():
    made = built({"query": ["a"], "pos": [["w", "x"]], "neg": [["y", "z"]]}, documents=["pos", "neg"], positives="pos")
    logits = torch.tensor([[2.0, -1.0, 0.5, 1.5]], dtype=torch.float64)
    (loss,) = made.hard_loss(features_of(logits), targets_only(made)).values()
    ones = [functional.cross_entropy(logits[:, [place, 2, 3]], torch.tensor([0])).item() for place in (0, 1)]
    assert loss.value.item() == pytest.approx(sum(ones) / 2, rel=1e-12)


def test_rows_without_a_positive_have_no_loss():
    made = lists({"query": ["a", "b"], "documents": [["x", "y"]] * 2, "best": [None, ["y"]]}, scores=[])
    found = targets_only(made)
    assert found.targets["labels"].tolist() == [-100, 1]
    assert made.units(found, {})["labelled"] == 1
    logits = torch.randn(2, 2, requires_grad=True)
    (loss,) = made.hard_loss(features_of(logits), found).values()
    assert loss.count == 1
    (gradient,) = torch.autograd.grad(loss.value, logits)
    assert gradient[0].tolist() == [0, 0]


def test_a_row_of_positives_alone_has_the_loss_zero():
    made = built({"query": ["a"], "pos": [["w", "x"]]}, documents="pos", positives="pos")
    logits = torch.tensor([[2.0, 300.0]], requires_grad=True)
    (loss,) = made.hard_loss(features_of(logits), targets_only(made)).values()
    assert loss.value == 0
    assert torch.autograd.grad(loss.value, logits)[0].tolist() == [[0, 0]]
    assert made.labelled("train") == 0


def test_without_positives_there_is_no_hard_loss():
    made = built(documents="neg")
    assert made.hard_loss(features_of(torch.zeros(3, 3)), targets_only(made)) == {}
    assert not task(documents="neg").has_labels()
    assert "labels" not in task(documents="neg").adaptor()


# In-batch negatives

IN_BATCH = {"documents": ["pos", "neg"], "positives": "pos"}
PASSAGES = {"query": ["a", "b", "a", "c"], "pos": ["x", "y", "z", None], "neg": [["u"], ["x", "u"], ["y"], ["v"]]}
"""Documents in the order of a batch: x u y z v. `z` is a positive of the query of the first row too, and `x` of the third's."""


def across(made, tokenizer, model=None, rows=slice(None)):
    """The loss across the rows of a batch, the scores of all documents, and the batch."""
    given = batch(made, "each", tokenizer, rows=rows)
    features = Features((model or Scorer(len(tokenizer)).double())(**_inputs(given)))
    view = made.hard_view(features, given)
    (loss,) = made.hard_loss_across(view).values()
    return loss, view.student[0] @ view.student[1].T, given


def _inputs(given):
    fields = {name: tensors for name, tensors in given.inputs.items() if name}
    return fields | {name: tensor for name, tensor in given.inputs[""].items() if name != "token_type_ids"}


def test_documents_of_other_rows_are_negatives(tokenizer):
    loss, scores, given = across(built(PASSAGES, negatives="micro_batch", **IN_BATCH), tokenizer)
    assert scores.shape == (4, 5)
    assert loss.count == 3
    assert given.targets["labels"].tolist() == [0, 0, 0, -100]
    # x among u y v (not z), y among x u z v, z among u y v (not x)
    chosen = [(0, [0, 1, 2, 4]), (1, [2, 0, 1, 3, 4]), (2, [3, 1, 2, 4])]
    right = [functional.cross_entropy(scores[row, places], torch.tensor(0)) for row, places in chosen]
    assert loss.value.item() == pytest.approx(sum(right).item() / 3, rel=1e-12)


def test_the_same_text_is_never_a_negative_of_itself(tokenizer):
    rows = {"query": ["a", "b"], "pos": ["x", "x"], "neg": [[], []]}
    loss, scores, _ = across(built(rows, negatives="micro_batch", **IN_BATCH), tokenizer)
    assert scores.shape == (2, 1)
    assert loss.value == 0


def test_a_row_may_have_one_candidate_where_other_rows_have_more():
    told = []
    built({"query": ["a", "b"], "pos": ["x", "y"], "neg": [[], []]}, told.append, negatives="step", **IN_BATCH)
    assert told == []


def test_the_loss_across_rows_is_that_of_the_candidates_for_one_row(tokenizer):
    made = built(negatives="micro_batch", **IN_BATCH)
    model = Scorer(len(tokenizer)).double()
    loss, _, given = across(made, tokenizer, model, slice(0, 1))
    logits = model(**_inputs(given))["logits"]
    (own,) = made.hard_loss(features_of(logits, given.targets["candidates_mask"]), given).values()
    assert loss.value.item() == pytest.approx(own.value.item(), rel=1e-12)


def test_what_in_batch_negatives_need_of_a_plan():
    made = {name: task(**IN_BATCH, negatives=name) for name in ("none", "micro_batch", "step")}
    assert [each.hard_scope("each") for each in made.values()] == ["position", "micro_batch", "step"]
    assert {each.hard_scope("pair") for each in made.values()} == {"position"}
    assert [len(each.hard_features("each")) for each in made.values()] == [0, 2, 2]
    assert not any(each.hard_features("pair") for each in made.values())
    assert [each.without_rows().across_steps for each in made.values()] == [False, False, True]
    assert {*made["step"].hard_features("each")} <= {*made["step"].adaptor()}
    found = made["step"].example(ExampleContext(form="each"), 3, 9)
    assert {"document_ids", "positive_ids", "known_ids"} <= {name for name, given in found.items() if given.target}


def test_a_model_that_reads_pairs_has_no_ids(tokenizer):
    assert "document_ids" not in batch(built(negatives="step", **IN_BATCH), "pair", tokenizer).targets


# Metrics


def test_metrics_of_the_candidates():
    made = built(
        {"query": ["a", "b"], "pos": [["w"], ["w", "x"]], "neg": [["y", "z"], ["y"]]},
        documents=["pos", "neg"],
        positives="pos",
    )
    found = metrics_of(made, [torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 2.0]])], [targets_only(made)])
    ndcg = (1 / math.log2(3), (1 + 1 / 2) / (1 + 1 / math.log2(3)))
    assert found == pytest.approx(
        {"ndcg@10": sum(ndcg) / 2, "mrr@10": 0.75, "map": (0.5 + (1 + 2 / 3) / 2) / 2, "accuracy": 0.5}
    )
    assert set(found) == set(task().metric_names())


def test_positives_come_last_among_equal_scores():
    made = built(documents=["pos", "neg"], positives="pos")
    found = metrics_of(made, [torch.ones(3, 4)], [targets_only(made)])
    assert found["accuracy"] == 0
    assert found["mrr@10"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3)


def test_masked_candidates_are_never_first():
    made = built(documents=["pos", "neg"], positives="pos")
    logits = torch.tensor([[3.0, 1, 1, 9], [3, 1, 9, 9], [3, 1, 1, 1]])
    given = targets_only(made)
    with_mask = metrics_of(made, [logits], [given])
    assert with_mask["accuracy"] == with_mask["ndcg@10"] == 1


def test_rows_with_nothing_to_rank_are_not_in_the_metrics():
    told = []
    rows = {"query": ["a", "b", "c"], "pos": ["x", "y", "z"], "neg": [[], ["w"], []]}
    made = built(rows, told.append, documents=["pos", "neg"], positives="pos")
    assert made.labelled("train") == 1
    assert metrics_of(made, [torch.tensor([[0.0, 0], [0, 1], [0, 0]])], [targets_only(made)])["accuracy"] == 0
    (only,) = told
    assert (only.code, only.at) == ("KD316", ("documents",))
    assert only.message == "2 of 3 rows of `train` have one candidate only: nothing to rank; the first is row 1"


def test_rows_of_positives_alone_are_told():
    told = []
    built({"query": ["a", "b"], "pos": [["x", "y"], ["z", "v"]], "neg": [[], ["w"]]}, told.append, **IN_BATCH)
    (only,) = told
    assert (only.code, only.at) == ("KD316", ("positives",))
    assert only.message == "1 of 2 rows of `train` has positives alone: nothing to rank; the first is row 1"


def test_negatives_of_no_labels_are_of_no_use():
    (found,) = task(documents="neg", negatives="step").check(BuildContext())
    assert (found.code, found.at) == ("KD305", ("negatives",))


def test_models_agree_about_the_first_candidate():
    made = built(documents=["pos", "neg"], positives="pos")
    mine, theirs = torch.tensor([[9.0, 1, 1, 0]] * 3), torch.tensor([[9.0, 1, 1, 0], [0, 9, 1, 1], [0, 1, 9, 1]])
    assert agreement_of(made, [mine], [theirs], [targets_only(made)]) == pytest.approx(1 / 3)
    assert states_of(made.evaluator("train"), [mine], [targets_only(made)])[0]["first"].tolist() == [0, 0, 0]


# Rows that cannot be read


@pytest.mark.parametrize(
    ("changes", "code", "at", "message"),
    [
        (
            {"scores": [[0.5, 2.0]]},
            "KD502",
            ("scores", 0),
            "row 1 of `train` has 2 scores in `scores` and 3 candidates",
        ),
        ({"scores": [[0.5, math.nan, 1.0]]}, "KD502", ("scores", 0), "has NaN in `scores`, not a score"),
        ({"scores": ["high"]}, "KD502", ("scores", 0), "has `high` in `scores`, not a number or a list of numbers"),
        ({"scores": [["1", "2", "x"]]}, "KD502", ("scores", 0), "has `x` in `scores`, not a score"),
        ({"best": ["zz"]}, "KD312", ("positives",), "row 1 of `train` has the positive `zz`, which is not among its"),
        ({"documents": [[]]}, "KD502", ("documents",), "row 1 of `train` has no candidate"),
        ({"documents": [["a", " ", "b"]]}, "KD502", ("documents", 0), "has a candidate without a text in `documents`"),
        ({"documents": [[["a"], ["b"]]]}, "KD502", ("documents", 0), "has a list in `documents`, not a text or a list"),
        ({"query": [None]}, "KD502", ("query",), "row 1 of `train` has no text in `query`"),
    ],
)
def test_a_row_that_cannot_be_read(changes, code, at, message):
    rows = {**LISTS, **changes}
    found = fault(lambda: lists(rows), code, at)
    assert message in found.message
    assert found.help


def test_a_column_that_is_not_there():
    fault(lambda: lists(documents="docs"), "KD312", ("documents", 0))
    fault(lambda: lists(query="question"), "KD312", ("query",))
    fault(lambda: lists(positives="right"), "KD312", ("positives",))


def test_a_reader_of_scores_needs_them():
    made = lists({**LISTS, "scores": [None]})
    found = fault(lambda: made.encode("train", [Reader(None, "scores")]), "KD502", ("scores",))
    assert "no row of `train` has scores" in found.message


def test_scores_of_each_column_have_its_number_of_candidates():
    rows = {**ROWS, "neg_scores": [[1.0, 0.5], [0.25, 1.0], [0.0, 0.5, 0.75]]}
    found = fault(lambda: built(rows, **TWO), "KD502", ("scores", 1))
    assert found.message == "row 2 of `train` has 2 scores in `neg_scores` and 1 candidate in `neg`"


def test_a_candidate_that_stands_there_twice_is_one():
    told = []
    made = lists({**LISTS, "documents": [["cd", "ef", "cd"]]}, tell=told.append)
    assert made.texts("train") == [("ab", "cd", "ef")]
    assert batch(made, "scores").inputs[""]["scores"].tolist() == [[0.5, 2.0]]
    (only,) = told
    assert only.message == "1 of 1 row of `train` names a candidate twice; the first is row 1"


def test_a_text_that_is_positive_and_negative_is_positive():
    made = built({"query": ["a"], "neg": [["x", "y"]], "pos": ["y"]}, documents=["neg", "pos"], positives="pos")
    assert targets_only(made).targets["positives"].tolist() == [[0, 1]]


def test_rows_without_texts_can_be_left_out():
    told = []
    rows = {"query": ["a", "", "c", "d"], "documents": [["x", ""], ["y", "z"], [], ["v", "w"]]}
    made = built(rows, told.append, documents="documents", without_text="leave_out")
    assert made.texts("train") == [("a", "x"), ("d", "v", "w")]
    assert [each.at for each in told] == [("without_text",), ("without_text",), ("without_text",), ("documents",)]


# Data formats


def test_triplets_with_margins():
    made = built(
        {"query": ["a", "b"], "positive": ["x", "y"], "negative": ["v", "w"], "margin": [1.5, -0.5]},
        documents=["positive", "negative"], margins="margin", positives="positive",
    )  # fmt: skip
    assert batch(made, "scores").inputs[""]["scores"].tolist() == [[0, -1.5], [0, 0.5]]


def test_margins_of_several_negatives():
    fields = {"documents": ["p", "n"], "margins": "margins"}
    rows = {"query": ["a"], "p": ["x"], "n": [["v", "w"]], "margins": [[1.0, 2.0]]}
    assert batch(built(rows, **fields), "scores").inputs[""]["scores"].tolist() == [[0, -1, -2]]
    found = fault(lambda: built({**rows, "margins": [[1.0]]}, **fields), "KD502", ("margins",))
    assert found.message == "row 1 of `train` has 1 margin in `margins` and 3 candidates"


@pytest.mark.parametrize("quoted", ['["cd", "ef", "gh"]', "['cd', 'ef', 'gh']"])
def test_lists_that_are_written_as_texts(quoted):
    rows = {**LISTS, "documents": [quoted], "scores": ["[0.5, 2.0, -1]"]}
    made = lists(rows)
    assert made.texts("train") == [("ab", "cd", "ef", "gh")]
    assert batch(made, "scores").inputs[""]["scores"].tolist() == [[0.5, 2.0, -1.0]]


def test_a_text_in_brackets_is_a_text():
    rows = {"query": ["a", "b"], "documents": ["[1] first", "[second]"]}
    assert built(rows, documents="documents").texts("train") == [("a", "[1] first"), ("b", "[second]")]


CORPUS = '{"_id": "d1", "title": "A", "text": "one"}\n{"_id": "d2", "text": "two"}\n{"_id": "d3", "text": "three"}\n'
BY_ID = {
    "query_id": [7, 8],
    "document_ids": ["['d1', 'd2']", "['d3']"],
    "scores": ["[1.5, 0.5]", "[2]"],
    "best": ["d2", None],
}
FIELDS = {"query": "query_id", "documents": "document_ids", "scores": "scores", "positives": "best"}


@pytest.fixture
def by_id(tmp_path):
    """Builds a task whose texts are in files."""
    (tmp_path / "corpus.jsonl").write_text(CORPUS)
    (tmp_path / "queries.tsv").write_text("7\twhich\n8\twhere\n9\twho\n")
    files = {"queries": "queries.tsv", "corpus": "corpus.jsonl"}
    return lambda rows=BY_ID, **fields: task(rows, **{**FIELDS, **files, **fields}).build(TaskContext(folder=tmp_path))


def test_ids_with_files_of_their_texts(by_id):
    made = by_id()
    assert made.texts("train") == [("which", "A one", "two"), ("where", "three")]
    assert targets_only(made).targets["positives"].tolist() == [[0, 1], [0, 0]]
    assert batch(made, "scores").inputs[""]["scores"].nan_to_num(nan=-9).tolist() == [[1.5, 0.5], [2, -9]]


def test_an_id_without_a_text(by_id):
    found = fault(lambda: by_id({**BY_ID, "document_ids": ["['d1', 'd2']", "['d4']"]}), "KD502", ("documents", 0))
    assert found.message == "row 2 of `train` has the id `d4` in `document_ids`, which `corpus.jsonl` does not have"
    assert "its 3 ids are like `d1`, `d2`, `d3`" in found.help
    found = fault(lambda: by_id({**BY_ID, "query_id": [7, 10]}), "KD502", ("query",))
    assert "row 2 of `train` has the id `10` in `query_id`, which `queries.tsv` does not have" in found.message


def test_numbers_in_place_of_texts():
    rows = {"query": ["a", "b"], "ids": [[12, 3], [4]]}
    found = fault(lambda: built(rows, documents="ids"), "KD502", ("documents", 0))
    assert found.message == "row 1 of `train` has the number `12` in `ids`, as have all rows, not a text"
    assert found.help == "if they are ids, name the file with their texts in `corpus`"
    fault(lambda: built({"query": [1, 2], "docs": ["a", "b"]}, documents="docs"), "KD502", ("query",))


def test_the_rows_of_flag_embedding():
    rows = {"query": ["a"], "pos": [["x", "y"]], "neg": [["v", "w"]], "pos_scores": [[4, 3]], "neg_scores": [[0.5, 1]]}
    made = built(rows, **TWO)
    assert targets_only(made).targets["positives"].tolist() == [[1, 1, 0, 0]]
    assert batch(made, "scores").inputs[""]["scores"].tolist() == [[4, 3, 0.5, 1]]


def test_the_rows_of_colbert(tmp_path):
    (tmp_path / "train.jsonl").write_text("[7, [12, 1.5], [3, -2]]\n[8, [3, 0.5], [12, 2]]\n")
    (tmp_path / "queries.tsv").write_text("7\twhich\n8\twhere\n")
    (tmp_path / "collection.tsv").write_text("3\tthree\n12\ttwelve\n")
    made = Ranking(
        data=Colbert(train=["train.jsonl"]), query="query_id", documents="document_ids", scores="scores",
        positives="positive_id", queries="queries.tsv", corpus="collection.tsv",
    ).build(TaskContext(folder=tmp_path))  # fmt: skip
    assert made.texts("train") == [("which", "twelve", "three"), ("where", "three", "twelve")]
    assert batch(made, "scores").inputs[""]["scores"].tolist() == [[1.5, -2], [0.5, 2]]
    assert targets_only(made).targets["labels"].tolist() == [0, 0]


# Before a run


@pytest.mark.parametrize("form", ["", "pair", "each", "scores"])
def test_an_example_has_the_shapes_of_a_batch_of_rows(tokenizer, form, first_rows):
    found = first_rows.example(ExampleContext(form=form), 3, 9)
    made = batch(built(), form, tokenizer)
    assert set(found) == set(made.tensors)
    tensors = made.tensors
    for name in ("candidates", "candidates_mask", "positives", "labels", "queries", "scores"):
        assert name not in found or found[name].shape == tensors[name].shape
    assert {name for name, given in found.items() if given.target} == set(made.targets)
    if form in ("", "pair"):
        assert found["input_ids"].shape == (12, 9)
    if form == "each":
        assert found["query.input_ids"].shape == (3, 9)
        assert found["document.input_ids"].shape == (12, 9)


@pytest.fixture
def first_rows():
    """The task, whose rows are known before a run."""

    class Known(Rows):
        def first(self, context, rows):
            return {name: values[:rows] for name, values in self.splits["train"].items()}

    return Ranking(data=Known(splits={"train": ROWS}), **TWO)


def test_the_texts_of_pairs_are_known_before_a_run(first_rows):
    queries, documents = first_rows.sample(BuildContext(), 2)
    assert queries == ["ab"] * 3 + ["cd"] * 2
    assert documents == ["ab cd", "gh", "ij", "cd", "ab cd"]
    assert task().sample(BuildContext(), 2) is None


def test_without_rows_a_batch_is_made_up():
    assert task(documents="neg").example(ExampleContext(form="pair"), 2, 5)["candidates"].shape == (2, 8)
    assert task(documents=["pos", "neg"]).example(ExampleContext(), 2, 5)["candidates"].shape == (2, 2)


# From rows to a trained model


@pytest.mark.parametrize("form", ["pair", "each"])
def test_a_model_learns_to_rank(tokenizer, form):
    made = built()
    given = batch(made, form, tokenizer)
    model = Scorer(len(tokenizer))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    fields = {name: tensors for name, tensors in given.inputs.items() if name}
    inputs = {name: tensor for name, tensor in given.inputs[""].items() if name != "token_type_ids"}
    losses = []
    for _ in range(60):
        features = features_of(model(**fields, **inputs)["logits"], given.targets["candidates_mask"])
        (loss,) = made.hard_loss(features, given).values()
        losses.append(loss.value.item())
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    logits = model(**fields, **inputs)["logits"].detach()
    assert losses[-1] < 0.1 * losses[0]
    assert metrics_of(made, [logits], [given])["ndcg@10"] == 1
