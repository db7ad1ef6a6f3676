"""Writes the reference pages of this folder from the code: `python docs/generate.py`, or `--check` to compare only."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import kdspec
from kdspec import load_registry
from kdspec.api.component import Component, Strict
from kdspec.api.spec.match import Match
from kdspec.api.spec.spec import Spec
from kdspec.cli import exits
from kdspec.cli.application import application
from kdspec.diagnostics.codes.table import CODES
from kdspec.registry.registry import KINDS, Registry, RegistryEntry
from kdspec.render.components import plural
from kdspec.render.example import example
from kdspec.render.parameters import parameters, words, written
from kdspec.spec import json_schema

HERE = Path(__file__).parent
SPECS = HERE.parent / "specs"
PLANS = HERE.parent / "tests" / "specs" / "plans"
BENCHMARKS = HERE.parent / "benchmarks"
MADE = "<!-- Made by docs/generate.py from the code; change the docstrings there. -->"
GROUPS = {
    "0": "Text",
    "1": "Shape",
    "2": "Names and plugins",
    "3": "Meaning",
    "4": "Rehearsal",
    "5": "Run",
    "6": "Other formats",
}
WIDTH = 100


def pages() -> dict[str, str]:
    """Each file of this folder that is made, and what it should hold."""
    registry = load_registry(installed=False)
    made = {
        **gallery_pages(),
        "spec.md": spec_page(),
        **component_pages(registry),
        "diagnostics.md": diagnostics_page(),
        "commands.md": commands_page(),
        "library.md": library_page(),
    }
    return {name: f"{MADE}\n\n{text}" for name, text in made.items()} | {
        "kdspec.schema.json": json_schema.text(registry)
    }


# The spec


def spec_page() -> str:
    whole = Spec.model_json_schema()
    definitions = {**whole["$defs"], **Match.model_json_schema()["$defs"], "Match": Match.model_json_schema()}
    order = ["Stage", "Training", "GradientNorm", "Evaluate", "CheckpointSettings", "EarlyStopping", "Match", "Pair"]
    order += sorted(name for name in definitions if name not in order)
    parts = [
        "# The spec",
        "A spec is a YAML file. This page lists its keys, outermost first; any other key is an error.",
        COMPONENTS,
        COMPOSITION,
        "## Top level",
        prose(Spec),
        keys(whole),
    ]
    for name in order:
        parts += [f"## {spaced(name)}", told(definitions[name].get("description", "")), keys(definitions[name])]
    return join(parts)


COMPONENTS = """\
A **component** (a loss, a schedule, a model, ...) is written as its name, or as a mapping from its name to its
parameters:

```text
loss: kl
loss: {dkd: {alpha: 1, beta: 8}}
```

