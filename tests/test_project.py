"""Rules that the project keeps as a whole: its layout, its modules, its pins."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "kdspec").rglob("*.py"))
TOP_LEVEL = {
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "README.zh.md",
    "SECURITY.md",
    "benchmarks",
    "constraints.txt",
    "docs",
    "kdspec",
    "plugins",
    "pyproject.toml",
    "specs",
    "tests",
}
SILENCED = re.compile(r"# (?:ruff: )?(?:noqa|type: ignore)\b(?:: [A-Z0-9, ]+)?(?:\[[a-z, -]+\])?(?P<reason>.*)")
MUTABLE_DISPLAYS = (ast.Dict, ast.DictComp, ast.List, ast.ListComp, ast.Set, ast.SetComp)
MUTABLE_CALLS = {"ChainMap", "Counter", "OrderedDict", "bytearray", "defaultdict", "deque", "dict", "list", "set"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def module_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import, those under a top-level `if`, `try`, `with` or loop included."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from module_statements(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from module_statements(handler.body)


def mutable_globals(source: str) -> list[str]:
    """The names to which a module assigns a dict, list or set; `__all__` is one by custom."""
    found = []
    for statement in module_statements(ast.parse(source).body):
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        called = value.func if isinstance(value, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if isinstance(value, MUTABLE_DISPLAYS) or name in MUTABLE_CALLS:
            found += [ast.unparse(target) for target in targets]
    return [name for name in found if name != "__all__"]


def silenced(source: str) -> list[str]:
    """The lines that silence a checker without a reason, which is behind the rule or in a comment right above."""
    found, above = [], ""
    for line in source.splitlines():
        if (told := SILENCED.search(line)) and not told["reason"].strip(" -#") and not above.strip().startswith("# "):
            found.append(line.strip())
        above = line
    return found


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    entries = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in entries}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    texts = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(text for e in extras for text in e),
    ]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("target", ["help", "setup", "fetch", "quickstart", "test", "fast", "lint", "dist", "clean"])
def test_the_makefile_has_the_target_and_its_help(target):
    assert re.search(rf"^{target}:.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in (ROOT / "README.md").read_text()
    assert re.findall(r"^exec .*$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE) == ["exec make test </dev/null"]


def test_the_workflow_runs_the_same_on_the_python_of_the_package():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    versions = [step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [f">={version}" for version in versions] == [project["requires-python"]]


def test_the_top_level_holds_only_what_belongs_there():
    entries = {path.parts[0] for path in tracked()}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]


def test_no_module_is_a_drawer_for_odds_and_ends():
    drawers = {"base", "common", "helpers", "manager", "utils"}
    assert [str(path) for path in tracked() if path.stem in drawers] == []


def test_a_module_is_at_most_400_lines_long():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > 400} == {}


def test_a_module_opens_by_saying_what_it_is():
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_a_module_has_no_mutable_globals():
    found = {path: mutable_globals(path.read_text(encoding="utf-8")) for path in MODULES}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "names = []",
        "names: dict[str, int] = {}",
        "names = {name for name in 'ab'}",
        "names = collections.defaultdict(list)",
        "if True:\n    names = set()",
        "try:\n    import x\nexcept ImportError:\n    names = dict(a=1)",
    ],
)
def test_a_mutable_global_is_found(source):
    assert mutable_globals(source) == ["names"]


@pytest.mark.parametrize(
    "source",
    [
        "names = ()",
        "names = MappingProxyType({'a': 1})",
        "names = frozenset({'a'})",
        "def f():\n    names = []",
        "class A:\n    names = {}",
        "__all__ = ['A']",
    ],
)
def test_what_is_not_a_mutable_global_is_left_alone(source):
    assert mutable_globals(source) == []


def test_every_requirement_has_a_pin_in_its_range():
    pinned = pins()
    assert [str(each) for each in requirements() if pinned[canonicalize_name(each.name)] not in each.specifier] == []


def test_a_checker_is_silenced_with_a_reason():
    sources = [path for path in tracked() if path.suffix == ".py"]
    found = {str(path): silenced((ROOT / path).read_text(encoding="utf-8")) for path in sources}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("rule", ["noqa", "noqa: S101", "noqa: S101, S311", "type: ignore", "type: ignore[a-b, c]"])
def test_a_rule_without_a_reason_is_found(rule):
    line = f"call()  # {rule}"
    assert silenced(line) == [line]
    assert silenced(f"{line} - why") == silenced(f"{line}  # why") == silenced(f"# why\n{line}") == []


def test_pins_have_no_local_label():
    assert [name for name, version in pins().items() if version.local] == []


def test_no_tracked_file_names_a_folder_of_one_machine_or_a_registry_host():
    # Written in parts, so that this file does not hold what it looks for.
    folders = "|".join(("wor" + "k", "tm" + "p"))
    hosts = "|".join(("pypi" + r"\.org", "python" + r"hosted\.org", "npm" + r"js\.(?:org|com)"))
    unwanted = re.compile(rf"(?<![\w.])/(?:{folders})/|{hosts}".encode())
    found = [
        f"{path}:{number}"
        for path in tracked()
        for number, line in enumerate((ROOT / path).read_bytes().splitlines(), start=1)
        if unwanted.search(line)
    ]
    assert found == []


FOREIGN = {
    "a module or a configuration of transformers": """
        builtins/models/transformers.py pad_token_id
        engine/forward/batch_invariance.py config model_type pad_token_id
        engine/forward/attention/attention_weights.py config _attn_implementation is_causal reorder_and_upcast_attn
        engine/forward/models.py config _attn_implementation gradient_checkpointing
        engine/forward/parameter_tree.py _from_config auto_map
        networks/module_digest.py config to_dict
        hf/configuration.py auto_map head_dim pad_token_id vocab_size
        hf/positions.py max_position_embeddings
        engine/forward/position_limit.py config
        hf/layer_copies.py config num_hidden_layers base_model_prefix
        hf/loading.py base_model_prefix
        hf/output_head.py config final_logit_softcapping get_output_embeddings logit_scale logits_scaling
        testing/tiny_models.py type_vocab_size
    """,
    "a tokenizer of transformers": """
        data/row_cache.py backend_tokenizer
    """,
    "the type of a column of datasets": """
        data/label_columns.py feature names
    """,
    "a node of the graph of autograd": """
        ops/leaves.py variable
    """,
    "whatever a model returns": """
        api/paths/path_steps.py shape _asdict __dict__ _fields
        testing/loss_suite.py shape
    """,
    "an error, which has a reason only if the system gave one": """
        cli/commands/init.py strerror
        cli/commands/schema.py strerror
        data/files/file_text.py strerror
        textbrewer/python_source.py lineno offset msg
    """,
    "a module of Python or a node of its syntax": """
        api/docstrings.py __file__
        engine/run/lock.py F_OFD_GETLK
        registry/plugins.py KDSPEC_API __name__
        testing/component_suite.py __file__
        textbrewer/python_source.py id
        textbrewer/script.py id
    """,
}
"""What is asked for by name though it may not be there, by what it is an attribute of: nothing that kdspec has a class for."""


def entries(lines: str) -> set[tuple[str, str]]:
    """A file and a name for each name of a line."""
    return {(file, name) for file, *names in map(str.split, lines.strip().splitlines()) for name in names}


def asked_by_name(source: str) -> Iterator[str]:
    """The literal names that `getattr` with a default and `hasattr` look for."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant):
                yield str(name.value)


def test_capabilities_are_declared_and_not_asked_for_by_name():
    """A task, an objective, a loss, a model or a strategy has its members by its base class, with defaults."""
    allowed = set[tuple[str, str]]().union(*map(entries, FOREIGN.values()))
    package = ROOT / "kdspec"
    found = {
        (path.relative_to(package).as_posix(), name)
        for path in MODULES
        for name in asked_by_name(path.read_text(encoding="utf-8"))
    }
    assert sorted(found - allowed) == []
    assert sorted(allowed - found) == []


def test_a_name_that_is_asked_for_is_found():
    source = "getattr(task, 'draw', None)\nhasattr(loss, 'packs')\ngetattr(config, key)\nsetattr(a, 'b', 1)\n"
    assert list(asked_by_name(source)) == ["draw", "packs"]
