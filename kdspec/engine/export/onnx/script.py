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
        "text": "[before[n > 0] + text for n, text in enumerate(rows)]",
        "words": "[[before[n > 0] + word for n, word in enumerate(row)] for row in rows]",
    }
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
    read = "rows"
    lines = [_ROWS[use.reads].format(texts=texts)]
    if any(use.prompts):
        lines.append('before = config["prompts"]  # the text before the first one, and before the others')
        read = _READ[use.reads]
    words = ", is_pretokenized=True" if use.reads == "words" else ""
    lines.append(f"encoded = tokenizer.encode_batch({read}{words})")
    if use.stride is not None:
        lines += [
            "of = [row for row, read in enumerate(encoded) for _ in (read, *read.overflowing)]",
            "encoded = [window for read in encoded for window in (read, *read.overflowing)]",
        ]
    return "\n".join((*_head(model, texts=True), *lines, *_RUN, *use.answers)) + "\n"


def _head(model: str, *, texts: bool) -> tuple[str, ...]:
    usage = ' Usage: python use.py "a text" ...' if texts else ""
    return (
        f'"""Runs `{_plain(model)}` with onnxruntime, {"tokenizers " if texts else ""}and NumPy alone.{usage}"""',
        "import json",
        *(("import sys",) if texts else ()),
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
