"""The complete spec of a plan as YAML, every default filled in."""

from __future__ import annotations

import os
from typing import Any

import yaml

from kdspec.api.plan.plan import Plan
from kdspec.source import scalars
from kdspec.source.document import Located, Path
from kdspec.source.variables import Insertion, Written


def resolved(plan: Plan) -> str:
    """The spec with all defaults; paths are relative to the folder of the original spec.

    Values of the environment are written as `${NAME}`.
    """
    return as_yaml(written(plan))


def written(plan: Plan) -> Any:
    """The data of the spec with all defaults, with `Written` texts where it has values of the environment.

    Other texts have `$${` for the characters `${`, as a spec has.
    """
    return _Rewriting(plan).whole()


def as_yaml(data: Any) -> str:
    """Plain data as YAML that `kdspec.source.document.parse` reads back as the same data."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Rewriting:
    """Puts the variables of a spec back into its data."""

    def __init__(self, plan: Plan) -> None:
        self.source = plan.source
        self.variables = plan.source.variables
        self.data = plan.spec.model_dump(mode="python", by_alias=True)
        self.open = dict(self.variables.places)

    def whole(self) -> Any:
        data = self.value(self.data, ())
        # A short form, or a name with its package, stands elsewhere in the data; the text is found there by its value.
        for path, insertion in self.open.items():
            data = self.elsewhere(data, path, insertion)
        return self.hidden(data)

    def value(self, data: Any, path: Path) -> Any:
        insertion = self.open.pop(path, None)
        if insertion is not None:
            return self.text(data, path, insertion)
        if isinstance(data, dict):
            return {key: self.value(item, (*path, key)) for key, item in data.items()}
        if isinstance(data, (list, tuple)):
            return [self.value(item, (*path, i)) for i, item in enumerate(data)]
        return data

    def text(self, data: Any, path: Path, insertion: Insertion) -> Written:
        """The text as it was written. A path of an extended file is relative to that file, and is moved with it."""
        source = self.source.at(path)
        if not isinstance(data, str) or data == insertion.value or not isinstance(source, Located):
            return Written.of(insertion)
        moved = self.variables.hide(data)
        if moved == data:
            folder = os.path.relpath(source.folder, self.source.folder)
            moved = self.variables.hide(os.path.join(folder, insertion.written))  # noqa: PTH118 - a text, not a place
        return Written.of(insertion, moved)

    def elsewhere(self, data: Any, path: Path, insertion: Insertion, at: int = 0) -> Any:
        key = path[at] if at < len(path) else None
        if isinstance(data, dict) and key in data:
            return {**data, key: self.elsewhere(data[key], path, insertion, at + 1)}
        if isinstance(data, list) and isinstance(key, int) and key < len(data):
            inner = self.elsewhere(data[key], path, insertion, at + 1)
            return [inner if i == key else item for i, item in enumerate(data)]
        return _with(data, insertion)

    def hidden(self, data: Any) -> Any:
        """The data without values that have come into other texts, and with `$${` for `${`."""
        match data:
            case Written():
                return data
            case str():
                shown = self.variables.hide(str(data))
                if shown == data:
                    return str(data).replace("${", "$${")
                names = frozenset(self.variables.named(shown))
                return Written.of(Insertion(shown, str(data), names, plain=False))
            case dict():
                return {key: self.hidden(item) for key, item in data.items()}
            case list():
                return [self.hidden(item) for item in data]
        return data


def _with(data: Any, insertion: Insertion) -> Any:
    match data:
        case dict():
            return {key: _with(item, insertion) for key, item in data.items()}
        case list():
            return [_with(item, insertion) for item in data]
        case Written():
            return data
        case str() if data == insertion.value:
            return Written.of(insertion)
    return data


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and quotes text that kdspec's reader would parse as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def represent_data(self, data: Any) -> yaml.Node:
        if not isinstance(data, str):
            node: yaml.Node = super().represent_data(data)
            return node
        # Text from an extended file is an instance of a subclass of str.
        node = self.represent_str(str(data))
        if isinstance(data, Written):
            # Only without quotes may a variable be a number.
            node.style = None if data.plain else "'"
        elif not _is_text(data):
            # PyYAML follows YAML 1.1, in which `1e-4` is text.
            node.style = "'"
        return node


def _is_text(value: str) -> bool:
    try:
        return isinstance(scalars.resolve(value), str)
    except scalars.IntegerTooLargeError:
        return False
