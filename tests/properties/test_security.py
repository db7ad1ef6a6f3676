"""A hostile spec, model, checkpoint or folder runs no code and reaches nothing but what the user has named.

A canary is a file that code would make: where it is not there, no code was run.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdspec.cli import main
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.checkpoint import CheckpointStore
from kdspec.engine.run.durable_files import sha256
from kdspec.engine.run.manifest import FileRecord, Manifest
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import load_registry
from kdspec.source.extends import compose
from kdspec.source.secrets import covered, secrets
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: {name}
tasks:
  t: {{sequence_classification: {{data: {{csv: {{train: rows.csv}}}}, text: text, label: label, max_length: 8}}}}
models:
  teacher: {teacher}
  student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}}}}}
stages:
  s:
    distiller: {distiller}
    training: {{steps: 1, batch_size: 2}}
"""
GENERAL = "{general: {teacher: teacher, student: student}}"


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with rows and a model, in which the tests run."""
    (tmp_path / "rows.csv").write_text("text,label\na b,x\nc d,y\n")
    tiny(tmp_path / "teacher", layers=2, labels=["x", "y"], seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code was run"


def spec(name="x", teacher="{transformers: {path: ./teacher}}", distiller=GENERAL):
    Path("spec.yaml").write_text(SPEC.format(name=name, teacher=teacher, distiller=distiller))
    return "spec.yaml"


def everything(home):
    """All files, with their contents, but those of a run."""
    return {
        path: path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and "runs" not in path.relative_to(home).parts
    }


class TestASpec:
    @pytest.mark.parametrize(
        "loss",
        [
            "os:system",
            "os.system",
            "builtins:eval",
            "canary_module:loss",
            "canary_module.loss",
            "./canary_module.py",
            "__import__('canary_module')",
            "{call: {function: canary_module.loss}}",
            "!!python/object/apply:os.system ['touch canary']",
            "!!python/name:canary_module.loss",
        ],
    )
    def test_names_nothing_to_import(self, loss, home, canary, monkeypatch, capsys):
        monkeypatch.syspath_prepend(str(home))
        for folder in (home, home / "canary_package"):
            folder.mkdir(exist_ok=True)
        code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\nloss = print\n"
        (home / "canary_module.py").write_text(code)
        path = spec(distiller=f"{{general: {{teacher: teacher, student: student, soft_labels: {{loss: {loss}}}}}}}")
        for command in ("validate", "plan", "run"):
            assert main([command, path]) == 1
        assert "error[KD" in "".join(capsys.readouterr())

    @pytest.mark.parametrize(
        "expression",
        [
            "output.__class__.__init__.__globals__",
            "output.logits.__reduce__()",
            "__import__('os').system('touch canary')",
            "[x for x in output]",
            "(lambda: 1)()",
            "output.logits if 1 else 2",
            "f'{output}'",
            "modules['x'].weight",
        ],
    )
    def test_has_no_expressions_in_its_field_paths(self, expression, home, canary):
        text = SPEC.format(name="x", teacher="{transformers: {path: ./teacher}}", distiller=GENERAL)
        text += f"adaptors:\n  teacher: {{logits: {json.dumps(expression)}}}\n"
        Path("spec.yaml").write_text(text)
        assert main(["validate", "spec.yaml"]) == 1

    @pytest.mark.parametrize(
        "name",
        [
            "../../out",
            "/var/out",
            "a/b",
            "..",
            ".",
            ".hidden",
            "a\\0b",
            "-rf",
            "CON",
            "x" * 101,
            "~",
            "$HOME",
            "a\\nb",
            "",
        ],
    )
    @pytest.mark.parametrize("place", ["run", "task", "model", "stage"])
    def test_names_of_it_stay_in_the_folder(self, name, place, home):
        shown = f'"{name}"'
        text = SPEC.format(name="x", teacher="{transformers: {path: ./teacher}}", distiller=GENERAL)
        old = {"run": "name: x\n", "task": "  t: {", "model": "  student: {t", "stage": "  s:\n"}[place]
        word = old.strip(" :{t\n").removeprefix("name: ") or "t"
        assert old in text
        text = text.replace(old, old.replace(word, shown, 1) if place != "task" else f"  {shown}: {{")
        Path("spec.yaml").write_text(text)
        before = everything(home)
        assert main(["run", "spec.yaml"]) == 1
        assert everything(home) == before
        assert not (home / "runs").exists()

    def test_cannot_allow_the_code_of_a_model(self, home, capsys):
        assert main(["validate", spec(teacher="{transformers: {path: ./teacher, trust_remote_code: true}}")]) == 1
        assert "add `--trust-remote-code` to the command" in " ".join("".join(capsys.readouterr()).split())

    @pytest.mark.parametrize("key", ["use_safetensors", "weights_only", "allow_pickle"])
    def test_cannot_allow_code_or_pickles(self, key, home, capsys):
        assert main(["validate", spec(teacher=f"{{transformers: {{path: ./teacher, {key}: true}}}}")]) == 1
        assert "comes from `--plugin FILE` on the command line" in "".join(capsys.readouterr()).replace("\n", " ")

    def test_cannot_wait_for_a_pipe_or_read_a_device(self, home, capsys):
        os.mkfifo("pipe")
        for file in ("pipe", "/dev/zero"):
            Path("spec.yaml").write_text(f"kdspec: 1\nextends: {file}\n")
            assert main(["validate", "spec.yaml"]) == 1
            spec()
            Path("spec.yaml").write_text(Path("spec.yaml").read_text().replace("rows.csv", file))
            assert main(["validate", "spec.yaml"]) == 1


SECRETS = {
    "hub": "hf_" + "aBcDeFgHiJ" * 4,
    "github": "ghp_" + "a1B2" * 10,
    "fine-grained": "github_pat_" + "a1B2_" * 8,
    "openai": "sk-proj-" + "aB3_" * 12,
    "aws": "AKIA" + "ABCD" * 4,
    "slack": "xoxb-1234567890-abcdef",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "address": "https://me:hunter22@example.org/x",
    "key": "-----BEGIN RSA PRIVATE KEY-----",
}


class TestASecret:
    @pytest.mark.parametrize("kind", SECRETS)
    @pytest.mark.parametrize("format_", ["full", "concise", "json", "github"])
    @pytest.mark.parametrize("where", ["a value", "an unknown key", "broken text"])
    def test_it_is_refused_and_never_shown(self, kind, format_, where, home, capsys):
        secret = SECRETS[kind]
        path = spec()
        text = Path(path).read_text()
        if where == "a value":
            text += f'seed: "{secret}"\n'
        elif where == "an unknown key":
            text += f'"{secret}": 1\n'
        else:
            text += f'seed: ["{secret}"\nmore: {{\n'
        Path(path).write_text(text)
        assert main(["validate", path, "--format", format_]) == 1
        told = "".join(capsys.readouterr())
        hidden = secret.removeprefix("https://me:").removesuffix("@example.org/x")
        assert hidden[4:] not in told.replace("\n", "")
        if where != "broken text":
            assert "KD009" in told

    @pytest.mark.parametrize("argument", ["name", "models.teacher.transformers.revision"])
    def test_nor_from_the_command_line(self, argument, home, capsys):
        assert main(["run", spec(), "--set", f"{argument}={SECRETS['hub']}"]) == 1
        told = "".join(capsys.readouterr())
        assert "KD009" in told
        assert SECRETS["hub"][6:] not in told
        assert not (home / "runs").exists()

    @pytest.mark.parametrize(
        "text", ["sk-learn", "hf_hub", "eyJ", "https://host:8080/x", "AKIA", "a" * 64, "google/electra"]
    )
    def test_what_only_resembles_one_is_let_be(self, text):
        assert not list(secrets(text))
        assert covered(text) == text

    @pytest.mark.parametrize("secret", SECRETS.values())
    def test_what_covers_it_is_as_long(self, secret):
        assert len(covered(f"a {secret} b")) == len(f"a {secret} b")
        assert covered(f"a {secret} b") != f"a {secret} b"


class TestAModel:
    """A hostile folder, in place of a teacher's."""

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "tokenizer.json", "training_args.bin"])
    def test_a_pickle_is_not_read(self, name, home, canary, capsys):
        path = home / "teacher" / name
        if name == "pytorch_model.bin":
            (home / "teacher" / "model.safetensors").unlink()
        path.write_bytes(pickle.dumps(Bomb(canary)))
        code = main(["run", spec()])
        assert code == (0 if name == "training_args.bin" else 1 if name == "model.safetensors" else code)
        assert code in (0, 1, 3)
        assert "Traceback" not in "".join(capsys.readouterr())

    @pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoConfig", "AutoTokenizer", "AutoModel"])
    def test_code_beside_it_is_not_run(self, auto, home, canary, capsys):
        (home / "teacher" / "evil.py").write_text(
            f"from pathlib import Path\nPath({str(canary)!r}).touch()\nclass Evil: pass\n"
        )
        for file in ("config.json", "tokenizer_config.json"):
            data = json.loads((home / "teacher" / file).read_text())
            data["auto_map"] = {auto: "evil.Evil" if auto != "AutoTokenizer" else ["evil.Evil", "evil.Evil"]}
            if auto == "AutoConfig":
                data["model_type"] = "evil"
            (home / "teacher" / file).write_text(json.dumps(data))
        assert main(["run", spec()]) in (0, 1, 3)
        assert "Traceback" not in "".join(capsys.readouterr())


