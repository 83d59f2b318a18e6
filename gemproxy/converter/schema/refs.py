"""Where the ``$ref`` of a JSON Schema lead, and which of them run in a circle.

In: a decoded schema. Out: targets, and the circles they lie on. Must not: change the schema, or follow external refs,
or look at anything without counting it (``Effort``): targets may lie in each other, many times over.
A target goes by its JSON pointer as written: ``#``, ``#/$defs/Node``. Facts: docs/protocol.md 5.2, 5.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from gemproxy.load.effort import Effort

MAX_DEPTH = 32  # levels of schemas; deeper ones are refused by the upstream as well (docs/protocol.md 5.4 rule 5)

_PROPERTY_MAPS = ("properties", "patternProperties", "dependentSchemas")
_MAPS = (*_PROPERTY_MAPS, "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SINGLES = ("items", "additionalProperties")
_INDEX = re.compile(r"[0-9]{1,9}")
_DEFINITION = re.compile(r"#/(?:\$defs|definitions)/([^/]+)")

Node = dict[str, Any]


class Unusable(Exception):  # noqa: N818 - the vocabulary is fault and failure
    """The schema cannot be used; the text says why and holds nothing of the schema."""


def too_deep() -> Unusable:
    """Return the fault for a document that is nested too deep."""
    return Unusable(f"the schema is nested deeper than {MAX_DEPTH} levels")


def children(node: Node, maps: Sequence[str] = _MAPS) -> Iterator[Any]:
    """Yield the schemas directly inside a schema; never what stands in ``enum``, ``const`` or ``default``."""
    for key in maps:
        held = node.get(key)
        if isinstance(held, dict):
            yield from held.values()
    for key in _LISTS:
        held = node.get(key)
        if isinstance(held, list):
            yield from held
    for key in _SINGLES:
        held = node.get(key)
        if isinstance(held, dict):
            yield held


class References:
    """The refs of one schema document."""

    def __init__(self, root: Node, effort: Effort) -> None:
        self._root = root
        self._effort = effort
        self._nested: dict[str, Any] = {}  # definitions below the root, by name: merged documents point at them
        self.nodes = 0  # of the document itself, its definitions included
        self._collect(root, 0)
        effort.spend(self.nodes)
        self._targets: dict[str, Any] = {}
        self._leads: dict[str, list[str]] = {}  # a target -> the targets of the refs inside it
        self._returning: dict[str, bool] = {}
        self._first: dict[int, str] = {}  # one target has many names: it goes by the first, or aliases would multiply
        self._circles = _Circles(lambda name: iter(self._following(name)))

    def _collect(self, node: Node, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise too_deep()
        self.nodes += 1
        for key in ("$defs", "definitions"):
            held = node.get(key)
            if isinstance(held, dict):
                for name, definition in held.items():
                    self._nested.setdefault(name, definition)
        for child in children(node):
            if isinstance(child, dict):
                self._collect(child, depth + 1)

    def target(self, ref: str) -> Any:
        """Return the schema a ref leads to, or None if it leads nowhere or out of the document."""
        if ref not in self._targets:
            self._effort.spend(len(ref) >> 6)
            self._targets[ref] = self._find(ref)
        return self._targets[ref]

    def _find(self, ref: str) -> Any:
        found = self._at(ref)
        if found is None:
            named = _DEFINITION.fullmatch(ref)
            found = self._nested.get(_unescape(named[1])) if named is not None else None
        return found if isinstance(found, (dict, bool)) else None

    def _at(self, ref: str) -> Any:
        if ref == "#":
            return self._root
        if not ref.startswith("#/"):
            return None
        place: Any = self._root
        for step in map(_unescape, ref[2:].split("/")):
            if isinstance(place, dict):
                place = place.get(step)
            elif isinstance(place, list) and _INDEX.fullmatch(step) and int(step) < len(place):
                place = place[int(step)]
            else:
                return None
        return place

    def circle(self, ref: str) -> str:
        """Return the name of the circle that a target lies on; one that lies on none has a name of its own."""
        return self._circles.of(self._name(ref))

    def circles(self, ref: str, start: str, trail: frozenset[str]) -> bool:
        """Return True if ``ref`` runs in one circle with ``start``, or on a circle of ``trail``."""
        circle = self.circle(ref)
        return circle in trail or self._circles.known(self._name(start)) == circle

    def returns(self, ref: str) -> bool:
        """Return True if the target of ``ref`` leads back to itself."""
        name = self._name(ref)
        if name not in self._returning:
            circle = self._circles.of(name)
            self._returning[name] = any(self._circles.of(other) == circle for other in self._following(name))
        return self._returning[name]

    def _name(self, ref: str) -> str:
        return self._first.setdefault(id(self.target(ref)), ref)

    def _following(self, name: str) -> list[str]:
        if name not in self._leads:
            self._leads[name] = [self._name(ref) for ref in self._refs_of(self.target(name))]
        return self._leads[name]

    def _refs_of(self, node: Any) -> Iterator[str]:
        """Yield the refs that stand inside a schema; its definitions do not stand inside, they are only kept there."""
        waiting = [node]
        while waiting:
            current = waiting.pop()
            if not isinstance(current, dict):
                continue
            self._effort.spend(1)
            ref = current.get("$ref")
            if isinstance(ref, str):
                yield ref
            waiting += children(current, _PROPERTY_MAPS)


class _Circles:
    """The strongly connected components of a graph, found as far as they are asked for.

    Gabow's path-based algorithm without recursion: every edge is looked at once.
    """

    def __init__(self, following: Callable[[str], Iterator[str]]) -> None:
        self._following = following
        self._roots: dict[str, str] = {}

    def of(self, node: str) -> str:
        """Return the root of a node's component: nodes of one root can be reached from each other."""
        if node not in self._roots:
            self._explore(node)
        return self._roots[node]

    def known(self, node: str) -> str | None:
        """Return the same as far as it is known: what was not met on the way from another is not reached from there."""
        return self._roots.get(node)

    def _explore(self, start: str) -> None:
        met: dict[str, int] = {}
        open_: list[str] = []  # met, but not known yet with whom in a circle
        roots: list[str] = []  # of these, the ones that may be the first of their circle
        way = [(start, self._following(start))]
        while way:
            node, edges = way[-1]
            if node not in met:
                met[node] = len(met)
                open_.append(node)
                roots.append(node)
            following = next((each for each in edges if each not in self._roots), None)
            if following is None:
                way.pop()
                if roots[-1] == node:
                    self._close(open_, roots.pop())
            elif following not in met:
                way.append((following, self._following(following)))
            else:
                while met[roots[-1]] > met[following]:
                    roots.pop()

    def _close(self, open_: list[str], root: str) -> None:
        while root not in self._roots:
            self._roots[open_.pop()] = root


def _unescape(step: str) -> str:
    return unquote(step).replace("~1", "/").replace("~0", "~")
