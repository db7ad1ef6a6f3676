"""What `extends` leads to is shown only if it is a spec."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from foreign_texts import foreign_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdspec.api.spec.spec import Spec
from kdspec.cli import main
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.source import foreign
from kdspec.source.extends import load

FORMATS = ("full", "concise", "json", "github")
CANARY = "hunter2canary"
FOREIGN = {
    "shadow": f"root:*:20228:0:99999:7:::\n{CANARY}:!$6$x{CANARY}:1::\n",
    "credentials": f"[default]\naws_access_key_id = {CANARY}\naws_secret_access_key = {CANARY}\n",
    "env": f"# {CANARY}\nDB_USER={CANARY}\nexport TOKEN='{CANARY}'\n",
    "other.yaml": f"password: {CANARY}\n{CANARY}: [1, 2]\n",
    "environ": f"HOME=/root\0TOKEN={CANARY}\0",
    "docker.json": json.dumps({"auths": {CANARY: {"auth": CANARY}}}),
    "key.pem": f"-----BEGIN OPENSSH KEY-----\n{CANARY}\n-----END OPENSSH KEY-----\n",
    "netrc": f"machine x login y password {CANARY}\n",
    "name.yaml": f"name: {CANARY}\n",
    "broken.yaml": f"password: {CANARY}\n  {CANARY}: [\n",
    "twice.yaml": f"{CANARY}: 1\n{CANARY}: 2\n",
    "tag.yaml": f"password: !{CANARY} x\nother: *{CANARY}\n",
    "variable.yaml": f"password: ${{{CANARY}}}\nextends: {CANARY}.yaml\n",
    "quoted.yaml": f'"{CANARY}',
    "compose.yaml": f"name: {CANARY}\nservices: {{db: {{environment: {{PASSWORD: {CANARY}}}}}}}\n",
    "list.yaml": f"- {CANARY}\n",
    "part.yaml": f"models: {{x: {{path: {CANARY}}}}}\nname: '{CANARY} '\nseed: {CANARY}\n",
    "part_unknown.yaml": f"stages: {{s: {{distiller: {{{CANARY}: 1}}, {CANARY}: 2}}}}\ntasks: [{CANARY}]\n",
}


def shown(kdspec, *arguments):
    code = main([str(argument) for argument in arguments])
    told = "".join(kdspec.readouterr())
    assert "Traceback" not in told
    return code, told


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_keys_of_a_spec_are_known_where_its_text_is_read():
    assert set(Spec.model_fields) == foreign.KEYS


@pytest.mark.parametrize("name", sorted(FOREIGN))
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_is_no_spec_is_not_shown(linked, name, here, capsys):
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / name).write_bytes(FOREIGN[name].encode())
    target = f"elsewhere/{name}"
    if linked:
        target = "base.yaml"
        Path(target).symlink_to(here / "elsewhere" / name)
    Path("spec.yaml").write_text(f"kdspec: 1\nextends: {target}\nname: x\n")
    for command in (*(("validate", "--format", format_) for format_ in FORMATS), ("plan",)):
        code, told = shown(capsys, *command, "spec.yaml")
        assert code == 1
        assert CANARY not in told
        assert "root:" not in told
        assert target in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("password: x\n", "`base` is not a spec"),
        ("- x\n", "`base` is not a mapping"),
        ("", "`base` is empty"),
        ("name: x\n", "`base` is not a spec"),
        ("a: b: c\n", "not YAML"),
    ],
)
def test_it_is_one_error_without_its_content(text, message, here):
    Path("base").write_text(text)
    Path("spec.yaml").write_text("kdspec: 1\nextends: base\n")
    with pytest.raises(DiagnosticError) as caught:
        load("spec.yaml")
    (found,) = caught.value.diagnostics
    assert found.message == message
    assert set(caught.value.texts) == {"spec.yaml"}
    if "not a spec" in message:
        assert found.help is not None
        assert "`kdspec: 1`" in found.help


@pytest.mark.parametrize("head", ["", "kdspec: 1\n"])
def test_the_advice_makes_a_part_of_a_spec_readable(head, here, capsys):
    """A part of a spec without `kdspec:` is read, and only its places are told; with it, its lines are shown."""
    Path("part.yaml").write_text(f"{head}models:\n  m: {{transformers: {{pth: x}}}}\n")
    Path("spec.yaml").write_text("kdspec: 1\nextends: part.yaml\nname: x\ntasks: {}\nstages: {}\n")
    _, told = shown(capsys, "validate", "spec.yaml")
    assert f"--> part.yaml:{3 if head else 2}:" in told
    assert ("transformers: {pth: x}" in told) == bool(head)
    assert ("unknown key `pth`" in told) == bool(head)
    assert ("write `kdspec: 1` into it" in told) == (not head)


def test_parts_of_specs_are_merged_without_a_version_of_their_own(here):
    Path("models.yaml").write_text("models: {m: {transformers: {path: x}}}\n")
    Path("mine.yaml").write_text("extends: models.yaml\nseed: 3\n")
    Path("spec.yaml").write_text("kdspec: 1\nextends: mine.yaml\nname: x\n")
    document = load("spec.yaml")
    assert document.data == {"models": {"m": {"transformers": {"path": "x"}}}, "seed": 3, "kdspec": 1, "name": "x"}
    assert {name: source.shown for name, source in document.sources.items()} == {
        "spec.yaml": True,
        "mine.yaml": False,
        "models.yaml": False,
    }


def test_a_file_is_a_spec_by_the_version_of_the_one_that_it_extends(here, capsys):
    Path("base.yaml").write_text("kdspec: 1\nname: x\n")
    Path("longer.yaml").write_text("extends: base.yaml\nsed: 3\n")
    Path("spec.yaml").write_text("extends: longer.yaml\n")
    assert "2 | sed: 3" in shown(capsys, "validate", "spec.yaml")[1]


def test_a_spec_with_a_mistake_of_yaml_is_shown(here, capsys):
    Path("base.yaml").write_text("kdspec: 1\nname: x\nname: y\n")
    Path("spec.yaml").write_text("extends: base.yaml\n")
    assert "3 | name: y" in shown(capsys, "validate", "spec.yaml")[1]


def test_the_file_that_the_command_names_is_shown(here, capsys):
    Path("any").write_text("password: x\n")
    assert "1 | password: x" in shown(capsys, "validate", "any")[1]


@pytest.mark.parametrize("target", ["/proc/self/environ", "/proc/self/cmdline", "/sys/kernel/mm", "/dev/zero", "pipe"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_on_a_disk_is_refused(linked, target, here, capsys, monkeypatch):
    monkeypatch.setenv("CANARY", CANARY)
    os.mkfifo("pipe")
    if not Path(target).exists():
        pytest.skip("this system has no such file")
    if linked:
        Path("link").symlink_to(Path(target).absolute())
        target = "link"
    Path("spec.yaml").write_text(f"kdspec: 1\nextends: {target}\n")
    code, told = shown(capsys, "validate", "spec.yaml", "--format", "concise")
    assert code == 1
    assert CANARY not in told
    assert told.startswith("spec.yaml:2:10: KD006 ")
    assert " is a" in told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_no_word_of_a_file_that_is_no_spec_is_told(here, capsys, seed):
    text, canary = foreign_text(seed)
    Path("base").write_text(text)
    Path("spec.yaml").write_text("kdspec: 1\nextends: base\nname: x\n")
    for format_ in ("full", "json"):
        _, told = shown(capsys, "validate", "spec.yaml", "--format", format_)
        assert canary.lower() not in told.lower()
