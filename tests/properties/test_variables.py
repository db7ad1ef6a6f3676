"""What comes from the environment is written and shown as `${NAME}`, wherever it stands in a spec."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from kdspec.cli import main
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: {name}
seed: {seed}
tasks:
  t:
    sequence_classification:
      data: {{csv: {{train: {train}, validation: {train}}}}}
      text: {text}
      label: {label}
      max_length: 8
models:
  teacher: {{transformers: {{path: {teacher}}}}}
  student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}}}}}
stages:
  s:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels:
          loss: {loss}
          temperature: {temperature}
    training:
      steps: 2
      batch_size: 2
      optimizer:
        adamw:
          lr: {lr}
      evaluate: {{every_steps: 1}}
      teacher_cache: {{use: on, folder: {cache}}}
"""
PLAIN = {
    "name": "run", "seed": 5, "train": "data/rows.csv", "text": "text", "label": "label", "teacher": "./teacher",
    "loss": "kl", "temperature": 2, "lr": 0.001, "cache": "./cache",
}  # fmt: skip


def word(draw):
    """A word that nothing else has."""
    return draw.choice(string.ascii_letters) + "".join(draw.choices(string.ascii_letters + string.digits, k=11))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a model, in which the tests run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "other-cache"))
    return tmp_path


@pytest.fixture
def prepared(home, monkeypatch):
    """Writes a spec with variables by a seed, with what they lead to; their names and values."""

    def made(seed, places=tuple(PLAIN)):
        draw = random.Random(seed)
        values = {place: word(draw) for place in ("name", "train", "text", "label", "teacher", "cache")}
        values |= {"seed": str(draw.randrange(10**8, 10**9)), "lr": f"0.00{draw.randrange(10**8, 10**9)}"}
        values |= {"temperature": f"2.{draw.randrange(10**8, 10**9)}", "loss": "kl"}
        used, written = {}, dict(PLAIN)
        for place in places:
            name = f"{word(draw).upper()}_{place[0]}_{place[1]}"
            used[name] = values[place]
            monkeypatch.setenv(name, values[place])
            forms = {"train": f"'data/${{{name}}}.csv'", "teacher": f'"./${{{name}}}"', "cache": f'"./${{{name}}}/x"'}
            written[place] = forms.get(place, f"x-${{{name}}}-y" if place == "name" else f"${{{name}}}")
            if place not in ("seed", "lr", "temperature", "train", "teacher", "cache", "name"):
                written[place] = f'"{written[place]}"'
        folder = home / (values["teacher"] if "teacher" in places else "teacher")
        tiny(folder, layers=2, labels=["x", "y"], seed=1)
        columns = [values[column] if column in places else column for column in ("text", "label")]
        file = home / "data" / f"{values['train'] if 'train' in places else 'rows'}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{','.join(columns)}\na b,x\nc d,y\n")
        (home / "spec.yaml").write_text(SPEC.format(**written))
        return used

    return made


def leaks(folder, values):
    """The files in which one of the values stands, and how."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [f"{path.relative_to(folder)}: {value}" for value in values if value.encode() in data]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_writes_and_prints_the_names_and_not_the_values(seed, prepared, home, capsys):
    used = prepared(seed)
    # Rates and weights are numbers that the run computes with: its log and its checkpoints have them.
    numbers = [value for name, value in used.items() if name.endswith(("_l_r", "_t_e"))]
    secret = [value for value in used.values() if value != "kl" and value not in numbers]
    for command in (["validate"], ["plan"], ["plan", "--json"], ["plan", "--resolved"], ["plan", "-o", "plan.json"]):
        assert main([*command[:1], "spec.yaml", *command[1:]]) == 0
        told = "".join(capsys.readouterr())
        assert [line for line in told.splitlines() if any(value in line for value in secret)] == []
    assert main(["run", "spec.yaml"]) == 0
    told = "".join(capsys.readouterr())
    assert [line for line in told.splitlines() if any(value in line for value in secret)] == []
    assert "model='runs/" not in told
    assert "os.path.expandvars('runs/x-${" in told
    assert leaks(home / "runs", secret) == []
    assert leaks(home / "other-cache", secret) == []
    written = [path for name in ("spec.yaml", "plan.json", "README.md") for path in (home / "runs").rglob(name)]
    assert len(written) == 4
    for path in written:
        text = path.read_text()
        assert [value for value in numbers if value in text] == []
        assert "${" in text
    assert [value for value in secret if value in Path("plan.json").read_text()] == []
    assert main(["run", "spec.yaml"]) == 0
    assert "already finished" in capsys.readouterr().err
    assert main(["run", "plan.json"]) == 0
    assert "already finished" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_resumes_names_the_variable_that_has_changed(prepared, home, capsys, monkeypatch):
    used = prepared(5, ("seed", "lr"))
    assert main(["run", "spec.yaml"]) == 0
    name, value = next(iter(used.items()))
    monkeypatch.setenv(name, "12345678")
    capsys.readouterr()
    assert main(["run", "spec.yaml"]) == 3
    told = "".join(capsys.readouterr())
    assert "KD509" in told
    assert f"${{{name}}}` has another value" in " ".join(told.split())
    assert value not in told
    assert "12345678" not in told
    assert main(["run", "spec.yaml", "--resume"]) == 0
    capsys.readouterr()
    assert main(["run", "spec.yaml"]) == 0
    assert "already finished" in capsys.readouterr().err


def test_a_plan_in_a_file_runs_with_the_same_values_alone(prepared, capsys, monkeypatch):
    used = prepared(6, ("name", "seed"))
    assert main(["plan", "spec.yaml", "--static", "-o", "plan.json"]) == 0
    assert main(["validate", "plan.json"]) == 0
    capsys.readouterr()
    name = next(iter(used))
    monkeypatch.setenv(name, "anothername")
    assert main(["validate", "plan.json"]) == 1
    told = "".join(capsys.readouterr())
    assert f"`${{{name}}}` has another value" in " ".join(told.split())
    assert "anothername" not in told


@pytest.mark.parametrize("format_", ["full", "concise", "json", "github"])
def test_no_diagnostic_shows_a_value(format_, prepared, home, capsys, monkeypatch):
    used = prepared(7)
    monkeypatch.setenv(next(name for name in used if name.endswith("_t_r")), "no/such/file7")
    monkeypatch.setenv(next(name for name in used if name.endswith("_l_r")), "word8")
    assert main(["validate", "spec.yaml", "--format", format_]) == 1
    told = "".join(capsys.readouterr())
    assert "no file" in told
    assert not [value for value in ("such/file7", "word8", *used.values()) if value != "kl" and value in told]
