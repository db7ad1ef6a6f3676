"""What the packages have becomes files that the specs read."""

from __future__ import annotations

import csv
import io
import json
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

SPECS = Path(__file__).parent.parent.parent / "specs"


@pytest.fixture(scope="module")
def conversions():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPECS))
        import conversions

        yield conversions
        del sys.modules["conversions"]


@pytest.fixture(scope="module")
def quantized():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPECS))
        import quantized

        yield quantized
        del sys.modules["quantized"]


@pytest.fixture(scope="module")
def parallel_texts(conversions):
    del conversions  # which it imports, and which is no longer known after its tests
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPECS))
        import parallel_texts

        yield parallel_texts
        del sys.modules["parallel_texts"]


@pytest.fixture(scope="module")
def static_vectors():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPECS))
        import static_vectors

        yield static_vectors
        del sys.modules["static_vectors"]


@pytest.fixture
def unpacked(tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "LICENSE").write_text("free")
    return folder


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_titles_have_their_section(conversions, unpacked, made):
    (unpacked / "titles.txt").write_text("".join(f"s{n % 10}\t标题 {n}\n" for n in range(10_000)), encoding="utf-8")
    conversions.thucnews(unpacked, made)
    for row in rows(made / "train.csv"):
        assert row["label"] == f"s{int(row['title'].split()[1]) % 10}"
    files = ("train", "validation", "test", "unlabelled")
    texts = [row["title"] for name in files for row in rows(made / f"{name}.csv")]
    assert len(set(texts)) == len(texts) == 10_000


def test_questions_have_their_coarse_kind_and_come_once(conversions, unpacked, made):
    lines = "".join(f"NUM:count How many {n} ?\n" for n in range(5_300))
    (unpacked / "questions.txt").write_text(lines + lines.replace("NUM", "LOC"), encoding="utf-8")
    conversions.questions(unpacked, made)
    assert {row["label"] for row in rows(made / "test.csv")} == {"NUM"}


