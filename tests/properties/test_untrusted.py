"""What a spec from someone else has shown of other files, and what `--untrusted` keeps it from reading."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from pathlib import Path

import pytest
from foreign_texts import FORMS, Writer

from kdspec.cli import main
from kdspec.testing import tiny

FORMATS = ("full", "concise", "json", "github")
CANARY = "hunter2canary"
SPEC = """\
kdspec: 1
name: x
tasks:
  t: {{sequence_classification: {{data: {data}, text: text, label: label, max_length: 8}}}}
models:
  teacher: {teacher}
  student: {student}
stages:
  s:
    distiller: {{general: {{teacher: teacher, student: student}}}}
    training: {{steps: 1, batch_size: 2, teacher_cache: {cache}}}
"""
CSV = "{csv: {train: rows.csv}}"
PATH = "{transformers: {path: ./teacher}}"
LIKE = "{transformers: {like: teacher, config: {num_hidden_layers: 1}}}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with rows and a model; beside it one that a spec in it has no business with."""
    place = tmp_path / "home"
    (place / "teacher").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(place)
    Path("rows.csv").write_text("text,label\na b,x\nc d,y\n")
    tiny(place / "teacher", layers=2, labels=["x", "y"], seed=1)
    return place


def spec(data=CSV, teacher=PATH, student=LIKE, cache="'off'"):
    Path("spec.yaml").write_text(SPEC.format(data=data, teacher=teacher, student=student, cache=cache))
    return "spec.yaml"


def shown(capsys, *arguments):
    capsys.readouterr()
    code = main(list(arguments))
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told
    assert "bug in kdspec" not in told
    return code, " ".join(told.split())


SECRETS = {
    "shadow": f"root:*:20228:0:99999:7:::\n{CANARY}:!:1::\n",
    "one_column": f"{CANARY}\nx\n{CANARY}x\n",
    "env": f"DB={CANARY}\n{CANARY}=1\n",
    "ini": f"[{CANARY}]\nkey = {CANARY}\n",
    "credentials.json": json.dumps({"type": "account", "key": CANARY, CANARY: 1}),
    "pretty.json": json.dumps({"type": "account", "key": CANARY, CANARY: 1}, indent=1),
    "list.json": json.dumps([{CANARY: 1}, {CANARY: "x", "b": CANARY}]),
    "twice": f"{CANARY},{CANARY}\n1,2\n",
    "passwords.csv": f"{CANARY},{CANARY}2\n{CANARY},1\n",
    "quoted.tsv": f'"{CANARY}""x"\t"b"\n"{CANARY}"\t"c"\n',
    "key": f"-----BEGIN KEY-----\n{CANARY}\n",
    "binary": f"\xff\x00{CANARY}\x80\n",
}
READERS = (
    "{{csv: {{train: {file}}}}}",
    '{{csv: {{train: {file}, delimiter: "="}}}}',
    '{{csv: {{train: {file}, delimiter: ":"}}}}',
    '{{csv: {{train: {file}, delimiter: "\\t"}}}}',
    "{{json: {{train: {file}}}}}",
    "{{json: {{train: {file}, field: data}}}}",
    "{{parquet: {{train: {file}}}}}",
    "{{conll: {{train: {file}, tag: 9}}}}",
    "{{squad: {{train: {file}}}}}",
)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_not_the_data_of_the_task_is_not_shown(reader, home, capsys):
    for name, text in SECRETS.items():
        (home.parent / "other" / name).write_text(text, encoding="latin-1")
        Path("link").unlink(missing_ok=True)
        Path("link").symlink_to(home.parent / "other" / name)
        spec(data=reader.format(file="link"))
        for format_ in FORMATS:
            _, told = shown(capsys, "validate", "spec.yaml", "--format", format_)
            assert CANARY not in told
            assert "root:*" not in told


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_nor_is_it_in_a_plan(reader, home, capsys):
    for name in ("shadow", "credentials.json", "passwords.csv"):
        (home / name).write_text(SECRETS[name], encoding="latin-1")
        spec(data=reader.format(file=f"./{name}"))
        _, told = shown(capsys, "plan", "spec.yaml", "--rows")
        assert CANARY not in told


def test_a_misspelt_column_of_a_table_is_told_as_before(home, capsys):
    Path("rows.csv").write_text("body,label\na b,x\nc d,y\n")
    Path(spec()).write_text(Path("spec.yaml").read_text().replace("text: text", "text: bdy"))
    _, told = shown(capsys, "validate", "spec.yaml")
    assert "help: did you mean `body`? the columns are `body`, `label`" in told
    Path("rows.csv").write_text("body,sentiment\na b,x\nc d,y\n")
    assert "did you mean `body`? the columns are `body`, `sentiment`" in shown(capsys, "validate", "spec.yaml")[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7))
