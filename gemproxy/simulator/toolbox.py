"""What Google refuses in ``tools`` and ``toolConfig``, and in the schemas of both routes (docs/protocol.md 1.4, 5).

In: an ``Ask``. Out: nothing, or a ``Refusal``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.ask import Ask
from gemproxy.simulator.schema import pointed

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")
_LONGEST = {"ai_studio": 128, "vertex": 64, "code_assist": 64}
_CONFIG = "tool_config.function_calling_config"


def judge(ask: Ask) -> None:
    """Raise ``Refusal`` for the first tool or choice of tools that Google would not take."""
    names = _names(ask)
    _mixture(ask)
    _choice(ask, names)
    for tool, declared in enumerate(ask.tools):
        for number, function in enumerate(declared.get("functionDeclarations") or []):
            _schemas(function, f"tools[{tool}].function_declarations[{number}]")
    if schema := ask.config.get("responseSchema"):
        _open_api(schema, "generation_config.response_schema")
    for key in ("responseJsonSchema", "_responseJsonSchema"):
        if key in ask.config:
            _references(ask.config[key], "generation_config.response_json_schema")


def _names(ask: Ask) -> list[str]:
    names: list[str] = []
    longest = _LONGEST[ask.upstream]
    for number, function in enumerate(ask.declarations):
        name = function.get("name", "")
        if not _NAME.fullmatch(name) or len(name) > longest:
            raise errors.broken(
                f"tools[0].function_declarations[{number}].name",
                "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, "
                f"0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of {longest}.",
            )
        if name in names:
            raise errors.invalid(f"Duplicate function declaration found: {name}")
        names.append(name)
    return names


def _mixture(ask: Ask) -> None:
    """Functions and built-in tools go together only from Gemini 3 on, and on AI Studio only when asked for."""
    if not (ask.declarations and ask.built_ins):
        return
    if ask.model.major < 3:
        raise errors.invalid("Tool use with function calling is unsupported by the model.")
    asked = (ask.body.get("toolConfig") or {}).get("includeServerSideToolInvocations")
    if ask.upstream == "ai_studio" and not asked:  # recorded: Vertex AI takes it without
        raise errors.invalid(
            "Please enable tool_config.include_server_side_tool_invocations to use Built-in tools with Function "
            "calling."
        )


def _choice(ask: Ask, names: list[str]) -> None:
    if not ask.calling:
        return
    allowed = ask.calling.get("allowedFunctionNames") or []
    if ask.mode in ("ANY", "VALIDATED") and not names:
        raise errors.invalid("Function calling config is set without function_declarations.")
    if allowed and ask.mode not in ("ANY", "VALIDATED"):
        raise errors.broken(
            f"{_CONFIG}.allowed_function_names",
            "allowed_function_names should be set only when the function calling mode is ANY or VALIDATED.",
        )
    for number, name in enumerate(allowed):
        if name not in names:
            raise errors.broken(
                f"{_CONFIG}.allowed_function_names[{number}]", f"{name} is not among the declared functions."
            )


def _schemas(function: dict[str, Any], place: str) -> None:
    if "parameters" in function and "parametersJsonSchema" in function:
        raise errors.broken(place, "only one of parameters and parameters_json_schema may be set.")
    if "parameters" in function:
        _open_api(function["parameters"], f"{place}.parameters")
    if "parametersJsonSchema" in function:
        schema, where = function["parametersJsonSchema"], f"{place}.parameters_json_schema"
        if not isinstance(schema, dict) or str(schema.get("type", "object")).lower() != "object":
            raise errors.broken(where, "schema must describe an object.")
        _references(schema, where)


# ---------------------------------------------------------------------------------- route A (docs/protocol.md 5.1)


def _open_api(schema: dict[str, Any], place: str) -> None:
    """Judge a ``Schema`` object; unknown words were refused by the JSON reader already."""
    kind = schema.get("type", "")
    if "enum" in schema and kind not in ("STRING", ""):
        raise errors.broken(f"{place}.enum", "only allowed for STRING type")
    for number, choice in enumerate(schema.get("enum") or []):
        if choice == "":
            raise errors.broken(f"{place}.enum[{number}]", "cannot be empty")
    if kind == "STRING" and schema.get("format", "enum") not in ("enum", "date-time"):
        raise errors.broken(f"{place}.format", "only 'enum' and 'date-time' are supported for STRING type")
    if kind == "ARRAY" and "items" not in schema:
        raise errors.broken(f"{place}.items", "missing field.")
    properties = schema.get("properties") or {}
    for number, name in enumerate(schema.get("required") or []):
        if name not in properties:
            raise errors.broken(f"{place}.required[{number}]", "property is not defined")
    for inner, where in _inner(schema, properties, place):
        _open_api(inner, where)


def _inner(schema: dict[str, Any], properties: dict[str, Any], place: str) -> Iterator[tuple[dict[str, Any], str]]:
    yield from ((inner, f"{place}.properties[{name}]") for name, inner in properties.items())
    yield from ((inner, f"{place}.any_of[{number}]") for number, inner in enumerate(schema.get("anyOf") or []))
    if "items" in schema:
        yield schema["items"], f"{place}.items"


# ---------------------------------------------------------------------------------- route B (docs/protocol.md 5.2)

_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions", "patternProperties")


def _references(schema: Any, place: str) -> None:
    """Judge the references of a JSON Schema; words that Google does not know it ignores."""
    for inner, where in _nodes(schema, place):
        target = inner.get("$ref")
        if not isinstance(target, str):
            continue
        beside = [key for key in inner if not key.startswith("$")]
        if beside:
            raise errors.broken(where, f"$ref must not be set beside {beside[0]}.")
        if not target.startswith("#") or pointed(schema, target) is UNSET:
            raise errors.broken(where, f"$ref {target} not found.")


def _nodes(schema: Any, place: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every schema in this one; names of properties are not words of the language."""
    waiting = [(schema, place)]
    while waiting:
        node, where = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield node, where
        waiting += [(node[key], f"{where}.{key}") for key in _ONE if key in node]
        for key in _LISTS:
            waiting += [(each, f"{where}.{key}[{number}]") for number, each in enumerate(_as_list(node.get(key)))]
        for key in _MAPS:
            waiting += [(each, f"{where}.{key}.{name}") for name, each in _as_map(node.get(key)).items()]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _as_map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
