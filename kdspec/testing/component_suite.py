"""What every component has to be: documented, with valid defaults, written as it is read, and without torch until it is built."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from kdspec.api.component import Component, Strict
from kdspec.api.docstrings import attribute_docstrings
from kdspec.api.kinds.parts import fields
from kdspec.registry.registry import load_registry


def check_class(component: Component) -> None:
    """Check the class of a component.

    Raises:
        AssertionError: a docstring is missing, the defaults or the written form are invalid, or the module imports torch.
    """
    cls = type(component)
    who = f"{cls.words()} `{cls.name}`"
    assert (cls.__dict__.get("__doc__") or "").strip(), f"{who}: its class has no docstring"
    documented = attribute_docstrings(cls)
    bare = [name for name, field in cls.model_fields.items() if not (field.description or documented.get(name))]
    assert not bare, f"{who}: the parameter `{bare[0] if bare else ''}` has no docstring"
    # Editors complete from the schema, so it must exist and be JSON.
    json.dumps(cls.model_json_schema())
    if not any(field.is_required() for field in cls.model_fields.values()):
        with _needs_a_parameter():
            cls.model_validate({})
    written = component.written()
    parameters = written[cls.name] if isinstance(written, Mapping) else {}
    others = {type(part) for part in _within(component) if not type(part).__module__.startswith("kdspec.")}
    known = load_registry(*sorted(others - {cls}, key=lambda part: part.name), installed=False)
    read = cls.model_validate(parameters, context={"registry": known})
    assert read == component, f"{who}: {written} does not parse to an equal component"
    file = getattr(sys.modules[cls.__module__], "__file__", None)
    assert file, f"{who}: it must be defined in a file, so that its imports can be checked"
    heavy = _heavy_imports(cls.__module__, file)
    assert not heavy, f"{who}: its module imports {heavy}; import it within `build`"


@contextmanager
def _needs_a_parameter() -> Iterator[None]:
    """Allow that one of several parameters must be given, which no field shows by itself."""
    try:
        yield
    except ValidationError as error:
        if any(each["type"] not in ("missing_key", "missing") for each in error.errors()):
            raise


def _within(value: Any) -> Iterator[Component]:
    """All components among the parameters, those of groups of parameters and in lists included."""
    match value:
        case Strict():
            for _, inner in fields(value):
                if isinstance(inner, Component):
                    yield inner
                yield from _within(inner)
        case list() | tuple():
            for inner in value:
                if isinstance(inner, Component):
                    yield inner
                yield from _within(inner)
        case Mapping():
            yield from _within(list(value.values()))


_PROBE = """
import importlib, importlib.util, sys
name, file = sys.argv[1:]
try:
    if name == "__main__":
        raise ModuleNotFoundError(name=name)
    importlib.import_module(name)
except ModuleNotFoundError as error:
    if not name.startswith(error.name or "?"):
        raise
    spec = importlib.util.spec_from_file_location("probed", file)
    sys.modules["probed"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
print(*sorted({"torch", "transformers", "datasets"} & sys.modules.keys()), sep=", ")
"""


@functools.cache
def _heavy_imports(module: str, file: str) -> str:
    """The heavy packages that importing a module imports, checked in a new process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _PROBE, module, file], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{module} cannot be imported in a new process:\n{done.stderr}"
    return done.stdout.strip()
