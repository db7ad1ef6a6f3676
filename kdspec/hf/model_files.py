"""The files of a transformers model and its tokenizer, checked without importing transformers: what cannot be loaded, and why."""

# ruff: noqa: PTH113 - os.path returns a value where pathlib raises: over-long names.

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdspec.api.spec import model_folders
from kdspec.api.spec.model_folders import command_path, merge, python, read_json, sentencepiece_files, written_mapping
from kdspec.diagnostics.fault import Fault
from kdspec.hf import configuration_file, families, tokenizer_files
from kdspec.source import read_back
from kdspec.source.read_back import Damage

_CODE = "KD503"
_AT = ("path",)
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth")
_OF_TRAINING = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|openvino)[\w.-]*")
_EXPORTED = ("*.onnx", "onnx/*.onnx", "*.gguf", "*.ot", "*.tflite", "*.mlpackage", "*.npz", "openvino_model.*", "*.pb")
_SHARD = re.compile(r".+-\d+-of-(?P<all>\d+)\.safetensors")
_HEADS = frozenset({"SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", "CausalLM"})
_CORRECT = "correct the file, or copy it again from where the model is from"
_AGAIN = "copy or download it again"
_START = 200


def substitute(file: Path) -> str | None:
    """What a file is in place of its content, if it is a pointer of Git LFS, a web page or empty."""
    try:
        with read_back.opened(file) as opened:
            start = opened.read(_START)
    except (OSError, Damage):
        return None
    if not start:
        return "empty"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself"
    return "a web page" if start.lstrip().lower().startswith((b"<!doctype", b"<html")) else None


def check_model(folder: Path, shown: str, model_type: object) -> Iterator[Fault]:
    """Faults of a model's configuration and weights; see `check_configuration` and `check_weights`."""
    yield from check_configuration(folder, shown, model_type)
    yield from check_weights(folder, shown)


def check_configuration(folder: Path, shown: str, model_type: object) -> Iterator[Fault]:
    """Faults of a `config.json` that cannot be read, or that has no `model_type` where the spec gives none either.

    Args:
        folder: the model's folder.
        shown: the folder as the spec has it.
        model_type: the one that the spec gives.
    """
    file = folder / "config.json"
    name = f"`config.json` of `{shown}`"
    if (what := substitute(file)) is not None:
        yield _not_there(name, what, _AT)
        return
    try:
        found = written_mapping(file)
    except FileNotFoundError:
        yield Fault(_CODE, f"{name} is not there", _AT, help=_AGAIN)
        return
    except Damage as damage:
        reason = str(damage).removeprefix("it ")
        encoding = reason.startswith(("is not UTF-8", "begins with a byte order mark"))
        help_ = "save the file as UTF-8 without a byte order mark" if encoding else _CORRECT
        yield Fault(_CODE, f"{name} {reason}", _AT, help=help_)
        return
    if not found:
        yield Fault(_CODE, f"{name} has no entries", _AT, help=_AGAIN)
    elif not isinstance(found.get("model_type"), str) and model_type is None:
        family = _family(found)
        help_ = (
            f'add `"model_type": "{family or "bert"}"` to it, or write `config: {{model_type: {family or "bert"}}}` '
        )
        help_ += "beside `path`" if family else "beside `path`, with the family of the model"
        there = found.get("model_type") is not None
        message = f"the `model_type` in {name} is no text" if there else f"{name} has no `model_type`"
        yield Fault(_CODE, message, _AT, help=help_)
    else:
        for key, reason in configuration_file.mistakes(found):
            yield Fault(_CODE, f"`{key}` in {name}: {reason}", _AT, help=_CORRECT)


def check_weights(folder: Path, shown: str) -> Iterator[Fault]:
    """Faults of weights that cannot be loaded; none if the folder has no weights at all."""
    written = read_json(folder / "config.json").get("transformers_weights")  # the library's own key for another name
    named = written if isinstance(written, str) else _WEIGHTS
    single, index = folder / named, folder / (named if named.endswith(".json") else _INDEX)
    if single == index:
        single = folder / _WEIGHTS
    if os.path.isfile(single):
        yield from _damaged(single)
        return
    if os.path.isfile(index):
        yield from _check_shards(index)
        return
    if (folder / "adapter_config.json").is_file():
        yield Fault(_CODE, f"the folder `{shown}` has an adapter, not the weights of a model", _AT, help=merge(folder))
        return
    safe = sorted(file.name for file in folder.glob("*.safetensors") if not _OF_TRAINING.fullmatch(file.name))
    shard = next((found for name in safe if (found := _SHARD.fullmatch(name))), None)
    if shard is not None:
        message = f"the folder has shards of weights, such as `{shard[0]}`, without `{_INDEX}`"
        yield Fault(_CODE, message, _AT, help=f"copy that file too, from where the {int(shard['all'])} shards are from")
    elif safe:
        yield Fault(
            _CODE, f"the weights are in `{safe[0]}`, not in `{_WEIGHTS}`", _AT, help=f"rename it to `{_WEIGHTS}`"
        )
    else:
        yield from _other_formats(folder, shown)


