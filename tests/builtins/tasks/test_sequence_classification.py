"""The task of labelling texts."""

from __future__ import annotations

import datasets
import pytest
import torch
import transformers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from task_batches import agreement_of, batch_of, encoded, loss_of, metrics_of

from kdspec.api.kinds.context import TaskContext, TrainedHead
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.evaluator import Metric
from kdspec.api.working.task import Head
from kdspec.builtins.datasets.files import Csv
from kdspec.builtins.tasks.sequence_classification import SequenceClassification
from kdspec.data import texts
from kdspec.diagnostics.fault import Fault

ROWS = {"text": ["a b", "good", "c d e f"], "label": ["good", "bad", "good"]}


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict(
            {
                name: rows if isinstance(rows, datasets.Dataset) else datasets.Dataset.from_dict(rows)
                for name, rows in self.splits.items()
            }
        )


def task(splits=None, **fields):
    splits = {"train": ROWS} if splits is None else splits
    return SequenceClassification(**{"data": Rows(splits=splits), "text": "text", "label": "label", **fields})


def built(splits=None, **fields):
    return task(splits, **fields).build(TaskContext())


def fault(action, code, at):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == (code, at), caught.value.message
    return caught.value


@pytest.fixture
def tokenizer(new_tokenizer):
    return transformers.AutoTokenizer.from_pretrained(new_tokenizer())


# The spec


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"text": []}, ("text",)),
        ({"text": ["a", "b", "c"]}, ("text",)),
        ({"text": 3}, ("text",)),
        ({"text": ["a", 3]}, ("text", 1)),
        ({"labels": ["one"]}, ("labels",)),
        ({"labels": ["one", "one"]}, ("labels",)),
        ({"labels": [0, 1]}, ("labels", 0)),
        ({"max_length": 1}, ("max_length",)),
        ({"max_length": 2.5}, ("max_length",)),
        ({"metric": "loss"}, ("metric",)),
        ({"label": 3}, ("label",)),
    ],
)
def test_a_value_out_of_range(fields, loc):
    with pytest.raises(ValidationError) as caught:
        task(**fields)
    assert {error["loc"] for error in caught.value.errors()} >= {loc}
    assert all(error["loc"][0] == loc[0] for error in caught.value.errors())


def test_the_default_adaptor():
    paths = task().adaptor()
    assert paths["logits"] == "output.logits"
    assert paths["labels"] == "batch.labels"
    assert task().has_labels()


# Rows and labels


def test_labels_are_sorted_unless_they_are_written():
    assert built().head == Head(kind="sequence_classification", labels=("bad", "good"))
    assert built(labels=["good", "bad"]).head.labels == ("good", "bad")


def test_numbers_are_sorted_as_numbers():
    rows = {"text": ["a"] * 4, "label": [10, 9, -1, 2]}
    assert built({"train": rows}).head.labels == ("-1", "2", "9", "10")
    rows = {"text": ["a"] * 4, "label": ["10", "9", "x", "nan"]}
    assert built({"train": rows}).head.labels == ("9", "10", "nan", "x")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([True, False], ("false", "true")), ([1.0, 0.0], ("0", "1")), ([1.0, 0.0, float("nan"), None], ("0", "1"))],
)
def test_labels_are_named_as_a_spec_writes_them(values, expected):
    assert built({"train": {"text": ["a"] * len(values), "label": values}}).head.labels == expected


def test_a_data_set_that_knows_its_label_names_keeps_their_order(tokenizer):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    train = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    found = built({"train": train})
    assert found.head.labels == ("neg", "pos")
    assert [example["labels"] for example in encoded(found, "train", tokenizer)] == [1, 0, -100]
    assert [
        example["labels"] for example in encoded(built({"train": train}, labels=["pos", "neg"]), "train", tokenizer)
    ] == [
        0,
        1,
        -100,
    ]


def test_rows_without_a_label(tokenizer):
    splits = {
        "train": {"text": ["a", "b", "c", "d"], "label": ["x", "y", None, ""]},
        "test": {"text": ["a", "b"]},
        "unlabelled": {"text": ["a"], "label": ["z"]},
    }
    found = built(splits)
    labels = {split: [example["labels"] for example in encoded(found, split, tokenizer)] for split in splits}
    assert labels == {"train": [0, 1, -100, -100], "test": [-100, -100], "unlabelled": [-100]}
    assert {split: found.rows(split) for split in (*splits, "validation")} == {
        "train": 4,
        "test": 2,
        "unlabelled": 1,
        "validation": 0,
    }


