"""JSON Schema as clients write it -> JSON Schema as Gemini reads it, in one typed walk (docs/protocol.md 5.4, route B).

In: the bytes of a schema. Out: the bytes of the cleaned one, from a cache by content, since clients resend the same
tools with every request. Must not: raise anything but ``Unusable`` for what is no schema, too deep or too large, and
what ``Effort`` raises for the work that all schemas of a request make.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import msgspec

from gemproxy.converter.schema.clean import MAX_BYTES, Walk
from gemproxy.converter.schema.refs import Node, Unusable, too_deep
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort

__all__ = ["Unusable", "answer_schema", "too_much", "tool_schema"]

CACHED_BYTES = 32 << 20  # schemas as they came and as they went; tools and answers have a cache each
_ENTRY_OVERHEAD = 256  # bytes that Python itself needs for one of them, about

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def _tool(raw: bytes, effort: Effort) -> bytes:
    root = _read(raw, effort)
    if root is None:
        return b""
    found = Walk(root, effort).root()
    kind = found.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind != "object":
        raise Unusable("the parameters of a function must be an object")
    found = {"type": "object"} | found | {"type": "object"}  # first, and without "null"
    # without anything to fill in there is nothing to say; leaving it out is the safe form (docs/protocol.md 0.0)
    speaks = found.get("properties") or "anyOf" in found or found.get("additionalProperties", False) is not False
    return _encode(found) if speaks else b""


def _answer(raw: bytes, effort: Effort) -> bytes:
    root = _read(raw, effort)
    found = Walk(root, effort).root() if root is not None else {}
    return _encode(found) if found else b""


class Known:
    """What became of schemas, by their bytes, within ``CACHED_BYTES``; the oldest go first. Any thread may ask.

    Not the least recently used: noting every use would cost as much as the look-up, and what is asked for again comes
    back by one walk.
    """

    def __init__(self, walk: Callable[[bytes, Effort], bytes]) -> None:
        self._walk = walk
        self._changing = Lock()
        self._found: dict[bytes, bytes] = {}
        self.held = 0  # bytes

    def of(self, raw: bytes, effort: Effort) -> bytes:
        """Return what becomes of a schema; one that is refused is walked again, so that nothing of it is kept."""
        found = self._found.get(raw)
        if found is None:
            effort.spend(1)
            found = self._walk(raw, effort)
            with self._changing:
                self._keep(raw, found)
        return found

    def _keep(self, raw: bytes, found: bytes) -> None:
        if raw in self._found:  # another thread was quicker
            return
        self._found[raw] = found
        self.held += _ENTRY_OVERHEAD + len(raw) + len(found)
        while self.held > CACHED_BYTES:
            oldest = next(iter(self._found))
            self.held -= _ENTRY_OVERHEAD + len(oldest) + len(self._found.pop(oldest))


_tools, _answers = Known(_tool), Known(_answer)


def tool_schema(raw: bytes, effort: Effort) -> bytes:
    """Return the parameters of a function, b"" if it takes none. Raises ``Unusable`` if they are not an object."""
    return _tools.of(raw, effort)


def answer_schema(raw: bytes, effort: Effort) -> bytes:
    """Return the schema of an answer, of any type; b"" if it allows anything. Raises ``Unusable``."""
    return _answers.of(raw, effort)


def too_much(param: str, effort: Effort) -> ClientFault:
    """Return the fault for schemas that are more work together than one request may cause."""
    return ClientFault(
        f"The schemas of the request are larger than server.max_schema_nodes = {effort.allowed} allows, "
        "with $refs followed and what is listed counted.",
        param=param,
    )


def _read(raw: bytes, effort: Effort) -> Node | None:
    """Return the document, None if it says nothing (absent, null, true)."""
    if not raw:
        return None
    if len(raw) > MAX_BYTES:
        raise Unusable(f"the schema is larger than {MAX_BYTES // 1024} KiB")
    effort.spend(len(raw) >> 8)  # to read it, and to pass over what is no schema
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
