"""Damage of anything that kdspec reads back ends in an answer: soon, in little memory, and never as a bug of kdspec.

The short form runs with every test; the long one with `-m slow`. `benchmarks/read_back.py` runs any number.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from cpu_seconds import cpu_seconds
from damaged import MEGABYTES, SECONDS, Fuzzer, Outcome, world

from kdspec.cli import main
from kdspec.engine.teacher_cache.segment_index import records

SHORT, LONG = range(30), range(30, 230)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything that can be read back."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDSPEC_CACHE", str(folder / "kept"))
        world(folder)
    return folder


@pytest.fixture(scope="module")
def fuzzer(whole, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDSPEC_CACHE", str(whole / "kept"))
        made = Fuzzer(whole, tmp_path_factory.mktemp("scratch"))
        made.warm()
    return made


@pytest.fixture
def home(whole, tmp_path, monkeypatch):
    """A copy in which the commands of a test run."""
    shutil.copytree(whole, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "home" / "kept"))
    return tmp_path / "home"


@pytest.fixture
def said(home, capfd):
    """Runs a command; its exit code, and what it prints."""

    def run(command):
        capfd.readouterr()
        code = main(command.split())
        found = capfd.readouterr()
        return code, found.out + found.err

    return run


def shown(outcome: Outcome) -> str:
    return f"{outcome.number}: {outcome.what[:200]}: {outcome.command}: {outcome.wrong}: {outcome.output[-400:]}"


@pytest.mark.parametrize("numbers", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def test_damage_of_what_is_read_back_is_answered_soon_and_in_little_memory(numbers, fuzzer):
    outcomes = [fuzzer.input(number) for number in numbers]
    assert [shown(outcome) for outcome in outcomes if outcome.wrong] == []
    assert [shown(outcome) for outcome in outcomes if fuzzer.excess(outcome)[0] > SECONDS] == []
    assert [shown(outcome) for outcome in outcomes if fuzzer.excess(outcome)[1] > MEGABYTES] == []


def test_the_world_is_whole(said):
    """Or the tests here would pass for the wrong reason."""
    for command in ("report runs/done", "report runs/stopped", "run done.yaml --device cpu", "run plan.json --device cpu",
                    "bench runs/done --rounds 1 --device cpu", "validate done.yaml", "import-textbrewer textbrewer.json",
                    "cache --list --folder caches", "cache --list --folder kept", "run stopped.yaml --device cpu"):  # fmt: skip
        code, text = said(command)
        assert code == 0, text
        assert "damaged" not in text


# A run folder from elsewhere


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("table.json", "[1, 2]", "`0` (`1`)"),
        ("table.json", '[{"model": "student"}]', "`0.role` is missing"),
        ("table.json", '{"a": ' * 5000 + "1" + "}" * 5000, "nested more than 64 levels deep"),
        ("table.json", "[" + "9" * 6000 + "]", "an integer of 6,000 digits"),
        ("plan.json", '{"format": 1}', "`name` is missing"),
        ("plan.json", '{"format": 1, "name": "x", "name": "y"}', "the key `name` twice"),
        ("plan.json", "[" * 100_000, "nested more than 64 levels deep"),
        ("spec.yaml", b"\xff", "it is not UTF-8 text: line 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_report_names_the_damaged_file_and_the_place_in_it(said, home, name, content, place):
    file = home / "runs" / "done" / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, text = said("report runs/done")
    assert code == 2
    assert f"cannot read `runs/done/{name}`" in text.replace("\n", " ")
    assert place in text
    help_ = next(line for line in text.splitlines() if "help: restore the file, or " in line)
    if "remove it" in help_:  # and the advice helps
        file.unlink()
        assert said("report runs/done")[0] == 0
    else:
        assert "give the command of the run again" in text
        assert said("run done.yaml --device cpu")[0] == 0
        assert said("report runs/done")[0] == 0


@pytest.mark.parametrize(
    "line",
    [
        '{"time": "0001-01-01T00:00:00+00:00", "event": "Note", "level": "info", "text": "x"}',
        '{"time": "9999-12-31T23:59:59-23:59", "event": "Note", "level": "info", "text": "x"}',
        '{"time": "2026-01-01T00:00:00", "event": "Note", "level": "info", "text": "x"}',
        '{"event": "Note", "level": "info", "text": "x"}',
        '{"time": 5, "event": "Note", "level": "info", "text": "x"}',
        '{"time": "2026-01-01T00:00:00+00:00", "event": "Preflight", "stage": "distil", "cached": true, "seconds": 1, "tasks": {"texts": {}}}',
        '{"time": "2026-01-01T00:00:00+00:00", "event": "StageStarted", "stage": "distil", "steps": 1' + "0" * 30 + ', "epochs": 1, "rows": 1, "start_step": 0}',
        "[" * 100_000,
        "[]",
        '"x"',
        "9" * 6000,
        "\ufeff{}",
        "\0",
    ],
    ids=lambda line: line[:60].encode("unicode_escape").decode(),
)  # fmt: skip
def test_a_damaged_line_of_the_log_is_named_and_passed_over(said, home, line):
    log = home / "runs" / "done" / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join((*lines[:2], line.encode() + b"\n", *lines[2:])))
    code, text = said("report runs/done")
    assert code == 0
    assert "warning: line 3 of `events.jsonl` is not an event of a run: " in text
    page = (home / "runs" / "done" / "report.html").read_text(encoding="utf-8")
    assert "line 3 of `events.jsonl`" in page
    assert "finished" in page


def test_many_damaged_lines_are_counted(said, home):
    log = home / "runs" / "done" / "events.jsonl"
    log.write_bytes(log.read_bytes() + b"{}\n" * 50)
    assert "warning: and 30 more damaged lines" in said("report runs/done")[1]


@pytest.mark.parametrize("size", [17 * 2**20, 2**40], ids=["long", "sparse"])
def test_a_line_without_an_end_is_not_read_as_a_whole(said, home, size):
    log = home / "runs" / "stopped" / "events.jsonl"
    number = log.read_bytes().count(b"\n") + 1
    os.truncate(log, log.stat().st_size + size)
    assert f"line {number} has more than 16,777,216 bytes" in said("report runs/stopped")[1]
    code, text = said("run stopped.yaml --device cpu")
    assert (code, f"line {number} has more than 16,777,216 bytes" in text) == (3, True)


def test_a_damaged_log_stops_a_run_with_its_line(said, home):
    log = home / "runs" / "stopped" / "events.jsonl"
    log.write_bytes(b"[]\n" + log.read_bytes())
    code, text = said("run stopped.yaml --device cpu")
    assert code == 3
    assert "line 1 of `runs/stopped/events.jsonl` is not an event of a run" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"folder": "../../elsewhere"}, "`folder` is no folder in `models`"),
        ({"folder": "models/.."}, "`folder` is no folder in `models`"),
        ({"folder": "/etc"}, "`folder` is no folder in `models`"),
        ({"stage": "another"}, "it is not the end of stage `distil`"),
        ({"step": "3"}, "StageFinished.step is '3'"),
        ({"weights": {"model.safetensors": 1}}, "`model.safetensors` (`1`)"),
    ],
)
def test_the_record_of_a_finished_stage_is_checked(said, home, change, reason):
    record = home / "runs" / "done" / "stages" / "distil.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    for command in ("run done.yaml --device cpu", "clean runs/done", "bench runs/done --rounds 1 --device cpu"):
        _, text = said(command)
        assert "error[KD504]" in text
        assert reason in text
    assert "remove it to finish the stage again from its last checkpoint" in text
    record.unlink()
    assert said("run done.yaml --device cpu")[0] == 0


def sealed(data):
    body = json.dumps({key: value for key, value in data.items() if key != "checksum"}, separators=(",", ":")).encode()[
        :-1
    ]
    return body + b',"checksum":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda meta: meta.pop("progress"), "`progress` is missing"),
        (lambda meta: meta["progress"].update(step=-1), "`progress.step` (`-1`)"),
        (lambda meta: meta["progress"].update(step=7), "its `progress` is that of step 7"),
        (lambda meta: meta["progress"].update(best_step="2"), "`progress.best_step`"),
        (lambda meta: meta["progress"].update(seconds=float("nan")), "`progress.seconds`"),
        (lambda meta: meta.update(processes=0), "`processes` (`0`)"),
        (lambda meta: meta["optimizer"].pop("groups"), "it is damaged: `groups` is missing"),
        (lambda meta: meta["optimizer"]["groups"][0]["options"].update(lr="fast"), "the option `lr` is `fast` in it"),
        (lambda meta: meta["optimizer"]["groups"][0].update(parameters=5), "it is damaged: `groups.0.parameters`"),
    ],
)
def test_the_data_of_a_checkpoint_are_checked(said, home, change, reason):
    file = home / "runs" / "stopped" / "checkpoints" / "distil" / "step-00000002" / "manifest.json"
    data = json.loads(file.read_bytes())
    change(data["meta"])
    file.write_bytes(sealed(data))
    code, text = said("run stopped.yaml --device cpu")
    assert (code, "error[KD504]" in text) == (3, True)
    assert reason in text


def test_a_missing_group_of_weights_is_damage(said, home):
    file = home / "runs" / "stopped" / "checkpoints" / "distil" / "step-00000002" / "manifest.json"
    data = json.loads(file.read_bytes())
    del data["files"]["weights.safetensors"]
    file.write_bytes(sealed(data))
    code, text = said("run stopped.yaml --device cpu")
    assert (code, "the checkpoint of step 2 is damaged: it has no weights" in text) == (3, True)


# Caches


@pytest.mark.parametrize("rows", ["9" * 5000, "-1", "many", "", str(2**70)])
def test_one_damaged_file_of_rows_is_named_and_removed_like_the_others(said, home, rows):
    text = json.dumps({"__metadata__": {"rows": rows, "tokenizer": "x", "text": "y"}}).encode()
    bad = home / "kept" / "rows" / f"{'f' * 64}.safetensors"
    bad.write_bytes(len(text).to_bytes(8, "little") + text)
    code, out = said("cache --list --json --folder kept")
    found = {entry["key"][0]: entry for entry in json.loads(out) if entry["kind"] == "rows"}
    assert code == 0
    assert (found["0"]["rows"], found["0"]["damage"]) == (50, "")
    assert found["f"]["damage"].startswith("`rows` (`")
    assert "damaged: `rows`" in said("cache --list --folder kept")[1]
    assert said("cache --remove ffff --folder kept")[0] == 0
    assert not bad.exists()
    assert said("cache --remove all --folder kept")[0] == 0
    assert list((home / "kept" / "rows").iterdir()) == []


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"teacher": 5}', "[" * 100_000, '{"features": [' + "9" * 5000 + "]}"], ids=lambda t: t[:20]
)
def test_one_damaged_teacher_cache_is_named_and_can_be_removed(said, home, content):
    (cache,) = (home / "caches").iterdir()
    (cache / "cache.json").write_text(content)
    code, out = said("cache --list --json --folder caches")
    (found,) = json.loads(out)
    assert (code, found["key"], bool(found["damage"])) == (0, cache.name, True)
    assert said("cache --remove all --folder caches")[0] == 0
    assert list((home / "caches").iterdir()) == []


def test_an_index_of_many_damaged_records_is_read_in_linear_time():
    head = b"kdspec\x00\x03" + bytes(32) + (0).to_bytes(8, "little") + (10_000).to_bytes(8, "little")
    found = []
    assert cpu_seconds(lambda: found.extend(records(head * 50_000)[0])) < 2
    assert found == []


# A plan file


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda plan: plan.pop("spec"), "`spec` is missing"),
        (lambda plan: plan.update(folder="a\0b"), "`folder`"),
        (lambda plan: plan["outline"].update(stages=5), "`stages` (`5`)"),
        (lambda plan: plan["outline"]["stages"][0].update(name={}), "`stages.0.name`"),
        (lambda plan: plan["outline"]["models"][0]["facts"].update(layers=-1), "`models.0.facts.layers` (`-1`)"),
        (lambda plan: plan["outline"]["tasks"].append({"name": 1}), "`tasks.1.name` (`1`)"),
    ],
)
def test_a_plan_of_another_form_is_refused_with_its_place(said, home, change, place):
    data = json.loads((home / "plan.json").read_text())
    change(data)
    content = {key: data[key] for key in data if key not in ("kdspec_plan", "digest")}
    data["digest"] = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (home / "plan.json").write_text(json.dumps(data))
    for command in (
        "plan plan.json --static",
        "plan done.yaml --static --against plan.json",
        "run plan.json --device cpu",
    ):
        code, text = said(command)
        assert code == 2
        assert "cannot read the plan `plan.json`: " in text
        assert place in text


# A model folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "null", "[" * 100_000, '{"a": 1, "a": 2}', '{"vocab_size": ' + "9" * 5000 + "}"],
    ids=lambda t: t[:12],
)
def test_a_broken_model_folder_is_answered(said, home, name, content):
    (home / "teacher" / name).write_text(content)
    for command in (
        "validate done.yaml",
        "plan done.yaml --static",
        "run stopped.yaml --device cpu",
        "parameters teacher",
    ):
        code, text = said(command)
        assert code in (0, 1, 2, 3)
        assert "kdspec has a bug" not in text
        assert "Traceback" not in text


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "sparse", "link"])
@pytest.mark.parametrize(
    "file",
    [
        "runs/done/table.json",
        "runs/done/plan.json",
        "runs/done/stages/distil.json",
        "plan.json",
        "teacher/config.json",
        "textbrewer.json",
    ],
)
def test_what_is_no_file_is_not_waited_for(said, home, file, kind):
    path: Path = home / file
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "sparse":
            path.touch()
            os.truncate(path, 2**40)
        case _:
            path.symlink_to("/dev/zero")
    command = {"runs": "report runs/done", "plan.json": "plan plan.json", "teacher": "validate done.yaml"}.get(
        file.partition("/")[0], "import-textbrewer textbrewer.json"
    )
    for each in (command, "clean runs/done") if file.startswith("runs") else (command,):
        assert "kdspec has a bug" not in said(each)[1]
