"""Plain explanations of the YAML parser's errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Explanation:
    """The message for one syntax error. `context` labels the place where the parser began, if that helps."""

    message: str
    label: str = ""
    context: str | None = None
    help: str | None = None
    at_context: bool = False
    """Whether the error is where the parser began, not where it stopped."""


_TOKENS = MappingProxyType(
    {
        "<stream end>": "the end of the text",
        "<document start>": "`---`",
        "<document end>": "`...`",
        "<block mapping start>": "a mapping",
        "<block sequence start>": "a list",
        "<block end>": "a step back in indentation",
        "<scalar>": "text",
        "<alias>": "an alias",
        "<anchor>": "an anchor",
        "<tag>": "a tag",
        "?": "a key",
    }
)
_NEVER_CLOSED = Explanation("this quoted string is never closed", "opened here", at_context=True)
_BAD_ESCAPE = Explanation(
    "unknown escape in double quotes",
    help="write `\\\\` for a backslash, or use single quotes, which have no escapes",
)
_KNOWN = (
    (
        "could not find expected ':'",
        Explanation(
            "missing `:` after a key",
            "parsed as a key, because it is between keys",
            help="a key is followed by a colon and a space; a string over several lines is indented more than its key",
            at_context=True,
        ),
    ),
    (
        "mapping values are not allowed here",
        Explanation(
            "unexpected `:`",
            "no key can end here",
            help="quote a value that contains `: `; otherwise check the indentation of this line and the one before",
        ),
    ),
    (
        "sequence entries are not allowed here",
        Explanation("a list item cannot begin here", help="begin it on a new line"),
    ),
    ("mapping keys are not allowed here", Explanation("a key cannot begin here", help="begin it on a new line")),
    ("found unexpected end of stream", _NEVER_CLOSED),
    ("found unexpected document separator", _NEVER_CLOSED),
    ("found unknown escape", _BAD_ESCAPE),
    ("expected escape sequence", _BAD_ESCAPE),
)
_FLOW_SUBSTITUTION = "`${…}` contains braces; inside `{…}` and `[…]` quote it, or put the key on a line of its own"


def explain(problem: str, context: str | None, text: str, offset: int) -> Explanation:
    """Translate PyYAML's `problem` (and `context`), found at `offset` of `text`."""
    for beginning, explanation in _KNOWN:
        if problem.startswith(beginning):
            return explanation
    found = re.search(r"but (?:found|got) '", problem)
    found_token = problem[found.end() : -1] if found and problem.endswith("'") else ""
    what = _TOKENS.get(found_token, f"`{found_token}`")
    if problem.startswith("found character"):
        return _character(text[offset : offset + 1])
    if problem.startswith(("expected ',' or ']'", "expected ',' or '}'")):
        kind = "list" if problem.startswith("expected ',' or ']'") else "mapping"
        return Explanation(
            f"expected `,` or `{']' if kind == 'list' else '}'}`, not {what}",
            context=f"the {kind} is opened here",
            help=_FLOW_SUBSTITUTION if text[max(0, offset - 1) : offset + 1] == "${" else None,
        )
    if problem.startswith("expected <block end>"):
        kind = "list" if context == "while parsing a block collection" else "mapping"
        return Explanation(
            f"unexpected {what}",
            f"not part of the value before it, and not indented like the {kind} around it",
            context=f"the {kind} begins here",
        )
    if problem.startswith("expected the node content"):
        return Explanation(f"expected a value, not {what}")
    if context in {"while scanning an alias", "while scanning an anchor"}:
        return Explanation("an unquoted string cannot begin with `*` or `&`", help="quote it", at_context=True)
    if problem.startswith("expected '<document start>'"):
        return Explanation(f"unexpected {what} after the end of the document")
    return Explanation(problem.replace("'", "`"), context=context)


def _character(character: str) -> Explanation:
    if character == "\t":
        return Explanation("a tab is not allowed here", help="indent and separate with spaces")
    return Explanation(f"an unquoted string cannot begin with `{character}`", help="quote it")
