"""What is in a folder that should have a model or a tokenizer, and has not: in words, with the way out."""

# ruff: noqa: PTH113, PTH118 - os.path returns a value where pathlib raises: NUL bytes, over-long names.

from __future__ import annotations

import json
import os
import re
import shlex
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdspec.source import reach, read_back
from kdspec.source.read_back import Damage

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
"""A folder with none of these has no tokenizer; transformers would load one with an empty vocabulary."""

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".index")
_HEAD = re.compile(r"\.(classifier|score)(\.out_proj)?(\.modules_to_save\.\w+)?\.weight$")
_MANY = 2000
_DEPTH = 3

_OF_ADAPTERS: Mapping[str, str] = MappingProxyType(
    {
        "SEQ_CLS": "SequenceClassification",
        "TOKEN_CLS": "TokenClassification",
        "QUESTION_ANS": "QuestionAnswering",
        "FEATURE_EXTRACTION": "FeatureExtraction",
        "CAUSAL_LM": "CausalLM",
        "SEQ_2_SEQ_LM": "Seq2SeqLM",
    }
)


def sentencepiece_files(folder: Path) -> list[str]:
    """The names of the files in a folder that look like SentencePiece models."""
    return [name for name in _names(folder) if name.endswith((".model", ".spm"))]


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has one of `TOKENIZER_FILES`, or a SentencePiece file by another name."""
    return any(os.path.isfile(folder / name) for name in TOKENIZER_FILES) or bool(sentencepiece_files(folder))


def without_configuration(written: str, folder: Path) -> tuple[str, str | None]:
    """Message and help for a model's folder without `config.json`; `written` is the folder as the spec has it."""
    message = f"the folder `{written}` has no `config.json`"
    names = _names(folder)
    if "adapter_config.json" in names:
        return f"the folder `{written}` has an adapter, not a model", merge(folder)
    if (inner := _inner(folder, lambda place: (place / "config.json").is_file())) is not None:
        return message, f"did you mean `{os.path.join(written, inner)}`?"
    if old := [name for name in names if name.endswith("_config.json") and "hidden_size" in read_json(folder / name)]:
        family = old[0].removesuffix("_config.json")
        help_ = f'rename `{old[0]}` to `config.json`, and add `"model_type": "{family}"` to it'
        return f"{message}, but a `{old[0]}`", help_
    if weights := [name for name in names if name.endswith(_WEIGHTS)]:
        help_ = f"put the `config.json` of this model beside `{weights[0]}`"
        return message, help_
    if has_tokenizer(folder):
        return (
            f"the folder `{written}` has a tokenizer and no model",
            f"a tokenizer is written as `tokenizer: {written}`",
        )
    if packed := [name for name in names if name.endswith(_ARCHIVES)]:
        return f"{message}, but an archive, `{packed[0]}`", "unpack it, and write the folder that is made"
    return message, None


def without_tokenizer(written: str, folder: Path) -> tuple[str, str | None]:
    """Message and help for a tokenizer's folder without the files of one."""
    message = f"the folder `{written}` has no `{TOKENIZER_FILES[0]}`"
    inner = _inner(folder, has_tokenizer)
    return message, None if inner is None else f"did you mean `{os.path.join(written, inner)}`?"


def not_a_folder(written: str, file: Path) -> tuple[str, str | None]:
    """Message and help for a file in the place of a folder."""
    message = f"`{written}` is a file, not a folder"
    if written.endswith(_ARCHIVES):
        return message, "unpack it, and write the folder that is made"
    if (file.parent / "config.json").is_file():
        return message, f"write the folder that it is in, `{written.rpartition('/')[0] or '.'}`"
    return message, None


