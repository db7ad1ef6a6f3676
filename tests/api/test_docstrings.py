"""Docstrings of attributes are found in the source, for a class and for what it derives from."""

from __future__ import annotations

from pydantic import Field

from kdspec.api.component import Strict
from kdspec.api.docstrings import attribute_docstrings


class Parent(Strict):
    """A model."""

    first: int = 1
    """The first,
    over two lines."""
    second: int = 2
    third: int = 3
    """Of the parent."""


class Child(Parent):
    third: int = 3
    """Of the child."""
    fourth: int = Field(default=4, description="As written.")
    """Below the field."""
    kept: int = Field(default=5, alias="lambda")
    """Under its alias."""


class Inner(Strict):
    child: Child = Child()
    """Holds another model."""


def test_each_attribute_has_the_text_below_it():
    assert attribute_docstrings(Parent) == {"first": "The first,\nover two lines.", "third": "Of the parent."}


def test_a_class_adds_to_its_parent_and_replaces_what_it_writes_again():
    told = attribute_docstrings(Child)
    assert told["first"].startswith("The first")
    assert told["third"] == "Of the child."


def test_a_class_within_a_function_has_them():
    class Local(Strict):
        value: int = 0
        """Told."""

    assert attribute_docstrings(Local) == {"value": "Told."}


def test_a_class_without_a_file_has_none():
    space = {"Strict": Strict, "__name__": __name__}
    exec('class Made(Strict):\n    value: int = 0\n    """Told."""\n', space)
    assert attribute_docstrings(space["Made"]) == {}


def test_the_json_schema_has_them_under_the_keys_of_a_spec():
    properties = Child.model_json_schema()["properties"]
    assert properties["first"]["description"] == "The first,\nover two lines."
    assert "description" not in properties["second"]
    assert properties["fourth"]["description"] == "As written."
    assert properties["lambda"]["description"] == "Under its alias."


def test_the_json_schema_has_those_of_inner_models():
    schema = Inner.model_json_schema()
    assert schema["properties"]["child"]["description"] == "Holds another model."
    assert schema["$defs"]["Child"]["properties"]["third"]["description"] == "Of the child."
