"""The text of a Python file as expressions: what is assigned to each name, and literals as nodes with spans. Nothing is run."""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, excerpt
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.yaml_reader import MAX_DEPTH, MAX_SIZE

CODE = "KD601"

_MOVES = ("to", "cuda", "cpu", "eval", "train", "half", "float")
"""Methods of a module that return it."""
_WRAPPERS = ("DataParallel", "DistributedDataParallel")
_NAMESPACES = ("Namespace", "SimpleNamespace")
"""Classes whose attributes are their arguments."""
_ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)
_FLAGS: Mapping[str, bool] = MappingProxyType({"store_true": False, "store_false": True})


class NotLiteral(Exception):  # noqa: N818 - carries the place, and is always caught
    """Raised for an expression whose value is known only when the file is run."""

    def __init__(self, node: ast.AST) -> None:
        super().__init__()
        self.node = node


@dataclass(frozen=True)
class Option:
    """An option of the file's command line, and its default."""

    name: str
    default: ast.expr | None
    kind: str = ""
    """The name of its `type`."""


def callee(node: ast.Call) -> str:
    """The last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class PythonSource:
    """A parsed file.

    Raises:
        DiagnosticError: KD601 if it is not Python, KD004 if it is too large.
    """

    def __init__(self, source: Source, given: Mapping[str, Node] = MappingProxyType({})) -> None:
        """`given` has values of options of the file's command line, which go before their defaults."""
        self.source = source
        self.given = given
        self.nodes = list(ast.walk(_parsed(source)))
        self.lines = source.text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.values: dict[str, list[ast.expr]] = {}
        self.classes = {node.name: node for node in self.nodes if isinstance(node, ast.ClassDef)}
        self.options: dict[str, Option] = {}
        self.options_read: list[str] = []
        """The options whose defaults `literal` has read since it was emptied."""
        for node in self.nodes:
            self._remember(node)
            if isinstance(node, ast.Call) and callee(node) == "add_argument":
                self._option(node)

    def _remember(self, node: ast.AST) -> None:
        """Record the value assigned to a name; a name that is assigned twice has no known value."""
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self._assigned(target.id, node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            self._assigned(node.target.id, node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.values.setdefault(node.target.id, []).extend([node.value, node.value])

    def _assigned(self, name: str, value: ast.expr) -> None:
        moved = self.unmoved(value)
        if isinstance(moved, ast.Name) and moved.id == name:
            return  # `model = model.to(device)`
        self.values.setdefault(name, []).append(value)

    def _option(self, node: ast.Call) -> None:
        names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        long = next((name for name in names if name.startswith("--")), names[0] if names else None)
        if long is None:
            return
        attribute = given.get("dest")
        key = attribute.value if isinstance(attribute, ast.Constant) else long.lstrip("-").replace("-", "_")
        action = given.get("action")
        default = given.get("default")
        if default is None and isinstance(action, ast.Constant) and action.value in _FLAGS:
            default = ast.copy_location(ast.Constant(_FLAGS[str(action.value)]), action)
        self.options[str(key)] = Option(long, default, getattr(given.get("type"), "id", ""))

    def unmoved(self, node: ast.expr) -> ast.expr:
        """A module without the calls that only move or wrap it."""
        while isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in _MOVES:
                node = node.func.value
            elif callee(node) in _WRAPPERS and node.args:
                node = node.args[0]
            else:
                break
        return node

    def resolved(self, node: ast.expr) -> ast.expr:
        """The expression assigned to a name, if it has one value."""
        for _ in range(MAX_DEPTH):
            node = self.unmoved(node)
            if not isinstance(node, ast.Name) or len(self.values.get(node.id, ())) != 1:
                break
            node = self.values[node.id][0]
        return node

    def shown(self, node: ast.AST) -> str:
        """The expression in one line."""
        written = ast.get_source_segment(self.source.text, node) or "this"
        return excerpt(" ".join(written.split()))

    def literal(self, node: ast.expr, depth: int = 0) -> Node:
        """The value of an expression that can be read without running the file.

        Raises:
            NotLiteral: for any other expression.
        """
        if depth > MAX_DEPTH:
            raise NotLiteral(node)
        span = self.span(node)
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return ScalarNode(span, str(value), value, plain=not isinstance(value, str))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return ScalarNode(span, str(-value), -value, plain=True)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return ListNode(span, [self.literal(item, depth + 1) for item in items])
            case ast.Dict(keys=keys, values=values):
                return MappingNode(span, dict(self._entries(keys, values, depth)))
            case ast.Name(id=name):
                return self.named(name, node, depth)
            case ast.Attribute(value=ast.Name() as owner, attr=name) if (
                found := self._attribute(owner, name)
            ) is not None:
                return self.literal(found, depth + 1)
            case ast.Attribute(value=ast.Name(), attr=name) if name in self.options:
                return self.given[name] if name in self.given else self._default(self.options[name], node, depth)
        return self._composed(node, depth + 1)

    def named(self, name: str, node: ast.expr, depth: int = 0) -> Node:
        """The value of a name that is assigned once."""
        values = self.values.get(name, ())
        if len(values) != 1:
            raise NotLiteral(node)
        return self.literal(values[0], depth + 1)

    def _attribute(self, owner: ast.Name, name: str) -> ast.expr | None:
        """What a class of the file, an object of it, or a namespace has as an attribute, if it is written once."""
        made = self.resolved(owner)
        of_class = self.classes.get(callee(made) if isinstance(made, ast.Call) else owner.id)
        if isinstance(made, ast.Call) and (of_class is not None or callee(made) in _NAMESPACES):
            given = next((keyword.value for keyword in made.keywords if keyword.arg == name), None)
            if given is not None or of_class is None:
                return given
        found = []
        for node in () if of_class is None else of_class.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    found.append(value)
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                    found.append(value)
        return found[0] if len(found) == 1 else None

    def _default(self, option: Option, node: ast.expr, depth: int) -> Node:
        """The default of an option, as the file's parser converts it."""
        if option.default is None:
            raise NotLiteral(node)
        found = self.literal(option.default, depth + 1)
        if isinstance(found, ScalarNode) and isinstance(found.value, str) and option.kind in ("int", "float"):
            try:
                value = int(found.value) if option.kind == "int" else float(found.value)
            except ValueError:
                raise NotLiteral(node) from None
            found = ScalarNode(found.span, found.text, value, plain=True)
        self.options_read.append(option.name)
        return found

    def _composed(self, node: ast.expr, depth: int) -> Node:
        """The value of a sum of lists or numbers, a product, a table entry, or a call of `dict`."""
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                one, two = self.literal(left, depth), self.literal(right, depth)
                numbers = [*_numbers(one), *_numbers(two)]
                if len(numbers) == 2 and not (isinstance(op, ast.Div) and numbers[1] == 0):
                    value = _ARITHMETIC[type(op)](*numbers)
                    return ScalarNode(self.span(node), str(value), value, plain=True)
                if isinstance(op, ast.Add) and isinstance(one, ListNode) and isinstance(two, ListNode):
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
        raise NotLiteral(node)

    def _entries(
        self, keys: list[ast.expr | None], values: list[ast.expr], depth: int
    ) -> Iterator[tuple[str | int, tuple[Span, Node]]]:
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                raise NotLiteral(key or value)
            yield key.value, (self.span(key), self.literal(value, depth + 1))

    def key(self, keyword: ast.keyword) -> Span:
        """The place of the name of a keyword argument."""
        start = self._offset(keyword.lineno, keyword.col_offset)
        return self.source.span(start, start + len(keyword.arg or ""))

    def span(self, node: ast.AST) -> Span:
        """The place of an expression."""
        assert isinstance(node, ast.expr), "expressions have a location"
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.source.span(self._offset(node.lineno, node.col_offset), self._offset(end_line, end_column))

    def _offset(self, line: int, column: int) -> int:
        """The offset in characters of a place that `ast` counts in bytes of UTF-8."""
        before = self.lines[line - 1].encode()[:column].decode(errors="ignore")
        return self.starts[line - 1] + len(before)


def _numbers(node: Node) -> Iterator[float]:
    """The number that a node is, if it is one."""
    if isinstance(node, ScalarNode) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        yield node.value


def _parsed(source: Source) -> ast.Module:
    if len(source.text) > MAX_SIZE:
        raise DiagnosticError(Diagnostic("KD004", f"`{source.name}` has more than {MAX_SIZE:,} characters"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the file
            return ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = (getattr(error, "lineno", None) or 1) - 1
        column = max((getattr(error, "offset", None) or 1) - 1, 0)
        label = Label(Span(source.name, line, column, line, column + 1), "here")
        reason = getattr(error, "msg", None) or "it is nested too deeply"
        message = f"not Python: {reason}"
        raise DiagnosticError(Diagnostic(CODE, message, label), texts={source.name: source.text}) from None
