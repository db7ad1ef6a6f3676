"""A Python file that calls TextBrewer -> its configuration as a tree of nodes with spans. The file is not run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span
from kdspec.source.nodes import ListNode, MappingNode, Node, Source
from kdspec.textbrewer.python_source import CODE, NotLiteral, PythonSource, callee
from kdspec.textbrewer.script import DISTILLERS, SEVERAL, Script, read_script, teachers_of

CONFIGURATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "DistillationConfig": (
            *("temperature", "temperature_scheduler", "hard_label_weight", "hard_label_weight_scheduler"),
            *("kd_loss_type", "kd_loss_weight", "kd_loss_weight_scheduler", "probability_shift"),
            *("intermediate_matches", "is_caching_logits"),
        ),
        "TrainingConfig": (
            *("gradient_accumulation_steps", "ckpt_frequency", "ckpt_epoch_frequency", "ckpt_steps", "log_dir"),
            *("output_dir", "device", "fp16", "fp16_opt_level", "data_parallel", "local_rank"),
        ),
    }
)
"""The classes, and their arguments in order."""
OF_TRAIN = ("num_epochs", "num_steps", "max_grad_norm", "tau")
"""Arguments of a distiller's `train()` that a spec can set."""
NO_PLACE = frozenset({"log_dir", "output_dir", "device", "fp16_opt_level", "data_parallel", "local_rank"})
"""Arguments without an equivalent in a spec: their values do not matter."""


@dataclass(frozen=True)
class Computed:
    """An argument that is not a literal: its expression, and the warning unless another file has its value."""

    expression: str
    warning: Diagnostic


@dataclass
class FoundCalls:
    """The settings of one file."""

    settings: dict[str | int, tuple[Span, Node]] = field(default_factory=dict)
    """Arguments by name."""
    matches: dict[str, ListNode] = field(default_factory=dict)
    """Lists of matches by the name of their variable, or by their key in a table."""
    distillers: dict[str, Span] = field(default_factory=dict)
    """The classes of the distillers that are instantiated."""
    tasks: tuple[str, ...] = ()
    """The tasks of a distiller of several tasks, if the keys of its teachers are literals."""
    unknown: dict[str, Computed] = field(default_factory=dict)
    """Arguments with a value that is known only when the file is run."""
    defaults: dict[str, str] = field(default_factory=dict)
    """Arguments that are the default of an option of the file's command line, and the option."""
    calls: bool = False
    """Whether it calls anything of TextBrewer."""
    options: frozenset[str] = frozenset()
    """The names of the options of the file's command line."""
    script: Script = field(default_factory=Script)
    """The models, the optimizer and the schedule."""
    diagnostics: list[Diagnostic] = field(default_factory=list)


def read(source: Source, given: Mapping[str, Node] = MappingProxyType({})) -> FoundCalls:
    """The configuration of a file, with these values of the options of its command line. Raises `DiagnosticError`."""
    return _Reader(PythonSource(source, given)).found


class _Reader:
    def __init__(self, python: PythonSource) -> None:
        self.python = python
        script = read_script(python)
        self.found = FoundCalls(script=script, calls=script.trains, options=frozenset(python.options))
        for node in python.nodes:
            if isinstance(node, ast.Call):
                self.call(node)
        for name in python.values:
            self.collect(name)

    def call(self, node: ast.Call) -> None:
        name = callee(node)
        self.found.calls |= name in CONFIGURATIONS or name in DISTILLERS
        if name in CONFIGURATIONS:
            for argument, value in zip(CONFIGURATIONS[name], node.args, strict=False):
                self.setting(argument, value, self.python.span(value))
            for keyword in node.keywords:
                if keyword.arg is None:
                    self.table(keyword.value)
                else:
                    self.setting(keyword.arg, keyword.value, self.python.key(keyword))
        elif name in DISTILLERS:
            self.found.distillers.setdefault(name, self.python.span(node.func))
            if name == SEVERAL:
                self.found.tasks = self.found.tasks or self.tasks(node)
        elif name == "train" and isinstance(node.func, ast.Attribute):
            for keyword in node.keywords:
                if keyword.arg in OF_TRAIN:
                    self.setting(keyword.arg, keyword.value, self.python.key(keyword))

    def tasks(self, node: ast.Call) -> tuple[str, ...]:
        """The keys of the mapping of teachers; its values are not literals."""
        teachers = teachers_of(node)
        match None if teachers is None else self.python.resolved(teachers):
            case ast.Dict(keys=keys):
                names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
                return tuple(names) if len(names) == len(keys) else ()
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return tuple(keyword.arg for keyword in keywords if keyword.arg)
        return ()

    def setting(self, name: str, value: ast.expr, span: Span) -> None:
        if name in self.found.settings:
            first = Label(self.found.settings[name][0], "first given here")
            self.found.diagnostics.append(
                Diagnostic("KD002", f"`{name}` is given twice", Label(span, "given again here"), (first,))
            )
            return
        self.python.options_read.clear()
        try:
            self.found.settings[name] = (span, self.python.literal(value))
        except NotLiteral as stop:
            self.not_literal(stop.node, name)
        else:
            if self.python.options_read:
                self.found.defaults[name] = ", ".join(dict.fromkeys(self.python.options_read))

    def table(self, node: ast.expr) -> None:
        """The arguments of `**table`."""
        try:
            found = self.python.literal(node)
        except NotLiteral:
            found = None
        if not isinstance(found, MappingNode):
            self.not_literal(node, "**")
            return
        for name, (span, value) in found.items.items():
            self.found.settings.setdefault(name, (span, value))

    def not_literal(self, node: ast.AST, name: str) -> None:
        shown = self.python.shown(node)
        warning = Diagnostic(
            CODE,
            f"the value of `{name}` is known only when the file is run",
            Label(self.python.span(node), "not a literal"),
            help=f"write the value of `{shown}` at its `TODO` in the spec, or add a JSON file that has it",
            severity="warning",
        )
        self.found.unknown.setdefault(name, Computed(shown, warning))

    def collect(self, name: str) -> None:
        """Record the variable's value if it is a list of matches or a table of such lists."""
        try:
            value = self.python.named(name, self.python.values[name][0])
        except NotLiteral:
            return
        for key, node in [(name, value), *((str(k), v) for k, (_, v) in _entries(value))]:
            if isinstance(node, ListNode) and node.items and all(_is_match(item) for item in node.items):
                self.found.matches.setdefault(key, node)


def _entries(node: Node) -> list[tuple[str | int, tuple[Span, Node]]]:
    return list(node.items.items()) if isinstance(node, MappingNode) else []


def _is_match(node: Node) -> bool:
    return isinstance(node, MappingNode) and bool({"layer_T", "layer_S"} & set(node.items))
