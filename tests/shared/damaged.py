"""Damage of everything that kdspec reads back, and what its commands make of it: for tests and for `benchmarks/read_back.py`.

A world has a finished run, a stopped one, caches, a plan file, model folders and a configuration of TextBrewer. One file of
a copy is damaged, by bytes, by its structure (then sealed again where it has a checksum of its own) or by what it is, and a
command that reads it runs in a forked child. Each input is made of a number alone.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdspec.cli import main
from kdspec.data import row_cache
from kdspec.testing import tiny

SECONDS, MEGABYTES = 2, 300
"""Of the processor and of memory, more than the same command takes for whole files."""
PATIENCE = 120
"""Seconds of a clock until a command is taken to hang."""

SPEC = """\
kdspec: 1
name: {name}
tasks: {{texts: {{sequence_classification: {{data: {{json: {{train: rows.jsonl, validation: rows.jsonl}}}}, text: text, label: label}}}}}}
models: {{teacher: {{transformers: {{path: teacher}}}}, student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 1}}}}}}}}
stages:
  distil:
    distiller: {{general: {{teacher: teacher, student: student, matches: [{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]}}}}
    training:
      steps: 3
      batch_size: 8
      log_every: 1
      checkpoint: {{every_steps: 1, keep: 2}}
      teacher_cache: {{use: on, folder: caches}}
"""
TEXTBREWER = {
    "temperature": 4,
    "hard_label_weight": 0.5,
    "kd_loss_type": "ce",
    "intermediate_matches": [
        {
            "layer_T": 2,
            "layer_S": 1,
            "feature": "hidden",
            "loss": "hidden_mse",
            "weight": 1,
            "proj": ["linear", 16, 16],
        },
        {"layer_T": [0, 0], "layer_S": [0, 0], "feature": "hidden", "loss": "mmd", "weight": 0.5},
    ],
}

FEW = ("report {run}", "report {run}", "clean {run}")
BENCH = "bench {run} --rounds 1 --device cpu --json"
OF_DONE = (*FEW, *FEW, BENCH, "run done.yaml --device cpu")
OF_STOPPED = (*FEW, "run stopped.yaml --device cpu")
OF_CACHES = (
    "cache --list --folder caches",
    "cache --list --json --folder caches",
    "cache --remove all --folder caches",
)
OF_ROWS = ("cache --list --json --folder kept", "cache --remove all --folder kept", "cache --list --folder kept")
OF_MODELS = ("validate done.yaml", "validate done.yaml --format json", "plan done.yaml --static", "parameters teacher")


def world(folder: Path) -> None:
    """Make everything that can be read back; `KDSPEC_CACHE` must name `folder / "kept"`."""
    tiny(folder / "teacher")
    rows = [{"text": " ".join("abcdefgh"[: 1 + i % 8]), "label": "ab"[i % 2]} for i in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("done", "stopped"):
        (folder / f"{name}.yaml").write_text(SPEC.format(name=name))
    (folder / "textbrewer.json").write_text(json.dumps(TEXTBREWER, indent=2))
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in (
            "run done.yaml --device cpu",
            "plan done.yaml --static -o plan.json",
            "run stopped.yaml --device cpu",
        ):
            assert main(command.split()) == 0, command
    finally:
        os.chdir(before)
    _stop(folder / "runs" / "stopped")
    encoded = [{"input_ids": list(range(1 + i % 7)), "attention_mask": [1] * (1 + i % 7)} for i in range(50)]
    about = {"rows": "50", "tokenizer": "teacher", "text": "a b c"}
    row_cache._write(folder / "kept" / row_cache.FOLDER / f"{'0' * 64}{row_cache.SUFFIX}", encoded, about)


def _stop(run: Path) -> None:
    """Make a finished run one that was killed after its second step."""
    for path in (run / "table.json", run / "stages" / "distil.json"):
        path.unlink()
    for path in (run / "student", run / "models", run / "checkpoints" / "distil" / "step-00000003"):
        shutil.rmtree(path)
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if b'"CheckpointSaved"' in line and b'"step": 2' in line)
    (run / "events.jsonl").write_bytes(b"".join(lines[: last + 1]))


@dataclass(frozen=True)
class Target:
    """Files of the world, and the commands that read them."""

    files: str
    commands: Sequence[str]
    weight: int


TARGETS = (
    Target("runs/done/*.json*", OF_DONE, 6),
    Target("runs/done/spec.yaml", OF_DONE, 1),
    Target("runs/done/stages/*", OF_DONE, 2),
    Target("runs/done/student/*.json", (BENCH, *FEW), 1),
    Target("runs/done/models/student/*", (BENCH,), 1),
    Target("runs/stopped/*.json*", OF_STOPPED, 4),
    Target("runs/stopped/spec.yaml", OF_STOPPED, 1),
    Target("runs/stopped/checkpoints/distil/*/*", ("run stopped.yaml --device cpu",), 4),
    Target("caches/*/*", (*OF_CACHES, *OF_CACHES, "run stopped.yaml --device cpu"), 4),
    Target("kept/rows/*", OF_ROWS, 3),
    Target("kept/preflight/*", ("run stopped.yaml --device cpu",), 1),
    Target(
        "plan.json",
        ("plan done.yaml --static --against plan.json", "plan plan.json --static", "run plan.json --device cpu"),
        4,
    ),
    Target("teacher/*.json", (*OF_MODELS, *OF_MODELS, "plan done.yaml", "run stopped.yaml --device cpu"), 6),
    Target("teacher/model.safetensors", (*OF_MODELS, "run stopped.yaml --device cpu"), 1),
    Target("textbrewer.json", ("import-textbrewer textbrewer.json",), 2),
)


@dataclass(frozen=True)
class Outcome:
    """What an input has led to."""

    number: int
    what: str
    command: str
    code: int
    """The exit code; negative for a signal."""
    seconds: float
    """Of the processor."""
    megabytes: float
    """Of memory beyond that of the process at its start."""
    output: str

    @property
    def wrong(self) -> str | None:
        """What should not be, apart from time and memory."""
        if self.code not in (0, 1, 2, 3):
            return f"exit code {self.code}"
        return next((word for word in ("kdspec has a bug", "Traceback", "panicked") if word in self.output), None)


class Fuzzer:
    """Damages copies of a world.

    Args:
        whole: the world, as `world` makes it.
        scratch: a folder for copies.
    """

    def __init__(self, whole: Path, scratch: Path) -> None:
        self.whole, self.scratch = whole, scratch
        self._usual: dict[str, Outcome] = {}

    def input(self, number: int) -> Outcome:
        """The outcome of one input."""
        dice = random.Random(number)
        target = dice.choices(TARGETS, [each.weight for each in TARGETS])[0]
        files = sorted(path.relative_to(self.whole) for path in self.whole.glob(target.files) if path.is_file())
        file, command = (
            dice.choice(files),
            dice.choice(target.commands).format(run="/".join(target.files.split("/")[:2])),
        )

        def damage(home: Path) -> str:
            return f"{file}: {damaged(home, home / file, dice)}"

        return self._run(number, command, damage)

    def warm(self) -> None:
        """Run each kind of command once in this process, so that children need not import what it needs."""
        home, before = self.scratch / "warm", Path.cwd()
        shutil.copytree(self.whole, home)
        os.chdir(home)
        try:
            for command in dict.fromkeys(command for target in TARGETS for command in target.commands):
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    main(command.format(run="runs/done").split())
        finally:
            os.chdir(before)
        gc.freeze()

    def usual(self, command: str) -> Outcome:
        """The outcome of a command on the whole world."""
        if command not in self._usual:
            # Twice: the first child imports what this process has not.
            self._usual[command] = min(
                (self._run(-1, command, lambda _: "nothing") for _ in range(2)), key=lambda each: each.seconds
            )
        return self._usual[command]

    def excess(self, outcome: Outcome) -> tuple[float, float]:
        """Seconds and megabytes beyond those of the same command on the whole world."""
        usual = self.usual(outcome.command)
        return outcome.seconds - usual.seconds, outcome.megabytes - usual.megabytes

    def _run(self, number: int, command: str, damage: Callable[[Path], str]) -> Outcome:
        home = self.scratch / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.whole, home)
        what = damage(home)
        log = self.scratch / "log.txt"
        code, seconds, megabytes = in_child(lambda: main(command.split()), home, log)
        return Outcome(number, what, command, code, seconds, megabytes, log.read_text(errors="replace"))


def in_child(work: Callable[[], int], home: Path, log: Path) -> tuple[int, float, float]:
    """Do some work in a forked child in a folder: its exit code, seconds of the processor, and megabytes beyond those of this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        gc.freeze()  # or its collector goes through all that a process of many tests holds, and unshares it
        try:
            # Its own: a fork has the anonymous pages of this process, but not those of files.
            os.write(tell, Path("/proc/self/statm").read_bytes().split()[1])
            os.environ["KDSPEC_CACHE"] = str(home / "kept")
            os.chdir(home)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - until the child ends
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as above
            code = int(work())
        except BaseException:  # noqa: BLE001 - all that gets here is a finding
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(tell)
    until = time.monotonic() + PATIENCE
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            break
        time.sleep(0.002)
    floor = int(os.read(told, 100) or 0) * resource.getpagesize()
    os.close(told)
    code = os.waitstatus_to_exitcode(status)
    return code, usage.ru_utime + usage.ru_stime, max(0.0, (usage.ru_maxrss * 1024 - floor) / 1e6)


# Damage

WORDS = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -1e308, 5e-324, 1e-310, float("nan"), float("inf"), 0.5, "", "x",
    "0", "nan", "-inf", "../../../etc/passwd", "/dev/zero", "/etc/passwd", "a\0b", "\ud800", "\x1b[31m\u202e", "x" * 5000, "é" * 300,
    [], {}, [[]], [None], [{}], {"": ""}, {"name": 1}, {"origin": "x"}, {"a": {"b": {"c": []}}}, [0] * 1000, [1, "1", None], "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59-14:00", "2020-01-01T00:00:00", "2020-13-41", "models/..", "models/x/../../..", "F32", "I64", "BertModel",
)  # fmt: skip
TEXTS = (
    b"", b"\n", b"{}", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000,
    b"[" + b"1" * 5000 + b"]", b"[" + b"[]," * 400_000 + b"[]]", b'"' + b'\\"' * 500_000, b"<!doctype html>", b"version https://git-lfs", b"\0" * 4096,
    b"{" + b",".join(b'"%d":{}' % i for i in range(200_000)) + b"}", b"NaN", b"1e999", b'{"a":1,"a":2}', b"kdspec: 1\n", b"a: &a [*a]\n", b"a: 2001-01-01\n",
    b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}", b"kdspec\x00\x03" * 20_000,
)  # fmt: skip


