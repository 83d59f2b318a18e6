"""One walk over a JSON Schema document: every keyword that holds schemas, and the refs between them.

In: a decoded document. Out: the document in the words that Gemini knows, with the definitions that it still needs.
Must not: take a property's name for a keyword, look into ``enum``, ``const`` or ``default``, or recurse without bound.
Rules: docs/protocol.md 5.4; a circle of refs is kept only where a property that may be left out lies on it (5.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from gemproxy.converter.gemini.names import Distinct
from gemproxy.converter.schema import keywords
from gemproxy.converter.schema.refs import MAX_DEPTH, Node, References, Unusable, too_deep
from gemproxy.load.effort import Effort

MAX_BYTES = 256 * 1024  # of a schema as it comes, and of what its refs add to that: texts, names, values
MAX_INLINED = 2_000  # nodes beyond the document's own: refs that are written out multiply; far above any real schema

_UNSAFE_CHARACTER = re.compile(r"[^A-Za-z0-9_.-]")
# beside a $ref these say something of their own, so the target is written out with them; others are dropped
_SAYING_KEYWORDS = frozenset(
    ("description", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "oneOf")
)


_FIRST_KEYWORDS = ("type", "title", "description")  # what a reader wants to know first


class Place(Struct, frozen=True):
    """Where the walk is. ``start``: the target it began at; ``trail``: the circles of refs it is on since, by name;
    ``held``: whether a property stands between the innermost of them and here; ``depth``: the levels of schemas above.
    """

    start: str
    trail: frozenset[str] = frozenset()
    held: bool = False
    depth: int = 0

    def below(self) -> Place:
        return Place(self.start, self.trail, self.held, self.depth + 1)

    def in_property(self) -> Place:
        return Place(self.start, self.trail, True, self.depth + 1)

    def along(self, trail: frozenset[str]) -> Place:
        return Place(self.start, trail, self.held, self.depth)


class Walk:
    """One walk over one document; ``root()`` may be called once."""

    def __init__(self, root: Node, effort: Effort) -> None:
        self._root = root
        self._effort = effort
        self._refs = References(root, effort)
        self._names: dict[str, str] = {}  # target -> its name under $defs of what we write
        self._distinct = Distinct()
        self._waiting: list[str] = []
        self._nodes = self._refs.nodes + MAX_INLINED  # that may still be walked
        self._room = 2 * MAX_BYTES
        self._told: dict[int, str] = {}  # what ``keywords.enum`` said in words

    def root(self) -> Node:
        """Return the cleaned document with the definitions that it still needs."""
        root, place = self._root, Place("#")
        while isinstance(ref := root.get("$ref"), str):  # a root must stand for itself
            self._count(root, place)
            target = self._refs.target(ref)
            root, place = _joined(target if isinstance(target, dict) else {}, _beside(root)), self._inside(ref, place)
        found = self._node(root, Place("#", place.trail)) or {}
        definitions: Node = {}
        while self._waiting:
            key = self._waiting.pop()
            definitions[self._names[key]] = self._node(self._refs.target(key), Place(key)) or {}
        if definitions:
            found["$defs"] = definitions
        return found

    def _inside(self, ref: str, place: Place) -> Place:
        trail = place.trail
        if self._refs.returns(ref):
            self._effort.spend(len(trail) >> 6)
            trail |= {self._refs.circle(ref)}
        return Place(place.start, trail, False, place.depth + 1)

    def _circles(self, ref: str, place: Place) -> bool:
        """Return True if ``ref`` runs in one circle with a target that the walk is inside of."""
        return self._refs.circles(ref, place.start, place.trail)

    def _count(self, node: Node, place: Place) -> None:
        self._nodes -= 1
        if self._nodes < MAX_INLINED or len(node) > 7:
            self._effort.spend(1 + (len(node) >> 3))  # the document's own were paid for when they were collected
        if place.depth > 2 * MAX_DEPTH:  # a ref that is written out counts as a level of its own
            raise too_deep()
        if self._nodes < 0 or self._room < 0:
            raise Unusable("the schema is too large once its $refs are resolved")

    def _weigh(self, node: Node) -> None:
        """Count what a node itself holds, used or not: it is read and may be written, as often as refs lead to it."""
        listed = 0
        for held in node.values():
            if isinstance(held, str):
                self._room -= len(held)
            elif isinstance(held, (list, dict)):
                listed += len(held)
                self._room -= _weight(held)
            else:
                self._room -= 1
        if listed > 7:
            self._effort.spend(listed >> 3)

    def _node(self, node: Any, place: Place) -> Node | None:
        """Return one cleaned schema; None for ``false``, which nothing can satisfy."""
        if node is False:
            return None
        if node is True or node == {}:
            return {}
        if not isinstance(node, dict):
            raise Unusable("a schema inside it is not an object")
        self._count(node, place)
        if "allOf" in node:
            node, place = self._merged(node, place)
        ref = node.get("$ref")
        return self._reference(node, ref, place) if isinstance(ref, str) else self._plain(node, place)

    # ------------------------------------------------------------------------------------------------------ refs

    def _reference(self, node: Node, ref: str, place: Place) -> Node | None:
        beside = _beside(node)
        target = self._refs.target(ref)
        if target is None:
            return self._node(beside, place)
        if isinstance(target, bool):
            return {} if target else None
        if self._circles(ref, place):
            # a circle must pass through a property that can be left out (docs/protocol.md 5.2); without one it is cut
            return self._kept(ref, beside) if place.held else {}
        if not _SAYING_KEYWORDS.isdisjoint(beside):
            return self._node(_joined(target, beside), self._inside(ref, place))
        return self._kept(ref, beside)

    def _kept(self, ref: str, beside: Node) -> Node:
        """Return a bare ref: siblings are refused (docs/protocol.md 5.2), but ``nullable`` can be said around it."""
        name = self._names.get(ref)
        if name is None:
            name = self._names[ref] = self._distinct.take(_definition_name(ref))
            self._waiting.append(ref)
        kept = {"$ref": f"#/$defs/{name}"}
        return {"anyOf": [kept, {"type": "null"}]} if beside.get("nullable") is True else kept

    def _merged(self, node: Node, place: Place) -> tuple[Node, Place]:
        """Return a schema with its ``allOf`` merged in, shallowly; what stands beside it wins."""
        own = {key: held for key, held in node.items() if key != "allOf"}
        branches = node["allOf"] if isinstance(node["allOf"], list) else []
        parts, trail = [own], set(place.trail)
        self._effort.spend((len(branches) + len(trail)) >> 6)
        for branch in branches:
            if not isinstance(branch, dict):
                continue
            ref = branch.get("$ref")
            if len(branches) == 1 and isinstance(ref, str) and self._circles(ref, place):
                return {**own, "$ref": ref}, place
            branch, passed = self._flat(branch, place)
            self._weigh(branch)
            parts.append(branch)
            if passed is not place.trail:
                trail |= passed
        return _joined(*reversed(parts)), place.along(frozenset(trail))

    def _flat(self, branch: Node, place: Place) -> tuple[Node, frozenset[str]]:
        """Return a branch of ``allOf`` without ``$ref`` and ``allOf`` of its own, and the trail with its targets."""
        self._count(branch, place)
        ref = branch.get("$ref")
        if isinstance(ref, str):
            if self._circles(ref, place):
                return _beside(branch), place.trail
            target = self._refs.target(ref)
            branch = _joined(target if isinstance(target, dict) else {}, _beside(branch))
            return self._flat(branch, self._inside(ref, place))
        if "allOf" in branch:
            branch, place = self._merged(branch, place.below())
            return {key: held for key, held in branch.items() if key != "$ref"}, place.trail
        return branch, place.trail

    # ------------------------------------------------------------------------------------------- one plain schema

    def _plain(self, node: Node, place: Place) -> Node:
        self._weigh(node)
        hints: list[str] = []
        found: Node = {}
        kinds = keywords.types(node)
        nullable = node.get("nullable") is True or "null" in kinds
        nullable = keywords.enum(node, kinds, found, hints, self._told) or nullable
        if isinstance(node.get("title"), str):
            found["title"] = node["title"]
        self._object(node, place, found)
        self._array(node, place, found)
        keywords.bounds(node, "integer" in kinds, found, hints)
        keywords.form(node, found, hints)
        self._any_of(node, place, found)
        keywords.settle(found, kinds, nullable)
        if isinstance(node.get("description"), str):
            hints.insert(0, node["description"])
        if hints:
            found["description"] = " ".join(hints)
        return {key: found[key] for key in _FIRST_KEYWORDS if key in found} | found

    def _object(self, node: Node, place: Place, found: Node) -> None:
        properties = node.get("properties")
        optional: set[str] = set()
        if isinstance(properties, dict):
            kept: Node = {}
            for name, held in properties.items():
                child = self._node(held, place.in_property())
                if child is not None:
                    kept[name] = child
                    if self._turns(held, place):
                        optional.add(name)
            found["properties"] = kept
        self._additional(node, place, found)
        present = found.get("properties", {})
        required = [name for name in _texts(node.get("required")) if name in present and name not in optional]
        if required:
            found["required"] = required
        ordering = [name for name in _texts(node.get("propertyOrdering")) if name in present]
        if ordering:
            found["propertyOrdering"] = ordering

    def _turns(self, held: Any, place: Place) -> bool:
        """Return True if a ref that runs in a circle stands in this property, outside of the properties below it."""
        waiting = [held]
        while waiting:
            node = waiting.pop()
            if isinstance(node, list):
                waiting += node
            elif isinstance(node, dict):
                ref = node.get("$ref")
                if isinstance(ref, str) and self._circles(ref, place):
                    return True
                waiting += [node.get(key) for key in ("items", "additionalProperties", "prefixItems")]
                waiting += [node.get(key) for key in ("anyOf", "oneOf", "allOf")]
        return False

    def _additional(self, node: Node, place: Place, found: Node) -> None:
        held, patterns = node.get("additionalProperties"), node.get("patternProperties")
        if isinstance(patterns, dict) and patterns and not isinstance(held, dict):
            # names by pattern are unknown to Gemini: a single pattern's schema goes for all, several leave it open
            held = next(iter(patterns.values())) if len(patterns) == 1 else True
        if isinstance(held, dict):
            child = self._node(held, place.below())
            found["additionalProperties"] = False if child is None else child
        elif isinstance(held, bool):
            found["additionalProperties"] = held

    def _array(self, node: Node, place: Place, found: Node) -> None:
        items, prefix = node.get("items"), node.get("prefixItems")
        if isinstance(items, list):  # the tuple of older drafts
            items, prefix = node.get("additionalItems"), items
        if isinstance(prefix, list):
            found["prefixItems"] = self._each(prefix, place)
        child = self._node(items, place.below()) if items is not None else None
        if child is not None:
            found["items"] = child
        for key in ("minItems", "maxItems"):
            if keywords.is_number(node.get(key)):
                found[key] = node[key]

    def _any_of(self, node: Node, place: Place, found: Node) -> None:
        held = node["anyOf"] if isinstance(node.get("anyOf"), list) else node.get("oneOf")
        branches = self._each(held, place) if isinstance(held, list) else []
        if any(branches):  # branches that say nothing here only held keywords that Gemini does not know
            found["anyOf"] = branches

    def _each(self, held: list[Any], place: Place) -> list[Node]:
        children = (self._node(branch, place.below()) for branch in held)
        return [child for child in children if child is not None]


def _definition_name(ref: str) -> str:
    return _UNSAFE_CHARACTER.sub("_", ref.rsplit("/", 1)[-1].removeprefix("#")) or "root"


def _weight(held: Iterable[Any]) -> int:
    """Return about how many bytes are listed in a keyword; schemas inside it are counted when the walk is there."""
    return sum(1 if isinstance(item, (list, dict)) else 1 + len(str(item)) for item in held)


def _beside(node: Node) -> Node:
    return {key: held for key, held in node.items() if not key.startswith("$")}


def _joined(*parts: Node) -> Node:
    """Return schemas as one, in one go: properties and required ones together, else the last to say something wins."""
    result: Node = {}
    for part in parts:
        result |= part
    properties = [part["properties"] for part in parts if isinstance(part.get("properties"), dict)]
    if len(properties) > 1:
        result["properties"] = {name: held for each in properties for name, held in each.items()}
    required = [part["required"] for part in parts if "required" in part]
    if len(required) > 1:
        result["required"] = [name for each in required for name in _texts(each)]
    return result


def _texts(held: Any) -> list[str]:
    return list(dict.fromkeys(item for item in held if isinstance(item, str))) if isinstance(held, list) else []
