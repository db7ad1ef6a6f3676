"""The complete spec of a plan as YAML, every default filled in."""

from __future__ import annotations

from typing import Any

import yaml

from kdspec.api.plan import Plan
from kdspec.source import scalars


def resolved(plan: Plan) -> str:
    """The spec as one that leaves nothing out; paths are relative to the spec that was planned."""
    return as_yaml(plan.spec.model_dump(mode="python", by_alias=True))


def as_yaml(data: Any) -> str:
    """Plain data as YAML that `kdspec.source.document.parse` reads back as the same data."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and quotes text that our reader would take for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def represent_data(self, data: Any) -> yaml.Node:
        if not isinstance(data, str):
            node: yaml.Node = super().represent_data(data)
            return node
        # Text that was written in an extended file is of a class of its own.
        node = self.represent_str(str(data))
        if not _is_text(data):
            # PyYAML follows YAML 1.1, where `1e-4` is text.
            node.style = "'"
        return node


def _is_text(value: str) -> bool:
    try:
        return isinstance(scalars.resolve(value), str)
    except scalars.IntegerTooLargeError:
        return False
