"""What Google refuses in tools, in the choice of tools, and in their schemas."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulator.asking import FLASH, OLD_FLASH, declare, google, post, refused, user

RULE = "* GenerateContentRequest."
CONFIG = f"{RULE}tool_config.function_calling_config.allowed_function_names"
FUNCTION = f"{RULE}tools[0].function_declarations[0]"
NAME = (
    f"{FUNCTION}.name: Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, "
    "A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128.\n"
)


def choose(mode: str, *names: str) -> dict[str, Any]:
    config: dict[str, Any] = {"mode": mode}
    if names:
        config["allowedFunctionNames"] = list(names)
    return {"toolConfig": {"functionCallingConfig": config}}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a space": ({"tools": declare("my tool")}, NAME),
    "a name that begins with a digit": ({"tools": declare("1st")}, NAME),
    "no name": ({"tools": [{"functionDeclarations": [{}]}]}, NAME),
    "a name of 129": ({"tools": declare("f" * 129)}, NAME),
    "one name twice": ({"tools": declare("f", "f")}, "Duplicate function declaration found: f"),
    "one name in two tools": (
        {"tools": [*declare("f"), *declare("f")]},
        "Duplicate function declaration found: f",
    ),
    "ANY without functions": (
        choose("ANY"),
        "Function calling config is set without function_declarations.",
    ),
    "allowed names with AUTO": (
        {"tools": declare("f"), **choose("AUTO", "f")},
        f"{CONFIG}: allowed_function_names should be set only when the function calling mode is ANY or VALIDATED.\n",
    ),
    "an allowed name that is not declared": (
        {"tools": declare("f"), **choose("ANY", "f", "g")},
        f"{CONFIG}[1]: g is not among the declared functions.\n",
    ),
    "built-in tools and functions together": (
        {"tools": [*declare("f"), {"googleSearch": {}}]},
        "Please enable tool_config.include_server_side_tool_invocations to use Built-in tools with Function calling.",
    ),
    "both routes for one function": (
        {"tools": declare("f", parameters={"type": "OBJECT"}, parametersJsonSchema={})},
        f"{FUNCTION}: only one of parameters and parameters_json_schema may be set.\n",
    ),
    "arguments that are no object": (
        {"tools": declare("f", parametersJsonSchema={"type": "array"})},
        f"{FUNCTION}.parameters_json_schema: schema must describe an object.\n",
    ),
    "a schema that is true": (
        {"tools": declare("f", parametersJsonSchema=True)},
        f"{FUNCTION}.parameters_json_schema: schema must describe an object.\n",
    ),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_unlawful_tool_is_refused(body: dict[str, Any], message: str) -> None:
    assert refused(post(google(), {"contents": [user()], **body})) == (400, message)


def schema_of(**properties: Any) -> dict[str, Any]:
    return {"type": "OBJECT", "properties": properties}


OPEN_API: dict[str, tuple[dict[str, Any], str]] = {
    "an enum of numbers": (schema_of(a={"type": "INTEGER", "enum": ["1"]}), "properties[a].enum: only allowed for"),
    "an empty choice": (schema_of(a={"type": "STRING", "enum": ["x", ""]}), "properties[a].enum[1]: cannot be empty"),
    "a format of strings": (
        schema_of(a={"type": "STRING", "format": "uri"}),
        "properties[a].format: only 'enum' and 'date-time' are supported for STRING type",
    ),
    "an array of nothing": (schema_of(a={"type": "ARRAY"}), "properties[a].items: missing field."),
    "an array of arrays of nothing": (
        schema_of(a={"type": "ARRAY", "items": {"type": "ARRAY"}}),
        "properties[a].items.items: missing field.",
    ),
    "a branch with an array of nothing": (
        schema_of(a={"anyOf": [{"type": "STRING"}, {"type": "ARRAY"}]}),
        "properties[a].any_of[1].items: missing field.",
    ),
    "a required name that does not exist": (
        {**schema_of(a={"type": "STRING"}), "required": ["a", "b"]},
        "required[1]: property is not defined",
    ),
}


@pytest.mark.parametrize(("schema", "words"), OPEN_API.values(), ids=OPEN_API.keys())
def test_unlawful_parameters_are_refused(schema: dict[str, Any], words: str) -> None:
    status, message = refused(post(google(), {"contents": [user()], "tools": declare("f", parameters=schema)}))
    assert status == 400
    assert message.startswith(f"{FUNCTION}.parameters")
    assert words in message


def test_answer_schema_is_judged_like_parameters() -> None:
    config = {"responseMimeType": "application/json", "responseSchema": {"type": "ARRAY"}}
    status, message = refused(post(google(), {"contents": [user()], "generationConfig": config}))
    assert (status, message) == (400, f"{RULE}generation_config.response_schema.items: missing field.\n")


REFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "a reference beside other words": (
        {"properties": {"a": {"$ref": "#/$defs/A", "description": "x"}}, "$defs": {"A": {}}},
        "properties.a: $ref must not be set beside description.",
    ),
    "a reference to nothing": ({"properties": {"a": {"$ref": "#/$defs/A"}}}, "properties.a: $ref #/$defs/A not found."),
    "a reference to elsewhere": (
        {"items": {"$ref": "https://x.example/s.json"}, "type": "object"},
        "items: $ref https://x.example/s.json not found.",
    ),
    "a broken reference in a branch": (
        {"properties": {"a": {"anyOf": [{"$ref": "#/nowhere"}]}}},
        "properties.a.anyOf[0]: $ref #/nowhere not found.",
    ),
}


@pytest.mark.parametrize(("schema", "words"), REFERENCES.values(), ids=REFERENCES.keys())
def test_unlawful_reference_is_refused(schema: dict[str, Any], words: str) -> None:
    body = {"contents": [user()], "tools": declare("f", parametersJsonSchema=schema)}
    status, message = refused(post(google(), body))
    assert status == 400
    assert words in message


LAWFUL: dict[str, dict[str, Any]] = {
    "no parameters": {"tools": declare("f")},
    "an object without properties": {"tools": declare("f", parameters={"type": "OBJECT", "properties": {}})},
    "lower-case types": {"tools": declare("f", parameters={"type": "object", "properties": {"a": {"type": "string"}}})},
    "a name with dots and dashes": {"tools": declare("a.b:c-d_1")},
    "ANY with a list": {"tools": declare("f", "g"), **choose("ANY", "g")},
    "VALIDATED with a list": {"tools": declare("f"), **choose("VALIDATED", "f")},
    "NONE without functions": choose("NONE"),
    "both kinds of tool when asked for": {
        "tools": [*declare("f"), {"googleSearch": {}}],
        "toolConfig": {"includeServerSideToolInvocations": True},
    },
    "words of JSON Schema that Google ignores": {
        "tools": declare(
            "f",
            parametersJsonSchema={
                "type": "object",
                "properties": {"$ref": {"type": "string"}, "a": {"const": 1, "not": {}, "allOf": [{}]}},
                "additionalProperties": False,
            },
        )
    },
    "a reference that goes in a circle": {
        "tools": declare(
            "f",
            parametersJsonSchema={
                "$defs": {"A": {"properties": {"next": {"$ref": "#/$defs/A"}}}},
                "properties": {"a": {"$ref": "#/$defs/A"}, "me": {"$ref": "#"}},
            },
        )
    },
}


@pytest.mark.parametrize("body", LAWFUL.values(), ids=LAWFUL.keys())
def test_lawful_tool_is_taken(body: dict[str, Any]) -> None:
    assert post(google(), {"contents": [user()], **body}).status == 200


def test_mixture_depends_on_model_and_upstream() -> None:
    body = {"contents": [user()], "tools": [*declare("f"), {"googleSearch": {}}]}
    message = "Tool use with function calling is unsupported by the model."
    assert refused(post(google(), body, name=OLD_FLASH)) == (400, message)
    assert post(google(), body, name=FLASH, upstream="vertex").status == 200


def test_vertex_names_are_shorter() -> None:
    body = {"contents": [user()], "tools": declare("f" * 65)}
    assert post(google(), body).status == 200
    assert "maximum length of 64" in refused(post(google(), body, upstream="vertex"))[1]
