"""(edge) The state that ends with the process. In and out: what ``store`` says."""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.pool.cooldown import Record
from gemproxy.state.items import MAX_KIND_BYTES, Item, Items, weight
from gemproxy.state.store import Grant, Health, lasting, merged


class MemoryState:
    """A state that ends with the process: ``state.path`` left out, or not usable, which ``trouble`` tells."""

    def __init__(self, clock: Callable[[], float], trouble: str = "") -> None:
        self._clock = clock
        self._trouble = trouble
        self._records: dict[tuple[str, str], Record] = {}
        self._grants: dict[str, Grant] = {}
        self._projects: dict[str, str] = {}
        self._items = Items()

    async def records(self) -> list[Record]:
        return list(self._records.values())

    async def news(self) -> list[Record]:
        return []

    def keep_record(self, record: Record) -> None:
        self._records[record.fingerprint, record.model] = record
        self._records = lasting(self._records)

    async def grant(self, key: str) -> Grant | None:
        return self._grants.get(key)

    def keep_grant(self, key: str, grant: Grant) -> None:
        self._grants[key] = merged(self._grants.get(key), grant)

    async def settle(self) -> None:
        """Nothing is written."""

    async def project(self, key: str) -> str:
        return self._projects.get(key, "")

    def keep_project(self, key: str, project: str, changed: float) -> None:
        self._projects[key] = project

    async def get(self, kind: str, key: str, *, patient: bool = False) -> bytes | None:
        item = self._items.get(kind, key)
        return item.at(self._clock()) if item is not None else None

    def put(self, kind: str, key: str, value: bytes, lasts: float, limit: int = MAX_KIND_BYTES) -> None:
        if weight(key, value) > limit:
            self.drop(kind, key)
            return
        now = self._clock()
        self._items.put(kind, key, Item(value, now + lasts), limit)
        self._items.expire(now)

    def drop(self, kind: str, key: str) -> None:
        self._items.pop(kind, key)

    def health(self) -> Health:
        return Health("memory", not self._trouble, self._trouble)

    async def close(self) -> None:
        """Let go of everything."""
        self._records.clear()
        self._grants.clear()
        self._projects.clear()
        self._items.clear()