def test_no_word_of_a_foreign_file_is_told(seed, home, capsys):
    """Files of all forms in all places that a spec may name: as base, data, vectors, configuration and tokenizer."""
    dice, writer = random.Random(seed), Writer(seed)
    text = writer.text(FORMS[seed % len(FORMS)])
    (home.parent / "other" / "file").write_text(text)

    def linked(name):
        Path(name).unlink(missing_ok=True)
        Path(name).symlink_to(home.parent / "other" / "file")
        return f"./{name}"

    def model(name):
        shutil.copytree("teacher", "m", dirs_exist_ok=True)
        linked(f"m/{name}")
        spec(teacher=PATH.replace("teacher", "m"))

    files = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    vectors = "{{bigru: {{like: teacher, vectors: {}}}}}"
    places = [
        *(lambda reader=reader: spec(data=reader.format(file=linked("link"))) for reader in READERS),
        lambda: Path(spec()).write_text(f"extends: {linked('link')}\n{Path('spec.yaml').read_text()}"),
        lambda: spec(student=vectors.format(linked("link"))),
        *(lambda name=name: model(name) for name in files),
    ]
    for place in dice.sample(places, 4):
        shutil.rmtree("m", ignore_errors=True)
        place()
        for command in (*(("validate", "--format", each) for each in FORMATS), ("plan",)):
            _, told = shown(capsys, *command, "spec.yaml")
            assert writer.canary.lower() not in told.lower()


@pytest.mark.parametrize(
    "target", ["/proc/self/environ", "/proc/self/fd/0", "/dev/zero", "/dev/null", "pipe", "socket"]
)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_on_a_disk_is_refused_as_data_and_model(linked, target, home, capsys, monkeypatch):
    monkeypatch.setenv("CANARY", CANARY)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
    if linked:
        Path("link").symlink_to(Path(target).absolute())
    name = "./link" if linked else target
    for data in (f"{{csv: {{train: {name}}}}}", f"{{json: {{train: [rows.csv, {name}]}}}}"):
        code, told = shown(capsys, "validate", spec(data=data), "--format", "concise")
        assert (code, CANARY in told) == (1, False)
        assert "spec.yaml:4:" in told
        assert f"KD310 `{name}` is a" in told
    for file in ("config.json", "tokenizer.json"):
        shutil.rmtree("m", ignore_errors=True)
        shutil.copytree("teacher", "m")
        Path("m", file).unlink()
        Path("m", file).symlink_to(Path(target).absolute())
        code, told = shown(capsys, "validate", spec(teacher=PATH.replace("teacher", "m")), "--format", "concise")
        assert (code, CANARY in told) == (1, False)
        assert f"KD310 `./m` has `{file}`, which is a" in told


OUTSIDE = (
    ({"data": "{csv: {train: ../other/rows.csv}}"}, "../other/rows.csv"),
    ({"data": "{json: {train: [rows.csv, ~/rows.csv]}}"}, "~/rows.csv"),
    ({"data": "{csv: {train: rows.csv, test: link.csv}}"}, "link.csv"),
    ({"data": "{csv: {train: folder/rows.csv}}"}, "folder/rows.csv"),
    ({"teacher": "{transformers: {path: ../other/teacher}}"}, "../other/teacher"),
    ({"teacher": "{transformers: {path: ./linked}}"}, "./linked"),
    ({"teacher": "{transformers: {path: ./holed}}"}, "./holed"),
    ({"teacher": "{transformers: {path: ./shards}}"}, "./shards"),
    ({"teacher": "{transformers: {path: ./words}}"}, "./words"),
    ({"teacher": "{transformers: {path: owner/name}}"}, "owner/name"),
    ({"student": "{transformers: {like: teacher, tokenizer: ../other/teacher}}"}, "../other/teacher"),
    ({"student": "{transformers: {like: teacher, tokenizer: owner/name}}"}, "owner/name"),
    ({"student": "{bigru: {like: teacher, vectors: ../other/rows.csv}}"}, "../other/rows.csv"),
    ({"data": "{hub: {path: owner/rows}}"}, "owner/rows"),
    ({"cache": "{folder: ../other}"}, "../other"),
    ({"cache": "{folder: /var/cache}"}, "/var/cache"),
)


@pytest.fixture
def outside(home, monkeypatch):
    """Ways out of the folder of the spec."""
    other = home.parent / "other"
    monkeypatch.setenv("HOME", str(other))
    (other / "rows.csv").write_text("text,label\na b,x\n")
    (other / "vocab.txt").write_text("a\n")
    shutil.copytree("teacher", other / "teacher")
    Path("link.csv").symlink_to(other / "rows.csv")
    Path("folder").symlink_to(other)
    Path("linked").symlink_to(other / "teacher")
    for name in ("holed", "shards", "words"):
        shutil.copytree("teacher", name)
    Path("holed/config.json").unlink()
    Path("holed/config.json").symlink_to(other / "teacher" / "config.json")
    Path("shards/model.safetensors").unlink()
    index = {"weight_map": {"a": "../../other/teacher/model.safetensors"}}
    Path("shards/model.safetensors.index.json").write_text(json.dumps(index))
    settings = json.loads(Path("words/tokenizer_config.json").read_text())
    Path("words/tokenizer_config.json").write_text(json.dumps({**settings, "vocab_file": str(other / "vocab.txt")}))
    return home


