"""The task of finding an answer in a text."""

from __future__ import annotations

import copy

import datasets
import pytest
import torch
import transformers
from pydantic import ValidationError
from task_batches import agreement_of, batch_of, encoded, metrics_of, states_of

from kdspec.api.kinds.context import BuildContext, TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Features
from kdspec.api.working.task import Head, Reader
from kdspec.builtins.tasks.question_answering import QuestionAnswering
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny

TEXT = "ab cd ef gh ij"


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in self.splits.items()})

    def column_names(self, context):
        return {name: list(rows) for name, rows in self.splits.items()}


def rows(*answers, question="q", context=TEXT):
    """A question for each answer, which is a text of the context, None, or no text at all."""
    given = [
        None if answer is None else {"text": [answer], "answer_start": [context.find(answer)]} if answer else EMPTY
        for answer in answers
    ]
    count = len(answers)
    columns = {"id": [f"q{n}" for n in range(count)], "question": [question] * count, "context": [context] * count}
    return {**columns, "answers": given}


EMPTY = {"text": [], "answer_start": []}


def task(splits=None, **fields):
    return QuestionAnswering(data=Rows(splits=splits or {"train": rows("cd")}), **fields)


def built(splits=None, **fields):
    return task(splits, **fields).build(TaskContext())


