"""The layers of the package: a module imports from lower ones, and within its own layer never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import kdspec

ROOT = Path(kdspec.__file__).parent

LAYERS = {
    0: "source nodes reader reference scalars syntax substitution overrides compose confidential diagnostics codes documentation fieldpath events "
    "fault ops tables columns tagging extraction",
    1: "answers built component context kinds step match objective soft_labels several_tasks sampling terms heads hookspecs paths "
    "families initialization configuration caching loading networks vectors texts text_rows splitting words labels masking "
    "tagged row_files losses reducing encoded",
    2: "plugins registry",
    3: "spec check schema",
    4: "plan expansion pairing projecting layering batching idle resolve outline difference planfile textbrewer",
    5: "rehearsal engine",
    6: "render report pages cli testing __main__",
}
BUILTINS = "builtins"
PACKAGE = "__init__"  # re-exports what plugins need; nothing inside imports it


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


def own_imports(module: str) -> set[str]:
    found = {name.removeprefix("kdspec.") for name in imported(module) if name.startswith("kdspec.")}
    return {name for name in found if top(name) in {top(m) for m in modules()} - {PACKAGE}}


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_layer(module: str) -> None:
    names = {name for line in LAYERS.values() for name in line.split()} | {BUILTINS, PACKAGE}
    assert top(module) in names


@pytest.mark.parametrize("module", [m for m in modules() if top(m) not in (BUILTINS, PACKAGE)])
def test_a_module_imports_from_lower_layers(module: str) -> None:
    higher = {name for name in own_imports(module) if top(name) == BUILTINS or layer(name) > layer(module)}
    assert not higher, f"{module} is in layer {layer(module)}"


@pytest.mark.parametrize("module", [m for m in modules() if top(m) == BUILTINS])
def test_built_ins_import_what_a_third_party_may(module: str) -> None:
    """Layers 0 and 1, and not one another: each of them could be a package of its own."""
    assert not {name for name in own_imports(module) if top(name) == BUILTINS or layer(name) > 1}


def test_within_a_layer_nothing_is_circular() -> None:
    known = set(modules())
    graph: dict[str, set[str]] = {}
    for module in known - {PACKAGE}:
        targets = own_imports(module)
        graph[module] = {name for name in targets if name in known and name != module}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", ["kdspec", "kdspec.check", "kdspec.plan", "kdspec.cli", "kdspec.registry"])
def test_the_language_is_torch_free(module: str) -> None:
    code = f"import sys, {module}; from kdspec import load_registry; load_registry()\n"
    code += "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


TORCH_AT_TOP = (
    "ops",
    "engine",
    "rehearsal",
    "objective",
    "networks",
    "soft_labels",
    "several_tasks",
    "initialization",
    "testing",
)


@pytest.mark.parametrize("module", [m for m in modules() if top(m) not in TORCH_AT_TOP])
def test_heavy_packages_are_imported_where_they_are_needed(module: str) -> None:
    tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
    heavy = {"torch", "transformers", "datasets", "torchmetrics"}
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not heavy & {top(name) for name in names}
