"""Files of TextBrewer's configurations -> one configuration, with the location of each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, closest
from kdspec.diagnostics.place import in_order
from kdspec.registry.registry import Registry
from kdspec.source import read_back
from kdspec.source.document import Document, index
from kdspec.source.nodes import ListNode, MappingNode, Node, Source
from kdspec.source.read_back import Damage
from kdspec.spec.check.mistake import listed
from kdspec.spec.check.pydantic_errors import explain
from kdspec.textbrewer import json_reader, python_reader
from kdspec.textbrewer.configuration import Configuration
from kdspec.textbrewer.python_reader import CONFIGURATIONS, NO_PLACE, FoundCalls
from kdspec.textbrewer.script import Script
from kdspec.textbrewer.write_matches import counted_from

CODE = "KD601"
_MOST_BYTES = 2**20
"""Bytes of a file, as of a spec."""
INTERMEDIATE = "intermediate_matches"


@dataclass(frozen=True)
class Read:
    """The combined settings of the files."""

    files: tuple[str, ...]
    configuration: Configuration
    given: frozenset[str]
    """The settings that the files set; others have TextBrewer's defaults."""
    distillers: tuple[str, ...]
    """TextBrewer's classes that a Python file instantiates."""
    tasks: tuple[str, ...]
    """The names of several tasks, if a Python file has them."""
    unknown: Mapping[str, str]
    """Settings with a computed value, and the expression."""
    defaults: Mapping[str, str]
    """Settings that are the default of an option of a Python file, and the option."""
    script: Script
    """The models, the optimizer and the schedule of a Python file."""
    document: Document
    diagnostics: tuple[Diagnostic, ...]
    """Warnings."""


def read(files: Sequence[Path], registry: Registry, chosen: Sequence[str] = ()) -> Read:
    """Read the files and combine their settings; `chosen` names the lists of matches to use.

    Raises:
        DiagnosticError: with every error in the files.
    """
    made = {file: _source(file) for file in files}
    sources = {source.name: source for source in made.values()}
    from_json = {file: _from_json(source, file.stem) for file, source in made.items() if file.suffix != ".py"}
    given = {str(key): node for part in from_json.values() for key, (_, node) in part.settings.items()}
    parts = [from_json.get(file) or python_reader.read(source, given) for file, source in made.items()]
    _take_options(from_json.values(), frozenset().union(*(part.options for part in parts)))
    texts = {source.name: source.text for source in made.values()}
    found = [diagnostic for part in parts for diagnostic in part.diagnostics]
    if not from_json and not any(part.calls or part.settings or part.matches or part.unknown for part in parts):
        message = f"no call of TextBrewer in {listed([str(file) for file in files], 'and')}"
        help_ = "name the script that makes a `DistillationConfig` or a distiller, or a JSON file of its settings"
        raise DiagnosticError(Diagnostic(CODE, message, help=help_), texts=texts)
    settings = _merged(parts, found)
    _choose(settings, {name: node for part in parts for name, node in part.matches.items()}, chosen, found, files)
    unknown = {name: computed for part in parts for name, computed in part.unknown.items() if name not in settings}
    found += [computed.warning for name, computed in unknown.items() if name not in NO_PLACE]
    errors = [diagnostic for diagnostic in found if diagnostic.severity == "error"]
    if errors:
        raise DiagnosticError(*in_order(errors), texts=texts)
    root = MappingNode(Span(str(files[0]), 0, 0, 0, 0), settings)
    document = index(root, sources, Path(), {})
    try:
        configuration = Configuration.model_validate(document.data, context={"registry": registry})
    except ValidationError as error:
        explained = explain(error.errors(include_url=False), document, registry)
        raise DiagnosticError(*explained, texts=texts) from None
    return Read(
        files=tuple(sources),
        configuration=configuration,
        given=frozenset(str(key) for key in settings),
        distillers=tuple(dict.fromkeys(name for part in parts for name in part.distillers)),
        tasks=tuple(dict.fromkeys(name for part in parts for name in part.tasks)),
        unknown={name: computed.expression for name, computed in unknown.items()},
        defaults={name: option for part in parts for name, option in part.defaults.items()},
        script=next((part.script for part in parts if part.script != Script()), Script()),
        document=document,
        diagnostics=in_order(found),
    )


