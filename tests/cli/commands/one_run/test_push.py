"""`kdspec push`: what it uploads, with the real client and a hub on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from fake_hub import FakeHub
from huggingface_hub import ModelCard, constants

from kdspec.testing import SmallRun

CARD = "---\nlicense: apache-2.0\nbase_model: someone/base\n---\n\n# A teacher\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, beside the teacher that it has loaded."""
    folder = tmp_path_factory.mktemp("pushed")
    small = SmallRun(folder, name="pushed")
    (folder / "teacher" / "README.md").write_text(CARD)
    small.run(folder / "runs")
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of it, as `runs/pushed` of the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("runs/pushed")


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine, with a login."""
    with FakeHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_token_of_the_test")
        yield hub


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_student_is_uploaded_with_its_card_its_spec_and_the_report(kdspec, run, hub):
    outcome = kdspec("push", str(run), "me/small")
    assert (outcome.code, outcome.out) == (0, f"{hub.url}/me/small\n")
    repository = hub.repositories["me/small"]
    assert repository["private"] is False
    assert repository["commits"] == ["student of pushed, by kdspec"]
    assert hub.tokens == {"Bearer hf_token_of_the_test"}
    files = repository["files"]
    assert set(files) >= {
        "README.md",
        "model.safetensors",
        "config.json",
        "tokenizer_config.json",
        "spec.yaml",
        "report.html",
    }
    assert files["model.safetensors"] == (run / "student" / "model.safetensors").read_bytes()
    assert files["spec.yaml"] == (run / "spec.yaml").read_bytes()
    card = metadata(files["README.md"].decode())
    assert (card["license"], card["base_model"], card["pipeline_tag"]) == (
        "apache-2.0", "someone/base", "text-classification",
    )  # fmt: skip
    table = json.loads((run / "table.json").read_text())
    (row,) = [row for row in table if row["model"] == "student"]
    (entry,) = ModelCard(files["README.md"].decode()).data.eval_results[:1]
    assert (entry.dataset_name, entry.task_type) == ("words", "text-classification")
    results = {metric["type"]: metric["value"] for metric in card["model-index"][0]["results"][0]["metrics"]}
    assert results["accuracy"] == round(row["metrics"]["accuracy"], 4)
    assert hub.validated == [files["README.md"].decode()]
    assert (
        files["README.md"].decode().partition("\n# ")[2]
        == (run / "student" / "README.md").read_text().partition("\n# ")[2]
    )


def test_another_model_has_its_own_metrics(kdspec, run, hub):
    assert kdspec("push", str(run), "me/large", "--model", "teacher", "--private").code == 0
    repository = hub.repositories["me/large"]
    assert repository["private"] is True
    assert repository["files"]["model.safetensors"] == (run / "models" / "teacher" / "model.safetensors").read_bytes()
    card = metadata(repository["files"]["README.md"].decode())
    assert card["model-index"][0]["results"][0]["metrics"]


def test_a_second_upload_is_another_commit(kdspec, run, hub):
    for _ in range(2):
        assert kdspec("push", str(run), "me/small").code == 0
    assert len(hub.repositories["me/small"]["commits"]) == 2


def test_a_dry_run_writes_the_folder_and_needs_no_login(kdspec, run):
    outcome = kdspec("push", str(run), "me/small", "--dry-run")
    assert outcome.code == 0
    assert "model.safetensors" in outcome.out
    assert "license: apache-2.0" in outcome.out
    assert outcome.out.endswith(f"nothing is uploaded; the folder is {run}/push\n")
    card = metadata((run / "push" / "README.md").read_text())
    assert card["license"] == "apache-2.0"
    assert kdspec("push", str(run), "me/small", "--dry-run").code == 0
    from transformers import AutoModelForSequenceClassification

    assert AutoModelForSequenceClassification.from_pretrained(run / "push").config.num_hidden_layers == 1


def test_it_leaves_the_run_as_it_was(kdspec, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    kdspec("push", str(run), "me/small", "--dry-run")
    shutil.rmtree(run / "push")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("# no metadata\n", "no licence is known of `./teacher`"),
        ("---\nlicense: [\n---\n", "no licence is known of `./teacher`"),
        (None, "no licence is known of `./teacher`"),
    ],
)
def test_an_unknown_licence_is_said(kdspec, run, card, said):
    (readme := Path("teacher/README.md")).unlink()
    if card is not None:
        readme.write_text(card)
    outcome = kdspec("push", str(run), "me/small", "--dry-run")
    assert outcome.code == 0
    assert said in outcome.err
    assert "license" not in metadata((run / "push" / "README.md").read_text())


def test_a_base_model_of_the_hub_is_asked_for_its_licence(kdspec, run, hub):
    hub.repositories["someone/teacher"] = {"card": {"license": "mit"}}
    spec = (run / "spec.yaml").read_text()
    (run / "spec.yaml").write_text(spec.replace("path: ./teacher", "path: someone/teacher"))
    assert kdspec("push", str(run), "me/small", "--dry-run").code == 0
    card = metadata((run / "push" / "README.md").read_text())
    assert (card["license"], card["base_model"]) == ("mit", "someone/teacher")


@pytest.mark.parametrize("repo", ["small", "me/", "/small", "me/a b", "me/-small", "me/a/b", "me/a--b", "../small"])
def test_a_name_that_the_hub_cannot_have_is_refused(kdspec, run, hub, repo):
    outcome = kdspec("push", str(run), repo)
    assert outcome.code == 2
    assert f"`{repo}` is not the name of a repository" in " ".join(outcome.err.split())
    assert hub.repositories == {}


def test_without_a_login_it_says_how_to_get_one(kdspec, run, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    outcome = kdspec("push", str(run), "me/small")
    assert outcome.code == 1
    assert "error[KD701]: there is no login for the hub" in outcome.err
    assert "hf auth login" in outcome.err
    assert hub.repositories == {}


def test_a_hub_that_is_switched_off_is_said(kdspec, run, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    outcome = kdspec("push", str(run), "me/small")
    assert "error[KD701]: the hub is switched off by `HF_HUB_OFFLINE`" in outcome.err


@pytest.mark.parametrize(("status", "help_"), [(401, "log in again"), (403, "a token that may write")])
def test_a_hub_that_refuses_is_quoted(kdspec, run, hub, status, help_):
    hub.refuses = status
    outcome = kdspec("push", str(run), "me/small")
    assert outcome.code == 1
    assert f"error[KD701]: the hub refuses `me/small` ({status}): you may not write here" in outcome.err
    assert help_ in outcome.err


def test_a_hub_that_is_not_there_is_said(kdspec, run, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "error[KD701]: the hub cannot be reached: " in kdspec("push", str(run), "me/small").err


def test_an_unfinished_run_is_refused(kdspec, run, hub):
    (run / "table.json").unlink()
    outcome = kdspec("push", str(run), "me/small")
    assert outcome.code == 2
    assert "error[KD003]: the run in `runs/pushed` has not finished" in outcome.err


def test_what_is_no_run_is_refused(kdspec, run):
    assert "is not the folder of a run" in kdspec("push", "teacher", "me/small").err
    outcome = kdspec("push", str(run), "me/small", "--model", "taecher")
    assert outcome.code == 2
    assert "did you mean `teacher`?" in outcome.err
