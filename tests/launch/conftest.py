"""Runs of toys by the functions in Python, in an empty working folder."""

from __future__ import annotations

import pytest
from toy_runs import SPEC, TOYS

import kdspec


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """`toy("run", ...)` calls a function of kdspec on `toy.yaml`, with the plugin of the toys."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(SPEC, encoding="utf-8")

    def call(function, spec="toy.yaml", *, plugins=(), **options):
        if function == "run":
            options = {"device": "cpu", "progress": False} | options
        return getattr(kdspec, function)(spec, plugins=[TOYS, *plugins], **options)

    return call
