"""The schema walk: a row a rule (docs/protocol.md 5.4), circles, limits, and what holds for any schema."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.converter.schema import cache as schema
from gemproxy.converter.schema.cache import Unusable, answer_schema, tool_schema
from gemproxy.converter.schema.clean import MAX_BYTES
from gemproxy.converter.schema.refs import References
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.load.turns import Abandoned
from tests.burdens import client_left
from tests.chat_bodies import body, function, refused
from tests.corpus import listed
from tests.growth import Task, check_linear

DOCUMENTED = frozenset(
    (
        *("$defs", "$ref", "type", "format", "title", "description", "enum", "items", "prefixItems", "minItems"),
        *("maxItems", "minimum", "maximum", "anyOf", "properties", "additionalProperties", "required"),
        "propertyOrdering",
    )
)


def plenty() -> Effort:
    return Effort(1_000_000)


def answer(document: Any) -> Any:
    found = answer_schema(msgspec.json.encode(document), plenty())
    return msgspec.json.decode(found) if found else None


def tool(document: Any) -> Any:
    found = tool_schema(msgspec.json.encode(document), plenty())
    return msgspec.json.decode(found) if found else None


def node(document: Any) -> Any:
    """Return what becomes of a schema that stands as a property; None if the property goes."""
    found = answer({"type": "object", "properties": {"p": document}})
    return found["properties"].get("p")


STRING = {"type": "string"}
NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        # what goes through as it is
        pytest.param({}, {}, id="anything"),
        pytest.param(True, {}, id="true is anything"),
        pytest.param(False, None, id="false: the property goes"),
        pytest.param(STRING, STRING, id="a type"),
        pytest.param({"type": "STRING"}, STRING, id="a type in Gemini's own capitals"),
        pytest.param({"type": "any"}, {}, id="a word that is no type"),
        pytest.param({"type": ["string", "null"]}, {"type": ["string", "null"]}, id="a type or null"),
        pytest.param({"type": ["string"]}, STRING, id="a list of one type"),
        pytest.param({"type": "null"}, NULL, id="null"),
        pytest.param(
            {"type": "string", "title": "T", "description": "D"},
            {"type": "string", "title": "T", "description": "D"},
            id="title and description",
        ),
        pytest.param({"type": "string", "title": 5, "description": []}, STRING, id="unless they are no words"),
        pytest.param({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}, id="a date"),
        pytest.param(
            {"type": "string", "format": "email", "description": "D"},
            {"type": "string", "description": "D Format: email."},
            id="a format that Gemini does not know is told",
        ),
        pytest.param({"type": "string", "format": ""}, STRING, id="an empty format"),
        pytest.param(
            {"type": "array", "items": STRING, "minItems": 1, "maxItems": 3},
            {"type": "array", "items": STRING, "minItems": 1, "maxItems": 3},
            id="a list",
        ),
        pytest.param({"type": "array"}, {"type": "array", "items": {}}, id="a list of anything"),
        pytest.param({"type": "array", "items": True}, {"type": "array", "items": {}}, id="a list of true"),
        pytest.param({"type": "array", "items": False}, {"type": "array", "items": {}}, id="a list of nothing"),
        pytest.param(
            {"type": "array", "prefixItems": [STRING, False, {"type": "integer"}]},
            {"type": "array", "prefixItems": [STRING, {"type": "integer"}]},
            id="a tuple",
        ),
        pytest.param(
            {"type": "array", "items": [STRING], "additionalItems": {"type": "integer"}},
            {"type": "array", "prefixItems": [STRING], "items": {"type": "integer"}},
            id="a tuple of older drafts",
        ),
        pytest.param({"items": STRING}, {"type": "array", "items": STRING}, id="items without a type"),
        pytest.param(
            {"properties": {"a": STRING}}, {"type": "object", "properties": {"a": STRING}}, id="properties without one"
        ),
        pytest.param(
            {"type": "object", "additionalProperties": False},
            {"type": "object", "additionalProperties": False},
            id="no further properties",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}},
            {"type": "object", "additionalProperties": STRING},
            id="a dictionary",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/None"}},
            {"type": "object", "additionalProperties": {}},
            id="a dictionary of a ref that leads nowhere",
        ),
        pytest.param(
            {"type": "object", "patternProperties": {"^x": STRING}, "additionalProperties": False},
            {"type": "object", "additionalProperties": STRING},
            id="names by one pattern",
        ),
        pytest.param(
            {"type": "object", "patternProperties": {"^x": STRING, "^y": NULL}, "additionalProperties": False},
            {"type": "object", "additionalProperties": True},
            id="names by several patterns",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": {}, "b": {}}, "propertyOrdering": ["b", "c", "a"]},
            {"type": "object", "properties": {"a": {}, "b": {}}, "propertyOrdering": ["b", "a"]},
            id="an order of properties",
        ),
        # required
        pytest.param(
            {"type": "object", "properties": {"a": {}, "b": False}, "required": ["a", "b", "c", "a", 5]},
            {"type": "object", "properties": {"a": {}}, "required": ["a"]},
            id="required is what there is, once",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": {}}, "required": True},
            {"type": "object", "properties": {"a": {}}},
            id="required of draft 3",
        ),
        pytest.param({"type": "object", "required": ["a"]}, {"type": "object"}, id="required of nothing"),
        # enum and const
        pytest.param({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}, id="an enum tells its type"),
        pytest.param(
            {"type": "string", "enum": ["a", "", "a"]}, {"type": "string", "enum": ["a"]}, id="once, no empty"
        ),
        pytest.param({"type": "string", "enum": [""]}, STRING, id="an enum of nothing"),
        pytest.param({"type": "string", "enum": "a"}, STRING, id="an enum that is none"),
        pytest.param(
            {"type": "string", "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a"]}, id="null in an enum"
        ),
        pytest.param({"enum": [None]}, NULL, id="nothing but null"),
        pytest.param({"enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}, id="numbers"),
        pytest.param({"enum": [1, 2.5]}, {"type": "number", "enum": [1, 2.5]}, id="numbers with a fraction"),
        pytest.param({"enum": [True, False]}, {"type": "boolean"}, id="both truths say nothing"),
        pytest.param(
            {"type": "boolean", "enum": [True]}, {"type": "boolean", "description": "One of: true."}, id="one truth"
        ),
        pytest.param(
            {"type": "boolean", "enum": [True, True], "description": "D"},
            {"type": "boolean", "description": "D One of: true."},
            id="one truth, twice",
        ),
        pytest.param(
            {"enum": [False, None]},
            {"type": ["boolean", "null"], "description": "One of: false."},
            id="a truth or null",
        ),
        pytest.param(
            {"type": "string", "enum": ["auto", True]},
            {"type": "string", "enum": ["auto", "true"], "description": 'One of: "auto", true.'},
            id="a truth among words",
        ),
        pytest.param(
            {"enum": [1, True]},
            {"type": "string", "enum": ["1", "true"], "description": "One of: 1, true."},
            id="a truth among numbers",
        ),
        pytest.param({"enum": ["a", {"b": True}]}, {"description": 'One of: "a", {"b":true}.'}, id="an object in it"),
        pytest.param({"enum": [0.5, None]}, {"type": ["number", "null"], "enum": [0.5]}, id="a fraction or null"),
        pytest.param(
            {"type": ["integer", "string"], "enum": [1, "a", "1"], "description": "D"},
            {"type": "string", "enum": ["1", "a"], "description": 'D One of: 1, "a", "1".'},
            id="of several types they go as text, with a word on it",
        ),
        pytest.param({"enum": [{"a": 1}]}, {"description": 'One of: {"a":1}.'}, id="objects are told"),
        pytest.param({"const": "a"}, {"type": "string", "enum": ["a"]}, id="a constant"),
        pytest.param({"const": False}, {"type": "boolean", "description": "One of: false."}, id="false as constant"),
        pytest.param({"const": True}, {"type": "boolean", "description": "One of: true."}, id="true as constant"),
        pytest.param({"const": 0}, {"type": "integer", "enum": [0]}, id="zero as constant"),
        pytest.param({"const": None}, NULL, id="null as constant"),
        pytest.param({"const": "a", "enum": ["a", "b"]}, {"type": "string", "enum": ["a"]}, id="the constant wins"),
        # null
        pytest.param({"type": "string", "nullable": True}, {"type": ["string", "null"]}, id="nullable"),
        pytest.param({"type": "string", "nullable": False}, STRING, id="not nullable"),
        pytest.param({"anyOf": [STRING], "nullable": True}, {"anyOf": [STRING, NULL]}, id="nullable by a branch"),
        pytest.param(
            {"anyOf": [STRING, NULL], "nullable": True}, {"anyOf": [STRING, NULL]}, id="that is there already"
        ),
        pytest.param({"nullable": True}, {}, id="anything holds null already"),
        # bounds
        pytest.param(
            {"type": "integer", "minimum": 1, "maximum": 9}, {"type": "integer", "minimum": 1, "maximum": 9}, id="b"
        ),
        pytest.param({"type": "integer", "minimum": "1"}, {"type": "integer"}, id="a bound that is no number"),
        pytest.param({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}, id="above 0"),
        pytest.param(
            {"type": "integer", "exclusiveMinimum": 0.5}, {"type": "integer", "minimum": 1}, id="above a half"
        ),
        pytest.param({"type": "integer", "exclusiveMaximum": 9}, {"type": "integer", "maximum": 8}, id="below 9"),
        pytest.param({"type": "integer", "exclusiveMaximum": 8.5}, {"type": "integer", "maximum": 8}, id="below 8.5"),
        pytest.param(
            {"type": "integer", "minimum": 5, "exclusiveMinimum": 0},
            {"type": "integer", "minimum": 5},
            id="the tighter",
        ),
        pytest.param(
            {"type": "integer", "minimum": 5, "exclusiveMinimum": True},
            {"type": "integer", "minimum": 6},
            id="draft 4's flag",
        ),
        pytest.param(
            {"type": "integer", "maximum": 5, "exclusiveMaximum": False},
            {"type": "integer", "maximum": 5},
            id="draft 4's flag unset",
        ),
        pytest.param(
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1.5},
            {"type": "number", "description": "Greater than 0. Less than 1.5."},
            id="of fractions they are told",
        ),
        # branches
        pytest.param({"anyOf": [STRING, NULL]}, {"anyOf": [STRING, NULL]}, id="anyOf with null"),
        pytest.param({"oneOf": [STRING, NULL]}, {"anyOf": [STRING, NULL]}, id="oneOf is anyOf"),
        pytest.param({"anyOf": [STRING, False]}, {"anyOf": [STRING]}, id="a branch that nothing satisfies"),
        pytest.param(
            {"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}]},
            {"type": "object", "properties": {"a": {}}},
            id="branches that say nothing here",
        ),
        pytest.param(
            {"type": ["string", "integer"], "minimum": 1, "format": "date", "description": "D"},
            {"anyOf": [{"type": "string", "format": "date"}, {"type": "integer", "minimum": 1}], "description": "D"},
            id="several types are branches",
        ),
        pytest.param(
            {"type": ["object", "array", "null"], "properties": {"a": STRING}, "required": ["a"]},
            {
                "anyOf": [
                    {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
                    {"type": "array", "items": {}},
                    NULL,
                ]
            },
            id="with what belongs to each, and null",
        ),
        pytest.param({"type": ["integer", "number"]}, {"type": "number"}, id="integers are numbers"),
        # allOf
        pytest.param({"allOf": [STRING]}, STRING, id="all of one"),
        pytest.param({"allOf": [STRING], "description": "D"}, {"type": "string", "description": "D"}, id="and a word"),
        pytest.param(
            {
                "allOf": [
                    {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
                    {"properties": {"b": NULL}, "required": ["b"]},
                ]
            },
            {"type": "object", "properties": {"b": NULL, "a": STRING}, "required": ["b", "a"]},
            id="all of two objects",
        ),
        pytest.param({"allOf": [{"allOf": [STRING]}, True]}, STRING, id="all of all"),
        pytest.param({"allOf": "x", "type": "string"}, STRING, id="all of no list"),
        # what Gemini does not know
        pytest.param(
            {
                "type": "string",
                "$schema": "x",
                "$id": "x",
                "$anchor": "x",
                "$comment": "x",
                "pattern": "x",
                "minLength": 1,
                "maxLength": 2,
                "default": "x",
                "examples": ["x"],
                "deprecated": True,
                "readOnly": True,
                "contentEncoding": "base64",
                "if": {},
                "then": {},
                "else": {},
                "not": {},
                "x-mine": 1,
            },
            STRING,
            id="keywords that cost tokens and have no effect",
        ),
        pytest.param(
            {
                "type": "object",
                "dependentRequired": {},
                "propertyNames": {},
                "minProperties": 1,
                "unevaluatedItems": {},
            },
            {"type": "object"},
            id="those of objects",
        ),
        pytest.param({"type": "object", "properties": []}, {"type": "object"}, id="properties that are none"),
    ],
)
def test_node(given_: Any, expected: Any) -> None:
    assert node(given_) == expected


KEYWORDS = ["type", "title", "format", "default", "enum", "const", "$ref", "$defs", "properties", "items", "required"]


@pytest.mark.parametrize("name", [*KEYWORDS, "anyOf", "allOf", "nullable", "description", "definitions", "minimum"])
def test_a_property_named_like_a_keyword_survives(name: str) -> None:
    document = {"type": "object", "properties": {name: STRING}, "required": [name]}
    assert tool(document) == document
    assert node(document) == document


def test_what_looks_like_a_schema_in_values_is_not_walked() -> None:
    assert node({"const": {"$ref": "#/nowhere"}}) == {"description": 'One of: {"$ref":"#/nowhere"}.'}
    assert node({"default": {"$ref": "#/$defs/X"}, "examples": [{"allOf": 5}], "type": "string"}) == STRING


def test_hints_are_bounded() -> None:
    assert len(node({"const": ["x" * 5000]})["description"]) < 500


# ------------------------------------------------------------------------------------------------------------- refs

PERSON = {"type": "object", "properties": {"name": STRING}, "required": ["name"]}


@pytest.mark.parametrize("home", ["$defs", "definitions"])
def test_a_plain_ref_is_kept_with_its_definition(home: str) -> None:
    document = {"properties": {"p": {"$ref": f"#/{home}/Person"}}, home: {"Person": PERSON, "Unused": PERSON}}
    assert answer(document) == {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/Person"}},
        "$defs": {"Person": PERSON},
    }


def test_a_ref_with_something_beside_it_is_written_out() -> None:
    document = {
        "properties": {"p": {"$ref": "#/$defs/Person", "description": "Who", "default": None}},
        "$defs": {"Person": PERSON},
    }
    assert answer(document) == {
        "type": "object",
        "properties": {"p": {**PERSON, "description": "Who"}},
    }


@pytest.mark.parametrize("beside", [{"title": "T"}, {"default": {}}, {"deprecated": True}, {"nullable": False}])
def test_a_ref_with_nothing_to_say_beside_it_stays_bare(beside: dict[str, Any]) -> None:
    document = {"properties": {"p": {"$ref": "#/$defs/Person", **beside}}, "$defs": {"Person": PERSON}}
    assert answer(document)["properties"]["p"] == {"$ref": "#/$defs/Person"}


def test_a_nullable_ref_is_a_branch_beside_null() -> None:
    document = {"properties": {"p": {"$ref": "#/$defs/Person", "nullable": True}}, "$defs": {"Person": PERSON}}
    assert answer(document)["properties"]["p"] == {"anyOf": [{"$ref": "#/$defs/Person"}, NULL]}


def test_what_pydantic_1_writes_is_written_out() -> None:
    document = {
        "properties": {"p": {"title": "P", "allOf": [{"$ref": "#/definitions/Person"}], "description": "Who"}},
        "definitions": {"Person": PERSON},
    }
    assert answer(document)["properties"]["p"] == {**PERSON, "title": "P", "description": "Who"}


def test_all_of_refs_are_merged() -> None:
    document = {
        "$defs": {
            "A": PERSON,
            "B": {"allOf": [{"$ref": "#/$defs/C"}]},
            "C": {"properties": {"age": {"type": "integer"}}},
        },
        "properties": {"p": {"allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {"$ref": "#/$defs/None"}]}},
    }
    assert answer(document)["properties"]["p"] == {
        "type": "object",
        "properties": {"age": {"type": "integer"}, "name": STRING},
        "required": ["name"],
    }


def test_an_heir_keeps_what_it_adds_though_its_parent_is_named_twice() -> None:
    document = {
        "type": "object",
        "properties": {"p": {"allOf": [{"$ref": "#/$defs/Person"}, {"$ref": "#/$defs/Child"}]}},
        "$defs": {
            "Person": PERSON,
            "Child": {
                "allOf": [{"$ref": "#/$defs/Person"}],
                "properties": {"parent": {"$ref": "#/$defs/Person"}},
                "required": ["parent"],
            },
        },
    }
    found = tool(document)["properties"]["p"]
    assert found["properties"] == {"name": STRING, "parent": {"$ref": "#/$defs/Person"}}
    assert sorted(found["required"]) == ["name", "parent"]


@pytest.mark.parametrize(
    "ref",
    [
        pytest.param("#/$defs/None", id="nowhere"),
        pytest.param("#/$defs/Person/properties/none", id="nowhere in something"),
        pytest.param("#/$defs/Person/required/7", id="beyond a list"),
        pytest.param("#/$defs/Person/required/" + "9" * 5_000, id="far beyond a list"),
        pytest.param("#/$defs/Person/type/x", id="into a word"),
        pytest.param("#/$defs/Person/type", id="at a word"),
        pytest.param("https://example.org/schema.json", id="in another document"),
        pytest.param("other.json#/x", id="in a file"),
        pytest.param("#anchor", id="at an anchor"),
        pytest.param("", id="empty"),
    ],
)
def test_a_ref_that_leads_nowhere_is_anything(ref: str) -> None:
    document = {"properties": {"p": {"$ref": ref, "description": "D"}, "q": {"$ref": ref}}, "$defs": {"Person": PERSON}}
    found = answer(document)
    assert found["properties"] == {"p": {"description": "D"}, "q": {}}
    assert "$defs" not in found


def test_a_ref_to_a_truth_is_what_it_says() -> None:
    document = {
        "properties": {"p": {"$ref": "#/$defs/T"}, "q": {"$ref": "#/$defs/F"}},
        "$defs": {"T": True, "F": False},
    }
    assert answer(document)["properties"] == {"p": {}}


def test_a_ref_into_the_document_becomes_a_definition() -> None:
    document = {
        "properties": {
            "a": PERSON,
            "b": {"$ref": "#/properties/a"},
            "c": {"$ref": "#/properties/d/prefixItems/0"},
            "d": {"type": "array", "prefixItems": [STRING]},
        }
    }
    found = answer(document)
    assert found["properties"]["b"] == {"$ref": "#/$defs/a"}
    assert found["$defs"] == {"a": PERSON, "0": STRING}


def test_names_of_definitions_are_made_plain_and_kept_apart() -> None:
    document = {
        "properties": {
            "a": {"$ref": "#/$defs/List%5BA~1B%5D"},
            "b": {"$ref": "#/properties/x/$defs/Same"},
            "c": {"$ref": "#/$defs/Same"},
            "x": {"type": "object", "$defs": {"Same": NULL}},
        },
        "$defs": {"List[A/B]": PERSON, "Same": STRING},
    }
    found = answer(document)
    names = [found["properties"][name]["$ref"].rpartition("/")[2] for name in "abc"]
    assert names == ["List_5BA_1B_5D", "Same", "Same_2"]
    assert [found["$defs"][name] for name in names] == [PERSON, NULL, STRING]


def test_a_definition_that_was_left_below_is_found_by_its_name() -> None:
    document = {
        "properties": {"x": {"type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": PERSON}}}
    }
    assert answer(document)["$defs"] == {"P": PERSON}


def test_a_root_that_is_a_ref_stands_for_itself() -> None:
    document = {"$ref": "#/$defs/Person", "description": "D", "$defs": {"Person": PERSON}}
    assert tool(document) == {**PERSON, "description": "D"}


@pytest.mark.parametrize("root", [{"$ref": "#"}, {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}])
def test_a_root_that_leads_to_itself_is_refused(root: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="nested deeper"):
        tool(root)


# ---------------------------------------------------------------------------------------------------------- circles


def node_type(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"value": STRING, **properties}, "required": ["value", *required]}


NEXT = {"$ref": "#/$defs/Node"}


@pytest.mark.parametrize(
    ("held", "kept"),
    [
        pytest.param(NEXT, NEXT, id="a list by links"),
        pytest.param({"type": "array", "items": NEXT}, {"type": "array", "items": NEXT}, id="a tree"),
        pytest.param({"anyOf": [NEXT, NULL]}, {"anyOf": [NEXT, NULL]}, id="a link or null"),
        pytest.param({"oneOf": [NULL, NEXT]}, {"anyOf": [NULL, NEXT]}, id="one of them"),
        pytest.param(
            {"type": "object", "additionalProperties": NEXT},
            {"type": "object", "additionalProperties": NEXT},
            id="a dictionary of links",
        ),
        pytest.param({**NEXT, "description": "D"}, NEXT, id="what stands beside the link goes"),
        pytest.param({"allOf": [NEXT], "description": "D"}, NEXT, id="all of one link"),
        pytest.param({**NEXT, "nullable": True}, {"anyOf": [NEXT, NULL]}, id="a link that may be null"),
    ],
)
def test_a_circle_is_kept_in_a_property_that_may_be_left_out(held: Any, kept: Any) -> None:
    document = {
        "type": "object",
        "properties": {"root": NEXT},
        "required": ["root"],
        "$defs": {"Node": node_type(["next"], next=held)},
    }
    assert tool(document) == {
        "type": "object",
        "properties": {"root": NEXT},
        "required": ["root"],  # this ref leads into the circle, but is no part of it
        "$defs": {"Node": node_type([], next=kept)},
    }


def test_a_circle_of_the_whole_document() -> None:
    document = node_type(["next"], next={"$ref": "#"})
    assert tool(document) == node_type([], next={"$ref": "#/$defs/root"}) | {
        "$defs": {"root": node_type([], next={"$ref": "#/$defs/root"})}
    }


def test_a_circle_that_starts_at_the_root() -> None:
    document = {"$ref": "#/$defs/Node", "$defs": {"Node": node_type(["next"], next=NEXT)}}
    expected = node_type([], next=NEXT)
    assert tool(document) == expected | {"$defs": {"Node": expected}}


def test_a_circle_over_two_definitions() -> None:
    document = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {
            "A": node_type(["b"], b={"$ref": "#/$defs/B"}),
            "B": node_type(["a"], a={"$ref": "#/$defs/A"}),
        },
    }
    found = tool(document)["$defs"]
    assert found["A"]["required"] == found["B"]["required"] == ["value"]


def test_a_circle_without_a_property_to_leave_out_is_cut() -> None:
    json_value = {"anyOf": [STRING, {"type": "array", "items": {"$ref": "#/$defs/Json"}}]}
    document = {"type": "object", "properties": {"p": {"$ref": "#/$defs/Json"}}, "$defs": {"Json": json_value}}
    assert tool(document)["$defs"] == {"Json": {"anyOf": [STRING, {"type": "array", "items": {}}]}}


def test_a_circle_of_all_of_is_cut() -> None:
    document = {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A", "title": "T"}, PERSON]}},
    }
    assert tool(document)["$defs"]["A"] == {**PERSON, "title": "T"}


def test_a_circle_below_a_ref_that_is_written_out() -> None:
    document = {
        "type": "object",
        "properties": {"root": {**NEXT, "description": "D"}},
        "$defs": {"Node": node_type(["next"], next=NEXT)},
    }
    found = tool(document)
    assert found["properties"]["root"] == node_type([], next=NEXT) | {"description": "D"}
    assert found["$defs"] == {"Node": node_type([], next=NEXT)}


# --------------------------------------------------------------------------------------------------- tools, limits


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(None, None, id="null"),
        pytest.param(True, None, id="true"),
        pytest.param({}, None, id="nothing said"),
        pytest.param({"type": "object"}, None, id="an object of nothing"),
        pytest.param({"type": "object", "properties": {}, "additionalProperties": False}, None, id="and no more"),
        pytest.param(
            {"type": "object", "additionalProperties": True},
            {"type": "object", "additionalProperties": True},
            id="free",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": {}}, {"type": "object", "additionalProperties": {}}, id="of any"
        ),
        pytest.param(
            {"anyOf": [PERSON, {"type": "object", "properties": {"id": STRING}}]},
            {"type": "object", "anyOf": [PERSON, {"type": "object", "properties": {"id": STRING}}]},
            id="one of two objects",
        ),
        pytest.param({**PERSON, "type": ["object", "null"]}, PERSON, id="an object or null is an object"),
        pytest.param({**PERSON, "$schema": "http://json-schema.org/draft-07/schema#"}, PERSON, id="with its draft"),
    ],
)
def test_tool(document: Any, expected: Any) -> None:
    assert tool(document) == expected


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param({"type": "string"}, "must be an object", id="a string as parameters"),
        pytest.param({"type": ["array", "null"]}, "must be an object", id="a list or null"),
        pytest.param(False, "must be an object", id="false"),
        pytest.param([], "must be an object", id="a list as schema"),
        pytest.param("x", "must be an object", id="a word as schema"),
        pytest.param({"properties": {"a": 5}}, "not an object", id="a number as schema in it"),
        pytest.param({"anyOf": [None]}, "not an object", id="null as branch"),
        pytest.param({"description": "x" * MAX_BYTES}, "larger than 256 KiB", id="too large"),
    ],
)
def test_tool_that_cannot_be_used(document: Any, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        tool(document)


def nested(levels: int, key: str) -> bytes:
    inside = {"properties": b'{"type":"object","properties":{"a":', "items": b'{"items":', "anyOf": b'{"anyOf":['}[key]
    end = {"properties": b"}}", "items": b"}", "anyOf": b"]}"}[key]
    return inside * levels + b"{}" + end * levels


@pytest.mark.parametrize("levels", [40, 1_000, 10_000])
@pytest.mark.parametrize("key", ["properties", "items", "anyOf"])
def test_a_schema_that_is_too_deep_is_refused(levels: int, key: str) -> None:
    with pytest.raises(Unusable):
        tool_schema(nested(levels, key), plenty())


def test_a_schema_that_is_deep_enough_for_people_is_not() -> None:
    assert tool_schema(nested(30, "properties"), plenty())


@pytest.mark.parametrize("raw", [b"{", b"{]", b'"\\ud800"', b'{"a":"\xff"}'])
def test_a_schema_that_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Unusable, match="not valid JSON"):
        tool_schema(raw, plenty())


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda ref: {"properties": {"a": ref, "b": ref}}, id="by properties"),
        pytest.param(lambda ref: {"allOf": [ref, ref]}, id="by allOf"),
        pytest.param(lambda ref: {"anyOf": [ref, ref], "description": "D"}, id="by anyOf"),
    ],
)
def test_refs_that_multiply_are_refused_in_time(bomb: Any) -> None:
    definitions = {f"D{level}": bomb({"$ref": f"#/$defs/D{level + 1}", "description": "x"}) for level in range(20)} | {
        "D20": STRING
    }
    document = {"type": "object", "properties": {"p": {"$ref": "#/$defs/D0"}}, "$defs": definitions}
    with pytest.raises(Unusable, match="too large"):  # long before the million nodes that there are
        tool_schema(msgspec.json.encode(document), Effort(10_000))


def test_texts_that_multiply_are_refused() -> None:
    wide = {"type": "object", "properties": {"a": {"type": "string", "description": "x" * 20_000}}}
    properties = {f"p{n}": {"$ref": "#/$defs/W", "description": "D"} for n in range(40)}
    with pytest.raises(Unusable, match="too large"):
        tool({"type": "object", "properties": properties, "$defs": {"W": wide}})


def test_a_document_of_many_nodes_of_its_own_is_not_too_large() -> None:
    document = {"type": "object", "properties": {f"p{n}": STRING for n in range(3_000)}}
    assert tool(document) == document


def aliases(size: int) -> list[str]:
    return ["#/$defs/" + "".join(f"%{ord('A'):02X}" if n >> bit & 1 else "A" for bit in range(11)) for n in range(size)]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            lambda size: {
                "properties": {"a": {"$ref": "#/$defs/D0"}},
                "$defs": {f"D{n}": {"properties": {"n": {"$ref": f"#/$defs/D{n + 1}"}}} for n in range(size)},
            },
            id="a chain",
        ),
        pytest.param(
            lambda size: {
                "properties": {"a": {"$ref": "#/$defs/D0"}},
                "$defs": {f"D{n}": {"properties": {"n": {"$ref": f"#/$defs/D{(n + 1) % size}"}}} for n in range(size)},
            },
            id="a circle",
        ),
        pytest.param(
            lambda size: {
                "properties": {"a": {"$ref": aliases(1)[0]}},
                "$defs": {"A" * 11: {"properties": {f"p{n}": {"$ref": name} for n, name in enumerate(aliases(size))}}},
            },
            id="one target by many names",
        ),
        pytest.param(
            lambda size: {
                "properties": {
                    f"p{n}": {"$ref": f"#/$defs/{n:b}".replace("0", "!").replace("1", "?")} for n in range(size)
                },
                "$defs": {f"{n:b}".replace("0", "!").replace("1", "?"): STRING for n in range(size)},
            },
            id="names that become the same",
        ),
        pytest.param(
            lambda size: {
                "allOf": [{"$ref": "#/$defs/A"}] * (3 * size),
                "$defs": {"A": {"required": [f"q{n}" for n in range(size)]}},
            },
            id="one base, joined again and again",
        ),
        pytest.param(
            lambda size: {
                "properties": {f"p{n}": {"$ref": "#/$defs/A", "description": "D"} for n in range(size)},
                "$defs": {"A": {"enum": [""] * 15 * size}},
            },
            id="values that come to nothing",
        ),
    ],
)
def test_many_refs_take_linear_time(document: Callable[[int], Any]) -> None:
    def work(size: int) -> Task:
        raw = msgspec.json.encode({"type": "object", **document(size)})

        def walk() -> None:
            with contextlib.suppress(Unusable):
                schema._tool(raw, plenty())

        return walk

    check_linear(work, 2_000)


def test_an_unusable_schema_is_the_clients_fault_by_place() -> None:
    fault = refused(tools=[function("a"), function("f", {"properties": {"a": 5}})])
    assert (fault.status, fault.param) == (400, "tools[1].function.parameters")
    assert "not an object" in fault.message


# ---------------------------------------------------------------------------------------------------------- caching


def test_the_same_bytes_are_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = msgspec.json.encode({"type": "object", "properties": {"walked_once": STRING}})
    first = tool_schema(raw, plenty())
    monkeypatch.setattr(schema, "Walk", None)
    assert tool_schema(bytes(raw), plenty()) == first


def test_what_is_kept_of_schemas_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[bytes] = []
    known = schema.Known(lambda raw, _: walked.append(raw) or raw)  # type: ignore[func-returns-value]
    monkeypatch.setattr(schema, "CACHED_BYTES", 5_000)
    first, second, third = (letter * 1_000 for letter in (b"a", b"b", b"c"))
    for raw in (first, second, first, third, first):
        assert known.of(raw, plenty()) == raw
        assert known.held <= 5_000
    assert walked == [first, second, third, first]  # the oldest went
    known.of(third, plenty())
    assert walked == [first, second, third, first]


def test_two_threads_that_walk_the_same_schema_keep_it_once() -> None:
    def walk(raw: bytes, effort: Effort) -> bytes:
        walked.append(raw)
        return known.of(raw, effort) if len(walked) == 1 else raw  # as if another one had come between

    walked: list[bytes] = []
    known = schema.Known(walk)
    known.of(b"a" * 1_000, plenty())
    assert len(walked) == 2
    assert known.held < 3_000


def test_what_is_known_costs_nothing_and_what_is_refused_is_not_kept() -> None:
    raw = msgspec.json.encode({"type": "object", "properties": {"costs_nothing": STRING}})
    with pytest.raises(Exhausted):
        tool_schema(raw, Effort(2))
    found = tool_schema(raw, plenty())
    assert tool_schema(raw, Effort(0)) == found


def test_a_client_that_leaves_ends_the_walk() -> None:
    with client_left(), pytest.raises(Abandoned):
        tool_schema(b'{"type":"object","properties":{"nobody_waits":{}}}', plenty())


def test_a_hundred_tools_are_quick_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {
        "type": "object",
        "properties": {f"p{n}": {"type": "string", "description": "x" * 60} for n in range(8)},
    }
    listed = [function(f"f{n}", {**parameters, "title": str(n)}) for n in range(100)]
    found = body(tools=listed)
    assert len(found["tools"][0]["functionDeclarations"]) == 100
    raws = [msgspec.json.encode(tool_["function"]["parameters"]) for tool_ in listed]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "Walk", None)
        assert all(tool_schema(raw, plenty()) for raw in raws)


# --------------------------------------------------------------------------------------------- whatever the schema is

NAMES = st.sampled_from(["a", "type", "$ref", "required", "enum"])
REFS = st.sampled_from(["#", "#/$defs/A", "#/$defs/B", "#/properties/a", "#/nowhere", "https://x/y"])
LEAVES = st.one_of(
    st.booleans(),
    st.builds(dict),
    st.builds(lambda kind: {"type": kind}, st.sampled_from(["string", "integer", "object", "array", "any"])),
    st.builds(lambda ref: {"$ref": ref}, REFS),
    st.builds(lambda ref: {"$ref": ref, "description": "D", "nullable": True}, REFS),
    st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(["", "a", 1, 1.5, True, None, []]))),
    st.builds(lambda low: {"type": "integer", "exclusiveMinimum": low}, st.integers() | st.booleans()),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda properties, required: {"type": "object", "properties": properties, "required": required},
            st.dictionaries(NAMES, inner, max_size=3),
            st.lists(NAMES, max_size=3),
        ),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(
            lambda key, held: {key: held}, st.sampled_from(["anyOf", "oneOf", "allOf"]), st.lists(inner, max_size=3)
        ),
        st.builds(lambda held: {"additionalProperties": held}, inner),
    ),
    max_leaves=12,
)


def nodes_of(found: Any) -> list[dict[str, Any]]:
    """Return every schema of a cleaned document, in any depth."""
    if not isinstance(found, dict):
        return []
    below: list[Any] = [found.get("items"), found.get("additionalProperties")]
    for key in ("properties", "$defs"):
        below += found.get(key, {}).values()
    for key in ("anyOf", "prefixItems"):
        below += found.get(key, [])
    return [found, *(node_ for held in below for node_ in nodes_of(held))]


@given(SCHEMAS, SCHEMAS, SCHEMAS)
def test_any_schema_becomes_one_that_gemini_reads(held: Any, first: Any, second: Any) -> None:
    document = {"type": "object", "properties": {"a": held}, "required": ["a"], "$defs": {"A": first, "B": second}}
    found = answer(document)
    for part in nodes_of(found):
        assert set(part) <= DOCUMENTED
        assert set(part.get("required", [])) <= set(part.get("properties", {}))
        assert part.get("enum") != []
        assert not any(isinstance(value, bool) for value in part.get("enum", []))
        if "$ref" in part:
            assert set(part) == {"$ref"}
            assert part["$ref"].removeprefix("#/$defs/") in found["$defs"]
    assert answer(document) == found


@given(SCHEMAS, SCHEMAS, SCHEMAS)
def test_any_circle_passes_through_a_property_that_may_be_left_out(held: Any, first: Any, second: Any) -> None:
    document = {"type": "object", "properties": {"a": held}, "required": ["a"], "$defs": {"A": first, "B": second}}
    found = answer(document)
    assert not any(must_repeat(name, found["$defs"]) for name in found.get("$defs", {}))


def must_repeat(name: str, definitions: dict[str, Any]) -> bool:
    """Return True if a definition cannot be written out without coming back to itself."""
    seen: set[str] = set()
    waiting = [definitions[name]]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, dict):
            continue
        ref = current.get("$ref", "").removeprefix("#/$defs/")
        if ref == name:
            return True
        if ref and ref not in seen:
            seen.add(ref)
            waiting.append(definitions[ref])
        waiting += [current.get("items"), current.get("additionalProperties"), *current.get("prefixItems", [])]
        waiting += current.get("anyOf", [])
        waiting += [current["properties"][key] for key in current.get("required", [])]
    return False


# ------------------------------------------------------------------------------------------------------- recordings


def recorded_schemas() -> list[Any]:
    found: list[Any] = []
    for path in listed("corpus/requests/*.json"):
        request = msgspec.json.decode(path.read_bytes())
        request = request.get("request", request)
        config = request.get("generationConfig") or request.get("generation_config") or {}
        found.append(config.get("responseJsonSchema"))
        for item in request.get("tools") or []:
            declarations = item.get("functionDeclarations") or item.get("function_declarations") or []
            found += [each.get("parametersJsonSchema") or each.get("parameters_json_schema") for each in declarations]
    return [item for item in found if item]


def test_recorded_schemas_come_through() -> None:
    schemas = recorded_schemas()
    assert len(schemas) > 10
    for document in schemas:
        for part in nodes_of(answer(document)):
            assert set(part) <= DOCUMENTED


def test_references_know_nothing_of_values() -> None:
    refs = References({"properties": {"a": {"const": {"$ref": "#/$defs/A"}}}, "$defs": {"A": {"$ref": "#"}}}, plenty())
    assert not refs.circles("#/$defs/A", "#", frozenset())
    refs = References({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#"}}}, plenty())
    assert refs.circles("#/$defs/A", "#", frozenset())
