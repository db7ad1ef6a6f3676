"""Files that are no specs: their text is not shown, for `extends` may lead to any file that the user may read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kdspec.diagnostics.diagnostic import CODES, Diagnostic, Label
from kdspec.source.nodes import MappingNode, Node, Source

KEYS = frozenset({"kdspec", "name", "seed", "tasks", "models", "adaptors", "stages"})
"""The keys of a spec, beside `extends`."""
_SECTIONS = ("tasks", "models", "adaptors", "stages")
_VERSION = re.compile(r"""^\{?[ \t]*['"]?kdspec['"]?[ \t]*:""", re.MULTILINE)

HELP = "a file that is extended has `kdspec: 1`, or nothing but keys of a spec, with one of {} among them".format(
    ", ".join(f"`{name}`" for name in _SECTIONS)
)
"""What makes a file a spec."""
_SILENT = "the text of a file without `kdspec:` is not shown; if it is a spec, write `kdspec: 1` into it"


def has_version(text: str) -> bool:
    """Whether a text that cannot be parsed was meant as a spec."""
    return _VERSION.search(text) is not None


def is_spec(root: Node) -> bool:
    """Whether a tree, with all that it extends, is a spec of its own."""
    return isinstance(root, MappingNode) and "kdspec" in root.items


def is_part(root: MappingNode) -> bool:
    """Whether a tree is a part of a spec, for others to extend."""
    sections = (root.items[name][1] for name in _SECTIONS if name in root.items)
    return root.items.keys() <= KEYS and any(isinstance(section, MappingNode) for section in sections)


def silent(diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source]) -> tuple[Diagnostic, ...]:
    """The diagnostics, without words where they are about a text that is not shown: their code and place are left."""
    hidden = {name for name, source in sources.items() if not source.shown}
    return tuple(_silenced(one) if hidden and _is_about(one, hidden) else one for one in diagnostics)


def _is_about(diagnostic: Diagnostic, hidden: set[str]) -> bool:
    labels = (diagnostic.primary, *diagnostic.secondary)
    return any(label is not None and label.span.file in hidden for label in labels)


def _silenced(diagnostic: Diagnostic) -> Diagnostic:
    known = CODES.get(diagnostic.code)
    return replace(
        diagnostic,
        message=known.title if known is not None else "a rule of a plugin is not kept",
        primary=None if diagnostic.primary is None else Label(diagnostic.primary.span),
        secondary=tuple(Label(label.span) for label in diagnostic.secondary),
        notes=(),
        help=_SILENT,
        edit=None,
        cause=None,
    )