There are three short forms. A number is a constant schedule or temperature. A mapping such as `{4: 1, 8: 2}` under
`layers` pairs teacher layers with student layers. A mapping from features to field paths is an adaptor. [The components
page](components.md) lists all components by kind. `<package>/<name>` is the component of that package, whatever else is
installed."""

COMPOSITION = """\
The spec is composed before its keys are checked. `extends: base.yaml` (or a list) starts from another spec: mappings are
merged key by key, anything else is replaced. `${VAR}` and `${VAR:-default}` insert environment variables,
which are [never written down](running.md#one-spec-many-runs).
`--set stages.distil.training.epochs=3` on the command line is applied last. Paths are relative to the spec's file.
Scalars are those of YAML 1.2: `1e-4` is a number, `on` and `no` are text."""

ABOUT_COMPONENTS = """\
All components that kdspec includes, by kind. `kdspec list` lists those that are installed, from other packages too.
`kdspec show KIND NAME` describes one, with its parameters and how a spec writes it; so does the page of its kind."""

ABOUT_CODES = """\
Every mistake that kdspec finds has a code. A code is never used for another mistake. `kdspec explain KD201` prints the
same text."""

ABOUT_COMMANDS = """\
All commands with their options, as `kdspec COMMAND --help` prints them. Packages may add commands."""


def keys(model: dict[str, Any]) -> str:
    """A table of the keys of a mapping."""
    required = model.get("required", ())
    rows = []
    for name, field in model["properties"].items():
        default = "required" if name in required else code(field.get("default"))
        rows.append((f"`{name}`", type_of(field), default, inline(field.get("description", ""))))
    return table(("key", "value", "default", "meaning"), rows)


def type_of(field: dict[str, Any]) -> str:
    """What a key takes, with links to the kinds and to the other mappings of the page."""
    if isinstance(values := field.get("additionalProperties"), dict) and values:
        return f"a mapping from names, each value {type_of(values)}"
    text = words(field)
    # Longer names first: an lr schedule is not a schedule.
    kinds = sorted(KINDS, key=lambda kind: -len(kind.words()))
    pattern = "|".join(kind.words() for kind in kinds)
    targets = {kind.words(): f"[{kind.words()}](components.md#{anchor(plural(kind))})" for kind in kinds}
    text = re.sub(rf"\b({pattern})\b", lambda match: targets[match[0]], text)
    if references := re.findall(r"#/\$defs/(\w+)", str(field)):
        target = references[0]
        text = text.replace("a mapping", f"a mapping, [{spaced(target).lower()}](#{anchor(spaced(target))})", 1)
    return text


# The components


def component_pages(registry: Registry) -> dict[str, str]:
    """The page that lists all components, and a page with those of each kind that have more to say."""
    kinds = [(kind, registry.of_kind(kind.kind)) for kind in KINDS]
    kinds = [(kind, entries) for kind, entries in kinds if entries]
    detailed = {kind: [entry for entry in entries if has_more(entry)] for kind, entries in kinds}
    contents = [
        (f"[{title(kind)}](components/{file_of(kind)})" if detailed[kind] else title(kind), str(len(entries)))
        for kind, entries in kinds
    ]
    parts = ["# The components", ABOUT_COMPONENTS, table(("kind", "components"), contents)]
    made = {}
    for kind, entries in kinds:
        names = {
            entry: f"[`{entry.component.name}`](components/{file_of(kind)}#{anchor(entry.component.name)})"
            if entry in detailed[kind]
            else f"`{entry.component.name}`"
            for entry in entries
        }
        lines = [(names[entry], inline(first_paragraph(entry.component))) for entry in entries]
        parts += [f"## {title(kind)}", prose(kind), table(("name", "what it is"), lines)]
        if detailed[kind]:
            told_of = [part for entry in detailed[kind] for part in component(entry, registry)]
            made[f"components/{file_of(kind)}"] = join([f"# {title(kind)}", BACK, prose(kind), *told_of])
    return {"components.md": join(parts), **made}


BACK = (
    "Components of one kind, with their parameters; [the components page](../components.md) lists those of all kinds."
)


def has_more(entry: RegistryEntry) -> bool:
    """Whether a component has parameters, or a docstring of more than a paragraph."""
    return bool(listed(entry.component)) or "\n\n" in doc(entry.component)


def file_of(kind: type[Component]) -> str:
    """The page of the components of a kind."""
    return f"{anchor(plural(kind))}.md"


def component(entry: RegistryEntry, registry: Registry) -> Iterator[str]:
    """A component in full, with its parameters and how a spec writes it."""
    yield f"## `{entry.component.name}`"
    yield prose(entry.component)
    if listed(entry.component):
        yield listed(entry.component)
        text = example(entry.component, registry)
        if text is not None:
            yield f"```yaml\n{text}```"


def listed(component: type[Component]) -> str:
    """A table of the parameters, nested ones included; empty where there are none."""
    rows = [
        (f"`{p.path}`", cell(p.type), "required" if p.required else code(p.default), inline(p.description))
        for p in parameters(component)
    ]
    return table(("parameter", "value", "default", "meaning"), rows) if rows else ""


# The gallery of specs


ABOUT_GALLERY = """\
What each spec of [specs/](../specs/README.md) trains: its first comment, the stages of its plan with their losses, and its result
where one was recorded. `kdspec init --from FOLDER/NAME` copies one to start from."""

SHELVES = {
    "basics": "One theme each",
    "tasks": "Tasks on real data",
    "embeddings": "Embeddings and search",
    "answers": "Answers as teachers",
    "students": "Other students",
    "recipes": "Recipes of papers",
    "plugins": "With a plugin",
    "textbrewer": "TextBrewer's published results",
}
"""The folders of specs, in the order of the gallery, with their headings."""

WIDTHS = """\
The plans are made with small models in place of those of `specs/assets`, so widths are not those of a run; layers, losses and weights
are."""

FIGURES = {
    "quickstart": ("quickstart.md", ("teacher", "student", "student_alone")),
    "embeddings/layer_cut": ("embeddings.md", ("its first and last layer, distilled",)),
    "embeddings/static_student": ("embeddings.md", ("one vector a token (`static`), distilled",)),
    "embeddings/multilingual_student": ("embeddings.md", ("6 layers of it, distilled",)),
}
"""The page of the benchmarks with the results of a spec, and the first cells of its rows; those of tasks have its name."""


def gallery_pages() -> dict[str, str]:
    """The page that lists the folders of specs, and a page for each."""
    shelves = [
        (f"[{heading}](gallery/{folder}.md)", ", ".join(spec.stem for spec in shelf(folder)))
        for folder, heading in SHELVES.items()
    ]
    made = {"gallery.md": join(["# The gallery of specs", ABOUT_GALLERY, table(("specs", "names"), shelves)])}
    for folder, heading in SHELVES.items():
        parts = [f"# {heading}", WIDTHS]
        for spec in shelf(folder):
            parts += shown_spec(spec)
        made[f"gallery/{folder}.md"] = join(parts)
    return made


def shelf(folder: str) -> list[Path]:
    """The specs of a folder by name; the quickstart is the first of the basics."""
    first = [SPECS / "quickstart.yaml"] if folder == "basics" else []
    return [*first, *sorted((SPECS / folder).glob("*.yaml"))]


def shown_spec(spec: Path) -> Iterator[str]:
    """A spec in the gallery."""
    name = spec.relative_to(SPECS).with_suffix("").as_posix()
    yield f"## {spec.stem}"
    yield f"{comment(spec)} [The spec](../../specs/{name}.yaml)."
    yield f"```text\n{stages_of(PLANS / f'{name}.txt')}\n```"
    if results := recorded(name):
        yield results


def comment(spec: Path) -> str:
    """The first paragraph of the comment at the top of a spec."""
    lines = [
        line.removeprefix("#").strip()
        for line in spec.read_text(encoding="utf-8").partition("\nkdspec:")[0].split("\n")
    ]
    return " ".join(lines[: lines.index("")] if "" in lines else lines)


def stages_of(plan: Path) -> str:
    """The stages of a recorded plan, each with its terms."""
    blocks = plan.read_text(encoding="utf-8").split("\n\n")
    return "\n\n".join(block.strip("\n") for block in blocks if block.startswith("stage "))


def recorded(name: str) -> str:
    """The rows that a page of the benchmarks has on a spec, of the first table with such rows; empty if it has none."""
    own = ("tasks.md", (name.removeprefix("tasks/"),)) if name.startswith("tasks/") else ("", ())
    page, cells = FIGURES.get(name, own)
    if not page:
        return ""
    tables = re.findall(r"(?:^\|.*\n)+", (BENCHMARKS / page).read_text(encoding="utf-8"), re.MULTILINE)
    for header, rule, *rows in (lines.splitlines() for lines in tables):
        if mine := [row for row in rows if row.startswith(tuple(f"| {cell} |" for cell in cells))]:
            link = f"Recorded in [benchmarks/{page}](../../benchmarks/{page}):"
            return "\n".join([link, "", header, rule, *mine])
    return ""


# The diagnostics and the commands


def diagnostics_page() -> str:
    parts = [
        "# The diagnostics",
        ABOUT_CODES,
    ]
    for digit, heading in GROUPS.items():
        codes = [known for known in CODES.values() if known.code[2] == digit]
        if codes:
            parts += [
                f"## {heading}",
                table(("code", "what is wrong"), [(link(c.code, c.title), c.title) for c in codes]),
            ]
        for known in codes:
            parts += [f"### {known.code}: {known.title}", told(known.text)]
    return join(parts)


def link(number: str, heading: str) -> str:
    return f"[{number}](#{anchor(f'{number}: {heading}')})"


def commands_page() -> str:
    group: Any = application()
    parts = ["# The commands", ABOUT_COMMANDS]
    parts += ["## kdspec", helped(group, "kdspec")]
    for name, command in group.commands.items():
        parts += [f"## kdspec {name}", helped(command, f"kdspec {name}")]
    rows = [(f"`{value}`", meaning) for value, meaning in exit_codes()]
    parts += ["## Exit codes", table(("code", "meaning"), rows)]
    return join(parts)


def helped(command: Any, name: str) -> str:
    context = command.context_class(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    # The commands of other packages are added where a group is asked for its list; here it has only its own.
    if hasattr(command, "_complete"):
        command._complete = True  # noqa: SLF001 - there is no public way to leave them out
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    return "```text\n" + "\n".join(lines).strip() + "\n```"


def exit_codes() -> Iterator[tuple[int, str]]:
    """The members of ExitCode with the docstrings below them, which Python does not keep."""
    (body,) = (
        node.body for node in ast.parse(inspect.getsource(exits.ExitCode)).body if isinstance(node, ast.ClassDef)
    )
    for member, text in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr):
            yield ast.literal_eval(member.value), inline(ast.literal_eval(text.value))


# The library


LIBRARY = ("api/spec/bounds", "events", "objectives", "data", "hf", "networks")
"""The modules and packages that are documented name by name, besides `kdspec` itself and `kdspec.ops`."""

ABOUT_LIBRARY = """\
What plugins may import from kdspec, besides the names of `kdspec` itself and the functions of `kdspec.ops`. The
components that kdspec includes are made of these parts; so may yours be. A name that is not here may change in any
version."""


def library_page() -> str:
    parts = ["# The library", ABOUT_LIBRARY]
    for place in LIBRARY:
        for name, tree in module_trees(place):
            rows = [(f"`{public}{called}`", inline(first_line(text))) for public, called, text in public_names(tree)]
            own = place.replace("/", ".") == name
            if rows or own:
                level = "##" if own else "###"
                parts += [f"{level} kdspec.{name}", told(ast.get_docstring(tree) or "")]
            if rows:
                parts.append(table(("name", "what it is"), rows))
    return join(parts)


def module_trees(place: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules of a package, or a module alone, each with its dotted name below `kdspec`; the package first."""
    root = Path(kdspec.__file__).parent
    folder = root / place
    files = sorted(folder.rglob("*.py"), key=lambda file: (file.name != "__init__.py", file.as_posix()))
    for file in files or [folder.with_suffix(".py")]:
        dotted = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        yield dotted, ast.parse(file.read_text(encoding="utf-8"))


def public_names(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """The documented names that a module defines, in order: each with its arguments or fields, and its docstring."""
    for node, text in pairwise([*tree.body, ast.Pass()]):
        called = ""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name, docstring = node.name, ast.get_docstring(node)
            called = arguments(node) if isinstance(node, ast.FunctionDef) else record_fields(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(text, ast.Expr):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name, docstring = ast.unparse(target), ast.literal_eval(text.value)
        else:
            continue
        if docstring and not name.startswith("_"):
            yield name, called, docstring


def arguments(node: ast.FunctionDef) -> str:
    """The names of a function's arguments as it is called; those after `*` are given by name."""
    given = node.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    names += [f"*{given.vararg.arg}"] if given.vararg else ["*"] if given.kwonlyargs else []
    names += [argument.arg for argument in given.kwonlyargs]
    return f"({', '.join(names)})"


def record_fields(node: ast.ClassDef) -> str:
    """The fields of a data class; empty for any other class."""
    decorators = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    if not any(isinstance(each, ast.Name) and each.id == "dataclass" for each in decorators):
        return ""
    own = [
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    return f"({', '.join(name for name in own if not name.startswith('_'))})"


def first_line(text: str) -> str:
    """The first sentence or paragraph of a docstring."""
    return inspect.cleandoc(text).partition("\n\n")[0]


# Markdown


def doc(model: type[Strict]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def prose(model: type[Strict]) -> str:
    return told(doc(model))


def first_paragraph(model: type[Strict]) -> str:
    return doc(model).partition("\n\n")[0]


def told(text: str) -> str:
    """A docstring as Markdown: lines that begin with a label such as `Paper:` become a list."""
    lines: list[str] = []
    within = False
    for line in text.splitlines():
        if label := re.match(r"(Paper|Reduction|Mask|T²|Shapes?|Note|Gradient): ", line):
            if lines and lines[-1] and not within:
                lines.append("")
            within = True
            lines.append(f"- **{label[1]}:** {line[label.end() :]}")
        elif within and line:
            lines.append(f"  {line}")
        else:
            within = False
            lines.append(line)
    return "\n".join(lines)


def inline(text: str) -> str:
    return cell(" ".join(text.split()))


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def code(default: Any) -> str:
    return "" if default is None else f"`{cell(written(default))}`"


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def anchor(heading: str) -> str:
    """The name that Markdown viewers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def title(kind: type[Component]) -> str:
    return plural(kind).capitalize()


def join(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` report which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    check = parser.parse_args(arguments).check
    made = pages()
    there = [*(HERE / name for name in made), *HERE.glob("components/*.md"), *HERE.glob("gallery/*.md")]
    old = {file.relative_to(HERE).as_posix(): file.read_text(encoding="utf-8") for file in there if file.is_file()}
    stale = [name for name in made if old.get(name) != made[name]]
    stale += [name for name in old if "/" in name and name not in made]
    if check and stale:
        print(f"stale: {', '.join(f'docs/{name}' for name in stale)}; run: python docs/generate.py", file=sys.stderr)
        return 1
    for name in stale:
        file = HERE / name
        if name in made:
            file.parent.mkdir(exist_ok=True)
            file.write_text(made[name], encoding="utf-8")
        else:
            file.unlink()
        print(f"{'wrote' if name in made else 'removed'} docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
