"""Saves a text embedder as a folder of transformers that is one of sentence-transformers too."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdspec.hf import loading
from kdspec.hf.embedding.readout import DenseLayer, Pooling, Readout
from kdspec.hf.embedding.sentence_folder import MODULES, MULTI_VECTOR, SETTINGS, TOKENS, VECTOR

if TYPE_CHECKING:
    from kdspec.hf.embedding.text_embedder import TextEmbedder

# The names under which version 6 knows its classes, and all versions since 2 too.
_MODULES = "sentence_transformers.models"
_POOLINGS: Mapping[Pooling, str] = MappingProxyType({"mean": "mean", "first": "cls", "last": "lasttoken", "max": "max"})
_FLAGS: Mapping[Pooling, str] = MappingProxyType(
    {
        "first": "pooling_mode_cls_token",
        "mean": "pooling_mode_mean_tokens",
        "max": "pooling_mode_max_tokens",
        "last": "pooling_mode_lasttoken",
    }
)


def save_embedder(module: TextEmbedder, folder: Path, own: Collection[str] | None, tokenizer: Any | None) -> None:
    """Write the body with its tokenizer, and the readout.

    Args:
        module: the model.
        folder: the folder, which exists.
        own: the names of the tensors to write; None: all.
        tokenizer: the tokenizer, with its limit of tokens.
    """
    inside = f"{module.base_model_prefix}."
    of_body = None if own is None else {name.removeprefix(inside) for name in own if name.startswith(inside)}
    loading.save(module.body, folder, of_body, tokenizer)
    readout = module.readout
    modules, of_tokens = [("Transformer", "")], module.compares == "maxsim"
    takes = TOKENS if of_tokens else VECTOR
    if not of_tokens:
        modules.append(("Pooling", "1_Pooling"))
        _write(folder / "1_Pooling" / "config.json", _pooling(module, readout))
    for dense in module.saved_layers():
        place = f"{len(modules)}_Dense"
        names = {"module_input_name": takes, "module_output_name": takes} if of_tokens else {}
        _write(folder / place / "config.json", _dense(dense.linear.in_features, dense.layer) | names)
        _save_tensors(dense, folder / place / "model.safetensors")
        modules.append(("Dense", place))
    if readout.normalize or of_tokens:
        place = f"{len(modules)}_Normalize"
        _write(folder / place / "config.json", {"module_input_name": takes, "module_output_name": takes})
        modules.append(("Normalize", place))
    listed = [
        {"idx": number, "name": str(number), "path": place, "type": f"{_MODULES}.{kind}"}
        for number, (kind, place) in enumerate(modules)
    ]
    _write(folder / MODULES, listed)
    limit = readout.max_length
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    settings = {
        "prompts": {**readout.prompts, **{name: text for name, text in readout.by_use().items() if name}},
        "default_prompt_name": readout.default_prompt,
        "similarity_fn_name": module.compares,
        **({"model_type": MULTI_VECTOR} if of_tokens else {}),
    }
    _write(folder / SETTINGS, settings)


def _pooling(module: TextEmbedder, readout: Readout) -> dict[str, Any]:
    from kdspec.hf.embedding.text_embedder import hidden_width

    flags = {flag: readout.pooling == pooling for pooling, flag in _FLAGS.items()}
    return {"word_embedding_dimension": hidden_width(module.config), **flags, "include_prompt": True}


def _dense(width: int, layer: DenseLayer) -> dict[str, Any]:
    kind = f"activation.{layer.activation}" if layer.activation else "linear.Identity"
    return {
        "in_features": width,
        "out_features": layer.width,
        "bias": layer.bias,
        "activation_function": f"torch.nn.modules.{kind}",
    }


def _save_tensors(module: Any, file: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in module.state_dict().items()}, str(file))


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