def damaged(home: Path, path: Path, dice: random.Random) -> str:
    """Damage a file; what was done."""
    ways: list[Callable[[Path, Path, random.Random], str]] = [of_bytes, of_bytes, of_kind, of_texts]
    if path.suffix in (".json", ".jsonl", ".safetensors"):
        ways += [of_structure] * 6
    return dice.choice(ways)(home, path, dice)


def of_bytes(home: Path, path: Path, dice: random.Random) -> str:
    """Flip, cut, repeat or insert bytes."""
    del home
    data = bytearray(path.read_bytes())
    done = []
    for _ in range(dice.choice((1, 1, 1, 3, 10))):
        at = dice.randrange(len(data) + 1)
        end = min(len(data), at + dice.choice((1, 2, 8, 100, 5000)))
        how = dice.choice(("flip", "truncate", "cut", "repeat", "insert", "digits"))
        match how:
            case "flip" if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case "truncate":
                del data[at:]
            case "cut":
                del data[at:end]
            case "repeat":
                data[at:at] = data[at:end] * dice.choice((1, 3))
            case "insert":
                data[at:at] = dice.choice(
                    (dice.randbytes(5), b"\n", b"\0", b"{", b"]", b'"', b"\\ud800", b"e999", b"-", b"\xe2\x80\xae")
                )
            case _:
                data[at:at] = b"9" * dice.choice((1, 20, 5000))
        done.append(f"{how} at {at}")
    path.write_bytes(data)
    return ", ".join(done)


