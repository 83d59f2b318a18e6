"""Tools, the choice among them, and their names on the wire (docs/protocol.md 1.4, 4.5, 4.4 rule 12)."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.converter.api import Options
from tests.chat_bodies import USER, asks, body, call, function, gives, plan, refused

OLD, NEW = "gemini-2.5-flash", "gemini-3.8-flash"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
INPUT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
SEARCH = {"type": "web_search"}


def tools(*listed: dict[str, Any], model: str = NEW, **fields: Any) -> Any:
    return body(model, tools=list(listed), **fields).get("tools")


def declared(*listed: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return tools(*listed, **fields)[0]["functionDeclarations"]


def chosen(choice: Any, *listed: dict[str, Any], model: str = NEW) -> Any:
    return body(model, tools=list(listed), tool_choice=choice).get("toolConfig", {}).get("functionCallingConfig")


# --------------------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("tool", "declaration"),
    [
        pytest.param(
            function("f", CITY, description="D", strict=True),
            {"name": "f", "description": "D", "parametersJsonSchema": CITY},
            id="a function",
        ),
        pytest.param(function("f"), {"name": "f"}, id="without parameters"),
        pytest.param(
            {"type": "function", "function": {"name": "f", "parameters": None}}, {"name": "f"}, id="null as parameters"
        ),
        pytest.param(function("f", {}), {"name": "f"}, id="parameters that say nothing"),
        pytest.param(function("f", {"type": "object", "properties": {}}), {"name": "f"}, id="an object of nothing"),
        pytest.param({"function": {"name": "f"}}, {"name": "f"}, id="function is the default type"),
        pytest.param(
            {"type": "custom", "custom": {"name": "c", "description": "D"}},
            {"name": "c", "description": "D", "parametersJsonSchema": INPUT},
            id="a custom tool is a function of one text",
        ),
        pytest.param(
            {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
            {"name": "c", "parametersJsonSchema": INPUT},
            id="a custom tool of free text",
        ),
        pytest.param(
            {"type": "custom", "custom": {"name": "c", "format": {"type": 5}}},
            {"name": "c", "parametersJsonSchema": INPUT},
            id="a custom tool with a format of another kind",
        ),
        pytest.param(
            {
                "type": "custom",
                "custom": {
                    "name": "c",
                    "description": "D",
                    "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": 'start: "a"'}},
                },
            },
            {
                "name": "c",
                "description": 'D\n\nThe input must follow this lark grammar:\nstart: "a"',
                "parametersJsonSchema": INPUT,
            },
            id="a grammar is told",
        ),
        pytest.param(
            {
                "type": "custom",
                "custom": {
                    "name": "c",
                    "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}},
                },
            },
            {
                "name": "c",
                "description": "The input must follow this regex grammar:\na+",
                "parametersJsonSchema": INPUT,
            },
            id="a grammar is told without a description too",
        ),
    ],
)
def test_declaration(tool: dict[str, Any], declaration: dict[str, Any]) -> None:
    assert declared(tool) == [declaration]


def test_all_functions_stand_in_one_tool() -> None:
    assert [item["name"] for item in declared(function("a"), function("b"), function("c"))] == ["a", "b", "c"]


def test_functions_of_old_are_functions() -> None:
    found = body(functions=[{"name": "f", "description": "D", "parameters": CITY}])
    assert found["tools"] == [
        {"functionDeclarations": [{"name": "f", "description": "D", "parametersJsonSchema": CITY}]}
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"tools": [{"type": "function"}]}, "tools[0].function", id="a function that is not there"),
        pytest.param({"tools": [{"type": "custom"}]}, "tools[0].custom", id="a custom tool that is not there"),
        pytest.param({"tools": [function(), {"type": "mcp"}]}, "tools[1].type", id="a type that is not offered"),
        pytest.param({"tools": [function("f"), function("f")]}, "tools[1].function.name", id="the same name twice"),
        pytest.param(
            {"tools": [function("f"), {"type": "custom", "custom": {"name": "f"}}]},
            "tools[1].custom.name",
            id="the same name for two kinds",
        ),
        pytest.param({"tools": [function("")]}, "tools[0].function.name", id="an empty name"),
        pytest.param({"functions": [{"name": "f"}, {"name": "f"}]}, "functions[1].name", id="twice, of old"),
        pytest.param({"tools": [function()], "functions": [{"name": "g"}]}, "functions", id="both forms at once"),
        pytest.param(
            {"tools": [function("f", {"type": "string"})]}, "tools[0].function.parameters", id="no object as parameters"
        ),
        pytest.param(
            {"functions": [{"name": "f", "parameters": [1]}]}, "functions[0].parameters", id="a list as parameters"
        ),
        pytest.param({"tools": [function(f"f{n}") for n in range(513)]}, "tools", id="more than Google takes"),
        pytest.param({"functions": [{"name": f"f{n}"} for n in range(513)]}, "functions", id="more of old"),
        pytest.param({"tools": [function(), SEARCH]}, "tools[1].type", id="a search beside functions before 3"),
    ],
)
def test_tool_that_cannot_be_offered_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    fault = refused(OLD, **fields)
    assert (fault.status, fault.param) == (400, param)


def ordinary(name: str) -> dict[str, Any]:
    """Return parameters as an agent's tool has them: 80 nodes, some 7 KB."""
    field = {"type": "string", "description": "What it is for, in the words of somebody who had to explain it once."}
    row = {"type": "object", "properties": {f"field_{n}": field for n in range(7)}, "required": ["field_0"]}
    rows = {f"row_{n}": {"type": "array", "items": row} for n in range(8)}
    return {"type": "object", "title": name, "properties": {**rows, "mode": {"type": "string", "enum": ["a", "b"]}}}


