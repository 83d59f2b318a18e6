"""Google's published description of generateContent as a small checker: ``check_body(body)`` lists what does not fit.

Every name must be a property of its object there, and every value of its type. The file requires fields that real
requests lack (``model`` in the body, a description for each function), so what is required is not checked; and it
calls a part's media resolution a word where Google's own clients send an object.
"""

from __future__ import annotations

import binascii
from functools import cache
from typing import Any

import msgspec

from tests.corpus import path_of

SCHEMA = path_of("gemini-openapi.v1beta.json")

_CORRECTED = {"MediaResolution": {"type": "object", "properties": {"level": {"type": "string"}}}}
_INT32 = range(-(2**31), 2**31)


@cache
def _schemas() -> dict[str, Any]:
    found = msgspec.json.decode(SCHEMA.read_bytes())["components"]["schemas"]
    return found | _CORRECTED


def check_body(body: dict[str, Any], name: str = "GenerateContentRequest") -> list[str]:
    """Return what is wrong with a body, one sentence a place; an empty list if it fits."""
    problems: list[str] = []
    _check(body, _schemas()[name], "$", problems)
    return problems


def _check(value: Any, schema: dict[str, Any], path: str, problems: list[str]) -> None:
    schema = _resolved(schema)
    kind = schema.get("type")
    if value is None:
        problems.append(f"{path} is null")
    elif kind == "object":
        _check_object(value, schema, path, problems)
    elif kind == "array":
        if not isinstance(value, list):
            problems.append(f"{path} is no list")
            return
        for index, item in enumerate(value):
            _check(item, schema["items"], f"{path}[{index}]", problems)
    elif kind is not None and not _fits(value, kind, schema):
        problems.append(f"{path} is no {schema.get('format') or schema.get('enum') or kind}: {value!r:.60}")


def _check_object(value: Any, schema: dict[str, Any], path: str, problems: list[str]) -> None:
    if not isinstance(value, dict):
        problems.append(f"{path} is no object")
        return
    known = schema.get("properties", {})
    for name, item in value.items():
        if name in known:
            _check(item, known[name], f"{path}.{name}", problems)
        elif "additionalProperties" not in schema:
            problems.append(f"{path}.{name} is not known")


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema or "allOf" in schema:
        schema = schema["allOf"][0] if "allOf" in schema else _schemas()[schema["$ref"].rpartition("/")[2]]
    return schema


def _fits(value: Any, kind: str, schema: dict[str, Any]) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and value in schema.get("enum", (value,)) and _fits_bytes(value, schema)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return kind == "number" or (value == int(value) and int(value) in _INT32)


def _fits_bytes(value: str, schema: dict[str, Any]) -> bool:
    if schema.get("format") != "byte":
        return True
    try:
        binascii.a2b_base64(value.translate(str.maketrans("-_", "+/")), strict_mode=True)
    except ValueError:
        return False
    return True
