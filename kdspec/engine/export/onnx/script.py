"""`use.py`, the script beside an ONNX file: predictions with onnxruntime, tokenizers and NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kdspec.api.working.standalone import Standalone

ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
)
"""The inputs of a model by the attributes of `tokenizers.Encoding` that they are."""
_ROWS: Mapping[str, str] = MappingProxyType(
    {
        "text": "rows = sys.argv[1:] or [{texts}]",
        "pair": "rows = [*zip(sys.argv[1::2], sys.argv[2::2])] or [({texts})]",
        "words": "rows = [text.split() for text in sys.argv[1:] or [{texts}]]",
    }
)
_READ: Mapping[str, str] = MappingProxyType(
    {
        "text": "[before[n > 0] + text for n, text in enumerate({rows})]",
        "words": "[*map(spaced, {rows})]",
    }
)


_SPACED = 'spaced = lambda words: [before[n > 0 and not re.match(config["bare"], word)] + word for n, word in enumerate(words)]'
_WHOLE = "parts = [(row, 0, len(words)) for row, words in enumerate(rows)]"
_SPLIT = (
    "limit, parts = tokenizer.truncation, []  # a sentence that is too long is read in parts, split between words",
    "tokenizer.no_truncation()",
    'room = limit["max_length"] - tokenizer.num_special_tokens_to_add(False)',
    "for row, whole in enumerate(tokenizer.encode_batch({read}, is_pretokenized=True)):",
    "    sizes, first, words = Counter(whole.word_ids), 0, len(rows[row])",
    "    ends = np.cumsum([0, *(sizes[word] for word in range(words))])",
    "    while first < max(words, 1):",
    '        last = max(first + 1, int(np.searchsorted(ends, ends[first] + room, "right")) - 1)',
    "        parts.append((row, first, last))",
    "        first = last",
    "tokenizer.enable_truncation(**limit)  # of a single word that is too long",
)


def script(use: Standalone | None, model: str) -> str:
    """The text of the script.

    Args:
        use: how the texts are read, and what the outputs mean; None for a model without a known tokenizer, whose script
            runs it on zeros.
        model: the name of the model, for its first line.
    """
    if use is None:
        return "\n".join((*_head(model, texts=False), *_ZEROS)) + "\n"
    texts = ", ".join(use.example or ('"some text"', '"another text"'))
    lines = [_ROWS[use.reads].format(texts=texts)]
    read = "{rows}"
    words, splits = use.reads == "words", use.splits and use.max_length is not None
    spaced = words and any(use.prompts)
    if any(use.prompts):
        lines.append('before = config["prompts"]  # the text before the first one, and before the others')
        lines += [_SPACED] if spaced else []
        read = _READ[use.reads]
    if words:
        lines += [line.format(read=read.format(rows="rows")) for line in _SPLIT] if splits else [_WHOLE]
    given = read.format(rows="[rows[row][first:last] for row, first, last in parts]" if splits else "rows")
    lines.append(f"encoded = tokenizer.encode_batch({given}{', is_pretokenized=True' if words else ''})")
    if use.stride is not None:
        lines += [
            "of = [row for row, read in enumerate(encoded) for _ in (read, *read.overflowing)]",
            "encoded = [window for read in encoded for window in (read, *read.overflowing)]",
        ]
    return (
        "\n".join((*_head(model, texts=True, spaced=spaced, counts=words and splits), *lines, *_RUN, *use.answers))
        + "\n"
    )


def _head(model: str, *, texts: bool, spaced: bool = False, counts: bool = False) -> tuple[str, ...]:
    usage = ' Usage: python use.py "a text" ...' if texts else ""
    return (
        f'"""Runs `{_plain(model)}` with onnxruntime, {"tokenizers " if texts else ""}and NumPy alone.{usage}"""',
        "import json",
        *(("import re",) if spaced else ()),
        *(("import sys",) if texts else ()),
        *(("from collections import Counter",) if counts else ()),
        "from pathlib import Path",
        "",
        "import numpy as np",
        "from onnxruntime import InferenceSession",
        *(("from tokenizers import Tokenizer",) if texts else ()),
        "",
        "here = Path(__file__).parent",
        'config = json.loads((here / "config.json").read_text(encoding="utf-8"))',
        'session = InferenceSession(here / config["files"][0])',
        *(('tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))', "") if texts else ("",)),
    )


_RUN = (
    'inputs = {name: np.array([getattr(read, of) for read in encoded]) for name, of in config["inputs"].items()}',
    'outputs = dict(zip(config["outputs"], session.run(config["outputs"], inputs)))',
)
_ZEROS = (
    'inputs = {name: np.zeros(of["shape"], of["dtype"]) for name, of in config["inputs"].items()}  # yours go here',
    'for name, array in zip(config["outputs"], session.run(config["outputs"], inputs)):',
    "    print(name, array.shape)",
)


def _plain(text: Any) -> str:
    """A name without what ends a docstring."""
    return str(text).replace("\\", "").replace('"', "'")
