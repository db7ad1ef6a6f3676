"""A prompt with fields in braces, which a row's texts fill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

OPTIONS = "options"
"""The field of the lettered list of answers."""
_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


class TemplateError(ValueError):
    """A brace that is neither a field nor doubled; its text is a message."""


@dataclass(frozen=True)
class Template:
    """A prompt: texts, and the names of the fields between them."""

    texts: tuple[str, ...]
    """One more than there are fields."""
    fields: tuple[str, ...]
    """In the order of the prompt; a name may come twice."""

    @classmethod
    def parse(cls, prompt: str) -> Template:
        """The template of a prompt; `{{` and `}}` are braces. Blanks and line ends behind it are left out.

        Raises:
            TemplateError: for a single brace.
        """
        texts, fields, end = [""], list[str](), 0
        whole = prompt.rstrip()
        for found in _PART.finditer(whole):
            texts[-1] += whole[end : found.start()]
            end = found.end()
            if found[1] is not None:
                fields.append(found[1].strip())
                texts.append("")
            elif len(found[0]) == 1:
                line = whole.count("\n", 0, found.start()) + 1
                raise TemplateError(f"line {line} of the prompt has a single `{found[0]}`")
            else:
                texts[-1] += found[0][0]
        texts[-1] += whole[end:]
        return cls(tuple(texts), tuple(fields))

    @property
    def lists_options(self) -> bool:
        """Whether it has the list of answers."""
        return OPTIONS in self.fields

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        return tuple(dict.fromkeys(name for name in self.fields if name != OPTIONS))

    def filled(self, values: Mapping[str, str]) -> str:
        """The prompt with a value for each field; braces in a value stay as they are."""
        given = (values[name] for name in self.fields)
        return self.texts[0] + "".join(value + text for value, text in zip(given, self.texts[1:], strict=True))