def _source(file: Path) -> Source:
    try:
        text = read_back.text(file, most=_MOST_BYTES)
    except FileNotFoundError:
        raise DiagnosticError(Diagnostic("KD003", f"cannot read `{file}`: no such file or directory")) from None
    except Damage as damage:
        raise DiagnosticError(Diagnostic("KD003", f"cannot read `{file}`: {damage}")) from None
    return Source(str(file), text.removeprefix("\ufeff"))


def _from_json(made: Source, name: str) -> FoundCalls:
    root = json_reader.read(made)
    found = FoundCalls()
    match root:
        case ListNode():
            found.matches[name] = root
        case MappingNode():
            for key, (span, node) in root.items.items():
                if key in CONFIGURATIONS and isinstance(node, MappingNode):
                    found.settings.update(node.items)
                elif key not in Configuration.model_fields and isinstance(node, ListNode):
                    found.matches[str(key)] = node
                else:
                    found.settings[key] = (span, node)
        case _:
            message = "a configuration is an object, and a list of matches an array"
            raise DiagnosticError(Diagnostic(CODE, message, Label(root.span)), texts={made.name: made.text})
    return found


def _take_options(parts: Iterable[FoundCalls], options: frozenset[str]) -> None:
    """Remove the values of options of a script's command line, which the script itself has read."""
    for part in parts:
        for key in [key for key in part.settings if key in options]:
            del part.settings[key]


def _merged(parts: Sequence[FoundCalls], found: list[Diagnostic]) -> dict[str | int, tuple[Span, Node]]:
    settings: dict[str | int, tuple[Span, Node]] = {}
    for part in parts:
        for key, (span, node) in part.settings.items():
            if key in settings:
                first = Label(settings[key][0], "first given here")
                found.append(Diagnostic("KD002", f"`{key}` is given twice", Label(span, "given again here"), (first,)))
            else:
                settings[key] = (span, node)
    return settings


def _choose(
    settings: dict[str | int, tuple[Span, Node]],
    lists: Mapping[str, ListNode],
    chosen: Sequence[str],
    found: list[Diagnostic],
    files: Sequence[Path],
) -> None:
    """Put the chosen lists of matches into the settings."""
    if INTERMEDIATE in settings:
        if chosen:
            message = "`intermediate_matches` already has the matches"
            help_ = "omit `--matches`, or remove the key from the file"
            found.append(Diagnostic("KD107", message, Label(settings[INTERMEDIATE][0]), help=help_))
        return
    for name in chosen:
        if name not in lists:
            guess = closest(name, lists)
            known = f"there are {listed(list(lists), 'and')}" if lists else "the files have none"
            help_ = f"did you mean `{guess}`?" if guess else known
            found.append(Diagnostic(CODE, f"there is no list of matches `{name}`", help=help_))
    if not chosen and len(lists) > 1:
        first = next(iter(lists.values()))
        message = f"`{files[0] if len(files) == 1 else 'the files'}` has {len(lists)} lists of matches"
        help_ = f"select with `--matches`, which may be repeated: {', '.join(lists)}"
        found.append(
            Diagnostic(CODE, message, Label(Span(first.span.file, first.span.line, 0, first.span.line, 1)), help=help_)
        )
        return
    meant = [lists[name] for name in chosen or lists if name in lists]
    if meant:
        items = [item for node in meant for item in node.items]
        settings[INTERMEDIATE] = (meant[0].span, ListNode(meant[0].span, items))


def first_attention(found: Read, option: int | None) -> int:
    """The number of the first attention layer in the matches: the `option`, or what the list shows.

    Raises:
        DiagnosticError: a match has layer 0, and the option is 1.
    """
    matches = found.configuration.intermediate_matches or []
    first = counted_from(matches) or 0 if option is None else option
    wrong = [
        Diagnostic(
            "KD301",
            "`--attention-from 1` contradicts attention layer 0",
            Label(found.document.values[INTERMEDIATE, number]),
            help="omit `--attention-from 1`",
        )
        for number, match in enumerate(matches)
        if first and match.feature == "attention" and 0 in (*match.layer_T, *match.layer_S)
    ]
    if wrong:
        texts = {name: made.text for name, made in found.document.sources.items()}
        raise DiagnosticError(*wrong, texts=texts)
    return first
