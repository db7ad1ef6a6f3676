"""A single random mistake in a good spec is told of before a model is loaded.

First by `kdspec validate`; what it lets pass is rehearsed, as `kdspec plan` and `kdspec run` do.

A mutation that leaves the same data, or another spec that is as good, is no mistake and not counted. Some specs stand for
those that say the same with other data. All of them, with 500 mutations of each, are tried by

    python -m pytest tests/properties/test_mutations.py -m slow -s --every-spec

which also lists what went unnoticed.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdspec.diagnostics.diagnostic import DiagnosticError, Span
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import Registry, load_registry
from kdspec.rehearsal.rehearse import rehearse
from kdspec.source.document import Document
from kdspec.source.extends import compose

ROOT = Path(__file__).parent.parent.parent
STAND_FOR_ALL = ("mnli_t3", "chinese_names", "chinese_questions", "english_two_tasks")
"""Of the published table, and of the tasks, which say the same with other data."""
EVERY = sorted(
    str(path.relative_to(ROOT))
    for path in [
        *(p for p in ROOT.glob("specs/**/*.yaml") if "assets" not in p.relative_to(ROOT).parts),
        *ROOT.glob("tests/golden/*.yaml"),
        ROOT / "tests/diagnostics/fine.yaml",
    ]
)
SPECS = [
    name for name in EVERY if not {"textbrewer", "tasks"} & {*Path(name).parts} or Path(name).stem in STAND_FOR_ALL
]
FEW, MANY = 40, 500
NAMES = (("stages",), ("tasks",))
"""Sections whose keys are free: another name there is as good, where nothing refers to it."""
NAMED_SETS = "evaluate"
"""The parameter of the task `embedding` whose keys are free too: each is the name of a set."""
FREE = ("name", "labels", "seed", "prompt", "options")
"""Values that may be anything: the spec's own name, labels, which only the rows can contradict, and what a language model
is asked and may answer."""

HUB = re.compile(r"[\w-]+/[\w.-]+")
"""A name on the hub, which is asked for it before any weight is read; there is none where these tests run."""

KNOWN = ("metric", "scheme", "convert_to", "language")
"""Keys of tasks whose values are no columns."""

OTHER_NAMES = re.compile(r"\badam\b|model_type: bart\b|preset: L[346]t?_hidden_s?m(se|md)\b|\blOC:")
"""A misspelling that is the name of another component, or family, or of a class in another case, and as good."""

AS_GOOD = ("losses", "labels")
"""Features of which one is enough: the loss that the model gives, or labels to compute it from."""
WRONG = ((bool, "maybe"), ((int, float), "ten"), (str, "[1]"), (dict, "maybe"), (object, "7.5"))
"""For a value what is of another type; a number would stand for some of the components that are mappings."""


@dataclass(frozen=True)
class Good:
    """A good spec, and where its parts are."""

    text: str
    folder: Path
    registry: Registry
    document: Document

    def own(self, spans: Any) -> Iterator[tuple[tuple[Any, ...], Span]]:
        """The places on one line of the file itself, not of what it extends."""
        return ((p, s) for p, s in spans.items() if s.file == "spec.yaml" and s.line == s.end_line and p)

    def written(self, span: Span) -> str:
        return self.text.splitlines()[span.line][span.column : span.end_column]

    def replaced(self, span: Span, new: str) -> str:
        lines = self.text.splitlines(keepends=True)
        line = lines[span.line]
        lines[span.line] = line[: span.column] + new + line[span.end_column :]
        return "".join(lines)

    def value(self, path: tuple[Any, ...]) -> Any:
        found = self.document.data
        for segment in path:
            found = found[segment]
        return found


@pytest.fixture(scope="module")
def good(small_library):
    """Reads a good spec, those of `specs/` where small models and few rows are."""
    packages = [file.parent for file in ROOT.glob("plugins/*/pyproject.toml")]
    with pytest.MonkeyPatch.context() as patch:
        for package in packages:
            patch.syspath_prepend(package)
        modules = [__import__(package.name.replace("-", "_")) for package in packages]
        registry = load_registry(str(ROOT / "tests/golden/chain_plugin.py"), *modules, installed=False)

        def read(name: str) -> Good:
            path = (small_library.parent if name.startswith("specs/") else ROOT) / name
            text = path.read_text(encoding="utf-8")
            return Good(text, path.parent, registry, compose(text, "spec.yaml", path.parent, (), {}))

        yield read


def misspelt(word: str, draw: random.Random) -> str:
    """One letter missing, doubled, exchanged or another."""
    letters = [i for i, letter in enumerate(word) if letter.isalpha()]
    at = draw.choice(letters)
    ways = [
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + draw.choice(string.ascii_lowercase) + word[at + 1 :],
    ]
    ways += [word[:at] + word[at + 1] + word[at] + word[at + 2 :]] if at + 1 < len(word) else []
    ways = [way for way in ways if way and way != word]
    return draw.choice(ways)


def misspell_a_key(spec: Good, draw: random.Random) -> str | None:
    keys = [
        (p, s)
        for p, s in spec.own(spec.document.keys)
        if isinstance(p[-1], str) and p[:-1] not in NAMES and (p[0], p[-2:-1]) != ("tasks", (NAMED_SETS,))
    ]
    path, span = draw.choice(keys)
    return spec.replaced(span, misspelt(path[-1], draw)) if any(map(str.isalpha, path[-1])) else None


def change_a_type(spec: Good, draw: random.Random) -> str | None:
    path, span = draw.choice(list(spec.own(spec.document.values)))
    value = spec.value(path)
    new = next(text for kind, text in WRONG if isinstance(value, kind))
    return None if path[-1] == "max_grad_norm" else spec.replaced(span, new)  # which a number may stand for


def leave_the_range(spec: Good, draw: random.Random) -> str | None:
    """A layer that is not there, in `layers`, `pairs` or `initialize`."""
    numbers = [
        (path, span)
        for spans in (spec.document.keys, spec.document.values)
        for path, span in spec.own(spans)
        if {"layers", "pairs"} & set(path[2:]) and spec.written(span).lstrip("-").isdigit()
    ]
    if not numbers:
        return None
    _, span = draw.choice(numbers)
    return spec.replaced(span, str(draw.choice((-50, 50)) + int(spec.written(span))))


def of_the_hub(spec: Good, path: tuple[Any, ...]) -> bool:
    """Whether a text names what only the hub knows: a split or a column of its rows, which are read before any weight."""
    if path[0] != "tasks" or "hub" not in spec.value(path[:3]).get("data", {}):
        return False
    return "hub" in path or path[3] not in KNOWN


def misspell_a_name(spec: Good, draw: random.Random) -> str | None:
    names = [
        (p, s) for p, s in spec.own(spec.document.values) if isinstance(spec.value(p), str) and not set(FREE) & set(p)
    ]
    if not names:
        return None
    path, span = draw.choice(names)
    word = str(spec.value(path))
    if spec.written(span) != word or not any(map(str.isalpha, word)) or HUB.fullmatch(word) or of_the_hub(spec, path):
        return None
    return spec.replaced(span, misspelt(word, draw))


def change_the_width(spec: Good, draw: random.Random) -> str | None:
    """Heads that no longer divide the width, layers copied into another width, or no projection where widths differ."""
    models = str(spec.document.data["models"])
    places = [(path, span, spec.value(path)) for path, span in spec.own(spec.document.values)]
    changes = [
        (span, str(value + 1)) for path, span, value in places if path[-1] == "hidden_size" and "heads" in models
    ]
    for path, span, value in places:
        if path[-1] == "config" and "initialize" in spec.value(path[:-1]):
            width = draw.choice([width for width in (96, 192, 768) if f"hidden_size': {width}," not in models])
            changes.append((span, f"{spec.written(span)[:-1]}, hidden_size: {width}}}"))
        if isinstance(value, dict) and value.get("loss") in ("hidden_mse", "cos", "fsp") and "hidden_size" in models:
            changes += [(span, spec.written(span)[:-1] + ", projection: none}")] if "projection" not in value else []
    return spec.replaced(*draw.choice(changes)) if changes else None


def remove_a_feature(spec: Good, draw: random.Random) -> str | None:
    """An entry of an adaptor, or the feature of a match."""
    keys = [
        (p, s)
        for p, s in spec.own(spec.document.keys)
        if (p[-1] == "feature" and "matches" in p) or (p[0] == "adaptors" and len(p) == 3 and p[-1] not in AS_GOOD)
    ]
    if not keys:
        return None
    path, span = draw.choice(keys)
    value = spec.document.values[path]
    whole = Span(span.file, span.line, span.column, span.line, value.end_column)
    line = spec.text.splitlines(keepends=True)[span.line]
    if line.strip().startswith(spec.written(span)):
        lines = spec.text.splitlines(keepends=True)
        return "".join(lines[: span.line] + lines[span.line + 1 :])
    after = line[whole.end_column :]
    end = whole.end_column + (len(after) - len(after.lstrip(", ")))
    return spec.replaced(Span(span.file, span.line, span.column, span.line, end), "")


def written_in_lines(spec: Good, span: Span) -> bool:
    """Whether it is a text of several lines, `prompt: |`."""
    return spec.text.splitlines()[span.line][span.column :].startswith("|")


def shift_a_line(spec: Good, draw: random.Random) -> str | None:
    lines = spec.text.splitlines(keepends=True)
    texts = [
        span for span in spec.document.values.values() if span.file == "spec.yaml" and written_in_lines(spec, span)
    ]
    inside = {line for span in texts for line in range(span.line + 1, span.end_line + 1)}
    full = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#") and i not in inside]
    at = draw.choice(full)
    if draw.random() < 0.5 and lines[at].startswith(" "):
        lines[at] = lines[at][draw.choice((1, 2)) :] if lines[at].startswith("  ") else lines[at][1:]
    else:
        lines[at] = draw.choice((" ", "  ")) + lines[at]
    return "".join(lines)


MISTAKES: dict[str, Callable[[Good, random.Random], str | None]] = {
    "a key misspelt": misspell_a_key,
    "a value of the wrong type": change_a_type,
    "an index out of range": leave_the_range,
    "a name misspelt": misspell_a_name,
    "a width changed": change_the_width,
    "a feature removed": remove_a_feature,
    "a line shifted": shift_a_line,
}


def told(spec: Good, text: str) -> tuple[Any, bool]:
    """What the text means, and whether anything is wrong with it."""
    try:
        document = compose(text, "spec.yaml", spec.folder, (), {})
    except DiagnosticError:
        return None, True
    made = prepare(document, spec.registry)
    if made.findings or made.plan is None:
        return document.data, True
    if document.data == spec.document.data:
        return document.data, False
    return document.data, bool([d for d in rehearse(made.plan, spec.registry).findings if d.severity != "note"])


def mutations(spec: Good, seed: str, count: int) -> Iterator[tuple[str, str, bool]]:
    """So many mistakes: which, the line that has it, and whether it is told of."""
    draw = random.Random(seed)
    kinds, seen = list(MISTAKES), {spec.text}
    for _ in range(20 * count):
        kind = draw.choice(kinds)
        text = MISTAKES[kind](spec, draw)
        if text is None or text in seen:
            continue
        seen.add(text)
        data, found = told(spec, text)
        pairs = zip(text.splitlines(), spec.text.splitlines(), strict=False)
        line = next((new for new, old in pairs if new != old), "")
        if data == spec.document.data or (OTHER_NAMES.search(line) and not found):
            continue
        yield kind, line, found
        count -= 1
        if not count:
            return


def tried(spec: Good, name: str, count: int) -> tuple[int, list[str]]:
    """How many mistakes of a spec were tried, and which of them went unnoticed."""
    results = list(mutations(spec, name, count))
    return len(results), [f"{name}: {kind}: {line.strip()}" for kind, line, found in results if not found]


def judge(results: list[tuple[int, list[str]]]) -> None:
    number, missed = sum(tried for tried, _ in results), [line for _, lines in results for line in lines]
    print(f"\n{len(missed)} of {number} mistakes went unnoticed", *missed, sep="\n  ")  # noqa: T201 - the list is what the test is for
    assert not missed


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_before_its_mutation_is_fine(name, good):
    spec = good(name)
    assert told(spec, spec.text) == (spec.document.data, False)


def pytest_generate_tests(metafunc):
    if "mutated" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-spec")
        metafunc.parametrize("mutated", EVERY if every else SPECS)
        metafunc.parametrize("count", [MANY if every else FEW])


@pytest.mark.slow
def test_errors_are_reported_before_anything_is_loaded(mutated, count, good):
    judge([tried(good(mutated), mutated, count)])
