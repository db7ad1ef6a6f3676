"""Every number of a spec has an upper bound that no real use reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import kdspec_dkd
import kdspec_emd
import kdspec_theseus
import pytest
from pydantic import BaseModel

from kdspec import load_registry
from kdspec.api.spec.spec import Spec
from kdspec.testing import check

FOLDER = Path(__file__).parents[2] / "diagnostics"
FINE = (FOLDER / "fine.yaml").read_text(encoding="utf-8")
REGISTRY = load_registry(kdspec_dkd, kdspec_emd, kdspec_theseus, installed=False)
MODELS = (Spec, *(entry.component for entry in REGISTRY.entries))
UNBOUNDED: dict[str, str] = {}
"""Numbers without a bound of their own, each with its reason."""


def numbers(annotation: Any, metadata: tuple[Any, ...], at: str, seen: set[str]) -> Iterator[tuple[str, bool]]:
    """The numbers in a type: where each one is, and whether it has an upper bound."""
    if hasattr(annotation, "__metadata__"):
        yield from numbers(annotation.__origin__, (*metadata, *annotation.__metadata__), at, seen)
    elif annotation in (int, float):
        flat = [inner for each in metadata for inner in (each, *getattr(each, "metadata", ()))]
        yield at, any(hasattr(each, bound) for each in flat for bound in ("lt", "le"))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from fields(annotation, seen)
    elif get_origin(annotation) is not Literal:
        outer = metadata if type(None) in get_args(annotation) else ()
        for inner in get_args(annotation):
            yield from numbers(inner, outer, at, seen)


def fields(model: type[BaseModel], seen: set[str]) -> Iterator[tuple[str, bool]]:
    """The numbers of a model and of the models in it."""
    if model.__qualname__ in seen:
        return
    seen.add(model.__qualname__)
    for name, field in model.model_fields.items():
        yield from numbers(field.annotation, tuple(field.metadata), f"{model.__name__}.{field.alias or name}", seen)


FOUND: dict[str, bool] = {}
for _model in MODELS:
    for _at, _bounded in fields(_model, set()):
        FOUND[_at] = FOUND.get(_at, True) and _bounded


@pytest.mark.parametrize("at", sorted(FOUND))
def test_every_number_has_an_upper_bound(at):
    assert FOUND[at] or at in UNBOUNDED, f"{at} takes any number: give it `le=`, or its reason in UNBOUNDED"


def test_no_exception_is_left_over():
    assert set(UNBOUNDED) <= {at for at, bounded in FOUND.items() if not bounded}


G, T = "stages.distil.distiller.general", "stages.distil.training"
SLIPS = [
    (f"{T}.lanes=1000000000", "at most 1,024"),
    (f"{T}.batch_size=9000000000000000000", "at most 1,000,000"),
    (f"{T}.accumulate=1000000000000", "at most 1,000,000"),
    (f"{T}.log_every=4611686018427387904", "at most 1,000,000,000"),
    (f"{T}.epochs=1e300", "at most 1,000,000"),
    (f"{T}.checkpoint.keep=9000000000000000000", "at most 1,000,000,000"),
    (f"{T}.early_stopping.patience=10000000000", "at most 1,000,000,000"),
    (f"{T}.optimizer={{adamw: {{lr: 1e9}}}}", "at most 10,000"),
    (f"{T}.max_grad_norm=1e30", "at most 1,000,000,000"),
    (f"{G}.soft_labels.temperature=1e-300", "at least 0.001"),
    (f"{G}.soft_labels.temperature=1e12", "at most 1,000,000"),
    (f"{G}.soft_labels.weight=1e300", "at most 1,000,000,000"),
    (f"{G}.matches[0].layers={{123456: 1}}", "at most 10,000"),
    ("tasks.reviews.sequence_classification.max_length=9000000000000000000", "at most 10,000,000"),
    ("models.student.transformers.config.hidden_size=1099511627776", "at most 10,000,000"),
    ("models.student.transformers.config.layer_norm_eps=1e30", "at most 100"),
    ("models.student.transformers.config.initializer_range=1e30", "at most 1,000,000,000,000"),
]
"""A value of the spec, and the bound that its error names."""


@pytest.mark.parametrize(("slip", "bound"), SLIPS, ids=[slip for slip, _ in SLIPS])
def test_the_error_of_a_slip_names_the_bound_at_the_value(slip, bound):
    value = slip.partition("=")[2]
    (error,) = check(FINE, folder=FOLDER, sets=[slip]).errors
    assert error.code == "KD104"
    assert error.message.endswith(f"must be {bound}")
    assert error.primary is not None
    assert error.primary.span.column == (
        slip.index(value) if "{" not in value else slip.index(re.search(r"[0-9]\S+?(?=[:}])", value)[0])
    )


@pytest.mark.parametrize(
    "used",
    [
        f"{T}.lanes=512",
        f"{T}.batch_size=65536",
        f"{T}.log_every=1000000000",
        f"{T}.steps=20000000",
        f"{G}.soft_labels.temperature=0.01",
        f"{G}.matches[0].weight=1e6",
        "tasks.reviews.sequence_classification.max_length=131072",
    ],
)
def test_a_large_number_that_someone_uses_is_taken(used):
    sets = [used, f"{T}.epochs=null"] if ".steps" in used else [used]
    assert check(FINE, folder=FOLDER, sets=sets).errors == ()