def of_texts(home: Path, path: Path, dice: random.Random) -> str:
    """Replace it by another text, or by another file of the world."""
    if dice.random() < 0.3:
        other = dice.choice(sorted(each for each in home.rglob("*") if each.is_file() and not each.is_symlink()))
        path.write_bytes(other.read_bytes())
        return f"content of {other.relative_to(home)}"
    text = dice.choice(TEXTS)
    path.write_bytes(text)
    return f"content {text[:30]!r} of {len(text)} bytes"


def of_kind(home: Path, path: Path, dice: random.Random) -> str:
    """Make something else than a regular file of it, or a huge one."""
    how = dice.choice(("folder", "pipe", "zero", "link", "loop", "sparse", "removed", "unreadable", "old"))
    data = path.read_bytes()
    if how not in ("sparse", "unreadable", "old"):
        path.unlink()
    match how:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "zero":
            path.symlink_to("/dev/zero")
        case "link":
            (home / "elsewhere").write_bytes(data)
            path.symlink_to(home / "elsewhere")
        case "loop":
            path.symlink_to(path.name)
        case "sparse":
            os.truncate(path, 2**40)
        case "unreadable":
            path.chmod(0)
        case "old":
            os.utime(path, (0, dice.choice((0, 2**33, 2**36, -(2**30)))))
        case _:
            pass
    return how


