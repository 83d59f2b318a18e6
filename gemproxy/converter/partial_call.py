"""A function call that arrives in pieces (Vertex ``partialArgs``) -> its arguments as JSON text. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from gemproxy.errors import UpstreamFault
from gemproxy.wire.gemini import PartialArg

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]""")
_MOST_ITEMS = 10_000  # an index beyond this is not an argument list but an attack on memory


class PartialCall:
    """One call being put together; ``add`` pieces in order, then ``arguments``.

    ``jsonPath`` names where a value belongs (``$.recipe.steps[0].text``); text goes on where it stopped.
    """

    __slots__ = ("_root", "id", "name", "signature")

    def __init__(self, name: str, call_id: str | None, signature: str | None) -> None:
        self.name = name
        self.id = call_id
        self.signature = signature
        self._root: dict[str, Any] = {}

    def add(self, pieces: list[PartialArg]) -> None:
        """Put the pieces in their places; raises ``UpstreamFault`` for a path that fits nowhere."""
        for piece in pieces:
            try:
                _put(self._root, _steps(piece.json_path), piece)
            except (AttributeError, IndexError, OverflowError, TypeError, ValueError):
                raise UpstreamFault("The upstream sent a piece of a tool call that fits nowhere.") from None

    def arguments(self) -> str:
        """Return the arguments so far as a JSON object."""
        return msgspec.json.encode(self._root).decode()


def _steps(path: str) -> list[str | int]:
    return [int(index) if index else name or quoted for name, index, quoted in _STEP.findall(path)]


def _put(node: Any, steps: list[str | int], piece: PartialArg) -> None:
    *way, last = steps
    for step, following in zip(way, steps[1:], strict=True):
        node = _child(node, step, list if isinstance(following, int) else dict)
    if piece.string_value is None:
        _reach(node, last)
        node[last] = _scalar(piece)
    else:
        node[last] = _child(node, last, str) + piece.string_value


def _scalar(piece: PartialArg) -> float | bool | None:
    if piece.number_value is not None:
        whole = int(piece.number_value)
        return whole if whole == piece.number_value else piece.number_value
    return piece.bool_value


def _child(node: Any, step: str | int, make: Callable[[], Any]) -> Any:
    _reach(node, step)
    child = node[step] if isinstance(step, int) else node.get(step)
    if child is None:
        child = node[step] = make()
    return child


def _reach(node: Any, step: str | int) -> None:
    if isinstance(step, str):
        return
    if step > _MOST_ITEMS:
        raise IndexError(step)
    node.extend([None] * (step + 1 - len(node)))
