"""(edge) The state in one SQLite file, shared by every process on the machine.

In: records, grants, projects; written together a moment later, in a thread of its own. Out: the same rows, and what
other processes wrote. The event loop never waits for the disk; a write that fails is warned of once and tried again.
A damaged file is moved aside and a new one begun; one of a later version is left as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gemproxy.pool.cooldown import NEVER, Record
from gemproxy.state.sqlite_file import (
    VERSION,
    AwayState,
    Broken,
    Identity,
    UnusableState,
    check,
    identity,
    is_broken,
    other_version,
    refuse_links,
    set_aside,
)
from gemproxy.state.store import Grant, Health, lasting, merged

log = logging.getLogger(__name__)
K = TypeVar("K")
T = TypeVar("T")
Place = tuple[str, Any]  # of a row: the statement that keeps it, and its key
Row = tuple[Any, ...]

SOON = 0.2  # seconds; cooldowns come in bursts and are written together
AGAIN = 5.0  # seconds until a failed write, or a file that could not be opened, is tried again
AT_MOST = 1.0  # seconds that somebody waits for a write
MONTHS = 180 * 86400.0  # credentials not seen for so long are forgotten
HOUR = 3600.0  # Cooldowns that ended, and the news that they did, are of no use to anyone after this
MOMENT = 0.02  # seconds between two attempts at what SQLite does not wait for
OFTEN = 1000  # records between two looks for those; model names come from clients, so there may be many

SCHEMA = """
CREATE TABLE rests (
    fingerprint TEXT NOT NULL, model TEXT NOT NULL, until REAL NOT NULL, since REAL NOT NULL, reason TEXT NOT NULL,
    daily INTEGER NOT NULL, strikes INTEGER NOT NULL, changed REAL NOT NULL, writer TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, model)
);
CREATE INDEX rests_by_seq ON rests (seq);
CREATE TABLE grants (
    credential TEXT PRIMARY KEY, access TEXT NOT NULL, expiry REAL NOT NULL, refresh TEXT NOT NULL,
    issued REAL NOT NULL, changed REAL NOT NULL
);
CREATE TABLE projects (credential TEXT PRIMARY KEY, project TEXT NOT NULL, changed REAL NOT NULL);
CREATE TABLE sequence (last INTEGER NOT NULL);
INSERT INTO sequence VALUES (0);
"""
KEEP_RECORD = """
INSERT INTO rests SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, last FROM sequence WHERE true
ON CONFLICT (fingerprint, model) DO UPDATE SET until = excluded.until, since = excluded.since, reason = excluded.reason,
    daily = excluded.daily, strikes = excluded.strikes, changed = excluded.changed, writer = excluded.writer,
    seq = excluded.seq
WHERE excluded.changed > rests.changed
"""
KEEP_GRANT = """
INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (credential) DO UPDATE SET
    access = iif(excluded.changed > grants.changed, excluded.access, grants.access),
    expiry = iif(excluded.changed > grants.changed, excluded.expiry, grants.expiry),
    refresh = iif(excluded.issued >= grants.issued, excluded.refresh, grants.refresh),
    issued = max(excluded.issued, grants.issued),
    changed = max(excluded.changed, grants.changed)
