"""Splits a text into the words that augmentations change, and joins them; independent of the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Scripts without spaces between words: each of their characters is a word.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_WORD = re.compile(f"[{_ALONE}]|[^{_ALONE}\\s]+")
_ENDS = re.compile(f"[{_ALONE}]")

MASK = "[MASK]"
"""The word that is replaced by the mask token of each tokenizer."""


def split(text: str) -> list[str]:
    """The words between spaces; in Chinese and Japanese each character."""
    return _WORD.findall(text)


def join(words: Sequence[str]) -> str:
    """The words joined by spaces, except next to Chinese and Japanese characters."""
    parts: list[str] = []
    for word in words:
        if parts and not _ENDS.match(word) and not _ENDS.match(parts[-1][-1:]):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)