@pytest.mark.parametrize(
    ("splits", "fields", "code", "at", "says"),
    [
        ({"train": ROWS}, {"label": "lable"}, "KD312", ("label",), "the split `train` has no column `lable`"),
        ({"train": ROWS}, {"text": "txet"}, "KD312", ("text", 0), "the split `train` has no column `txet`"),
        ({"train": ROWS}, {"text": ["text", "b"]}, "KD312", ("text", 1), "the split `train` has no column `b`"),
        ({"train": ROWS, "test": {"b": ["x"]}}, {}, "KD312", ("text", 0), "the split `test` has no column `text`"),
        ({"train": ROWS}, {"labels": ["goood", "bad"]}, "KD312", ("labels",), "row 1 of `train` has the label `good`"),
        (
            {"train": ROWS, "validation": {"text": ["a", "b"], "label": ["bad", "worse"]}},
            {},
            "KD312",
            ("label",),
            "row 2 of `validation` has the label `worse`, which is not among `bad`, `good`",
        ),
        ({"train": {"text": ["a"], "label": ["x"]}}, {}, "KD312", ("label",), "only the label `x`"),
        ({"train": {"text": ["a"], "label": [None]}}, {}, "KD312", ("label",), "has no labels"),
        (
            {"train": {"text": ["a"], "label": [["x"]]}},
            {},
            "KD502",
            ("label",),
            "row 1 of `train` has a list in `label`",
        ),
        ({"train": {"text": [], "label": []}}, {}, "KD502", ("data", "rows", "train"), "the split `train` has no rows"),
    ],
)
def test_data_that_do_not_fit(splits, fields, code, at, says):
    assert says in fault(lambda: built(splits, **fields), code, at).message


def test_a_missing_column_is_helped():
    found = fault(lambda: built(label="lable"), "KD312", ("label",))
    assert found.help == "did you mean `label`? the columns are `text`, `label`"


CODES = {
    "decimals": ["1.1", "1.10", "2.5"],
    "exponents": ["1E1", "10", "5E0"],
    "long": ["1234567890123456789", "1234567890123456780", "1234567890123456781"],
    "zeros": ["007", "7", "07"],
    "signs": ["+1", "1", "01"],
    "blank": ["1 000", "1000", "1_000"],
}


def of_files(folder, train, validation, **fields):
    """The task on the labels of two files."""
    for name, labels in (("a", train), ("b", validation)):
        (folder / f"{name}.csv").write_text("text,label\n" + "".join(f"{label},{label}\n" for label in labels))
    data = Csv(train=["a.csv"], validation=["b.csv"])
    return task(data=data, **fields).build(TaskContext(folder=folder))


def numbered(found, split):
    return [found.head.labels[number] for number in found._labels[split]]


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("codes", CODES.values(), ids=CODES.keys())
def test_codes_that_look_like_numbers_stay_as_the_file_writes_them(codes, written, tmp_path):
    found = of_files(tmp_path, [*codes, codes[0]], codes[:2], **({"labels": codes} if written else {}))
    assert sorted(found.head.labels) == sorted(codes)
    assert numbered(found, "train") == [*codes, codes[0]]
    assert numbered(found, "validation") == codes[:2]


def test_a_code_is_the_same_in_a_split_with_other_values(tmp_path):
    found = of_files(tmp_path, ["2.10", "2.1", "x"], ["2.10", "2.1"])
    assert numbered(found, "validation") == ["2.10", "2.1"]


@pytest.mark.parametrize(
    ("train", "validation", "fields", "labels"),
    [
        (["0.0", "1.0"], ["0.0", "1.0"], {"labels": ["0.0", "1.0"]}, ("0.0", "1.0")),
        (["0.0", "1.0"], ["0", "1"], {"labels": ["0", "1"]}, ("0", "1")),
        (["0", "1"], ["0.0", "1.0"], {}, ("0", "1")),
        (["0.0", "1", "1.0"], ["0", "1.0"], {}, ("0.0", "1")),
    ],
)
def test_whole_numbers_are_compared_as_numbers(train, validation, fields, labels, tmp_path):
    found = of_files(tmp_path, train, validation, **fields)
    assert found.head.labels == labels
    assert found._labels["train"][:2] == found._labels["validation"] == [0, 1]


@pytest.mark.parametrize(("train", "validation"), [(["0.0", "1.0"], ["0.0", "?"]), (["0", "1"], ["0.0", "?"])])
def test_the_label_that_cannot_be_read_is_the_one_that_is_named(train, validation, tmp_path):
    found = fault(lambda: of_files(tmp_path, train, validation), "KD312", ("label",))
    assert found.message.startswith("row 2 of `validation` has the label `?`")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2})?(e[0-9])?", fullmatch=True), min_size=2, max_size=6), st.data()
)
def test_labels_that_differ_as_texts_are_different_classes(tmp_path, codes, data):
    part = data.draw(st.lists(st.sampled_from(codes), min_size=1))
    assume(len({code.removesuffix(".0") for code in codes}) == len(set(codes)) > 1)
    found = of_files(tmp_path, codes, part)
    assert set(found.head.labels) == set(codes)
    assert (numbered(found, "train"), numbered(found, "validation")) == (codes, part)


