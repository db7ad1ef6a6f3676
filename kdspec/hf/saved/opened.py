"""Opens a model folder with transformers or sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdspec.api.spec.model_folders import read_json
from kdspec.hf.saved.usage import WITHOUT_PIPELINE, is_network, library, options, pipeline_tag, purpose


def opened(folder: Path, *, trusts_code: bool = False) -> Any:
    """The object `model` of the lines that `usage` gives for the folder; None if neither library opens it."""
    configuration = read_json(folder / "config.json")
    if not configuration:
        return None
    if is_network(folder):
        from kdspec.networks.text_networks import load

        return load(folder)[0]
    if library(folder) == "sentence-transformers":
        return _of_sentence_transformers(folder)
    import transformers

    trust = {"trust_remote_code": True} if trusts_code else {}
    tag = pipeline_tag(folder)
    if tag is not None and tag not in WITHOUT_PIPELINE and (folder / "tokenizer_config.json").is_file():
        return transformers.pipeline(tag, model=str(folder), **options(folder), **trust)
    of = purpose(configuration)
    return getattr(transformers, f"AutoModelFor{of}" if of else "AutoModel").from_pretrained(str(folder), **trust)


def _of_sentence_transformers(folder: Path) -> Any:
    import sentence_transformers

    if read_json(folder / "config_sentence_transformers.json").get("model_type") == "MultiVectorEncoder":
        return sentence_transformers.MultiVectorEncoder(str(folder))
    if (folder / "modules.json").is_file():
        return sentence_transformers.SentenceTransformer(str(folder))
    return sentence_transformers.CrossEncoder(str(folder))
