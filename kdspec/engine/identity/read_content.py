"""What the stages of a plan read, by digest: rows of each split, weights and files of models, other files, and plugins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdspec.api.component import Strict
from kdspec.api.kinds.context import BuildContext, DatasetContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.kinds.model import Model
from kdspec.api.plan.plan import Plan
from kdspec.api.spec.named_files import named_files, parts
from kdspec.diagnostics.finding import SpecPath
from kdspec.engine.identity.file_digests import FileDigests
from kdspec.engine.identity.reading import ReadContent
from kdspec.engine.identity.spec_digest import models_of
from kdspec.registry.plugins import Plugin
from kdspec.registry.registry import Registry

_AT_ONCE = 10_000
"""Rows that are made text at once; the digest of rows depends on it."""


def read_content(plan: Plan, registry: Registry, digests: FileDigests) -> Iterator[tuple[SpecPath, ReadContent]]:
    """What the plan reads, each with the place in the spec that makes it part of a stage, as `belongs` tells.

    What cannot be read now is left out: the run reports it when it needs it.
    """
    plugins: dict[type[Strict], Plugin] = {e.component: e.plugin for e in registry.entries if not e.builtin}
    data: SpecPath | None = None
    first: dict[str, SpecPath] = {}
    for at, part in parts(plan.spec):
        if (plugin := plugins.get(type(part))) is not None:
            with suppress(OSError):
                place = first.setdefault(plugin.distribution, at)
                yield at, _plugin(plugin, place, digests)
        if isinstance(part, Dataset):
            data = at
            for reading in _rows(at, part, plan, digests):
                yield at, reading
        if data is not None and at[: len(data)] == data:
            continue  # its files are compared by split
        if isinstance(part, Model):
            for reading in _model(at, part, plan, digests):
                yield at, reading
        for below, file in named_files(part, plan.source.folder):
            with suppress(OSError):
                yield at, ReadContent(kind="file", at=(*at, *below), digest=digests.of(file))


def commits(plan: Plan) -> Iterator[tuple[SpecPath, ReadContent]]:
    """The commits of the models and tokenizers from the hub that the download cache has, as `read_content` gives them."""
    for at, part in parts(plan.spec.models, ("models",)):
        for read in part.read_files(plan.context(str(at[1]))) if isinstance(part, Model) else ():
            if read.what == "commit":
                yield at, ReadContent(kind="commit", at=(*at, read.at), digest=read.commit)


def belongs(plan: Plan, stage: str, at: SpecPath) -> bool:
    """Whether a place in the spec is part of a stage: it is of its tasks and models, or of those of an earlier stage."""
    names = list(plan.spec.stages)
    stages = names[: names.index(stage) + 1]
    match at:
        case ("tasks", task, *_):
            return any(task in each.tasks for each in plan.stages if each.name in stages)
        case ("models" | "adaptors", model, *_):
            return model in models_of(plan, stages)
        case ("stages", name, *_):
            return name in stages
    return True


def rows_digest(rows: Any) -> str:
    """A checksum of the rows of a split: the values of its columns by name, in the order of the rows."""
    digest = hashlib.sha256()
    for start in range(0, len(rows), _AT_ONCE):
        columns: Mapping[str, Any] = rows[start : start + _AT_ONCE]
        for name in sorted(columns):
            digest.update(json.dumps([name, list(columns[name])], default=repr).encode())
    return digest.hexdigest()


def _rows(at: SpecPath, dataset: Dataset, plan: Plan, digests: FileDigests) -> Iterator[ReadContent]:
    context = BuildContext(folder=plan.source.folder, seed=plan.spec.seed)
    if (files := dataset.files(context)) is not None:
        fields = type(dataset).model_fields
        for split, paths in files.items():
            place = (*at, split) if split in fields else at
            with suppress(OSError):
                yield ReadContent(kind="rows", at=place, name=split, digest=digests.together(paths))
        return
    try:
        splits = dataset.build(DatasetContext(folder=plan.source.folder, seed=plan.spec.seed))
        found = {split: (len(rows), rows_digest(rows)) for split, rows in splits.items()}
    except Exception:  # noqa: BLE001 - a plugin's, which the run calls again with what its task reads, and reports
        return
    for split, (number, digest) in found.items():
        yield ReadContent(kind="rows", at=at, name=split, digest=digest, rows=number)


def _model(at: SpecPath, model: Model, plan: Plan, digests: FileDigests) -> Iterator[ReadContent]:
    context = plan.context(str(at[1]))
    named: set[str] = set()
    with suppress(OSError):
        for read in model.read_files(context):
            if read.what == "commit":
                named.add(read.at)
            digest = read.commit or digests.together(read.files, named=True)
            yield ReadContent(kind=read.what, at=(*at, read.at), digest=digest)
    # Weights from the hub are those of the commit: before the first download there is no file.
    if "path" not in named:
        with suppress(OSError):
            if files := model.weight_files(context):
                place = (*at, "path") if "path" in type(model).model_fields else at
                yield ReadContent(kind="weights", at=place, digest=digests.together(files))


def _plugin(plugin: Plugin, at: SpecPath, digests: FileDigests) -> ReadContent:
    file = Path(plugin.origin)
    digest = plugin.version or (digests.of(file) if file.is_file() else plugin.origin)
    return ReadContent(kind="plugin", at=at, name=plugin.distribution, digest=digest)