"""
KEEP_PROJECT = """
INSERT INTO projects VALUES (?, ?, ?)
ON CONFLICT (credential) DO UPDATE SET project = excluded.project, changed = excluded.changed
WHERE excluded.changed > projects.changed
"""
COUNT = "UPDATE sequence SET last = last + 1"
UNFIT = (ValueError, TypeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.IntegrityError)
"""What SQLite raises for a row that it will never take."""
RESTS = "SELECT fingerprint, model, until, since, reason, daily, strikes, changed FROM rests"


class SqliteState:
    """``state.path``. ``open`` before use; ``patience`` is how many seconds a lock of another process is waited for."""

    def __init__(self, path: Path, clock: Callable[[], float], *, patience: float = 5.0) -> None:
        self.path = path
        self._clock = clock
        self._patience = patience
        self._writer = uuid.uuid4().hex
        self._thread = ThreadPoolExecutor(1, "gemproxy-state")
        self._db: sqlite3.Connection | None = None
        self._seen = 0  # what other processes wrote up to here is known
        # what is not on disk yet, newest only; a grant or a project is looked for here first
        self._records: dict[tuple[str, str], Record] = {}
        self._grants: dict[str, Grant] = {}
        self._projects: dict[str, tuple[str, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._known: dict[str, Grant] = {}  # for a new file: a refresh token that is lost cannot be had again
        self._opening: asyncio.Task[None] | None = None  # while the file cannot be opened
        self._file: Identity = ()  # what tells it from another of the same name
        self._kept = 0  # records since old ones were forgotten
        self._closed = False
        self._troubles: dict[str, str] = {}  # what cannot be done, and why: warned of, and not gone well since

    async def open(self) -> None:
        """Open the file, mode 0600, made if need be. Raises ``UnusableState``."""
        try:
            await self._run(self._open)
        except UnusableState:
            raise
        except Exception as error:
            raise AwayState(f"state.path = {self.path}: {_words(error)}") from error

    def open_later(self, why: str, pause: float | None = None) -> None:
        """Open the file as soon as that can be done; until then all is held in memory."""
        self._troubles["opened"] = why
        work = self._open_later(AGAIN if pause is None else pause)
        self._opening = asyncio.get_running_loop().create_task(work, name="state opening")

    def health(self) -> Health:
        return Health("sqlite", not self._troubles, next(iter(self._troubles.values()), ""))

    async def records(self) -> list[Record]:
        if self._opening is not None:
            return list(self._records.values())
        return await self._read(lambda: self._select_records(-1), [])

    async def news(self) -> list[Record]:
        return await self._read(lambda: self._select_records(self._seen), [])

    async def grant(self, key: str) -> Grant | None:
        if key in self._grants:
            return self._grants[key]
        sql = "SELECT access, expiry, refresh, issued, changed FROM grants WHERE credential = ?"
        row = await self._read(lambda: self._connected().execute(sql, (key,)).fetchone(), None)
        if row:
            self._known[key] = Grant(*row)
        return self._known.get(key)

    async def project(self, key: str) -> str:
        if key in self._projects:
            return self._projects[key][0]
        sql = "SELECT project FROM projects WHERE credential = ?"
        row = await self._read(lambda: self._connected().execute(sql, (key,)).fetchone(), None)
        return str(row[0]) if row else ""

    def keep_record(self, record: Record) -> None:
        self._records[record.fingerprint, record.model] = record
        self._records = lasting(self._records)  # a file that cannot be written for long
        self._schedule(0.0 if record.until == NEVER else SOON)

    def keep_grant(self, key: str, grant: Grant) -> None:
        self._grants[key] = merged(self._grants.get(key), grant)
        self._known[key] = merged(self._known.get(key), grant)
        self._schedule(0.0)  # a rotated refresh token that is lost cannot be had again

    async def settle(self) -> None:
        self._flushing = asyncio.get_running_loop().create_task(self.flush(), name="state flush")
        await asyncio.wait((self._flushing,), timeout=AT_MOST)

    def keep_project(self, key: str, project: str, changed: float) -> None:
        self._projects[key] = (project, changed)
        self._schedule(SOON)

    async def flush(self) -> None:
        """Write now what is not on disk yet."""
        self._disarm()
        if self._opening is not None or not (self._records or self._grants or self._projects):
            return
        records, grants, projects = self._records.copy(), self._grants.copy(), self._projects.copy()
        try:
            rows, first = dict(self._rows(records, grants, projects)), self._tidy(records)
            unfit = await self._run(lambda: self._write(rows, first, synced=bool(grants)))
        except Exception as error:  # noqa: BLE001 - whatever it is, what waits must not be lost with it
            self._lose("written", error)
            self._schedule(AGAIN)
            return
        # only now: a read that waited behind a write that failed would miss what is not there yet
        _drop(self._records, records, KEEP_RECORD, unfit)
        _drop(self._grants, grants, KEEP_GRANT, unfit)
        _drop(self._projects, projects, KEEP_PROJECT, unfit)
        if unfit:
            self._warn("written", next(iter(unfit.values())))
        else:
            self._recovered("written")

    async def close(self) -> None:
        """Write what is left, as far as that can be done, and close the file."""
        if self._closed:
            return
        if self._opening is not None:
            self._opening.cancel()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        await self.flush()
        self._disarm()
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # ------------------------------------------------------------------------------------------------ on the loop

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
            pause = AGAIN
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

    def _rows(
        self, records: dict[tuple[str, str], Record], grants: dict[str, Grant], projects: dict[str, tuple[str, float]]
    ) -> Iterator[tuple[Place, Row]]:
        if records:
            yield (COUNT, None), ()
        for place, record in records.items():
            yield (KEEP_RECORD, place), (*_row(record), self._writer)
        for key, grant in grants.items():
            row = (key, grant.access, grant.expiry, grant.refresh, grant.issued, grant.changed)
            yield (KEEP_GRANT, key), row
        for key, (project, changed) in projects.items():
            yield (KEEP_PROJECT, key), (key, project, changed)

    def _tidy(self, records: Mapping[Any, Record]) -> Callable[[sqlite3.Connection], None] | None:
        """Return what to do first with this write: now and then, to forget."""
        self._kept += len(records)
        if self._kept < OFTEN:
            return None
        self._kept = 0
        return self._forget

    # ---------------------------------------------------------------------------------------------- in the thread

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.ProgrammingError("not open")
        if identity(self.path) != self._file:
            raise Broken("the file was moved or deleted")
        return self._db

    def _open(self) -> None:
        self._close()
        self._seen = 0  # it may be another file now
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not is_broken(error):
                raise
            set_aside(self.path, self._connection, error)
            self._connect()

    def _connect(self) -> None:
        refuse_links(self.path)
        self._close_to_others()
        self._db = self._connection()
        try:
            self._begin(self._db)
        except BaseException:
            self._close()
            raise

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=self._patience, isolation_level=None)

    def _begin(self, db: sqlite3.Connection) -> None:
        self._version(db)  # first: nothing in a later version's file may be changed
        check(db)
        self._log_ahead(db)
        self._version(db)  # makes the log, which belongs to what the file is known by
        self._file = identity(self.path)
        self._write({}, self._prepare)
        refuse_links(self.path)  # the side files are there now

    def _close_to_others(self) -> None:
        """Make the file, or its mode, right. SQLite gives its side files the mode of the main one."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            mode = os.fstat(file).st_mode
            if not stat.S_ISREG(mode):
                raise OSError("not a regular file")
            if mode & 0o077:
                os.fchmod(file, 0o600)
        finally:
            os.close(file)

    def _log_ahead(self, db: sqlite3.Connection) -> None:
        """Switch to a write-ahead log. SQLite refuses at once, whatever the patience, if another does so meanwhile."""
        for left in range(int(self._patience / MOMENT), -1, -1):
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not left:
                    raise
                time.sleep(MOMENT)
            else:
                break

    def _prepare(self, db: sqlite3.Connection) -> None:
        if self._version(db) == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        self._forget(db)

    def _version(self, db: sqlite3.Connection) -> int:
        """Return the version of the schema, 0 for none; raises ``UnusableState`` for a later one."""
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, VERSION):
            raise UnusableState(f"state.path = {self.path}: {other_version(version)}")
        return version

    def _forget(self, db: sqlite3.Connection) -> None:
        now = self._clock()
        db.execute("DELETE FROM rests WHERE until < ? AND changed < ?", (now - HOUR, now - HOUR))
        for statement in ("DELETE FROM rests", "DELETE FROM grants", "DELETE FROM projects"):
            db.execute(f"{statement} WHERE changed < ?", (now - MONTHS,))

    def _write(
        self,
        rows: Mapping[Place, Row],
        first: Callable[[sqlite3.Connection], None] | None = None,
        *,
        synced: bool = False,
    ) -> dict[Place, Exception]:
        """Write all rows or none, but for those that no file can hold, which are returned with the reason.

        ``synced``: so that it outlives a loss of power, too.
        """
        db = self._connected()
        db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        unfit: dict[Place, Exception] = {}
        try:
            if first is not None:
                first(db)
            for place, row in rows.items():
                try:
                    db.execute(place[0], row)
                except UNFIT as error:
                    unfit[place] = error
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return unfit

    def _select_records(self, after: int) -> list[Record]:
        """Return cooldowns written after a number of the sequence; beyond the first look only those of others."""
        db = self._connected()
        mine = self._writer if after >= 0 else ""
        db.execute("BEGIN")
        try:
            rows = db.execute(f"{RESTS} WHERE seq > ? AND writer != ?", (after, mine)).fetchall()
            self._seen = db.execute("SELECT last FROM sequence").fetchone()[0]
        finally:
            db.execute("COMMIT")
        return [
            Record(fingerprint, model, until, since, reason, bool(daily), strikes, changed)
            for fingerprint, model, until, since, reason, daily, strikes, changed in rows
        ]

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _drop(waiting: dict[K, T], written: Mapping[K, T], sql: str, unfit: Container[Place]) -> None:
    """Forget what was written, but for what became of it meanwhile."""
    for key, value in written.items():
        if waiting.get(key) is value and (sql, key) not in unfit:
            del waiting[key]


def _words(error: Exception) -> str:
    """Return what an error says; others than these may quote what was to be written, a token too."""
    return str(error) if isinstance(error, sqlite3.Error | OSError) else type(error).__name__


def _row(record: Record) -> tuple[Any, ...]:
    return (
        record.fingerprint,
        record.model.encode(errors="replace").decode(),  # a client's word: SQLite takes no lone surrogates
        record.until,
        record.since,
        record.reason,
        record.daily,
        record.strikes,
        record.changed,
    )
