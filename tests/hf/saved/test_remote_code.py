"""What asks for code is not in a folder that kdspec writes, unless it is trusted; then the code is there too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from kdspec.cli import main
from kdspec.hf.saved import remote_code
from kdspec.hf.saved.usage import usage
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: x
tasks:
  t: {{sequence_classification: {{data: {{csv: {{train: rows.csv}}}}, text: text, label: label, max_length: 8}}}}
models:
  teacher: {{transformers: {{path: ./teacher}}}}
  student: {student}
stages:
  s:
    distiller: {{general: {{teacher: teacher, student: student}}}}
    training: {{steps: 1, batch_size: 2}}
"""
LIKE = "{transformers: {like: teacher, config: {num_hidden_layers: 1}}}"
COPIED = "{transformers: {like: teacher, config: {num_hidden_layers: 1}, initialize: {layers: [0]}}}"
PATH = "{transformers: {path: ./teacher}}"
OTHER_TOKENIZER = "{transformers: {like: teacher, tokenizer: ./teacher, config: {num_hidden_layers: 1}}}"
BIGRU = "{bigru: {like: teacher, embedding: 4, hidden: 4}}"
CODE = """\
from transformers import BertForSequenceClassification
from .{other} import NUMBER

class MineForSequenceClassification(BertForSequenceClassification):
    number = NUMBER
"""