def test_reviews_are_read_out_of_the_inner_archive(conversions, unpacked, made):
    judged = [[n % 8 - 4, n % 8 - 4, 1, -1] for n in range(10_000)]
    texts = {
        "GroundTruth": "".join(f"{n}\t{sum(each) / 4:.8f}\tReview {n}\n" for n, each in enumerate(judged)),
        "anonDataRatings": "".join(f"{n}\t{sum(each) / 4}\t1.0\t{each}\r\n" for n, each in enumerate(judged)),
    }
    with tarfile.open(unpacked / "reviews.tar.gz", "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/movieReviewSnippets_{name}.txt")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    conversions.reviews(unpacked, made)
    valences = rows(made / "train.csv")
    assert all(-2 <= float(row["valence"]) <= 1.5 for row in valences)
    for name in ("train", "validation", "test"):
        voted = [json.loads(line) for line in (made / f"votes-{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        scored = rows(made / f"{name}.csv")
        assert [row["sentence"] for row in voted] == [row["sentence"] for row in scored]
        for row in voted:
            mine = judged[int(row["sentence"].split()[1])]
            assert row["votes"] == ["positive" if n > 0 else "negative" if n < 0 else "neutral" for n in mine]
            # Two and two are a tie, which the mean decides; one is neutral on average.
            assert row["majority"] == row["votes"][0] if mine[0] else row["majority"] == "neutral"


def test_of_answers_that_are_as_frequent_the_mean_decides(conversions):
    assert conversions._votes([4, -1]) == (["positive", "negative"], "positive")
    assert conversions._votes([1, -4])[1] == "negative"
    assert conversions._votes([2, -2])[1] == "neutral"
    assert conversions._votes([-1, -1, 4, 0])[1] == "negative"


def test_mentions_are_found_in_the_order_of_the_text(conversions):
    tokens = ["Rome", "lent", "Ann", "Lee", "of", "Rome", "Bank", "money"]
    said = "[Rome - LOCATION, Ann Lee - PERSON, Rome Bank - ORGANIZATION]"
    tags = [tag for _, tag in conversions.tagged(tokens, said)]
    assert tags == ["B-LOCATION", "O", "B-PERSON", "I-PERSON", "O", "B-ORGANIZATION", "I-ORGANIZATION", "O"]
    assert {tag for _, tag in conversions.tagged(tokens, "No entities found")} == {"O"}


def test_contracts_are_sentences_of_tokens_with_tags(conversions, unpacked, made):
    sample = {"input": [{}, {"content": ""}], "ideal": "[Ann - PERSON]"}
    lines = []
    for n in range(900):
        sample["input"][1]["content"] = f"Ann owes {n}"
        lines.append(json.dumps(sample))
    (unpacked / "samples.jsonl").write_text("\n".join(lines))
    conversions.contracts(unpacked, made)
    read = (made / "train.txt").read_text().split("\n\n")
    assert read[0].splitlines()[:2] == ["Ann\tB-PERSON", "owes\tO"]
    assert len(read) == 700 + 1
    assert rows(made / "kinds-train.csv")[0]["kinds"] == "person"


SENTENCE = [("王", "B-PER"), ("明", "E-PER"), ("在", "O"), ("京", "S-LOC"), ("和", "O"), ("沪", "S-LOC")]


def test_a_question_is_asked_where_there_is_one_name_of_a_kind(conversions):
    article = conversions.article_of(3, SENTENCE)
    (paragraph,) = article["paragraphs"]
    assert paragraph["context"] == "王明在京和沪"
    (asked,) = paragraph["qas"]
    assert asked["id"] == "3-PER"
    assert asked["answers"] == [{"text": "王明", "answer_start": 0}]
    assert conversions.article_of(4, [("和", "O")]) is None


@pytest.mark.parametrize(
    ("tags", "whole"), [("B-PER E-PER O S-LOC", True), ("M-PER E-PER O", False), ("O B-PER", False), ("B-PER O", False)]
)
def test_a_sentence_that_is_cut_within_a_name_is_known(tags, whole, conversions):
    assert conversions.whole([("王", tag) for tag in tags.split()]) is whole


@pytest.mark.slow
def test_msra_gives_names_kinds_and_questions(conversions, unpacked, made):
    for name, count in (("train", 23_000), ("test", 3_000)):
        with (unpacked / f"{name}.txt").open("w", encoding="utf-8") as file:
            for n in range(count):
                file.writelines(f"{token} {tag}\n" for token, tag in [*SENTENCE, (str(n), "O")])
                file.write("\n")
    conversions.msra(unpacked, made)
    assert (made / "names-test.txt").read_text(encoding="utf-8").startswith("王\tB-PER\n明\tE-PER\n")
    assert (made / "names-unlabelled.txt").read_text(encoding="utf-8").startswith("王\n明\n")
    assert rows(made / "kinds-test.csv")[0]["kinds"] == "person|place"
    assert set(rows(made / "kinds-unlabelled.csv")[0]) == {"text"}
    assert len(json.loads((made / "questions-test.json").read_text(encoding="utf-8"))["data"]) == 3_000


def test_articles_of_squad_are_in_one_split_each(conversions, unpacked, made):
    for name, count in (("wikipedia", 3), ("news", 3), ("reddit", 3), ("reviews", 3), ("squad", 20)):
        data = [{"title": f"{name} {n}", "paragraphs": []} for n in range(count)]
        (unpacked / f"{name}.json").write_text(json.dumps({"data": data}))
    conversions.squad(unpacked, made)
    read = {n: {a["title"] for a in json.loads((made / f"{n}.json").read_text())["data"]} for n in ("train", "test")}
    assert len(read["train"]) == 6
    asked = {article["title"] for article in json.loads((made / "short-unlabelled.json").read_text())["data"]}
    assert asked == {f"{name} {n}" for name in ("news", "reddit", "reviews") for n in range(3)}
    assert len(read["test"]) == 10
    assert all(title.startswith("squad") for title in read["test"])


ONE, TWO, THREE = ("It is so. " * 20).strip(), "Mr. Smith said no.", ("They met again. " * 12).strip()


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (f"{TWO} She left.", "no", f"{TWO} She left."),
        (f"{ONE} {TWO} {THREE}", "said no", f"{'It is so. ' * 9}{TWO} {'They met again. ' * 9}"),
        (f"{ONE} {THREE}", "so. They met", f"{'It is so. ' * 10}{'They met again. ' * 10}"),
        ("word " * 70 + "end.", "end", "word " * 70 + "end."),
    ],
    ids=["all of a short text", "as much before as after", "across sentences", "one long sentence"],
)
def test_a_short_text_is_of_the_sentences_round_the_answer(conversions, text, answer, expected):
    start, end = conversions.round_answer(text, {"text": answer, "answer_start": text.index(answer)})
    assert text[start:end] == expected


