"""JSON Schema as clients write it -> JSON Schema as Gemini reads it, in one typed walk (PROTOCOL 5.4, route B).

In: the bytes of a schema. Out: the bytes of the cleaned one, from a cache by content, since clients resend the same
tools with every request. Must not: raise anything but ``Unusable`` for what is no schema, too deep or too large.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gemproxy.converter.references import Node, Unusable, too_deep
from gemproxy.converter.walk import MAX_BYTES, Walk

__all__ = ["Unusable", "answer_schema", "tool_schema"]

CACHED_BYTES = 32 << 20  # schemas as they came and as they went; tools and answers have a cache each
_ENTRY = 256  # bytes that Python itself needs for one of them, about

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def _tool(raw: bytes) -> bytes:
    root = _read(raw)
    if root is None:
        return b""
    found = Walk(root).root()
    kind = found.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind != "object":
        raise Unusable("the parameters of a function must be an object")
    found = {"type": "object"} | found | {"type": "object"}  # first, and without "null"
    # without anything to fill in there is nothing to say; leaving it out is the safe form (PROTOCOL 0.0)
    speaks = found.get("properties") or "anyOf" in found or found.get("additionalProperties", False) is not False
    return _encode(found) if speaks else b""


def _answer(raw: bytes) -> bytes:
    root = _read(raw)
    found = Walk(root).root() if root is not None else {}
    return _encode(found) if found else b""


class Known:
    """What became of schemas, by their bytes, within ``CACHED_BYTES``; the oldest go first.

    Not the least recently used: noting every use would cost as much as the look-up, and what is asked for again comes
    back by one walk.
    """

    def __init__(self, walk: Callable[[bytes], bytes]) -> None:
        self._walk = walk
        self._found: dict[bytes, bytes] = {}
        self.held = 0  # bytes

    def of(self, raw: bytes) -> bytes:
        """Return what becomes of a schema; one that is refused is walked again, so that nothing of it is kept."""
        found = self._found.get(raw)
        if found is not None:
            return found
        found = self._found[raw] = self._walk(raw)
        self.held += _ENTRY + len(raw) + len(found)
        while self.held > CACHED_BYTES:
            oldest = next(iter(self._found))
            self.held -= _ENTRY + len(oldest) + len(self._found.pop(oldest))
        return found


_tools, _answers = Known(_tool), Known(_answer)


def tool_schema(raw: bytes) -> bytes:
    """Return the parameters of a function, b"" if it takes none. Raises ``Unusable`` if they are not an object."""
    return _tools.of(raw)


def answer_schema(raw: bytes) -> bytes:
    """Return the schema of an answer, of any type; b"" if it allows anything. Raises ``Unusable``."""
    return _answers.of(raw)


def _read(raw: bytes) -> Node | None:
    """Return the document, None if it says nothing (absent, null, true)."""
    if not raw:
        return None
    if len(raw) > MAX_BYTES:
        raise Unusable(f"the schema is larger than {MAX_BYTES // 1024} KiB")
    try:
        root = _decode(raw)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unusable("the schema is not valid JSON") from None
    if root is None or root is True:
        return None
    if not isinstance(root, dict):
        raise Unusable("a schema must be an object")
    return root