def rewrite(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    """A teacher of a known family; the tests run in the folder around it."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text,label\na b,x\nc d,y\n")
    tiny(tmp_path / "teacher", layers=2, labels=["x", "y"], seed=1)
    return tmp_path / "teacher"


def run(student, *options):
    Path("spec.yaml").write_text(SPEC.format(student=student))
    return main(["run", "spec.yaml", *options])


def requests(value):
    """The keys in JSON that ask for code, at any depth."""
    if isinstance(value, dict):
        return [key for key in value if remote_code.asks(key, value[key])] + requests(list(value.values()))
    return [key for item in value for key in requests(item)] if isinstance(value, list) else []


@pytest.mark.slow
@pytest.mark.parametrize("student", [LIKE, COPIED, PATH, OTHER_TOKENIZER, BIGRU])
def test_what_a_run_writes_asks_for_no_code(student, teacher, capsys):
    rewrite(
        teacher / "config.json",
        auto_map={"AutoModelForSequenceClassification": "attacker/repo--evil.E", "AutoModel": "evil.E"},
        custom_pipelines={"text-classification": {"impl": "evil.Pipe", "pt": ["AutoModel"]}},
        trust_remote_code=True,
        extra={"auto_map": {"AutoModel": "evil.E"}},
    )
    rewrite(teacher / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Slow", "evil.Fast"]})
    (teacher / "evil.py").write_text("raise SystemExit('was run')\n")
    assert run(student) == 0
    files = list(Path("runs").rglob("*.json"))
    assert Path("runs/x/student/config.json") in files
    assert {str(file): found for file in files if (found := requests(json.loads(file.read_text())))} == {}
    assert "trust_remote_code" not in "".join(capsys.readouterr()) + Path("runs/x/student/README.md").read_text()
    assert not list(Path("runs").rglob("*.py"))


@pytest.mark.parametrize(
    "entries",
    [
        {"auto_map": {"AutoModel": "o/r--evil.E"}},
        {"auto_map": ["evil.Slow", None]},
        {"custom_pipelines": {"x": {"impl": "evil.Pipe"}}},
        {"custom_generate": "attacker/decoding"},
        {"vision_config": {"layers": [{"auto_map": {"AutoConfig": "evil.C"}}]}},
        {"_attn_implementation": "attacker/kernel"},
        {"attn_implementation": {"text_config": "attacker/kernel:fast"}},
        {"_experts_implementation_internal": "attacker/kernel"},
        {"use_kernels": True, "kernel_config": {"RMSNorm": "attacker/norm:Norm"}},
    ],
)
def test_a_folder_is_settled_at_any_depth_and_keeps_the_rest(entries, tmp_path):
    place = tmp_path / "task"
    place.mkdir()
    kept = {"model_type": "bert", "label2id": {"auto_map": 0, "trust_remote_code": 1}, "ffn_implementation": "a/b"}
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        (place / name).write_text(json.dumps({**kept, **entries}))
    words = json.dumps({"model": {"vocab": {"auto_map": 3}}, "auto_map": "a word"})
    (place / "tokenizer.json").write_text(words)
    remote_code.settle(tmp_path, trusts_code=False)
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        assert requests(found := json.loads((place / name).read_text())) == []
        assert {key: found[key] for key in kept} == kept
    assert (place / "tokenizer.json").read_text() == words


def test_a_spec_cannot_ask_for_code_in_a_configuration(teacher, capsys):
    rewrite(teacher / "config.json", auto_map={"AutoModel": "evil.E"})
    Path("spec.yaml").write_text(SPEC.format(student=LIKE.replace("1}", "1, auto_map: {AutoModel: evil.E}}")))
    assert main(["validate", "spec.yaml"]) == 1
    assert "`auto_map` asks for code, which a spec cannot" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_a_teacher_that_names_a_kernel_of_the_hub_is_refused(key, teacher, capsys):
    rewrite(teacher / "config.json", **{key: "attacker/kernel"})
    Path("spec.yaml").write_text(SPEC.format(student=LIKE))
    assert main(["plan", "spec.yaml"]) == 1
    told = " ".join("".join(capsys.readouterr()).split())
    assert "error[KD503]: `./teacher` cannot be loaded: it needs to run its own code" in told
    assert "add `--trust-remote-code`" in told


@pytest.mark.slow
@pytest.mark.parametrize("student", [LIKE, PATH])
def test_trusted_code_is_beside_the_student_and_loads_from_there_alone(student, teacher, capsys):
    from transformers import AutoModelForSequenceClassification

    (teacher / "mine.py").write_text(CODE.format(other="other"))
    (teacher / "other.py").write_text("NUMBER = 7\n")
    auto = {
        "AutoModelForSequenceClassification": "mine.MineForSequenceClassification",
        "AutoModelForMaskedLM": "gone.Gone",
        "AutoModel": "o/r--a.B",
    }
    rewrite(teacher / "config.json", auto_map=auto)
    assert run(student, "--trust-remote-code") == 0
    assert "model='runs/x/student', trust_remote_code=True)" in capsys.readouterr().out
    shutil.move("runs/x/student", "elsewhere")
    shutil.rmtree(teacher)
    assert json.loads(Path("elsewhere/config.json").read_text())["auto_map"] == {
        "AutoModelForSequenceClassification": "mine.MineForSequenceClassification"
    }
    module = AutoModelForSequenceClassification.from_pretrained("elsewhere", trust_remote_code=True)
    assert module.number == 7
    assert torch.isfinite(module(torch.tensor([[1, 2]])).logits).all()


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        ("mine.Mine", "mine.Mine"),
        ("gone.Mine", None),
        ("broken.Mine", None),
        ("o/r--mine.MineForSequenceClassification", None),
        ("../mine.MineForSequenceClassification", None),
        ("a.b.Mine", None),
        ("", None),
    ],
)
def test_only_code_that_is_there_is_named(reference, kept, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    (source / "mine.py").write_text("from .other import a\n")
    (source / "other.py").write_text("a = 1\n")
    (source / "broken.py").write_text("from .nowhere import a\n")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": reference}}))
    remote_code.bring(folder, [(source, None)])
    assert json.loads((folder / "config.json").read_text()) == ({"auto_map": {"AutoModel": kept}} if kept else {})
    assert sorted(file.name for file in folder.glob("*.py")) == (["mine.py", "other.py"] if kept else [])
    assert ("trust_remote_code=True" in (usage(folder, "x") or "")) == bool(kept)
