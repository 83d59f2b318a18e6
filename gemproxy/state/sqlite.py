"""(edge) The state in one SQLite file, shared by every process on the machine.

In: records, grants, projects; written together a moment later, in a thread of its own, and items after them. Out: the
same rows, and what other processes wrote. The event loop never waits for the disk; a write that fails is warned of once
and tried again. A damaged file is moved aside and a new one begun; one of a later version is left as it is.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gemproxy.pool.cooldown import NO_END, Record
from gemproxy.state.items import MAX_KIND_BYTES, Entry, Item, Items, batches, weight
from gemproxy.state.sqlite_database import Database
from gemproxy.state.sqlite_file import AwayState, UnusableState, is_broken
from gemproxy.state.sqlite_rows import DROP_ITEM, KEEP_GRANT, KEEP_ITEM, KEEP_PROJECT, KEEP_RECORD, Place, rows_of
from gemproxy.state.store import Grant, Health, lasting, merged
from gemproxy.tasks import keep_doing

log = logging.getLogger(__name__)
K = TypeVar("K")
T = TypeVar("T")

WRITE_DELAY = 0.2  # seconds; cooldowns come in bursts and are written together
RETRY_INTERVAL = 5.0  # seconds until a failed write, or a file that could not be opened, is tried again
SETTLE_TIMEOUT = 1.0  # seconds that somebody waits for a write
RECORDS_PER_FORGETTING = 1000  # between two looks for old ones; model names come from clients, so there may be many
PAUSES = (0.01, 0.03, 0.06, 0.15)  # seconds between looks for what another process writes a moment after it answered
BATCH_BYTES = 4 << 20  # of items written together: other processes write in between, and the log stays short
TIDY_INTERVAL = 60.0  # seconds between looks for items that ended


class SqliteState:
    """``state.path``. ``open`` before use; ``patience`` is how many seconds a lock of another process is waited for."""

    def __init__(self, path: Path, clock: Callable[[], float], *, patience: float = 5.0) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "gemproxy-state")
        self._clock = clock
        self._database = Database(path, clock, patience)  # in the thread only
        # what is not on disk yet, newest only; a grant or a project is looked for here first
        self._records: dict[tuple[str, str], Record] = {}
        self._grants: dict[str, Grant] = {}
        self._projects: dict[str, tuple[str, float]] = {}
        self._items = Items(pending=True)
        self._writing = asyncio.Lock()  # what is being written is not written once more by the next flush
        self._queued = False  # a flush waits for its turn, and will take along all that comes until then
        self._untidy = False  # something in the file has ended
        self._tidying: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._known: dict[str, Grant] = {}  # for a new file: a refresh token that is lost cannot be had again
        self._opening: asyncio.Task[None] | None = None  # while the file cannot be opened
        self._kept = 0  # records since old ones were forgotten
        self._closed = False
        self._troubles: dict[str, str] = {}  # what cannot be done, and why: warned of, and not gone well since

    async def open(self) -> None:
        """Open the file, mode 0600, made if need be. Raises ``UnusableState``."""
        try:
            await self._run(self._database.open)
        except UnusableState:
            raise
        except Exception as error:
            raise AwayState(f"state.path = {self.path}: {_words(error)}") from error
        if self._tidying is None:
            self._tidying = keep_doing(self._tidy_items, TIDY_INTERVAL, name="forgetting what has ended in the state")

    def open_later(self, why: str, pause: float | None = None) -> None:
        """Open the file as soon as that can be done; until then all is held in memory."""
        self._troubles["opened"] = why
        work = self._open_later(RETRY_INTERVAL if pause is None else pause)
        self._opening = asyncio.get_running_loop().create_task(work, name="state opening")

    def health(self) -> Health:
        return Health("sqlite", not self._troubles, next(iter(self._troubles.values()), ""))

    async def records(self) -> list[Record]:
        if self._opening is not None:
            return list(self._records.values())
        return await self._read(self._database.records, [])

    async def news(self) -> list[Record]:
        return await self._read(self._database.news, [])

    async def grant(self, key: str) -> Grant | None:
        if key in self._grants:
            return self._grants[key]
        kept = await self._read(lambda: self._database.grant(key), None)
        if kept is not None:
            self._known[key] = kept
        return self._known.get(key)

    async def project(self, key: str) -> str:
        if key in self._projects:
            return self._projects[key][0]
        return await self._read(lambda: self._database.project(key), "")

    def keep_record(self, record: Record) -> None:
        self._records[record.fingerprint, record.model] = record
        self._records = lasting(self._records)  # a file that cannot be written for long
        self._schedule(0.0 if record.until == NO_END else WRITE_DELAY)

    def keep_grant(self, key: str, grant: Grant) -> None:
        self._grants[key] = merged(self._grants.get(key), grant)
        self._known[key] = merged(self._known.get(key), grant)
        self._schedule(0.0)  # a rotated refresh token that is lost cannot be had again

    async def settle(self) -> None:
        self._flushing = asyncio.get_running_loop().create_task(self.flush(), name="state flush")
        await asyncio.wait((self._flushing,), timeout=SETTLE_TIMEOUT)

    def keep_project(self, key: str, project: str, changed: float) -> None:
        self._projects[key] = (project, changed)
        self._schedule(WRITE_DELAY)

    async def get(self, kind: str, key: str, *, patient: bool = False) -> bytes | None:
        for pause in (0.0, *(PAUSES if patient else ())):
            if pause:
                await asyncio.sleep(pause)
            if (waiting := self._items.get(kind, key)) is not None:
                return waiting.at(self._clock())
            found = await self._read(lambda: self._database.item(kind, key), None)
            if found is not None:
                return found
        return None

    def put(self, kind: str, key: str, value: bytes, lasts: float, limit: int = MAX_KIND_BYTES) -> None:
        if weight(key, value) > limit:
            self.drop(kind, key)
            return
        self._items.put(kind, key, Item(value, self._clock() + lasts), limit)
        self._schedule_items()

    def drop(self, kind: str, key: str) -> None:
        self._items.put(kind, key, Item())
        self._schedule_items()

    async def flush(self) -> None:
        """Write now what is not on disk yet."""
        self._disarm()
        self._queued = True
        try:
            async with self._writing:
                self._queued = False
                if self._opening is None and (self._has_rows() or self._items or self._untidy):
                    await self._flush()
        finally:
            self._queued = False

    async def _flush(self) -> None:
        try:
            unfit = await self._write_rows() | await self._write_items()
            if self._untidy:
                await self._run(self._database.tidy)
                self._untidy = False
        except Exception as error:  # noqa: BLE001 - whatever it is, what waits must not be lost with it
            self._lose("written", error)
            self._schedule(RETRY_INTERVAL)
            return
        if unfit:
            self._warn("written", next(iter(unfit.values())))
        else:
            self._recovered("written")
            if self._items:  # came meanwhile, and may have been put off
                self._schedule_items()

    async def close(self) -> None:
        """Write what is left, as far as that can be done, and close the file."""
        if self._closed:
            return
        for task in (self._opening, self._tidying):
            if task is not None:
                task.cancel()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        await self.flush()
        self._disarm()
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)

    # ------------------------------------------------------------------------------------------------ on the loop

    def _has_rows(self) -> bool:
        return bool(self._records or self._grants or self._projects)

    async def _write_rows(self) -> dict[Place, Exception]:
        """Write all but items; return what no file can hold."""
        if not self._has_rows():
            return {}
        records, grants, projects = self._records.copy(), self._grants.copy(), self._projects.copy()
        rows, first = dict(rows_of(records, grants, projects, self._database.writer)), self._forgetting(records)
        unfit = await self._run(lambda: self._database.write(rows, first, synced=bool(grants)))
        # only now: a read that waited behind a write that failed would miss what is not there yet
        _drop(self._records, records, KEEP_RECORD, unfit)
        _drop(self._grants, grants, KEEP_GRANT, unfit)
        _drop(self._projects, projects, KEEP_PROJECT, unfit)
        return unfit

    async def _write_items(self) -> dict[Place, Exception]:
        unfit: dict[Place, Exception] = {}
        for batch in batches(self._items, BATCH_BYTES):
            unfit |= await self._write_batch(batch)
        return unfit

    async def _write_batch(self, batch: list[Entry]) -> dict[Place, Exception]:
        limits = {entry.kind: self._items.limit(entry.kind) for entry in batch if entry.item.value is not None}
        unfit = await self._run(lambda: self._database.write_items(batch, limits))
        for kind, key, item in batch:
            if self._items.get(kind, key) is item and not unfit.keys() & {
                (KEEP_ITEM, (kind, key)),
                (DROP_ITEM, (kind, key)),
            }:
                self._items.pop(kind, key)
        return unfit

    async def _tidy_items(self) -> None:
        if await self._read(self._database.is_untidy, False):
            self._untidy = True
            await self.flush()

    def _schedule_items(self) -> None:
        # at once: a client may ask another process for it next. But a full disk is not to be filled anew by each
        self._schedule(RETRY_INTERVAL if "written" in self._troubles else 0.0)

    def _schedule(self, delay: float) -> None:
        if self._closed:
            return  # the last streams may end after the state did
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._start_flush)

    def _start_flush(self) -> None:
        self._timer = None
        if self._queued:
            return
        # kept in a field: the loop itself holds tasks weakly
        self._flushing = asyncio.get_running_loop().create_task(self.flush(), name="state flush")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose(self, doing: str, error: Exception) -> None:
        """Note what cannot be done, and open the file anew where only that helps."""
        self._warn(doing, error)
        if is_broken(error) and self._opening is None and not self._closed:
            self.open_later(self._troubles[doing], 0.0)

    def _warn(self, doing: str, error: Exception) -> None:
        why, news = f"state.path = {self.path}: {_words(error)}", not self._troubles
        self._troubles[doing] = why
        if news:  # one line an outage
            log.warning("%s; state is held in memory until it can be %s", why, doing)

    def _recovered(self, doing: str) -> None:
        if self._troubles.pop(doing, None) is not None and not self._troubles:
            log.warning("state.path = %s: can be %s again; nothing was lost", self.path, doing)

    async def _open_later(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            pause = RETRY_INTERVAL
            try:
                await self.open()
            except AwayState as fault:
                self._troubles["opened"] = str(fault)
            except UnusableState as fault:  # in memory until the end, as with such a file at the start
                self._troubles["opened"] = str(fault)
                log.warning("%s; state (rests, tokens, projects) is kept in memory only", fault)
                return
            else:
                break
        self._opening = None
        self._troubles.clear()
        self._grants = self._known | self._grants
        log.warning("state.path = %s: open now; what was held in memory is written", self.path)
        self._schedule(0.0)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise sqlite3.ProgrammingError("closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _read(self, work: Callable[[], T], otherwise: T) -> T:
        if self._opening is not None:
            return otherwise
        try:
            found = await self._run(work)
        except Exception as error:  # noqa: BLE001 - no request and no task may end by it
            self._lose("read", error)
            return otherwise
        self._recovered("read")
        return found

    def _forgetting(self, records: Mapping[Any, Record]) -> Callable[[sqlite3.Connection], None] | None:
        """Return what to do first with this write: now and then, to forget."""
        self._kept += len(records)
        if self._kept < RECORDS_PER_FORGETTING:
            return None
        self._kept = 0
        return self._database.forget


def _drop(waiting: dict[K, T], written: Mapping[K, T], sql: str, unfit: Container[Place]) -> None:
    """Forget what was written, but for what became of it meanwhile."""
    for key, value in written.items():
        if waiting.get(key) is value and (sql, key) not in unfit:
            del waiting[key]


def _words(error: Exception) -> str:
    """Return what an error says; others than these may quote what was to be written, a token too."""
    return str(error) if isinstance(error, sqlite3.Error | OSError) else type(error).__name__