def test_as_many_tools_as_google_takes_may_be_of_ordinary_size() -> None:
    listed = [function(f"f{n}", ordinary(f"T{n}")) for n in range(512)]
    assert len(declared(*listed)) == 512


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        pytest.param("tools", {"tools": [function("f", ordinary("A")), function("g", ordinary("B"))]}, id="tools"),
        pytest.param("functions", {"functions": [{"name": "f", "parameters": ordinary("C")}]}, id="functions"),
        pytest.param(
            "response_format",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": ordinary("D")}}},
            id="the schema of an answer",
        ),
        pytest.param(
            "response_format",
            {
                "tools": [
                    function("f", {"type": "object", "title": "E", "properties": {f"p{n}": {} for n in range(60)}})
                ],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "r",
                        "schema": {"title": "F", "properties": {f"p{n}": {} for n in range(60)}},
                    },
                },
            },
            id="the schema of an answer, after those of tools",
        ),
    ],
)
def test_schemas_of_a_request_share_what_they_may_cost(param: str, fields: dict[str, Any]) -> None:
    fault = refused(options=Options(max_schema_nodes=100), **fields)
    assert (fault.status, fault.param) == (400, param)
    assert "server.max_schema_nodes = 100 " in fault.message


# ------------------------------------------------------------------------------------------------- built-in tools


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        ("google_search", "googleSearch"),
        ("googleSearch", "googleSearch"),
        ("web_search", "googleSearch"),
        ("web_search_preview", "googleSearch"),
        ("url_context", "urlContext"),
        ("urlContext", "urlContext"),
        ("code_execution", "codeExecution"),
        ("codeExecution", "codeExecution"),
        ("code_interpreter", "codeExecution"),
    ],
)
def test_built_in_tool(kind: str, built_in: str) -> None:
    assert tools({"type": kind, "container": {"type": "auto"}}, model=OLD) == [{built_in: {}}]


def test_built_in_tools_stand_each_in_a_tool_of_its_own_and_once() -> None:
    listed = ({"type": "web_search"}, {"type": "url_context"}, {"type": "google_search"})
    assert tools(*listed, model=OLD, web_search_options={}) == [{"googleSearch": {}}, {"urlContext": {}}]


def test_functions_and_search_together_need_a_word_from_3_on() -> None:
    found = body(NEW, tools=[function("f"), SEARCH])
    assert found["tools"] == [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]
    assert found["toolConfig"] == {"includeServerSideToolInvocations": True}


