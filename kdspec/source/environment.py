"""`${VAR}` and `${VAR:-default}` in the strings of a spec, from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span, excerpt
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.scalars import IntegerTooLargeError, resolve
from kdspec.source.secrets import secrets
from kdspec.source.variables import Insertion
from kdspec.source.yaml_reader import MAX_SIZE

_REFERENCE = re.compile(r"\$(?P<escape>\$)?\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*+)(?P<rest>\}|:-)?)?")


@dataclass(frozen=True, slots=True)
class _Reference:
    """A `${` in a text, from `start` to `end`; without a name it is not a variable."""

    start: int
    end: int
    name: str | None = None
    default: str | None = None
    escaped: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a text: its value, the text that is written for it, and its variable if the environment has the value."""

    value: str
    written: str
    name: str | None = None


def substitute(root: Node, sources: Mapping[str, Source], environ: Mapping[str, str] | None) -> Substitution:
    """Replace the variables in `root` by their values, in place.

    The value of a variable is plain text: variables and YAML structure in it are not interpreted. Only an unquoted
    scalar that is one variable and nothing else is parsed as a number, boolean or null (`lr: ${LR}`). Without an `environ`
    each variable has its default, and one without a default is an error.
    """
    work = Substitution(sources, environ)
    work.visit(root)
    return work


class Substitution:
    """What replacing variables has found."""

    def __init__(self, sources: Mapping[str, Source], environ: Mapping[str, str] | None) -> None:
        self.sources, self.environ, self.closed = sources, environ or {}, environ is None
        self.found: list[Diagnostic] = []
        """What is wrong with variables, and secrets in literal text."""
        self.values: dict[str, str] = {}
        """The values of the environment that were used, by name."""
        self.size = 0
        # Aliases share nodes. A replaced text that looks like a variable must not be replaced on a second visit.
        self.seen: set[int] = set()

    def visit(self, node: Node) -> None:
        """Replace the variables in a node and all below it."""
        if id(node) in self.seen:
            return
        self.seen.add(id(node))
        match node:
            case ListNode():
                for item in node.items:
                    self.visit(item)
            case MappingNode():
                for key, (span, child) in node.items.items():
                    self.search(str(key), span)
                    self.visit(child)
                    self.pair(str(key), child)
            case ScalarNode(value=str()):
                parts = self.parts(node) if "${" in node.text else [_Part(node.text, node.text)]
                if parts is not None:
                    self.literals(parts, node.span)
            case _:
                pass

    def parts(self, node: ScalarNode) -> list[_Part] | None:
        """Put the values into a text, and return it in parts; None if it is in error."""
        known, written, done = len(self.found), node.text, 0
        parts: list[_Part] = []
        references = list(_references(written))
        for reference in references:
            between = written[done : reference.start]
            parts += [_Part(between, between), self.part(node, reference)]
            done = reference.end
            self.size += len(parts[-1].value)
            if self.size > MAX_SIZE:
                message = f"the variables of the spec have more than {MAX_SIZE:,} characters"
                self.found.append(Diagnostic("KD004", message, Label(node.span)))
                return None
        parts.append(_Part(written[done:], written[done:]))
        if len(self.found) > known:
            return None
        text = "".join(part.value for part in parts)
        whole = references[0]
        alone = (whole.start, whole.end) == (0, len(written)) and not whole.escaped
        try:
            node.value = resolve(text) if alone and node.plain else text
        except IntegerTooLargeError:
            message = "the integer in the variable has more than 64 bits"
            self.found.append(Diagnostic("KD004", message, Label(node.span), help="quote it if it is a string"))
            return None
        if names := frozenset(part.name for part in parts if part.name is not None):
            shown = "".join(part.written for part in parts)
            node.insertion = Insertion(shown, node.value, names, plain=alone and node.plain)
        return parts

    def part(self, node: ScalarNode, reference: _Reference) -> _Part:
        """The value of a variable, and what is written for it."""
        if reference.escaped:
            # `$${` is an escaped `${`; the rest is text.
            text = node.text[reference.start : reference.end]
            return _Part(text[1:], text)
        name, default = reference.name, reference.default
        span = self.sources[node.span.file].inside(node.span, node.text, reference.start, reference.end)
        if name is None:
            self.fail("not a variable", span, "write `${NAME}`, `${NAME:-default}`, or `$${` for the characters `${`")
            return _Part("", "")
        value = self.environ.get(name, "")
        if value and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            self.fail(f"the environment variable `{excerpt(name)}` is not UTF-8 text", span, None)
            return _Part("", "")
        if not value and default is not None:
            return _Part(default, default.replace("${", "$${"))
        if self.closed:
            advice = f"give it a default: `${{{excerpt(name)}:-…}}`"
            self.fail(f"the environment variable `{excerpt(name)}` is not read with `--untrusted`", span, advice)
        elif name not in self.environ:
            advice = f"set it, or give it a default: `${{{excerpt(name)}:-…}}`"
            self.fail(f"the environment variable `{excerpt(name)}` is not set", span, advice)
        self.values[name] = value
        return _Part(value, f"${{{name}}}", name)

    def literals(self, parts: list[_Part], span: Span) -> None:
        """Search a text for secrets of which the spec has a character; a value of the environment is not written."""
        places = [0, *accumulate(len(part.value) for part in parts)]
        own = [
            (start, start + len(part.value))
            for part, start in zip(parts, places, strict=False)
            if part.name is None and part.value
        ]
        whole = "".join(part.value for part in parts)
        for secret in secrets(whole):
            if any(start < secret.end and secret.start < end for start, end in own):
                self.refuse(secret.kind, span)
                return
        if len(parts) > 1:
            # What stands before or behind a token in a value must not hide it.
            self.search("\0".join(part.value for part in parts if part.name is None), span)

    def search(self, text: str, span: Span) -> None:
        """Report the first secret in a text that is written at a span."""
        for secret in secrets(text):
            self.refuse(secret.kind, span)
            return

    def pair(self, key: str, child: Node) -> None:
        """Search a key with its text for a password, which is known by the key."""
        if not isinstance(child, ScalarNode) or not isinstance(child.value, str) or child.insertion is not None:
            return
        before = len(key) + 2
        for secret in secrets(f"{key}: {child.value}"):
            if secret.start >= before and not any(True for _ in secrets(child.value)):
                self.refuse(secret.kind, child.span)
                return

    def refuse(self, kind: str, span: Span) -> None:
        """Report a secret."""
        advice = (
            "remove it; libraries read tokens such as `HF_TOKEN` from the environment, and `${NAME}` is never "
            "written with its value"
        )
        label = Label(span, "would be written into the run folder")
        self.found.append(Diagnostic("KD009", f"the spec contains {kind}", label, help=advice))

    def fail(self, message: str, span: Span, advice: str | None) -> None:
        """Report a variable that is wrong."""
        self.found.append(Diagnostic("KD007", message, Label(span), help=advice))


def _references(text: str) -> Iterator[_Reference]:
    """Each `${` of a text, in linear time."""
    at, last = 0, text.rfind("}")
    while (match := _REFERENCE.search(text, at)) is not None:
        start, end, escaped = match.start(), match.end(), match["escape"] is not None
        if match["rest"] == "}":
            yield _Reference(start, end, match["name"], escaped=escaped)
        elif match["rest"] == ":-" and end <= last:
            close = text.index("}", end)
            yield _Reference(start, close + 1, match["name"], text[end:close], escaped=escaped)
            end = close + 1
        else:
            end = start + (3 if escaped else 2)
            yield _Reference(start, end, escaped=escaped)
        at = end