MINTED = """\
from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

Path({canary!r}).touch()


class MintedConfig(PretrainedConfig):
    model_type = "minted"


class MintedForSequenceClassification(PreTrainedModel):
    config_class = MintedConfig

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        return SequenceClassifierOutput(logits=self.classifier(self.embeddings(input_ids).mean(1)))
"""


class TestTheCodeOfAModel:
    @pytest.fixture
    def minted(self, home):
        """A spec with a student of a family that the library does not know, and what its code leaves when it is run."""
        folder, trace = home / "minted", home / "canary"
        shutil.copytree(home / "teacher", folder)
        words = json.loads((folder / "config.json").read_text())["vocab_size"]
        auto = {"AutoConfig": "modeling_minted.MintedConfig"}
        auto["AutoModelForSequenceClassification"] = "modeling_minted.MintedForSequenceClassification"
        config = {
            "model_type": "minted",
            "hidden_size": 4,
            "num_hidden_layers": 1,
            "vocab_size": words,
            "auto_map": auto,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "modeling_minted.py").write_text(MINTED.format(canary=str(trace)))
        torch.manual_seed(0)
        weights = {"embeddings.weight": torch.randn(words, 4), "classifier.weight": torch.randn(2, 4)}
        weights["classifier.bias"] = torch.zeros(2)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        spec()
        text = Path("spec.yaml").read_text()
        student = "{transformers: {like: teacher, config: {num_hidden_layers: 1}}}"
        assert student in text
        Path("spec.yaml").write_text(text.replace(student, "{transformers: {path: ./minted}}"))
        return trace

    @pytest.mark.parametrize("command", ["plan", "run"])
    def test_is_not_run_without_being_asked_for(self, command, minted, capsys):
        assert main(["validate", "spec.yaml"]) == 0
        assert main([command, "spec.yaml"]) == 1
        told = " ".join("".join(capsys.readouterr()).split())
        assert "error[KD503]: `./minted` cannot be loaded: it needs to run its own code --> spec.yaml:7:" in told
        assert "add `--trust-remote-code` to the command" in told
        assert not minted.exists()

    @pytest.mark.slow
    def test_it_runs_if_the_command_allows_it(self, minted, capsys):
        assert main(["validate", "spec.yaml", "--trust-remote-code"]) == 0
        assert not minted.exists()
        assert main(["plan", "spec.yaml", "--trust-remote-code"]) == 0
        assert minted.exists()
        assert "code that comes with models is run: `--trust-remote-code`" in capsys.readouterr().out
        assert main(["run", "spec.yaml", "--trust-remote-code"]) == 0
        before, after = (load_file(Path(folder) / "model.safetensors") for folder in ("minted", "runs/x/student"))
        assert all(not torch.equal(before[name], after[name]) for name in before)
        assert "model='runs/x/student', trust_remote_code=True)" in capsys.readouterr().out
        assert main(["bench", "runs/x", "--rounds", "1", "--trust-remote-code"]) == 0

    @pytest.mark.slow
    def test_is_part_of_what_a_run_was_begun_with(self, home, capsys):
        assert main(["run", spec(), "--trust-remote-code"]) == 0
        assert main(["run", "spec.yaml"]) == 3
        assert "`--trust-remote-code` was given and is not" in capsys.readouterr().err
        assert main(["run", "spec.yaml", "--trust-remote-code"]) == 0
        assert "kdspec run spec.yaml --trust-remote-code --restart" in capsys.readouterr().err


