"""A text as the words that an augmentation changes, and back again: the same for every tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Scripts that put no spaces between words: each of their characters stands for itself.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_WORD = re.compile(f"[{_ALONE}]|[^{_ALONE}\\s]+")
_ENDS = re.compile(f"[{_ALONE}]")

MASK = "[MASK]"
"""The word that stands for the mask token of each tokenizer."""


def split(text: str) -> list[str]:
    """The words between spaces; of Chinese and Japanese each character."""
    return _WORD.findall(text)


def join(words: Sequence[str]) -> str:
    """The words with spaces between them, but for those that are written without."""
    parts: list[str] = []
    for word in words:
        if parts and not _ENDS.match(word) and not _ENDS.match(parts[-1][-1:]):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)
