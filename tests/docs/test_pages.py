"""What the documentation says is so: its specs are valid, its code runs, its hooks and commands exist, its links lead."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import kdspec
from kdspec.api import hooks
from kdspec.api.component import Component
from kdspec.api.hooks import API_VERSION
from kdspec.api.kinds.losses import FeatureLoss, LogitLoss
from kdspec.api.spec.spec import Spec, Stage, Training
from kdspec.cli import application
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import KINDS, Registry, load_registry
from kdspec.source.extends import compose
from kdspec.testing import check_loss

ROOT = Path(__file__).parent.parent.parent
TOP = [ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = sorted([*TOP, *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")])
MARKDOWN = sorted([*PAGES, ROOT / "CHANGELOG.md", *ROOT.glob("specs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
FENCE = re.compile(
    r"(?P<fragment><!-- fragment -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
SEARCHED = '{"question": "where?", "positive": "here", "negatives": ["there", "nowhere"]}\n'
MAILS = [
    {
        "text": f"mail {number}",
        "p_spam": 0.75,
        "p_ham": 0.25,
        "ann": "spam",
        "bob": "ham" if number % 2 else "spam",
        "eve": None,
        "logprobs": [{"token": "A", "logprob": -0.125}, {"token": "The", "logprob": -3}],
    }
    for number in range(40)
]
PACKAGES = {file.parent.name.replace("-", "_"): file.parent for file in ROOT.glob("plugins/*/pyproject.toml")}
HOOKS = {name: hook for name, hook in vars(hooks).items() if name.startswith("kdspec_")}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    fragment: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The name that its first line gives it, or one that is its own."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else f"{re.sub(r'[-.]', '_', self.page.stem.lower())}_{self.line}.py"


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, at.start("text")), at["language"], at["text"], bool(at["fragment"]))
        for at in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def every(*languages: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page, *languages)]


@dataclass(frozen=True)
class Page:
    """The Python of a page as files in a folder, imported; with the registry that has what is a plugin among them."""

    folder: Path
    modules: Mapping[str, ModuleType]

    @cached_property
    def registry(self) -> Registry:
        return load_registry(*self._plugins(), installed=False)

    def _plugins(self) -> Iterator[Any]:
        """Modules with hooks, and the classes of those that have none."""
        for module in self.modules.values():
            own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
            if any(hasattr(value, f"{hooks.PROJECT}_impl") for value in own) or module.__name__ in PACKAGES:
                yield module
            else:
                yield from (value for value in own if inspect.isclass(value) and issubclass(value, Component))


FIRST_LINES = re.compile(r"^ {4}head -n (\d+) (\S+) > (\S+)$", re.MULTILINE)
"""A command of a page that takes the first lines of a file."""


@pytest.fixture(scope="module")
def page(tmp_path_factory, small_assets):
    """Imports the Python of a page, from a folder that has `assets/`."""
    before, path = set(sys.modules), list(sys.path)
    sys.path[:0] = [str(package) for package in PACKAGES.values()]
    made: dict[Path, Page] = {}

    def read(page: Path) -> Page:
        if page not in made:
            folder = tmp_path_factory.mktemp(page.stem)
            shutil.copytree(small_assets, folder / "assets")
            fine_tuned(folder / "assets" / "all-MiniLM-L6-v2")
            shutil.copytree(folder / "assets" / "all-MiniLM-L6-v2", folder / "assets" / "second-teacher")
            shutil.copy(folder / "assets/recorded/train.jsonl", folder / "assets/recorded/unlabelled.jsonl")
            (folder / "assets" / "encoded.jsonl").write_text('{"input_ids": [1], "attention_mask": [1], "labels": 0}\n')
            (folder / "assets" / "reviews.csv").write_text("review,topics\nfine,plot|music\ndull,plot\n")
            (folder / "assets" / "search.jsonl").write_text(SEARCHED)
            (folder / "assets" / "similarity.csv").write_text("sentence1,sentence2,score\na,b,0.5\nc,d,1\n")
            searched = {
                "question": "a",
                "positive": "b",
                "negatives": ["c"],
                "positive_score": 1,
                "negative_scores": [0],
            }
            (folder / "assets" / "search.jsonl").write_text(json.dumps(searched))
            shutil.copytree(ROOT / "specs" / "basics" / "data", folder / "data")
            (folder / "assets" / "topics.csv").write_text("text,topic\na new law,law\na new song,art\n")
            (folder / "assets" / "mails.jsonl").write_text("".join(json.dumps(mail) + "\n" for mail in MAILS))
            (folder / "base.yaml").write_text(BASE, encoding="utf-8")
            for number, source, target in FIRST_LINES.findall(page.read_text(encoding="utf-8")):
                lines = (folder / source).read_text(encoding="utf-8").splitlines(keepends=True)
                (folder / target).write_text("".join(lines[: int(number)]), encoding="utf-8")
            sys.path.insert(0, str(folder))
            for block in blocks(page, "python"):
                (folder / block.file).write_text(block.text, encoding="utf-8")
            names = [block.file.removesuffix(".py") for block in blocks(page, "python") if is_library(block)]
            names += [name for name, package in PACKAGES.items() if package == page.parent]
            made[page] = Page(folder, {name: importlib.import_module(name) for name in names})
        return made[page]

    yield read
    sys.path[:] = path
    folders = {each.folder for each in made.values()}
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent in folders:
            del sys.modules[name]


def fine_tuned(folder: Path) -> None:
    """Let the files in a folder not say what head they have: the fragments have a teacher that was trained for their task."""
    config = folder / "config.json"
    read = json.loads(config.read_text(encoding="utf-8"))
    del read["architectures"]
    config.write_text(json.dumps(read), encoding="utf-8")


def is_library(block: Block) -> bool:
    """Whether a block only defines things, rather than doing something."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.Assign)
        for node in ast.parse(block.text).body
    )


