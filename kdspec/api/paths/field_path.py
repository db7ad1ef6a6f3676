"""Field paths: a small subset of Python expressions that locate a feature in a model's output."""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from kdspec.api.paths.path_steps import FieldPathError, Index, PathStep, Reference, Subscript
from kdspec.diagnostics.diagnostic import closest

__all__ = ["MAX_LENGTH", "FieldPath", "FieldPathError", "parse"]

MAX_LENGTH = 500

Scalar = str | int | float | bool

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
    }
)
_ROOTS = '`output`, `batch`, or `modules["name"].input` or `.output`'


class FieldPath:
    """A parsed field path. Raises `FieldPathError` if the text is not valid.

    `root`, `module`, `side`, `attributes` and `subscripts` belong to the first reference; a comparison of two paths has a
    second one (`references`).
    """

    __slots__ = ("_compare", "_other", "_text", "references")

    references: tuple[Reference, ...]
    """The paths in the text: one, or both sides of a comparison."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._compare, self._other, self.references = _Parser(text).parse()

    @property
    def root(self) -> str:
        """Where the path begins."""
        return self.references[0].root

    @property
    def module(self) -> str | None:
        """The name of the module whose input or output is captured, if that is the root."""
        return self.references[0].module

    @property
    def side(self) -> str | None:
        """Which side of the module is captured."""
        return self.references[0].side

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names right after the root, such as `("hidden_states",)`."""
        return self.references[0].attributes

    @property
    def subscripts(self) -> int | slice | None:
        """The number or slice right after the names, such as `slice(1, None)`; None if there is none."""
        return self.references[0].subscripts

    def evaluate(
        self,
        *,
        output: Any = None,
        batch: Mapping[str, Any] | None = None,
        modules: Mapping[str, Any] | None = None,
    ) -> Any:
        """The value in a model's output, its inputs, or the captured inputs and outputs of its modules.

        A captured module has `input` and `output`, as attributes or keys. Raises `FieldPathError`.
        """
        roots = {"output": output, "batch": batch, "modules": modules or {}}
        values = [reference.follow(roots) for reference in self.references]
        if self._compare is None:
            return values[0]
        try:
            return self._compare(values[0], values[1] if len(values) > 1 else self._other)
        except (RuntimeError, TypeError, ValueError) as error:
            raise FieldPathError(f"cannot compare these: {error}", 0, len(self._text)) from error

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"FieldPath({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldPath) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def parse(text: str) -> FieldPath:
    """Read a field path. Raises `FieldPathError` with the place in `text` and what is allowed there."""
    return FieldPath(text)


