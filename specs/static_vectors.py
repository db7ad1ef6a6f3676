"""Turns static vectors, one a token, as a package has them, into a folder of the usual form."""

from __future__ import annotations

import json
from pathlib import Path


def static_vectors(unpacked: Path, folder: Path) -> None:
    """`model.safetensors` with the tensor `embeddings`, `tokenizer.json` and `config.json`, as Model2Vec's folders have them."""
    from safetensors.numpy import load_file, save_file

    vectors = next(iter(load_file(unpacked / "vectors.safetensors").values()))
    save_file({"embeddings": vectors}, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "hidden_dim": vectors.shape[1],
        "normalize": True,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "LICENSE"):
        (unpacked / name).rename(folder / name)
