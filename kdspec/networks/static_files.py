"""Folders with one vector a token: of a run, of Model2Vec and of sentence-transformers. What is in them, and how one is written.

Model2Vec has `embeddings` in `model.safetensors`, with `weights` of tokens and a `mapping` of tokens to rows in some folders;
sentence-transformers has `embedding.weight`, and names the folder of its module in `modules.json`. A run writes a folder that
is all of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kdspec.api.spec.model_folders import read_json
from kdspec.diagnostics.fault import Fault
from kdspec.hf import tokenizer_files
from kdspec.source import read_back
from kdspec.source.read_back import Damage, Form

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.networks.static_embeddings import StaticEmbeddings

CODE = "KD503"
"""The code of a folder that cannot be read."""
WEIGHTS = "model.safetensors"
"""The file with the vectors."""
MODULES = "modules.json"
"""The file of sentence-transformers that names its modules."""
_NETWORK, _FORMAT = "static", 1
_CONFIGURATION, _TOKENIZER = "config.json", "tokenizer.json"
_AT = ("path",)
_TABLES = ("embeddings", "embedding.weight")
_VECTORS, _NORMALIZE = "StaticEmbedding", "Normalize"
_LIBRARY = "sentence_transformers."


@dataclass(frozen=True)
class _Module:
    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        name = self.type.rpartition(".")[2]
        return name if self.type.startswith(_LIBRARY) else self.type


_FORM: Form[list[_Module]] = Form(list[_Module])


@dataclass(frozen=True)
class StaticFolder:
    """What is in a folder with one vector a token."""

    folder: Path
    """The one with the weights and the tokenizer."""
    configuration: Mapping[str, Any]
    """The network's, as a run writes it."""
    own: bool
    """Whether a run has written it."""
    unknown: bool = False
    """Whether a token that the tokenizer does not know is counted, as sentence-transformers does it."""


def read(folder: Path) -> StaticFolder:
    """What is in a folder, by its configuration and the header of its weights.

    Raises:
        Fault: KD503 if it has not one vector a token.
    """
    written = read_json(folder / _CONFIGURATION)
    if "network" in written:
        if (written["network"], written.get("format")) != (_NETWORK, _FORMAT):
            raise Fault(
                CODE, f"the folder has a `{written['network']}`, and no `{_NETWORK}` that a run has written", _AT
            )
        return StaticFolder(folder, written, own=True)
    modules = _modules(folder)
    place = folder / modules[0].path if modules else folder
    table, tokens = _table(place, written)
    normalize = any(module.kind == _NORMALIZE for module in modules) if modules else written.get("normalize") is True
    known = tokenizer_files.backend(place).tokens()
    if known is not None and known > tokens:
        raise Fault(CODE, f"the tokenizer has {known:,} tokens, and `{WEIGHTS}` vectors of {tokens:,}", _AT)
    sizes = {
        "vocabulary": tokens,
        "embedding": table,
        "normalize": normalize,
        "weights": False,
        "head": False,
        "classes": 0,
    }
    configuration = {"network": _NETWORK, "format": _FORMAT, "task": "embedding", "labels": [], "sizes": sizes}
    # Model2Vec writes `modules.json` too, and leaves unknown tokens out.
    return StaticFolder(place, configuration, own=False, unknown=bool(modules) and not written)


def look(folder: Path) -> StaticFolder | None:
    """What is in a folder; None if `read` refuses it."""
    try:
        return read(folder)
    except Fault:
        return None


def load(module: StaticEmbeddings, found: StaticFolder) -> frozenset[str]:
    """Load the weights, and return the names of parameters that the folder has not: those of a head or a projection.

    Raises:
        Fault: KD503 if the tensors are of other sizes.
    """
    import torch

    tensors = _tensors(found)
    if tensors["embeddings.weight"].shape[1] != module.embeddings.embedding_dim:
        module.fold()  # the projection of a trained network was folded when it was saved
    own = dict(module.named_parameters())
    absent = {name for name in own if name not in tensors}
    if wrong := sorted(name for name in absent if not name.startswith(("head.", "projection."))):
        raise Fault(CODE, f"`{WEIGHTS}` has no `{wrong[0]}`", _AT)
    with torch.no_grad():
        for name in own.keys() - absent:
            if tensors[name].shape != own[name].shape:
                has, needs = list(tensors[name].shape), list(own[name].shape)
                raise Fault(CODE, f"`{name}` is {has} in `{WEIGHTS}`, and {needs} by the configuration", _AT)
            own[name].copy_(tensors[name])
        module.forget_ignored()
    return frozenset(absent)


