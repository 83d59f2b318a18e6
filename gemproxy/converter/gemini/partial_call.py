"""A function call that arrives in pieces (Vertex ``partialArgs``) -> its arguments as JSON text. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from gemproxy.errors import UpstreamFault
from gemproxy.wire.gemini import PartialArg

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]""")
_LONGEST_PATH = 10_000  # characters
_MOST_STEPS = 100  # steps of a path: what is nested deeper no client can read
_MOST_ITEMS = 100_000  # of all lists and objects together: a path may ask for as many with a few bytes
_EXACT_LIMIT = 1 << 53  # beyond it a double is no longer the one whole number that was meant


class PartialCall:
    """One call being put together; ``add`` pieces in order, then ``arguments``.

    ``jsonPath`` names where a value belongs (``$.recipe.steps[0].text``); text goes on where it stopped.
    """

    __slots__ = ("_room", "_root", "id", "name", "signature")

    def __init__(self, name: str, call_id: str | None, signature: str | None) -> None:
        self.name = name
        self.id = call_id
        self.signature = signature
        self._root: dict[str, Any] = {}
        self._room = _MOST_ITEMS

    def add(self, pieces: list[PartialArg]) -> None:
        """Put the pieces in their places; raises ``UpstreamFault`` for a path that fits nowhere."""
        for piece in pieces:
            try:
                self._put(_steps(piece.json_path), piece)
            except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
                raise UpstreamFault("The upstream sent a piece of a tool call that fits nowhere.") from None

    def arguments(self) -> str:
        """Return the arguments so far as a JSON object."""
        return _encode(self._root).decode()

    def _put(self, steps: list[str | int], piece: PartialArg) -> None:
        *way, last = steps
        node: Any = self._root
        for step, following in zip(way, steps[1:], strict=True):
            node = self._child(node, step, list if isinstance(following, int) else dict)
        if piece.string_value is None:
            self._reach(node, last)
            node[last] = _scalar(piece)
        else:
            self._child(node, last, _Text).go_on(piece.string_value)

    def _child(self, node: Any, step: str | int, make: Callable[[], Any]) -> Any:
        self._reach(node, step)
        child = node[step] if isinstance(step, int) else node.get(step)
        if child is None:
            child = node[step] = make()
        return child

    def _reach(self, node: Any, step: str | int) -> None:
        if isinstance(step, int) and isinstance(node, list):
            self._grow(step + 1 - len(node))
            node.extend([None] * (step + 1 - len(node)))
        elif isinstance(step, str) and isinstance(node, dict):
            self._grow(step not in node)
        else:
            raise TypeError

    def _grow(self, items: int) -> None:
        self._room -= max(items, 0)
        if self._room < 0:
            raise IndexError


class _Text:
    """A text that goes on: kept in pieces, since to join each with all before it is quadratic."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def go_on(self, piece: str) -> None:
        self._pieces.append(piece)

    def __str__(self) -> str:
        return "".join(self._pieces)


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _steps(path: str) -> list[str | int]:
    if len(path) > _LONGEST_PATH:
        raise ValueError
    steps: list[str | int] = [int(index) if index else name or quoted for name, index, quoted in _STEP.findall(path)]
    if len(steps) > _MOST_STEPS:
        raise ValueError
    return steps


def _scalar(piece: PartialArg) -> float | bool | None:
    number = piece.number_value
    if number is None:
        return piece.bool_value
    return int(number) if number.is_integer() and abs(number) < _EXACT_LIMIT else number