def check_tokenizer(folder: Path, at: tuple[str | int, ...]) -> Iterator[Fault]:
    """Faults of a tokenizer's files that cannot be loaded here."""
    present = [name for name in model_folders.TOKENIZER_FILES if (folder / name).is_file()]
    for name in dict.fromkeys([*present[:1], *sentencepiece_files(folder)]):
        if (what := substitute(folder / name)) is not None:
            yield _not_there(f"`{name}`", what, at)
            return
    if faults := list(configuration_file.damaged_tokenizer(folder, at)):
        yield faults[0]
        return
    pieces = sentencepiece_files(folder)
    if pieces and not {"tokenizer.json", "vocab.txt", "vocab.json"}.intersection(present):
        missing = [name for name, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf"))
                   if not _installed(module)]  # fmt: skip
        if missing:
            names = " and ".join(f"`{name}`" for name in missing)
            verb = "is" if len(missing) == 1 else "are"
            message = f"the tokenizer is a SentencePiece file, `{pieces[0]}`, and {names} {verb} not installed"
            yield Fault(_CODE, message, at, help=f"`pip install {' '.join(missing)}`")
            return
    if present == ["vocab.json"] and not (folder / "merges.txt").is_file():
        message = "the tokenizer is a `vocab.json` without its `merges.txt`"
        yield Fault(_CODE, message, at, help="copy `merges.txt`, or a `tokenizer.json`, into the folder")
    if present == ["vocab.txt"] and not _says_its_class(folder):
        message = "the tokenizer is a `vocab.txt` alone, which does not tell its kind"
        help_ = (
            'for BERT\'s, write `{"tokenizer_class": "BertTokenizer"}` into a file `tokenizer_config.json` beside it'
        )
        yield Fault(_CODE, message, at, help=help_)