def write(module: StaticEmbeddings, configuration: Mapping[str, Any], tokenizer: Any, folder: Path) -> None:
    """Write a network so that kdspec, Model2Vec and sentence-transformers can read it; a projection goes into its vectors.

    Args:
        module: the network.
        configuration: with its sizes, its task and its labels.
        tokenizer: its tokenizer.
        folder: the folder, which exists.
    """
    import torch
    from safetensors.torch import save_file

    sizes = dict(configuration["sizes"])
    if (projected := sizes.pop("projected", None)) is not None:
        sizes |= {"embedding": projected, "weights": False}
    tensors = {name: value.cpu().contiguous() for name, value in module.folded().items()}
    tensors[_TABLES[0]] = tensors.pop("embeddings.weight")
    known = tokenizer.get_vocab()
    if len(known) != len(tensors[_TABLES[0]]):  # ids without a token; Model2Vec compares the numbers without a mapping
        tensors["mapping"] = torch.arange(len(tensors[_TABLES[0]]))
    save_file(tensors, str(folder / WEIGHTS))
    of_model2vec = {
        "model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": sizes["embedding"],
        "normalize": sizes["normalize"], "max_length": None, "embedding_dtype": "float32",
    }  # fmt: skip
    _json(folder / _CONFIGURATION, {**of_model2vec, **configuration, "sizes": sizes})
    names = [(_VECTORS, "."), *([(_NORMALIZE, "1_Normalize")] if sizes["normalize"] else [])]
    listed = [
        {"idx": number, "name": str(number), "path": place, "type": f"{_LIBRARY}models.{kind}"}
        for number, (kind, place) in enumerate(names)
    ]
    _json(folder / MODULES, listed)
    tokenizer.save_pretrained(str(folder))
    # Both read this file alone: without the truncation and padding of the last call.
    text = json.loads((folder / _TOKENIZER).read_text(encoding="utf-8"))
    _json(folder / _TOKENIZER, {**text, "truncation": None, "padding": None})


def _modules(folder: Path) -> list[_Module]:
    """The modules of sentence-transformers; empty without them."""
    try:
        found = read_back.read(folder / MODULES, _FORM)
    except FileNotFoundError:
        return []
    except Damage as damage:
        raise Fault(CODE, f"`{MODULES}` cannot be read: {damage}", _AT) from None
    kinds = [module.kind for module in found]
    if kinds[:1] != [_VECTORS]:
        message = f"`{MODULES}` has a `{kinds[0] if kinds else ''}`, and no vectors of tokens"
        raise Fault(CODE, message, _AT, help="write the folder as `transformers: {path: ...}`")
    if other := [kind for kind in kinds[1:] if kind != _NORMALIZE]:
        message = f"`{MODULES}` has a `{other[0]}` behind the vectors of tokens, which a `{_NETWORK}` has not"
        raise Fault(CODE, message, _AT)
    path = PurePosixPath(found[0].path)
    if path.is_absolute() or ".." in path.parts:
        raise Fault(CODE, f"`{MODULES}` names `{path}`, which is not in the folder", _AT)
    return found


def _table(folder: Path, written: Mapping[str, Any]) -> tuple[int, int]:
    """The width of the vectors and the number of tokens."""
    for name in (WEIGHTS, _TOKENIZER):
        if not (folder / name).is_file():
            raise Fault(CODE, f"the folder has no `{name}`, with the {'vectors' if name == WEIGHTS else 'tokens'}", _AT)
    try:
        tensors = read_back.tensor_header(folder / WEIGHTS).tensors
        tokenizer_files.backend(folder)
    except Damage as damage:
        raise Fault(CODE, f"the files of the folder cannot be read: {damage}", _AT) from None
    shape = next((tensors[name].shape for name in _TABLES if name in tensors), [])
    if len(shape) != 2:
        family = written.get("model_type")
        help_ = f"write it as `transformers: {{path: ...}}`, a {family} model" if isinstance(family, str) else None
        raise Fault(
            CODE, f"`{WEIGHTS}` has no vectors of tokens, neither `{_TABLES[0]}` nor `{_TABLES[1]}`", _AT, help=help_
        )
    rows, width = shape
    return width, tensors["mapping"].shape[0] if "mapping" in tensors else rows


def _tensors(found: StaticFolder) -> dict[str, Tensor]:
    """The tensors by the names of the network's parameters; of others than a run's, a row for each token."""
    from safetensors.torch import load_file

    tensors = load_file(str(found.folder / WEIGHTS))
    table = next(tensors.pop(name) for name in _TABLES if name in tensors).float()
    if found.own:
        return {**tensors, "embeddings.weight": table}
    if (mapping := tensors.get("mapping")) is not None:
        table = table[mapping.long()]
    if (weights := tensors.get("weights")) is not None:
        table = table * weights.float()[:, None]
    return {"embeddings.weight": table}


def _json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