class TestACheckpoint:
    def plant(self, root, tensors=b"", name="weights.safetensors", **changes):
        """A checkpoint whose manifest and checksums are right, with bytes of our choice."""
        folder = root / "step-00000003"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(tensors)
        files = {
            name: FileRecord(changes.get("sha256", sha256(folder / name)), len(tensors), changes.get("aliases", {}))
        }
        (folder / "manifest.json").write_bytes(Manifest(3, files, {}).seal())
        return CheckpointStore(root)

    def test_a_pickle_in_it_is_not_read(self, tmp_path, canary):
        store = self.plant(tmp_path / "s", pickle.dumps(Bomb(canary)))
        told = []
        assert store.latest(told.append) is None
        assert "is not a safetensors file" in told[0]

    @pytest.mark.parametrize(
        "name", ["../weights.safetensors", "/etc/passwd", "weights.pt", ".metadata", "a/b.safetensors"]
    )
    def test_names_that_lead_elsewhere_are_refused(self, name, tmp_path):
        store = self.plant(tmp_path / "s", b"x")
        manifest = Manifest(3, {name: FileRecord("0" * 64, 1, {})}, {}).seal()
        (store.folder(3) / "manifest.json").write_bytes(manifest)
        with pytest.raises(FindingError, match="which is not allowed"):
            store.load(3)

    def test_a_header_that_asks_for_all_memory_is_refused(self, tmp_path):
        header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
        store = self.plant(tmp_path / "s", len(header).to_bytes(8, "little") + header)
        with pytest.raises(FindingError, match="is not a safetensors file"):
            store.load(3)

    def test_other_files_in_its_folder_are_not_opened(self, tmp_path, canary):
        store = CheckpointStore(tmp_path / "s")
        store.save(3, {"weights": {"a": torch.ones(2)}}, {})
        for name in ("weights.pt", ".metadata", "optimizer.bin", "manifest.pkl"):
            (store.folder(3) / name).write_bytes(pickle.dumps(Bomb(canary)))
        assert store.load(3).tensors["weights"]["a"].tolist() == [1, 1]