def check_read(tokenizer: Any, folder: Path, at: tuple[str | int, ...]) -> Iterator[Fault]:
    """Faults of a loaded tokenizer whose class reads other files than the folder has; it then knows no words.

    Args:
        tokenizer: the tokenizer of the library.
        folder: its folder.
        at: the place of the fault.
    """
    if (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file():
        return
    names: Mapping[str, str] = tokenizer.vocab_files_names
    needed = [name for key, name in names.items() if key != "tokenizer_file"] or ["tokenizer.json"]
    missing = [name for name in needed if not (folder / name).is_file()]
    if not missing:
        return
    pieces = [name for name in sentencepiece_files(folder) if name not in needed]
    kind = type(tokenizer).__name__
    if pieces and missing[0].endswith((".model", ".spm")):
        message = f"`{kind}` reads `{missing[0]}`, and the folder has `{pieces[0]}`"
        yield Fault(_CODE, message, at, help=f"rename `{pieces[0]}` to `{missing[0]}`")
    else:
        message = f"`{kind}` reads `{missing[0]}`, which the folder does not have"
        yield Fault(_CODE, message, at, help=f"copy `{missing[0]}`, or a `tokenizer.json`, into the folder")


def _not_there(name: str, what: str, at: tuple[str | int, ...]) -> Fault:
    help_ = "run `git lfs pull` in that repository" if "LFS" in what else _AGAIN
    return Fault(_CODE, f"{name} is {what}", at, help=help_)


def _damaged(file: Path) -> Iterator[Fault]:
    """What is wrong with a file of safetensors, by its header."""
    name = f"`{file.name}`"
    if (what := substitute(file)) is not None:
        yield _not_there(name, what, _AT)
        return
    try:
        header, size = read_back.tensor_header(file), file.stat().st_size
    except FileNotFoundError:
        yield Fault(_CODE, f"{name} is not there", _AT, help=_AGAIN)
    except Damage as damage:
        yield Fault(_CODE, f"{name} is damaged: {damage}", _AT, help=_AGAIN)
    else:
        if not header.tensors:
            yield Fault(_CODE, f"{name} has no tensors", _AT, help="save the model again with `save_pretrained`")
        elif size < header.bytes:
            yield Fault(_CODE, f"{name} is cut off: it has {size} of {header.bytes} bytes", _AT, help=_AGAIN)
        elif size > header.bytes:
            message = f"{name} is damaged: it has {size} bytes, and its header says {header.bytes}"
            yield Fault(_CODE, message, _AT, help=_AGAIN)


def _check_shards(index: Path) -> Iterator[Fault]:
    if (what := substitute(index)) is not None:
        yield _not_there(f"`{index.name}`", what, _AT)
        return
    weight_map = read_json(index).get("weight_map")
    shards = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    if not shards:
        yield Fault(_CODE, f"`{index.name}` names no files", _AT, help=_AGAIN)
        return
    missing = [name for name in shards if not os.path.isfile(index.parent / name)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        message = f"`{index.name}` names {len(shards)} files, and `{missing[0]}`{more} is not there"
        yield Fault(_CODE, message, _AT, help="copy or download the missing files into the folder")
        return
    for name in shards:
        if faults := list(_damaged(index.parent / name)):
            yield faults[0]
            return


def _other_formats(folder: Path, shown: str) -> Iterator[Fault]:
    """The fault of weights in another format than safetensors."""
    here = json.dumps(command_path(folder), ensure_ascii=False)
    model = _auto_class(read_json(folder / "config.json"))
    pickled = sorted(
        file.name for file in folder.glob("*") if file.suffix in _PICKLES and not _OF_TRAINING.fullmatch(file.name)
    )
    code = f"from transformers import {model} as M; M.from_pretrained({here}).save_pretrained({here})"
    if (folder / "pytorch_model.bin.index.json").is_file() or "pytorch_model.bin" in pickled:
        yield _pickle("pytorch_model.bin" if "pytorch_model.bin" in pickled else "pytorch_model.bin.index.json", code)
    elif pickled:
        yield _pickle(pickled[0], code, renamed="pytorch_model.bin")
    elif (inner := _checkpoint(folder)) is not None:
        help_ = f"did you mean `{shown.rstrip('/')}/{inner}`?"
        yield Fault(_CODE, f"the folder has no weights, but `{inner}` in it has", _AT, help=help_)
    else:
        yield from _foreign(folder, here, model)


def _foreign(folder: Path, here: str, model: str) -> Iterator[Fault]:
    for name, option, library in (
        ("tf_model.h5", "from_tf", "tensorflow tf-keras"),
        ("flax_model.msgpack", "from_flax", "flax"),
    ):
        if (folder / name).is_file() or (folder / f"{name}.index.json").is_file():
            code = f"from transformers import {model} as M; M.from_pretrained({here}, {option}=True).save_pretrained({here})"
            help_ = (
                f"transformers reads it up to version 4: in another environment, `pip install 'transformers<4.47' {library} "
                f"torch`, then `{python(code)}`"
            )
            yield Fault(_CODE, f"the weights are in `{name}`, a format of {library.split()[0]}", _AT, help=help_)
            return
    for pattern in _EXPORTED:
        for file in sorted(folder.glob(pattern)):
            message = (
                f"the folder has no safetensors; `{file.relative_to(folder)}` is an export, which cannot be trained"
            )
            help_ = f"write the folder from which it was exported, with `{_WEIGHTS}`"
            yield Fault(_CODE, message, _AT, help=help_)
            return
    for file in sorted(folder.glob("*.ckpt*")):
        message = f"the folder has no safetensors; `{file.name}` is a checkpoint of another program"
        help_ = "write a folder that `save_pretrained` of transformers has made from it"
        yield Fault(_CODE, message, _AT, help=help_)
        return


def _pickle(name: str, code: str, renamed: str | None = None) -> Fault:
    first = f"rename it to `{renamed}`, and " if renamed else ""
    help_ = f"a pickle can run code when it is loaded; if you trust it, {first}convert it with `save_pretrained`: "
    return Fault(_CODE, f"the weights are a pickle, `{name}`", _AT, help=f"{help_}`{python(code)}`")


def _checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of a trainer in the folder."""
    found = [place for place in folder.glob("checkpoint-*") if (place / _WEIGHTS).is_file()]
    return max(found, key=lambda place: (len(place.name), place.name)).name if found else None


def _auto_class(configuration: Mapping[str, Any]) -> str:
    names = configuration.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    head = name.partition("For")[2]
    return f"AutoModelFor{head}" if head in _HEADS else "AutoModel"


def _family(configuration: Mapping[str, Any]) -> str | None:
    """The family of the class that a configuration names, if it is one of the known families."""
    names = configuration.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    plain = re.split(r"For[A-Z]|(?:LMHead)?Model$", name, maxsplit=1)[0].lower()
    return next((family for family in families.DEFAULTS if family.replace("-", "") == plain), None)


def _says_its_class(folder: Path) -> bool:
    config, own = (read_json(folder / name) for name in ("config.json", "tokenizer_config.json"))
    return isinstance(config.get("model_type"), str) or isinstance(own.get("tokenizer_class"), str)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def tokens_of(folder: Path) -> int | None:
    """The number of tokens of a tokenizer, by its file; None if it cannot be told without the library."""
    try:
        return tokenizer_files.backend(folder).tokens()
    except FileNotFoundError:
        pass
    except Damage:
        return None
    try:
        return read_back.text(folder / "vocab.txt").removesuffix("\n").count("\n") + 1
    except (OSError, Damage):
        return None


def check_vocabulary(folder: Path, tokens: object) -> Iterator[Fault]:
    """The fault of a `vocab_size` of a configuration that is smaller than the tokenizer."""
    if type(tokens) is int and 0 < tokens < (has := tokens_of(folder) or 0):
        message = f"the tokenizer has {has} tokens, the model {tokens}"
        yield Fault(_CODE, message, ("config", "vocab_size"), help=f"write `vocab_size: {has}`")
