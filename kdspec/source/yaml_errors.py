"""What a YAML parser's complaint means, in plain words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Explanation:
    """What to tell about one error of syntax. `context` labels the place where the parser began, if that helps."""

    message: str
    label: str = ""
    context: str | None = None
    help: str | None = None
    at_context: bool = False
    """The mistake is where the parser began, not where it gave up."""


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
_NEVER_CLOSED = Explanation("this quoted text is never closed", "opened here", at_context=True)
_BAD_ESCAPE = Explanation(
    "unknown escape in double quotes",
    help="write `\\\\` for a backslash, or put the text in single quotes, where nothing is escaped",
)
_KNOWN = (
    (
        "could not find expected ':'",
        Explanation(
            "missing `:` after a key",
            "read as a key, since keys stand around it",
            help="a key is followed by a colon and a space; a text over several lines is indented more than its key",
            at_context=True,
        ),
    ),
    (
        "mapping values are not allowed here",
        Explanation(
            "unexpected `:`",
            "no key can end here",
            help="quote a value that has `: ` in it; otherwise look at the indentation of this line and the one before",
        ),
    ),
    (
        "sequence entries are not allowed here",
        Explanation("a list item cannot begin here", help="begin it on a line of its own"),
    ),
    ("mapping keys are not allowed here", Explanation("a key cannot begin here", help="begin it on a line of its own")),
    ("found unexpected end of stream", _NEVER_CLOSED),
    ("found unexpected document separator", _NEVER_CLOSED),
    ("found unknown escape", _BAD_ESCAPE),
    ("expected escape sequence", _BAD_ESCAPE),
)
_FLOW_SUBSTITUTION = (
    "`${…}` has braces of its own: inside of `{…}` and `[…]` write it in quotes, or give the key a line of its own"
)


def explain(problem: str, context: str | None, text: str, offset: int) -> Explanation:
    """Translate PyYAML's `problem` (and `context`), found at `offset` of `text`."""
    for beginning, told in _KNOWN:
        if problem.startswith(beginning):
            return told
    found = re.search(r"but (?:found|got) '(.+)'$", problem)
    found_token = found.group(1) if found else ""
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
            f"neither a part of what stands before it, nor indented as the {kind} around it",
            context=f"the {kind} begins here",
        )
    if problem.startswith("expected the node content"):
        return Explanation(f"expected a value, not {what}")
    if context in {"while scanning an alias", "while scanning an anchor"}:
        return Explanation("a plain text cannot begin with `*` or `&`", help="quote the text", at_context=True)
    if problem.startswith("expected '<document start>'"):
        return Explanation(f"unexpected {what} after the end of the document")
    return Explanation(problem.replace("'", "`"), context=context)


def _character(character: str) -> Explanation:
    if character == "\t":
        return Explanation("a tab cannot stand here", help="indent and separate with spaces")
    return Explanation(f"a plain text cannot begin with `{character}`", help="quote the text")