def of_structure(home: Path, path: Path, dice: random.Random) -> str:
    """Change a value, a key or the depth of JSON data, and seal it again."""
    del home
    if path.suffix == ".safetensors":
        return _of_header(path, dice)
    try:
        if path.suffix == ".jsonl":
            lines = path.read_text().splitlines()
            number = dice.randrange(len(lines))
            lines[number], what = changed(json.loads(lines[number]), dice)
            path.write_text("\n".join(lines) + "\n")
            return f"line {number + 1}: {what}"
        data = json.loads(path.read_bytes())
    except (ValueError, IndexError):
        path.write_bytes(b"{")
        return "half an object"
    text, what = changed(data, dice)
    path.write_bytes(_sealed(path, text, dice))
    return what


def _of_header(path: Path, dice: random.Random) -> str:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text, what = changed(json.loads(data[8 : 8 + length]), dice)
    header = text.encode()
    size = len(header) if dice.random() < 0.9 else dice.choice((0, 1, len(header) - 1, 2**40))
    path.write_bytes(size.to_bytes(8, "little") + header + data[8 + length :])
    manifest = path.with_name("manifest.json")
    if manifest.is_file() and dice.random() < 0.8:
        record = json.loads(manifest.read_bytes())
        content = path.read_bytes()
        record["files"][path.name] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest.write_bytes(_of_manifest(record))
    return f"header: {what}"


def _sealed(path: Path, text: str, dice: random.Random) -> bytes:
    """The text with the checksum that its kind of file has, most times: whoever changes it on purpose can make that too."""
    if dice.random() < 0.2:
        return text.encode()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text.encode()
    if path.name == "manifest.json" and isinstance(data, dict):
        return _of_manifest(data)
    if path.name == "plan.json" and isinstance(data, dict) and "digest" in data:
        content = {key: data[key] for key in data if key not in ("kdspec_plan", "digest")}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        return json.dumps(data | {"digest": digest}).encode()
    return text.encode()


def _of_manifest(data: dict[str, Any]) -> bytes:
    body = json.dumps({key: value for key, value in data.items() if key != "checksum"}, separators=(",", ":")).encode()[
        :-1
    ]
    return body + b',"checksum":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def changed(data: Any, dice: random.Random) -> tuple[str, str]:
    """JSON text of data with a change, and what the change is."""
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        places = [*_places(data, ())]
        if not places:
            break
        # Outer places are few, and each depth should have its turn.
        depth = dice.choice(sorted({len(each) for each in places}))
        place = dice.choice([each for each in places if len(each) == depth])
        holder = data
        for key in place[:-1]:
            holder = holder[key]
        how = dice.choice(("value", "value", "value", "remove", "rename", "deep", "number", "move"))
        match how:
            case "remove":
                del holder[place[-1]]
            case "rename" if isinstance(holder, dict):
                holder[dice.choice(("x", "", "name", "origin", "é", "a\0b", "\ud800"))] = holder.pop(place[-1])
            case "deep":
                holder[place[-1]] = "@deep@"
            case "number":
                holder[place[-1]] = "@number@"
            case "move":
                holder[place[-1]] = _copied(data, dice.choice(places))
            case _:
                holder[place[-1]] = json.loads(json.dumps(dice.choice(WORDS)))
        what = f"{how} at {'.'.join(map(str, place))}: {ascii(holder.get(place[-1]) if isinstance(holder, dict) else '')[:60]}"
    else:
        text = json.dumps(data, indent=dice.choice((None, 2)) if dice.random() < 0.1 else None)
        deep, digits = dice.choice((50, 70, 900, 100_000)), dice.choice((30, 100, 5000, 200_000))
        text = text.replace('"@deep@"', dice.choice(("[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep)))
        return text.replace('"@number@"', "9" * digits), what
    return json.dumps(data), "nothing"


def _copied(data: Any, place: tuple[Any, ...]) -> Any:
    """A copy of what is at a place; None if an earlier change has removed it."""
    try:
        for key in place:
            data = data[key]
    except (KeyError, IndexError, TypeError):
        return None
    return json.loads(json.dumps(data))


def _places(data: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data[:20]) if isinstance(data, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from _places(value, (*place, key))
