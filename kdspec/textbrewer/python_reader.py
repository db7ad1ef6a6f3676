"""A Python file that calls TextBrewer -> its configuration as a tree of nodes with spans. The file is not run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, excerpt
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.yaml_reader import MAX_DEPTH, MAX_SIZE

CODE = "KD601"

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
DISTILLERS = (
    *("BasicTrainer", "BasicDistiller", "GeneralDistiller", "MultiTeacherDistiller"),
    *("MultiTaskDistiller", "EMDDistiller"),
)

SEVERAL = "MultiTaskDistiller"
_TEACHERS = 2
"""The position of its argument with the teachers: a mapping with a key for each task."""


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
    diagnostics: list[Diagnostic] = field(default_factory=list)


def read(source: Source) -> FoundCalls:
    """The configuration of a file. Raises `DiagnosticError`."""
    if len(source.text) > MAX_SIZE:
        raise DiagnosticError(Diagnostic("KD004", f"`{source.name}` has more than {MAX_SIZE:,} characters"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the file
            tree = ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = (getattr(error, "lineno", None) or 1) - 1
        column = max((getattr(error, "offset", None) or 1) - 1, 0)
        label = Label(Span(source.name, line, column, line, column + 1), "here")
        reason = getattr(error, "msg", None) or "it is nested too deeply"
        message = f"not Python: {reason}"
        raise DiagnosticError(Diagnostic(CODE, message, label), texts={source.name: source.text}) from None
    return _Reader(source, tree).found


class _NotLiteral(Exception):  # noqa: N818 - carries the place, and is always caught
    def __init__(self, node: ast.AST) -> None:
        super().__init__()
        self.node = node


class _Reader:
    def __init__(self, source: Source, tree: ast.Module) -> None:
        self.source = source
        self.lines = source.text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.values: dict[str, list[ast.expr]] = {}
        self.found = FoundCalls()
        nodes = list(ast.walk(tree))
        for node in nodes:
            self.remember(node)
        for node in nodes:
            if isinstance(node, ast.Call):
                self.call(node)
        for name in self.values:
            self.collect(name)

    def remember(self, node: ast.AST) -> None:
        """Record the value assigned to a name; a name that is assigned twice has no known value."""
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.values.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            self.values.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.values.setdefault(node.target.id, []).extend([node.value, node.value])

    def call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CONFIGURATIONS:
            for argument, value in zip(CONFIGURATIONS[name], node.args, strict=False):
                self.setting(argument, value, self.span(value))
            for keyword in node.keywords:
                if keyword.arg is None:
                    self.not_literal(keyword.value, "**")
                else:
                    self.setting(keyword.arg, keyword.value, self.key(keyword))
        elif name in DISTILLERS:
            self.found.distillers.setdefault(name, self.span(node.func))
            if name == SEVERAL:
                self.found.tasks = self.found.tasks or self.tasks(node)
        elif name == "train" and isinstance(node.func, ast.Attribute):
            for keyword in node.keywords:
                if keyword.arg in OF_TRAIN:
                    self.setting(keyword.arg, keyword.value, self.key(keyword))

    def tasks(self, node: ast.Call) -> tuple[str, ...]:
        """The keys of the mapping of teachers; its values are not literals."""
        given = [keyword.value for keyword in node.keywords if keyword.arg == "model_T"]
        teachers = [*given, *node.args[_TEACHERS : _TEACHERS + 1]]
        if teachers and isinstance(teachers[0], ast.Name):
            teachers = self.values.get(teachers[0].id, []) if len(self.values.get(teachers[0].id, ())) == 1 else []
        match teachers:
            case [ast.Dict(keys=keys)]:
                names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
                return tuple(names) if len(names) == len(keys) else ()
            case [ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords)]:
                return tuple(keyword.arg for keyword in keywords if keyword.arg)
        return ()

    def setting(self, name: str, value: ast.expr, span: Span) -> None:
        if name in self.found.settings:
            first = Label(self.found.settings[name][0], "first given here")
            self.found.diagnostics.append(
                Diagnostic("KD002", f"`{name}` is given twice", Label(span, "given again here"), (first,))
            )
            return
        try:
            self.found.settings[name] = (span, self.literal(value, 0))
        except _NotLiteral as stop:
            self.not_literal(stop.node, name)

    def not_literal(self, node: ast.AST, name: str) -> None:
        written = ast.get_source_segment(self.source.text, node) or "this"
        shown = excerpt(" ".join(written.split()))
        warning = Diagnostic(
            CODE,
            f"the value of `{name}` is known only when the file is run",
            Label(self.span(node), "not a literal"),
            help=f"write the value of `{shown}` into the spec, or add a JSON file that has it",
            severity="warning",
        )
        self.found.unknown.setdefault(name, Computed(shown, warning))

    def collect(self, name: str) -> None:
        """Record the variable's value if it is a list of matches or a table of such lists."""
        try:
            value = self.named(name, self.values[name][0], 0)
        except _NotLiteral:
            return
        for key, node in [(name, value), *((str(k), v) for k, (_, v) in _entries(value))]:
            if isinstance(node, ListNode) and node.items and all(_is_match(item) for item in node.items):
                self.found.matches.setdefault(key, node)

    def literal(self, node: ast.expr, depth: int) -> Node:
        """The value of an expression that can be read without running it."""
        if depth > MAX_DEPTH:
            raise _NotLiteral(node)
        span = self.span(node)
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return ScalarNode(span, str(value), value, plain=not isinstance(value, str))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return ScalarNode(span, str(-value), -value, plain=True)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return ListNode(span, [self.literal(item, depth + 1) for item in items])
            case ast.Dict(keys=keys, values=values):
                return MappingNode(span, dict(self.entries(keys, values, depth)))
            case ast.Name(id=name):
                return self.named(name, node, depth)
        return self.composed(node, depth + 1)

    def composed(self, node: ast.expr, depth: int) -> Node:
        """The value of a sum of lists, a table entry, or a call of `dict`."""
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                one, two = self.literal(left, depth), self.literal(right, depth)
                if isinstance(one, ListNode) and isinstance(two, ListNode):
                    return ListNode(self.span(node), [*one.items, *two.items])
            case ast.Subscript(value=table, slice=ast.Constant(value=str() | int() as key)):
                within = self.literal(table, depth)
                if isinstance(within, MappingNode) and key in within.items:
                    return within.items[key][1]
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(k.arg for k in keywords):
                made: dict[str | int, tuple[Span, Node]] = {
                    str(k.arg): (self.key(k), self.literal(k.value, depth)) for k in keywords
                }
                return MappingNode(self.span(node), made)
        raise _NotLiteral(node)

    def entries(
        self, keys: list[ast.expr | None], values: list[ast.expr], depth: int
    ) -> Iterator[tuple[str | int, tuple[Span, Node]]]:
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                raise _NotLiteral(key or value)
            yield key.value, (self.span(key), self.literal(value, depth + 1))

    def named(self, name: str, node: ast.expr, depth: int) -> Node:
        values = self.values.get(name, ())
        if len(values) != 1:
            raise _NotLiteral(node)
        return self.literal(values[0], depth + 1)

    def key(self, keyword: ast.keyword) -> Span:
        start = self.offset(keyword.lineno, keyword.col_offset)
        return self.source.span(start, start + len(keyword.arg or ""))

    def span(self, node: ast.AST) -> Span:
        assert isinstance(node, ast.expr), "expressions have a location"
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.source.span(self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column))

    def offset(self, line: int, column: int) -> int:
        """The offset in characters of a place that `ast` counts in bytes of UTF-8."""
        before = self.lines[line - 1].encode()[:column].decode(errors="ignore")
        return self.starts[line - 1] + len(before)


def _entries(node: Node) -> list[tuple[str | int, tuple[Span, Node]]]:
    return list(node.items.items()) if isinstance(node, MappingNode) else []


def _is_match(node: Node) -> bool:
    return isinstance(node, MappingNode) and bool({"layer_T", "layer_S"} & set(node.items))
