"""Where a transformers model comes from: exactly one of a path, a configuration, and another model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

_BESIDE_A_PATH = (
    "beside `path`, `config` describes that model as it is, and has its `model_type`; a new model of another shape has "
    "`like` in place of `path`"
)


def check(given: Mapping[str, Any], *, copies_from: str | None) -> None:
    """Raise the error of a model with no source, or with several.

    Args:
        given: `path`, `like`, `config`, `revision`, `labels` and `initialize`, None or empty where the spec has none.
        copies_from: the model that `initialize` names.

    Raises:
        ValidationError, PydanticCustomError: a missing key, or keys that exclude each other.
    """
    sources = [key for key in ("path", "like", "config") if given[key] is not None]
    known = isinstance((given["config"] or {}).get("model_type"), str)  # without it, the entries are changes
    if not sources:
        raise missing("path")
    if sources[0] == "path":
        others = [key for key in sources[1:] if key != "config" or not known]
        others += ["initialize"] if given["initialize"] is not None else []
        if others:
            raise _exclusive("path", others[0], help_=_BESIDE_A_PATH if others[0] == "config" else None)
    elif given["revision"] is not None:
        raise _exclusive("revision", sources[0])
    elif given["labels"]:
        raise _exclusive("labels", sources[0])
    if sources == ["config"] and not known:
        raise missing("model_type", "config")
    if given["initialize"] is not None and copies_from is None and given["like"] is None:
        raise missing("from", "initialize")


def missing(key: str, *at: str) -> ValidationError:
    """The error of a key that a mapping lacks."""
    error = PydanticCustomError("missing_key", "missing key `{key}`", {"key": key})
    return ValidationError.from_exception_data("spec", [InitErrorDetails(type=error, loc=at, input=None)])


def _exclusive(one: str, other: str, help_: str | None = None) -> PydanticCustomError:
    context = {"keys": [one, other], "one": one, "other": other, **({"help": help_} if help_ else {})}
    return PydanticCustomError("exclusive_keys", "`{one}` and `{other}` exclude each other", context)
