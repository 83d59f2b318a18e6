"""(pure) Items by kind, in memory, the oldest first: what a state holds, or has not written yet.

In: a kind, a key, bytes with the second at which they end. Out: the same, as long as its kind is not full: beyond so
many bytes a kind's oldest items go. Nothing of a value shows in a repr.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

MAX_KIND_BYTES = 64 << 20
EXTRA_ITEM_BYTES = 1024  # that an item weighs beside key and value: to let go of all at once must not take long


class Item(Struct, frozen=True):
    """A value with the second on the wall clock at which it ends; none in the place of one that was dropped."""

    value: bytes | None = None
    until: float = 0.0

    def __repr__(self) -> str:
        return f"Item({len(self.value or b'')} bytes, until={self.until:.0f})"

    def at(self, now: float) -> bytes | None:
        """Return the value, unless it has ended."""
        return self.value if now < self.until else None


class Entry(NamedTuple):
    """An item and where it is."""

    kind: str
    key: str
    item: Item


def weight(key: str, value: bytes | None) -> int:
    """Return the bytes that count towards the limit of a kind."""
    return EXTRA_ITEM_BYTES + len(key) + len(value or b"")


class Items:
    """Items in memory, bounded per kind by the limit that was named last."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def __bool__(self) -> bool:
        return any(kind.kept for kind in self._kinds.values())

    def __iter__(self) -> Iterator[Entry]:
        for name, kind in self._kinds.items():
            yield from (Entry(name, key, item) for key, item in kind.kept.items())

    def get(self, kind: str, key: str) -> Item | None:
        """Return what is held."""
        return self._kinds[kind].kept.get(key) if kind in self._kinds else None

    def put(self, kind: str, key: str, item: Item, limit: int | None = None) -> None:
        """Hold an item in the place of an older one, and as the newest of its kind."""
        self._kinds.setdefault(kind, _Kind()).put(key, item, limit)

    def pop(self, kind: str, key: str) -> None:
        """Forget an item."""
        if kind in self._kinds:
            self._kinds[kind].pop(key)

    def limit(self, kind: str) -> int:
        """Return how many bytes a kind may weigh."""
        return self._kinds[kind].limit

    def expire(self, now: float) -> None:
        """Forget what has ended, up to the oldest of each kind that has not: those of a kind last equally long."""
        for kind in self._kinds.values():
            kind.expire(now)

    def clear(self) -> None:
        """Forget everything."""
        self._kinds.clear()


class _Kind:
    """The items of one kind."""

    def __init__(self) -> None:
        self.kept: OrderedDict[str, Item] = OrderedDict()  # a plain dict finds its first in linear time
        self.limit = MAX_KIND_BYTES
        self._bytes = 0

    def put(self, key: str, item: Item, limit: int | None) -> None:
        self.pop(key)
        self.kept[key] = item
        self._bytes += weight(key, item.value)
        self.limit = self.limit if limit is None else limit
        while self._bytes > self.limit:
            self._pop_oldest()

    def pop(self, key: str) -> None:
        if (item := self.kept.pop(key, None)) is not None:
            self._bytes -= weight(key, item.value)

    def expire(self, now: float) -> None:
        while self.kept and next(iter(self.kept.values())).until <= now:
            self._pop_oldest()

    def _pop_oldest(self) -> None:
        key, item = self.kept.popitem(last=False)
        self._bytes -= weight(key, item.value)


def batches(entries: list[Entry], size: int) -> Iterator[list[Entry]]:
    """Yield all entries in their order, together as many as weigh no more than ``size``; a larger one alone."""
    batch: list[Entry] = []
    total = 0
    for entry in entries:
        more = weight(entry.key, entry.item.value)
        if batch and total + more > size:
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += more
    if batch:
        yield batch