def test_texts_that_are_numbers_stay_as_the_file_writes_them(tmp_path):
    found = of_files(tmp_path, ["1.10", "1e5", "0.50"], ["1.10", "1e5", "1e5"])
    assert texts.read(found._splits["train"], "train", "text", ("text", 0)) == ["1.10", "1e5", "0.50"]
    assert texts.read(found._splits["validation"], "validation", "text", ("text", 0)) == ["1.10", "1e5", "1e5"]


def test_a_number_is_the_same_text_in_a_column_of_floats():
    splits = {"train": {"text": [1.0, 2.5], "label": [1.0, 2.5]}, "test": {"text": [1, 2], "label": [1, 1]}}
    found = built(splits)
    assert texts.read(found._splits["train"], "train", "text", ("text", 0)) == ["1", "2.5"]
    assert numbered(found, "test") == ["1", "1"]


def test_a_fault_of_the_data_set_is_placed_within_it(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na\n")
    component = SequenceClassification(data=Csv(train="a.csv"), text="text", label="label")
    fault(lambda: component.build(TaskContext(folder=tmp_path)), "KD502", ("data", "csv", "train", 0))


# No label


@pytest.mark.parametrize("mark", ["-", -1, -1.0, ["x", " - "]])
def test_rows_with_a_mark_have_no_label(mark):
    wanted = "-1" if isinstance(mark, (int, float)) else "-"
    found = built({"train": {"text": ["a"] * 3, "label": ["good", wanted, "bad"]}}, missing=mark)
    assert found.head.labels == ("bad", "good")
    assert found._labels["train"] == [1, -100, 0]
    assert (found.labelled("train"), found.labelled("test")) == (2, 0)


def test_blanks_around_a_label_do_not_count():
    found = built({"train": {"text": ["a"] * 4, "label": ["good", "good ", "\N{NO-BREAK SPACE}good", " bad"]}})
    assert (found.head.labels, found._labels["train"]) == (("bad", "good"), [1, 1, 1, 0])


def test_labels_are_needed_where_a_loss_reads_them():
    splits = {"train": {"text": ["a"]}, "test": {"text": ["a"], "label": ["calm"]}}
    head = TrainedHead(model="teacher", classes=2, labels=("loud", "calm"))
    found = task(splits).build(TaskContext(heads=(head,), reads_labels=False))
    assert (found.head.labels, found._labels) == (("loud", "calm"), {"train": [-100], "test": [1]})
    assert task(splits, labels=["calm", "loud"]).build(TaskContext(reads_labels=False)).head.labels == ("calm", "loud")
    fault(lambda: built(splits), "KD312", ("label",))
    lacking = fault(lambda: task(splits).build(TaskContext(reads_labels=False)), "KD312", ("label",))
    assert lacking.help == "`labels` names the classes that no row has: `labels: [first, second]`"


# Encoding


def test_a_row_becomes_lists_of_ids(tokenizer):
    assert encoded(built(), "train", tokenizer)[0] == {
        "input_ids": [2, 4, 5, 3],
        "token_type_ids": [0] * 4,
        "labels": 1,
    }


def test_a_pair_has_two_token_types(tokenizer):
    rows = {"a": ["a b", "c"], "b": ["c", "a"], "label": [0, 1]}
    first, second = encoded(built({"train": rows}, text=["a", "b"]), "train", tokenizer)
    assert first["input_ids"] == [2, 4, 5, 3, 6, 3]
    assert first["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert second["input_ids"] == [2, 6, 3, 4, 3]


def test_long_texts_are_truncated(tokenizer):
    rows = {"text": ["a " * 100, "b"], "label": [0, 1]}
    lengths = [
        len(example["input_ids"]) for example in encoded(built({"train": rows}, max_length=5), "train", tokenizer)
    ]
    assert lengths == [5, 3]
    assert len(encoded(built({"train": rows}), "train", tokenizer)[0]["input_ids"]) == 64  # the tokenizer's own limit


@pytest.mark.parametrize(("text", "limit"), [("text", 2), (["text", "text"], 3)])
def test_a_maximum_length_without_space_for_text_is_refused(tokenizer, text, limit):
    component = built(text=text, max_length=limit)
    assert str(limit) in fault(lambda: encoded(component, "train", tokenizer), "KD502", ("max_length",)).message


def test_numbers_are_texts(tokenizer):
    rows = {"text": [7, 8], "label": [0, 1]}
    assert [example["input_ids"] for example in encoded(built({"train": rows}), "train", tokenizer)] == [[2, 1, 3]] * 2


@pytest.mark.parametrize(("value", "says"), [(None, "no text"), (["a"], "a list")])
def test_a_row_without_a_text(tokenizer, value, says):
    filler = "a" if value is None else ["a"]
    rows = {"text": [filler, filler, value], "label": [0, 1, 0]}
    if value is not None:
        rows["text"] = [value] * 3
    found = fault(lambda: encoded(built({"train": rows}), "train", tokenizer), "KD502", ("text", 0))
    assert says in found.message
    assert f"row {3 if value is None else 1} of `train`" in found.message


def test_a_model_without_a_tokenizer():
    fault(lambda: encoded(built(), "train", None), "KD503", ())


# Batches


def test_a_batch_is_padded_to_its_longest_row(tokenizer):
    component = built()
    batch = batch_of(component, encoded(component, "train", tokenizer)[:2], tokenizer)
    assert batch.inputs[""]["input_ids"].tolist() == [[2, 4, 5, 3], [2, 11, 3, 0]]
    assert batch.inputs[""]["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.inputs[""]["token_type_ids"].tolist() == [[0] * 4] * 2
    assert {name: labels.tolist() for name, labels in batch.targets.items()} == {"labels": [1, 0]}
    assert {tensor.dtype for tensor in batch.tensors.values()} == {torch.int64}


def test_a_batch_is_what_the_library_would_pad(tokenizer):
    component = built()
    examples = encoded(component, "train", tokenizer)
    for side in ("left", "right"):
        tokenizer.padding_side = side
        theirs = tokenizer(ROWS["text"], padding=True, return_tensors="pt")
        ours = batch_of(component, examples, tokenizer).inputs[""]
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_tokenizer_without_token_types(new_tokenizer):
    plain = transformers.AutoTokenizer.from_pretrained(new_tokenizer("plain", pad=False))
    component = built({"train": {"text": ["a b", "a"], "label": [0, 1]}})
    batch = batch_of(component, encoded(component, "train", plain), plain)
    assert set(batch.tensors) == {"input_ids", "attention_mask", "labels"}
    assert batch.tensors["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch.tensors["input_ids"].dtype == torch.int64


# Loss and metrics


def test_the_loss_is_the_cross_entropy_over_labelled_rows():
    logits, labels = torch.randn(4, 2), torch.tensor([0, 1, -100, 1])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert torch.allclose(loss_of(built(), logits, labels).value, expected)


def onehot(*classes, count):
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float()


def test_metrics_of_two_labels():
    found = metrics_of(
        built(), [onehot(1, 1, count=2), onehot(0, 0, 1, count=2)], [torch.tensor([1, 0]), torch.tensor([0, 1, -100])]
    )
    assert found == {"accuracy": 0.5, "f1": 0.5, "mcc": 0.0}


def test_a_student_with_one_answer_has_an_mcc_of_zero_and_is_not_the_best():
    truth = torch.tensor([0] * 6 + [1] * 54)
    collapsed = onehot(*[1] * 60, count=2)
    finds_some = onehot(*[0] * 2, *[1] * 4, *[0] * 4, *[1] * 50, count=2)
    constant, useful = (metrics_of(built(), [logits], [truth])["mcc"] for logits in (collapsed, finds_some))
    assert (constant, useful) == (0, pytest.approx(7 / 27))


def test_f1_of_three_labels_is_their_mean():
    rows = {"text": ["a"] * 3, "label": [0, 1, 2]}
    found = metrics_of(built({"train": rows}), [onehot(0, 1, 1, 2, count=3)], [torch.tensor([0, 1, 2, 2])])
    assert found["accuracy"] == 0.75
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_without_labels_there_are_no_metrics():
    assert metrics_of(built(), [onehot(0, count=2)], [torch.tensor([-100])]) == {}


def test_the_best_is_chosen_by_the_metric_of_the_spec():
    assert built(metric="mcc").evaluator("train").primary == Metric("mcc")


def test_models_agree_on_labelled_rows():
    mine, theirs = [onehot(0, 1, 1, count=2)], [onehot(0, 0, 1, count=2)]
    assert agreement_of(built(), mine, theirs, [torch.tensor([0, -100, 1])]) == 1.0
    assert agreement_of(built(), mine, theirs, [torch.tensor([0, 1, 1])]) == pytest.approx(2 / 3)
    assert agreement_of(built(), mine, theirs, [torch.tensor([-100] * 3)]) == pytest.approx(2 / 3)
