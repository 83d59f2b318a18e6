"""Checks answers and chunks against OpenAI's own schema.

OpenAI's file says ``nullable`` although it is 3.1: read as "or null". Extensions (``reasoning_content``, ``images``,
``extra_content``) are extra keys, which the schema does not forbid.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import msgspec

from tests.corpus import path_of


def _or_null(node: Any) -> Any:
    if isinstance(node, list):
        return [_or_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _or_null(value) for key, value in node.items() if key not in ("nullable", "discriminator")}
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made


def validator(name: str, schemas: dict[str, Any]) -> Any:
    """Return what checks a value by the schema of that name."""
    every = jsonschema.Draft202012Validator.VALIDATORS["anyOf"]

    def kinds(choice: dict[str, Any]) -> Any:
        described = schemas[choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
        return described.get("properties", {}).get("type", {}).get("enum")

    def any_of(checker: Any, choices: list[dict[str, Any]], value: Any, schema: Any) -> Iterator[Any]:
        """Try no choice that the value's own ``type`` rules out: of an event's 58 one is left."""
        kind = value.get("type") if isinstance(value, dict) else None
        fitting = [one for one in choices if kind is None or kind in (kinds(one) or (kind,))]
        yield from every(checker, fitting or choices, value, schema)

    root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"anyOf": any_of})(root)


@cache
def _validator(name: str) -> Any:
    schemas = _or_null(msgspec.json.decode(path_of("openapi.chat-models.json").read_bytes()))
    return validator(name, schemas.get("components", {}).get("schemas", schemas))


def problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with a value, by the schema of that name; [] if nothing is."""
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(name).iter_errors(value)]


def chunk_problems(value: Any) -> list[str]:
    """Return what is wrong with one chunk of a stream."""
    return problems("CreateChatCompletionStreamResponse", value)


def answer_problems(value: Any) -> list[str]:
    """Return what is wrong with a unary answer."""
    return problems("CreateChatCompletionResponse", value)
