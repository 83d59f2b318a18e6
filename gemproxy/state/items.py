"""(pure) Items by kind, in memory, the oldest first: what a state holds, or has not written yet.

In: a kind, a key, bytes with the second at which they end. Out: the same, as long as its kind is not full: beyond so
many bytes a kind's oldest items go. Nothing of a value shows in a repr.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct

MAX_KIND_BYTES = 64 << 20
MOST_AT_ONCE = 1_000  # items that one put lets go, in a millisecond or two
MOST_GONE = 1 << 16  # keys of a kind that are remembered as gone until that is written
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
    """Items in memory, bounded per kind by the limit that was named last.

    ``pending``: they wait to be written over older ones. What goes for want of room then leaves word that it has gone,
    and so does what is dropped, or the older one would show again.
    """

    def __init__(self, *, pending: bool = False) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._pending = pending

    def __bool__(self) -> bool:
        return any(kind.kept or kind.gone for kind in self._kinds.values())

    def __iter__(self) -> Iterator[Entry]:
        """Yield what is held; what comes or goes meanwhile may be left out."""
        for name, kind in list(self._kinds.items()):
            for key in [*kind.gone, *kind.kept]:  # of the keys alone a list is made quickly
                if (item := kind.get(key)) is not None:
                    yield Entry(name, key, item)

    def get(self, kind: str, key: str) -> Item | None:
        """Return what is held."""
        return self._kinds[kind].get(key) if kind in self._kinds else None

    def put(self, kind: str, key: str, item: Item, limit: int | None = None) -> None:
        """Hold an item in the place of an older one, and as the newest of its kind."""
        self._kinds.setdefault(kind, _Kind(self._pending)).put(key, item, limit)

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

    def __init__(self, pending: bool) -> None:
        self.kept: OrderedDict[str, Item] = OrderedDict()  # a plain dict finds its first in linear time
        self.gone: OrderedDict[str, Item] = OrderedDict()  # what was dropped, or went for want of room, if that counts
        self.limit = MAX_KIND_BYTES
        self._pending = pending
        self._bytes = 0

    def get(self, key: str) -> Item | None:
        return self.kept.get(key) or self.gone.get(key)

    def put(self, key: str, item: Item, limit: int | None) -> None:
        self.pop(key)
        self.limit = self.limit if limit is None else limit
        if item.value is None:
            self._bury(key)
            return
        self.kept[key] = item
        self._bytes += weight(key, item.value)
        for _ in range(MOST_AT_ONCE):  # each brings one more, so that few are ever too many
            if self._bytes <= self.limit:
                return
            self._pop_oldest()

    def pop(self, key: str) -> None:
        self.gone.pop(key, None)
        if (item := self.kept.pop(key, None)) is not None:
            self._bytes -= weight(key, item.value)

    def expire(self, now: float) -> None:
        for _ in range(MOST_AT_ONCE):
            if not self.kept or next(iter(self.kept.values())).until > now:
                return
            self._pop_oldest()

    def _pop_oldest(self) -> None:
        key, item = self.kept.popitem(last=False)
        self._bytes -= weight(key, item.value)
        self._bury(key)

    def _bury(self, key: str) -> None:
        if self._pending:
            self.gone[key] = Item()
            if len(self.gone) > MOST_GONE:
                self.gone.popitem(last=False)


def batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
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
