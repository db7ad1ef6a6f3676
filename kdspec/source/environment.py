"""`${VAR}` and `${VAR:-default}` in the strings of a spec, from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span, excerpt
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.scalars import IntegerTooLargeError, resolve
from kdspec.source.secrets import has_secret, is_secret
from kdspec.source.yaml_reader import MAX_SIZE

_REFERENCE = re.compile(r"\$(?P<escape>\$)?\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")


def substitute(root: Node, sources: Mapping[str, Source], environ: Mapping[str, str]) -> list[Diagnostic]:
    """Replace the variables in `root` by their values, in place, and return what is wrong with them.

    The value of a variable is plain text: variables and YAML structure in it are not interpreted. Only an unquoted
    scalar that is one variable and nothing else is parsed as a number, boolean or null (`lr: ${LR}`).
    """
    work = _Substitution(sources, environ)
    work.visit(root)
    return work.found


class _Substitution:
    def __init__(self, sources: Mapping[str, Source], environ: Mapping[str, str]) -> None:
        self.sources, self.environ = sources, environ
        self.found: list[Diagnostic] = []
        self.size = 0
        # Aliases share nodes. A replaced text that looks like a variable must not be replaced on a second visit.
        self.seen: set[int] = set()

    def visit(self, node: Node) -> None:
        if id(node) in self.seen:
            return
        self.seen.add(id(node))
        match node:
            case ListNode():
                for item in node.items:
                    self.visit(item)
            case MappingNode():
                for _, child in node.items.values():
                    self.visit(child)
            case ScalarNode(value=str()):
                if "${" in node.text:
                    self.replace(node)
                if has_secret(str(node.value)):
                    self.refuse("the spec contains a secret", node.span)
            case _:
                pass

    def replace(self, node: ScalarNode) -> None:
        known, written, done, alone = len(self.found), node.text, 0, False
        parts: list[str] = []
        for match in _REFERENCE.finditer(written):
            value = self.value(node, match)
            parts += [written[done : match.start()], value]
            done, alone = match.end(), match.group() == written and not match["escape"]
            self.size += len(value)
            if self.size > MAX_SIZE:
                message = f"the variables of the spec have more than {MAX_SIZE:,} characters"
                self.found.append(Diagnostic("KD004", message, Label(node.span)))
                return
        text = "".join([*parts, written[done:]])
        if len(self.found) > known:
            return
        try:
            node.value = resolve(text) if alone and node.plain else text
        except IntegerTooLargeError:
            message = f"the integer `{excerpt(text, 24)}` in the variable has more than 64 bits"
            self.found.append(Diagnostic("KD004", message, Label(node.span), help="quote it if it is a string"))

    def value(self, node: ScalarNode, match: re.Match[str]) -> str:
        if match["escape"]:
            # `$${` is an escaped `${`; the rest is text.
            return match.group()[1:]
        name, default = match["name"], match["default"]
        span = self.sources[node.span.file].inside(node.span, node.text, *match.span())
        if name is None:
            self.fail("not a variable", span, "write `${NAME}`, `${NAME:-default}`, or `$${` for the characters `${`")
            return ""
        if is_secret(name):
            self.refuse(f"the variable `{excerpt(name)}` holds a secret", span)
            return ""
        value = self.environ.get(name, "")
        if value and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            self.fail(f"the environment variable `{excerpt(name)}` is not UTF-8 text", span, None)
            return ""
        if not value and default is not None:
            return default
        if name not in self.environ:
            advice = f"set it, or give it a default: `${{{excerpt(name)}:-…}}`"
            self.fail(f"the environment variable `{excerpt(name)}` is not set", span, advice)
        return value

    def refuse(self, message: str, span: Span) -> None:
        advice = "remove it; libraries read tokens such as `HF_TOKEN` from the environment"
        self.found.append(
            Diagnostic("KD009", message, Label(span, "would be written into the run folder"), help=advice)
        )

    def fail(self, message: str, span: Span, advice: str | None) -> None:
        self.found.append(Diagnostic("KD007", message, Label(span), help=advice))