def merge(folder: Path) -> str:
    """How an adapter is merged into its base model, and where the merged model then is."""
    adapter = read_json(folder / "adapter_config.json")
    base, kind = str(adapter.get("base_model_name_or_path") or ""), str(adapter.get("task_type"))
    head = _OF_ADAPTERS.get(kind)
    auto = f"AutoPeftModelFor{head}" if head else "AutoPeftModel"
    merged = json.dumps(f"{command_path(folder)}-merged", ensure_ascii=False)
    here = json.dumps(command_path(folder), ensure_ascii=False)
    words = here if has_tokenizer(folder) else json.dumps(base, ensure_ascii=False)
    code = (
        f"from peft import {auto} as M; from transformers import AutoTokenizer as T; "
        f"M.from_pretrained({here}{_classes(folder)}).merge_and_unload().save_pretrained({merged}); "
        f"T.from_pretrained({words}).save_pretrained({merged})"
    )
    return (
        f"merge it into its base model{f' `{base}`' if base else ''}, and write the folder `{folder.name}-merged`: "
        f"`pip install peft`, then `{python(code)}`"
    )


def _classes(folder: Path) -> str:
    """The number of classes of the head in an adapter, as an argument: its base model does not have it."""
    try:
        tensors = read_back.tensor_header(folder / "adapter_model.safetensors").tensors
    except (OSError, Damage):
        return ""
    found = [tensor.shape[0] for name, tensor in tensors.items() if tensor.shape and _HEAD.search(name)]
    return f", num_labels={found[0]}" if found else ""


def python(code: str) -> str:
    """A command of the shell that runs one line of Python."""
    return f"python -c {shlex.quote(code)}"


def command_path(folder: Path) -> str:
    """A folder as a command names it: from the current folder if it is inside, or else absolute."""
    here, there = Path.cwd(), Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are written
    return str(there.relative_to(here)) if there.is_relative_to(here) else str(there)


def read_json(file: Path) -> Mapping[str, Any]:
    """The mapping in a JSON file; empty if there is none or it cannot be read."""
    try:
        return written_mapping(file)
    except (OSError, ValueError):  # a name with NUL is one too
        return {}


def written_mapping(file: Path) -> Mapping[str, Any]:
    """The mapping in a JSON file of a model. Raises as `read_back.mapping` does.

    A plan asks for a configuration some ten times, and that of a model with 50,000 classes takes its time: it is parsed again
    only if the file has changed.
    """
    found = file.stat()
    return dict(_parsed(file, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)))


@lru_cache(maxsize=4)
def _parsed(file: Path, stamp: tuple[int, ...]) -> Mapping[str, Any]:
    del stamp
    return read_back.mapping(file)


def leads_out(folder: Path, within: str) -> str | None:
    """Why the files of a folder would have others read that are not below `within`; None if they do not."""
    names = [name for name in _names(folder) if name.endswith(("config.json", ".index.json"))]
    if "adapter_config.json" in names:
        return "has an adapter, whose model is elsewhere"
    for name in names:
        for text in _texts(read_json(folder / name)):
            for path in (os.path.join(folder, text), text):
                if os.path.isfile(path) and reach.outside(path, within):
                    return f"has `{name}`, which names a file out of the folder of the spec"
    return None


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value of JSON that may be paths."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield from [one] if os.sep in one or one.startswith("~") else ()
        elif isinstance(one, (list, Mapping)):
            waiting += one.values() if isinstance(one, Mapping) else one


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, _MANY) if entry.is_file())
    except (OSError, ValueError):
        return []


def _inner(folder: Path, wanted: Callable[[Path], bool]) -> str | None:
    """The folder in this one that is wanted, at the least depth: the student of a run, or the last checkpoint."""
    level = [Path()]
    for _ in range(_DEPTH):
        level = [place / name for place in level for name in _folders(folder / place)]
        if found := [place for place in level if wanted(folder / place)]:
            return str(max(found, key=_rank))
    return None


def _folders(folder: Path) -> Iterable[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in islice(entries, _MANY) if e.is_dir() and not e.name.startswith("."))
    except (OSError, ValueError):
        return ()


def _rank(place: Path) -> tuple[bool, int, str]:
    number = place.name[len(place.name.rstrip(string.digits)) :]
    return place.name == "student", int(number) if number else -1, place.name
