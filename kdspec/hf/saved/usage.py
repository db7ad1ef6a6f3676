"""How a model folder is used with transformers or sentence-transformers: lines of Python, and the name of its pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdspec.api.spec.model_folders import read_json
from kdspec.hf.saved import remote_code

PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "SequenceClassification": "text-classification",
        "TokenClassification": "token-classification",
        "MaskedLM": "fill-mask",
        "QuestionAnswering": "question-answering",
    }
)
"""The `pipeline_tag` of a model by what the name of its class says after `For`."""

WITHOUT_PIPELINE = ("question-answering",)
"""Tags without a pipeline in transformers 5."""
_OPTIONS: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "multi_label_classification": {"top_k": None},
        "regression": {"function_to_apply": "none"},
    }
)
"""Arguments of a pipeline by the `problem_type`."""


_MODULES = "modules.json"
"""The file of a folder of sentence-transformers with vectors of texts."""
_CROSS_ENCODER = "sentence_transformers"
"""The entry in the configuration of a model that scores two texts together."""


def library(folder: Path) -> str:
    """The library that opens a model folder, as the hub calls it."""
    made_for = (folder / _MODULES).is_file() or _CROSS_ENCODER in read_json(folder / "config.json")
    return "sentence-transformers" if made_for else "transformers"


def pipeline_tag(folder: Path) -> str | None:
    """The task of a model folder as the hub calls it; None if it is not known."""
    if is_network(folder):
        return None
    if library(folder) == "sentence-transformers":
        return "sentence-similarity" if (folder / _MODULES).is_file() else "text-ranking"
    return PIPELINES.get(purpose(read_json(folder / "config.json")))


def options(folder: Path) -> Mapping[str, str | None]:
    """The arguments of the pipeline of a model folder, besides the model."""
    config = read_json(folder / "config.json")
    if pipeline_tag(folder) == "token-classification":
        return {"aggregation_strategy": "simple"}
    return _OPTIONS.get(str(config.get("problem_type")), {}) if purpose(config) == "SequenceClassification" else {}


def usage(folder: Path, place: str) -> str | None:
    """Python code that uses the model of a folder; None if neither library opens it.

    Args:
        folder: where it is now.
        place: what the code names.
    """
    config = read_json(folder / "config.json")
    if not config:
        return None
    if is_network(folder):
        output = "embedding" if config.get("task") == "embedding" else "logits"
        return "\n".join(
            (
                "from kdspec.networks.text_networks import load",
                "",
                f"model, tokenizer = load({place!r})",
                f'print(model(**tokenizer("some text", return_tensors="pt"))["{output}"])',
            )
        )
    if library(folder) == "sentence-transformers":
        return _of_sentence_transformers(folder, place)
    tag = pipeline_tag(folder)
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    trust = ", trust_remote_code=True" if remote_code.is_beside(folder) else ""
    if tag is not None and has_tokenizer and tag not in WITHOUT_PIPELINE:
        given = "".join(
            f", {name}={value}" if value is None else f', {name}="{value}"' for name, value in options(folder).items()
        )
        text = 'f"some {model.tokenizer.mask_token}"' if tag == "fill-mask" else '"some text"'
        return "\n".join(
            (
                "from transformers import pipeline",
                "",
                f"model = pipeline({tag!r}, model={place!r}{given}{trust})",
                f"print(model({text}))",
            )
        )
    auto = f"AutoModelFor{head}" if (head := purpose(config)) else "AutoModel"
    if not has_tokenizer:
        return f"from transformers import {auto}\n\nmodel = {auto}.from_pretrained({place!r}{trust})"
    texts = '"some question", "some text"' if tag == "question-answering" else '"some text"'
    return "\n".join(
        (
            f"from transformers import {auto}, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({place!r}{trust})",
            f"model = {auto}.from_pretrained({place!r}{trust})",
            f'print(model(**tokenizer({texts}, return_tensors="pt")))',
        )
    )


def _of_sentence_transformers(folder: Path, place: str) -> str:
    if read_json(folder / "config_sentence_transformers.json").get("model_type") == "MultiVectorEncoder":
        lines = [
            "from sentence_transformers import MultiVectorEncoder",
            "",
            f"model = MultiVectorEncoder({place!r})",
            'vectors = model.encode_query(["some query"]), model.encode_document(["some text", "another text"])',
            "print(model.similarity(*vectors))",
        ]
    elif (folder / _MODULES).is_file():
        lines = [
            "from sentence_transformers import SentenceTransformer",
            "",
            f"model = SentenceTransformer({place!r})",
            'vectors = model.encode(["some text", "another text"])',
            "print(model.similarity(vectors, vectors))",
        ]
    else:
        lines = [
            "from sentence_transformers import CrossEncoder",
            "",
            f"model = CrossEncoder({place!r})",
            'print(model.predict([("some query", "some text")]))',
        ]
    return "\n".join(lines)


def is_network(folder: Path) -> bool:
    """Whether it is a small network of kdspec, of which sentence-transformers does not give all that it computes."""
    config = read_json(folder / "config.json")
    return "network" in config and not (config.get("task") == "embedding" and (folder / _MODULES).is_file())


def purpose(config: Mapping[str, Any]) -> str:
    """What the name of a model's class says after `For`, such as `SequenceClassification`."""
    return str((config.get("architectures") or [""])[0]).partition("For")[2]
