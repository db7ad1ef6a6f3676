"""How what is inside the packages becomes plain files: each function fills a folder from the unpacked members.

Splits are taken from an order by hash, which is the same on every version of Python; the random module does not promise that.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def keep(unpacked: Path, folder: Path) -> None:
    """The unpacked members are the asset."""
    for path in sorted(unpacked.iterdir()):
        path.rename(folder / path.name)


def headlines(unpacked: Path, folder: Path) -> None:
    """Unique headlines, split into four disjoint files."""
    labels: dict[str, str] = {}
    with (unpacked / "samples.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            sample = json.loads(line)
            labels.setdefault(sample["input"][1]["content"].strip(), ("plain", "sarcastic")[int(sample["ideal"])])
    sizes = {"train": 3_000, "validation": 1_500, "test": 4_000, "unlabelled": 10_000}
    labelled_texts(folder, ("headline", "label"), labels, sizes)
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def thucnews(unpacked: Path, folder: Path) -> None:
    """Chinese news titles with their section."""
    lines = (unpacked / "titles.txt").read_text(encoding="utf-8").splitlines()
    labels = {title: label for label, title in (line.split("\t") for line in lines)}
    sizes = {"train": 2_500, "validation": 500, "test": 2_000, "unlabelled": 5_000}
    labelled_texts(folder, ("title", "label"), labels, sizes)
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def questions(unpacked: Path, folder: Path) -> None:
    """Unique TREC questions with the kind of answer that they ask for."""
    labels: dict[str, str] = {}
    with (unpacked / "questions.txt").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            label, question = line.rstrip("\n").split(" ", 1)
            labels.setdefault(question, label.partition(":")[0])
    labelled_texts(folder, ("question", "label"), labels, {"train": 3_000, "validation": 500, "test": 1_800})
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def reviews(unpacked: Path, folder: Path) -> None:
    """Sentences of film reviews with the judgements of about eighteen people, from -4 (worst) to 4 (best).

    `train.csv` and its like have the mean; `votes-train.jsonl` and its like have, of the same sentences, the sign of each
    judgement, and the answer that most people gave: of two that are as frequent, that of the sign of the mean.
    """
    scores: dict[str, str] = {}
    votes: dict[str, tuple[list[str], str]] = {}
    with tarfile.open(unpacked / "reviews.tar.gz") as archive:
        judged = {number: each for number, _, _, each in _review_lines(archive, "anonDataRatings", 3)}
        for number, valence, sentence in _review_lines(archive, "GroundTruth", 2):
            scores.setdefault(sentence.strip(), f"{float(valence):.3f}")
            votes.setdefault(sentence.strip(), _votes(json.loads(judged[number])))
    sizes = {"train": 5_000, "validation": 1_000, "test": 4_000}
    labelled_texts(folder, ("sentence", "valence"), scores, sizes)
    order = shuffled(scores, str)
    for name, size in sizes.items():
        with (folder / f"votes-{name}.jsonl").open("w", encoding="utf-8") as file:
            for sentence in islice(order, size):
                answers, most = votes[sentence]
                row = {"sentence": sentence, "votes": answers, "majority": most}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def _review_lines(archive: tarfile.TarFile, name: str, tabs: int) -> Iterator[list[str]]:
    """The fields of the lines of one of the files of film reviews."""
    source = archive.extractfile(f"hutto_ICWSM_2014/movieReviewSnippets_{name}.txt")
    assert source is not None  # noqa: S101 - the archive is the pinned one
    return (line.split("\t", tabs) for line in source.read().decode("utf-8").splitlines())


def _votes(judgements: Sequence[int]) -> tuple[list[str], str]:
    """The sign of each judgement as an answer, and the most frequent answer."""
    answers = [_sign(judgement) for judgement in judgements]
    (most, count), *others = Counter(answers).most_common()
    tie = any(same == count for _, same in others)
    return answers, _sign(sum(judgements)) if tie else most


def _sign(number: int) -> str:
    return "positive" if number > 0 else "negative" if number < 0 else "neutral"


def contracts(unpacked: Path, folder: Path) -> None:
    """Sentences of loan agreements with the people, places and organisations in them, as two tasks.

    `*.txt` has a token and its IOB tag per line; `kinds-*.csv` has the kinds of names in a sentence, if any.
    """
    found = []
    with (unpacked / "samples.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            sample = json.loads(line)
            found.append(tagged(sample["input"][1]["content"].split(), sample["ideal"]))
    unique = {" ".join(token for token, _ in sentence): sentence for sentence in found}
    order = shuffled(unique.values(), lambda sentence: " ".join(token for token, _ in sentence))
    for name, size in (("train", 700), ("validation", 150), ("test", len(unique) - 850)):
        split = list(islice(order, size))
        write_tagged(folder / f"{name}.txt", split)
        rows = ((" ".join(token for token, _ in sentence), "|".join(kinds(sentence))) for sentence in split)
        write_csv(folder / f"kinds-{name}.csv", ("text", "kinds"), rows)
    (unpacked / "LICENSE").rename(folder / "LICENSE")


_MENTION = re.compile(r"(.+?) - (PERSON|ORGANIZATION|LOCATION)(?:, |\]|$)")


def tagged(tokens: list[str], mentions: str) -> list[tuple[str, str]]:
    """The tokens with a tag each, of mentions in the order of the text: `[Ann Lee - PERSON, Rome - LOCATION]`."""
    tags, at = ["O"] * len(tokens), 0
    for name, kind in _MENTION.findall(mentions.strip("[]")):
        words = name.split()
        at = next(start for start in range(at, len(tokens)) if tokens[start : start + len(words)] == words)
        tags[at : at + len(words)] = [f"B-{kind}", *[f"I-{kind}"] * (len(words) - 1)]
        at += len(words)
    return list(zip(tokens, tags, strict=True))


def squad(unpacked: Path, folder: Path) -> None:
    """English questions: articles of Wikipedia and the New York Times for training, SQuAD's own for evaluation.

    `short-*.json` are the same for a processor: of each text the sentences round an answer, `unlabelled` what asks about the
    news, posts on Reddit and reviews of products, and two questions per text for evaluation.
    """
    read = {path.stem: json.loads(path.read_text(encoding="utf-8"))["data"] for path in unpacked.glob("*.json")}
    articles = shuffled(read["squad"], lambda article: article["title"])
    validation, test = list(islice(articles, 10)), list(articles)
    files = {
        "train": read["wikipedia"] + read["news"],
        "validation": validation,
        "test": test,
        "short-train": [short(article) for article in read["wikipedia"]],
        "short-unlabelled": [
            short(article, answers=False) for name in ("news", "reddit", "reviews") for article in read[name]
        ],
        "short-validation": [short(article, questions=2) for article in validation],
        "short-test": [short(article, questions=2) for article in test],
    }
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")


_WORDS = 60
_NEXT_SENTENCE = re.compile(r"(?<=[.!?])[\"\u201d)]?\s+(?=[A-Z0-9\"\u201c(])")


def short(article: dict[str, Any], questions: int | None = None, *, answers: bool = True) -> dict[str, Any]:
    """An article with a short text for each question, of the first `questions` of a text."""
    paragraphs = []
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"][:questions]:
            start, end = round_answer(paragraph["context"], asked["answers"][0])
            found = [
                answer | {"answer_start": answer["answer_start"] - start}
                for answer in asked["answers"]
                if start <= answer["answer_start"] <= end - len(answer["text"])
            ]
            question = {"id": asked["id"], "question": asked["question"]} | ({"answers": found} if answers else {})
            paragraphs.append({"context": paragraph["context"][start:end], "qas": [question]})
    return {"title": article["title"], "paragraphs": paragraphs}


def round_answer(text: str, answer: dict[str, Any]) -> tuple[int, int]:
    """Where the sentences of an answer begin and end, with those before and after them, in turn, that make 60 words at most."""
    bounds = [0, *(found.end() for found in _NEXT_SENTENCE.finditer(text)), len(text)]
    last = len(bounds) - 2
    first_letter, last_letter = answer["answer_start"], answer["answer_start"] + len(answer["text"]) - 1
    before, after = (
        max(place for place in range(last + 1) if place == 0 or bounds[place] <= letter)
        for letter in (first_letter, last_letter)
    )

    def fits(before: int, after: int) -> bool:
        return before >= 0 and after <= last and len(text[bounds[before] : bounds[after + 1]].split()) <= _WORDS

    while fits(before - 1, after) or fits(before, after + 1):
        before -= fits(before - 1, after)
        after += fits(before, after + 1)
    return bounds[before], bounds[after + 1]


_LONGEST = 100
_KINDS = {"PER": "person", "LOC": "place", "ORG": "organisation"}  # as the longer names of types begin, too
_ASKED = {"PER": "文中提到的人名是什么?", "LOC": "文中提到的地名是什么?", "ORG": "文中提到的机构名是什么?"}


def msra(unpacked: Path, folder: Path) -> None:
    """Chinese sentences with names of people, places and organisations, as three tasks.

    `names-*.txt` has a character and its BMES tag a line. `kinds-*.csv` says which kinds of names a sentence has, several
    or one. `questions-*.json` asks for the name where there is just one of a kind, in the form of SQuAD: real answers at
    real places, though not questions that anybody has asked.
    """
    read = {
        name: shuffled(
            {
                tuple(sentence)
                for sentence in sentences((unpacked / f"{name}.txt").read_text(encoding="utf-8").splitlines(), " ")
                if len(sentence) <= _LONGEST and whole(sentence)
            },
            lambda sentence: "".join(token for token, _ in sentence),
        )
        for name in ("train", "test")
    }
    splits = {
        "train": list(islice(read["train"], 12_000)),
        "validation": list(islice(read["train"], 1_000)),
        "unlabelled": list(islice(read["train"], 10_000)),
        "test": list(islice(read["test"], 3_000)),
    }
    for split, found in splits.items():
        write_tagged(folder / f"names-{split}.txt", found, tags=split != "unlabelled")
        texts = ["".join(token for token, _ in sentence) for sentence in found]
        if split == "unlabelled":
            write_csv(folder / f"kinds-{split}.csv", ("text",), ((text,) for text in texts))
            continue
        rows = zip(texts, map(kinds, found), strict=True)
        write_csv(folder / f"kinds-{split}.csv", ("text", "kinds"), ((text, "|".join(k)) for text, k in rows if k))
        asked = [article for number, sentence in enumerate(found) if (article := article_of(number, sentence))]
        text = json.dumps({"version": "1.1", "data": asked}, ensure_ascii=False)
        (folder / f"questions-{split}.json").write_text(text, encoding="utf-8")
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def whole(sentence: Sequence[tuple[str, str]]) -> bool:
    """Whether each name of a sentence has its beginning and its end there."""
    prefixes = ["O", *(tag[:1] for _, tag in sentence), "O"]
    return all((before in "BM") == (after in "ME") for before, after in pairwise(prefixes))


def names(sentence: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """The kind of each name of a tagged sentence and where it starts."""
    return [(tag[2:], place) for place, (_, tag) in enumerate(sentence) if tag[:2] in ("B-", "B_", "S-", "S_")]


def kinds(sentence: Sequence[tuple[str, str]]) -> list[str]:
    """The kinds of names in a tagged sentence."""
    return sorted({_KINDS[kind[:3]] for kind, _ in names(sentence)})


def article_of(number: int, sentence: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
    """The sentence with a question for each kind of which it has one name, or None where it has none."""
    text, asked = "".join(token for token, _ in sentence), []
    starts = names(sentence)
    for kind, question in _ASKED.items():
        places = [place for found, place in starts if found == kind]
        if len(places) == 1:
            (start,) = places
            end = start + 1
            while end < len(sentence) and sentence[end][1][:1] in ("M", "E") and sentence[end - 1][1][:1] in ("B", "M"):
                end += 1
            answer = {"text": text[start:end], "answer_start": start}
            asked.append({"id": f"{number}-{kind}", "question": question, "answers": [answer]})
    return {"title": "", "paragraphs": [{"context": text, "qas": asked}]} if asked else None


def sentences(lines: Iterable[str], separator: str) -> Iterator[list[tuple[str, str]]]:
    """Tokens with their tags, a sentence at a time, of lines that hold one each; an empty line ends a sentence."""
    for blank, group in groupby(lines, lambda line: not line.strip()):
        if not blank:
            pairs = [line.rsplit(separator, 1) for line in group]
            yield [(token, tag.strip()) for token, tag in pairs]


def labelled_texts(folder: Path, header: Sequence[str], labels: dict[str, str], sizes: dict[str, int]) -> None:
    """A CSV file a split; that of `unlabelled` has the texts alone."""
    order = shuffled(labels, str)
    for name, size in sizes.items():
        texts = [next(order) for _ in range(size)]
        if name == "unlabelled":
            write_csv(folder / f"{name}.csv", header[:1], ((text,) for text in texts))
        else:
            write_csv(folder / f"{name}.csv", header, ((text, labels[text]) for text in texts))


def shuffled(items: Iterable[T], text: Callable[[T], str]) -> Iterator[T]:
    """The items by the hash of their text."""
    return iter(sorted(items, key=lambda item: hashlib.sha256(f"kdspec {text(item)}".encode()).digest()))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """UTF-8, a header, quotes where they are needed."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_tagged(path: Path, found: Iterable[Sequence[tuple[str, str]]], *, tags: bool = True) -> None:
    """A token and its tag a line, an empty line after each sentence."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for sentence in found:
            file.writelines(f"{token}\t{tag}\n" if tags else f"{token}\n" for token, tag in sentence)
            file.write("\n")