def test_search_options_are_a_search() -> None:
    found = body(OLD, web_search_options={"search_context_size": "low"})
    assert found["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in found


def test_search_options_beside_functions_before_3_are_left_out_with_a_note() -> None:
    found = plan(OLD, tools=[function("f")], web_search_options={})
    assert found.ignored == ("web_search_options",)
    assert len(found.call.body.tools or ()) == 1


@pytest.mark.parametrize("choice", ["none", {"type": "none"}])
def test_choice_of_none_keeps_built_in_tools_away(choice: Any) -> None:
    found = body(NEW, tools=[function("f"), SEARCH], tool_choice=choice)
    assert found["tools"] == [{"functionDeclarations": [{"name": "f"}]}]
    assert found["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}
    assert "tools" not in body(NEW, tools=[SEARCH], tool_choice=choice)


# --------------------------------------------------------------------------------------------------------- choice

F, G = function("f"), function("g")
CUSTOM = {"type": "custom", "custom": {"name": "c"}}


def allowed(mode: str, *listed: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(listed)}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        pytest.param(None, None, id="nothing said"),
        pytest.param("auto", None, id="auto"),
        pytest.param("none", {"mode": "NONE"}, id="none"),
        pytest.param("required", {"mode": "ANY"}, id="required"),
        pytest.param({"type": "auto"}, None, id="auto as an object"),
        pytest.param({"type": "required"}, {"mode": "ANY"}, id="required as an object"),
        pytest.param({"type": "any"}, {"mode": "ANY"}, id="Anthropic's word for it"),
        pytest.param(
            {"type": "function", "function": {"name": "g"}},
            {"mode": "ANY", "allowedFunctionNames": ["g"]},
            id="a function by name",
        ),
        pytest.param(
            {"type": "custom", "custom": {"name": "c"}},
            {"mode": "ANY", "allowedFunctionNames": ["c"]},
            id="a custom tool by name",
        ),
        pytest.param(
            allowed("auto", {"type": "function", "function": {"name": "f"}}, {"type": "web_search"}),
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
            id="some of them, as it likes",
        ),
        pytest.param(
            allowed("required", {"type": "function", "function": {"name": "f"}}, CUSTOM),
            {"mode": "ANY", "allowedFunctionNames": ["f", "c"]},
            id="some of them, one it must",
        ),
    ],
)
def test_choice(choice: Any, expected: dict[str, Any] | None) -> None:
    assert chosen(choice, F, G, CUSTOM) == expected


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        pytest.param("always", "tool_choice", id="another word"),
        pytest.param({"type": "sometimes"}, "tool_choice", id="another type"),
        pytest.param({}, "tool_choice", id="an empty object"),
        pytest.param(
            {"type": "function", "function": {"name": "x"}}, "tool_choice.function.name", id="an undeclared function"
        ),
        pytest.param({"type": "custom", "custom": {"name": "x"}}, "tool_choice.custom.name", id="a custom one"),
        pytest.param(allowed("maybe", F), "tool_choice.allowed_tools.mode", id="another mode"),
        pytest.param(allowed("auto"), "tool_choice.allowed_tools.tools", id="none of them"),
        pytest.param(
            allowed("auto", {"type": "function", "function": {"name": "x"}}),
            "tool_choice.allowed_tools.tools",
            id="one that is not among them",
        ),
    ],
)
def test_choice_that_cannot_be_made_is_refused(choice: Any, param: str) -> None:
    assert refused(tools=[F], tool_choice=choice).param == param


@pytest.mark.parametrize("choice", ["auto", "none", {"type": "auto"}])
def test_choice_without_tools_that_asks_for_nothing_is_dropped(choice: Any) -> None:
    assert body(tool_choice=choice) == body()


@pytest.mark.parametrize(
    ("choice", "param"),
    [("required", "tool_choice"), ({"type": "function", "function": {"name": "f"}}, "tool_choice.function.name")],
)
def test_choice_without_tools_that_asks_for_one_is_refused(choice: Any, param: str) -> None:
    assert refused(tool_choice=choice).param == param


def test_a_built_in_tool_cannot_be_forced() -> None:
    found = plan(tools=[SEARCH], tool_choice="required")
    assert found.ignored == ("tool_choice",)
    assert found.call.body.tool_config is None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", {"mode": "NONE"}),
        ("auto", None),
        ({"name": "f"}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_function_call_of_old(choice: Any, expected: dict[str, Any] | None) -> None:
    found = body(functions=[{"name": "f"}], function_call=choice).get("toolConfig")
    assert found == ({"functionCallingConfig": expected} if expected else None)


def test_function_call_of_old_to_nobody_is_refused() -> None:
    assert refused(functions=[{"name": "f"}], function_call={"name": "x"}).param == "function_call.name"


# ---------------------------------------------------------------------------------------------------------- names


def test_names_that_google_would_refuse_are_declared_as_others() -> None:
    found = plan(tools=[function("get weather"), function("get/weather"), function("get_weather")])
    declared = (found.call.body.tools or [])[0].function_declarations or []
    assert [each.name for each in declared] == ["get_weather_2", "get_weather_3", "get_weather"]
    assert found.names == {"get_weather_2": "get weather", "get_weather_3": "get/weather"}
    assert found.declared == {"get weather", "get/weather", "get_weather"}, "under the names that the client knows"


def test_a_changed_name_is_the_same_in_tools_choice_history_and_result() -> None:
    found = body(
        messages=[*USER, asks(call("c", "get it")), gives("c")],
        tools=[function("get it")],
        tool_choice={"type": "function", "function": {"name": "get it"}},
    )
    assert found["tools"][0]["functionDeclarations"][0]["name"] == "get_it"
    assert found["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == ["get_it"]
    assert found["contents"][1]["parts"][0]["functionCall"]["name"] == "get_it"
    assert found["contents"][2]["parts"][0]["functionResponse"]["name"] == "get_it"


def test_a_name_of_the_history_alone_is_translated_back_too() -> None:
    assert plan(messages=[*USER, asks(call("c", "old tool"))]).names == {"old_tool": "old tool"}