class TestARunFolder:
    """One that came with a spec, and has links that lead elsewhere."""

    @pytest.mark.parametrize(
        "name", ["", "checkpoints", "models", "student", "events.jsonl", "spec.yaml", "stages", "checkpoints/s"]
    )
    def test_links_in_it_are_refused_and_what_they_lead_to_is_not_touched(self, name, home, capsys):
        precious = home / "precious"
        precious.mkdir()
        (precious / "file").write_text("mine")
        link = home / "runs" / "x" / name if name else home / "runs" / "x"
        link.parent.mkdir(parents=True)
        link.symlink_to(precious / "file" if "." in name else precious)
        for options in ([], ["--restart"]):
            assert main(["run", spec(), *options]) == 3
            told = " ".join("".join(capsys.readouterr()).split())
            assert "is a symbolic link, and a run writes only into its own folder" in told
        assert [path.name for path in precious.iterdir()] == ["file"]
        assert (precious / "file").read_text() == "mine"

    def test_a_models_file_that_is_a_pickle_is_not_read(self, home, canary, capsys):
        """What a finished stage has left is read by the next one."""
        assert main(["run", spec()]) == 0
        student = home / "runs" / "x" / "models" / "student" / "model.safetensors"
        student.write_bytes(pickle.dumps(Bomb(canary)))
        (home / "runs" / "x" / "table.json").unlink()
        assert main(["run", "spec.yaml"]) in (0, 3)
        assert "Traceback" not in "".join(capsys.readouterr())


