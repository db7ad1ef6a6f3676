"""The layers of the package: a module imports from lower ones, and within its own layer never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import kdspec

ROOT = Path(kdspec.__file__).parent

LAYERS = {
    0: "diagnostics source ops events",
    1: "api",
    2: "objectives data hf networks",
    3: "builtins registry spec",
    4: "planning textbrewer",
    5: "engine",
    6: "rehearsal",
    7: "report render launch sweep cli testing __main__",
}
BUILTINS = "builtins"
PACKAGE = "__init__"  # re-exports what plugins need; nothing inside imports it


@cache
def modules() -> list[str]:
    paths = (path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))
    return sorted(".".join(path.parts) for path in paths)


def top(module: str) -> str:
    return module.partition(".")[0]


def layer(module: str) -> int:
    return next(number for number, names in LAYERS.items() if top(module) in names.split())


def imported(module: str) -> Iterator[str]:
    """The kdspec modules that a module imports when it runs, inside functions too; not those for type checkers alone."""
    tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
    for node in outside_type_checking(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            yield node.module or ""
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if node.module in ("kdspec", "kdspec.ops")
            )


def outside_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from outside_type_checking(child)


@cache
def typed_imports(module: str) -> set[str]:
    """The modules of kdspec that a module imports anywhere, for type checkers alone too."""
    tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
    known, found = set(modules()), set()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        inner = (name.removeprefix("kdspec.") for name in names if name.startswith("kdspec."))
        found |= {name for name in inner if name in known} | ({PACKAGE} if "kdspec" in names else set())
    return found


@cache
def own_imports(module: str) -> set[str]:
    found = {name.removeprefix("kdspec.") for name in imported(module) if name.startswith("kdspec.")}
    known = {top(m) for m in modules()} - {PACKAGE}
    return {name for name in found if top(name) in known}


def test_every_module_has_a_layer() -> None:
    names = {name for line in LAYERS.values() for name in line.split()} | {PACKAGE}
    assert [module for module in modules() if top(module) not in names] == []


def test_a_module_imports_from_lower_layers() -> None:
    placed = [module for module in modules() if top(module) not in (BUILTINS, PACKAGE)]
    wrong = {
        module: higher
        for module in placed
        if (higher := {n for n in own_imports(module) if top(n) == BUILTINS or layer(n) > layer(module)})
    }
    assert wrong == {}


def test_built_ins_import_what_a_third_party_may() -> None:
    """Layers 0 and 1, and not one another: each of them could be a package of its own."""
    wrong = {
        module: inner
        for module in modules()
        if top(module) == BUILTINS
        and (inner := {name for name in own_imports(module) if top(name) == BUILTINS or layer(name) > 2})
    }
    assert wrong == {}


def test_nothing_is_circular_not_even_for_types() -> None:
    graph = {module: {name for name in typed_imports(module) if name != module} for module in modules()}
    del graph[PACKAGE]
    TopologicalSorter(graph).prepare()


def test_types_come_from_lower_layers_too() -> None:
    """What a module names for type checkers alone, it knows: so it is no later than the module itself."""
    placed = [module for module in modules() if module != PACKAGE]
    wrong = {
        module: higher
        for module in placed
        if (higher := {n for n in typed_imports(module) if n != module and not _may_know(module, n)})
    }
    assert wrong == {}


def _may_know(module: str, other: str) -> bool:
    if other == PACKAGE:
        return top(module) == BUILTINS or layer(module) == max(LAYERS)
    if top(module) == BUILTINS:
        return top(other) != BUILTINS and layer(other) <= 2
    return top(other) != BUILTINS and layer(other) <= layer(module)


def test_the_language_is_torch_free() -> None:
    code = "import sys, kdspec, kdspec.spec.check, kdspec.planning.plan, kdspec.cli, kdspec.registry.registry\nkdspec.load_registry()\n"
    code += "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


TORCH_AT_TOP = (
    "api.working.objective",
    "ops",
    "api.working.logits",
    "engine",
    "rehearsal",
    "objectives.answer_groups",
    "objectives.distillation",
    "objectives.hard_labels",
    "objectives.labelled_positions",
    "objectives.soft_labels",
    "objectives.multi_task",
    "networks.text_networks",
    "networks.static_embeddings",
    "networks.pooling",
    "networks.merged_head",
    "networks.recorded_scores",
    "hf.layer_copies",
    "hf.prompted.answer_reader",
    "hf.embedding.readout_facts",
    "hf.embedding.text_embedder",
    "hf.scoring.bi_encoder",
    "hf.scoring.pair_scorer",
    "testing",
)


def at_import(module: str) -> Iterator[str]:
    """The packages that a module imports while it is itself imported."""
    for node in ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from map(top, names)


def test_heavy_packages_are_imported_where_they_are_needed() -> None:
    heavy = {"torch", "transformers", "datasets", "torchmetrics"}
    light = [module for module in modules() if not {top(module), module} & {*TORCH_AT_TOP}]
    assert [module for module in light if heavy & {*at_import(module)}] == []


LOOSE = {"__init__", "__main__", "events"}
LARGEST = 17  # modules of a folder; about fifteen, beyond which it has topics of its own
TOLD_APART = ("cli", "render", "report", "builtins", "textbrewer", "testing", "rehearsal", "api")
"""Folders that make plain what a module is whose name another folder has too: `render/plan`, `cli/commands/plan`."""


def test_no_module_lies_loose_at_the_top() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == LOOSE


def test_a_folder_with_many_modules_has_folders_by_topic() -> None:
    folders = [ROOT, *(path for path in ROOT.rglob("*") if path.is_dir())]
    sizes = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) - 1 for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > LARGEST} == {}


def test_a_module_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for module in modules():
        if top(module) not in TOLD_APART and not module.endswith(PACKAGE):
            places.setdefault(module.rpartition(".")[2], []).append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
