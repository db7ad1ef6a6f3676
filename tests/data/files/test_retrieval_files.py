"""Files of a retrieval set: formats, names of columns, and what is wrong with them."""

from __future__ import annotations

import gzip
import json

import pytest
from pydantic import ValidationError

from kdspec.data.files.retrieval_files import RetrievalFiles, numbered, read_documents
from kdspec.diagnostics.fault import Fault

CORPUS = [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "title": "", "text": "second"}]
QUERIES = [{"_id": "q1", "text": "which?"}, {"_id": "q2", "text": "not judged"}]
RELEVANT = "query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td1\t0\n"


def files(folder, corpus=CORPUS, queries=QUERIES, relevant=RELEVANT, suffix=".tsv"):
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / f"relevant{suffix}").write_text(relevant, encoding="utf-8")
    return RetrievalFiles(corpus="corpus.jsonl", queries="queries.jsonl", relevant=f"relevant{suffix}")


def fault(folder, **changed):
    with pytest.raises(Fault) as found:
        files(folder, **changed).read(folder, ("evaluate", "sts"))
    assert found.value.code == "KD502"
    return found.value


def test_a_set_of_beir(tmp_path):
    found = files(tmp_path).read(tmp_path)["validation"]
    assert found.documents == {"d1": "One first", "d2": "second"}
    assert found.queries == {"q1": "which?"}, "a query without a relevant document is left out"
    assert found.relevant == {("q1", "d2"): 2.0}
    assert list(numbered(found)) == [(0, 1, 2.0)]


def test_a_file_of_pairs_for_each_split(tmp_path):
    files(tmp_path)
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\nq2\td1\n", encoding="utf-8")
    both = {"validation": "relevant.tsv", "test": "test.tsv"}
    made = RetrievalFiles(corpus="corpus.jsonl", queries="queries.jsonl", relevant=both)
    assert {split: list(each.queries) for split, each in made.read(tmp_path).items()} == {
        "validation": ["q1"],
        "test": ["q2"],
    }
    with pytest.raises(ValidationError, match="validation"):
        RetrievalFiles(corpus="corpus.jsonl", queries="queries.jsonl", relevant={"train": "test.tsv"})


def test_a_table_of_ids_and_texts_without_a_header(tmp_path):
    (tmp_path / "collection.tsv").write_text("0\tthe first\n1\tthe second\n", encoding="utf-8")
    assert read_documents("collection.tsv", tmp_path, ()) == {"0": "the first", "1": "the second"}


def test_plain_names_csv_and_compression(tmp_path):
    with gzip.open(tmp_path / "c.csv.gz", "wt", encoding="utf-8") as stream:
        stream.write('pid,passage\n7,"a, b"\n8,c\n')
    (tmp_path / "q.tsv").write_text("qid\tquestion\n1\twhat\n", encoding="utf-8")
    (tmp_path / "r.jsonl").write_text('{"qid": 1, "pid": 8}\n', encoding="utf-8")
    found = RetrievalFiles(corpus="c.csv.gz", queries="q.tsv", relevant="r.jsonl").read(tmp_path)["validation"]
    assert found.documents == {"7": "a, b", "8": "c"}
    assert found.relevant == {("1", "8"): 1.0}, "an id is the same as a number and as a text"


@pytest.mark.parametrize(
    ("changed", "message", "at"),
    [
        ({"corpus": [{"_id": "d1", "text": "a"}, {"_id": "d1", "text": "b"}]}, "row 2 has the id of row 1, `d1`", "corpus"),
        ({"corpus": [{"_id": "d1", "text": " "}]}, "row 1: `text` of `d1` is empty", "corpus"),
        ({"corpus": [{"_id": "", "text": "a"}]}, "row 1: `_id` is empty", "corpus"),
        ({"corpus": [{"_id": 1.5, "text": "a"}]}, "row 1: `_id` is `1.5`, neither a text nor an integer", "corpus"),
        ({"corpus": [{"_id": True, "text": "a"}]}, "row 1: `_id` is `True`, neither a text nor an integer", "corpus"),
        ({"corpus": [{"_id": "d1", "text": 3}]}, "row 1: `3` in place of a text", "corpus"),
        ({"corpus": [{"key": "d1", "text": "a"}]}, "no column `_id`", "corpus"),
        ({"corpus": [{"_id": "d1", "words": "a"}]}, "no column `text`", "corpus"),
        ({"corpus": ""}, "the file is empty", "corpus"),
        ({"corpus": '{"_id": "d1", "text": "a"}\n{"_id": 2, "text": "b"}\n'}, "2: `_id` is a number here and a text in earlier", "corpus"),
        ({"queries": [{"_id": "q1", "text": None}]}, "row 1: `text` of `q1` is empty", "queries"),
        ({"queries": "[1]"}, "row 1: a number in place of an object", "queries"),
        ({"relevant": "q1\td1\t1\n"}, "no column `query-id`", "relevant"),
        ({"relevant": "query-id\tcorpus-id\tscore\n"}, "no pair has a relevance above 0", "relevant"),
        ({"relevant": RELEVANT.replace("\t2\n", "\t0\n")}, "no pair has a relevance above 0", "relevant"),
        ({"relevant": RELEVANT.replace("\t2\n", "\tyes\n")}, "row 1: `score` is `yes`, not a number", "relevant"),
        ({"relevant": RELEVANT.replace("\t2\n", "\tnan\n")}, "row 1: `score` is `nan`, not a number", "relevant"),
        ({"relevant": RELEVANT.replace("\t2\n", "\t\n")}, "row 1: `score` is empty", "relevant"),
        ({"relevant": RELEVANT.replace("d2", "d9")}, "row 1: `corpus-id` is `d9`, an id that `corpus.jsonl` does not have", "relevant"),
        ({"relevant": RELEVANT.replace("q1\td1", "q7\td1")}, "row 2: `query-id` is `q7`, an id that `queries.jsonl` does not have", "relevant"),
        ({"relevant": RELEVANT + "q1\td2\t2\n"}, "row 3 has the query and the document of row 1", "relevant"),
        ({"relevant": RELEVANT + "q1\t\t2\n"}, "row 3: `corpus-id` is empty", "relevant"),
        ({"relevant": RELEVANT + "q1\t2\n"}, "4: 2 fields in a row, and 3 columns", "relevant"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_file_and_row(tmp_path, changed, message, at):
    found = fault(tmp_path, **changed)
    assert message in found.message
    assert found.message.startswith(f"{at}.{'tsv' if at == 'relevant' else 'jsonl'}:")
    assert found.at[:3] == ("evaluate", "sts", at)


def test_an_unknown_id_shows_what_ids_look_like(tmp_path):
    found = fault(tmp_path, relevant=RELEVANT.replace("d2", "D-2"))
    assert found.help == "`corpus.jsonl` has 2 ids: `d1`, `d2`; rows are counted from 1, without the header"


def test_a_missing_column_names_those_that_would_do(tmp_path):
    found = fault(tmp_path, relevant="a\tb\n1\t2\n")
    assert found.help is not None
    assert "`query-id` or `query_id` or `qid`" in found.help


def test_a_file_without_rows(tmp_path):
    (tmp_path / "c.csv").write_text("_id,text\n", encoding="utf-8")
    with pytest.raises(Fault, match=r"c\.csv: the file has no rows"):
        read_documents("c.csv", tmp_path, ("corpus",))


def test_a_name_tells_the_format():
    with pytest.raises(ValidationError, match="ends in none of"):
        RetrievalFiles(corpus="a.jsonl", queries="b.parquet", relevant="c.tsv")