def fault(action, code, at):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == (code, at), caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Makes a token of each letter: `[CLS] q [SEP] a ##b c ##d ... [SEP]`."""
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("letters"), layers=1, width=4))


# The spec


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"max_length": 7}, ("max_length",)),
        ({"stride": -1}, ("stride",)),
        ({"language": "fr"}, ("language",)),
        ({"metric": "accuracy"}, ("metric",)),
        ({"unanswerable": {"threshhold": 1}}, ("unanswerable", "threshhold")),
        ({"unanswerable": True}, ("unanswerable",)),
        ({"misplaced": "drop"}, ("misplaced",)),
        ({"n_best": 0}, ("n_best",)),
    ],
)
def test_a_value_out_of_range(fields, loc):
    with pytest.raises(ValidationError) as caught:
        task(**fields)
    assert {error["loc"] for error in caught.value.errors()} == {loc}


def test_windows_that_repeat_all_of_each_other():
    (found,) = task(max_length=16, stride=16).check(BuildContext())
    assert (found.code, found.at) == ("KD104", ("stride",))
    assert not list(task(max_length=16, stride=8).check(BuildContext()))


def test_a_missing_column_is_found_before_a_run():
    (found,) = task(context="text").check(BuildContext())
    assert (found.code, found.at) == ("KD312", ("context",))
    assert list(task(answers="answer").check(BuildContext())) == []
    assert task(answers="answer").label_columns() == {("answers",): "answer"}


def test_the_head_has_a_beginning_and_an_end():
    assert built().head == Head(kind="question_answering", labels=("start", "end"))


# Rows


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (
            {"text": ["cd"], "answer_start": [4]},
            "KD312",
            "row 1 of `train` (`q0`): at 4 the text has `d `, not the answer `cd`",
        ),
        (
            {"text": ["cd"], "answer_start": [-1]},
            "KD312",
            "row 1 of `train` (`q0`): at -1 the text has ``, not the answer `cd`",
        ),
        (EMPTY, "KD312", "row 1 of `train` (`q0`) has no answer"),
        (
            {"text": ["cd"], "answer_start": []},
            "KD502",
            "row 1 of `train` (`q0`) has answers that are not lists of `text` and `answer_start` of equal lengths",
        ),
        (
            "cd",
            "KD502",
            "row 1 of `train` (`q0`) has answers that are not lists of `text` and `answer_start` of equal lengths",
        ),
    ],
)
def test_mistakes_in_a_row(given, code, message):
    splits = {"train": {**rows("cd"), "answers": [given]}}
    assert fault(lambda: built(splits), code, ("answers",)).message == message


def test_a_misplaced_answer_can_be_skipped(tokenizer):
    given = [{"text": ["cd"], "answer_start": [4]}]
    found = built({"train": {**rows("cd"), "answers": given}}, misplaced="skip")
    (example,) = encoded(found, "train", tokenizer)
    assert (example["start_positions"], example["end_positions"]) == (-100, -100)
    assert answered(found, tokenizer, [{(5, 6): 1.0}]) == {"f1": 1.0, "exact_match": 1.0}


def test_rows_without_answers(tokenizer):
    train = rows("cd", None)
    splits = {"train": train, "unlabelled": rows("cd"), "test": {k: v for k, v in rows("cd").items() if k != "answers"}}
    found = built(splits)
    for split, number in (("train", 1), ("unlabelled", 0), ("test", 0)):
        assert encoded(found, split, tokenizer)[number]["start_positions"] == -100
    assert answered(found, tokenizer, [{(5, 6): 1.0}], split="test") == {}


# Windows


def test_the_positions_of_an_answer_are_those_of_its_tokens(tokenizer):
    (example,) = encoded(built(), "train", tokenizer)
    assert tokenizer.convert_ids_to_tokens(example["input_ids"][:7]) == ["[CLS]", "q", "[SEP]", "a", "##b", "c", "##d"]
    assert (example["start_positions"], example["end_positions"]) == (5, 6)
    assert example["context_mask"] == [1, 0, 0, *[1] * 10, 0]


def test_an_answer_within_a_token_is_the_whole_token(tokenizer):
    whole = [[0, 2], [3, 5]]
    assert TEXT[whole[1][0] : whole[1][1]] == "cd"
    found = built({"train": rows("d e")})
    (example,) = encoded(found, "train", tokenizer)
    assert (example["start_positions"], example["end_positions"]) == (6, 7)


def test_a_long_text_becomes_several_windows(tokenizer):
    found = built(max_length=8, stride=2)
    examples = encoded(found, "train", tokenizer)
    assert found.rows("train") == 1
    inside = [
        [tokenizer.convert_ids_to_tokens(example["input_ids"][place]) for place in example["text"]]
        for example in examples
    ]
    assert inside == [
        ["a", "##b", "c", "##d"],
        ["c", "##d", "e", "##f"],
        ["e", "##f", "g", "##h"],
        ["g", "##h", "i", "##j"],
    ]
    # the answer is whole in the first two; elsewhere its place is that of no answer
    assert [example["start_positions"] for example in examples] == [5, 3, 0, 0]
    assert [example["end_positions"] for example in examples] == [6, 4, 0, 0]


def test_a_question_without_an_answer(tokenizer):
    (example,) = encoded(built({"train": rows("")}, unanswerable={}), "train", tokenizer)
    assert (example["start_positions"], example["end_positions"]) == (0, 0)


def test_a_question_that_is_too_long(tokenizer):
    splits = {"train": rows("cd", question="a long question")}
    found = fault(lambda: encoded(built(splits, max_length=12), "train", tokenizer), "KD502", ("max_length",))
    assert found.message.startswith("the question in row 1 of `train` (`q0`) has 13 tokens")
    found = fault(lambda: encoded(built(splits, max_length=20, stride=4), "train", tokenizer), "KD104", ("stride",))
    assert found.message.endswith("a window of 20 has 4 tokens of the text, and `stride` repeats 4")
    assert encoded(built(splits, max_length=20, stride=3), "train", tokenizer)


@pytest.mark.parametrize("side", ["right", "left"])
def test_positions_move_with_the_padding(tokenizer, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    splits = {"train": rows("cd", None)}
    splits["train"]["context"][1] = TEXT + " kl"
    found = built(splits)
    batch = batch_of(found, encoded(found, "train", tokenizer), tokenizer)
    place = 5 if side == "right" else 7
    assert batch.targets["start_positions"].tolist() == [place, -100]
    assert tokenizer.convert_ids_to_tokens(batch.inputs[""]["input_ids"][0, place : place + 2]) == ["c", "##d"]
    assert batch.inputs[""]["context_mask"][0].sum() == 11


def test_models_of_two_tokenizers(tokenizer):
    fault(lambda: built().encode("train", [Reader(tokenizer), Reader(copy.copy(tokenizer))]), "KD402", ())


def test_a_task_without_a_tokenizer():
    fault(lambda: encoded(built(), "train", None), "KD503", ())


# Metrics


def predicted(found, tokenizer, said, split="train"):
    """Logits by which each window has a logit for the spans named, `{(first, last): logit of both}`, and the batch."""
    batch = batch_of(found, encoded(found, split, tokenizer), tokenizer)
    heads = torch.zeros(2, *batch.inputs[""]["input_ids"].shape)
    for row, spans in enumerate(said):
        for (first, last), value in spans.items():
            heads[0, row, first] += value
            heads[1, row, last] += value
    return tuple(heads), batch


def answered(found, tokenizer, said, split="train"):
    """The metrics where each window has a logit for the spans named."""
    heads, batch = predicted(found, tokenizer, said, split)
    return metrics_of(found, [heads], [batch], split)


def test_models_agree_on_questions_with_the_same_answer_whatever_window_it_is_from(tokenizer):
    found = built({"train": rows("cd", "cd")})
    heads, batch = predicted(found, tokenizer, [{(5, 6): 2.0}, {(3, 6): 2.0}])
    others, _ = predicted(found, tokenizer, [{(5, 6): 3.0}, {(5, 6): 1.0}])
    assert agreement_of(found, [heads], [others], [batch]) == 0.5
    assert agreement_of(found, [heads], [heads], [batch]) == 1.0


def test_the_best_span_is_compared(tokenizer):
    found = built({"train": rows("cd", "cd")})
    metrics = answered(found, tokenizer, [{(5, 6): 2.0}, {(3, 6): 2.0}])
    assert metrics == {"f1": pytest.approx((1 + 2 / 3) / 2), "exact_match": 0.5}


def test_a_span_lies_in_the_text(tokenizer):
    found = built()
    for outside in ((0, 0), (1, 1), (2, 2), (13, 13)):
        metrics = answered(found, tokenizer, [{outside: 5.0, (5, 6): 4.0}])
        assert metrics["exact_match"] == 1.0


def test_a_span_does_not_end_before_it_begins(tokenizer):
    found = built({"train": rows("ef")})
    metrics = answered(found, tokenizer, [{(9, 5): 9.0, (7, 8): 10.0}])
    assert metrics["exact_match"] == 1.0


def test_a_span_is_not_too_long(tokenizer):
    splits = {"train": rows(TEXT)}
    for most, exact in ((10, 1.0), (9, 0.0)):
        found = built(splits, max_answer_length=most)
        assert answered(found, tokenizer, [{(3, 12): 5.0}])["exact_match"] == exact


def test_windows_are_put_together_by_question(tokenizer):
    """The best of all windows is the answer, wherever it is."""
    found = built(max_length=8, stride=2)
    windows = [{(3, 4): 1.0}, {(3, 4): 3.0}, {(3, 4): 2.0}, {}]
    assert answered(found, tokenizer, windows) == {"f1": 1.0, "exact_match": 1.0}
    windows[2] = {(3, 4): 4.0}
    assert answered(found, tokenizer, windows) == {"f1": 0.0, "exact_match": 0.0}


def test_no_answer_is_predicted_above_its_threshold(tokenizer):
    splits = {"train": rows("", "cd")}
    said = [{(0, 0): 3.0, (5, 6): 2.0}] * 2  # 6 against 4
    found = built(splits, unanswerable={})
    assert answered(found, tokenizer, said)["exact_match"] == 0.5
    high = built(splits, unanswerable={"threshold": 2.5})
    assert answered(high, tokenizer, said) == {"f1": 0.5, "exact_match": 0.5}
    said = [{(0, 0): 3.0}, {(0, 0): 1.0, (5, 6): 2.0}]
    assert answered(found, tokenizer, said) == {"f1": 1.0, "exact_match": 1.0}


def analysed(found, tokenizer, mine, teachers):
    """Where the answers of two models differ."""
    evaluator = found.evaluator("train")
    states = [
        states_of(evaluator, [heads], [batch])
        for heads, batch in (predicted(found, tokenizer, said) for said in (mine, teachers))
    ]
    return dict(evaluator.error_analysis(*states, ("start", "end")))


def test_the_questions_with_the_lowest_f1_of_two_answers_come_first(tokenizer):
    found = built({"train": rows("cd", "cd", "cd", "ef")})
    mine = [{(5, 6): 2.0}, {(5, 8): 2.0}, {(9, 10): 2.0}, {(3, 4): 2.0}]
    teachers = [{(5, 6): 3.0}, {(5, 6): 2.0}, {(7, 8): 2.0}, {(7, 8): 2.0}]
    analysis = analysed(found, tokenizer, mine, teachers)
    assert (analysis["compared"], analysis["differ"]) == (4, 3)
    assert (analysis["counted"], analysis["number"]) == ("questions", "score")
    rows_, abouts = ([each[name] for each in analysis["differing"]] for name in ("row", "about"))
    assert rows_ == [3, 2, 1]  # of the two of F1 0 the teacher is right on the fourth
    assert abouts == ["F1 0.00", "F1 0.00", "F1 0.67"]
    first = analysis["differing"][0]
    assert (first["texts"], first["answers"]) == (["q", TEXT], [["", ["ef"], "ab", 4.0, "ef", 4.0]])
    assert first["right"] == [[False, True]]


def test_no_answer_and_unknown_answers_are_compared_too(tokenizer):
    found = built({"train": rows("", None)}, unanswerable={})
    analysis = analysed(found, tokenizer, [{(5, 6): 2.0}] * 2, [{(0, 0): 2.0}] * 2)
    known, unknown = analysis["differing"]
    assert known["answers"] == [["", ["(no answer)"], "cd", 4.0, "(no answer)", 4.0]]
    assert known["right"] == [[False, True]]
    assert unknown["answers"] == [["", None, "cd", 4.0, "(no answer)", 4.0]]
    assert unknown["right"] == [[None, None]]


def test_of_a_long_text_the_part_with_the_answers_is_shown(tokenizer):
    context = "ij " * 40 + "ab cd"
    found = built({"train": rows("cd", context=context)})
    *others, last = (len(window["input_ids"]) for window in encoded(found, "train", tokenizer))
    mine, teachers = ([*({} for _ in others), {(last - n, last - n + 1): 2.0}] for n in (5, 3))
    ((_, shown),) = [each["texts"] for each in analysed(found, tokenizer, mine, teachers)["differing"]]
    assert shown.startswith("… ij ")
    assert shown.endswith("ab cd")
    assert 100 <= len(shown) <= 107


def test_without_a_teacher_no_questions_are_compared(tokenizer):
    found = built()
    heads, batch = predicted(found, tokenizer, [{}])
    evaluator = found.evaluator("train")
    assert evaluator.error_analysis(states_of(evaluator, [heads], [batch]), (), ()) == {}


def test_the_text_of_every_label_is_its_answer(tokenizer):
    """Logits that are right in every window give the best metrics, for every answer and every window."""
    answers = [TEXT[first:last] for first in range(0, 14, 3) for last in range(first + 2, 15, 3)]
    for length in (8, 10, 13, 40):
        found = built({"train": rows(*answers)}, max_length=length, stride=0 if length < 10 else 2)
        said, whole = [], set()
        for example in encoded(found, "train", tokenizer):
            place = example["start_positions"], example["end_positions"]
            said.append({place: 9.0 if place != (0, 0) else 0.0})
            whole |= {example["question"]} if place != (0, 0) else set()
        metrics = answered(found, tokenizer, said)
        assert metrics["exact_match"] >= len(whole) / len(answers)
    assert metrics == {"f1": 1.0, "exact_match": 1.0}


def test_the_loss_is_the_cross_entropy_over_positions():
    logits, labels = torch.randn(3, 6), torch.tensor([0, 5, -100])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    losses = built().hard_loss(Features({"logits": (logits, 2 * logits), "labels": (labels, labels)}), Batch(inputs={}))
    assert list(losses) == ["start", "end"]
    assert torch.allclose(losses["start"].value, expected)


def test_a_split_without_rows_has_an_evaluator():
    assert built().evaluator("validation").merge([]) == {}


def test_answers_are_needed_where_a_loss_reads_them():
    splits = {"train": {"question": ["who?"], "context": ["a cat"]}}
    found = task(splits).build(TaskContext(reads_labels=False))
    assert (found.rows("train"), found.labelled("train")) == (1, 0)
    fault(lambda: task(splits).build(TaskContext()), "KD312", ("answers",))