def test_short_questions_have_their_answers_at_their_places(conversions):
    text = f"{ONE} {TWO} {THREE}"
    answers = [{"text": answer, "answer_start": text.index(answer)} for answer in ("Smith", "It is", "no")]
    asked = [{"id": str(n), "question": "who?", "answers": answers} for n in range(3)]
    article = {"title": "t", "paragraphs": [{"context": text, "qas": asked}]}
    short = conversions.short(article, questions=2)
    assert [paragraph["qas"][0]["id"] for paragraph in short["paragraphs"]] == ["0", "1"]
    for paragraph in short["paragraphs"]:
        found = paragraph["qas"][0]["answers"]
        assert [answer["text"] for answer in found] == ["Smith", "no"]  # the other is not in the short text
        for answer in found:
            assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])
    assert "answers" not in conversions.short(article, answers=False)["paragraphs"][0]["qas"][0]


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "b", "▁中", "中", "国", "▁the", ",", "ß", "<mask>"]


def packed(width: int = 32) -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of one layer in the package's format, and the weights in it."""
    random = np.random.default_rng(0)
    inner = 2 * width
    sizes = {"emb.word": len(PIECES) * width, "emb.pos": 8 * width, "emb.type": 2 * width}
    sizes |= {"emb.ln.w": width, "emb.ln.b": width}
    for name, rows_, columns in (("q", width, width), ("k", width, width), ("v", width, width), ("ao", width, width),
                                 ("fi", inner, width), ("fo", width, inner)):  # fmt: skip
        sizes |= {f"l0.{name}.w": rows_ * columns, f"l0.{name}.b": rows_}
    sizes |= {f"l0.{name}.{part}": width for name in ("aln", "oln") for part in "wb"}
    head = b"E5S1\x01\0\0\0" + struct.pack("<7ifi", width, 1, 2, inner, len(PIECES), 8, 2, 1e-12, 32)
    texts = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, texts)]).astype("<u4")
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, texts))) + ends.tobytes()
    head += np.zeros(len(PIECES), "<f4").tobytes() + b"".join(texts) + struct.pack("<iI", 0, 3) + b"map"
    kinds = {
        name: int(name == "emb.word" or name.endswith((".q.w", ".k.w", ".v.w", "ao.w", "fi.w", "fo.w")))
        for name in sizes
    }
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in sizes)
    directory, body, weights = struct.pack("<i", len(sizes)), b"", {}
    for name, size in sizes.items():
        if kinds[name]:
            halves = random.integers(0, 16, (size // 32, 32))
            scale = np.full(size // 32, 0.125, "<f2")
            block = np.zeros(size // 32, np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)]))
            block["scale"], block["nibbles"] = scale, halves[:, :16] | halves[:, 16:] << 4
            data, weights[name] = block.tobytes(), ((halves - 8) * 0.125).reshape(-1)
        else:
            weights[name] = random.normal(size=size).astype("<f4")
            data = weights[name].tobytes()
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kinds[name], size, start + len(body), len(data))
        body += data
    return head + directory + body, weights


def test_four_bits_become_the_weights_that_they_stand_for(quantized):
    data, weights = packed()
    read = quantized.Packed.read(data)
    assert read.pieces == PIECES
    for name, expected in weights.items():
        np.testing.assert_allclose(read.tensor(name), expected, rtol=1e-6)


def test_another_format_is_refused(quantized):
    with pytest.raises(ValueError, match="format"):
        quantized.Packed.read(b"GGUF" + bytes(100))


def test_the_encoder_loads_and_takes_a_character_as_a_token(quantized, unpacked, made):
    from transformers import AutoModel, AutoTokenizer

    data, weights = packed()
    (unpacked / "model.bin").write_bytes(data)
    (unpacked / "METADATA").write_text("about")
    quantized.chinese_encoder(unpacked, made)
    model, report = AutoModel.from_pretrained(made, output_loading_info=True, add_pooling_layer=False)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert tokenizer.tokenize("中国\uff0cthe ab") == ["中", "国", ",", "the", "a", "##b"]
    row = model.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("中")].detach().numpy()
    np.testing.assert_allclose(row, weights["emb.word"].reshape(len(PIECES), -1)[PIECES.index("中")], rtol=1e-6)
    ids = tokenizer("中", "国")
    assert tokenizer.convert_ids_to_tokens(ids["input_ids"]) == ["[CLS]", "中", "[SEP]", "国", "[SEP]"]
    assert tokenizer.pad_token_id == 0
    assert tokenizer.mask_token == "[MASK]"


def test_sentence_pairs_keep_their_quotes_and_rows_of_more_columns(parallel_texts, unpacked, made):
    row = 'main\tMSRvid\t2012\t1\t{}\t"A" man {}\tA woman {}\n'
    for number, name in enumerate(("train", "dev", "test")):
        (unpacked / f"sts-{name}.csv").write_text(row.format("2.500", number, number), encoding="utf-8")
    with (unpacked / "sts-train.csv").open("a", encoding="utf-8") as file:
        file.write(row.format("1.000", 2, 0).rstrip("\n") + "\tMSRvid\tmore\n")
    parallel_texts.sentence_pairs(unpacked, made)

    assert rows(made / "validation.csv") == [{"sentence1": '"A" man 1', "sentence2": "A woman 1", "score": "2.500"}]
    assert len(rows(made / "train.csv")) == 2
    # `"A" man 2` is in a test pair too, and is not trained on; `A woman 0` comes once.
    assert [row["sentence"] for row in rows(made / "sentences.csv")] == ['"A" man 0', "A woman 0"]


def test_interface_sentences_are_aligned_by_their_keys(parallel_texts, unpacked, made):
    english = {
        "a": {"x": "Turn on the  light", "y": "Hello {name} and all", "z": "Too short"},
        "b": "Only here and there",
    }
    chinese = {"a": {"x": "打开灯", "y": "你好 {name}", "z": "太短"}}
    for name, tree in (("lamp.en", english), ("lamp.zh-Hans", chinese), ("fan.en", english)):
        (unpacked / f"{name}.json").write_text(json.dumps(tree), encoding="utf-8")
    parallel_texts.interface_sentences(unpacked, made)

    assert rows(made / "test.csv") == [{"en": "Turn on the light", "zh": "打开灯"}]
    assert rows(made / "train.csv") == []


def test_snippets_come_once_and_have_three_words(parallel_texts, unpacked, made):
    with tarfile.open(unpacked / "snippets.tar.gz", "w:gz") as archive:
        for name in ("movieReviewSnippets", "nytEditorialSnippets", "amazonReviewSnippets", "tweets"):
            data = f"1\t0.5\tthe same sentence\n2\t0.5\tone of {name}\n3\t0.5\ttoo short\n".encode()
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    parallel_texts.snippets(unpacked, made)

    found = [row["sentence"] for row in rows(made / "sentences.csv")]
    assert len(found) == len(set(found)) == 5


def test_questions_search_the_paragraphs_of_their_data_set(parallel_texts, unpacked, made):
    def article(title):
        asked = [{"id": f"{title}-{number}", "question": f"which  of {title}?"} for number in range(2)]
        return {"title": title, "paragraphs": [{"context": f"text of {title}", "qas": asked}]}

    for name in ("wikipedia", "news", "reddit", "reviews"):
        (unpacked / f"{name}.json").write_text(json.dumps({"data": [article(name)]}))
    (unpacked / "squad.json").write_text(json.dumps({"data": [article(f"s{number}") for number in range(12)]}))
    parallel_texts.retrieval(unpacked, made)

    lines = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in made.iterdir()}
    corpus = {row["_id"]: row["text"] for row in map(json.loads, lines["corpus"])}
    asked = {row["_id"]: row["text"] for row in map(json.loads, lines["queries"])}
    relevant = [line.split("\t") for line in lines["relevant-test"]]
    assert (len(corpus), len(asked), len(relevant), len(lines["passages"])) == (12, 24, 1 + 4, 4)
    assert relevant[0] == ["query-id", "corpus-id", "score"]
    assert all(corpus[text] == f"text of {query.partition('-')[0]}" for query, text, _ in relevant[1:])
    assert json.loads(lines["train"][0]) == {
        "question": "which of wikipedia?",
        "positive": "text of wikipedia",
        "negatives": [],
    }


def test_static_vectors_are_a_folder_of_model2vec(static_vectors, unpacked, made):
    from safetensors.numpy import load_file, save_file

    vectors = np.arange(12, dtype=np.float16).reshape(4, 3)
    save_file({"embedding.weight": vectors}, unpacked / "vectors.safetensors")
    (unpacked / "tokenizer.json").write_text("{}")
    static_vectors.static_vectors(unpacked, made)

    assert (load_file(made / "model.safetensors")["embeddings"] == vectors).all()
    assert json.loads((made / "config.json").read_text())["hidden_dim"] == 3
    assert {path.name for path in made.iterdir()} == {"LICENSE", "config.json", "model.safetensors", "tokenizer.json"}
