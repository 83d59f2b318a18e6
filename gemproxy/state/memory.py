"""(edge) The state that ends with the process. In and out: what ``store`` says."""

from __future__ import annotations

from gemproxy.pool.cooldown import Record
from gemproxy.state.store import Grant, Health, lasting, merged


class MemoryState:
    """A state that ends with the process: ``state.path`` left out, or not usable, which ``trouble`` tells."""

    def __init__(self, trouble: str = "") -> None:
        self._trouble = trouble
        self._records: dict[tuple[str, str], Record] = {}
        self._grants: dict[str, Grant] = {}
        self._projects: dict[str, str] = {}

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

    def health(self) -> Health:
        return Health("memory", not self._trouble, self._trouble)

    async def close(self) -> None:
        """Let go of everything."""
        self._records.clear()
        self._grants.clear()
        self._projects.clear()
