"""OpenAI's schema of a request of Responses: what fields things have, of which kinds they are, and of which types."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from tests.corpus import path_of

Node = dict[str, Any]
OF_TYPE: Final[dict[str, Any]] = {"integer": 3, "string": "x", "boolean": True, "array": [], "object": {}}


@cache
def _schemas() -> dict[str, Node]:
    found: dict[str, Node] = msgspec.json.decode(path_of("openapi.responses.json").read_bytes())
    schemas: dict[str, Node] = found["components"]["schemas"]
    return schemas


def named(name: str) -> Node:
    """Return the schema of that name."""
    return _schemas()[name]


def _resolved(node: Node) -> Node:
    while "$ref" in node:
        node = named(node["$ref"].rpartition("/")[2])
    return node


def _branches(node: Node) -> list[Node]:
    return [_resolved(branch) for word in ("anyOf", "oneOf") for branch in node.get(word, ())]


def properties(schema: str | Node) -> dict[str, Node]:
    """Return the fields of an object, with their schemas; of one that may be null, too."""
    node = _resolved(named(schema) if isinstance(schema, str) else schema)
    found = dict(node.get("properties", {}))
    for branch in node.get("allOf", ()):
        found |= properties(branch)
    if not found and len(forms := [form for form in _branches(node) if form.get("type") != "null"]) == 1:
        return properties(forms[0])
    return found


def variants(schema: str | Node) -> list[Node]:
    """Return all that something may be, each one way."""
    node = _resolved(named(schema) if isinstance(schema, str) else schema)
    branches = _branches(node)
    if not branches or "properties" in node:
        return [node]
    return [form for branch in branches for form in variants(branch)]


def allowed(schema: Node, field: str) -> list[str]:
    """Return the words that a field may hold."""
    return [word for form in variants(properties(schema)[field]) for word in form.get("enum", ())]


def misfits(schema: Node) -> list[Any]:
    """Return a value of each type that a field cannot have; ``null`` is none of them: it means that it is left out."""
    types = {form.get("type", "object") for form in variants(schema)}
    if "number" in types:
        types.add("integer")
    return [value for kind, value in OF_TYPE.items() if kind not in types]
