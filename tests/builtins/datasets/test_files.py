"""Data sets from files and from the hub."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.builtins.datasets.files import Csv, Hub, Json, Parquet
from kdspec.diagnostics.fault import Fault


def fault(action, at, says=""):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == ("KD502", at)
    assert says in caught.value.message
    return caught.value


@pytest.fixture
def build(tmp_path):
    return lambda component: component.build(DatasetContext(folder=tmp_path))


def test_a_set_for_evaluation_needs_no_rows_to_train_on(tmp_path, build):
    (tmp_path / "a.csv").write_text("text\nx\n")
    found = Csv(validation="a.csv")
    assert {split: list(rows["text"]) for split, rows in build(found).items()} == {"validation": ["x"]}
    assert (found.has_split("train"), found.first(BuildContext(folder=tmp_path), 3)) == (False, None)
    assert found.files(BuildContext(folder=tmp_path)) == {"validation": [tmp_path / "a.csv"]}
    assert found.column_names(BuildContext(folder=tmp_path)) == {"validation": ["text"]}
    with pytest.raises(ValidationError, match="there are none"):
        Csv(validation=0.5)


def test_splits_are_read_each_with_its_own_columns(tmp_path, build):
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny,0\n")
    (tmp_path / "b.csv").write_text("text,label\nz,1\n")
    (tmp_path / "u.csv").write_text("text\nw\n")
    found = build(Csv(train=["a.csv", "b.csv"], unlabelled="u.csv"))
    assert isinstance(found, datasets.DatasetDict)
    assert list(found) == ["train", "unlabelled"]
    assert found["train"][:] == {"text": ["x", "y", "z"], "label": ["1", "0", "1"]}
    assert found["unlabelled"].column_names == ["text"]


def test_glue_s_files(tmp_path, build):
    (tmp_path / "a.tsv").write_text('sentence\tlabel\na "good\t1\n')
    found = build(Csv(train="a.tsv", delimiter="\t", quoting=False))
    assert found["train"][0] == {"sentence": 'a "good', "label": "1"}


def test_a_file_without_a_header(tmp_path, build):
    (tmp_path / "a.tsv").write_text("1\tgood\n")
    assert build(Csv(train="a.tsv", delimiter="\t", columns=["label", "text"]))["train"][0] == {
        "label": "1",
        "text": "good",
    }


FIELDS = st.one_of(
    st.text("0123456789.eE+-,xN/A ", max_size=6), st.from_regex(r"-?[0-9]{1,20}(\.[0-9]+)?", fullmatch=True)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=5), st.lists(FIELDS, min_size=1, max_size=5))
def test_every_field_is_the_text_of_the_file_in_every_split(train, test):
    with tempfile.TemporaryDirectory() as folder:
        for name, values in (("a", train), ("b", test)):
            with (Path(folder) / f"{name}.csv").open("w", newline="") as stream:
                csv.writer(stream).writerows([["id", "x"], *([str(n), value] for n, value in enumerate(values))])
        found = Csv(train=["a.csv"], test=["b.csv"]).build(DatasetContext(folder=Path(folder)))
        assert (found["train"]["x"][:], found["test"]["x"][:]) == (train, test)


def test_json_and_parquet(tmp_path, build):
    rows = [{"text": "x", "ids": [1, 2]}, {"text": "y", "ids": [3]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for component in (Json(train="a.jsonl"), Json(train="a.json", field="data"), Parquet(train=["a.parquet"])):
        assert build(component)["train"].to_list() == rows


@pytest.mark.parametrize(
    ("fields", "at", "says"),
    [
        ({"train": "ragged.csv"}, ("train", 0), "ragged.csv:3: 1 field in a row, and 2 columns"),
        ({"train": "good.csv", "test": ["good.csv", "ragged.csv"]}, ("test", 1), "ragged.csv:3: "),
        (
            {"train": ["good.csv", "other.csv"]},
            ("train", 1),
            "its columns differ from those of the first file",
        ),
        ({"train": "none.csv"}, ("train", 0), "none.csv: the file cannot be read"),
    ],
)
def test_a_mistake_in_a_csv_file_names_file_and_line(tmp_path, build, fields, at, says):
    (tmp_path / "good.csv").write_text("a,b\n1,2\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    (tmp_path / "other.csv").write_text("a,c\n1,2\n")
    fault(lambda: build(Csv(**fields)), at, says)


def test_a_mistake_in_a_json_file_names_line_and_column(tmp_path, build):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": }\n')
    fault(lambda: build(Json(train="a.jsonl")), ("train", 0), "a.jsonl:2:7: not JSON")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"a": 1}, {"a": 2**70}], "row 2: `a` has a value of another type"),
        ([{"a": [1]}, {"a": ["x"]}], "row 2: `a[]` is a text, `x`, here and a number in earlier rows"),
        ([{"a": "x"}, {"a": "\ud800"}], "row 2: `a` has half of a character"),
    ],
)
def test_values_that_no_column_can_hold(tmp_path, build, rows, says):
    (tmp_path / "a.json").write_text(json.dumps(rows))
    asked = DatasetContext(folder=tmp_path, reads=("a",))
    fault(lambda: Json(train="a.json").build(asked), ("train", 0), says)
    with pytest.raises(Fault) as caught:
        build(Json(train="a.json"))
    assert "`a" not in caught.value.message
    for row in rows:
        row["b"] = 0
    (tmp_path / "b.json").write_text(json.dumps(rows))
    found = Json(train="b.json").build(DatasetContext(folder=tmp_path, reads=("b",)))
    assert found["train"].to_dict() == {"b": [0, 0]}


def test_files_may_differ_in_columns_that_nothing_reads(tmp_path):
    (tmp_path / "a.csv").write_text("text,x\na,1\n")
    (tmp_path / "b.csv").write_text("text,y\nb,1\n")
    found = Csv(train=["a.csv", "b.csv"]).build(DatasetContext(folder=tmp_path, reads=("text",)))
    assert found["train"].to_dict() == {"text": ["a", "b"]}


def test_compressed_files(tmp_path, build):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text,label\na,1\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a", "label": "1"}\n'))
    for component in (Csv(train="a.csv.gz"), Json(train="a.jsonl.gz")):
        assert build(component)["train"].to_list() == [{"text": "a", "label": "1"}]
        assert list(component.column_names(BuildContext(folder=tmp_path))["train"]) == ["text", "label"]
        assert component.first(BuildContext(folder=tmp_path), 1) == {"text": ["a"], "label": ["1"]}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text,label\n"])
def test_what_is_no_parquet_file(tmp_path, build, content):
    (tmp_path / "a.parquet").write_bytes(content)
    fault(lambda: build(Parquet(train="a.parquet")), ("train", 0), "cannot be read")


def test_parquet_files_of_different_columns(tmp_path, build):
    for name, column in (("a", "x"), ("b", "y")):
        pq.write_table(pa.table({column: [1]}), tmp_path / f"{name}.parquet")
    fault(lambda: build(Parquet(train=["a.parquet", "b.parquet"])), ("train", 1))


@pytest.mark.parametrize(
    ("component", "fields", "loc"),
    [
        (Csv, {}, ("train",)),
        (Csv, {"train": []}, ("train",)),
        (Csv, {"train": 3}, ("train",)),
        (Csv, {"train": [3]}, ("train", 0)),
        (Csv, {"train": "a", "delimiter": "ab"}, ("delimiter",)),
        (Csv, {"train": "a", "delimiter": '"'}, ("delimiter",)),
        (Csv, {"train": "a", "delimiter": "\n"}, ("delimiter",)),
        (Csv, {"train": "a", "quoting": "no"}, ("quoting",)),
        (Csv, {"train": "a", "dev": "b"}, ("dev",)),
        (Csv, {"train": "a", "validation": 1.0}, ("validation", "share")),
        (Csv, {"train": "a", "test": 0}, ("test", "share")),
        (Csv, {"train": 0.5}, ("train",)),
        (Csv, {"train": "a", "test": 0.5, "validation": 0.5}, ("test",)),
        (Csv, {"train": "a", "unlabelled": 0.1}, ("unlabelled",)),
        (Hub, {"path": "a/b", "splits": {"train": 0.5}}, ("splits",)),
        (Hub, {"path": "a/b", "splits": {"train": "x", "test": 1.5}}, ("splits", "test", "share")),
        (Json, {"train": "a", "field": 1}, ("field",)),
        (Hub, {}, ("path",)),
        (Hub, {"path": "a b"}, ("path",)),
        (Hub, {"path": "../x"}, ("path",)),
        (Hub, {"path": "a/b", "splits": {"dev": "x", "train": "y"}}, ("splits", "dev", "[key]")),
        (Hub, {"path": "a/b", "splits": {"validation": "x"}}, ("splits",)),
    ],
)
def test_a_value_out_of_range(component, fields, loc):
    with pytest.raises(ValidationError) as caught:
        component(**fields)
    assert [error["loc"] for error in caught.value.errors()] == [loc]


def test_a_file_is_looked_for_while_the_spec_is_validated(tmp_path):
    (tmp_path / "train.csv").touch()
    with pytest.raises(ValidationError) as caught:
        Csv.model_validate({"train": ["train.csv", "more.csv"], "test": "tset.csv"}, context={"folder": tmp_path})
    assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [
        ("file_not_found", ("train", 1)),
        ("file_not_found", ("test", "named", 0)),
    ]


def test_splits_from_one_file(tmp_path):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows))
    (tmp_path / "u.csv").write_text("text\nx\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    context = DatasetContext(folder=tmp_path, seed=3, reads=("text", "label"), together=("text",), classes=("label",))
    shares = {"validation": 0.25, "test": 0.1}
    made = [
        component.build(context)
        for component in (
            Csv(train="a.csv", unlabelled="u.csv", **shares),
            Json(train="a.jsonl", **shares),
            Parquet(train="a.parquet", **shares),
        )
    ]
    assert list(made[0]) == ["train", "validation", "test", "unlabelled"]
    assert [made[0][split].num_rows for split in made[0]] == [26, 10, 4, 1]
    for other in made[1:]:
        assert {split: rows.to_dict() for split, rows in other.items()} == {
            split: made[0][split].to_dict() for split in other
        }
    data = Csv(train="a.csv", **shares)
    assert data.has_split("test")
    names = data.column_names(BuildContext(folder=tmp_path))
    assert names == {split: ["text", "label"] for split in ("train", "validation", "test")}


# The hub


@pytest.fixture
def hub(monkeypatch):
    asked = []
    whole = datasets.DatasetDict({name: datasets.Dataset.from_dict({"a": [1]}) for name in ("train", "test", "extra")})

    def load(path, subset, *, revision, split):
        asked.append((path, subset, revision, split))
        if split == "gone":
            raise ValueError('Unknown split "gone".')
        return whole if split is None else whole["train"]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_the_hub_s_splits_of_the_same_names(hub):
    found = Hub(path="owner/data", revision="v1").build(DatasetContext())
    assert list(found) == ["train", "test"]
    assert hub == [("owner/data", None, "v1", None)]


def test_the_hub_s_splits_by_name(hub):
    splits = {"train": "train[:10]", "validation": "extra"}
    assert list(Hub(path="glue", subset="mnli", splits=splits).build(DatasetContext())) == ["train", "validation"]
    assert hub == [("glue", "mnli", None, "train[:10]"), ("glue", "mnli", None, "extra")]


def test_a_share_of_the_hub_s_rows(monkeypatch):
    whole = datasets.Dataset.from_dict({"text": [f"t{n}" for n in range(40)]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: whole)
    found = Hub(path="owner/data", splits={"train": "train", "validation": 0.25}).build(
        DatasetContext(together=("text",))
    )
    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 30, "validation": 10}
    component = Hub(path="owner/data", splits={"train": "train", "test": 0.001})
    fault(lambda: component.build(DatasetContext()), ("splits", "test"), "would have no row")


def test_a_split_that_the_hub_does_not_have(hub):
    component = Hub(path="glue", splits={"train": "train", "test": "gone"})
    fault(lambda: component.build(DatasetContext()), ("splits", "test"), 'Unknown split "gone"')


def test_a_hub_data_set_without_rows_to_learn_from(hub, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict({"extra": None}))
    found = fault(lambda: Hub(path="glue").build(DatasetContext()), ("path",), "no split `train`")
    assert "`extra`" in found.help


def test_a_hub_data_set_that_cannot_be_reached():
    datasets.enable_progress_bars()
    fault(lambda: Hub(path="nobody/nothing").build(DatasetContext()), ("path",), "cannot be loaded")
    assert not datasets.are_progress_bars_disabled()


def test_a_folder_is_not_taken_for_the_hub(tmp_path, monkeypatch):
    (tmp_path / "glue").mkdir()
    monkeypatch.chdir(tmp_path)
    fault(lambda: Hub(path="glue").build(DatasetContext()), ("path",), "is a local folder")