# What a fragment of a spec is put into, so that it says something whole.
BASE = """
kdspec: 1
name: whole
seed: 1
tasks:
  sarcasm:
    sequence_classification:
      data:
        csv: {train: assets/headlines/train.csv, validation: assets/headlines/validation.csv}
      text: headline
      label: label
models:
  teacher: {transformers: {path: assets/all-MiniLM-L6-v2}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 3}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}} # the loss goes with the task
    training: {epochs: 1}
"""


def whole(fragment: dict[str, Any]) -> str:
    """A spec with the fragment in it: each key where it belongs, tasks and stages in place of those that are there."""
    spec: Any = yaml.safe_load(BASE)
    stage = spec["stages"]["distil"]
    for key, value in fragment.items():
        if key == "models" and isinstance(value, dict):
            spec[key] |= value
        elif key == "stages" and isinstance(value, dict):
            spec[key] = value | {name: kept for name, kept in spec[key].items() if name not in value}
        elif key in Spec.model_fields:
            spec[key] = value
        elif key in Stage.model_fields:
            stage[key] = value
        elif key in Training.model_fields:
            stage["training"].pop("epochs", None) if key == "steps" else None
            stage["training"][key] = value
        else:
            assert key in ("soft_labels", "hard_labels", "matches"), f"`{key}` belongs nowhere in a spec"
            stage["distiller"]["general"][key] = value
    return yaml.safe_dump(spec, sort_keys=False)


MADE = "<!-- Made by docs/generate.py from the code; change the docstrings there. -->"


def written_by_hand(page: Path) -> bool:
    return not page.read_text(encoding="utf-8").startswith(MADE)


