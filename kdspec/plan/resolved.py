"""The complete spec of a plan as YAML, every default filled in."""

from __future__ import annotations

from typing import Any

import yaml

from kdspec.api.plan.plan import Plan
from kdspec.source import scalars


def resolved(plan: Plan) -> str:
    """The spec with all defaults; paths are relative to the folder of the original spec."""
    return as_yaml(plan.spec.model_dump(mode="python", by_alias=True))


def as_yaml(data: Any) -> str:
    """Plain data as YAML that `kdspec.source.document.parse` reads back as the same data."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


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
        if not _is_text(data):
            # PyYAML follows YAML 1.1, in which `1e-4` is text.
            node.style = "'"
        return node


def _is_text(value: str) -> bool:
    try:
        return isinstance(scalars.resolve(value), str)
    except scalars.IntegerTooLargeError:
        return False
