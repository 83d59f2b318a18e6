"""Values that fit a schema, checked by an independent validator."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.simulator.schema import fit

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FIT: dict[str, Any] = {
    "a string": {"type": "string"},
    "a short string": {"type": "string", "maxLength": 3},
    "a long string": {"type": "string", "minLength": 40},
    "a date": {"type": "string", "format": "date-time"},
    "a choice": {"enum": ["a", "b"]},
    "a choice of numbers": {"type": "integer", "enum": [3, 5]},
    "a constant": {"const": {"x": [1]}},
    "a truth value": {"type": "boolean"},
    "nothing": {"type": "null"},
    "a number in a range": {"type": "number", "minimum": 0.5, "maximum": 0.75},
    "a number outside a range": {"type": "number", "exclusiveMinimum": 4, "exclusiveMaximum": 5},
    "an integer above": {"type": "integer", "exclusiveMinimum": 4},
    "a multiple": {"type": "integer", "multipleOf": 7, "minimum": 3},
    "an object": PERSON,
    "a list of objects": {"type": "array", "items": PERSON, "minItems": 3},
    "a short list": {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
    "an empty list": {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
    "a tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "maxItems": 2},
    "a list of anything": {"type": "array"},
    "one of several": {"anyOf": [{"type": "null"}, PERSON]},
    "exactly one of several": {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
    "only null branches": {"anyOf": [{"type": "null"}]},
    "all of several": {"allOf": [PERSON, {"required": ["name"]}]},
    "a nullable type": {"type": ["null", "integer"]},
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "a required name without a schema": {"type": "object", "required": ["x"]},
    "no type but properties": {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "no type but items": {"items": {"type": "integer"}, "minItems": 1},
    "a property that may not be": {"type": "object", "properties": {"a": False, "b": True}},
    "properties named like words": {
        "type": "object",
        "properties": {"type": {"type": "string"}, "$ref": {"type": "integer"}, "enum": {"type": "boolean"}},
        "required": ["type", "$ref", "enum"],
    },
    "a reference": {"$ref": "#/$defs/P", "$defs": {"P": PERSON}},
    "a chain of references": {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "integer"}}},
    "an escaped reference": {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}},
    "a tree": {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "left": {"$ref": "#/$defs/Node"},
                    "all": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["value"],
            }
        },
        "$ref": "#/$defs/Node",
    },
    "anything": {},
}


@pytest.mark.parametrize("salt", [0, 1, 2])
@pytest.mark.parametrize("schema", FIT.values(), ids=FIT.keys())
def test_value_fits_its_schema(schema: Any, salt: int) -> None:
    jsonschema.validate(fit(schema, salt), schema)


def test_schema_objects_of_google_are_filled_too() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "kind": {"type": "STRING", "enum": ["x", "y"]},
            "rank": {"type": "INTEGER", "enum": ["7"]},
            "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "3"},
            "note": {"type": "STRING", "nullable": True},
        },
    }
    assert fit(schema) == {
        "kind": "x",
        "rank": 7,
        "tags": ["sample tags"] * 3,
        "note": "sample note",
    }


@pytest.mark.parametrize("schema", [True, None, 1, {"type": "unheard-of"}, {"$ref": "#/nowhere"}])
def test_schema_that_says_nothing_gets_a_text(schema: Any) -> None:
    assert fit(schema) == "sample value"


def test_endless_schema_ends() -> None:
    schema = {"$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}}}
    schema["$ref"] = "#/$defs/A"  # type: ignore[assignment]
    assert "a" in fit(schema)


def test_salt_makes_a_difference() -> None:
    assert fit({"type": "string"}, 0) != fit({"type": "string"}, 1)
    assert fit({"enum": ["a", "b"]}, 1) == "b"


scalars = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"enum": [1, "a"]}])
schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "minItems": 1}, inner),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(
            lambda fields: {"type": "object", "properties": fields, "required": sorted(fields)},
            st.dictionaries(st.sampled_from(["a", "type", "$ref", "items"]), inner, max_size=3),
        ),
    ),
    max_leaves=12,
)


@given(schemas, st.integers(0, 3))
def test_any_schema_of_these_words_is_fitted(schema: Any, salt: int) -> None:
    jsonschema.validate(fit(schema, salt), schema)