def test_validation_and_planning_write_nothing(home):
    path, before = spec(), None
    before = everything(home)
    assert main(["validate", path]) == 0
    assert main(["plan", path]) == 0
    assert everything(home) == before
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    "text",
    [
        "seed: " + "9" * 5000,
        "x: " + "[" * 30_000,
        "a: &a [b]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: &e [*d, *d, *d, *d]\n" * 1,
        "\n".join(
            [f"k{i}: &k{i} {{<<: [{', '.join([f'*k{i - 1}'] * 9)}]}}" if i else "k0: &k0 {a: 1}" for i in range(12)]
        ),
        "? [a, b]\n: c",
        "name: " + "a" * 2**20,
    ],
)
def test_a_text_cannot_take_all_memory(text):
    try:
        found = prepare(compose("kdspec: 1\n" + text, "spec.yaml", environ={}), load_registry(installed=False)).errors
    except DiagnosticError as error:
        found = error.diagnostics
    assert found
    assert all(each.code.startswith(("KD0", "KD1", "KD3")) for each in found)


@pytest.mark.parametrize("width", [8, 2**62 + 1])
@pytest.mark.parametrize("layers", [10**9, 2**62, 2, -1, 0])
def test_numbers_of_a_model_cannot_either(layers, width, home):
    """The planner never makes a list of all the layers that a configuration claims, nor counts up to its width."""
    config = f"{{model_type: bert, num_hidden_layers: {layers}, hidden_size: {width}, num_attention_heads: 2}}"
    match = "{feature: hidden, loss: hidden_mse, layers: uniform}"
    text = SPEC.format(
        name="x",
        teacher=f"{{transformers: {{config: {config}, tokenizer: ./teacher}}}}",
        distiller=f"{{general: {{teacher: teacher, student: student, matches: [{match}]}}}}",
    )
    text = text.replace("config: {num_hidden_layers: 1}", f"config: {{num_hidden_layers: {layers}}}")
    registry = load_registry(installed=False)
    made = prepare(compose(text, "spec.yaml", home, environ={}), registry)
    assert made.plan is None or len(made.plan.stages[0].matches) < 10_000
    assert made.errors or made.plan


def test_safetensors_of_a_checkpoint_are_the_only_tensors_that_are_read(tmp_path):
    """The tensors of a planted file come back as they are, so that the tests above fail for what they plant."""
    save_file({"a": torch.ones(1)}, tmp_path / "f")
    store = TestACheckpoint().plant(tmp_path / "s", (tmp_path / "f").read_bytes())
    assert store.load(3).tensors["weights"]["a"].tolist() == [1]


@pytest.mark.parametrize(
    "code", ["1 / 0", "raise SystemExit(0)", "import missing_module", "def broken(:", "raise MemoryError"]
)
def test_a_plugin_that_fails_at_its_import_is_named(code, home, capsys):
    (home / "failing_plugin.py").write_text(code + "\n")
    assert main(["--plugin", "failing_plugin.py", "validate", spec()]) in {1, 2}
    said = "".join(capsys.readouterr())
    assert "failing_plugin" in said
    assert "Traceback" not in said


def test_a_script_of_textbrewer_is_not_run(home, canary, capsys):
    script = f"""
from pathlib import Path
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
Path({str(canary)!r}).touch()
config = DistillationConfig(temperature=eval("__import__('os').system('touch {canary}') or 4"))
distiller = GeneralDistiller(TrainingConfig(), config, teacher, student, adaptor, adaptor)
"""
    (home / "distil.py").write_text(script)
    assert main(["import-textbrewer", "distil.py", "-o", "spec.yaml"]) in {0, 1}
    assert "Traceback" not in "".join(capsys.readouterr())