@pytest.mark.parametrize("block", [param for param in every("yaml") if not written_by_hand(param.values[0].page)])
def test_yaml_of_the_generated_pages_can_be_read(block):
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("block", [param for param in every("yaml") if written_by_hand(param.values[0].page)])
def test_a_spec_in_the_documentation_is_valid(block, page):
    read = page(block.page)
    text = whole(yaml.safe_load(block.text)) if block.fragment else block.text
    made = prepare(compose(text, str(block), read.folder, environ={}), read.registry)
    # What a fragment leaves out is not its mistake.
    beside = ("is not used", "are noise") if block.fragment else ()
    assert [found for found in made.findings if not any(text in found.message for text in beside)] == []
    assert made.plan is not None, made.errors


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "python")], ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_in_the_documentation_load_and_their_losses_hold(path, page):
    registry = page(path).registry
    assert registry.problems == ()
    for entry in registry.entries:
        if not entry.builtin and entry.component.kind in (LogitLoss.kind, FeatureLoss.kind):
            check_loss(entry.component())


def stands_alone(block: Block) -> bool:
    """Whether a block needs no other; those of docs/python.md have a test of their own."""
    return block.page.name != "python.md" and not is_library(block)


@pytest.mark.parametrize("block", [param for param in every("python") if stands_alone(param.values[0])])
def test_python_in_the_documentation_runs(block, tmp_path, monkeypatch):
    for run in re.findall(r"runs/([\w-]+)/student", block.text):
        leave_a_student(tmp_path / "runs" / run / "student", STUDENTS[run])
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block.text, str(block), "exec"), {"__name__": "example"})
    assert ("print(" in block.text) == bool(out.getvalue())


STUDENTS = {
    "quickstart": "AutoModelForSequenceClassification",
    "api": "AutoModelForSequenceClassification",
    "english_names": "AutoModelForTokenClassification",
    "english_questions": "AutoModelForQuestionAnswering",
}
"""The class in transformers of the students that the pages load, by the name of their run."""


def leave_a_student(folder: Path, kind: str) -> None:
    import transformers

    from kdspec.testing import tiny

    tiny(folder, max_position_embeddings=256)
    getattr(transformers, kind).from_pretrained(folder, num_labels=2).save_pretrained(folder)


TESTS = [param for param in every("python") if param.values[0].file.startswith("test_")]


@pytest.mark.slow
@pytest.mark.parametrize("block", TESTS)
def test_tests_in_the_documentation_pass(block, page, tmp_path):
    module = page(block.page).modules[block.file.removesuffix(".py")]
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert tests
    for number, test in enumerate(tests):
        (own := tmp_path / str(number)).mkdir()
        test(**({"tmp_path": own} if inspect.signature(test).parameters else {}))


@pytest.mark.parametrize("block", every("toml"))
def test_toml_in_the_documentation_can_be_read(block):
    assert tomllib.loads(block.text)


def test_the_diagnostic_in_the_readme_is_one_that_is_recorded():
    recorded = (ROOT / "tests" / "diagnostics" / "kd302_no_projection.txt").read_text(encoding="utf-8")
    (shown,) = [block.text for block in blocks(ROOT / "README.md", "text") if block.text.startswith("error[")]
    assert recorded.replace("kd302_no_projection.yaml", "distil.yaml").startswith(shown)


def test_each_block_has_a_language():
    fences = re.compile(r"^```(.*)$", re.MULTILINE)
    for path in MARKDOWN:
        opening = fences.findall(path.read_text(encoding="utf-8"))[::2]
        assert set(opening) <= {"yaml", "python", "toml", "text", "json", "console"}, path


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_section_with_its_arguments(name):
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert f"### `{name}({arguments})`\n" in text


def test_the_sections_on_hooks_are_of_hooks():
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(\w+)\(", text, re.MULTILINE) == list(HOOKS)


def test_every_kind_is_in_the_table_of_kinds():
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE) == [
        kind.__name__ for kind in sorted(KINDS, key=lambda kind: text.index(f"| `{kind.__name__}` |"))
    ]


def test_the_plugin_api_is_the_version_that_the_documentation_names():
    assert f"KDSPEC_API = {API_VERSION}" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    return [module.rpartition(".")[2].replace("listing", "list").replace("_", "-") for module in application.COMMANDS]


