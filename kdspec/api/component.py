"""The one concept that plugins extend: a frozen, documented pydantic model that can `build()`."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Protocol, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from kdspec.api.docstrings import attribute_docstrings

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


class Strict(BaseModel):
    """A mapping in a spec: no unknown keys, no coercion, immutable, documented by its attribute docstrings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        validate_default=True,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        described = attribute_docstrings(cls)
        for name, field in cls.model_fields.items():
            key = field.alias or name
            if name in described and key in properties:
                properties[key].setdefault("description", described[name])
        return made

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_known_keys(cls, value: Any, handler: Callable[[Any], Any]) -> Any:
        if value is None:  # `soft_labels:` with nothing behind it is a mapping left empty
            value = {}
        try:
            return handler(value)
        except ValidationError as error:
            field = _field_of(cls, value, handler)
            raise _failure(*(_restated(each, cls, field=field) for each in error.errors(include_url=False))) from None


class Component(Strict):
    """Something that a spec names: a subclass with a `name` is a component, one with only a `kind` is a kind.

    The fields are its parameters, the docstrings its documentation, and `build` makes the working object.
    In a spec it is written as its name (`loss: ce`) or as a one-key mapping from its name to its parameters
    (`loss: {dkd: {alpha: 1}}`).
    """

    kind: ClassVar[str] = ""
    """The kind, for example `logit_loss`; set by the kind's class, never by a component."""
    name: ClassVar[str] = ""
    """The name in a spec; empty for a kind."""

    @abstractmethod
    def build(self, context: Any) -> Any:
        """Make the working object. Import torch and transformers here, not at the top of the module."""

    @classmethod
    def concrete(cls) -> bool:
        """Whether this class can be named in a spec, as opposed to being a kind."""
        return bool(cls.name)

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """For a kind that has a short form (a number for a schedule): the component's name and parameters."""
        del value
        return None

    def to_plain(self) -> Any:
        """The short form of this component, or None if it has none."""
        return None

    def unwritten(self) -> Collection[str]:
        """The fields that `written` leaves out, because a spec that says the same may not have them; by default none."""
        return ()

    def written(self) -> Any:
        """The component as a spec would write it, every parameter included but those of `unwritten`."""
        plain = self.to_plain()
        if plain is not None:
            return plain
        parameters = self.model_dump(mode="python", by_alias=True, exclude=set(self.unwritten()))
        return {self.name: parameters} if parameters else self.name

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.concrete():
            assert cls.kind, f"{cls.__name__} has a name but derives from no kind"
            assert _WORD.fullmatch(cls.name), f"{cls.__name__}.name is {cls.name!r}; a name is a word"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if cls.concrete():
            return handler(source)
        return core_schema.with_info_plain_validator_function(
            cls._look_up,
            serialization=core_schema.plain_serializer_function_ser_schema(_written, info_arg=True),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return super().__get_pydantic_json_schema__(schema, handler) if cls.concrete() else {"x-kdspec-kind": cls.kind}

    @classmethod
    def _look_up(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, cls):
            return value
        name, parameters, prefix = cls._named(value)
        registry = (info.context or {}).get("registry")
        if registry is None:
            raise PydanticCustomError(
                "no_registry",
                "the {kind} `{name}` can only be looked up with a registry; pass a built component instead",
                {"kind": cls.words(), "name": name},
            )
        found = cast("Finder", registry).find(cls.kind, name)
        if len(found) != 1:
            type_, adjective = ("ambiguous_component", "ambiguous") if found else ("unknown_component", "unknown")
            candidates = [entry.qualified for entry in found] or registry.names(cls.kind)
            message = f"{adjective} {{kind}} `{{name}}`"
            context = {"kind": cls.words(), "kind_id": cls.kind, "name": name, "candidates": candidates}
            raise _failure(_detail(type_, message, (), name, **context))
        try:
            return found[0].component.model_validate(parameters, context=info.context)
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise _failure(*(_restated(detail, None, *prefix) for detail in details)) from None

    @classmethod
    def _named(cls, value: Any) -> tuple[str, Any, tuple[str, ...]]:
        """The component's name, its parameters, and the path from `value` to the parameters."""
        plain = cls.from_plain(value)
        if plain is not None:
            return (*plain, ())
        if isinstance(value, str):
            return str(value), {}, ()
        if isinstance(value, Mapping) and len(value) == 1:
            name, parameters = next(iter(value.items()))
            if isinstance(name, str):
                return name, {} if parameters is None else parameters, (name,)
        context = {"kind": cls.words(), "keys": list(value) if isinstance(value, Mapping) else []}
        raise PydanticCustomError(
            "component_shape", "a {kind} is a name, or a mapping from one name to its parameters", context
        )

    @classmethod
    def words(cls) -> str:
        """The kind in plain words: `logit loss`."""
        return cls.kind.replace("_", " ")


class Entry(Protocol):
    """A component and who provides it."""

    @property
    def component(self) -> type[Component]:
        """The class."""

    @property
    def qualified(self) -> str:
        """The name that is never ambiguous."""


class Finder(Protocol):
    """The lookups of a registry that a component uses while a spec is validated."""

    def find(self, kind: str, name: str) -> list[Entry]:
        """All components that the name can refer to."""

    def names(self, kind: str) -> list[str]:
        """All names of the kind."""


def by_name(value: Any, *, description: str | None = None) -> Any:
    """A field with a default that is written as in a spec: `"ce"` for the loss of that name."""
    return Field(default=value, validate_default=True, description=description)


def invalid_value(message: str, *at: str | int, type_: Any = "wrong_value", **context: Any) -> ValidationError:
    """An error at a place below the value that is being validated, for a validator to raise."""
    return _failure(_detail(type_, "{text}", at, None, text=message, **context))


def _written(component: Any, info: SerializationInfo) -> Any:
    del info
    return component.written() if isinstance(component, Component) else component


def _failure(*details: InitErrorDetails) -> ValidationError:
    return ValidationError.from_exception_data("spec", list(details))


def _detail(type_: Any, message: Any, loc: tuple[int | str, ...], input_: Any, **context: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(type_, message, context), loc=loc, input=input_)


def _field_of(model: type[BaseModel], value: Any, handler: Callable[[Any], Any]) -> str | None:
    """The first field of a mapping that could have this value, where a number, text or boolean stands for the mapping."""
    if not isinstance(value, (str, int, float)):
        return None
    for name, field in model.model_fields.items():
        with suppress(ValidationError):
            handler({(key := field.alias or name): value})
            return key
    return None


def _restated(error: Any, model: type[BaseModel] | None, *prefix: str, field: str | None = None) -> InitErrorDetails:
    """The same error as one that can be raised again inside an outer validation, unknown keys with the known ones."""
    type_, loc, context = error["type"], (*prefix, *error["loc"]), dict(error.get("ctx") or {})
    if model is not None and type_ == "extra_forbidden" and len(loc) == 1:
        known = [field.alias or name for name, field in model.model_fields.items()]
        return _detail("unknown_key", "unknown key `{key}`", loc, error["input"], key=str(loc[0]), candidates=known)
    if model is not None and not loc and type_ in {"model_type", "model_attributes_type"}:
        context["field"] = field
    # The message is formatted already, so it is passed on as a value: braces in it are text, not placeholders.
    context["text"] = error["msg"]
    return _detail(type_, "{text}", loc, error["input"], **context)
