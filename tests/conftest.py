"""Settings for every test: no network, one thread, nothing left in the user's caches."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "120"
# In a background job it is ignored, which a run respects; these tests interrupt runs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["folders_of_runs", "text_stages", "tiny_folders", "toy_runs"]

SPECS = Path(__file__).parent.parent / "specs"


ROWS = {"train": 120}
"""Real rows of a split in a copy of the library: enough for each label to be there; 16 of those that are not named."""

MODELS = {
    "all-MiniLM-L6-v2": {"layers": 6},
    "chinese-e5": {"layers": 12, "max_position_embeddings": 512},
}
"""The models among the assets."""

SECTIONS = [
    "education",
    "entertainment",
    "finance",
    "game",
    "politics",
    "realty",
    "science",
    "society",
    "sports",
    "stocks",
]
COLUMNS = {
    "headlines/{}.csv": ("headline", "label", ["plain", "sarcastic"]),
    "thucnews/{}.csv": ("title", "label", SECTIONS),
    "trec/{}.csv": ("question", "label", ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]),
    "film-reviews/{}.csv": ("sentence", "valence", ["-1.250", "0.500", "2.125"]),
    "contracts/kinds-{}.csv": ("text", "kinds", ["person", "", "place", "organisation|place"]),
    "msra/kinds-{}.csv": ("text", "kinds", ["person", "organisation|person", "place", "organisation"]),
}
TAGGED = {
    "msra/names-{}.txt": ["B-PER E-PER O", "O S-LOC O", "B-ORG M-ORG E-ORG"],
    "contracts/{}.txt": ["B-PERSON I-PERSON O", "O B-LOCATION O", "B-ORGANIZATION O O"],
}
PAIRS = ("sts-benchmark/{}.csv", ("sentence1", "sentence2", "score"), ["4.5", "0.2", "2.75"])
TRANSLATED = ("home-assistant/{}.csv", ("en", "zh"))
SENTENCES = ("sts-benchmark/sentences.csv", "snippets/sentences.csv")
RETRIEVAL = "squad-retrieval"
READER = "smollm2-135m"
ANSWERS = {
    "recorded/{}.jsonl": (
        "headline",
        "label",
        [{"plain": 0.75, "sarcastic": 0.25}, {"plain": 0.125, "sarcastic": 0.875}],
    ),
    "film-reviews/votes-{}.jsonl": (
        "sentence",
        "majority",
        [{"negative": 3, "neutral": 1, "positive": 1}, {"neutral": 2, "positive": 1}, {"neutral": 1, "positive": 4}],
    ),
}
"""The columns of text and label, and the answers: probabilities, or how many votes a class has."""
QUESTIONS = ("msra/questions-{}.json", "squad-shifts/{}.json", "squad-shifts/short-{}.json")


def pytest_addoption(parser):
    parser.addoption("--every-spec", action="store_true", help="the long test of mutations with every spec of specs/")


@pytest.fixture(scope="session")
def small_assets(tmp_path_factory):
    """A folder like `specs/assets`, with few rows and models of random weights; the real ones are not needed."""
    from kdspec.testing import tiny

    folder = tmp_path_factory.mktemp("small") / "assets"
    for model, shape in MODELS.items():
        tiny(folder / model, width=48, heads=12, **shape)
    splits = ("train", "validation", "test", "unlabelled")
    files = {pattern.format(split): content for split in splits for pattern, content in made_up(split)}
    for name, content in (files | dict(made_up_sentences())).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    static_vectors(folder / "wordllama", folder / "all-MiniLM-L6-v2")
    language_model(folder / READER)
    fine_tuned(folder / "quickstart" / "models" / "teacher", folder / "all-MiniLM-L6-v2")
    return folder


def made_up_sentences():
    """Sentences without labels, pairs with scores, translations, and questions with the passages that answer them."""
    nouns = ("lamp", "river", "engine", "letter", "garden")
    texts = [f"the {noun} of house {number}" for number in range(8) for noun in nouns]
    for name in SENTENCES:
        yield name, "\n".join(["sentence", *texts, ""])
    for split in ("train", "validation", "test"):
        pattern, columns, scores = PAIRS
        pairs = zip(texts, reversed(texts), itertools.cycle(scores), strict=False)
        yield pattern.format(split), "\n".join([",".join(columns), *map(",".join, pairs), ""])
        pattern, columns = TRANSLATED
        lines = (f"{text} in {split},{split} 房子 {number} 的灯" for number, text in enumerate(texts))
        yield pattern.format(split), "\n".join([",".join(columns), *lines, ""])
    passages = [f"here is {text} and nothing else" for text in texts]
    asked = [
        {"question": f"where is {text}?", "positive": passage, "negatives": []}
        for text, passage in zip(texts, passages, strict=True)
    ]
    yield f"{RETRIEVAL}/train.jsonl", lines_of(asked)
    yield f"{RETRIEVAL}/passages.jsonl", lines_of([{"text": text} for text in passages])
    yield f"{RETRIEVAL}/corpus.jsonl", lines_of([{"_id": f"p{n}", "text": text} for n, text in enumerate(passages)])
    yield f"{RETRIEVAL}/queries.jsonl", lines_of([{"_id": f"q{n}", "text": f"where is {texts[n]}"} for n in range(16)])
    for split, places in (("validation", range(8)), ("test", range(8, 16))):
        candidates = [row | {"negatives": passages[20:23]} for row in (asked[n] for n in places)]
        yield f"{RETRIEVAL}/candidates-{split}.jsonl", lines_of(candidates)
        relevant = [f"q{n}\tp{n}\t1" for n in places]
        yield f"{RETRIEVAL}/relevant-{split}.tsv", "\n".join(["query-id\tcorpus-id\tscore", *relevant, ""])


def lines_of(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def language_model(folder):
    """A language model of random weights, of the shape of SmolLM2 but narrower, with a tokenizer of bytes."""
    import torch
    from tiny_readers import pieces
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = len(pieces(folder))
    torch.manual_seed(0)
    shape = {
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
    }
    config = LlamaConfig(vocab_size=tokens, hidden_size=36, intermediate_size=96, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)


def fine_tuned(folder, like):
    """A model as the first stage of the quickstart leaves it: one of the assets with a head for headlines."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shutil.copytree(like, folder)
    names = ["plain", "sarcastic"]
    config = AutoConfig.from_pretrained(
        like, id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def static_vectors(folder, like):
    """A folder with one vector a token, for the tokenizer of a model."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    tokenizer = json.loads((like / "tokenizer.json").read_text(encoding="utf-8"))
    vectors = np.random.default_rng(0).standard_normal((len(tokenizer["model"]["vocab"]), 16)).astype(np.float32)
    save_file({"embeddings": vectors}, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": 16, "normalize": True}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(like / "tokenizer.json", folder)


def made_up(split):
    """The files of a split, by their patterns."""
    labelled = split != "unlabelled"
    texts = [f"{split} headline {number}" for number in range(40)]
    for pattern, (text, label, labels) in COLUMNS.items():
        rows = zip(texts, itertools.cycle(labels), strict=False)
        lines = [f"{text},{label}", *map(",".join, rows)] if labelled else [text, *texts]
        yield pattern, "\n".join([*lines, ""])
    for pattern, (text, label, answers) in ANSWERS.items() if labelled else ():
        rows = (
            {text: sentence, label: max(answer, key=answer.__getitem__), **as_recorded(answer)}
            for sentence, answer in zip(texts, itertools.cycle(answers), strict=False)
        )
        yield pattern, lines_of(rows)
    for pattern, tags in TAGGED.items():
        lines = (
            [f"{word}\t{tag}" if labelled else word for word, tag in zip(text.split(), of.split(), strict=True)]
            for text, of in zip(texts, itertools.cycle(tags), strict=False)
        )
        yield pattern, "".join("\n".join([*sentence, "\n"]) for sentence in lines)
    answers = {"answers": [{"text": "headline", "answer_start": 0}]} if labelled else {}
    for pattern in QUESTIONS:
        asked = [
            {
                "context": f"headline {number} of {split} is {text}",
                "qas": [{"id": str(number), "question": "which"} | answers],
            }
            for number, text in enumerate(texts)
        ]
        yield pattern, json.dumps({"version": "1.1", "data": [{"title": "", "paragraphs": asked}]})


def as_recorded(answer):
    """The columns of an answer."""
    if sum(answer.values()) == 1:
        return {"answer": max(answer, key=answer.__getitem__), "probabilities": answer}
    return {"votes": [name for name, count in answer.items() for _ in range(count)]}


def first(content, suffix, count):
    """The first rows of a file of the assets."""
    if suffix == ".csv":
        return "".join(content.splitlines(keepends=True)[: count + 1])
    if suffix == ".jsonl":
        return "".join(content.splitlines(keepends=True)[:count])
    if suffix == ".txt":
        return "\n\n".join([*content.split("\n\n")[:count], ""])
    paragraphs = itertools.chain.from_iterable(article["paragraphs"] for article in json.loads(content)["data"])
    data = [{"title": "", "paragraphs": list(itertools.islice(paragraphs, count))}]
    return json.dumps({"version": "1.1", "data": data}, ensure_ascii=False)


@pytest.fixture(scope="session")
def small_library(tmp_path_factory, small_assets):
    """A copy of `specs/`, to be read only, with small models and few rows."""
    copied = tmp_path_factory.mktemp("small-library") / "specs"
    shutil.copytree(SPECS, copied, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copytree(small_assets, copied / "assets")
    return copied


@pytest.fixture(scope="session")
def library(tmp_path_factory, small_assets):
    """A copy of `specs/`, to be read only: with the real models and the first real rows where they have been fetched."""
    copied = tmp_path_factory.mktemp("library") / "specs"
    shutil.copytree(SPECS, copied, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copytree(small_assets, copied / "assets")
    for made in (copied / "assets").iterdir():
        fetched = SPECS / "assets" / made.name
        # The files of the one name one another's rows; the other takes minutes to read what it is asked.
        if not (fetched / ".complete").is_file() or made.name in (RETRIEVAL, READER):
            continue
        shutil.rmtree(made)
        if made.name in (*MODELS, "wordllama"):
            made.symlink_to(fetched)
            continue
        made.mkdir()
        for file in (file for file in fetched.iterdir() if file.suffix in (".csv", ".txt", ".json", ".jsonl")):
            count = ROWS.get(file.stem.rpartition("-")[2], 16)
            content = first(file.read_text(encoding="utf-8"), file.suffix, count)
            (made / file.name).write_text(content, encoding="utf-8")
    return copied


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory):
    """Teacher caches go with the tests, and none of the user's is read."""
    os.environ["KDSPEC_CACHE"] = str(tmp_path_factory.mktemp("teachers"))
    yield
    del os.environ["KDSPEC_CACHE"]


def nothing_is_installed(**_):
    return ()


@pytest.fixture
def only_built_ins(monkeypatch):
    """What is installed beside kdspec does not show in what it prints."""
    monkeypatch.setattr("kdspec.registry.plugins.importlib.metadata.entry_points", nothing_is_installed)
