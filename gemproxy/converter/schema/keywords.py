"""The keywords of one JSON Schema node that hold no schemas: types, enums, bounds, formats.

In: one node as the client wrote it. Out: what Gemini understands, and hints in words for what it does not (they go into
the description). Must not: look at other nodes. Facts: docs/protocol.md 5.2 and 5.4 rules 2 and 4.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import msgspec

from gemproxy.converter.schema.refs import Node

MAX_HINT = 400  # characters; a constant can be a whole document

_TYPES = frozenset(("string", "number", "integer", "boolean", "array", "object", "null"))
_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number"}
_ENUM_TYPES = ({"string"}, {"number"})  # what an ``enum`` may hold
_FORMATS = frozenset(("date-time", "date", "time", "float", "double", "int32", "int64"))
_KEYWORDS_OF_TYPE = {  # what goes along when a list of types is taken apart
    "object": ("properties", "required", "additionalProperties", "propertyOrdering"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "string": ("format",),
}


def is_number(value: object) -> TypeGuard[int | float]:
    """Return True for JSON numbers; ``true`` is none, though Python thinks so."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def types(node: Node) -> list[str]:
    """Return the types of a node in lower case; unknown words ("any") say nothing. Left out, other keywords tell."""
    said = node.get("type")
    words = said if isinstance(said, list) else [said]
    found = list(dict.fromkeys(word.lower() for word in words if isinstance(word, str) and word.lower() in _TYPES))
    if "number" in found and "integer" in found:
        found.remove("integer")
    if not found and isinstance(node.get("properties"), dict):
        return ["object"]
    if not found and ("items" in node or "prefixItems" in node):
        return ["array"]
    return found


def enum(node: Node, kinds: list[str], found: Node, hints: list[str], told: dict[int, str]) -> bool:
    """Write ``enum`` (a ``const`` is one of one) and settle ``kinds`` by it; return True if null is among the values.

    Empty strings are refused, null is said by the type, values of several types go as text (docs/protocol.md 5.4 rule
    4), and booleans, which no ``enum`` may hold (5.2), are told. ``told`` keeps what was put in words, by the id of the
    values: refs may lead to the same ones again and again, and a value can be a whole document.
    """
    source = node["const"] if "const" in node else node.get("enum")
    values = [source] if "const" in node else source
    if not isinstance(values, list):
        return False
    nullable = any(value is None for value in values)
    kept = [value for value in values if value is not None and value != ""]
    if not kept:
        if nullable and not kinds:
            kinds.append("null")
        return nullable
    family = {"number" if is_number(value) else _TYPE_OF.get(type(value), "") for value in kept}
    if family == {"boolean"}:
        kinds[:] = kinds or ["boolean"]
        kept = list(dict.fromkeys(kept))
        if len(kept) > 1:
            return nullable  # both say no more than the type
    if family not in _ENUM_TYPES:
        hints.append(told.get(id(source)) or told.setdefault(id(source), _one_of(kept)))
    if "" in family or family == {"boolean"}:
        return nullable
    if len(family) > 1:
        kept = [value if isinstance(value, str) else _text(value) for value in kept]
        kinds[:] = ["string"]
    elif not kinds:
        kinds.append("number" if any(isinstance(value, float) for value in kept) else _TYPE_OF[type(kept[0])])
    # by their texts: of whole numbers beyond 64 bits as many as one likes have the same hash
    found["enum"] = list({str(value): value for value in kept}.values())
    return nullable


def bounds(node: Node, whole: bool, found: Node, hints: list[str]) -> None:
    """Write ``minimum`` and ``maximum``; an exclusive one becomes the next whole number, or words."""
    low, high = node.get("minimum"), node.get("maximum")
    if is_number(low):
        found["minimum"] = low
    if is_number(high):
        found["maximum"] = high
    above = _exclusive(node.get("exclusiveMinimum"), low)
    if above is not None and whole:
        found["minimum"] = max(found.get("minimum", -math.inf), math.floor(above) + 1)
    elif above is not None:
        hints.append(f"Greater than {_text(above)}.")
    below = _exclusive(node.get("exclusiveMaximum"), high)
    if below is not None and whole:
        found["maximum"] = min(found.get("maximum", math.inf), math.ceil(below) - 1)
    elif below is not None:
        hints.append(f"Less than {_text(below)}.")


def _exclusive(value: Any, bound: Any) -> int | float | None:
    if value is True and is_number(bound):  # draft 4: a flag beside the bound
        return bound
    return value if is_number(value) else None


def form(node: Node, found: Node, hints: list[str]) -> None:
    """Write ``format`` where it is one that Gemini knows; others would be ignored or refused, so they become words."""
    said = node.get("format")
    if not isinstance(said, str) or not said:
        return
    if said in _FORMATS:
        found["format"] = said
    else:
        hints.append(f"Format: {said[:MAX_HINT]}.")


def settle(found: Node, kinds: list[str], nullable: bool) -> None:
    """Write ``type``: one, or one and "null"; further ones become branches of ``anyOf``."""
    plain = [kind for kind in kinds if kind != "null"]
    if len(plain) > 1 and "anyOf" not in found and "enum" not in found:
        _branch(found, plain, nullable)
    elif len(plain) == 1:
        found["type"] = [plain[0], "null"] if nullable else plain[0]
    elif not plain and nullable:
        _allow_null(found, kinds)
    if plain == ["array"] and "items" not in found and "prefixItems" not in found:
        found["items"] = {}  # some backends insist on it (docs/protocol.md 5.1)


def _branch(found: Node, plain: list[str], nullable: bool) -> None:
    branches: list[Node] = []
    for kind in plain:
        branch: Node = {}
        settle(branch, [kind], nullable=False)
        branch |= {key: found[key] for key in _KEYWORDS_OF_TYPE.get(kind, ()) if key in found}
        branches.append(branch)
    for key in {key for kind in plain for key in _KEYWORDS_OF_TYPE.get(kind, ())}:
        found.pop(key, None)
    found["anyOf"] = [*branches, {"type": "null"}] if nullable else branches


def _allow_null(found: Node, kinds: list[str]) -> None:
    null = {"type": "null"}
    if "anyOf" in found:
        if null not in found["anyOf"]:
            found["anyOf"].append(null)
    elif kinds:
        found["type"] = "null"


def _one_of(values: list[Any]) -> str:
    return f"One of: {', '.join(map(_text, values))}"[:MAX_HINT] + "."


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
