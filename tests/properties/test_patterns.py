"""Every regular expression of kdspec takes linear time on any input: specs, rows, names of files and variables, scripts.

The patterns are collected from the source, so that a new one is tried too. Each is tried on texts made of its own parts:
what it begins with and what it repeats, many times, and an end that it does not match.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from re import _compiler as compiler
from re import _constants as codes
from re import _parser as parser

import pytest
from cpu_seconds import cpu_seconds

import kdspec
from kdspec.data.answers import treebank_words
from kdspec.source import secrets

ROOT = Path(kdspec.__file__).parents[1]
FILES = sorted([*(ROOT / "kdspec").rglob("*.py"), *(ROOT / "plugins").glob("*/kdspec_*/**/*.py")])
CALLS = ("compile", "match", "fullmatch", "search", "split", "sub", "subn", "findall", "finditer")
METHODS = (*CALLS[1:], "scanner")
SIZES = (26, 60, 500, 2_500, 20_000)
LARGE = 100_000
"""For what takes more than `MOMENT` at the last of the sizes: five times as many characters take 25 times as long, if
quadratic."""
MOMENT = 0.01
LIMIT = 0.2
"""Seconds of the processor at any of the sizes: a quadratic pattern takes several at the last one, a linear one a few
milliseconds."""


@dataclass(frozen=True)
class Used:
    """A pattern, with where it stands and how it is used."""

    place: str
    pattern: re.Pattern
    anchored: bool
    """Whether it is only matched at the beginning of a text."""

    def run(self, text: str) -> None:
        given = text.encode("utf-8", "replace") if isinstance(self.pattern.pattern, bytes) else text
        if self.anchored:
            self.pattern.match(given)
            self.pattern.fullmatch(given)
        else:
            for _ in self.pattern.finditer(given):
                pass


LOCAL = {
    ("kdspec/data/files/delimited.py", "delimiter"): [",", "\t", "|", ";", " "],
    ("kdspec/source/secrets.py", "rule"): [{"alphabet": "A-Za-z0-9_-", "pattern": "x"}],
    ("kdspec/source/secrets.py", "prefixes"): ["hf_|ghp_|sk-"],
    ("kdspec/data/answers/treebank_words.py", "pattern"): [each.pattern for each in treebank_words._TWO_WORDS],
}
"""Names of functions in patterns, and values for them; those of rules are tried in a test of their own."""


def patterns_of(path: Path) -> Iterator[Used]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    compiled = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("re", "regex"), f"{path}: import `re` as a whole, so that patterns are found"
        if isinstance(node, ast.Import):
            assert not [
                name for name in node.names if name.name in ("re", "regex") and (name.asname or name.name == "regex")
            ]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _call(node.value) == "compile":
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            compiled[id(node.value)] = getattr(target, "id", None)
    uses: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            uses.setdefault(node.func.value.id, set()).add(node.func.attr)
    calls = [node for node in ast.walk(tree) if _call(node) is not None]
    module = importlib.import_module(_name(path)) if calls else None
    for node in calls:
        call = _call(node)
        name = compiled.get(id(node))
        used = uses.get(name, set()) & set(METHODS) if call == "compile" else {call}
        for pattern in _values(path, node, module):
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            yield Used(place, pattern, anchored=bool(used) and used <= {"match", "fullmatch"})


def _name(path):
    """The name of the module in a file."""
    base = next(folder for folder in path.parents if not (folder / "__init__.py").exists())
    return ".".join(path.relative_to(base).with_suffix("").parts)


def _call(node):
    """The function of `re` that a node calls, or None."""
    func = getattr(node, "func", None)
    is_re = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "re"
    return func.attr if is_re and func.attr in CALLS else None


def _values(path, node, module):
    """The patterns of a call, evaluated in its module; its flags count."""
    file = str(path.relative_to(ROOT))
    flags = [ast.unparse(word.value) for word in node.keywords if word.arg == "flags"]
    if _call(node) == "compile" and len(node.args) > 1:
        flags.append(ast.unparse(node.args[1]))
    text = f"re.compile({ast.unparse(node.args[0])}, {flags[0] if flags else 0})"
    names = {each.id for each in ast.walk(node.args[0]) if isinstance(each, ast.Name)}
    local = [name for name in names if (file, name) in LOCAL]
    if "pattern" in names and not isinstance(node.args[0], ast.Constant) and (file, "pattern") not in LOCAL:
        pytest.fail(f"{file}:{node.lineno}: this pattern is not tried; give the test values for its names")
    for chosen in product(*(LOCAL[file, name] for name in local)):
        yield eval(text, {**vars(module), "re": re, **dict(zip(local, chosen, strict=True))})


@cache
def all_patterns() -> tuple[Used, ...]:
    found = [used for path in FILES for used in patterns_of(path)]
    rules = secrets._rules()
    found += [Used(f"secret_rules.json: {kind}", pattern, anchored=False) for kind, pattern in rules.patterns]
    found.append(Used("secret_rules.json: prefixes", rules.prefix, anchored=False))
    return tuple({(used.place, used.pattern): used for used in found}.values())


def attacks(pattern: re.Pattern) -> Iterator[tuple[str, str, str]]:
    """A beginning, what is repeated, and an end, made of the parts of a pattern."""
    written = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    tree = parser.parse(written, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags)
    atoms = list(dict.fromkeys(_atoms(tree)))[:14]
    heads = list(dict.fromkeys(_heads(tree, "")))[:12]
    whole = _sample(tree)
    bodies = [whole, *dict.fromkeys(_bodies(tree))][:12]
    repeated = dict.fromkeys(
        [*bodies, *(head for head in heads if head), *atoms, *(a + b for a, b in product(atoms[:6], repeat=2))]
    )
    for body in repeated:
        if body:
            for head in ("", *heads[:4]):
                yield head, body, "\0"
            yield "", body, ""
            yield "", body, "\n!"
    # A beginning again and again, with a word boundary between.
    for head, atom in product([head for head in heads if head][:4], atoms[:6]):
        yield "", head + atom, "\0"


def _atoms(tree) -> Iterator[str]:
    for operator, argument in tree:
        for part in _inner(operator, argument):
            yield from _atoms(part)
        if operator in (codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY, codes.CATEGORY):
            yield from _characters(operator, argument)


def _inner(operator, argument):
    if operator in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        return [argument[2]]
    if operator is codes.SUBPATTERN:
        return [argument[3]]
    if operator is codes.ATOMIC_GROUP:
        return [argument]
    if operator is codes.BRANCH:
        return argument[1]
    if operator in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    return []


PROBES = "a0 -_.\n,:;/\"'\\`({[<#$&A9é\t\u0431@|"


def _characters(operator, argument) -> list[str]:
    """A few characters that an atom matches."""
    if operator is codes.LITERAL:
        return [chr(argument)]
    state = parser.State()
    state.str = ""
    one = parser.SubPattern(state, [(operator, argument)])
    accepts = compiler.compile(one)
    return [c for c in PROBES if accepts.match(c)][:4]


def _sample(tree) -> str:
    """A text that the tree matches, mostly; look-arounds are left out."""
    text = ""
    for operator, argument in tree:
        if operator in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            text += _sample(argument[2]) * max(1, min(argument[0], 40))
        elif operator is codes.BRANCH:
            text += _sample(argument[1][0])
        elif operator in (codes.SUBPATTERN, codes.ATOMIC_GROUP):
            text += _sample(_inner(operator, argument)[0])
        elif operator in (codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY, codes.CATEGORY):
            text += next(iter(_characters(operator, argument)), "")
    return text


def _heads(tree, before) -> Iterator[str]:
    """What stands before each part of a pattern."""
    for operator, argument in tree:
        yield before
        if operator is codes.ASSERT_NOT or (operator is codes.ASSERT and argument[0] > 0):
            continue
        if operator is codes.ASSERT:
            before += _sample(argument[1])
            continue
        for part in _inner(operator, argument):
            yield from _heads(part, before)
        state = parser.State()
        state.str = ""
        before += _sample(parser.SubPattern(state, [(operator, argument)]))


def _bodies(tree) -> Iterator[str]:
    """What a pattern repeats."""
    for operator, argument in tree:
        for part in _inner(operator, argument):
            if operator in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
                yield _sample(part)
            yield from _bodies(part)


def slowest(used: Used) -> tuple[float, str]:
    """The most seconds that a text costs, and the text; the first one over the limit ends the search."""
    worst = (0.0, "")
    for head, body, end in attacks(used.pattern):
        taken = 0.0
        for size in (*SIZES, LARGE):
            if size == LARGE and taken < MOMENT:
                break
            text = head + body * (size // len(body)) + end
            taken = cpu_seconds(partial(used.run, text))
            if taken > LIMIT:
                taken = min(taken, cpu_seconds(partial(used.run, text)))  # once more: the machine may have been busy
            worst = max(worst, (taken, f"{head!r} + {body!r} * {size // len(body)} + {end!r}"))
            if taken > LIMIT:
                return worst
    return worst


def test_the_attacks_find_patterns_that_are_not_linear():
    for bad in (r"(a+)+$", r"\w{10,}\.", r"^\{?\s*x\s*:", r"\bey[\w-]{10,}\."):
        assert slowest(Used("", re.compile(bad, re.MULTILINE), anchored=False))[0] > LIMIT, bad
    for good in (r"[a-z]+", r"(?<!\d)\d++(?!\d)", r"\$\{\w*+\}"):
        assert slowest(Used("", re.compile(good), anchored=False))[0] < LIMIT, good


def test_there_are_patterns():
    assert len(all_patterns()) > 80


@pytest.mark.parametrize(
    "file", [str(path.relative_to(ROOT)) for path in FILES if "re." in path.read_text(encoding="utf-8")]
)
def test_patterns_are_linear(file):
    for used in all_patterns():
        if used.place.startswith(f"{file}:"):
            seconds, text = slowest(used)
            assert seconds < LIMIT, f"{used.place}: {used.pattern.pattern!r} on {text}"


def test_pydantic_matches_patterns_with_its_own_linear_engine():
    for path in FILES:
        assert "python-re" not in path.read_text(encoding="utf-8")


def test_patterns_of_secrets_are_linear():
    for used in all_patterns():
        if used.place.startswith("secret_rules"):
            seconds, text = slowest(used)
            assert seconds < LIMIT, f"{used.place}: {used.pattern.pattern!r} on {text}"
