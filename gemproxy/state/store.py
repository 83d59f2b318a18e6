"""(edge) What outlives the process: rests, access tokens, rotated refresh tokens, discovered projects.

In: records and grants, kept by the fingerprint of a credential. Out: the same after a restart or from another process.
Newest wins, per key. ``keep_*`` never block and never raise: what cannot be written is warned of and held in memory.
Must not hold API keys, client secrets, or refresh tokens that stand in a credential file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from gemproxy.pool.cooldown import Record

log = logging.getLogger(__name__)

MOST = 4096  # records in memory


class Grant(Struct, frozen=True):
    """The tokens of one credential. Times in seconds on the wall clock; the repr shows no token."""

    access: str = ""
    expiry: float = 0.0
    refresh: str = ""  # only when Google rotated it: else the one in the file holds
    issued: float = 0.0  # when ``refresh`` came
    changed: float = 0.0

    def __repr__(self) -> str:
        return f"Grant(expiry={self.expiry:.0f}, rotated={bool(self.refresh)})"


def merged(old: Grant | None, new: Grant) -> Grant:
    """Return the newer access token with the newer refresh token: they need not come from the same process."""
    if old is None:
        return new
    access, refresh = max(old, new, key=lambda grant: grant.changed), max(new, old, key=lambda grant: grant.issued)
    return msgspec.structs.replace(access, refresh=refresh.refresh, issued=refresh.issued)


def lasting(records: dict[tuple[str, str], Record]) -> dict[tuple[str, str], Record]:
    """Return the records; of more than ``MOST`` the half that ends last: model names come from clients."""
    if len(records) <= MOST:
        return records
    by_end = sorted(records.values(), key=lambda record: record.until)
    return {(record.fingerprint, record.model): record for record in by_end[MOST // 2 :]}


class Health(Struct, frozen=True):
    """Whether what is kept outlives the process; ``why`` it does not, for operators."""

    backend: str  # "memory" or "sqlite"
    ok: bool = True
    why: str = ""


class State(Protocol):
    """A store, small enough for another to stand in its place (Redis, say)."""

    async def records(self) -> list[Record]:
        """Return every rest that is kept, those that ended lately included."""
        ...

    async def news(self) -> list[Record]:
        """Return the rests that other processes kept since this was asked last."""
        ...

    def keep_record(self, record: Record) -> None:
        """Keep a rest, soon; parking at once."""
        ...

    async def grant(self, key: str) -> Grant | None:
        """Return the tokens kept for a credential."""
        ...

    def keep_grant(self, key: str, grant: Grant) -> None:
        """Keep tokens, soon."""
        ...

    async def settle(self) -> None:
        """Return once all that was kept is written, or a moment later if it cannot be written now."""
        ...

    async def project(self, key: str) -> str:
        """Return the project discovered for a credential, or ""."""
        ...

    def keep_project(self, key: str, project: str, changed: float) -> None:
        """Keep a discovered project, soon."""
        ...

    def health(self) -> Health:
        """Return how the store is now."""
        ...

    async def close(self) -> None:
        """Write what is left and let go."""
        ...


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


async def open_state(path: Path | None, clock: Callable[[], float], *, patience: float = 5.0) -> State:
    """Return the state at ``state.path``; in memory without a path, or with a warning when it cannot be used.

    A lock of another process is waited for ``patience`` seconds. What cannot be opened by then, for whatever reason, is
    tried on without holding up the start; but for a file of a later version, which is left to that version.
    """
    if path is None:
        return MemoryState()
    from gemproxy.state.sqlite import SqliteState
    from gemproxy.state.sqlite_file import AwayState, UnusableState

    state = SqliteState(path, clock, patience=patience)
    try:
        await state.open()
    except AwayState as fault:
        log.warning("%s; state (rests, tokens, projects) is held in memory until it can be opened", fault)
        state.open_later(str(fault))
    except UnusableState as fault:
        log.warning("%s; state (rests, tokens, projects) is kept in memory only", fault)
        await state.close()
        return MemoryState(str(fault))
    return state