@pytest.mark.parametrize(("parts", "name"), OUTSIDE)
def test_untrusted_a_spec_reads_nothing_out_of_its_folder(parts, name, outside, capsys):
    spec(**parts)
    for command in (("validate", "--format", "concise"), ("plan",), ("run",)):
        code, told = shown(capsys, *command, "spec.yaml", "--untrusted")
        assert code == 1
        assert f"`{name}` " in told
        assert "KD310" in told
        assert "spec.yaml:" in told
    assert not Path("runs").exists()


@pytest.mark.parametrize("base", ["../other/base.yaml", "link.yaml", "sub/base.yaml"])
def test_untrusted_a_spec_extends_nothing_out_of_its_folder(base, outside, capsys):
    (outside.parent / "other" / "base.yaml").write_text("kdspec: 1\nseed: 3\n")
    Path("link.yaml").symlink_to(outside.parent / "other" / "base.yaml")
    Path("sub").mkdir()
    Path("sub/base.yaml").write_text("extends: ../../other/base.yaml\nkdspec: 1\n")
    Path(spec()).write_text(f"extends: {base}\n{Path('spec.yaml').read_text()}")
    assert shown(capsys, "validate", "spec.yaml")[0] == 0
    code, told = shown(capsys, "validate", "spec.yaml", "--untrusted", "--format", "concise")
    assert code == 1
    assert "leads out of the folder of the spec" in told
    assert "KD006" in told


def test_untrusted_a_spec_that_is_a_link_out_of_its_folder_is_not_read(outside, capsys):
    (outside.parent / "other" / "secret").write_text(f"password: {CANARY}\n")
    Path("evil.yaml").symlink_to(outside.parent / "other" / "secret")
    code, told = shown(capsys, "validate", "evil.yaml", "--untrusted")
    assert code == 2
    assert "`evil.yaml` leads out of its folder" in told
    assert CANARY not in told


def test_untrusted_a_spec_reads_no_environment(home, capsys, monkeypatch):
    monkeypatch.setenv("SIZE", "7")
    Path(spec()).write_text(f"{Path('spec.yaml').read_text()}seed: ${{SIZE}}\n")
    assert shown(capsys, "validate", "spec.yaml")[0] == 0
    code, told = shown(capsys, "validate", "spec.yaml", "--untrusted")
    assert code == 1
    assert "the environment variable `SIZE` is not read with `--untrusted`" in told
    assert "give it a default: `${SIZE:-…}`" in told
    Path("spec.yaml").write_text(Path("spec.yaml").read_text().replace("${SIZE}", "${SIZE:-3}"))
    assert shown(capsys, "validate", "spec.yaml", "--untrusted")[0] == 0
    assert "seed: 3" in shown(capsys, "plan", "spec.yaml", "--resolved", "--untrusted")[1]


def test_untrusted_neither_a_saved_plan_nor_trusted_code(home, capsys):
    assert shown(capsys, "plan", spec(), "--static", "-o", "plan.json")[0] == 0
    code, told = shown(capsys, "run", "plan.json", "--untrusted")
    assert code != 0
    assert "`plan.json` is a plan, which `--untrusted` does not read" in told
    code, told = shown(capsys, "validate", "spec.yaml", "--untrusted", "--trust-remote-code")
    assert code == 2
    assert "excludes" in told


@pytest.mark.slow
def test_untrusted_an_ordinary_spec_is_validated_planned_and_run(home, capsys):
    Path("bases").mkdir()
    Path("bases/base.yaml").write_text("kdspec: 1\nseed: 3\n")
    Path(spec()).write_text(f"extends: bases/base.yaml\n{Path('spec.yaml').read_text()}")
    for command in ("validate", "plan", "run"):
        assert shown(capsys, command, "spec.yaml", "--untrusted")[0] == 0


@pytest.mark.parametrize("key", ["password", CANARY, "auths"])
def test_a_json_file_in_place_of_a_configuration_is_not_shown(key, home, capsys):
    Path("teacher/config.json").unlink()
    (home.parent / "other" / "file").write_text(json.dumps({"password": CANARY, "auths": {CANARY: CANARY}, CANARY: 1}))
    Path("teacher/config.json").symlink_to(home.parent / "other" / "file")
    for entry in ("model_type: bert, hidden_size: 4", f"model_type: bert, {key}: x"):
        spec(teacher=f"{{transformers: {{path: ./teacher, config: {{{entry}}}}}}}")
        for format_ in FORMATS:
            _, told = shown(capsys, "validate", "spec.yaml", "--format", format_)
            # The key is written in the spec, which is quoted.
            assert CANARY not in told.replace(f"{key}", "") if key == CANARY else CANARY not in told
