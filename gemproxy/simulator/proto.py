"""Reads JSON the way Google's servers do: proto3 JSON, nothing unknown, nothing of the wrong type.

In: the bytes of a body and the name of its message. Out: the body with camelCase names, or a ``Refusal`` that lists
everything unreadable with its path (docs/protocol.md 0.4, S45-S46). Must not know what the fields mean.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.messages import BY_UPSTREAM, Fields, Type

_DEPTH = 100  # nesting that Google's JSON reader takes
_INT = {"int32": 31, "int64": 63}
_PACKAGE = "type.googleapis.com/google.ai.generativelanguage.v1beta."
ONE_OF = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)


@lru_cache(1024)
def snake(name: str) -> str:
    """Return a field's name in the proto file, which is what Google's messages use."""
    return re.sub(r"(?<!^)([A-Z])", lambda found: "_" + found[1].lower(), name)


def _names(fields: Fields) -> dict[str, str]:
    return {**{snake(name): name for name in fields}, **{name: name for name in fields}}


_BY_NAME = {
    upstream: {message: _names(fields) for message, fields in messages.items()}
    for upstream, messages in BY_UPSTREAM.items()
}


def read(body: bytes, message: str, upstream: str) -> dict[str, Any]:
    """Return the body of this message, renamed to camelCase; raises ``Refusal`` 400."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as problem:
        raise errors.bad_fields([("", f"Invalid JSON payload received. {problem}")]) from problem
    if not isinstance(value, dict):
        text = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        raise errors.bad_fields([("", text)])
    reader = _Reader(upstream)
    found: dict[str, Any] = reader.message(value, message, "")
    if reader.problems:
        raise errors.bad_fields(reader.problems)
    return found


class _Reader:
    """One pass over one body; collects what it cannot read and goes on."""

    def __init__(self, upstream: str) -> None:
        self.messages = BY_UPSTREAM[upstream]
        self.by_name = _BY_NAME[upstream]
        self.problems: list[tuple[str, str]] = []

    def message(self, value: Any, message: str, path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(path, _PACKAGE + message, value)
        if path.count(".") > _DEPTH:
            self.problems.append((path, "Message too deep. Max recursion depth reached for key"))
            return {}
        fields, names = self.messages[message], self.by_name[message]
        found: dict[str, Any] = {}
        for key, inner in value.items():
            name = names.get(key)
            if name is None:
                self._unknown(path, key, "Cannot find field.")
            elif inner is not None:
                if message == "Part" and name in ONE_OF and any(other in found for other in ONE_OF):
                    self._second(path, key)
                found[name] = self._value(inner, fields[name], _join(path, name))
        return found

    def _value(self, value: Any, kind: Type, path: str) -> Any:
        if isinstance(kind, tuple):
            return self._enum(value, kind, path)
        if kind[0] == "[":
            items = value if isinstance(value, list) else [value]
            return [self._value(item, kind[1:-1], f"{path}[{number}]") for number, item in enumerate(items)]
        if kind[0] == "{":
            return self._map(value, kind[1:-1], path)
        if isinstance(value, list) and kind != "value":
            parent, _, name = path.rpartition(".")
            self._unknown(parent, name, "Proto field is not repeating, cannot start list.")
            return None
        if kind in _SCALARS:
            return self._scalar(value, kind, path)
        return self.message(value, kind, path)

    def _map(self, value: Any, kind: str, path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(path, "Map", value)
        return {
            key: self._value(inner, kind, f"{path}[{number}].value")
            for number, (key, inner) in enumerate(value.items())
        }

    def _enum(self, value: Any, kind: tuple[str, ...], path: str) -> Any:
        if isinstance(value, str) and value.upper() in kind:  # in any case (docs/protocol.md 0.0 item 6)
            return value.upper()
        name = snake(path.rpartition(".")[2])
        return self._wrong(path, _PACKAGE + name.title().replace("_", ""), value)

    def _scalar(self, value: Any, kind: str, path: str) -> Any:
        fits, label = _SCALARS[kind]
        if kind in _INT and isinstance(value, str | float) and _whole(value):
            value = int(float(value))
        elif kind in ("float", "double") and isinstance(value, str) and _number(value):
            value = float(value)
        if not fits(value):
            return self._wrong(path, label, value)
        if kind == "bytes" and decoded(value) is None:
            text = f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for \"{value[:40]}\""
            self.problems.append((path, text))
        return value

    def _wrong(self, path: str, label: str, value: Any) -> Any:
        shown = msgspec.json.encode(value).decode()[:100]
        self.problems.append((path, f"Invalid value at '{path}' ({label}), {shown}"))
        return {}

    def _unknown(self, path: str, key: str, why: str) -> None:
        place = f" at '{path}'" if path else ""
        self.problems.append((path, f'Invalid JSON payload received. Unknown name "{key}"{place}: {why}'))

    def _second(self, path: str, key: str) -> None:
        text = f"Invalid value at '{path}' (oneof), oneof field 'data' is already set. Cannot set '{key}'"
        self.problems.append((path, text))


def _join(path: str, name: str) -> str:
    return f"{path}.{snake(name)}" if path else snake(name)


def decoded(text: str) -> bytes | None:
    """Return base64 of either alphabet decoded, padding optional; None if it is none (proto3 JSON ``bytes``)."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _whole(value: str | float) -> bool:
    return _number(value) and float(value).is_integer()


def _number(value: str | float) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _is_int(bits: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and -(2**bits) <= value < 2**bits


def _is_float(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SCALARS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "string": (lambda value: isinstance(value, str), "TYPE_STRING"),
    "bytes": (lambda value: isinstance(value, str), "TYPE_BYTES"),
    "bool": (lambda value: isinstance(value, bool), "TYPE_BOOL"),
    "int32": (_is_int(31), "TYPE_INT32"),
    "int64": (_is_int(63), "TYPE_INT64"),
    "float": (_is_float, "TYPE_FLOAT"),
    "double": (_is_float, "TYPE_DOUBLE"),
    "struct": (lambda value: isinstance(value, dict), "type.googleapis.com/google.protobuf.Struct"),
    "value": (lambda _: True, "type.googleapis.com/google.protobuf.Value"),
}
