"""The whole front end on texts that nobody would write: a diagnostic or a plan, soon, and never a traceback.

Every text goes through reading, composing, checking and planning, and what was found through each way of telling it. The
short form runs with every test; the long one, 1,500 texts, with `-m slow -s`, which also prints the worst figures.
"""

from __future__ import annotations

import copy
import random
import re
import resource
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from cpu_seconds import cpu_seconds

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.place import place
from kdspec.planning.prepare import prepare
from kdspec.planning.resolved import resolved
from kdspec.registry.registry import load_registry
from kdspec.render import diagnostics as render
from kdspec.source.document import Source
from kdspec.source.extends import compose

ROOT = Path(__file__).parent.parent.parent
SEEDS = sorted(
    [
        *(path for path in ROOT.glob("specs/**/*.yaml") if "assets" not in path.parts),
        *ROOT.glob("tests/golden/*.yaml"),
        *ROOT.glob("tests/diagnostics/*.yaml"),
    ]
)
SHORT, LONG = 100, 1500
SECONDS, MEGABYTES = 2, 300

HOSTILE = (
    "", "~", "null", "true", "no", "0", "-1", "1e400", ".nan", "-.inf", str(2**63 - 1), str(-(2**63)), "9" * 400, "1e-400",
    "0x7fffffffffffffff", "[]", "{}", "[[]]", "{a: {b: {c: d}}}", '""', '" "', "'\u202e\u0000'", '"\\0"', '"\\ud800"',
    "!!python/object/apply:os.system [id]", "!!binary aGk=", "!x y", "&a [*a]", "*nothing", "<<: 1", "? x", "- - - x",
    "../../../etc/passwd", "/dev/zero", "/etc/passwd", "~root", "file:///etc/passwd", "a" * 5000, "x/" * 300,
    "${HOME}", "${NOT_SET}", "${NOT_SET:-x}", "${", "$${x}", "${HOME:-${HOME}}", "${PATH}" * 20, "${HF_TOKEN}",
    "os:system", "__import__('os')", "output.__class__", "output" + "[0]" * 300, "output" + ".a" * 300, "(" * 400, "[" * 400,
    "{" * 100, "batch." + "x" * 3000, 'modules["' + "y" * 500 + '"].output', "output[" + "9" * 200 + "]", "output[1:2:3:4]",
    "output.logits == " * 3, "{ce: {}}", "{ce: {ce: {ce: {}}}}", "{a: 1, a: 2}", "kdspec/ce", "kdspec-dkd/dkd", "a/b/c", "CE",
    "\ufeff", "\u200b", "\u0301" * 50, "é" * 200, "\U0001f600", "\t", "#", ": :", "|", ">-", "%YAML 9.9", "---", "...",
)  # fmt: skip
ALPHABET = "{}[]:,-?&*!|>'\"%@`#\\ \n\t\r~$<=0123456789.eaxé\u2028\x00\x7f\ufeff"


