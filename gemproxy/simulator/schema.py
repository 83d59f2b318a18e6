"""Values that fit a schema: what the simulated model puts into arguments and JSON answers.

In: a ``Schema`` object or a JSON Schema, decoded. Out: a value that keeps to ``type enum const properties required
items prefixItems anyOf oneOf allOf $ref`` and the simple limits. Patterns are not followed. Pure and deterministic:
``salt`` makes two values of one schema differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

_DEEP = 4  # from here on only what is required, so that recursive schemas end
_DEEPEST = 24
_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def fit(schema: Any, salt: int = 0) -> Any:
    """Return a value for this schema; ``True``, ``{}`` and None fit anything."""
    return _Fitter(schema, salt).value(schema, "value", 0)


class _Fitter:
    def __init__(self, root: Any, salt: int) -> None:
        self.root = root
        self.salt = salt

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return f"sample {name}"
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._chosen(schema)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {inner: found for inner, found in schema.items() if inner != key}
                return self.value({**rest, **self._branch(schema[key])}, name, depth + 1)
        maker: Maker = _MAKERS.get(_type(schema), _Fitter.string)
        return maker(self, schema, name, depth)

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return the schema with its reference followed and its ``allOf`` merged."""
        for _ in range(_DEEPEST):
            if isinstance(target := schema.get("$ref"), str):
                found = pointed(self.root, target)
                own = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**found, **own} if isinstance(found, dict) else own
            elif schema.get("allOf"):
                schema = _merged(schema)
            else:
                break
        return schema

    def _chosen(self, schema: dict[str, Any]) -> Any:
        choices = [choice for choice in schema["enum"] if choice is not None] or [None]
        choice = choices[self.salt % len(choices)]
        if isinstance(choice, str) and _type(schema) in ("integer", "number"):  # numeric enums travel as strings
            return int(choice) if _type(schema) == "integer" else float(choice)
        return choice

    def _branch(self, branches: list[Any]) -> dict[str, Any]:
        found = [branch for branch in branches if isinstance(branch, dict) and _type(branch) != "null"]
        return found[self.salt % len(found)] if found else {"type": "null"}

    def object(self, schema: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties") or {}, schema.get("required") or []
        wanted = [key for key in properties if depth < _DEEP or key in required]
        made = {key: self.value(properties[key], key, depth + 1) for key in wanted if properties[key] is not False}
        made.update({key: f"sample {key}" for key in required if key not in properties})
        extra = schema.get("additionalProperties")
        if not properties and isinstance(extra, dict) and depth < _DEEP:
            made["key"] = self.value(extra, "key", depth + 1)
        return made

    def array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        head = [self.value(item, name, depth + 1) for item in schema.get("prefixItems") or []]
        least = int(schema.get("minItems") or 0)
        size = max(least, len(head), 2 if depth < _DEEP and "items" in schema else 0)
        size = min(size, int(schema.get("maxItems", size)))
        tail = [self.value(schema.get("items"), name, depth + 1) for _ in range(size - len(head))]
        return [*head, *tail][:size]

    def string(self, schema: dict[str, Any], name: str, depth: int) -> str:
        if found := _FORMATS.get(str(schema.get("format"))):
            return found
        text = f"sample {name}" + (f" {self.salt}" if self.salt else "")
        text = text.ljust(int(schema.get("minLength") or 0), "x")
        return text[: int(schema["maxLength"])] if schema.get("maxLength") is not None else text

    def integer(self, schema: dict[str, Any], name: str, depth: int) -> int:
        return int(self.number(schema, name, depth, step=1))

    def number(self, schema: dict[str, Any], name: str, depth: int, step: float = 0.5) -> float:
        low, high = _limits(schema, step)
        value = 1 + self.salt
        value = low if low is not None and value < low else value
        value = high if high is not None and value > high else value
        if multiple := schema.get("multipleOf"):
            value = -(-value // multiple) * multiple
        return value


Maker = Callable[[_Fitter, dict[str, Any], str, int], Any]


def _limits(schema: dict[str, Any], step: float) -> tuple[Any, Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low = low if above is None or isinstance(above, bool) else above + step
    high = high if below is None or isinstance(below, bool) else below - step
    return low, high


def _type(schema: dict[str, Any]) -> str:
    """Return the JSON type a schema asks for, lower case; a list gives its first that is not null."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if str(each).lower() != "null"), "null")
    if kind:
        return str(kind).lower()
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    merged = {key: found for key, found in schema.items() if key != "allOf"}
    for branch in schema["allOf"]:
        for key, found in (branch if isinstance(branch, dict) else {}).items():
            if key == "properties":
                merged[key] = {**merged.get(key, {}), **found}
            elif key == "required":
                merged[key] = [*merged.get(key, []), *found]
            else:
                merged.setdefault(key, found)
    return merged


def pointed(root: Any, target: str) -> Any:
    """Return what a local JSON pointer names; ``UNSET`` if there is nothing."""
    found = root
    for step in filter(None, target.removeprefix("#").split("/")):
        found = found.get(step.replace("~1", "/").replace("~0", "~"), UNSET) if isinstance(found, dict) else UNSET
    return found


_MAKERS: dict[str, Maker] = {
    "object": _Fitter.object,
    "array": _Fitter.array,
    "string": _Fitter.string,
    "integer": _Fitter.integer,
    "number": _Fitter.number,
    "boolean": lambda fitter, *_: fitter.salt % 2 == 0,
    "null": lambda *_: None,
}
