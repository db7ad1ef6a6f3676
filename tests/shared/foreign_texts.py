"""Texts of files that are no specs and no data, with a random word in random places."""

from __future__ import annotations

import json
import random
import string

LETTERS = string.ascii_lowercase + string.ascii_uppercase
PLAIN = ("user", "host", "port", "a b", "1", "true", "x-y", "path")
FORMS = ("text", "ini", "env", "json", "yaml", "csv", "broken")


class Writer:
    """Writes texts by a seed; `canary` is the word in them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.canary = "".join(self.dice.choices(LETTERS, k=12))

    def word(self) -> str:
        """The word, or a plain one."""
        return self.canary if self.dice.random() < 0.4 else self.dice.choice(PLAIN)

    def value(self, depth: int = 0) -> object:
        """A value of JSON."""
        kind = self.dice.choice(["text", "list", "mapping"]) if depth < 3 else "text"
        if kind == "text":
            return self.word()
        if kind == "list":
            return [self.value(depth + 1) for _ in range(self.dice.randrange(3))]
        return {self.word(): self.value(depth + 1) for _ in range(self.dice.randrange(4))}

    def text(self, form: str) -> str:
        """A text of one of `FORMS`."""
        dice = self.dice
        lines = [[self.word() for _ in range(dice.randrange(1, 4))] for _ in range(dice.randrange(1, 6))]
        each = {
            "text": " ".join,
            "ini": lambda line: dice.choice((f"[{line[0]}]", f"{line[0]} = {line[-1]}")),
            "env": lambda line: f"{line[0]}={line[-1]}",
            "yaml": lambda line: f"{line[0]}: {json.dumps(self.value())}",
            "csv": lambda line: dice.choice(",;:\t|").join((*line, *line[:1])),
            "broken": lambda line: f"{line[0]}: {line[-1]}{dice.choice('[{*&!%@`|>')}{self.word()}",
        }
        if form == "json":
            return json.dumps({self.word(): self.value() for _ in range(3)}, indent=dice.choice([None, 2]))
        return "\n".join(map(each[form], lines)) + dice.choice(["", "\n"])


def foreign_text(seed: int) -> tuple[str, str]:
    """A text, and the word in it."""
    writer = Writer(seed)
    return writer.text(writer.dice.choice(FORMS)), writer.canary
