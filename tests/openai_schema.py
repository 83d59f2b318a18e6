"""Checks answers and chunks against OpenAI's own schema.

OpenAI's file says ``nullable`` although it is 3.1: read as "or null". Extensions (``reasoning_content``, ``images``,
``extra_content``) are extra keys, which the schema does not forbid.
"""

from __future__ import annotations

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


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    schemas = _or_null(msgspec.json.decode(path_of("openapi.chat-models.json").read_bytes()))
    schemas = schemas.get("components", {}).get("schemas", schemas)
    root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    return jsonschema.Draft202012Validator(root)


def problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with a value, by the schema of that name; [] if nothing is."""
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(name).iter_errors(value)]


def chunk_problems(value: Any) -> list[str]:
    """Return what is wrong with one chunk of a stream."""
    return problems("CreateChatCompletionStreamResponse", value)


def answer_problems(value: Any) -> list[str]:
    """Return what is wrong with a unary answer."""
    return problems("CreateChatCompletionResponse", value)