def test_every_command_is_in_a_page_that_is_written_by_hand():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if written_by_hand(page))
    assert [name for name in commands() if not re.search(rf"kdspec (\w+, )*{name}\b", text)] == []


INDEXES = {
    "docs/README.md": ("*.md", "*/README.md"),
    "docs/components.md": ("components/*.md",),
    "docs/gallery.md": ("gallery/*.md",),
    "docs/tutorials/README.md": ("*.md",),
    "docs/zh/README.md": ("*.md",),
}
"""The pages that list others, and those that they list."""


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_lists_every_page_once_with_what_it_covers(index):
    path = ROOT / index
    text = path.read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[[^\]]+\]\(([\w-]+(?:/[\w-]+)?\.md)\) \| \w.* \|$", text, re.MULTILINE)
    there = {page for pattern in INDEXES[index] for page in path.parent.glob(pattern)} - {path}
    assert sorted(listed) == sorted(page.relative_to(path.parent).as_posix() for page in there)


def test_each_page_is_in_an_index():
    listed = {page for index, kinds in INDEXES.items() for kind in kinds for page in (ROOT / index).parent.glob(kind)}
    assert set(ROOT.glob("docs/**/*.md")) <= {ROOT / "docs" / "README.md", *listed}


@pytest.mark.parametrize(
    "path", [p for p in PAGES if p.is_relative_to(ROOT / "docs")], ids=lambda p: str(p.relative_to(ROOT / "docs"))
)
def test_a_page_opens_with_a_sentence_on_what_it_is_for(path):
    text = path.read_text(encoding="utf-8").removeprefix(f"{MADE}\n\n")
    title, _, first = text.partition("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    assert re.match(r"[A-Z\u4e00-\u9fff][^|#<`]+", first)


WORDS = """
adaptor, batch size, best checkpoint, checkpoint, DDP, early exit, early stopping, field path, forward hook, FSDP2,
gradient accumulation, gradient checkpointing, gradient clipping, hard labels, layer mapping, learning-rate schedule,
length-grouped, length-sorted micro-batches, mixed precision, NaN, non-finite, OOM, out of memory, padding, projection,
reproducibility, resume, seed, soft labels, teacher cache, temperature, torch.compile, torchrun, warmup
"""


@pytest.mark.parametrize("word", re.split(r",\s+", WORDS.strip()))
def test_the_words_that_people_search_for_are_in_the_guide(word):
    text = " ".join(page.read_text(encoding="utf-8") for page in PAGES if written_by_hand(page))
    assert re.search(word.replace(" ", r"\s+"), text, re.IGNORECASE)


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_the_documentation_calls_a_command_is_one(path):
    text = path.read_text(encoding="utf-8")
    indented = re.findall(r"^ {4}kdspec ([a-z][a-z-]*)", text, re.MULTILINE)
    inline = re.findall(r"`kdspec ([a-z][a-z-]*)", text)
    added = re.findall(r"commands\.command\(\"(\w+)\"", text)
    assert set(indented + inline) - {*commands(), *added} == set()


LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?://|mailto:)([^)\s]*)\)")


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    lost = []
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert lost == []


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_changelog_has_a_section_for_what_comes_and_one_for_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.findall(r"^## \[(.*?)\]", text, re.MULTILINE)[:2] == ["Unreleased", version]
    released = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert re.search(r"^- \S", released[1], re.MULTILINE)


def test_all_names_what_is_public_in_order():
    tree = ast.parse(Path(kdspec.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdspec.")
        for alias in node.names
    }
    kinds = {name: 0 if name.isupper() else 1 if name[0].isupper() else 2 for name in kdspec.__all__}
    assert kdspec.__all__ == sorted(
        kdspec.__all__, key=lambda name: (kinds[name], name)
    )  # constants, classes, functions
    assert set(kdspec.__all__) == imported


@pytest.mark.parametrize("name", kdspec.__all__)
def test_a_public_name_can_be_imported_and_has_a_docstring(name):
    value = getattr(kdspec, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
        assert value.__doc__