class _Parser:
    """Walks Python's syntax tree of the text, which is never compiled, and accepts only what a path may contain."""

    def __init__(self, text: str) -> None:
        self.text = text

    def parse(self) -> tuple[Callable[[Any, Any], Any] | None, Scalar | None, tuple[Reference, ...]]:
        body = self.tree()
        if not isinstance(body, ast.Compare):
            return None, None, (self.reference(body),)
        if len(body.ops) > 1:
            self.refuse("only one comparison is allowed", body)
        compare = _COMPARISONS.get(type(body.ops[0]))
        if compare is None:
            self.refuse("only `==`, `!=`, `<`, `<=`, `>` and `>=` compare", body)
        left, right = self.reference(body.left), body.comparators[0]
        constant = self.constant(right)
        if constant is not None:
            return compare, constant, (left,)
        if isinstance(right, (ast.Constant, ast.UnaryOp)):
            self.refuse("compare with a number, a text or another path", right)
        return compare, None, (left, self.reference(right))

    def tree(self) -> ast.expr:
        text = self.text
        if len(text) > MAX_LENGTH:
            raise FieldPathError(
                f"a field path has at most {MAX_LENGTH} characters", MAX_LENGTH, len(text) - MAX_LENGTH
            )
        if not text.strip():
            raise FieldPathError(f"a field path begins with {_ROOTS}", 0, len(text))
        for offset, character in enumerate(text):
            if not character.isprintable() or character in "#;\\":
                raise FieldPathError("this character is not allowed in a field path", offset, 1)
        # Without its leading blanks, which Python reads as indentation; `span` corrects the positions.
        stripped = text.lstrip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(stripped, mode="eval").body
        except SyntaxError as error:
            start = len(text) - len(stripped) + max(0, (error.offset or 1) - 1)
            start = min(start, len(text) - 1)
            raise FieldPathError(f"not a field path: {error.msg}", start, 1) from error
        except (MemoryError, RecursionError, ValueError) as error:
            raise FieldPathError("not a field path: too deeply nested", 0, len(text)) from error

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Offset and end in characters; Python's are in UTF-8 bytes."""
        blanks = len(self.text) - len(self.text.lstrip())
        encoded = self.text[blanks:].encode()
        start, end = (
            blanks + len(encoded[:at].decode(errors="replace")) for at in (node.col_offset, node.end_col_offset or 0)
        )
        return start, end

    def refuse(self, message: str, node: ast.expr) -> NoReturn:
        start, end = self.span(node)
        raise FieldPathError(message, start, max(1, end - start))

    def reference(self, node: ast.expr) -> Reference:
        chain: list[ast.Attribute | ast.Subscript] = []
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            chain.append(node)
            node = node.value
        if not isinstance(node, ast.Name):
            self.refuse("only names and subscripts are allowed here", node)
        start, end = self.span(node)
        links = chain[::-1]
        if node.id in {"output", "batch"}:
            return Reference(node.id, tuple(map(self.step, links)), offset=start, length=end - start)
        if node.id != "modules":
            close = closest(node.id, ("output", "batch", "modules"))
            hint = f"; did you mean `{close}`?" if close else ""
            self.refuse(f"a field path begins with {_ROOTS}, not with `{node.id}`{hint}", node)
        if not links or isinstance(links[0], ast.Attribute) or not isinstance(name := self.step(links[0]).value, str):
            message = '`modules` is followed by the name of a module: `modules["encoder.layer.0"]`'
            raise FieldPathError(message, *(self.place(links[0]) if links else (start, end - start)))
        side = links[1].attr if len(links) > 1 and isinstance(links[1], ast.Attribute) else None
        if side not in {"input", "output"}:
            message = "the name of a module is followed by `.input` or `.output`"
            raise FieldPathError(
                message, *(self.place(links[1]) if len(links) > 1 else (start, len(self.text) - start))
            )
        end = self.span(links[1])[1]
        return Reference("modules", tuple(map(self.step, links[2:])), name, side, start, end - start)

    def place(self, link: ast.Attribute | ast.Subscript) -> tuple[int, int]:
        """Offset and length of what a link adds to the one before it."""
        start = self.span(link.value)[1]
        return start, self.span(link)[1] - start

    def step(self, link: ast.Attribute | ast.Subscript) -> PathStep:
        offset, length = self.place(link)
        if isinstance(link, ast.Subscript):
            return PathStep(self.subscript(link.slice), is_name=False, offset=offset, length=length)
        if link.attr.startswith("_"):
            raise FieldPathError(f"names with a leading underscore, such as `{link.attr}`, are private", offset, length)
        return PathStep(link.attr, is_name=True, offset=offset, length=length)

    def subscript(self, node: ast.expr) -> Subscript:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.Tuple):
            return tuple(map(self.index, node.elts))
        return self.index(node)

    def index(self, node: ast.expr) -> Index:
        if isinstance(node, ast.Slice):
            if node.step is not None and self.number(node.step) == 0:
                self.refuse("a slice cannot have the step 0", node.step)
            return slice(
                *(None if part is None else self.integer(part) for part in (node.lower, node.upper, node.step))
            )
        if isinstance(node, ast.Constant) and (node.value is None or node.value is ...):
            return node.value
        return self.integer(node)

    def integer(self, node: ast.expr) -> int:
        value = self.number(node)
        if not isinstance(value, int):
            self.refuse("a subscript is an integer, a string, a slice such as `1:`, `None` or `...`", node)
        # Beyond 64 bits, tensors overflow.
        if abs(value) >= 2**63:
            self.refuse("this number is too large for a subscript", node)
        return value

    def constant(self, node: ast.expr) -> Scalar | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bool)):
            return node.value
        return self.number(node)

    def number(self, node: ast.expr) -> int | float | None:
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return sign * node.value
        return None
