"""One walk over a JSON Schema document: every keyword that holds schemas, and the refs between them.

In: a decoded document. Out: the document in the words that Gemini knows, with the definitions that it still needs.
Must not: take a property's name for a keyword, look into ``enum``, ``const`` or ``default``, or recurse without bound.
Rules: PROTOCOL 5.4; a circle of refs is kept only where a property that may be left out lies on it (PROTOCOL 5.2).
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from gemproxy.converter import keywords
from gemproxy.converter.distinct import Distinct
from gemproxy.converter.references import MAX_DEPTH, Node, References, Unusable, too_deep

MAX_BYTES = 256 * 1024  # of a schema as it comes, and of what its refs add to that: texts, names, values
MAX_INLINED = 2_000  # nodes beyond the document's own: refs that are written out multiply; far above any real schema

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
# beside a $ref these say something of their own, so the target is written out with them; others are dropped
_SAYING = frozenset(
    ("description", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "oneOf")
)


_HEAD = ("type", "title", "description")  # what a reader wants to know first


class Place(Struct, frozen=True):
    """Where the walk is. ``trail``: the targets of refs that it is inside of and could come back to; ``held``: whether
    a property stands between the innermost of them and here; ``depth``: the levels of schemas above.
    """

    trail: frozenset[str]
    held: bool = False
    depth: int = 0

    def below(self) -> Place:
        return Place(self.trail, self.held, self.depth + 1)

    def in_property(self) -> Place:
        return Place(self.trail, True, self.depth + 1)

    def along(self, trail: frozenset[str]) -> Place:
        return Place(trail, self.held, self.depth)


class Walk:
    """One walk over one document; ``root()`` may be called once."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._refs = References(root)
        self._names: dict[str, str] = {}  # target -> its name under $defs of what we write
        self._distinct = Distinct()
        self._waiting: list[str] = []
        self._nodes = self._refs.nodes + MAX_INLINED  # that may still be walked
        self._room = 2 * MAX_BYTES

    def root(self) -> Node:
        """Return the cleaned document with the definitions that it still needs."""
        root, place = self._root, Place(frozenset(("#",)))
        while isinstance(ref := root.get("$ref"), str):  # a root must stand for itself
            self._count(place)
            target = self._refs.target(ref)
            root, place = _joined(target if isinstance(target, dict) else {}, _beside(root)), self._inside(ref, place)
        found = self._node(root, Place(place.trail)) or {}
        definitions: Node = {}
        while self._waiting:
            key = self._waiting.pop()
            definitions[self._names[key]] = self._node(self._refs.target(key), Place(frozenset((key,)))) or {}
        if definitions:
            found["$defs"] = definitions
        return found

    def _inside(self, ref: str, place: Place) -> Place:
        return Place(place.trail | {ref} if self._refs.returns(ref) else place.trail, False, place.depth + 1)

    def _count(self, place: Place) -> None:
        self._nodes -= 1
        if place.depth > 2 * MAX_DEPTH:  # a ref that is written out counts as a level of its own
            raise too_deep()
        if self._nodes < 0 or self._room < 0:
            raise Unusable("the schema is too large once its $refs are resolved")

    def _weigh(self, node: Node) -> None:
        """Count what a node itself holds, used or not: it is read and may be written, as often as refs lead to it."""
        self._room -= sum(map(_weight, node.values()))

    def _node(self, node: Any, place: Place) -> Node | None:
        """Return one cleaned schema; None for ``false``, which nothing can satisfy."""
        if node is False:
            return None
        if node is True or node == {}:
            return {}
        if not isinstance(node, dict):
            raise Unusable("a schema inside it is not an object")
        self._count(place)
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
        if self._refs.circles(ref, place.trail):
            # a circle must pass through a property that can be left out (PROTOCOL 5.2); without one it is cut
            return self._kept(ref, beside) if place.held else {}
        if not _SAYING.isdisjoint(beside):
            return self._node(_joined(target, beside), self._inside(ref, place))
        return self._kept(ref, beside)

    def _kept(self, ref: str, beside: Node) -> Node:
        """Return a bare ref: siblings are refused (PROTOCOL 0.0 item 7), but ``nullable`` can be said around it."""
        name = self._names.get(ref)
        if name is None:
            name = self._names[ref] = self._distinct.take(_definition_name(ref))
            self._waiting.append(ref)
        kept = {"$ref": f"#/$defs/{name}"}
        return {"anyOf": [kept, {"type": "null"}]} if beside.get("nullable") is True else kept

    def _merged(self, node: Node, place: Place) -> tuple[Node, Place]:
        """Return a schema with its ``allOf`` merged in, shallowly; what stands beside it wins."""
        result = {key: held for key, held in node.items() if key != "allOf"}
        branches = node["allOf"] if isinstance(node["allOf"], list) else []
        trail = place.trail
        for branch in branches:
            if not isinstance(branch, dict):
                continue
            ref = branch.get("$ref")
            if len(branches) == 1 and isinstance(ref, str) and self._refs.circles(ref, trail):
                return {**result, "$ref": ref}, place
            branch, passed = self._flat(branch, place)
            result, trail = _joined(branch, result), trail | passed
            self._weigh(result)
        return result, place.along(trail)

    def _flat(self, branch: Node, place: Place) -> tuple[Node, frozenset[str]]:
        """Return a branch of ``allOf`` without ``$ref`` and ``allOf`` of its own, and the trail with its targets."""
        self._count(place)
        ref = branch.get("$ref")
        if isinstance(ref, str):
            if self._refs.circles(ref, place.trail):
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
        nullable = keywords.enum(node, kinds, found, hints) or nullable
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
        return {key: found[key] for key in _HEAD if key in found} | found

    def _object(self, node: Node, place: Place, found: Node) -> None:
        properties = node.get("properties")
        optional: set[str] = set()
        if isinstance(properties, dict):
            kept: Node = {}
            for name, held in properties.items():
                child = self._node(held, place.in_property())
                if child is not None:
                    kept[name] = child
                    if self._turns(held, place.trail):
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

    def _turns(self, held: Any, trail: frozenset[str]) -> bool:
        """Return True if a ref that runs in a circle stands in this property, outside of the properties below it."""
        waiting = [held]
        while waiting:
            node = waiting.pop()
            if isinstance(node, list):
                waiting += node
            elif isinstance(node, dict):
                ref = node.get("$ref")
                if isinstance(ref, str) and self._refs.circles(ref, trail):
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
    return _UNSAFE.sub("_", ref.rsplit("/", 1)[-1].removeprefix("#")) or "root"


def _weight(held: Any) -> int:
    """Return about how many bytes a keyword has by itself; schemas inside it are counted when the walk is there."""
    if isinstance(held, str):
        return len(held)
    if not isinstance(held, (list, dict)):
        return 1
    return sum(1 if isinstance(item, (list, dict)) else 1 + len(str(item)) for item in held)


def _beside(node: Node) -> Node:
    return {key: held for key, held in node.items() if not key.startswith("$")}


def _joined(base: Node, over: Node) -> Node:
    """Return two schemas as one: properties and required ones together, else ``over`` wins."""
    result = {**base, **over}
    if isinstance(base.get("properties"), dict) and isinstance(over.get("properties"), dict):
        result["properties"] = {**base["properties"], **over["properties"]}
    if "required" in base and "required" in over:
        result["required"] = _texts(base["required"]) + _texts(over["required"])
    return result


def _texts(held: Any) -> list[str]:
    return list(dict.fromkeys(item for item in held if isinstance(item, str))) if isinstance(held, list) else []
