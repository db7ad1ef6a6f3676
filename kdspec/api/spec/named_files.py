"""The parts of a spec with their places, and the files and folders that their parameters name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from kdspec.api.component import Component, Strict
from kdspec.api.spec.file_fields import SpecFile, SpecFolderOrHub, local_folder
from kdspec.diagnostics.finding import SpecPath

_FILE, _FOLDER = (get_args(type_)[1] for type_ in (SpecFile, SpecFolderOrHub))


def parts(value: Any, at: SpecPath = ()) -> Iterator[tuple[SpecPath, Strict]]:
    """The components and groups of parameters in a spec or in a part of it, outer ones first, each with its path."""
    if isinstance(value, Component):
        at = (*at, value.name)
    if isinstance(value, Strict):
        yield at, value
        for name, field in type(value).model_fields.items():
            yield from parts(getattr(value, name), (*at, field.alias or name))
    for key, item in _items(value):
        yield from parts(item, (*at, key))


def named_files(part: Strict, folder: Path) -> Iterator[tuple[SpecPath, Path]]:
    """The files that fields of the type `SpecFile` name, each with its path below the part.

    Args:
        part: a component or a group of parameters; what `parts` finds in it is left out.
        folder: the folder of the spec.
    """
    for at, value in _named(part, _FILE):
        yield at, folder / os.path.expanduser(value)  # noqa: PTH111 - raises nothing


def named_folders(part: Strict, folder: Path) -> Iterator[tuple[SpecPath, Path]]:
    """The folders that fields of the type `SpecFolderOrHub` name; names on the hub are left out."""
    for at, value in _named(part, _FOLDER):
        if (found := local_folder(value, folder)) is not None:
            yield at, found


def _named(part: Strict, mark: Any) -> Iterator[tuple[SpecPath, str]]:
    for name, field in type(part).model_fields.items():
        if mark in field.metadata or _has(field.annotation, mark):
            yield from _texts(getattr(part, name), (field.alias or name,))


def _has(annotation: Any, mark: Any) -> bool:
    """Whether a type, or one inside it, is annotated with the mark."""
    own = annotation.__metadata__ if get_origin(annotation) is Annotated else ()
    return mark in own or any(_has(each, mark) for each in get_args(annotation))


def _texts(value: Any, at: SpecPath) -> Iterator[tuple[SpecPath, str]]:
    if isinstance(value, str):
        yield at, value
    for key, item in _items(value):
        yield from _texts(item, (*at, key))


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