@dataclass
class Found:
    """What the texts have led to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    raised: list[str] = field(default_factory=list)

    def note(self, name, path, text, registry):
        """Put a text through the front end."""
        try:
            self.outcomes[through(path, text, registry)] += 1
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            self.raised.append(f"{name}: {type(error).__name__}: {error}")


def characters(text, dice):
    """A few characters changed, put in or left out."""
    letters = list(text)
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        at = dice.randrange(len(letters) + 1)
        match dice.randrange(3):
            case 0:
                letters.insert(at, dice.choice(ALPHABET))
            case 1:
                del letters[at : at + dice.randrange(1, 9)]
            case _:
                letters[at : at + 1] = dice.choice(ALPHABET)
    return "".join(letters)


def lines(text, dice):
    """Lines left out, doubled, moved, or indented otherwise."""
    found = text.splitlines(keepends=True)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(found)) if found else 0
        match dice.randrange(5):
            case 0:
                del found[at : at + dice.randrange(1, 4)]
            case 1:
                found[at:at] = found[at : at + dice.randrange(1, 4)] * dice.choice((1, 2, 50))
            case 2 if found:
                found.insert(dice.randrange(len(found)), found.pop(at))
            case 3 if found:
                found[at] = " " * dice.randrange(9) + found[at].lstrip()
            case _ if found:
                found[at] = found[at].rstrip("\n") + dice.choice(HOSTILE) + "\n"
    return "".join(found)


def words(text, dice):
    """A value, a key or another word replaced by something hostile, or by a word from elsewhere in the text."""
    spans = [match.span() for match in re.finditer(r"[^\s:,\[\]{}]+", text)]
    for _ in range(dice.choice((1, 1, 2, 3))):
        start, end = dice.choice(spans)
        other = text[slice(*dice.choice(spans))] if dice.random() < 0.3 else dice.choice(HOSTILE)
        text = text[:start] + other + text[end:]
        spans = [match.span() for match in re.finditer(r"[^\s:,\[\]{}]+", text)] or [(0, 0)]
    return text


def trees(text, dice):
    """A part of the data left out, doubled, moved to another place, wrapped, or made large."""
    if "&" in text:  # PyYAML itself would expand what `nests` has made
        return words(text, dice)
    try:
        data = yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return words(text, dice)
    for _ in range(dice.choice((1, 1, 2, 4))):
        places = list(islice(_places(data), 2000))
        if not places:
            break
        _change(*dice.choice(places), *dice.choice(places), dice)
    return yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def _change(parent, key, other, there, dice):
    match dice.randrange(6):
        case 0:
            parent[key] = copy.deepcopy(other[there])
        case 1 if isinstance(parent, dict):
            parent[dice.choice((str(there), "x" * 200, "../x", 7, "extends"))] = parent.pop(key)
        case 2:
            parent[key] = [parent[key]] * dice.choice((1, 2, 300))
        case 3:
            for _ in range(dice.choice((1, 3, 80))):
                parent[key] = {dice.choice(("general", "ce", "x")): parent[key]}
        case 4:
            parent[key] = dice.choice(
                (None, True, -1, 2**62, 1e300, float("nan"), "", "x", [], {}, [1, [2]], {"a": {}})
            )
        case _:
            del parent[key]


def numbers(text, dice):
    """Numbers as large or small as they can be, which the checks of single values may let pass."""
    spans = [match.span() for match in re.finditer(r"(?<=[ \[])-?\d+(\.\d+)?(?=[\s,}\]])", text)]
    for start, end in sorted(dice.sample(spans, min(len(spans), dice.randrange(1, 4))), reverse=True):
        text = (
            text[:start]
            + dice.choice(
                (
                    "0",
                    "1",
                    "3",
                    "-1",
                    "9999",
                    "10000",
                    "1000000",
                    "2147483648",
                    str(2**62),
                    "0.5",
                    "1.0e-300",
                    "1.0e+300",
                )
            )
            + text[end:]
        )
    return text


def _places(data):
    waiting = [data]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            yield node, key
            waiting.append(node[key])


def nests(text, dice):
    """Anchors, aliases and merge keys that grow, or nesting without end, somewhere in the text."""
    depth, width = dice.choice((3, 9, 30)), dice.choice((2, 9, 30))
    rows = ["a0: &a0 {k: v}"]
    for level in range(1, depth):
        of = ", ".join([f"*a{level - 1}"] * width)
        rows.append(
            f"a{level}: &a{level} " + dice.choice((f"[{of}]", f"{{<<: [{of}], k{level}: v}}", f"{{x: [{of}]}}"))
        )
    deep = dice.choice(("[", "{a: ", "- ", "? ")) * dice.choice((50, 70, 3000))
    extra = "\n".join(rows) if dice.random() < 0.6 else f"deep: {deep}"
    return f"{extra}\n{text}" if dice.random() < 0.5 else f"{text}\n{extra}\n"


MUTATIONS = (characters, lines, words, words, trees, trees, trees, numbers, numbers, nests)


def texts(count):
    """So many texts, with the file that each comes from."""
    dice = random.Random(count)
    seeds = [(path, path.read_bytes().decode(errors="replace")) for path in SEEDS]
    good = [(path, text) for path, text in seeds if path.name == "fine.yaml" or path.parent.name == "golden"]
    for _ in range(count):
        path, text = dice.choice(dice.choice((seeds, good)))
        for _ in range(dice.choice((1, 1, 1, 2))):
            text = dice.choice(MUTATIONS)(text, dice) or "x"
        yield path, text


def through(path, text, registry) -> str:
    """The outcome of one text, with everything told in every way."""
    sources: dict[str, Any] = {}
    outcome = "refused text"
    try:
        document = compose(
            text, path.name, path.parent, environ={"HOME": "/root", "PATH": "x" * 999, "HF_TOKEN": "hf_x"}
        )
        sources = dict(document.sources)
        made = prepare(document, registry)
        diagnostics = [*made.misshapen, *place(made.findings, document)]
        outcome = "refused spec" if made.spec is None else "refused plan" if made.plan is None else "planned"
        if made.plan is not None:
            resolved(made.plan)
    except DiagnosticError as error:
        diagnostics = list(error.diagnostics)
        sources = {name: Source(name, each) for name, each in error.texts.items()}
    assert outcome == "planned" or any(each.severity == "error" for each in diagnostics)
    for each in diagnostics:
        render.full(each, sources, 100)
        render.concise(each, path.name)
        render.github(each, path.name)
        render.plain(each, path.name)
    return outcome


def fuzz(count: int) -> Found:
    registry, found = load_registry(installed=False), Found()
    for number, (path, text) in enumerate(texts(count)):
        name = f"{number} of {count}, from {path.relative_to(ROOT)}"
        found.slowest = max(found.slowest, (cpu_seconds(partial(found.note, name, path, text, registry)), name))
    return found


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_hostile_texts_end_in_a_diagnostic_or_a_plan(count):
    through(SEEDS[0], SEEDS[0].read_text(encoding="utf-8"), load_registry(installed=False))  # imports what is needed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = fuzz(count)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    figures = (
        f"{dict(found.outcomes)}; slowest {found.slowest[0]:.2f} s ({found.slowest[1]}); {grown:.0f} MB more memory"
    )
    print(f"\n{figures}")  # noqa: T201 - shown with -s
    assert not found.raised, "\n".join(found.raised)
    assert found.slowest[0] < SECONDS
    assert grown < MEGABYTES
    assert len(found.outcomes) >= 3, "the texts reach every part"
