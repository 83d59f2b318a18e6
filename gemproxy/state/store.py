"""(edge) What outlives the process: cooldowns, access tokens, rotated refresh tokens, discovered projects; items.

In: records and grants, kept by the fingerprint of a credential; bytes of any kind, kept by a key until they end or
their kind is full. Out: the same after a restart or from another process. Newest wins, per key. ``keep_*``, ``put`` and
``drop`` never block and never raise: what cannot be written is warned of and held in memory.
Must not hold API keys, client secrets, or refresh tokens that stand in a credential file.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Struct

from gemproxy.pool.cooldown import Record
from gemproxy.state.items import MAX_KIND_BYTES

MAX_RECORDS = 4096  # records in memory


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
    """Return the records; of more than ``MAX_RECORDS`` the half that ends last: model names come from clients."""
    if len(records) <= MAX_RECORDS:
        return records
    by_end = sorted(records.values(), key=lambda record: record.until)
    return {(record.fingerprint, record.model): record for record in by_end[MAX_RECORDS // 2 :]}


class Health(Struct, frozen=True):
    """Whether what is kept outlives the process; ``why`` it does not, for operators."""

    backend: str  # "memory" or "sqlite"
    ok: bool = True
    why: str = ""


class State(Protocol):
    """A store, small enough for another to stand in its place (Redis, say)."""

    async def records(self) -> list[Record]:
        """Return every cooldown that is kept, those that ended lately included."""
        ...

    async def news(self) -> list[Record]:
        """Return the cooldowns that other processes kept since this was asked last."""
        ...

    def keep_record(self, record: Record) -> None:
        """Keep a cooldown, soon; parking at once."""
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

    async def get(self, kind: str, key: str, *, patient: bool = False) -> bytes | None:
        """Return what was put there, by any process, if it is still kept.

        ``patient``: what another process may just be writing is looked for once more, a quarter of a second at most.
        """
        ...

    def put(self, kind: str, key: str, value: bytes, lasts: float, limit: int = MAX_KIND_BYTES) -> None:
        """Keep bytes for so many seconds, at once, in the place of what was there.

        The oldest of a kind that weighs more than ``limit`` go, as ``items.weight`` counts; what is heavier alone is
        not kept. So anything may be gone at any time, and whoever asks for it must do without.
        """
        ...

    def drop(self, kind: str, key: str) -> None:
        """Forget what was put there, at once."""
        ...

    def health(self) -> Health:
        """Return how the store is now."""
        ...

    async def close(self) -> None:
        """Write what is left and let go."""
        ...
